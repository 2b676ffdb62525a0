"""The scenarios, one module each, in the order of their names."""

from bench.harness import Scenario
from bench.scenarios import (
    b01_create_runs,
    b02_hot_room,
    b03_life_of_a_run,
    b04_one_caller,
    b05_paced,
    b06_catch_up,
    b07_rebuild,
    b08_fan_out,
    b09_idle_streams,
    b10_resume,
    b11_reads,
    b12_list_filters,
    memory,
)

_MODULES = (
    b01_create_runs,
    b02_hot_room,
    b03_life_of_a_run,
    b04_one_caller,
    b05_paced,
    b06_catch_up,
    b07_rebuild,
    b08_fan_out,
    b09_idle_streams,
    b10_resume,
    b11_reads,
    b12_list_filters,
    memory,
)
SCENARIOS: dict[str, Scenario] = {module.SCENARIO.name: module.SCENARIO for module in _MODULES}

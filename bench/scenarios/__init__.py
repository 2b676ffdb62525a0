"""The scenarios, one module each, in the order of their names."""

from bench.harness import Scenario
from bench.scenarios import b01_create_runs, b02_hot_room, b03_life_of_a_run

SCENARIOS: dict[str, Scenario] = {
    scenario.name: scenario
    for scenario in (b01_create_runs.SCENARIO, b02_hot_room.SCENARIO, b03_life_of_a_run.SCENARIO)
}

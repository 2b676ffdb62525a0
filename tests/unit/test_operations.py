"""The operations manual knows every setting, and its default."""

from __future__ import annotations

import math
import re
from importlib import import_module
from typing import Any

import pytest
import yaml

from shared.contracts.events import EVENT_CLASSES
from shared.settings import Environment, SettingsError
from tests.support.manual import typed
from tests.support.servers import REPOSITORY

SERVICES = {"command": "C", "projector": "P", "query": "Q"}
GETTERS = ("text", "optional", "choice", "integer", "number", "port", "url", "secret", "file")
NOT_READ_BY_SERVICES = {"PROJECTION_OWNER_DSN", "OTEL_EXPORTER_OTLP_ENDPOINT"}
DECIDED_BY_COMPOSE = {
    *("HOST", "COMMAND_PORT", "QUERY_PORT", "PROJECTOR_PORT", "STREAM_REPLICAS", "NATS_USER", "NATS_PASSWORD"),
    *("NATS_PASSWORD_FILE", "NATS_CA_FILE", "NATS_CERTIFICATE_FILE", "NATS_KEY_FILE"),
}
"""One NATS server, in the network of the containers, and what the image listens on."""
OF_OPENTELEMETRY = {
    *("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_HEADERS", "OTEL_RESOURCE_ATTRIBUTES", "OTEL_TRACES_SAMPLER"),
    "OTEL_TRACES_SAMPLER_ARG",
}
NONE = "\N{EN DASH}"
DEFAULT_OF_GETTER = {"text": 0, "choice": 1, "integer": 0, "number": 0, "port": 0}


def documented() -> dict[str, tuple[str, str]]:
    """Variable → the services it is of, and its default as it is written."""
    section = (REPOSITORY / "docs" / "operations.md").read_text().split("## Settings")[1].split("\n## ")[0]
    found: dict[str, tuple[str, str]] = {}
    for line in section.splitlines():
        if not line.startswith("| `"):
            continue
        names, of, default, _ = [cell.strip() for cell in line.strip("|").split("|")]
        defaults = default.split(", ")
        listed = re.findall(r"`([A-Z_]+)`", names)
        for number, name in enumerate(listed):
            found[name] = of, (defaults[number] if len(defaults) == len(listed) else default).strip("`")
        for name in re.findall(r"`([A-Z_]+_FILE)` names a file", line):
            found[name] = of, NONE
    return found


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> dict[str, tuple[str, str]]:
    """Variable → the services that read it, and its default, as the code has them."""
    letters: dict[str, set[str]] = {}
    defaults: dict[str, str] = {}
    service = ""

    def watch(getter: str) -> None:
        original = getattr(Environment, getter)

        def watched(self: Environment, name: str, *arguments: Any) -> Any:
            letters.setdefault(name, set()).add(SERVICES[service])
            at = DEFAULT_OF_GETTER.get(getter)
            if at is not None and len(arguments) > at and arguments[at] not in (None, ""):
                value = arguments[at]
                defaults[name] = f"{value:g}" if isinstance(value, float) else str(value)
            return original(self, name, *arguments)

        monkeypatch.setattr(Environment, getter, watched)

    for getter in GETTERS:
        watch(getter)
    for service in SERVICES:
        with pytest.raises(SettingsError):
            import_module(f"services.{service}.settings").read_settings({})
    return {name: (" ".join(sorted(letters[name])), defaults.get(name, NONE)) for name in letters}


def test_every_setting_is_documented_with_its_default(read: dict[str, tuple[str, str]]) -> None:
    said = documented()
    assert len(read) > 40
    assert {name: said.get(name, ("nothing",))[0] for name in read} == {name: of for name, (of, _) in read.items()}
    numbers = {name: default for name, (_, default) in read.items() if default != NONE}
    assert {name: plain(said[name][1]) for name in numbers} == {name: plain(value) for name, value in numbers.items()}


def test_nothing_is_documented_that_is_none(read: dict[str, tuple[str, str]]) -> None:
    files = {name for name in documented() if name.endswith("_PASSWORD_FILE")}
    assert documented().keys() - read.keys() - files == NOT_READ_BY_SERVICES


@pytest.mark.parametrize("service", SERVICES)
def test_compose_passes_on_every_setting(service: str) -> None:
    compose = yaml.safe_load((REPOSITORY / "docker-compose.yml").read_text())
    passed = set(compose["services"][service]["environment"])
    assert {name for name in passed if name.startswith("OTEL_")} == OF_OPENTELEMETRY
    of_service = {name for name, (of, _) in documented().items() if SERVICES[service] in of.split()}
    assert passed - OF_OPENTELEMETRY == of_service - DECIDED_BY_COMPOSE - OF_OPENTELEMETRY


def plain(default: str) -> str:
    """10.0 and 10 are the same."""
    return default.removesuffix(".0")


def test_sizes_keep_to_the_rule_they_state() -> None:
    """Every query service of the table has half of the streams that it takes, at the most."""
    section = (REPOSITORY / "docs" / "operations.md").read_text().split("## Size it")[1].split("\n## ")[0]
    assert "Plan for half of that" in section
    (most,) = re.findall(r"([\d,]+) streams \(`STREAM_LIMIT_PROCESS`\)", section)
    assert str(whole(most)) == documented()["STREAM_LIMIT_PROCESS"][1]
    (streams,) = re.findall(r"^\| open streams .*?\) \| (.*?) \|$", section, re.MULTILINE)
    (instances,) = re.findall(r"^\| \*\*instances: command, projector, query\*\* \| (.*?) \|$", section, re.MULTILINE)
    services = [int(column.split(", ")[2]) for column in instances.split(" | ")]
    assert services == [math.ceil(whole(cell) / (whole(most) / 2)) for cell in streams.split(" | ")]


def whole(text: str) -> int:
    return int(text.replace(",", ""))


def test_the_shares_of_connections_are_those_of_the_roles_and_the_servers() -> None:
    section = (REPOSITORY / "docs" / "operations.md").read_text().split("## Size it")[1].split("\n### ")[0]
    roles = (REPOSITORY / "deploy/postgres/roles.sql").read_text()
    shares = dict(re.findall(r"\('runroom_(\w+)', (\d+)\)", roles))
    compose = (REPOSITORY / "docker-compose.yml").read_text()
    kubernetes = (REPOSITORY / "deploy/k8s/postgres/cluster.yaml").read_text()
    for file, pattern in ((compose, r"{}=(\d+)"), (kubernetes, r'{}: "(\d+)"')):
        most, reserved = (
            re.findall(rf"\b{pattern.format(name)}", file)[0] for name in ("max_connections", "reserved_connections")
        )
        assert f"of {most}" in section
        for role, share in shares.items():
            (row,) = re.findall(rf"^\| {role}\b.* %.*$", section, re.MULTILINE)
            assert f"{share} %" in row
            assert f"| {(int(most) - 3 - int(reserved)) * int(share) // 100}" in row


def test_the_state_of_runs_is_made_anew_and_verified_from_the_types_there_are() -> None:
    """A type that is added is in both: one that is not would move no run."""
    types = {of.__struct_config__.tag for of in EVENT_CLASSES}
    verified = (REPOSITORY / "services/projector/verify/sql/run_states_differing.sql").read_text()
    made_anew = typed("When a credential is stolen", "psql --set=ON_ERROR_STOP=1 --set=workspace=ws_dev --set=room")
    for script in (verified, made_anew):
        (counted,) = re.findall(r"event_type in \(([^()]*'step\.created'[^()]*)\)", script)
        assert set(re.findall(r"'([^']*)'", counted)) == types


def test_a_thief_is_shut_out_in_the_same_way_everywhere() -> None:
    """With compose, on servers of one's own and on Kubernetes; the second is what the tests type."""
    texts = [(REPOSITORY / path).read_text() for path in ("docs/operations.md", "deploy/k8s/README.md")]
    shape = re.compile(r"^ *until (.*?)^ *do sleep 0.05; done", re.DOTALL | re.MULTILINE)
    loops = [loop.replace("runroom_$service", "runroom_command") for text in texts for loop in shape.findall(text)]
    statements = [re.findall(r'--command="(.*?)"', re.sub(r"\s+", " ", loop)) for loop in loops]
    assert len(statements) == 3
    assert statements[0] == statements[1] == statements[2]
    assert all("--set=ON_ERROR_STOP=1" in loop for loop in loops)

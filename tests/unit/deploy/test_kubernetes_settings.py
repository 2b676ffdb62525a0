"""Services in Kubernetes get settings that they read and take, and every secret is one that the README tells about."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy.secret_files import write_seed
from shared.settings import SettingsError
from tests.support.certificates import Certificates
from tests.support.edge import VARIABLE
from tests.support.servers import REPOSITORY

from .manifests import (
    APART,
    BASE,
    K8S,
    NATS,
    SERVICES,
    containers,
    of,
    settings,
)


class Noted(dict[str, str]):
    """An environment that notes what is asked for."""

    def __init__(self, variables: Mapping[str, str]) -> None:
        super().__init__(variables)
        self.asked: set[str] = set()

    def get(self, key: str, default: Any = None, /) -> Any:
        self.asked.add(key)
        return super().get(key, default)


@pytest.mark.parametrize("name", list(SERVICES))
def test_services_start_with_their_settings(name: str, tmp_path: Path) -> None:
    """Every variable is one the service reads, with a value it takes, and every file is one that is mounted."""
    pod = of("Deployment", name)["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert container["command"] == ["python", "-m", f"services.{name}"]
    assert container["envFrom"] == [{"configMapRef": {"name": f"{name}-settings"}}]
    variables = settings(name)
    assert container["ports"] == [{"name": "http", "containerPort": int(variables[f"{name.upper()}_PORT"])}]
    mounts = {mount["mountPath"] for mount in container["volumeMounts"]}
    files = {value for value in variables.values() if value.startswith("/")}
    files |= set(re.findall(r"(?:sslrootcert|passfile)=([^&\s]+)", " ".join(variables.values())))
    assert {str(Path(file).parent) for file in files} <= mounts
    environment = Noted(stood_in(variables, tmp_path))
    try:
        read = SERVICES[name](environment)
    except SettingsError as error:
        pytest.fail(str(error))
    assert variables.keys() <= environment.asked, variables.keys() - environment.asked
    assert read.host == "0.0.0.0"
    if name != "projector":
        assert read.auth is not None


def stood_in(variables: Mapping[str, str], folder: Path) -> dict[str, str]:
    """The variables, with files of this test's in place of those that are mounted."""
    write_seed(folder / "nats.seed")
    key = {"kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo", "kid": "1", "use": "sig"}
    (folder / "jwks.json").write_text(json.dumps({"keys": [key]}))
    (folder / "ca.crt").write_bytes(Certificates(folder).authority.read_bytes())
    return {
        name: str(folder / Path(value).name) if value.startswith("/") else value for name, value in variables.items()
    }


@pytest.mark.parametrize("name", list(SERVICES))
def test_each_service_has_its_own_role(name: str) -> None:
    dsns = [value for variable, value in settings(name).items() if variable.endswith("_DSN")]
    assert dsns
    assert all(dsn.startswith(f"postgresql://runroom_{name}@postgres-rw:5432/") for dsn in dsns)
    assert all("sslmode=verify-full" in dsn for dsn in dsns)
    volumes = of("Deployment", name)["spec"]["template"]["spec"]["volumes"]
    secrets = {one["secret"]["secretName"] for one in volumes if "secret" in one}
    assert {secret for secret in secrets if secret.endswith("-credentials")} == {f"{name}-credentials"}
    assert settings(name)["NATS_URL"].startswith("tls://")


def test_migrations_take_what_they_take() -> None:
    variables = {name: container.get("env", []) for name, _, container in containers() if name.startswith("migrate/")}
    given = {name: {one["name"] for one in env} for name, env in variables.items()}
    assert given["migrate/event-store"] == {"EVENT_STORE_DSN", "LOG_FORMAT"}
    assert given["migrate/projections"] == {"PROJECTION_DSN", "LOG_FORMAT"}
    dsns = [one["value"] for env in variables.values() for one in env if one["name"].endswith("_DSN")]
    assert all(dsn.startswith("postgresql://runroom_migrate@postgres-rw:5432/") for dsn in dsns)
    wanted = set(re.findall(r"\\getenv \w+ (\w+)", (REPOSITORY / "deploy/postgres/roles.sql").read_text()))
    assert {name for name in given["migrate/roles"] if name.startswith("RUNROOM_")} == wanted
    mapped = of("ConfigMap", "postgres-sql")["data"]
    assert mapped.keys() == {file.name for file in (REPOSITORY / "deploy/postgres").glob("*.sql")}


def test_an_operator_has_what_a_projector_has_and_the_owner_of_its_tables() -> None:
    """As `operator` of docker-compose.yml."""
    cron = of("CronJob", "operator")["spec"]
    assert cron["suspend"] is True
    job = cron["jobTemplate"]["spec"]
    assert job["backoffLimit"] == 0
    (container,) = job["template"]["spec"]["containers"]
    assert container["image"] == of("Deployment", "projector")["spec"]["template"]["spec"]["containers"][0]["image"]
    assert container["envFrom"] == [{"configMapRef": {"name": "projector-settings"}}]
    given = {one["name"]: one["value"] for one in container["env"]}
    assert given.keys() == {"ORDER", "PROJECTION_OWNER_DSN"}
    dsn = settings("projector")["PROJECTION_DSN"]
    owner = given["PROJECTION_OWNER_DSN"]
    assert owner == dsn.replace("runroom_projector", "runroom_migrate").replace("/pgpass", "/owner.pgpass")
    (installs,) = job["template"]["spec"]["initContainers"]
    assert installs["command"][-1].endswith(" /run/runroom/owner.pgpass")
    volumes = {
        one["name"]: one["secret"]["secretName"] for one in job["template"]["spec"]["volumes"] if "secret" in one
    }
    assert (volumes["secret"], volumes["owner"]) == ("projector-credentials", "migrate-credentials")
    compose = yaml.safe_load((REPOSITORY / "docker-compose.yml").read_text())["services"]
    there = compose["operator"]["environment"].keys() - compose["projector"]["environment"].keys()
    assert there == {"PROJECTION_OWNER_DSN"}
    # What it is asked to do are the words of the program.
    orders = re.findall(r"^operator (\w+)", (K8S / "README.md").read_text(), re.MULTILINE)
    assert set(orders) == {"verify", "parked", "rebuild"}
    program = (REPOSITORY / "services/projector/__main__.py").read_text()
    assert all(f'["{order}"' in program for order in [*orders, given["ORDER"]])


def test_the_edge_gets_every_variable() -> None:
    (container,) = of("Deployment", "edge")["spec"]["template"]["spec"]["containers"]
    template = of("ConfigMap", "edge-configuration")["data"]["nginx.conf.template"]
    given = {one["name"]: one["value"] for one in container["env"]}
    assert {name for name in given if name.startswith("EDGE_")} == set(VARIABLE.findall(template))
    for service in ("command", "query"):
        assert given["EDGE_ORIGINS"] == settings(service).get("CORS_ORIGINS", "")


def test_the_edge_has_memory_for_all_that_it_may_hold() -> None:
    """As the README of the edge has it: what is largest, in KiB, times how many there may be."""
    (container,) = of("Deployment", "edge")["spec"]["template"]["spec"]["containers"]
    template = of("ConfigMap", "edge-configuration")["data"]["nginx.conf.template"]
    (requests,) = map(int, re.findall(r"limit_conn requests (\d+);", template))
    (connections,) = map(int, re.findall(r"worker_connections (\d+);", template))
    readme = (REPOSITORY / "deploy/edge/README.md").read_text()
    (a_request,) = map(int, re.findall(rf"^\| {requests:,} of them \| (\d+) KiB", readme, re.MULTILINE))
    (a_connection,) = map(int, re.findall(r"4,096 of them beside those requests \| (\d+) KiB", readme))
    # A request at a service takes a connection of its own.
    a_worker = requests * a_request + (connections - requests) * a_connection + 15 * 1024
    limits = container["resources"]["limits"]
    (workers,) = [one["value"] for one in container["env"] if one["name"] == "EDGE_WORKERS"]
    assert workers == limits["cpu"]
    assert int(workers) * a_worker < 0.85 * int(limits["memory"].removesuffix("Mi")) * 1024


def test_every_secret_is_documented() -> None:
    """Each key that is used stands in the table of the README."""
    readme = (K8S / "README.md").read_text()
    rows = re.findall(r"^ *\| `([a-z-]+)` \| (.*?) \|", readme, re.MULTILINE)
    documented = {(name, key) for name, keys in rows for key in re.findall(r"`([^`]+)`", keys)}
    used: set[tuple[str, str]] = set()
    for _, pod, container in containers():
        for one in container.get("env", []):
            if reference := one.get("valueFrom", {}).get("secretKeyRef"):
                used.add((reference["name"], reference["key"]))
        mounted = {mount["name"]: mount["mountPath"] for mount in container.get("volumeMounts", [])}
        words = " ".join([*container.get("command", []), *(one.get("value", "") for one in container.get("env", []))])
        reference = container.get("envFrom", [{}])[0].get("configMapRef", {}).get("name")
        if reference:
            words += " " + " ".join(of("ConfigMap", reference, BASE)["data"].values())
        for volume in pod["volumes"]:
            if "secret" in volume and volume["name"] in mounted:
                place = re.escape(mounted[volume["name"]])
                keys = set(re.findall(rf"{place}/([\w.]+)", words))
                assert keys, f"nothing of {volume} is used by {container['name']}"
                used |= {(volume["secret"]["secretName"], key) for key in keys}
    for variable in NATS["container"]["env"].values():
        if isinstance(variable, dict):
            reference = variable["valueFrom"]["secretKeyRef"]
            used.add((reference["name"], reference["key"]))
    store = next(one for one in APART if one["kind"] == "ObjectStore")
    for reference in store["spec"]["configuration"]["s3Credentials"].values():
        used.add((reference["name"], reference["key"]))
    assert ("command-credentials", "pgpass") in used
    assert ("tokens", "jwks.json") in used
    assert ("edge-tls", "tls.key") in used
    assert used <= documented, used - documented

"""What scales does so by metrics that exist, within bounds that make sense."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from services.projector.projections import PROJECTIONS
from shared.contracts.subjects import PARTITIONS
from tests.support.servers import REPOSITORY

from .manifests import (
    APART,
    K8S,
    SERVICES,
    of,
    settings,
)


@pytest.mark.parametrize("name", ["command", "query", "projector"])
def test_what_scales_has_no_number_of_its_own(name: str) -> None:
    assert "replicas" not in of("Deployment", name)["spec"]
    kind = "ScaledObject" if name == "projector" else "HorizontalPodAutoscaler"
    spec = of(kind, name)["spec"]
    assert spec["scaleTargetRef"] == {"apiVersion": "apps/v1", "kind": "Deployment", "name": name}
    assert spec.get("minReplicas", spec.get("minReplicaCount")) >= 2


def test_projectors_are_no_more_than_partitions() -> None:
    assert of("ScaledObject", "projector")["spec"]["maxReplicaCount"] == PARTITIONS


CONNECTIONS = {"command": 5, "query": 16, "projector": 17}
OF_A_REBUILD = {"projector": 4, "operator": 10}
"""What each projector takes besides, and what `rebuild` itself takes: half of it in the projector's role."""
OF_THE_SERVER = 3 + 10
"""`superuser_reserved_connections` as it is by default, and what CloudNativePG asks by itself."""


def source(path: str) -> str:
    return (REPOSITORY / "services" / path).read_text()


def test_connections_are_as_many_as_the_code_opens() -> None:
    def pools(path: str) -> int:
        return sum(map(int, re.findall(r"running_pool\([^)]*?most=(\d+)", source(path))))

    connects = sum(len(re.findall(r"await connect\(", file.read_text())) for file in _modules("command"))
    assert CONNECTIONS["command"] == pools("command/wiring.py") + connects
    assert CONNECTIONS["query"] == pools("query/wiring.py")
    assert not any("connect(" in file.read_text().replace("_connect(", "") for file in _modules("query"))
    of_itself = len(re.findall(r"(?<!lambda: )session\(settings\.\w+_dsn\)", source("projector/wiring.py")))
    of_itself += len(re.findall(r"= sessions\.\w+\(\)", source("projector/crew.py")))
    of_a_version = len(
        re.findall(r"(?<!def )\b(?:store\(\)|session\(self\._sessions\.events\))", source("projector/crew.py"))
    )
    for_health = 2 * pools("projector/wiring.py")  # one in each database
    assert of_a_version == OF_A_REBUILD["projector"]
    assert CONNECTIONS["projector"] == of_itself + len(PROJECTIONS) * of_a_version + for_health
    # `rebuild` has a connection to each database, and so has each of its processes.
    (jobs,) = re.findall(r"_MOST_JOBS = (\d+)", source("projector/rebuild/command.py"))
    assert OF_A_REBUILD["operator"] == 2 + 2 * int(jobs)


def _modules(service: str) -> list[Path]:
    return sorted((REPOSITORY / "services" / service).rglob("*.py"))


def test_connections_fit_the_server() -> None:
    """With every autoscaler at its limit, one pod more of each in a rollout, and a rebuild."""
    parameters = next(one for one in APART if one["kind"] == "Cluster")["spec"]["postgresql"]["parameters"]
    most = int(parameters["max_connections"])
    readme = (K8S / "README.md").read_text()
    of_roles: dict[str, int] = {}
    for name, each in CONNECTIONS.items():
        spec = of("ScaledObject" if name == "projector" else "HorizontalPodAutoscaler", name)["spec"]
        surge = of("Deployment", name)["spec"]["strategy"]["rollingUpdate"]["maxSurge"]
        pods = spec.get("maxReplicas", spec.get("maxReplicaCount")) + surge
        of_roles[name] = pods * (each + OF_A_REBUILD.get(name, 0))
        assert re.search(rf"^\| {name} \| {each}\b.* \| {of_roles[name]} \|$", readme, re.MULTILINE), of_roles
    together = sum(of_roles.values()) + OF_A_REBUILD["operator"]
    assert f"{together} of the {most}" in readme
    assert together + OF_THE_SERVER + int(parameters["reserved_connections"]) <= most
    of_roles["projector"] += OF_A_REBUILD["operator"] // 2
    roles = (REPOSITORY / "deploy/postgres/roles.sql").read_text()
    shares = {role: int(share) for role, share in re.findall(r"\('runroom_(\w+)', (\d+)\)", roles)}
    assert sum(shares.values()) == 100
    of_all = most - 3 - int(parameters["reserved_connections"])
    assert all(taken <= of_all * shares[role] // 100 for role, taken in of_roles.items()), of_roles


def test_the_manual_counts_connections_likewise() -> None:
    (said,) = re.findall(
        r"command service takes up to (\d+), a query service (\d+), a projector\s+(\d+), and (\d+) more",
        (REPOSITORY / "docs" / "operations.md").read_text(),
    )
    assert tuple(map(int, said)) == (*CONNECTIONS.values(), OF_A_REBUILD["projector"])


def test_query_services_are_planned_for_half_of_what_they_take() -> None:
    metrics = of("HorizontalPodAutoscaler", "query")["spec"]["metrics"]
    (streams,) = [one["pods"]["target"]["averageValue"] for one in metrics if one["type"] == "Pods"]
    assert int(streams) == 20_000 // 2


def test_every_metric_exists() -> None:
    metrics = "".join(file.read_text() for file in (REPOSITORY / "services").rglob("metrics.py"))
    triggers = of("ScaledObject", "projector")["spec"]["triggers"]
    used = {name for trigger in triggers for name in re.findall(r"runroom_\w+", trigger["metadata"]["query"])}
    for metric in of("HorizontalPodAutoscaler", "query")["spec"]["metrics"]:
        if metric["type"] == "Pods":
            used.add(metric["pods"]["metric"]["name"])
    assert "runroom_query_streams_open" in used
    assert "runroom_projector_lag_seconds" in used
    assert [name for name in used if f'"{name}"' not in metrics] == []
    assert all(trigger["type"] == "prometheus" and float(trigger["metadata"]["threshold"]) > 0 for trigger in triggers)


def test_metrics_are_collected_from_every_service() -> None:
    spec = of("PodMonitor", "runroom")["spec"]
    (expression,) = spec["selector"]["matchExpressions"]
    assert set(expression["values"]) == set(SERVICES)
    (endpoint,) = spec["podMetricsEndpoints"]
    for name in SERVICES:
        (container,) = of("Deployment", name)["spec"]["template"]["spec"]["containers"]
        assert endpoint["port"] in [port["name"] for port in container["ports"]]


def test_the_dashboard_is_found_by_grafana() -> None:
    dashboard = of("ConfigMap", "runroom-dashboard")
    assert dashboard["metadata"]["labels"]["grafana_dashboard"] == "1"
    assert json.loads(dashboard["data"]["runroom.json"])["uid"]
    readme = (K8S / "README.md").read_text()
    (uid,) = {
        panel["datasource"]["uid"]
        for panel in json.loads(dashboard["data"]["runroom.json"])["panels"]
        if "targets" in panel
    }
    assert f"uid `{uid}`" in readme


MIB = 2**20
MOST_MEMORY = {"command": (145 + 64 + 64) * MIB, "query": 60 * MIB + 20_000 * 14 * 1024, "projector": 75 * MIB}
"""With caches, queue, bodies on their way and streams full: docs/operations.md, "Size it"."""


@pytest.mark.parametrize("name", list(SERVICES))
def test_memory_is_noticed_before_a_pod_ends_of_it(name: str) -> None:
    groups = of("PrometheusRule", "runroom")["spec"]["groups"]
    (expression,) = [
        rule["expr"] for group in groups for rule in group["rules"] if rule.get("alert") == "RunroomMemoryHigh"
    ]
    (most,) = re.findall(rf'process_resident_memory_bytes{{job="runroom-{name}"}} > (\S+)', expression)
    (container,) = of("Deployment", name)["spec"]["template"]["spec"]["containers"]
    limit = container["resources"]["limits"]["memory"]
    assert limit.endswith("Mi")
    assert 1.15 * MOST_MEMORY[name] < float(most) < 0.85 * int(limit.removesuffix("Mi")) * MIB
    assert not {"STREAM_LIMIT_PROCESS", "QUEUE_MEGABYTES", "INTAKE_MEGABYTES"} & settings(name).keys()

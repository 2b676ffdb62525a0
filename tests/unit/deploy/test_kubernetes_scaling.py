"""What scales does so by metrics that exist, within bounds that make sense."""

from __future__ import annotations

import json
import re

import pytest

from shared.contracts.subjects import PARTITIONS
from tests.support.servers import REPOSITORY

from .manifests import (
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
MOST_MEMORY = {"command": (145 + 64) * MIB, "query": 60 * MIB + 20_000 * 14 * 1024, "projector": 75 * MIB}
"""With caches, queue and streams full: docs/operations.md, "Size it"."""


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
    assert not {"STREAM_LIMIT_PROCESS", "QUEUE_MEGABYTES"} & settings(name).keys()

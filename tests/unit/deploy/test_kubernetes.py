"""What is in `deploy/k8s/` is valid, is built as kustomize builds it, and says who may talk to whom."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import warnings

import kubernetes_validate
import pytest
import yaml

from tests.support.kustomization import Manifest, build

from .manifests import (
    ALL,
    BASE,
    K8S,
    SERVICES,
    called,
    of,
    pods,
    settings,
)

VERSIONS = ("1.30", "1.34")
OWN_KINDS = {  # of operators: their schemas are not published with Kubernetes', so what we use of them is checked here
    "ScaledObject", "PodMonitor", "PrometheusRule", "Cluster", "ObjectStore", "ScheduledBackup",
}  # fmt: skip


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("manifest", [one for one in ALL if one["kind"] not in OWN_KINDS], ids=called)
def test_it_is_valid(manifest: Manifest, version: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the validator's own libraries
        kubernetes_validate.validate(manifest, version, strict=True)


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is not installed")
@pytest.mark.parametrize("folder", ["base", "overlays/production"])
def test_it_is_built_as_kustomize_builds_it(folder: str) -> None:
    done = subprocess.run(["kubectl", "kustomize", K8S / folder], capture_output=True, text=True, check=True)
    text = re.sub(
        r"\b((?:command|query|projector)-settings|edge-configuration|postgres-sql)-[0-9a-z]{10}\b", r"\1", done.stdout
    )
    theirs = {called(one): one for one in yaml.safe_load_all(text)}
    ours = {called(one): one for one in build(K8S / folder)}
    assert json.dumps(theirs, sort_keys=True, indent=1) == json.dumps(ours, sort_keys=True, indent=1)


def test_everything_is_in_the_namespace() -> None:
    places = {called(one): one["metadata"].get("namespace") for one in ALL if one["kind"] != "Namespace"}
    assert set(places.values()) == {"runroom"}, places
    assert of("Namespace", "runroom")["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"


@pytest.mark.parametrize("name", ["command", "query", "edge"])
def test_services_lead_to_their_pods(name: str) -> None:
    service = of("Service", name)["spec"]
    (container,) = of("Deployment", name)["spec"]["template"]["spec"]["containers"]
    assert service["selector"] == of("Deployment", name)["spec"]["template"]["metadata"]["labels"]
    (port,) = service["ports"]
    assert port["targetPort"] in [one["name"] for one in container["ports"]]
    if name != "edge":
        assert str(port["port"]) == settings(name)[f"{name.upper()}_PORT"]
    variables = {
        one["name"]: one["value"]
        for one in of("Deployment", "edge")["spec"]["template"]["spec"]["containers"][0]["env"]
    }
    if name != "edge":
        addresses = re.findall(r"server ([^ ;]+)", variables[f"EDGE_{name.upper()}"])
        assert set(addresses) == {f"{name}:{port['port']}"}
        (allowed,) = [
            one["ports"]
            for one in of("NetworkPolicy", "edge")["spec"]["egress"]
            if one["to"] == [{"podSelector": {"matchLabels": service["selector"]}}]
        ]
        assert allowed == [{"port": port["port"]}]


def test_nobody_talks_to_anybody_but_as_is_written() -> None:
    policies = {one["metadata"]["name"]: one["spec"] for one in BASE if one["kind"] == "NetworkPolicy"}
    assert policies["nobody"] == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    assert {name for name, _ in pods()} <= policies.keys()
    for name in SERVICES:
        labels = of("Deployment", name)["spec"]["template"]["metadata"]["labels"]
        assert policies[name]["podSelector"]["matchLabels"] == labels
        (rule,) = policies[name]["ingress"]
        assert [one["port"] for one in rule["ports"]] == [int(settings(name)[f"{name.upper()}_PORT"])]
        peers = [one["podSelector"]["matchLabels"]["app.kubernetes.io/name"] for one in rule["from"]]
        assert peers == (["prometheus"] if name == "projector" else ["edge", "prometheus"])
        targets = [json.dumps(to) for egress in policies[name]["egress"] for to in egress["to"]]
        assert len(targets) == 2
        assert any('"cnpg.io/cluster": "postgres"' in target for target in targets)
        assert any('"app.kubernetes.io/name": "nats"' in target for target in targets)
        ports = [port["port"] for egress in policies[name]["egress"] for port in egress["ports"]]
        assert ports == [5432, 4222]


def test_servers_let_in_whoever_may_go_to_them() -> None:
    policies = {one["metadata"]["name"]: one["spec"] for one in BASE if one["kind"] == "NetworkPolicy"}
    ways = (("postgres", 5432, {"cnpg.io/cluster": "postgres"}), ("nats", 4222, {"app.kubernetes.io/name": "nats"}))
    for server, port, labels in ways:
        going = {
            name
            for name, spec in policies.items()
            if name != server
            for way in spec.get("egress", [])
            if {"podSelector": {"matchLabels": labels}} in way.get("to", []) and way["ports"] == [{"port": port}]
        }
        let_in = policies[server]["ingress"][0]
        assert let_in["ports"] == [{"port": port}]
        (expression,) = let_in["from"][0]["podSelector"]["matchExpressions"]
        assert set(expression["values"]) == going
        assert {"command", "query", "projector", "operator"} <= going

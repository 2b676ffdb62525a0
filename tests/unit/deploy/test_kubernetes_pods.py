"""Pods can do as little as they need, say how they are, and have time to go."""

from __future__ import annotations

import re

import pytest

from tests.support.kustomization import Manifest
from tests.support.servers import REPOSITORY

from .manifests import (
    BASE,
    DEPLOYMENTS,
    containers,
    of,
    pods,
    settings,
)


@pytest.mark.parametrize(("name", "pod"), list(pods()), ids=[name for name, _ in pods()])
def test_pods_are_nobody_special(name: str, pod: Manifest) -> None:
    security = pod["securityContext"]
    assert security["runAsNonRoot"] is True
    assert security["runAsUser"] == (101 if name == "edge" else 10001)
    assert security["seccompProfile"] == {"type": "RuntimeDefault"}
    assert pod["automountServiceAccountToken"] is False
    # COMMAND_PORT would be an address, and no service would start.
    assert pod["enableServiceLinks"] is False
    assert not {"hostNetwork", "hostPID", "hostIPC"} & pod.keys()
    assert all(volume.keys() & {"secret", "configMap", "emptyDir"} for volume in pod["volumes"])


@pytest.mark.parametrize(("name", "pod", "container"), list(containers()), ids=[name for name, *_ in containers()])
def test_containers_can_do_little(name: str, pod: Manifest, container: Manifest) -> None:
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    for amount in ("requests", "limits"):
        assert container["resources"][amount].keys() == {"cpu", "memory"}
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    for mount in container.get("volumeMounts", []):
        assert mount.get("readOnly") or "emptyDir" in volumes[mount["name"]]
    mounted = {mount["name"] for _, _, one in containers() for mount in one.get("volumeMounts", [])}
    assert volumes.keys() <= mounted


@pytest.mark.parametrize("name", DEPLOYMENTS)
def test_probes(name: str) -> None:
    (container,) = of("Deployment", name)["spec"]["template"]["spec"]["containers"]
    (port,) = container["ports"]
    paths = {
        probe: container[probe]["httpGet"]["path"] for probe in ("startupProbe", "readinessProbe", "livenessProbe")
    }
    # Alive is whoever answers; a dependency that is away is no reason to start again.
    ready = "/healthz" if name == "edge" else "/readyz"
    assert paths == {"startupProbe": "/healthz", "readinessProbe": ready, "livenessProbe": "/healthz"}
    assert {container[probe]["httpGet"]["port"] for probe in paths} == {port["name"]}
    liveness = container["livenessProbe"]
    assert liveness["periodSeconds"] * liveness["failureThreshold"] >= 60


@pytest.mark.parametrize("name", DEPLOYMENTS)
def test_there_is_time_to_drain(name: str) -> None:
    pod = of("Deployment", name)["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    command, seconds = container["lifecycle"]["preStop"]["exec"]["command"]
    assert command == "sleep"
    if name == "edge":
        drain = int(
            re.findall(r"worker_shutdown_timeout (\d+)s;", (REPOSITORY / "deploy/edge/nginx.conf").read_text())[0]
        )
    else:
        drain = float(settings(name).get("SHUTDOWN_GRACE_SECONDS", "10"))
    # Beyond its own drain a service takes a few seconds to cut what is left and to close what it has open.
    assert pod["terminationGracePeriodSeconds"] >= int(seconds) + drain + 10


@pytest.mark.parametrize("name", DEPLOYMENTS)
def test_there_is_always_another(name: str) -> None:
    deployment = of("Deployment", name, BASE)["spec"]
    labels = {"app.kubernetes.io/name": name, "app.kubernetes.io/part-of": "runroom"}
    assert deployment["replicas"] >= 2
    assert deployment["strategy"]["rollingUpdate"]["maxUnavailable"] == 0
    assert deployment["selector"]["matchLabels"] == deployment["template"]["metadata"]["labels"] == labels
    spread = deployment["template"]["spec"]["topologySpreadConstraints"]
    assert {one["topologyKey"] for one in spread} == {"topology.kubernetes.io/zone", "kubernetes.io/hostname"}
    assert all(one["labelSelector"]["matchLabels"] == labels for one in spread)
    budget = of("PodDisruptionBudget", name)["spec"]
    assert budget == {"maxUnavailable": 1, "selector": {"matchLabels": labels}}

"""What is in `deploy/k8s/`, built, and ways to find one's way in it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from services.command.settings import read_settings as read_command_settings
from services.projector.settings import read_settings as read_projector_settings
from services.query.settings import read_settings as read_query_settings
from tests.support.kustomization import Manifest, build, load
from tests.support.servers import REPOSITORY

K8S = REPOSITORY / "deploy" / "k8s"
BASE = build(K8S / "base")
PRODUCTION = build(K8S / "overlays" / "production")
NATS = load(K8S / "nats" / "values.yaml")[0]
APART = [*load(K8S / "postgres" / "cluster.yaml"), *load(K8S / "examples" / "ingress.yaml")]
ALL = [*BASE, *PRODUCTION, *APART]
SERVICES: dict[str, Callable[[Mapping[str, str]], Any]] = {
    "command": read_command_settings,
    "query": read_query_settings,
    "projector": read_projector_settings,
}
DEPLOYMENTS = (*SERVICES, "edge")


def called(manifest: Manifest) -> str:
    return f"{manifest['kind']}-{manifest['metadata']['name']}"


def of(kind: str, name: str, manifests: list[Manifest] = PRODUCTION) -> Manifest:
    (found,) = [one for one in manifests if (one["kind"], one["metadata"]["name"]) == (kind, name)]
    return found


def pods(manifests: list[Manifest] = BASE) -> Iterator[tuple[str, Manifest]]:
    """The spec of every kind of pod, with the name of what makes it."""
    for manifest in manifests:
        if manifest["kind"] in ("Deployment", "Job"):
            yield manifest["metadata"]["name"], manifest["spec"]["template"]["spec"]
        elif manifest["kind"] == "CronJob":
            yield manifest["metadata"]["name"], manifest["spec"]["jobTemplate"]["spec"]["template"]["spec"]


def containers(manifests: list[Manifest] = BASE) -> Iterator[tuple[str, Manifest, Manifest]]:
    """Every container with its pod's spec."""
    for name, pod in pods(manifests):
        for container in (*pod.get("initContainers", []), *pod["containers"]):
            yield f"{name}/{container['name']}", pod, container


def settings(name: str) -> dict[str, str]:
    return of("ConfigMap", f"{name}-settings", BASE)["data"]

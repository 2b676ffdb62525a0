"""What the README has people type can be typed at the root of the repository, and does what it is there for."""

from __future__ import annotations

import json
import re
import shutil
import subprocess

import pytest
import yaml

from tests.support.servers import REPOSITORY

from .manifests import BASE, K8S, PRODUCTION, SERVICES, called, of

README = (K8S / "README.md").read_text()
COMMANDS = [line.strip() for block in re.findall(r"```sh\n(.*?)```", README, re.DOTALL) for line in block.splitlines()]
COMMANDS += re.findall(r"`((?:kubectl|helm) [^`]+)`", README)
ORDER = ("projector", "query", "command")
"""In which a release is rolled out: docs/operations.md, "Upgrade it"."""
WAVE = "argocd.argoproj.io/sync-wave"


def test_every_file_is_there_or_is_made() -> None:
    named = {
        file
        for command in COMMANDS
        for file in re.findall(r"(?: -f | kustomize |--from-(?:env-)?file=)([\w./$-]+)", command)
    }
    made = {name for command in COMMANDS for name in re.findall(r"> ([\w./]+)$", command)}
    assert {"deploy/k8s/base/namespace.yaml", "deploy/k8s/postgres/cluster.yaml", "release.yaml"} <= named
    missing = {file for file in named - made if not (REPOSITORY / file).exists()}
    # The first two are of deploy.make_secrets, whose files test_make_secrets.py knows; the other is the operator's own.
    assert missing == {"secrets/$service", "secrets/nats/users.env", "jwks.json"}


def test_what_is_made_is_not_committed() -> None:
    ignored = (REPOSITORY / ".gitignore").read_text().splitlines()
    assert {"secrets/", "release.yaml"} <= set(ignored)


@pytest.mark.skipif(shutil.which("bash") is None, reason="bash is not installed")
def test_every_block_is_shell() -> None:
    for block in re.findall(r"```sh\n(.*?)```", README, re.DOTALL):
        read = subprocess.run(["bash", "-n"], input=block, capture_output=True, text=True, check=False)
        assert read.returncode == 0, read.stderr


def test_a_release_is_rolled_out_whole_and_in_order() -> None:
    applied = [command for command in COMMANDS if command.startswith("kubectl apply -f release.yaml")]
    (services,) = re.findall(r"^ +for service in (.*); do\n +kubectl apply", README, re.MULTILINE)
    assert [name for name in services.split() if name in ORDER] == list(ORDER)
    (jobs,) = re.findall(r"name in \((.*?)\)'$", "\n".join(applied), re.MULTILINE)
    assert any("'!app.kubernetes.io/name'" in command for command in applied)
    names = {one["metadata"].get("labels", {}).get("app.kubernetes.io/name") for one in PRODUCTION}
    assert names - {None} == {*services.split(), *jobs.split(", ")}
    nameless = {one["kind"] for one in PRODUCTION if "app.kubernetes.io/name" not in one["metadata"].get("labels", {})}
    assert not nameless & {"Deployment", "Job", "CronJob"}


def test_argo_keeps_the_same_order() -> None:
    waves = {called(one): int(one["metadata"].get("annotations", {}).get(WAVE, 0)) for one in PRODUCTION}
    assert [waves[f"Deployment-{name}"] for name in ORDER] == [1, 2, 3]
    assert waves["Job-migrate"] < 0
    scalers = {one: wave for one, wave in waves.items() if one.startswith(("HorizontalPodAutoscaler", "ScaledObject"))}
    assert len(scalers) == 3
    # One that finds no pods is out of order, and holds up whatever comes after it.
    assert set(scalers.values()) == {max(waves.values())} == {4}


def test_every_part_of_the_overlay_can_be_left_out() -> None:
    """What is said to leave out is all that the overlay adds to the base, which has numbers of its own."""
    overlay = yaml.safe_load((K8S / "overlays/production/kustomization.yaml").read_text())
    (said,) = re.findall(r"In the overlay's\n`kustomization.yaml`\n\n(.*?)\n\n", README, re.DOTALL)
    files = {one for one in overlay["resources"] if one.endswith(".yaml")} | {one["path"] for one in overlay["patches"]}
    assert set(re.findall(r"`([a-z]+\.yaml)`", said)) == files
    assert "folder of dashboards" in said
    assert all(of("Deployment", name, BASE)["spec"]["replicas"] == 2 for name in SERVICES), [*map(called, BASE)]


def test_a_restore_asks_whichever_instance_leads() -> None:
    """The first may be another by then."""
    (to,) = {target for command in COMMANDS for target in re.findall(r"exec (\S+) -c postgres ", command)}
    assert to == "svc/postgres-rw"


def test_a_restore_takes_commands_last() -> None:
    """Before viewers have come back nobody reaches the command services, though they run."""
    section = README.split("\n## Bring it back\n")[1].split("\n## ")[0]
    steps = re.findall(r"patch service command --patch='(.*?)'|scale deployment (\w+) --replicas=2", section)
    assert [scaled for _, scaled in steps] == ["", "command", "query", ""]
    selector = of("Service", "command")["spec"]["selector"]
    closed, opened = (yaml.safe_load(patch)["spec"]["selector"] for patch, _ in steps if patch)
    labels = of("Deployment", "command")["spec"]["template"]["metadata"]["labels"]
    assert not {**selector, **closed}.items() <= labels.items()
    assert {**selector, **closed, **opened} == selector


@pytest.mark.skipif(shutil.which("jq") is None, reason="jq is not installed")
def test_the_projectors_of_before_are_a_deployment_of_their_own() -> None:
    (filter_,) = re.findall(r"jq '(.*?)'", README, re.DOTALL)
    projector = of("Deployment", "projector")
    live = {**projector, "metadata": {**projector["metadata"], "uid": "1", "resourceVersion": "2"}, "status": {}}
    made = subprocess.run(["jq", filter_], input=json.dumps(live), capture_output=True, text=True, check=True)
    before = json.loads(made.stdout)
    assert before["metadata"]["name"] == "projector-before"
    assert before.keys() == projector.keys()
    labels = before["spec"]["template"]["metadata"]["labels"]
    assert before["spec"]["selector"]["matchLabels"] == labels
    # To policies and Prometheus its pods are projectors.
    assert labels.items() > projector["spec"]["selector"]["matchLabels"].items()
    assert "app.kubernetes.io/name" not in before["metadata"]["labels"], "the loop does not wait for it"

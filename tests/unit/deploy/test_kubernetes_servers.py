"""PostgreSQL, NATS and an ingress in Kubernetes are as they are everywhere else."""

from __future__ import annotations

import re
from inspect import getsource

import yaml

import deploy.local.nats
from tests.support.servers import REPOSITORY

from .manifests import (
    APART,
    K8S,
    NATS,
    of,
    settings,
)


def test_nats_users_are_those_of_every_other_deployment() -> None:
    users = (REPOSITORY / "deploy/nats/users.conf").read_text()
    stripped = re.sub(r"^\s*#.*$", "", users, flags=re.MULTILINE)
    accounts = NATS["config"]["merge"]["accounts"]
    for account, name in (("ROOMS", "command"), ("ROOMS", "projector"), ("READERS", "query")):
        (block,) = re.findall(rf"^{name} = {{(.*?)^}}", stripped, re.MULTILINE | re.DOTALL)
        key = f"<< $NATS_{name.upper()}_NKEY >>"
        (user,) = [one for one in accounts[account]["users"] if one["nkey"] == key]
        for direction in ("publish", "subscribe"):
            (listed,) = re.findall(rf"{direction}: \[(.*?)\]", block, re.DOTALL)
            assert user["permissions"][direction] == re.findall(r'"([^"]+)"', listed)
    exports = re.findall(
        r'\{ (stream|service): "([^"]+)"(?:, response_type: stream)?, accounts: \[READERS\] \}', stripped
    )
    assert [
        (kind, one[kind]) for one in accounts["ROOMS"]["exports"] for kind in one.keys() & {"stream", "service"}
    ] == exports
    assert len(accounts["READERS"]["imports"]) == len(exports) == 4
    limits = [dict(re.findall(r"(\w+): (\d+)", block)) for block in re.findall(r"limits: \{(.*?)\}", stripped)]
    assert [
        {limit: str(most) for limit, most in accounts[name]["limits"].items()} for name in ("ROOMS", "READERS")
    ] == limits


def test_nats_keeps_what_it_acknowledged() -> None:
    config = NATS["config"]
    server = (REPOSITORY / "deploy/nats/server.conf").read_text()
    assert config["jetstream"]["merge"]["sync_interval"] == "always"
    assert "sync_interval: always" in server
    for setting in ("max_payload", "max_pending", "write_deadline"):
        value = str(config["merge"][setting]).strip("<> ")
        assert re.search(rf'^{setting}: "?{value}"?$', server, re.MULTILINE | re.IGNORECASE)
        assert re.search(rf'^{setting}: "?{value}"?$', getsource(deploy.local.nats), re.MULTILINE | re.IGNORECASE)
    assert config["cluster"] == {"enabled": True, "replicas": 3}
    assert settings("command")["STREAM_REPLICAS"] == "3"
    assert config["jetstream"]["fileStore"]["pvc"]["enabled"] is True
    assert config["nats"]["tls"]["enabled"] is True


def test_postgres_keeps_what_it_acknowledged() -> None:
    cluster = next(one for one in APART if one["kind"] == "Cluster")
    spec = cluster["spec"]
    assert cluster["metadata"]["name"] == "postgres"
    assert spec["instances"] == 3
    assert spec["postgresql"]["synchronous"] == {"method": "any", "number": 1, "dataDurability": "required"}
    store = next(one for one in APART if one["kind"] == "ObjectStore")
    (plugin,) = spec["plugins"]
    assert plugin["isWALArchiver"] is True
    assert plugin["parameters"]["barmanObjectName"] == store["metadata"]["name"]
    backup = next(one for one in APART if one["kind"] == "ScheduledBackup")
    assert backup["spec"]["cluster"]["name"] == cluster["metadata"]["name"]
    assert backup["spec"]["pluginConfiguration"]["name"] == plugin["name"]
    assert len(backup["spec"]["schedule"].split()) == 6
    assert {"reserved_connections", "max_notify_queue_pages"} <= spec["postgresql"]["parameters"].keys()


def test_postgres_comes_back_from_the_backups_it_makes() -> None:
    readme = (K8S / "README.md").read_text()
    (block,) = re.findall(r"```yaml\n( +bootstrap:.*?)```", readme, re.DOTALL)
    changed = yaml.safe_load(block)
    cluster = next(one for one in APART if one["kind"] == "Cluster")
    (before,), (plugin,) = changed["externalClusters"], changed["plugins"]
    assert changed["bootstrap"]["recovery"]["source"] == before["name"]
    (archiver,) = cluster["spec"]["plugins"]
    made = {**archiver["parameters"], "serverName": cluster["metadata"]["name"]}
    assert before["plugin"] == {"name": archiver["name"], "parameters": made}
    assert plugin["parameters"].pop("serverName") != made["serverName"]
    assert plugin == archiver


def test_the_ingress_holds_nothing_back() -> None:
    ingress = next(one for one in APART if one["kind"] == "Ingress")
    prefix = "nginx.ingress.kubernetes.io/"
    annotations = {name.removeprefix(prefix): value for name, value in ingress["metadata"]["annotations"].items()}
    assert annotations["proxy-buffering"] == "off"
    assert annotations["backend-protocol"] == "HTTPS"
    assert "non_idempotent" not in annotations["proxy-next-upstream"]
    (edge_timeout,) = set(
        re.findall(r"proxy_read_timeout (\d+)s;\n      error_page", (REPOSITORY / "deploy/edge/nginx.conf").read_text())
    )
    assert int(annotations["proxy-read-timeout"]) > int(edge_timeout)
    (path,) = ingress["spec"]["rules"][0]["http"]["paths"]
    backend = path["backend"]["service"]
    assert backend["port"]["name"] in [port["name"] for port in of("Service", backend["name"])["spec"]["ports"]]

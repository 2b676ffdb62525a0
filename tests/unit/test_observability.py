"""Dashboard, rules and scrape configuration ask for what there is, and every alert is explained."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import promql_parser
import pytest
import yaml

from deploy.observability.catalogue import metrics

REPOSITORY = Path(__file__).parents[2]
FOLDER = REPOSITORY / "deploy" / "observability"
PRODUCTION = REPOSITORY / "deploy" / "k8s" / "overlays" / "production"
TARGET_LABELS = frozenset({"job", "instance"})
"""What Prometheus adds when it scrapes."""
PUBLISHED = re.compile(r"127\.0\.0\.1:\$\{[A-Z_]+:-\d+\}:\d+")


def read_yaml(path: Path) -> dict[str, Any]:
    return cast("dict[str, Any]", yaml.safe_load(path.read_text()))


def rules(kind: str) -> list[dict[str, Any]]:
    return [
        rule
        for path in sorted((FOLDER / "rules").glob("*.yml"))
        for group in read_yaml(path)["groups"]
        for rule in group["rules"]
        if kind in rule
    ]


def nodes(expression: str) -> list[promql_parser.Expr]:
    found: list[promql_parser.Expr] = []
    promql_parser.walk(promql_parser.parse(expression), found.append)
    return found


def selectors(expression: str) -> Iterator[promql_parser.VectorSelector]:
    for node in nodes(expression):
        if isinstance(node, promql_parser.VectorSelector):
            yield node


def grouped_by(expression: str) -> set[str]:
    """Every label that is named to group by or to join on."""
    named: set[str] = set()
    for node in nodes(expression):
        if isinstance(node, promql_parser.AggregateExpr) and node.modifier is not None:
            named |= set(node.modifier.labels)
        elif isinstance(node, promql_parser.BinaryExpr) and node.modifier and node.modifier.matching:
            named |= set(node.modifier.matching.labels)
    return named


def questions() -> dict[str, str]:
    """Every PromQL expression that is asked, by where it stands."""
    dashboard = json.loads((FOLDER / "grafana" / "dashboards" / "runroom.json").read_text())
    asked = {
        f"panel {panel['title']} {target['refId']}": target["expr"].replace("$__rate_interval", "1m")
        for panel in dashboard["panels"]
        for target in panel.get("targets", [])
    }
    asked |= {f"record {rule['record']}": rule["expr"] for rule in rules("record")}
    return asked | {f"alert {rule['alert']}": rule["expr"] for rule in rules("alert")}


def known_series() -> dict[str, frozenset[str]]:
    """Labels by name, of metrics and of what rules record; ``up`` is Prometheus's own."""
    known = {name: labels for metric in metrics() for name, labels in metric.series.items()}
    known["up"] = frozenset()
    for rule in rules("record"):
        expression = rule["expr"]
        if any(isinstance(node, promql_parser.AggregateExpr) for node in nodes(expression)):
            known[rule["record"]] = frozenset(grouped_by(expression)) - {"le"}
        else:
            known[rule["record"]] = frozenset[str]().union(*(known[str(one.name)] for one in selectors(expression)))
    return known


QUESTIONS = questions()
KNOWN = known_series()


def available(expression: str) -> frozenset[str]:
    return TARGET_LABELS.union(*(KNOWN[str(selector.name)] for selector in selectors(expression)))


@pytest.mark.parametrize("where", QUESTIONS)
def test_what_is_asked_for_exists_with_these_labels(where: str) -> None:
    expression = QUESTIONS[where]
    asked = list(selectors(expression))
    assert asked
    for selector in asked:
        assert selector.name in KNOWN, selector.name
        used = {matcher.name for matcher in selector.matchers.matchers}
        assert used <= KNOWN[selector.name] | TARGET_LABELS, (selector.name, used)
    assert grouped_by(expression) <= available(expression)


def test_an_unknown_metric_or_label_would_be_found() -> None:
    assert "runroom_no_such_metric" not in KNOWN
    assert available("sum by (job) (runroom_query_resets_total)") == {"job", "instance", "reason"}
    assert KNOWN["runroom_query_delivery_seconds_bucket"] == {"le"}
    assert KNOWN["job:runroom_http_errors:ratio_rate5m"] == {"job"}
    with pytest.raises(ValueError, match="unclosed left parenthesis"):
        promql_parser.parse("sum by (job (x)")


def test_what_is_recorded_is_used() -> None:
    used = {selector.name for where, asked in QUESTIONS.items() for selector in selectors(asked)}
    assert {rule["record"] for rule in rules("record")} - used == set()


def test_labels_of_a_series_are_shown_only_where_there_are_such() -> None:
    dashboard = json.loads((FOLDER / "grafana" / "dashboards" / "runroom.json").read_text())
    for panel in dashboard["panels"]:
        for target in panel.get("targets", []):
            shown = set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]))
            assert shown <= left_over(target["expr"].replace("$__rate_interval", "1m")), panel["title"]


def left_over(expression: str) -> frozenset[str]:
    """The labels that a result has: those grouped by, where it is grouped."""
    if any(isinstance(node, promql_parser.AggregateExpr) and node.modifier for node in nodes(expression)):
        return frozenset(grouped_by(expression)) - {"le"}
    return available(expression)


@pytest.mark.parametrize("alert", rules("alert"), ids=lambda alert: alert["alert"])
def test_every_alert_is_explained(alert: dict[str, Any]) -> None:
    assert alert["labels"]["severity"] in ("page", "ticket")
    annotations = alert["annotations"]
    assert annotations["summary"].strip()
    assert annotations["description"].strip()
    page, _, anchor = annotations["runbook_url"].partition("#")
    assert anchor == alert["alert"].lower()
    _, heading, rest = (REPOSITORY / page).read_text().partition(f"## {alert['alert']}\n")
    assert heading
    explanation = rest.partition("\n## ")[0]
    assert f"\n{alert['labels']['severity'].capitalize()}.\n" in explanation
    for part in ("What it means.", "What to look at.", "What to do."):
        assert f"**{part}**" in explanation, part
    shown = set(re.findall(r"\$labels\.(\w+)", annotations["summary"] + annotations["description"]))
    # `absent` gives a result the labels that were asked for.
    assert shown <= left_over(alert["expr"])


def test_nothing_is_explained_that_is_no_alert() -> None:
    headings = re.findall(r"^## (\w+)$", (REPOSITORY / "docs" / "alerts.md").read_text(), re.MULTILINE)
    assert headings == [alert["alert"] for alert in rules("alert")]


def test_metrics_that_alerts_explain_with_exist() -> None:
    named = set(re.findall(r"`((?:runroom|process)_\w+)`", (REPOSITORY / "docs" / "alerts.md").read_text()))
    assert len(named) > 5
    assert named - {metric.name for metric in metrics()} == set()


def test_what_alerts_tell_operators_to_type_is_there() -> None:
    services = read_yaml(REPOSITORY / "docker-compose.yml")["services"]
    text = (REPOSITORY / "docs" / "alerts.md").read_text()
    lines = [line for block in re.findall(r"```sh\n(.*?)```", text, re.DOTALL) for line in block.splitlines()]
    assert lines
    for line in lines:
        program, compose, verb, *rest = shlex.split(line)
        words = [word for word in rest if not word.startswith("--")]
        assert (program, compose) == ("docker", "compose")
        # The image of NATS has no client, and nobody is let into its system account.
        assert words[1:2] != ["nats"]
        assert set(words if verb == "restart" else words[:1]) <= services.keys(), line
        mounted = {volume.split(":")[1] for volume in services[words[0]].get("volumes", [])}
        assert all(str(Path(word).parent) in mounted for word in words if word.startswith("/")), line
    assert "`nats " not in text


def test_prometheus_finds_the_services_of_compose() -> None:
    configuration = read_yaml(FOLDER / "prometheus.yml")
    assert all(list(FOLDER.glob(pattern)) for pattern in configuration["rule_files"])
    services = read_yaml(REPOSITORY / "docker-compose.yml")["services"]
    for job in configuration["scrape_configs"]:
        (found,) = job["dns_sd_configs"]
        (name,) = found["names"]
        assert job["job_name"] == f"runroom-{name}"
        assert f"http://127.0.0.1:{found['port']}/readyz" in " ".join(services[name]["healthcheck"]["test"])


def test_prometheus_operator_gets_the_same_rules() -> None:
    rule = read_yaml(PRODUCTION / "rules.yaml")
    assert rule["kind"] == "PrometheusRule"
    files = sorted((FOLDER / "rules").glob("*.yml"))
    assert rule["spec"] == {"groups": [group for path in files for group in read_yaml(path)["groups"]]}


def test_jobs_have_the_same_names_in_kubernetes() -> None:
    """They are asked for by name; by itself Prometheus' operator would call all of them runroom/runroom."""
    spec = read_yaml(PRODUCTION / "monitoring.yaml")["spec"]
    (endpoint,) = spec["podMetricsEndpoints"]
    (label,) = [one for one in endpoint["relabelings"] if one["targetLabel"] == "job"]
    (source,) = label["sourceLabels"]
    (names,) = spec["selector"]["matchExpressions"]
    assert source == "__meta_kubernetes_pod_label_" + re.sub(r"[^a-zA-Z0-9]", "_", names["key"])
    jobs = {job["job_name"] for job in read_yaml(FOLDER / "prometheus.yml")["scrape_configs"]}
    assert {label["replacement"].replace("$1", name) for name in names["values"]} == jobs
    asked = {
        matcher.value
        for question in QUESTIONS.values()
        for selector in selectors(question)
        for matcher in selector.matchers.matchers
        if matcher.name == "job"
    }
    assert asked
    assert all(any(re.fullmatch(pattern, job) for job in jobs) for pattern in asked)


def test_the_profile_is_not_there_unasked_and_on_loopback_alone() -> None:
    compose = read_yaml(REPOSITORY / "docker-compose.yml")
    services = {name: one for name, one in compose["services"].items() if "observability" in one.get("profiles", [])}
    assert set(services) == {"prometheus", "grafana", "jaeger"}
    for name, service in services.items():
        assert re.fullmatch(r"[a-z/]+:v?\d+\.\d+\.\d+", service["image"]), name
        assert all(PUBLISHED.fullmatch(port) for port in service["ports"])
        for volume in service.get("volumes", []):
            source = volume.partition(":")[0]
            assert source in compose["volumes"] or (REPOSITORY / source).exists(), volume
    path = read_yaml(FOLDER / "grafana/provisioning/dashboards/runroom.yml")["providers"][0]["options"]["path"]
    assert any(volume.split(":")[1] == path for volume in services["grafana"]["volumes"])
    (prometheus, _) = read_yaml(FOLDER / "grafana/provisioning/datasources/prometheus.yml")["datasources"]
    dashboard = json.loads((FOLDER / "grafana/dashboards/runroom.json").read_text())
    assert {panel["datasource"]["uid"] for panel in dashboard["panels"] if "targets" in panel} == {prometheus["uid"]}


def test_tools_that_are_here_take_the_files(tmp_path: Path) -> None:
    """Prometheus's own checker and Docker Compose, on machines that have them; the tests above need neither."""
    commands: list[list[str]] = []
    if shutil.which("promtool"):
        commands.append(["promtool", "check", "config", str(FOLDER / "prometheus.yml")])
        rules_alone = tmp_path / "rules.yml"
        rules_alone.write_text(yaml.safe_dump(read_yaml(PRODUCTION / "rules.yaml")["spec"]))
        commands.append(["promtool", "check", "rules", str(rules_alone)])
    docker = shutil.which("docker")
    if docker and subprocess.run([docker, "compose", "version"], capture_output=True, check=False).returncode == 0:
        file = str(REPOSITORY / "docker-compose.yml")
        commands.append([docker, "compose", "--file", file, "--profile", "observability", "config", "--quiet"])
    for command in commands:
        ran = subprocess.run(command, capture_output=True, text=True, check=False)
        assert ran.returncode == 0, ran.stdout + ran.stderr

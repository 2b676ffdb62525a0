"""The rules for Prometheus' operator: the groups of every file in ``rules/``, in one PrometheusRule."""

from __future__ import annotations

from pathlib import Path

_RULES = Path(__file__).parent / "rules"
_HEAD = """\
# The rules of deploy/observability/rules/ for Prometheus' operator, written by `python -m deploy.observability`.
apiVersion: monitoring.coreos.com/v1
kind: PrometheusRule
metadata:
  name: runroom
  labels: {app.kubernetes.io/part-of: runroom}
spec:
  groups:
"""


def prometheus_rule() -> str:
    files = (path.read_text().partition("groups:\n")[2] for path in sorted(_RULES.glob("*.yml")))
    return _HEAD + "".join(f"  {line}\n" if line else "\n" for file in files for line in file.splitlines())

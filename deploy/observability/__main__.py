"""``python -m deploy.observability`` writes what is generated."""

from __future__ import annotations

from pathlib import Path

from deploy.observability.dashboard import dashboard
from deploy.observability.page import metrics_page
from deploy.observability.prometheus_rule import prometheus_rule

ROOT = Path(__file__).resolve().parents[2]


def generated() -> dict[Path, str]:
    """Every generated file with its content."""
    return {
        ROOT / "docs" / "metrics.md": metrics_page(),
        ROOT / "deploy" / "observability" / "grafana" / "dashboards" / "runroom.json": dashboard(),
        ROOT / "deploy" / "k8s" / "overlays" / "production" / "rules.yaml": prometheus_rule(),
    }


def main() -> None:
    for path, content in generated().items():
        path.write_text(content)


if __name__ == "__main__":
    main()

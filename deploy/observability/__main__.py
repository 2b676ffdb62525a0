"""``python -m deploy.observability`` writes what is generated."""

from __future__ import annotations

from pathlib import Path

from deploy.observability.dashboard import dashboard
from deploy.observability.page import metrics_page

ROOT = Path(__file__).resolve().parents[2]


def generated() -> dict[Path, str]:
    """Every generated file with its content."""
    return {
        ROOT / "docs" / "metrics.md": metrics_page(),
        ROOT / "deploy" / "observability" / "grafana" / "dashboards" / "runroom.json": dashboard(),
    }


def main() -> None:
    for path, content in generated().items():
        path.write_text(content)


if __name__ == "__main__":
    main()

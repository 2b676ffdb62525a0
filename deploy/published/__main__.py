"""`python -m deploy.published`: writes the published documents into `docs/`."""

from pathlib import Path

from deploy.published import documents

DOCS = Path(__file__).parents[2] / "docs"


def main() -> None:
    written = documents()
    for path, text in written.items():
        (DOCS / path).parent.mkdir(parents=True, exist_ok=True)
        (DOCS / path).write_text(text)
    for old in (DOCS / "schema").glob("*.json"):
        if f"schema/{old.name}" not in written:
            old.unlink()
    print(f"{len(written)} documents in {DOCS}")


if __name__ == "__main__":
    main()

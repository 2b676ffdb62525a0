"""Generated files are what would be generated now."""

from deploy.observability.__main__ import ROOT, generated


def test_generated_files_are_up_to_date() -> None:
    assert generated()
    for path, content in generated().items():
        assert path.read_text() == content, f"{path.relative_to(ROOT)}: run python -m deploy.observability"

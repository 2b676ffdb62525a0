"""One stack for the tests of a module, which writes every line of its log as JSON."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.integration.observability.stack import Watched, watched_stack


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LOG_FORMAT", "json")
        patch.setenv("LOG_LEVEL", "debug")
        with watched_stack(tmp_path_factory.mktemp("stack")) as watched:
            yield watched

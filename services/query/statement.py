"""Statements with optional lines and named parameters, compiled from a ``.sql`` file once for each use.

Invariant: what a caller gives is only ever a parameter; the text comes from the file alone.
"""

import re
from collections.abc import Mapping
from typing import NamedTuple

_CONDITION = re.compile(r"--\s*if\s+(not\s+)?(\w+)\s*$")
_PARAMETER = re.compile(r"(?<!:):([a-z_]+)")


class Compiled(NamedTuple):
    """``text`` with ``$1``, ``$2``, …, and the names of the parameters in that order."""

    text: str
    names: tuple[str, ...]


class OptionalStatement:
    """A statement whose line ``… -- if name`` is there only when ``name`` is given; ``-- if not name`` is the opposite.

    A parameter is ``:name``.
    """

    def __init__(self, source: str) -> None:
        self._lines = [
            (line, _CONDITION.search(line)) for line in source.splitlines() if not line.lstrip().startswith("--")
        ]
        self._compiled: dict[frozenset[str], Compiled] = {}

    def bind(self, given: Mapping[str, object]) -> tuple[str, list[object]]:
        """The text for these parameters, and their values in its order."""
        names = frozenset(given)
        compiled = self._compiled.get(names)
        if compiled is None:
            compiled = self._compiled[names] = self._compile(names)
        return compiled.text, [given[name] for name in compiled.names]

    def _compile(self, given: frozenset[str]) -> Compiled:
        lines: list[str] = []
        for line, condition in self._lines:
            if condition is not None and (condition[2] in given) is not (condition[1] is None):
                continue
            lines.append(line if condition is None else line[: condition.start()].rstrip())
        numbers: dict[str, int] = {}

        def number(match: re.Match[str]) -> str:
            return f"${numbers.setdefault(match[1], len(numbers) + 1)}"

        return Compiled(_PARAMETER.sub(number, "\n".join(lines)), tuple(numbers))  # in the order of their numbers

"""Settings from the environment: read once, every fault reported at once.

Invariant: a service that has started has complete and valid settings; nothing reads the environment later.
"""

from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

MOST_PORT = 65535


class SettingsError(Exception):
    """The environment does not describe a runnable service. The message has one line per fault."""


class Environment:
    """Reads typed values from ``variables`` and remembers every fault until ``finish``.

    Getters return a usable placeholder after a fault so that reading can go on; ``finish`` then raises.
    """

    def __init__(self, variables: Mapping[str, str]) -> None:
        self._variables = variables
        self._faults: list[str] = []

    def text(self, name: str, default: str | None = None) -> str:
        """The variable, or the default; without a default it is required."""
        value = self._value(name)
        if value:
            return value
        if default is None:
            self._faults.append(f"{name} is required")
            return ""
        return default

    def optional(self, name: str) -> str | None:
        """The variable; None when it is not set, or empty."""
        return self._value(name) or None

    def fault(self, sentence: str) -> None:
        """Remembers what is wrong with more than one variable, or with what one names. Never quote a secret."""
        self._faults.append(sentence)

    def choice(self, name: str, options: tuple[str, ...], default: str) -> str:
        value = self.text(name, default).lower()
        if value not in options:
            self._faults.append(f"{name} is {value!r}: expected one of {', '.join(options)}")
        return value

    def integer(self, name: str, default: int, least: int, most: int) -> int:
        """A whole number from ``least`` to ``most``, both included."""
        return int(self._number(name, default, least, most, whole=True))

    def number(self, name: str, default: float, least: float, most: float) -> float:
        """A number from ``least`` to ``most``, both included."""
        return self._number(name, default, least, most, whole=False)

    def port(self, name: str, default: int) -> int:
        """A TCP port; 0 lets the system choose."""
        return self.integer(name, default, 0, MOST_PORT)

    def url(self, name: str, schemes: tuple[str, ...], default: str | None = None) -> str:
        """A URL with one of the schemes. Faults never quote it: it may hold a password."""
        value = self.text(name, default)
        try:
            scheme = urlsplit(value).scheme
        except ValueError:
            scheme = ""
        if value and scheme not in schemes:
            self._faults.append(f"{name} is not a URL that starts with {' or '.join(s + '://' for s in schemes)}")
        return value

    def secret(self, name: str, default: str | None = None) -> str:
        """The variable, or what stands in the file that ``<name>_FILE`` names. Faults never quote it."""
        file = self._value(f"{name}_FILE")
        if not file:
            return self.text(name, default)
        if self._value(name):
            self._faults.append(f"{name} and {name}_FILE exclude each other")
        try:
            value = Path(file).read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            self._faults.append(f"{name}_FILE cannot be read: {_why(error)}")
            return default or ""
        if not value:
            self._faults.append(f"{name}_FILE is empty")
        if "\0" in value:  # what a crash may leave of a file; and some who compare secrets stop there
            self._faults.append(f"{name}_FILE holds NUL bytes")
        return value

    def file(self, name: str) -> Path | None:
        """A file that can be read, or None when none is named."""
        value = self.text(name, "")
        if not value:
            return None
        path = Path(value)
        try:
            with path.open("rb"):
                return path
        except OSError as error:
            self._faults.append(f"{name} cannot be read: {_why(error)}")
            return None

    def finish(self) -> None:
        """Raises ``SettingsError`` naming every fault found so far."""
        if self._faults:
            raise SettingsError("\n".join(self._faults))

    def _value(self, name: str) -> str:
        """The variable without white space around it; empty when it is not set."""
        value = self._variables.get(name, "").strip()
        try:
            value.encode()
        except UnicodeEncodeError:  # other bytes, as the system's environment may have
            self._faults.append(f"{name} is not UTF-8")
            return ""
        return value

    def _number(self, name: str, default: float, least: float, most: float, *, whole: bool) -> float:
        text = self.text(name, str(default))
        try:
            value = int(text) if whole else float(text)
        except ValueError:
            value = None
        if value is None or not least <= value <= most:
            kind = "a whole number" if whole else "a number"
            self._faults.append(f"{name} is {text!r}: expected {kind} from {least} to {most}")
            return default
        return value


def _why(error: Exception) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or type(error).__name__

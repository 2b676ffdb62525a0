"""Secrets that are made once and stay: files that hold all of their content or are not there, for their owner alone."""

from pathlib import Path

from shared.messaging.nkey import UserKey, new_seed


def write_secret(file: Path, content: str) -> None:
    """Writes the file, or leaves it as it was."""
    draft = file.with_name(f"{file.name}.new")
    draft.unlink(missing_ok=True)
    draft.touch(mode=0o600)
    draft.write_text(content)
    draft.rename(file)


def write_seed(file: Path) -> None:
    """The seed of a new NATS user, unless there is one."""
    if not file.exists():
        write_secret(file, new_seed() + "\n")


def public_key(seed_file: Path) -> str:
    """How servers name the user."""
    return UserKey(seed_file.read_text()).public

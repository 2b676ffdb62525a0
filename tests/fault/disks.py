"""Small file systems, to be filled to the last byte."""

import contextlib
import subprocess
from collections.abc import Iterator
from pathlib import Path

_BLOCK = 1024 * 1024


class NoSmallDiskError(Exception):
    """This machine lets us mount nothing."""


@contextlib.contextmanager
def small_disk(folder: Path, megabytes: int) -> Iterator[Path]:
    """A file system of this size. Raises ``NoSmallDiskError``."""
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m,mode=777", "tmpfs", str(folder)], capture_output=True
    )
    if mounted.returncode != 0:
        raise NoSmallDiskError(mounted.stderr.decode(errors="replace").strip())
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


@contextlib.contextmanager
def filled(disk: Path) -> Iterator[None]:
    """Nothing more can be written to the disk meanwhile."""
    ballast = disk / "ballast"
    for size in (_BLOCK, 1):
        with contextlib.suppress(OSError), ballast.open("ab", buffering=0) as file:
            while True:
                file.write(b"\0" * size)
    try:
        yield
    finally:
        ballast.unlink()

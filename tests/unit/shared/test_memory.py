from __future__ import annotations

import platform
import subprocess
import sys

from shared.serving import give_large_blocks_back

_BLOCKS = """
import asyncio, ctypes, sys

class Mallinfo2(ctypes.Structure):
    # arena, ordblks, smblks, hblks, hblkhd, usmblks, fsmblks, uordblks, fordblks, keepcost
    _fields_ = [(name, ctypes.c_size_t) for name in "abcdefghij"]

libc = ctypes.CDLL(None)
libc.mallinfo2.restype = Mallinfo2
if sys.argv[1] == "ours":
    from shared.serving import give_large_blocks_back
    give_large_blocks_back()
freed = bytearray(16 << 20)
del freed
before = libc.mallinfo2().e
kept = bytearray(8 << 20)
print(libc.mallinfo2().e - before >= len(kept))
"""


def blocks(whose: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", _BLOCKS, whose], capture_output=True, text=True, timeout=30, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_a_large_block_comes_from_the_system_even_after_a_larger_one_was_freed() -> None:
    if platform.libc_ver()[0] != "glibc":
        give_large_blocks_back()  # which does nothing there
        return
    assert blocks("nobody's") == "False", "glibc has changed: nothing needs to be set any more"
    assert blocks("ours") == "True"

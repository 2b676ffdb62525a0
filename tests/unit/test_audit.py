"""The audit of the locks finds what would let something else be installed."""

import pytest

from deploy.audit import faults, wanted

HASH = "    --hash=sha256:" + "0" * 64
LOCK = f"# comment\na-b==1.0 \\\n{HASH} \\\n{HASH}\nc==2 ; python_version < '3.12' \\\n{HASH}\n"


def test_a_lock_that_is_whole() -> None:
    assert faults(LOCK, {"a-b", "c"}) == []


@pytest.mark.parametrize(
    ("lock", "fault"),
    [
        (LOCK.replace("a-b==1.0", "a-b>=1.0"), "not pinned: a-b>=1.0 \\"),
        (LOCK.replace(f" \\\n{HASH}\n", "\n"), "no hash: c"),
        (LOCK.replace("sha256", "md5"), "no hash: a-b"),
        (LOCK + "git+https://example.org/x.git\n", "not pinned: git+https://example.org/x.git"),
        (LOCK.replace("c==2", "d==2"), "not locked: c"),
        ("", "not pinned: nothing at all"),
    ],
)
def test_what_is_wrong_is_named(lock: str, fault: str) -> None:
    assert fault in faults(lock, {"a-b", "c"})


def test_what_is_wanted() -> None:
    project = '[project]\ndependencies = ["A_b>=1", "c[x]<2"]\n[project.optional-dependencies]\ndev = ["d"]\n'
    assert wanted(project, development=False) == {"a-b", "c"}
    assert wanted(project, development=True) == {"a-b", "c", "d"}

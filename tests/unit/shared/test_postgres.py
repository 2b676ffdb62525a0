"""DSNs from the environment: what the driver could never connect with is a fault, and all else is let through."""

import pytest

from shared.postgres import read_dsn
from shared.settings import Environment, SettingsError


@pytest.mark.parametrize(
    "dsn",
    [
        "postgresql://u:p@h/d",
        "postgres://u@h:5432/d?sslmode=verify-full&sslrootcert=/etc/ca.pem&passfile=/run/secrets/pgpass",
        "postgresql://h",
        "postgresql:///d",
        "postgresql://u@/d?host=/var/run/postgresql",
        "postgresql://u@/d?host=/var/run/postgresql&port=5433",
        "postgresql://u@%2Fvar%2Frun%2Fpostgresql/d",
        "postgresql://u@a:5432,b:5433,c/d?target_session_attrs=read-write",
        "postgresql:///d?host=a,b&port=5432,5433",
        "postgresql:///d?host=a,b&port=5432",
        "postgresql://u@[::1]:5432,[::2]/d",
        "postgresql://[::1]:/d",
        "postgresql://u:%40%2F%3A@h/d",
        "postgresql://?service=runroom",
        "postgresql://h/d?sslmode=verify_full&statement_timeout=5000",
    ],
)
def test_what_can_be_connected_with_is_let_through(dsn: str) -> None:
    env = Environment({"SOME_DSN": dsn})
    assert read_dsn(env, "SOME_DSN") == dsn
    env.finish()


@pytest.mark.parametrize(
    ("dsn", "line"),
    [
        ("postgresql://u:hidden@h/d?sslmode=bogus", "SOME_DSN has an sslmode that is none of disable, allow"),
        ("postgresql://u:hidden@h:99999/d", "SOME_DSN has a port that is not a number from 1 to 65535"),
        ("postgresql://u:hidden@h:0/d", "SOME_DSN has a port"),
        ("postgresql://u:hidden@a:1,b:x/d", "SOME_DSN has a port"),
        ("postgresql://[::1]:hidden/d", "SOME_DSN has a port"),
        ("postgresql:///d?host=h&port=hidden", "SOME_DSN has a port"),
        ("postgresql:///d?host=a,b,c&port=1,2", "SOME_DSN has another number of ports than of hosts"),
        ("postgresql://u:hid/den@h/d", "SOME_DSN has a port"),
        ("postgresql://u:hid@den@h/d", "SOME_DSN has an @ in its host"),
        ("postgresql://u:hidden@a,,b/d", "SOME_DSN names an empty host"),
        ("postgresql://", "SOME_DSN names neither a host nor a database"),
        ("postgresql://u:hidden@/", "SOME_DSN names neither a host nor a database"),
        ("postgresql://h/d?hidden", "SOME_DSN has parameters that are not written as name=value"),
        ("postgresql://h/d?target_session_attrs=hidden", "SOME_DSN has target_session_attrs that are none of any"),
        ("mysql://u:hidden@h/d", "SOME_DSN is not a URL that starts with postgresql://"),
        ("", "SOME_DSN is required"),
    ],
)
def test_what_cannot_is_one_fault_that_quotes_nothing(dsn: str, line: str) -> None:
    env = Environment({"SOME_DSN": dsn})
    read_dsn(env, "SOME_DSN")
    with pytest.raises(SettingsError) as caught:
        env.finish()
    [fault] = str(caught.value).splitlines()
    assert fault.startswith(line)
    assert "hid" not in fault


def test_the_drivers_own_variables_may_name_the_server() -> None:
    env = Environment({"SOME_DSN": "postgresql://", "PGHOST": "h"})
    assert read_dsn(env, "SOME_DSN") == "postgresql://"
    env.finish()


def test_one_that_may_be_missing_is() -> None:
    env = Environment({})
    assert read_dsn(env, "SOME_DSN", "") == ""
    env.finish()

"""Credentials for NATS from the environment: all of it or a line per fault, and never a secret in it."""

from pathlib import Path

import pytest

from shared.messaging.access import NatsAccess, read_nats_access, read_nats_url
from shared.messaging.nkey import new_seed
from shared.settings import Environment, SettingsError


def read(url: str = "nats://one", **variables: str) -> NatsAccess:
    env = Environment(variables)
    access = read_nats_access(env, url)
    env.finish()
    return access


def test_without_any_the_url_decides() -> None:
    assert read() == NatsAccess()
    assert read("tls://one:4222,tls://two:4222") == NatsAccess()


def test_a_password_stands_in_a_variable_or_a_file(tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text("secret\n")
    given = read(NATS_USER="me", NATS_PASSWORD="secret")
    assert given == read(NATS_USER="me", NATS_PASSWORD_FILE=str(file)) == NatsAccess(user="me", password="secret")
    assert "secret" not in repr(given)


def test_an_nkey_is_read_from_its_file(tmp_path: Path) -> None:
    file = tmp_path / "seed"
    file.write_text(new_seed())
    key = read(NATS_NKEY_SEED_FILE=str(file)).user_key()
    assert key is not None
    assert key.public.startswith("U")


@pytest.mark.parametrize(
    ("url", "variables", "line"),
    [
        ("nats://a", {"NATS_USER": "me"}, "NATS_USER and NATS_PASSWORD go together"),
        ("nats://a", {"NATS_PASSWORD": "hidden"}, "NATS_USER and NATS_PASSWORD go together"),
        ("nats://a", {"NATS_PASSWORD_FILE": "/no/where"}, "NATS_PASSWORD_FILE cannot be read: No such file"),
        ("nats://a", {"NATS_NKEY_SEED_FILE": "/no/where"}, "NATS_NKEY_SEED_FILE cannot be read: No such file"),
        ("nats://a", {"NATS_NKEY_SEED_FILE": "{file}"}, "NATS_NKEY_SEED_FILE cannot be used: not an nkey"),
        ("tls://a", {"NATS_CA_FILE": "{file}"}, "NATS_CA_FILE or NATS_CERTIFICATE_FILE cannot be used"),
        ("nats://a", {"NATS_CA_FILE": "{file}"}, "are for a NATS_URL with tls://"),
        ("tls://a,nats://b", {}, "NATS_URL names servers with and without tls://"),
        ("tls://a", {"NATS_KEY_FILE": "{file}"}, "NATS_CERTIFICATE_FILE, which is missing"),
    ],
)
def test_each_fault_is_a_line(tmp_path: Path, url: str, variables: dict[str, str], line: str) -> None:
    file = tmp_path / "file"
    file.write_text("hidden")
    given = {name: value.replace("{file}", str(file)) for name, value in variables.items()}
    with pytest.raises(SettingsError) as caught:
        read(url, **given)
    assert line in str(caught.value)
    assert "hidden" not in str(caught.value)


def test_a_user_and_an_nkey_exclude_each_other(tmp_path: Path) -> None:
    file = tmp_path / "seed"
    file.write_text(new_seed())
    with pytest.raises(SettingsError, match="exclude each other"):
        read(NATS_USER="me", NATS_PASSWORD="secret", NATS_NKEY_SEED_FILE=str(file))


def test_a_secret_has_one_place_and_is_not_empty(tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.write_text("\n")
    env = Environment({"TOKEN": "hidden", "TOKEN_FILE": str(file)})
    env.secret("TOKEN")
    with pytest.raises(SettingsError) as caught:
        env.finish()
    assert str(caught.value).splitlines() == ["TOKEN and TOKEN_FILE exclude each other", "TOKEN_FILE is empty"]


@pytest.mark.parametrize(
    "url",
    [
        "nats://a",
        "nats://a:4222,nats://b:4223",
        "tls://u:p@a:4222, tls://b",
        "nats://a,b:4222",
        "nats://token@[::1]:4222",
        "nats://127.0.0.1:",
    ],
)
def test_servers_that_the_client_can_look_for_are_let_through(url: str) -> None:
    env = Environment({"NATS_URL": url})
    assert read_nats_url(env) == url
    env.finish()


@pytest.mark.parametrize(
    ("url", "line"),
    [
        ("nats://", "NATS_URL: server 1 has no host"),
        ("nats://a:99999", "NATS_URL: server 1 is none, or its port is not a number from 1 to 65535"),
        ("nats://u:hidden@127.0.0.1:abc", "NATS_URL: server 1 is none, or its port"),
        ("nats://a:0", "NATS_URL: server 1 has a port that is not a number from 1 to 65535"),
        ("nats://a,,nats://b", "NATS_URL: server 2 has no host"),
        ("nats://a,http://hidden", "NATS_URL: server 2 does not start with nats:// or tls://"),
        ("http://hidden", "NATS_URL is not a URL that starts with nats://"),
        ("", "NATS_URL is required"),
    ],
)
def test_others_are_one_fault_that_quotes_nothing(url: str, line: str) -> None:
    env = Environment({"NATS_URL": url})
    read_nats_url(env)
    with pytest.raises(SettingsError) as caught:
        env.finish()
    [fault] = str(caught.value).splitlines()
    assert fault.startswith(line)
    assert "hidden" not in fault

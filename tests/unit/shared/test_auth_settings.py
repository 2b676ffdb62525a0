"""Whether a service asks for tokens, and that it refuses to be open to others."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from services.command.settings import read_settings as read_command
from services.query.settings import read_settings as read_query
from shared.http.auth.settings import AuthSettings, read_auth_settings
from shared.http.cors import read_origins
from shared.settings import Environment, SettingsError
from tests.support.tokens import jwks, rsa_key

SECRET = "s" * 32


def read(host: str = "127.0.0.1", **variables: str) -> AuthSettings | None:
    env = Environment(variables)
    settings = read_auth_settings(env, host)
    env.finish()
    return settings


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.9.10", "::1", "::ffff:127.0.0.1", "localhost"])
def test_on_loopback_it_may_be_off(host: str) -> None:
    assert read(host) is None
    assert read("0.0.0.0", PUBLISHED_ON=host if host != "localhost" else "[::1]") is None


@pytest.mark.parametrize(
    "host", ["0.0.0.0", "::", "10.0.0.1", "192.168.1.2", "example.com", "localhost.evil.test", "127.1"]
)
def test_elsewhere_it_must_be_on(host: str) -> None:
    with pytest.raises(
        SettingsError, match=f"authentication is off, and others can reach the service at {host}"
    ) as refusal:
        read(host)
    assert str(refusal.value).count("\n") == 0
    for name in ("AUTH_JWT_SECRET", "AUTH_JWKS", "HOST", "PUBLISHED_ON"):
        assert name in str(refusal.value)
    assert read(host, AUTH_JWT_SECRET=SECRET) is not None


@pytest.mark.parametrize("address", ["0.0.0.0", "::", "10.1.2.3"])
def test_a_port_published_to_others_is_not_loopback(address: str) -> None:
    for host in ("0.0.0.0", "127.0.0.1"):
        with pytest.raises(SettingsError, match=f"reach the service at {address}"):
            read(host, PUBLISHED_ON=address)


def test_where_a_port_is_published_is_an_address() -> None:
    with pytest.raises(SettingsError, match="PUBLISHED_ON is 'here': expected an IP address"):
        read("0.0.0.0", PUBLISHED_ON="here")


@pytest.mark.parametrize("service", ["command", "query"])
def test_both_services_refuse(service: str) -> None:
    read_settings = read_command if service == "command" else read_query
    variables = {"EVENT_STORE_DSN": "postgresql://h", "PROJECTION_DSN": "postgresql://h", "NATS_URL": "nats://h"}
    assert read_settings(variables).auth is None
    with pytest.raises(SettingsError, match=r"^authentication is off"):
        read_settings({**variables, "HOST": "0.0.0.0"})
    settings = read_settings({**variables, "HOST": "0.0.0.0", "AUTH_JWT_SECRET": SECRET, "AUTH_ISSUER": "i"})
    assert settings.auth == AuthSettings(SECRET.encode(), None, "i", None, 1.0)


def test_a_secret_is_long_and_never_shown(tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.write_text(f"{SECRET}\n")
    given = read(AUTH_JWT_SECRET_FILE=str(file))
    assert given == read(AUTH_JWT_SECRET=SECRET)
    assert SECRET not in repr(given)
    file.write_text("short-secret")
    for variables in ({"AUTH_JWT_SECRET": "short-secret"}, {"AUTH_JWT_SECRET_FILE": str(file)}):
        with pytest.raises(SettingsError, match="AUTH_JWT_SECRET is shorter than 32 bytes") as refusal:
            read(**variables)
        assert "short-secret" not in str(refusal.value)
    with pytest.raises(SettingsError, match=r"AUTH_JWT_SECRET_FILE cannot be read: No such file"):
        read(AUTH_JWT_SECRET_FILE=str(tmp_path / "nothing"))


def test_a_secret_of_nul_bytes_is_none(tmp_path: Path) -> None:
    """What a crash may leave of a file, and for HMAC the same as the empty one (RFC 2104, section 2)."""
    file = tmp_path / "secret"
    for content in (bytes(40), SECRET.encode() + bytes(4)):
        file.write_bytes(content)
        with pytest.raises(SettingsError, match="AUTH_JWT_SECRET_FILE holds NUL bytes"):
            read(AUTH_JWT_SECRET_FILE=str(file))


@pytest.mark.parametrize(
    "key",
    ["-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEA\n-----END PUBLIC KEY-----", "ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAAB",
     '{"kty": "oct", "k": "c2VjcmV0c2VjcmV0c2VjcmV0"}'],
    ids=["PEM", "SSH", "JWK"],
)  # fmt: skip
def test_a_key_of_another_kind_is_no_secret(key: str) -> None:
    with pytest.raises(SettingsError, match="a key of another kind") as refusal:
        read(AUTH_JWT_SECRET=key)
    assert key[:20] not in str(refusal.value)


def test_a_secret_is_text() -> None:
    with pytest.raises(SettingsError, match="AUTH_JWT_SECRET is not UTF-8"):
        read(AUTH_JWT_SECRET=os.fsdecode(b"\xff" * 32))


def test_there_is_one_kind_of_key(tmp_path: Path) -> None:
    for variables in (
        {"AUTH_JWT_SECRET": SECRET, "AUTH_JWKS": "https://h/"},
        {"AUTH_JWT_SECRET": SECRET, "AUTH_JWT_SECRET_FILE": str(tmp_path)},
    ):
        with pytest.raises(SettingsError, match="more than one"):
            read(**variables)


def test_what_is_wrong_with_two_keys_is_said_of_both(tmp_path: Path) -> None:
    with pytest.raises(SettingsError) as refusal:
        read(AUTH_JWT_SECRET="short-secret", AUTH_JWKS=str(tmp_path / "nothing"))
    assert [line.split()[0] for line in str(refusal.value).splitlines()] == ["more", "AUTH_JWKS:", "AUTH_JWT_SECRET"]


@pytest.mark.parametrize("name", ["AUTH_ISSUER", "AUTH_AUDIENCE"])
def test_what_asks_for_tokens_without_a_key_is_a_fault(name: str) -> None:
    with pytest.raises(SettingsError, match="authentication would be off"):
        read(**{name: "x"})


def test_a_key_set_is_a_file_with_a_key_or_a_url(tmp_path: Path) -> None:
    file = tmp_path / "jwks.json"
    for content, fault in (
        (b"{", "not JSON"),
        (b"[]", "not a key set"),
        (b'{"keys": []}', "no key for RS256 or EdDSA"),
    ):
        file.write_bytes(content)
        with pytest.raises(SettingsError, match=fault):
            read(AUTH_JWKS=str(file))
    file.write_bytes(jwks(rsa_key("k")))
    assert read(AUTH_JWKS=str(file)) == AuthSettings(None, str(file), None, None, 1.0)
    assert read(AUTH_JWKS="https://h:1/x", AUTH_LEEWAY_SECONDS="0") == AuthSettings(
        None, "https://h:1/x", None, None, 0.0
    )
    for wrong in ("https://", "https://h:port/", "ftp://h/", str(tmp_path / "nothing")):
        with pytest.raises(SettingsError, match="AUTH_JWKS"):
            read(AUTH_JWKS=wrong)


@pytest.mark.parametrize(
    "wrong",
    ["http://h/päth", "http://h/?q=ä", "http://a..b/", f"http://{'a' * 64}.test/", "http://h/a b", "http://h/?q=\x7f",
     "https://user:pw@h/", "https://user@h/"],
)  # fmt: skip
def test_a_url_that_nobody_could_ask_is_a_fault(wrong: str) -> None:
    with pytest.raises(SettingsError, match="AUTH_JWKS is not a URL with a host"):
        read(AUTH_JWKS=wrong)


@pytest.mark.parametrize("url", ["http://bücher.test/", "http://[::1]:81/x", "http://a.test./?q=1", "https://1.2.3.4"])
def test_a_url_that_can_be_asked_is_none(url: str) -> None:
    settings = read(AUTH_JWKS=url)
    assert settings is not None
    assert settings.jwks == url


def origins(text: str) -> tuple[str, ...]:
    env = Environment({"CORS_ORIGINS": text})
    read = read_origins(env)
    env.finish()
    return read


def test_origins_are_exact() -> None:
    assert origins("") == ()
    assert origins(" https://a.b , http://[::1]:81,") == ("https://a.b", "http://[::1]:81")
    others = ("http://a.b:443", "https://xn--bcher-kva.test:8443", "app://a_b", "http://localhost:3000")
    assert origins(",".join(others)) == others


@pytest.mark.parametrize(
    "text",
    [
        "*",
        "https://*.a.b",
        "null",
        "a.b",
        "https://a.b/",
        "https://A.b",
        "https://a.b:443",
        "https://u@a.b",
        "https://a.b:x",
        "https://a.b:65536",
        "https://a.b:081",
        "https://bücher.test",
        "https://a b",
        "https://",
    ],
)
def test_what_no_browser_would_send_is_a_fault(text: str) -> None:
    with pytest.raises(SettingsError, match="is no origin"):
        origins(f"https://good.test,{text}")

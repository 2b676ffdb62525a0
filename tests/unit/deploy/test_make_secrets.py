"""The secrets of a compose deployment: made once, each where its owner alone finds it."""

import base64
import hmac
from pathlib import Path

import pytest

from deploy.make_secrets import ROLES, USERS, main
from deploy.scram import scram_verifier
from shared.messaging.nkey import UserKey


def files(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(autouse=True)
def no_password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("POSTGRES_PASSWORD", raising=False)


def test_each_party_finds_its_own_and_nothing_else(tmp_path: Path) -> None:
    main(tmp_path)
    made = files(tmp_path)
    assert made.keys() == {
        *(f"{role}/pgpass" for role in ROLES),
        *(f"{user}/nats.seed" for user in USERS),
        *(f"postgres/{name}" for name in ("password", "pgpass", "roles.env")),
        "nats/users.env",
    }
    secrets = {f"{role}/pgpass": made[f"{role}/pgpass"].strip().rpartition(":")[2] for role in ROLES}
    secrets |= {f"{user}/nats.seed": made[f"{user}/nats.seed"].strip() for user in USERS}
    secrets["postgres/password"] = made["postgres/password"]
    assert len(set(secrets.values())) == len(secrets)
    for place, secret in secrets.items():
        elsewhere = [name for name, content in made.items() if secret in content and name != place]
        assert elsewhere == (["postgres/pgpass"] if place == "postgres/password" else []), place
    for user in USERS:
        assert f"NATS_{user.upper()}_NKEY={UserKey(secrets[f'{user}/nats.seed']).public}\n" in made["nats/users.env"]
    assert all(path.stat().st_mode & 0o077 == 0 for path in tmp_path.rglob("*"))


def test_what_was_made_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POSTGRES_PASSWORD", "a:b\\c")
    main(tmp_path)
    before = files(tmp_path)
    assert before["postgres/password"] == "a:b\\c"
    assert before["postgres/pgpass"] == "*:*:*:runroom:a\\:b\\\\c\n"
    monkeypatch.setenv("POSTGRES_PASSWORD", "another")
    main(tmp_path)
    after = files(tmp_path)
    # Another salt each time, and the same passwords.
    before.pop("postgres/roles.env")
    after.pop("postgres/roles.env")
    assert after == before


def test_a_verifier_holds_the_keys_of_the_standard() -> None:
    """The example of RFC 7677: its server signature, made with the server key in the verifier."""
    verifier = scram_verifier("pencil", base64.b64decode("W22ZaJ0SNY7soEsUEjb6gQ=="))
    _, parameters, keys = verifier.split("$")
    assert parameters == "4096:W22ZaJ0SNY7soEsUEjb6gQ=="
    nonce = "rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0"
    told = f"n=user,r=rOprNGfwEbeRWgbNEkqO,r={nonce},s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096,c=biws,r={nonce}"
    signature = hmac.digest(base64.b64decode(keys.split(":")[1]), told.encode(), "sha256")
    assert base64.b64encode(signature) == b"6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="


@pytest.mark.parametrize("password", ["", "pass\u00adword", "pässword", "a\nb", "a\rb", "a\0b"])
def test_no_verifier_is_made_of_what_would_have_to_be_normalized(password: str) -> None:
    with pytest.raises(ValueError, match="printable ASCII"):
        scram_verifier(password)


def test_a_password_of_ones_own_is_read_as_libpq_reads_it(tmp_path: Path) -> None:
    main(tmp_path)
    (tmp_path / "command" / "pgpass").write_text("*:*:*:runroom_command:a\\:b\\\\c d\n")
    main(tmp_path)
    _, made = (tmp_path / "postgres" / "roles.env").read_text().split("RUNROOM_COMMAND_VERIFIER='")
    salt = base64.b64decode(made.split("$")[1].split(":")[1])
    assert made.split("'")[0] == scram_verifier("a:b\\c d", salt)


@pytest.mark.parametrize("line", ["", "secret", "*:*:*:runroom_command:", "*:*:*:*:a:b", "*:*:*:*:pässword"])
def test_a_file_with_no_password_that_can_be_used_is_named(tmp_path: Path, line: str) -> None:
    main(tmp_path)
    (tmp_path / "command" / "pgpass").write_text(line)
    with pytest.raises(SystemExit, match="command/pgpass: "):
        main(tmp_path)

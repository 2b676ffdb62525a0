"""Key sets: what is taken from them, and how they are followed as they change."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import math
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from litestar import Litestar
from litestar.testing import AsyncTestClient

from shared.http.auth import keys as keys_module
from shared.http.auth import sources as sources_module
from shared.http.auth.access import TokenAccess
from shared.http.auth.claims import Grant
from shared.http.auth.jwks import MOST_BYTES, JwksError, parse_jwks
from shared.http.auth.keys import JwksKeys, KeysAwayError, SecretKey
from shared.http.auth.sources import FileSource, UrlSource
from shared.http.auth.verifier import Policy, TokenRefusedError, Verifier
from shared.http.health import health_routes
from tests.support.certificates import Certificates
from tests.support.servers import REPOSITORY
from tests.support.tokens import SigningKey, claims, ed25519_key, hs256, jwks, rsa_key, signed

RSA, ED25519 = rsa_key("a"), ed25519_key("b")
ANYBODY = Policy(None, None, 0.0)


def key_set(*entries: Any) -> bytes:
    return json.dumps({"keys": entries}).encode()


def test_keys_are_used_with_one_algorithm_each() -> None:
    parsed = parse_jwks(jwks(RSA, ED25519))
    assert {kid: key.algorithm for kid, key in parsed.items()} == {"a": "RS256", "b": "EdDSA"}


@pytest.mark.parametrize(
    "changed",
    [
        {"use": "enc"}, {"key_ops": ["encrypt"]}, {"alg": "RS512"}, {"alg": "HS256"}, {"alg": "none"}, {"kty": "EC"},
        {"kid": None}, {"kid": ""}, {"kid": 1}, {"n": "AQAB"}, {"n": None}, {"n": 1}, {"n": "é"}, {"kty": ["RSA"]},
        {"kty": "oct", "k": "c2VjcmV0"}, {"key_ops": 5}, {"key_ops": True}, {"key_ops": "verify"},
        {"key_ops": {"verify": 1}}, {"e": "AA"}, {"alg": ["RS256"]}, {"use": {}},
    ],
)  # fmt: skip
def test_what_is_no_public_signature_key_is_left_alone(changed: dict[str, Any]) -> None:
    wrong = {name: value for name, value in (RSA.jwk | changed).items() if value is not None}
    assert parse_jwks(key_set(wrong, ED25519.jwk, "noise", None)).keys() == {"b"}


def test_use_and_algorithm_may_be_left_out() -> None:
    assert parse_jwks(key_set(RSA.jwk | {"use": None, "alg": None, "key_ops": None})).keys() == {"a"}
    bare = [{k: v for k, v in key.jwk.items() if k not in ("use", "alg")} for key in (RSA, ED25519)]
    assert parse_jwks(key_set(*bare)).keys() == {"a", "b"}


def test_a_short_key_is_left_alone() -> None:
    assert not parse_jwks(jwks(rsa_key("short", 1024)))


FIELD = 2**255 - 19


@pytest.mark.parametrize("sign", [0, 1 << 255], ids=["even", "odd"])
@pytest.mark.parametrize(
    "y",
    [
        0, 1, FIELD - 1, FIELD, FIELD + 1,
        0x05FC536D880238B13933C6D305ACDFD5F098EFF289F4C345B027B2C28F95E826,
        FIELD - 0x05FC536D880238B13933C6D305ACDFD5F098EFF289F4C345B027B2C28F95E826,
    ],
    ids=["0", "1", "-1", "p", "p + 1", "of order 8", "its negative"],
)  # fmt: skip
def test_a_key_that_anybody_can_sign_for_is_left_alone(y: int, sign: int) -> None:
    point = (y | sign).to_bytes(32, "little")
    key = Ed25519PublicKey.from_public_bytes(point)
    forged = 0
    for message in range(64):
        with contextlib.suppress(InvalidSignature):
            key.verify(b"\1" + bytes(63), b"%d" % message)  # the neutral element, and 0: nobody's private key
            forged += 1
    assert forged
    weak = ED25519.jwk | {"kid": "weak", "x": base64.urlsafe_b64encode(point).rstrip(b"=").decode()}
    assert parse_jwks(key_set(weak, ED25519.jwk)).keys() == {"b"}


def test_of_two_keys_with_one_id_the_first_is_used() -> None:
    assert parse_jwks(key_set(RSA.jwk, ED25519.jwk | {"kid": "a"}))["a"].algorithm == "RS256"


@pytest.mark.parametrize("raw", [b"", b"x", b"[]", b"{}", b'{"keys": {}}', b"\xff", b"[" * 5000])
def test_what_is_no_key_set_is_said_to_be_none(raw: bytes) -> None:
    with pytest.raises(JwksError):
        parse_jwks(raw)


class Server:
    """A real HTTP server with a document that changes."""

    def __init__(self) -> None:
        self.document = b""
        self.status = 200
        self.requests = 0
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.requests += 1
                self.send_response(outer.status)
                self.send_header("location", "/elsewhere")
                self.send_header("content-length", str(len(outer.document)))
                self.end_headers()
                self.wfile.write(outer.document)

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}/jwks.json"
        self._thread = threading.Thread(target=self.http.serve_forever, daemon=True)
        self._thread.start()

    def speak_tls(self, context: ssl.SSLContext) -> None:
        self.http.socket = context.wrap_socket(self.http.socket, server_side=True)
        self.url = self.url.replace("http:", "https:")

    def stop(self) -> None:
        self.http.shutdown()
        self.http.server_close()
        self._thread.join()


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    yield server
    server.stop()


def following(source: FileSource | UrlSource, least_seconds: float = 0.0) -> JwksKeys:
    source.least_seconds = least_seconds  # type: ignore[misc]
    return JwksKeys(source)


async def accepted(verifier: Verifier, key: SigningKey) -> bool:
    try:
        return isinstance(await verifier.verify(signed(key, claims()).encode()), Grant)
    except TokenRefusedError:
        return False


async def test_a_url_is_followed_as_keys_come_and_go(server: Server) -> None:
    server.document = jwks(RSA)
    verifier = Verifier(following(UrlSource(server.url)), ANYBODY)
    old = signed(RSA, claims()).encode()
    assert await verifier.verify(old)
    assert not await accepted(verifier, ED25519)

    server.document = jwks(RSA, ED25519)
    assert await accepted(verifier, ED25519)
    assert await verifier.verify(old)

    server.document = jwks(ED25519)
    assert not await accepted(verifier, rsa_key("new"))  # which had it looked at again
    with pytest.raises(TokenRefusedError, match="not known here"):
        await verifier.verify(old)
    assert await accepted(verifier, ED25519)


async def test_a_file_is_followed_as_keys_come_and_go(tmp_path: Path) -> None:
    file = tmp_path / "jwks.json"
    file.write_bytes(jwks(RSA))
    verifier = Verifier(following(FileSource(str(file))), ANYBODY)
    assert await accepted(verifier, RSA)
    (tmp_path / "new").write_bytes(jwks(ED25519))
    (tmp_path / "new").replace(file)
    assert await accepted(verifier, ED25519)
    assert not await accepted(verifier, RSA)
    file.write_bytes(b"half of it")
    assert not await accepted(verifier, RSA)
    assert await accepted(verifier, ED25519)


async def test_forged_key_ids_are_asked_about_no_more_than_now_and_then(server: Server) -> None:
    server.document = jwks(RSA)
    verifier = Verifier(following(UrlSource(server.url), least_seconds=3600), ANYBODY)
    assert await accepted(verifier, RSA)
    for n in range(50):
        assert not await accepted(verifier, ED25519._replace(kid=f"forged-{n}"))
    assert server.requests == 1


async def test_while_the_url_is_away_the_last_keys_go_on_for_a_while(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.document = jwks(RSA)
    keys = following(UrlSource(server.url))
    verifier = Verifier(keys, ANYBODY)
    token = signed(RSA, claims()).encode()
    assert await verifier.verify(token)
    for server.status, server.document in (
        (500, jwks(RSA)),
        (302, b""),
        (200, b"noise"),
        (200, b"x" * (MOST_BYTES + 1)),
    ):
        await keys.look_again()
        assert await verifier.verify(token)
    server.status, server.document = 200, jwks(RSA)
    monkeypatch.setattr(keys_module, "MOST_STALE_SECONDS", 0.2)
    await keys.look_again()
    server.status = 500
    async with asyncio.timeout(5):
        while keys.has_any:
            await asyncio.sleep(0.02)
    with pytest.raises(KeysAwayError):
        await verifier.verify(token)
    server.status = 200
    assert await verifier.verify(token)


@contextlib.contextmanager
def swallowing() -> Iterator[str]:
    """The URL of a server that never takes a connection, and says nothing about it."""
    with contextlib.ExitStack() as open_:
        listening = open_.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        port = listening.getsockname()[1]
        for _ in range(4):  # of which the kernel takes one or two, and then no more
            waiting = open_.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(("127.0.0.1", port))
        yield f"http://127.0.0.1:{port}/"


async def test_keys_are_given_up_while_their_source_hangs(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keys_module, "MOST_STALE_SECONDS", 0.5)
    monkeypatch.setattr(sources_module, "_SILENT_SECONDS", 60.0)
    server.document = jwks(RSA)
    source = UrlSource(server.url)
    keys = following(source)
    await keys.look_again()
    before = keys.generation
    with swallowing() as url:
        monkeypatch.setattr(source, "_url", url)
        asking = asyncio.create_task(keys.look_again())
        async with asyncio.timeout(4):  # less than an answer is waited for
            while keys.has_any:
                await asyncio.sleep(0.02)
        assert not asking.done()
        assert keys.generation != before
        with pytest.raises(KeysAwayError):
            keys.find(RSA.kid)
        asking.cancel()


async def test_who_takes_no_connection_is_waited_for_once_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources_module, "_WHOLE_SECONDS", 0.2)
    monkeypatch.setattr(sources_module, "_SILENT_SECONDS", 60.0)
    with swallowing() as url:
        source = UrlSource(url)
        for said in ("not complete", "still under way", "still under way"):
            async with asyncio.timeout(5):
                with pytest.raises(TimeoutError, match=said):
                    await source.read()


ENDING = """
import asyncio, sys
from shared.http.auth import sources
sources._WHOLE_SECONDS, sources._SILENT_SECONDS = 0.2, 60.0

async def main():
    try:
        await sources.UrlSource(sys.argv[1]).read()
    except TimeoutError:
        print("not waited for", flush=True)

asyncio.run(main())
"""


async def test_a_process_ends_whatever_its_source_does() -> None:
    with swallowing() as url:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", ENDING, url, cwd=REPOSITORY, stdout=subprocess.PIPE
        )
        try:
            async with asyncio.timeout(20):
                said, _ = await process.communicate()
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
    assert (process.returncode, said) == (0, b"not waited for\n")


async def test_without_any_keys_there_is_no_telling(server: Server) -> None:
    server.status = 503
    keys = following(UrlSource(server.url))
    verifier = Verifier(keys, ANYBODY)
    for _ in range(2):
        with pytest.raises(KeysAwayError):
            await verifier.verify(signed(RSA, claims()).encode())
    assert not keys.has_any
    server.status, server.document = 200, jwks(RSA)
    assert await accepted(verifier, RSA)
    assert keys.has_any


@pytest.mark.parametrize(
    ("scheme", "said", "again"),
    [
        ("http", b"HTTP/1.1 200 O", b"K"),
        ("http", b"HTTP/1.1 200 OK\r\nX-A: a", b"a"),
        ("http", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0", b"0"),
        ("http", b"HTTP/1.1 200 OK\r\nContent-Length: 9999\r\n\r\n{", b" "),
        ("http", b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
        ("https", b"\x16\x03\x03\x40\x00\x02\x00\x3f\xfc", b"\x00"),
        ("proxy", b"HTTP/1.1 200 OK\r\n", b"x: y\r\n"),
    ],
    ids=["status", "header", "chunk size", "body", "interim answers", "handshake", "proxy"],
)
async def test_who_dribbles_keys_is_not_waited_for(
    scheme: str, said: bytes, again: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sources_module, "_WHOLE_SECONDS", 0.5)
    monkeypatch.setattr(sources_module, "_SILENT_SECONDS", 60.0)

    async def dribble(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            writer.write(said)
            for _ in range(200):
                writer.write(again)
                await writer.drain()
                await asyncio.sleep(0.05)
        writer.close()

    async with await asyncio.start_server(dribble, "127.0.0.1", 0) as http:
        address = f"127.0.0.1:{http.sockets[0].getsockname()[1]}"
        if scheme == "proxy":
            monkeypatch.setenv("HTTPS_PROXY", f"http://{address}")
        source = UrlSource("https://issuer.test/" if scheme == "proxy" else f"{scheme}://{address}/")
        async with asyncio.timeout(5):
            with pytest.raises((OSError, JwksError)):
                await source.read()
            while any(thread.name == "token keys" for thread in threading.enumerate()):
                await asyncio.sleep(0.02)


async def test_keys_come_over_tls_from_who_can_prove_who_it_is(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    certificates = Certificates(tmp_path)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificates.server, certificates.server_key)
    server.speak_tls(context)
    source = UrlSource(server.url)
    with pytest.raises(OSError, match="CERTIFICATE_VERIFY_FAILED"):
        await source.read()
    monkeypatch.setenv("SSL_CERT_FILE", str(certificates.authority))
    server.document = jwks(RSA)
    assert await source.read() == server.document


@pytest.mark.parametrize("url", ["http://127.0.0.1:1/päth", "http://a..b/", f"http://{'a' * 64}.test/", "http://h/a b"])
async def test_a_url_that_cannot_be_asked_is_a_source_that_is_away(url: str) -> None:
    keys = following(UrlSource(url))
    await keys.look_again()
    with pytest.raises(KeysAwayError):
        keys.find("a")


async def test_an_empty_set_accepts_nothing_and_is_no_outage(server: Server) -> None:
    server.document = key_set()
    verifier = Verifier(following(UrlSource(server.url)), ANYBODY)
    assert not await accepted(verifier, RSA)


async def readiness(access: TokenAccess) -> tuple[int, dict[str, str]]:
    async with AsyncTestClient(Litestar(health_routes(access.checks), openapi_config=None)) as client:
        answer = await client.get("/readyz")
        return answer.status_code, answer.json()["dependencies"]["token_keys"]


async def test_without_a_usable_key_a_service_is_not_ready(server: Server) -> None:
    keys = following(UrlSource(server.url))
    access = TokenAccess(keys, ANYBODY)
    assert await readiness(access) == (503, {"status": "failed", "detail": "KeysAwayError"})
    for server.document in (key_set(), key_set(RSA.jwk | {"use": "enc"})):
        await keys.look_again()
        assert await readiness(access) == (503, {"status": "failed", "detail": "NoUsableKeyError"})
    server.document = jwks(RSA)
    await keys.look_again()
    assert await readiness(access) == (200, {"status": "ok", "detail": "known"})


async def test_a_set_without_a_usable_key_is_soon_asked_for_again(server: Server) -> None:
    """Whoever is not ready is sent no token that would make it look."""
    server.document = key_set()
    keys = following(UrlSource(server.url), least_seconds=0.01)
    running = asyncio.create_task(keys.run())
    try:
        async with asyncio.timeout(10):
            while not keys.generation:
                await asyncio.sleep(0.01)
            server.document = jwks(RSA)
            while not keys.has_any:
                await asyncio.sleep(0.01)
    finally:
        running.cancel()


SECRET = b"s" * 32


async def test_what_is_remembered_is_forgotten_when_it_expires(monkeypatch: pytest.MonkeyPatch) -> None:
    verifier = Verifier(SecretKey(SECRET), Policy(None, None, 5.0))
    payload = claims()
    token = hs256(SECRET, payload).encode()
    grant = await verifier.verify(token)
    assert await verifier.verify(token) is grant
    for now, is_good in ((payload["exp"] + 4.9, True), (payload["exp"] + 5.0, False)):
        monkeypatch.setattr("shared.http.auth.verifier.time.time", lambda now=now: now)
        if is_good:
            assert await verifier.verify(token) is grant
        else:
            monkeypatch.undo()
            monkeypatch.setattr("shared.http.auth.verifier._is_over", lambda *_: True)
            with pytest.raises(TokenRefusedError, match="has expired"):
                await verifier.verify(token)


async def test_only_so_many_are_remembered() -> None:
    verifier = Verifier(SecretKey(SECRET), ANYBODY, most_remembered=2)
    tokens = [hs256(SECRET, claims(sub=name)).encode() for name in "abc"]
    first, second, _ = [await verifier.verify(token) for token in tokens]
    assert await verifier.verify(tokens[1]) is second
    assert await verifier.verify(tokens[0]) == first
    assert await verifier.verify(tokens[0]) is not first


async def test_only_so_much_is_remembered() -> None:
    """Of tokens that an issuer has filled with rooms, there are few."""
    verifier = Verifier(SecretKey(SECRET), ANYBODY)
    rooms = [f"{n:x}" for n in range(700)]
    tokens = [hs256(SECRET, claims(sub=f"s{n}", rooms=rooms)).encode() for n in range(300)]
    grants = [await verifier.verify(token) for token in tokens]
    remembered = [n for n, token in reversed([*enumerate(tokens)]) if await verifier.verify(token) is grants[n]]
    assert 150 < len(remembered) < 250
    small = [hs256(SECRET, claims(sub=f"t{n}")).encode() for n in range(200)]
    kept = [await verifier.verify(token) for token in small]
    assert all([await verifier.verify(token) is grant for token, grant in zip(small, kept, strict=True)])


async def test_scopes_that_mean_nothing_here_are_not_kept() -> None:
    verifier = Verifier(SecretKey(SECRET), ANYBODY)
    many = " ".join(f"s{n}" for n in range(1000))
    grant = await verifier.verify(hs256(SECRET, claims(scope=f"{many} runs:read runs:reads")).encode())
    assert grant.scopes == {"runs:read"}


@pytest.mark.parametrize("padding", ["=", "=="])
async def test_a_padded_token_is_none(padding: str) -> None:
    """A cookie would hold it in quotes, and be good for nothing."""
    with pytest.raises(TokenRefusedError, match="no JSON Web Token"):
        await Verifier(SecretKey(SECRET), ANYBODY).verify(f"{hs256(SECRET, claims())}{padding}".encode())


@pytest.mark.parametrize("jti", [None, 7, "id"])
async def test_what_nobody_asks_for_may_be_anything(jti: Any) -> None:
    assert await Verifier(SecretKey(SECRET), ANYBODY).verify(hs256(SECRET, claims() | {"jti": jti}).encode())


async def test_a_token_ends_within_a_second_for_whoever_has_not_seen_it_before() -> None:
    verifier = Verifier(SecretKey(SECRET), Policy(None, None, 0.0))
    expires_at = math.floor(time.time()) + 0.999
    while (now := time.time()) < expires_at - 0.9:
        await asyncio.sleep(expires_at - 0.9 - now)
    assert await verifier.verify(hs256(SECRET, claims(exp=expires_at)).encode())


@pytest.mark.parametrize("name", ["EdDSA", "Ed25519"])
async def test_an_algorithm_has_two_names(server: Server, name: str) -> None:
    server.document = key_set(ED25519.jwk | {"alg": name})
    verifier = Verifier(following(UrlSource(server.url)), ANYBODY)
    for algorithm in ("EdDSA", "Ed25519"):
        token = jwt.encode(claims(), ED25519.private, algorithm, {"kid": "b"})
        assert await verifier.verify(token.encode())


async def test_what_was_refused_is_not_remembered() -> None:
    verifier = Verifier(SecretKey(SECRET), ANYBODY)
    for _ in range(2):
        with pytest.raises(TokenRefusedError, match="signature"):
            await verifier.verify(hs256(b"t" * 32, claims()).encode())
    assert await verifier.verify(hs256(SECRET, claims()).encode())


@pytest.mark.parametrize("audience", ["other", ["other"], "", [], {}, 0, False])
async def test_a_token_for_an_audience_is_for_nobody_where_none_is_set(audience: Any) -> None:
    verifier = Verifier(SecretKey(SECRET), ANYBODY)
    with pytest.raises(TokenRefusedError, match="not for this service"):
        await verifier.verify(hs256(SECRET, claims(aud=audience)).encode())


async def test_an_audience_that_is_null_is_none() -> None:
    verifier = Verifier(SecretKey(SECRET), ANYBODY)
    assert await verifier.verify(hs256(SECRET, claims() | {"aud": None}).encode())


@pytest.mark.parametrize("claim", ["nbf", "iat"])
async def test_a_token_is_good_from_its_start_on(claim: str) -> None:
    verifier = Verifier(SecretKey(SECRET), Policy(None, None, 5.0))
    now = time.time()
    for start in (now + 3, now - 3.5, 0):
        assert await verifier.verify(hs256(SECRET, claims(**{claim: start})).encode())
    with pytest.raises(TokenRefusedError, match="not valid yet"):
        await verifier.verify(hs256(SECRET, claims(**{claim: now + 60})).encode())
    for wrong in (str(int(now)), True, False, [0], float("nan"), float("inf")):
        with pytest.raises(TokenRefusedError, match=f"{claim}: expected seconds"):
            await verifier.verify(hs256(SECRET, claims(**{claim: wrong})).encode())

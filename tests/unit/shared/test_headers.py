"""Headers of messages, as the broker sends them and as nobody should."""

import pytest

from shared.messaging.client import parse_headers


@pytest.mark.parametrize(
    ("raw", "headers"),
    [
        (b"", {}),
        (b"\r\n", {}),
        (b"NATS/1.0\r\n\r\n", {}),
        (b"NATS/1.0\r\nRunroom-Stream-Seq: 7\r\nA:b:c\r\n\r\n", {"Runroom-Stream-Seq": "7", "A": "b:c"}),
        (b"NATS/1.0\r\nName:\t value \r\nno colon\r\nEmpty:\r\n\r\n", {"Name": "value", "Empty": ""}),
        ("NATS/1.0\r\nCaf\u00e9: \u00e9\r\n\r\n".encode(), {"Caf\u00e9": "\u00e9"}),
        (b"NATS/1.0\r\nName: \xff\r\n\r\n", {"Name": "\ufffd"}),
        (b"Name: first line\r\n\r\n", {}),
        (b"NATS/1.0\r\nName: \x1cvalue\x0b\r\n\r\n", {"Name": "\x1cvalue\x0b"}),
    ],
)
def test_lines_are_headers(raw: bytes, headers: dict[str, str]) -> None:
    assert parse_headers(raw) == headers

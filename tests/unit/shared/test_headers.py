"""Headers of messages, as the broker sends them and as nobody should."""

import pytest

from shared.messaging.client import parse_headers


@pytest.mark.parametrize(
    ("raw", "headers"),
    [
        (b"", {}),
        (b"\r\n", {}),
        (b"Runroom-Stream-Seq: 7\r\nNats-Msg-Id:a:b\r\n\r\n", {"Runroom-Stream-Seq": "7", "Nats-Msg-Id": "a:b"}),
        (b"Name:\t value \r\nno colon\r\nEmpty:\r\n", {"Name": "value", "Empty": ""}),
        ("Caf\u00e9: \u00e9".encode(), {"Caf\u00e9": "\u00e9"}),
        (b"Name: \xff", {"Name": "\ufffd"}),
    ],
)
def test_lines_are_headers(raw: bytes, headers: dict[str, str]) -> None:
    assert parse_headers(raw) == headers

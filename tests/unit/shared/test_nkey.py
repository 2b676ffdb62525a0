"""Keys of NATS users, as other implementations write and sign them."""

import base64

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from shared.messaging.nkey import NkeyError, UserKey, new_seed

# From the documentation of NATS.
SEED = "SUACSSL3UAHUDXKFSNVUZRF5UHPMWZ6BFDTJ7M6USDXIEDNPPQYYYCU3VY"
PUBLIC = "UDXU4RCSJNZOIQHZNWXHXORDPRTGNJAHAHFRGZNEEJCPQTT2M7NLCNF4"
ACCOUNT_SEED = "SAANDLKMXL6CUS3CP52WIXBEDN6YJ545GDKC65U5JZPPV6WH6ESWUA6YAI"


def test_a_seed_has_the_public_key_that_others_say() -> None:
    assert UserKey(f"{SEED}\n").public == PUBLIC


def test_a_nonce_is_signed_with_the_key() -> None:
    seed = new_seed()
    key = UserKey(seed)
    raw = base64.b32decode(key.public)[1:33]
    Ed25519PublicKey.from_public_bytes(raw).verify(base64.b64decode(key.sign("nonce")), b"nonce")
    assert new_seed() != seed


@pytest.mark.parametrize(
    "text", ["", "SU", PUBLIC, ACCOUNT_SEED, SEED.replace("CSSL", "CSSM"), SEED.lower(), "not a seed at all"]
)
def test_what_is_no_seed_of_a_user_is_not_quoted(text: str) -> None:
    with pytest.raises(NkeyError) as caught:
        UserKey(text)
    assert not text or text not in str(caught.value)

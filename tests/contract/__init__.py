"""The contract, executable: black-box tests of any deployment of Runroom, given two base URLs.

Nothing in this folder imports `services` or `shared`. What it knows, it knows from `docs/contract.md`.
"""

import pytest

pytest.register_assert_rewrite(*(f"{__name__}.{module}" for module in ("client", "expect", "sse")))

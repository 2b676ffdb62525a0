"""What this build is: its version, and the revision it was made of."""

import os

VERSION = "0.1.0"
"""As in ``pyproject.toml``; the tests compare them."""

REVISION = os.environ.get("BUILD_REVISION", "").strip() or "unknown"
"""The commit, where the image was told of it (``docker build --build-arg REVISION=…``)."""

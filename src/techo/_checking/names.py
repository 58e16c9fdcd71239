"""The names of all checks, for who completes or skips them and need not import the checks."""

from __future__ import annotations

from typing import Final

CHECK_NAMES: Final = (
    "empty",
    "1-byte",
    "1460-bytes",
    "64-KiB",
    "1-MiB",
    "16-MiB",
    "byte-values",
    "stamp-like",
    "goes-on",
    "message-bounds",
    "half-close",
    "clean-close",
    "back-pressure",
    "many-at-once",
    "largest",
    "reply-address",
    "one-reply",
)
"""All that can be skipped: of streams, in their order, then what only datagrams have."""

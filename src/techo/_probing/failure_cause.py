"""The causes of failures; without trio, because the command line's help names them."""

from __future__ import annotations

import enum
from typing import Final


class FailureCause(enum.StrEnum):
    """Why a message has not come back as it was sent."""

    DNS = "dns"
    """The name is unknown, or its look-up took too long."""
    REFUSED = "refused"
    """Nobody listens there."""
    UNREACHABLE = "unreachable"
    """There is no way there."""
    TTL_EXCEEDED = "ttl-exceeded"
    """Its TTL ran out on the way."""
    TOO_LARGE = "too-large"
    """It is larger than a packet may be on the way, and may not be cut."""
    TIMEOUT_CONNECT = "timeout-connect"
    """Connecting, TLS handshake included, took too long."""
    TLS = "tls"
    """TLS failed: no certificate that we trust, no TLS at all."""
    TIMEOUT_REPLY = "timeout-reply"
    """No reply in time."""
    RESET = "reset"
    """The connection broke."""
    EOF = "eof"
    """The server ended the connection before any of the reply had come."""
    SHORT = "short"
    """It ended in mid-reply, or a message came back cut."""
    CORRUPT = "corrupt"
    """Something else came back than was sent."""
    LOCAL = "local"
    """This machine lacks descriptors, ports or memory, or does not permit it: that says nothing
    about the server."""


NEVER_REACHED: Final = frozenset(
    {
        FailureCause.DNS,
        FailureCause.REFUSED,
        FailureCause.UNREACHABLE,
        FailureCause.TTL_EXCEEDED,
        FailureCause.TOO_LARGE,
        FailureCause.TIMEOUT_CONNECT,
        FailureCause.TLS,
        FailureCause.LOCAL,
    }
)
"""Causes after which nobody could answer."""

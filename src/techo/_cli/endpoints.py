"""Endpoints as arguments: how they are read, and what is said of what is none."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Sequence

import attrs

from techo._cli.commands import COMMANDS
from techo._printable import did_you_mean, quoted
from techo.endpoint import (
    DEFAULT_HOST,
    DEFAULT_PORT,
    EVERY_INTERFACE,
    Endpoint,
    check_connectable,
)


def read_listening(text: str) -> Endpoint:
    """Read where to listen; a bare word is a command or a mistake, but for localhost.

    Raises:
        ValueError: the text has the value and what would be right.
    """
    if text in COMMANDS:
        raise ValueError(f"a command comes first, as in techo {text}")
    bare = text.replace("-", "").replace("_", "")
    if bare.isalpha() and text.lower() != "localhost":
        near = did_you_mean(text.lower(), COMMANDS)
        host = f"; write {text}:{DEFAULT_PORT}, if it is a host"
        raise ValueError(f"{quoted(text)} is neither a command nor an endpoint{near or host}")
    return Endpoint.parse(text)


def check_ports(texts: Sequence[str]) -> None:
    """Refuse a host that a port follows as an argument of its own.

    Raises:
        ValueError: the text has both, and how to write them as one.
    """
    for host, port in itertools.pairwise(texts):
        joined = f"{host}:{port}"
        alone = host.rpartition("/")[2]  # if it is a port, as in udp://9000
        if port.isdecimal() and not alone.isdecimal() and _is_endpoint(host, joined):
            raise ValueError(
                f"{quoted(host)} and {quoted(port)} are two endpoints; write {joined}"
            )


def _is_endpoint(host: str, joined: str) -> bool:
    with contextlib.suppress(ValueError):
        return bool(Endpoint.parse(host).host and Endpoint.parse(joined).host)
    return False


def read_variable(text: str) -> Endpoint:
    """Read a variable that servers may share: a client connects to the first that it can.

    Raises:
        ValueError: one is none, or all of them are for servers only.
    """
    words = text.split()
    check_ports(words)
    for each in [Endpoint.parse(word) for word in words]:
        # A server there listens on this machine's own address too.
        host = DEFAULT_HOST if each.host == EVERY_INTERFACE else each.host
        with contextlib.suppress(ValueError):
            return check_connectable(attrs.evolve(each, host=host), None, None, pinging=True)
    raise ValueError("none of these can be connected to; name host and port")

"""Targets: what is probed, an endpoint or a function that connects."""

from __future__ import annotations

import ssl
from collections.abc import Awaitable, Callable, Generator
from typing import Any, Final, TypeAlias

import attrs
import trio

from techo._embedded import transport_of
from techo._kernel.options import DEFAULT_OPTIONS, SocketOptions
from techo._probing.causes import cause_of, words_of
from techo._probing.failure_cause import FailureCause
from techo._probing.trip import Ending
from techo._raw.transports import maker_for
from techo._transport.connect import Connected, ConnectTimes, Dial, Step, shake_hands
from techo.endpoint import Endpoint, Kind, check_connectable

Connect: TypeAlias = Callable[[], Awaitable[trio.abc.Stream]]
"""An async function that connects."""

Target: TypeAlias = Endpoint | str | Connect

_CONNECTIONS: Final = frozenset({Kind.TCP, Kind.TLS, Kind.MPTCP, Kind.UNIX, Kind.UNIXPACKET})
"""Where connecting shows whether a server is there."""


@attrs.define(eq=False)
class Call:
    """One call of a function that connects, to be awaited as a `Dial` is."""

    function: Connect
    step: Step = attrs.field(default=Step.CONNECT, init=False)

    def __await__(self) -> Generator[Any, Any, Connected]:
        return self._connect().__await__()

    async def _connect(self) -> Connected:
        """Connect; the function may look up a name, and do TLS, by itself."""
        started = trio.current_time()
        transport = transport_of(await self.function())
        if not transport.handshake_done:
            self.step = Step.HANDSHAKE
            await shake_hands(transport)
        return Connected(transport, ConnectTimes(None, trio.current_time() - started, None))


async def attempt(dial: Dial | Call, seconds: float) -> Connected | Ending:
    """Connect within `seconds`; return the connection, or why there is none.

    Raises:
        Exception: what a function of the user's raised, other than the network's errors.
    """
    try:
        with trio.fail_after(seconds):
            return await dial
    except trio.TooSlowError:
        cause, what = FailureCause.TIMEOUT_CONNECT, "connection"
        if dial.step is Step.LOOKUP:
            cause, what = FailureCause.DNS, "look-up"
        return Ending(cause, f"no {what} within {seconds:g} s")
    except (OSError, trio.BrokenResourceError) as error:
        return Ending(cause_of(error), words_of(error), error)


Opener: TypeAlias = Callable[[], Dial | Call]
"""Returns the next attempt to connect: `await opener()` connects."""


def opener_of(
    target: Target,
    tls: ssl.SSLContext | None = None,
    server_name: str | None = None,
    options: SocketOptions = DEFAULT_OPTIONS,
    connections: int = 1,
    *,
    pinging: bool = False,
    find: Callable[..., Awaitable[list[Any]]] | None = None,
) -> Opener:
    """Return what opens `connections` to `target`; a name is looked up each time.

    `find` does that, in place of `look_up` of `_shortage`.

    Raises:
        ValueError: as `check_connectable`; a function that connects does its own TLS, and
            opens its own sockets, and not all `options` fit all endpoints.
        TypeError: `target` is neither an endpoint nor a function.
    """
    found = check_target(target, tls, server_name, options, connections, pinging=pinging)
    if not isinstance(found, Endpoint):
        return lambda: Call(found)
    if found.kind is Kind.TLS and tls is None:
        tls = ssl.create_default_context()  # once, because it reads many files
    return lambda: Dial(found, tls, server_name, options, maker_for(found), find)


def check_target(
    target: Target,
    tls: ssl.SSLContext | None = None,
    server_name: str | None = None,
    options: SocketOptions = DEFAULT_OPTIONS,
    connections: int = 1,
    *,
    pinging: bool = False,
) -> Endpoint | Connect:
    """Return `target`, an endpoint's text read, if it can be connected to like that.

    Raises:
        ValueError: see `opener_of`.
        TypeError: likewise.
    """
    if isinstance(target, Endpoint | str):
        endpoint = check_connectable(target, tls, server_name, pinging=pinging)
        options.check(endpoint, connections)
        return endpoint
    if not callable(target):
        raise TypeError(
            f"target {target!r} is no endpoint, as in 'tcp://127.0.0.1:8009', and no async "
            "function that connects"
        )
    if tls is not None or server_name is not None:
        raise ValueError(f"{name_of(target)} takes neither tls nor server_name")
    options.check(None)
    return target


def check_connecting(target: Target) -> None:
    """Refuse to connect, and no more, to what there are no connections to.

    Raises:
        ValueError: connecting to it would show nothing.
    """
    if isinstance(target, Endpoint) and target.kind not in _CONNECTIONS:
        raise ValueError(f"connecting to {target} shows nothing: it has no connections")


def name_of(target: Target) -> str:
    """Return what reports call `target`."""
    if isinstance(target, str):
        target = Endpoint.parse(target)
    return str(target) if isinstance(target, Endpoint) else "a function that connects"

"""Targets: what a proxy passes everything on to, an endpoint or a function that connects."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias

import attrs
import trio

from techo._embedded import transport_of
from techo._faults.values import DATAGRAMS
from techo._nursery import first_of
from techo._transport.connect import connect
from techo._transport.transport import Transport
from techo.endpoint import Endpoint, Kind, check_connectable

Connect: TypeAlias = Callable[[], Awaitable[trio.abc.Stream]]
"""An async function that connects and returns the stream, such as `MemoryServer.connect`."""


class UnreachableError(Exception):
    """A target could not be reached; the text says why."""


@attrs.frozen
class Target:
    """Where the connections of a proxy lead to."""

    place: Endpoint | Connect

    @classmethod
    def of(cls, target: Endpoint | str | Connect) -> Target:
        """Return the target that is meant.

        Raises:
            ValueError: it is neither an endpoint, nor its text, nor a function; or it is an
                endpoint that a proxy cannot connect to.
        """
        if not isinstance(target, Endpoint | str):
            if not callable(target):
                raise ValueError(  # noqa: TRY004  -- as every value that is refused
                    f"target {target!r:.99} is not an endpoint, its text or an async function "
                    "that connects"
                )
            return cls(target)
        endpoint = check_connectable(target, None, None)
        if endpoint.kind is Kind.TLS:
            raise ValueError(
                f"target {endpoint}: a proxy passes TLS through untouched; write "
                f"tcp{str(endpoint).removeprefix('tls')}"
            )
        return cls(endpoint)

    @property
    def datagrams(self) -> bool:
        """Whether there are no connections to it."""
        return self.transport in DATAGRAMS

    @property
    def transport(self) -> str:
        """The name of its kind of transport, as faults have it."""
        return self.place.kind if isinstance(self.place, Endpoint) else "memory"

    def __str__(self) -> str:
        if isinstance(self.place, Endpoint):
            return str(self.place)
        return getattr(self.place, "__qualname__", type(self.place).__name__)

    async def connect(self) -> Transport:
        """Return a new connection, which is the caller's to close.

        Raises:
            UnreachableError: there is none; the text says why.
            Exception: whatever a function raises besides `OSError` and trio's errors.
        """
        try:
            if isinstance(self.place, Endpoint):
                return (await connect(self.place)).transport
            transport = transport_of(await _stream_of(self.place))
            try:
                await transport.handshake()
            except BaseException:
                await trio.aclose_forcefully(transport)  # noqa: ASYNC102  -- waits for nothing
                raise
        except (OSError, trio.BrokenResourceError, trio.ClosedResourceError) as error:
            raise UnreachableError(_in_words(error)) from error
        return transport


async def _stream_of(function: Connect) -> trio.abc.Stream:
    made: Any = function()
    if not inspect.isawaitable(made):
        raise TypeError(f"the target {function!r:.99} is no async function")
    stream = await made
    if not isinstance(stream, trio.abc.Stream):
        raise TypeError(f"the target {function!r:.99} returned {stream!r:.99}, no trio stream")
    return stream


def _in_words(error: Exception) -> str:
    """Return what an error says, of several addresses the first."""
    if isinstance(error.__cause__, ExceptionGroup):
        error = first_of(error.__cause__)
    return (isinstance(error, OSError) and error.strerror) or str(error) or type(error).__name__

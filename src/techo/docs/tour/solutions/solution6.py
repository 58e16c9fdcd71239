"""Solution 6: closing is guarded too, and only an `Exception` stays: Cancelled is none."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeAlias

import trio

Handler: TypeAlias = Callable[[trio.abc.Stream], Awaitable[None]]


def guarded(handler: Handler, log: list[str]) -> Handler:
    """Return a handler that closes its stream, and notes in `log` instead of raising."""

    async def handle(stream: trio.abc.Stream) -> None:
        try:
            async with stream:
                await handler(stream)
        except Exception as error:  # noqa: BLE001  -- whatever it is, the others are served on
            log.append(repr(error))

    return handle

"""A nursery whose body's errors come out bare, for calls whose errors people catch."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

import trio


@contextlib.asynccontextmanager
async def open_bare_nursery() -> AsyncIterator[trio.Nursery]:
    """Open a nursery; what its body raises cancels the tasks and comes out as it is.

    A trio nursery puts its body's exceptions into a group even when nothing else failed, so
    that callers would have to write ``except*`` for an `OSError` or their own errors. What
    the tasks raise still comes in a group.
    """
    failure: Exception | None = None
    async with trio.open_nursery() as nursery:
        try:
            yield nursery
        except Exception as error:  # noqa: BLE001  -- raised again below
            failure = error
            nursery.cancel_scope.cancel(reason=f"the body failed: {error!r}")
    if failure is not None:
        raise failure

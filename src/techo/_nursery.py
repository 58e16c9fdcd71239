"""A nursery whose body's errors come out bare, for calls whose errors people catch."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

import trio


@contextlib.asynccontextmanager
async def open_bare_nursery() -> AsyncIterator[trio.Nursery]:
    """Open a nursery; an error of its body, if it is the only one, comes out as it was raised.

    A trio nursery puts its body's exceptions into a group even when nothing else failed, so
    that callers would have to write ``except*`` for an `OSError` or their own errors. What
    the tasks raise comes in a group, the body's error beside it. A cancellation at the same
    time is no error.
    """
    failure: BaseException | None = None
    try:
        async with trio.open_nursery() as nursery:
            try:
                yield nursery
            except (Exception, KeyboardInterrupt, SystemExit) as error:
                failure = error
                raise
    except BaseExceptionGroup as group:
        _, errors = group.split(trio.Cancelled)
        if errors is None or errors.exceptions != (failure,):
            raise
    if failure is not None:
        raise failure


def alone(error: Exception) -> Exception:
    """Return the error that is the only one in a group, and any other as it is."""
    while isinstance(error, ExceptionGroup) and len(error.exceptions) == 1:
        (error,) = error.exceptions
    return error

"""A nursery whose body's errors come out bare, for calls whose errors people catch."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Iterator

import trio


def check_trio_runs(instead: str) -> None:
    """Refuse to begin where it is not trio that runs, and name what can be used there.

    Raises:
        RuntimeError: no task of trio runs this, but one of asyncio, say.
    """
    if not trio.lowlevel.in_trio_task():
        raise RuntimeError(
            f"this needs trio, which does not run here: use techo.testing.{instead}"
        )


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
        # One by one: of a group that the body raised, trio makes another one.
        if failure is None or [*_errors_of(group)] != [*_errors_of(failure)]:
            raise
    if failure is not None:
        raise failure


def _errors_of(error: BaseException) -> Iterator[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        for each in error.exceptions:
            yield from _errors_of(each)
    elif not isinstance(error, trio.Cancelled):
        yield error


def alone(error: Exception) -> Exception:
    """Return the error that is the only one in a group, and any other as it is."""
    while isinstance(error, ExceptionGroup) and len(error.exceptions) == 1:
        (error,) = error.exceptions
    return error


def first_of(error: Exception) -> Exception:
    """Return the first error that a group holds, and any other as it is."""
    while isinstance(error, ExceptionGroup):
        error = error.exceptions[0]
    return error

"""Exercise 6: a guard round any handler. Edit `guarded`, then run this."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable
from typing import TypeAlias

import trio
from trio.testing import memory_stream_pair

Handler: TypeAlias = Callable[[trio.abc.Stream], Awaitable[None]]


def guarded(handler: Handler, log: list[str]) -> Handler:
    """Return a handler that closes its stream, and notes in `log` instead of raising."""

    async def handle(stream: trio.abc.Stream) -> None:
        try:
            await handler(stream)
        except BaseException as error:  # noqa: ASYNC103, BLE001  -- it is the exercise's fault
            log.append(repr(error))

    return handle


# The check. Nothing below needs to be changed.


async def check(answer: Callable[[Handler, list[str]], Handler]) -> str:
    """Return what is missing; nothing if the exercise is solved."""
    for what, handler, close, logged in [
        ("a handler that returns", _wait, _close, []),
        ("a handler that raises", _fail, _close, ["ValueError('no reply')"]),
        ("a stream whose close raises", _wait, _fail_to_close, ["OSError('no end')"]),
    ]:
        log: list[str] = []
        closed: list[bool] = []
        try:
            await answer(handler, log)(_stream(close, closed))
        except Exception as error:  # noqa: BLE001  -- it is reported
            return f"{what}: the guard has raised {error!r}"
        if not closed:
            return f"{what}: the stream was not closed"
        if log != logged:
            return f"{what}: the log has {log}, and not {logged}"
    with trio.CancelScope() as scope:
        scope.cancel()
        await answer(_wait, [])(_stream(_close, []))
    if not scope.cancelled_caught:
        return "a cancelled handler: the cancellation was caught, so the server cannot stop"
    return ""


def _stream(close: Callable[[], None], closed: list[bool]) -> trio.abc.Stream:
    """Return a stream that calls `close`, and notes in `closed` that it was to close."""
    stream, _ = memory_stream_pair()

    def note_and_close() -> None:
        closed.append(True)
        close()

    stream.send_stream.close_hook = note_and_close
    return stream


def _close() -> None:
    pass


def _fail_to_close() -> None:
    raise OSError("no end")


async def _wait(stream: trio.abc.Stream) -> None:
    del stream
    await trio.lowlevel.checkpoint()


async def _fail(stream: trio.abc.Stream) -> None:
    await _wait(stream)
    raise ValueError("no reply")


if __name__ == "__main__":
    missing = trio.run(check, guarded)
    print(f"not yet: {missing}" if missing else "solved")
    sys.exit(1 if missing else 0)

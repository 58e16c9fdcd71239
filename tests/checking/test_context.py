"""One check: what its function raises is evidence, a shortage of ours, or a bug."""

from __future__ import annotations

import errno
from typing import NoReturn

import pytest
import trio

import techo
from techo._checking.context import Context, Trace, carry_out
from techo.testing import Check, Verdict


async def nothing() -> NoReturn:
    """Open nothing: these checks connect to nobody."""
    await trio.lowlevel.checkpoint()
    raise AssertionError("nobody connects")


async def checked(*errors: Exception, forever: bool = False) -> Check:
    """Carry out a check several of whose tasks raise, at once or when they are cancelled."""

    async def fail(error: Exception) -> None:
        try:
            if forever:
                await trio.sleep_forever()
        finally:
            raise error

    async def function(_context: Context, _trace: Trace) -> str:
        async with trio.open_nursery() as nursery:
            for each in errors:
                nursery.start_soon(fail, each)
        return "never"

    return await carry_out("x", function, Context(nothing, techo.raw, 1.0, 1))


@pytest.mark.parametrize("count", [1, 2, 5])
@pytest.mark.parametrize("forever", [False, True])
async def test_errors_in_a_group_are_evidence(
    count: int,
    forever: bool,  # noqa: FBT001  -- a parameter of the test
    autojump_clock: object,
) -> None:
    """Those of several tasks at once, and those beside the cancellation when time is up."""
    errors = [trio.BrokenResourceError(f"reset {number}") for number in range(count)]
    check = await checked(*errors, forever=forever)
    assert check.verdict is Verdict.FAILED
    assert "the connection broke (reset" in check.evidence


@pytest.mark.parametrize("others", [0, 2])
async def test_a_shortage_of_ours_comes_out_bare(others: int) -> None:
    """Whatever else has failed beside it."""
    short = OSError(errno.EMFILE, "too many open files")
    with pytest.raises(OSError, match="too many open files") as caught:
        await checked(
            *[trio.BrokenResourceError(f"reset {number}") for number in range(others)], short
        )
    assert caught.value is short


async def test_a_bug_comes_out_bare() -> None:
    """It is not the service's."""
    with pytest.raises(ZeroDivisionError):
        await checked(trio.BrokenResourceError("reset"), ZeroDivisionError())

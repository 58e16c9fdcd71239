"""Bugs: the last resort for what escapes from a command, in one line with what to report."""

from __future__ import annotations

import os
import traceback
from collections.abc import Iterator
from pathlib import Path

from techo._cli.errors import fail, no_room_for
from techo._cli.options import TRACEBACK


def report_bug(error: BaseException) -> int:
    """Report what has escaped in one line; return the exit code for it.

    What this machine lacks is no bug: the line has the remedy, as elsewhere.
    """
    from techo._shortage import is_shortage

    first = next(_leaves(error))
    if os.environ.get(TRACEBACK):
        traceback.print_exception(error)
    if is_shortage(first):
        return no_room_for(first)
    text = " ".join(str(first).split())
    what = type(first).__name__ + (f": {text}" if text else "")
    return fail(
        f"{what}{_place_of(first)}: this is a bug in techo; please report this line and the "
        f"command, with the traceback that {TRACEBACK}=1 adds"
    )


def _leaves(error: BaseException) -> Iterator[BaseException]:
    """Return what the groups hold, and what trio's own error for the unforeseen is about."""
    import trio

    if isinstance(error, BaseExceptionGroup):
        for each in error.exceptions:
            yield from _leaves(each)
    elif isinstance(error, trio.TrioInternalError) and error.__cause__ is not None:
        yield from _leaves(error.__cause__)
    else:
        yield error


def _place_of(error: BaseException) -> str:
    frames = traceback.extract_tb(error.__traceback__)
    return f" ({Path(frames[-1].filename).name}:{frames[-1].lineno})" if frames else ""

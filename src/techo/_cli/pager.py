"""The pager: shows a long text a screen at a time, on a terminal, where there is a pager."""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from typing import Final

from techo._cli.output import writing

_PAGERS: Final = ("less", "more")
"""What is tried where PAGER is not set."""

_LESS: Final = "FRX"
"""Options of less where LESS is not set, as git has them: a text of one screen needs no key,
colours are shown, and the text stays when less has ended."""


def show(make: Callable[[bool], str]) -> None:
    """Show the text that `make` returns when it is told whether the text may have colours."""
    terminal = sys.stdout.isatty()
    colours = terminal and may_colour(os.environ)
    pager = find_pager(os.environ) if terminal else []
    if pager and page(pager, make(colours and _shows_colours(pager, os.environ))):
        return
    with writing():
        sys.stdout.write(make(colours))
        sys.stdout.flush()


def may_colour(environment: Mapping[str, str]) -> bool:
    """Return whether a terminal shows colours, and its user wants them (no-color.org)."""
    return not environment.get("NO_COLOR") and environment.get("TERM", "dumb") != "dumb"


def find_pager(environment: Mapping[str, str]) -> list[str]:
    """Return the command of the pager that the user wants; nothing if it is none."""
    wanted = environment.get("PAGER")
    if wanted is None:
        # less would complain of a dumb terminal, and wait for a key.
        wanted = "" if environment.get("TERM", "dumb") == "dumb" else " ".join(_PAGERS)
        return next(([each] for each in wanted.split() if shutil.which(each)), [])
    try:
        command = shlex.split(wanted)
    except ValueError:  # a quote is missing
        return []
    return command if command and shutil.which(command[0]) else []


def _shows_colours(pager: list[str], environment: Mapping[str, str]) -> bool:
    """Return whether a pager lets colours through, instead of showing how they are written."""
    name = os.path.basename(pager[0])  # noqa: PTH119  -- a word, which need not be a path
    if name != "less":
        return name == "more"
    options = [environment.get("LESS", _LESS), *(each for each in pager[1:] if each[:1] == "-")]
    return any(letter in each for each in options for letter in "rR")


def page(pager: list[str], text: str) -> bool:
    """Show a text in a pager until that is left; return whether it could be started."""
    environment = {"LESS": _LESS, **os.environ}
    # Ctrl-C is for the pager, which must not be left alone with the terminal.
    before = signal.signal(signal.SIGINT, lambda *_: None)
    try:
        subprocess.run(  # noqa: S603  -- the user's own command
            pager, input=text.encode("utf-8", "replace"), env=environment, check=False
        )
    except OSError:
        return False
    finally:
        signal.signal(signal.SIGINT, before)
    return True

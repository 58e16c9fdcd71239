"""The fault file: faults one a line, which a signal has read again while a server runs."""

from __future__ import annotations

import logging
import signal
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

import attrs

from techo._cli.line_files import read_lines, text_of
from techo._cli.options import Option, option
from techo._cli.readers import FILE
from techo._faults.text import parse_fault
from techo._printable import printable

if TYPE_CHECKING:
    from techo._faults.values import Fault

_log = logging.getLogger("techo.server")

# Windows has none.
REREAD: Final = tuple(getattr(signal, name) for name in ("SIGUSR2",) if hasattr(signal, name))
"""What has the files read again, where there are some. Elsewhere it ends the process."""


def fault_file(names: str, beside: str) -> Option:
    """Return an option for a file of faults, besides those of the option `beside`."""
    return option(
        names,
        FILE,
        f"a file with a fault on each line, besides those of {beside}; # begins a comment. "
        "SIGUSR2 has it read again",
        shown="none",
    )


@attrs.frozen
class Faults:
    """What is to go wrong, as options have it: by itself, and in a file that may change."""

    given: Sequence[Fault]
    path: str | None = None
    """The file, if there is one."""

    def read(self) -> tuple[Fault, ...]:
        """Return all of them, the file's last, as they are in it now.

        Raises:
            ValueError: the file cannot be read, or a line of it; the text has the line.
        """
        if self.path is None:
            return tuple(self.given)
        return (*self.given, *read_lines(text_of(self.path), self.path, parse_fault))

    def read_again(self, put: Callable[[tuple[Fault, ...]], object]) -> bool:
        """Read them and `put` them into effect; return whether that could be done.

        Otherwise the log has the reason, and nothing changes. `put` raises as `set_faults`.
        """
        try:
            found = self.read()
            put(found)
        except ValueError as error:
            _log.warning("%s; the faults stay as they were", printable(str(error)))
            return False
        count = f"{len(found)} fault" + "s" * (len(found) != 1)
        _log.info("read %s: %s from now on", printable(str(self.path)), count)
        return True

"""Output: what commands print, in any encoding, and its errors apart from all others."""

from __future__ import annotations

import contextlib
import io
import os
import sys
from collections.abc import Iterator
from typing import Any

from techo._printable import printable


class OutputError(Exception):
    """Standard output cannot be written to.

    No `OSError`, so that who handles those of the network does not take it for one.
    """

    def __init__(self, error: OSError) -> None:
        super().__init__(str(error))
        self.error = error


def survive_any_encoding() -> None:
    """From now on, escape what the encoding of standard output or error does not have."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


@contextlib.contextmanager
def writing() -> Iterator[None]:
    """Name the errors of a block that only writes to standard output.

    Raises:
        OutputError: it could not.
    """
    try:
        yield
    except OSError as error:
        raise OutputError(error) from error


def print_lines(*lines: str) -> None:
    """Print lines at once; control characters, such as another's line ends, are escaped."""
    with writing():
        print(*map(printable, lines), sep="\n", flush=True)


def print_bytes(data: bytes | bytearray) -> None:
    """Print bytes at once, as they are."""
    with writing():
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()


class Forgiving:
    """Standard error for what draws on it, which a terminal that is gone does not end."""

    def __init__(self) -> None:
        self._stream = sys.stderr
        # Rich puts something in the place of standard error, and asks us what is behind it.
        self.rich_proxied_file = self

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Write, if that can be done."""
        with contextlib.suppress(OSError):
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        """Flush, if that can be done."""
        with contextlib.suppress(OSError):
            self._stream.flush()


def is_dumb() -> bool:
    """Return whether the terminal can do no more than print lines."""
    return os.environ.get("TERM", "").lower() in {"dumb", "unknown"}


def is_journal() -> bool:
    """Return whether systemd's journal reads standard error (systemd.exec(5))."""
    expected = os.environ.get("JOURNAL_STREAM")
    if not expected:
        return False
    try:
        status = os.fstat(sys.stderr.fileno())
    except (OSError, ValueError):
        return False
    return expected == f"{status.st_dev}:{status.st_ino}"


def print_error(line: str) -> None:
    """Print a line to standard error, and go on if that cannot be written to."""
    mark = "<3>" if is_journal() else ""  # an error, for journalctl -p: sd-daemon(3)
    with contextlib.suppress(OSError):
        print(mark + printable(line), file=sys.stderr, flush=True)

"""Objects: what --json prints and --output keeps, one on each line."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any, Final

import attrs

from techo._cli.errors import fail
from techo._cli.options import option, switch
from techo._cli.output import print_lines
from techo._cli.readers import Form
from techo._printable import quoted

STANDARD_OUTPUT: Final = "-"
"""What stands for it, or for standard input, where other programs take a file."""


def check_writable(text: str) -> str:
    """Check before a measurement, without changing what is there, what would lose it.

    Raises:
        ValueError: no file of this name could be written.
    """
    path = Path(text)
    if not text:
        raise ValueError("'' is not the name of a file")
    if path.is_dir():
        raise ValueError(f"cannot write {quoted(text)}: it is a folder")
    if not path.parent.is_dir():
        raise ValueError(
            f"cannot write {quoted(text)}: there is no folder {quoted(str(path.parent))}"
        )
    if not os.access(path if path.exists() else path.parent, os.W_OK):
        raise ValueError(f"cannot write {quoted(text)}: permission denied")
    return text


def _read_output(text: str) -> str:
    if text == STANDARD_OUTPUT:
        raise ValueError("'-' is not a file; --json prints to standard output")
    return check_writable(text)


OBJECT_OPTIONS: Final = (
    switch("--json", "print JSON instead of text, one object on each line"),
    option(
        "--output",
        Form("FILE", _read_output),
        "write the same JSON to a file, whatever is printed",
        shown="no",
    ),
)
"""To have what a command finds out for machines."""


def cannot_write(name: str, error: OSError) -> int:
    """Report that a file could not be written; return the exit code for that."""
    reason = os.strerror(error.errno).lower() if error.errno else str(error)
    return fail(f"cannot write {quoted(name)}: {reason}")


@attrs.define(eq=False)
class Objects:
    """Takes objects one by one, as the options say; made by `taking_objects`."""

    name: str | None
    """The file, if there is one. It is replaced when the first object comes."""
    printed: bool
    """Whether standard output has them, too."""
    complete: bool = True
    """Whether nothing was lost on the way to the file."""
    _file: IO[str] | None = None

    def put(self, fields: Mapping[str, Any], *, printed: bool = True) -> None:
        """Write an object, and print it unless it should not be.

        The file comes first: standard output may be gone, and must not cost what is kept.
        """
        text = json.dumps(fields)
        if self.name is not None and self.complete:
            self._write(self.name, text)
        if self.printed and printed:
            print_lines(text)

    def _write(self, name: str, text: str) -> None:
        try:
            if self._file is None:
                self._file = Path(name).open("w", encoding="utf-8")  # noqa: SIM115  -- `close` does
            self._file.write(text + "\n")
            self._file.flush()  # who is killed has written all the same
        except OSError as error:
            self.complete = False
            cannot_write(name, error)

    def close(self) -> None:
        """Close the file, if it was opened."""
        if self._file is not None:
            with contextlib.suppress(OSError):  # which writing has reported
                self._file.close()


@contextlib.contextmanager
def taking_objects(name: str | None, *, printed: bool) -> Iterator[Objects]:
    """Take objects for the length of a block."""
    objects = Objects(name, printed)
    try:
        yield objects
    finally:
        objects.close()

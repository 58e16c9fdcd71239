"""Files with one thing on each line, in which # begins a comment."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from techo._printable import quoted

Thing = TypeVar("Thing")


def text_of(path: str, read: Callable[[], str] | None = None) -> str:
    """Return what a file has, or what is to `read` in its place.

    Raises:
        ValueError: it cannot be read; the text says why.
    """
    try:
        return Path(path).read_text("utf-8") if read is None else read()
    except OSError as error:
        raise ValueError(f"cannot read {quoted(path)}: {error.strerror or error}") from None
    except UnicodeDecodeError:
        raise ValueError(f"cannot read {quoted(path)}: it is no text in UTF-8") from None


def read_lines(text: str, path: str, read: Callable[[str], Thing]) -> list[Thing]:
    """Read each line of a file's text that is not empty.

    Raises:
        ValueError: `read` did; the text has the file, the line and what would be right.
    """
    found = []
    for number, line in enumerate(text.splitlines(), 1):
        words = line.partition("#")[0].strip()
        if not words:
            continue
        try:
            found.append(read(words))
        except ValueError as error:
            raise ValueError(f"{path}:{number}: {error}") from None
    return found

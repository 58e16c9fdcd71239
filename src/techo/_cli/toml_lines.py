"""TOML, with the line of every key: tomllib reads it, and this finds where it stands.

What is scanned here has been read by tomllib before, and so is correct.
"""

from __future__ import annotations

import bisect
import re
import tomllib
from typing import Any, Final, TypeAlias

import attrs

Place: TypeAlias = tuple[str | int, ...]
"""The keys that lead to a value; of what stands in a list, the number from 0."""

_MULTILINE: Final = {
    '"""': re.compile(r'"""(?:[^"\\]|\\.|"{1,2}(?!"))*"{3,5}', re.DOTALL),
    "'''": re.compile(r"'''(?:[^']|'{1,2}(?!'))*'{3,5}", re.DOTALL),
}
_STRINGS: Final = {
    '"': re.compile(r'"(?:[^"\\\n]|\\.)*"'),
    "'": re.compile(r"'[^'\n]*'"),
}
_BARE: Final = re.compile(r"[A-Za-z0-9_-]+")
_OTHER: Final = re.compile(r"[^,\]}#\n]*")
"""A number, a date or true or false."""
_BLANKS: Final = re.compile(r"[ \t]*")
_NOTHING: Final = re.compile(r"(?:[ \t\n]+|#[^\n]*)*")
"""Blanks, line ends and comments."""


class TomlError(ValueError):
    """A text is no TOML."""

    def __init__(self, line: int, reason: str) -> None:
        super().__init__(reason)
        self.line = line


def read_toml(text: str) -> dict[str, Any]:
    """Return what a text says.

    Raises:
        TomlError: it is no TOML; it has the line, and what is wrong there.
    """
    try:
        return tomllib.loads(text)
    except ValueError as error:  # of its own kind, or for an int of too many digits
        raise _error_of(str(error), text) from None
    except RecursionError:
        raise TomlError(1, "too many brackets in brackets") from None


def lines_of(text: str) -> dict[Place, int]:
    """Return the line, from 1, of every key and every value of a list."""
    scanner = _Scanner(text.replace("\r\n", "\n"))
    scanner.scan()
    return scanner.lines


def _error_of(message: str, text: str) -> TomlError:
    place = re.search(r" \(at (?:line (\d+), column (\d+)|end of document)\)$", message)
    if place is None:
        return TomlError(1, message)
    reason = message[: place.start()]
    if place[1] is None:
        return TomlError(text.rstrip().count("\n") + 1, f"{reason} at its end")
    return TomlError(int(place[1]), f"{reason}, character {place[2]}")


@attrs.define
class _Scanner:
    """Goes through a text once, from left to right."""

    text: str
    lines: dict[Place, int] = attrs.field(factory=dict)
    _at: int = 0
    _ends: list[int] = attrs.field(init=False)
    """Where lines end."""
    _tables: dict[Place, int] = attrs.field(factory=dict)
    """How many tables each list of tables has so far."""

    def __attrs_post_init__(self) -> None:
        self._ends = [each.start() for each in re.finditer("\n", self.text)]

    def scan(self) -> None:
        """Find the lines of everything."""
        prefix: Place = ()
        while self._skip(_NOTHING) < len(self.text):
            if self.text[self._at] == "[":
                prefix = self._header()
            else:
                self._pair(prefix)

    def _skip(self, pattern: re.Pattern[str]) -> int:
        """Go behind what matches, and return where that is."""
        found = pattern.match(self.text, self._at)
        self._at = self._at if found is None else found.end()
        return self._at

    def _note(self, place: Place) -> None:
        """Keep the line of a place, and of those around it that have none yet."""
        line = bisect.bisect_left(self._ends, self._at) + 1
        for length in range(1, len(place) + 1):
            self.lines.setdefault(place[:length], line)

    def _header(self) -> Place:
        """Read [TABLE] or [[LIST]], and return the place of what follows it."""
        begun = self._at
        double = self.text.startswith("[[", begun)
        self._at += 2 if double else 1
        *outer, last = self._keys()
        self._at += 2 if double else 1
        place: Place = ()
        for key in outer:
            place = self._latest((*place, key))
        place = (*place, last)
        if double:
            self._tables[place] = self._tables.get(place, -1) + 1
            place = self._latest(place)
        behind, self._at = self._at, begun
        self._note(place)
        self._at = behind
        return place

    def _latest(self, place: Place) -> Place:
        """Return the place of the latest table, if it is that of a list of them."""
        return (*place, self._tables[place]) if place in self._tables else place

    def _keys(self) -> Place:
        """Read a key, or several with points between."""
        keys: list[str] = []
        while True:
            begun = self._skip(_BLANKS)
            quote = _STRINGS.get(self.text[begun])
            self._skip(quote or _BARE)
            written = self.text[begun : self._at]
            keys.append(tomllib.loads(f"key = {written}")["key"] if quote else written)
            if self.text[self._skip(_BLANKS)] != ".":
                return tuple(keys)
            self._at += 1

    def _pair(self, prefix: Place) -> None:
        """Read KEY = VALUE."""
        begun = self._at
        place = (*prefix, *self._keys())
        behind, self._at = self._at, begun
        self._note(place)
        self._at = behind + 1
        self._skip(_BLANKS)
        self._value(place)

    def _value(self, place: Place) -> None:
        first = self.text[self._at]
        if pattern := _MULTILINE.get(self.text[self._at : self._at + 3]):
            self._skip(pattern)
        elif first in _STRINGS:
            self._skip(_STRINGS[first])
        elif first in "[{":
            self._inside(place, "]" if first == "[" else "}")
        else:
            self._skip(_OTHER)

    def _inside(self, place: Place, end: str) -> None:
        """Read what a list or a table in braces has."""
        self._at += 1
        number = 0
        while self.text[self._skip(_NOTHING)] != end:
            if self.text[self._at] == ",":
                self._at += 1
            elif end == "}":
                self._pair(place)
            else:
                self._note((*place, number))
                self._value((*place, number))
                number += 1
        self._at += 1

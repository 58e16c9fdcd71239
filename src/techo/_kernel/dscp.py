"""DSCP: the classes of service that packets ask for, by their numbers and names. No I/O."""

from __future__ import annotations

from typing import Final

from techo._printable import did_you_mean, quoted

_HIGHEST: Final = 63
"""It has six bits, of the byte whose other two are ECN (RFC 3168, 5)."""

_NAMES: Final = {
    "DF": 0,
    "LE": 1,
    **{f"CS{n}": 8 * n for n in range(1, 8)},
    **{f"AF{n}{drop}": 8 * n + 2 * drop for n in range(1, 5) for drop in range(1, 4)},
    "VA": 44,
    "EF": 46,
}
"""Those of RFC 2474 and 2597, 3246, 5865 and 8622."""

_ALSO: Final = {"CS0": 0, "BE": 0}
"""Other names of the default."""

_WORDS: Final = {number: name for name, number in _NAMES.items()}

DSCP_NAMES: Final = tuple(sorted(_NAMES, key=lambda name: _NAMES[name]))
"""The names, in the order of their numbers."""

_ECN: Final = ("", "ECT(1)", "ECT(0)", "CE")
"""The values of RFC 3168, 5; the first is that of packets which do not take part."""


def read_dscp(text: str) -> int:
    """Read a number from 0 to 63, or a name such as EF, CS1 or AF41.

    Raises:
        ValueError: it is neither; the text has what would be right.
    """
    number = {**_NAMES, **_ALSO}.get(text.upper())
    if number is None and text.isdecimal() and text.isascii() and len(text) <= len("63"):
        number = int(text)
    if number is None or number > _HIGHEST:
        near = did_you_mean(text.upper(), DSCP_NAMES)
        hint = near or ", nor a name such as EF, CS1 or AF41"
        raise ValueError(f"{quoted(text)} is not a number from 0 to {_HIGHEST}{hint}")
    return number


def name_of_dscp(number: int) -> str:
    """Return the name of a number, or the number where it has none."""
    return _WORDS.get(number, str(number))


def name_of_ecn(number: int) -> str:
    """Return the name of the two bits of ECN; empty if the packet does not take part."""
    return _ECN[number]

"""Texts for terminals and messages: what others made of them does nothing there but stand."""

from __future__ import annotations

from collections.abc import Iterable


def printable(text: str) -> str:
    """Return a text as one line that does nothing to a terminal but stand there."""
    if text.isprintable():
        return text
    return "".join(
        each if each.isprintable() else each.encode("unicode_escape").decode() for each in text
    )


def quoted(value: object) -> str:
    """Return a text as it was typed, in quotes; only what cannot be shown is escaped.

    What is no text is shown as Python writes it, since nobody has typed it.
    """
    return f"'{printable(value)}'" if isinstance(value, str) else repr(value)


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return the end of a sentence that names what is spelt like `word`, if anything is."""
    import difflib  # noqa: PLC0415  -- only a mistake needs it

    near = difflib.get_close_matches(word, list(known), 1)
    return f"; did you mean {near[0]}?" if near else ""

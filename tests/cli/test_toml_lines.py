"""Lines of TOML: each key is found where it stands."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from techo._cli.toml_lines import Place, TomlError, lines_of, read_toml
from toml_texts import written

NASTY = '''\
# [comment]
title = "a # b [c]" # = [no]
'quoted key' . "es\\"c\\u00e9" = 'c:\\'
many = """
x = "1" + ""
\\"""" # quotes
more = """a"""""
raw = \'\'\'
[no]\'\'\'\'
day = 1979-05-27 07:32:00 # a blank inside
list = [ # comment ]
  1, [2,
  3], { a = "]", b.c = [
    4 ] },
]
empty = []
[table . inner]
x = {}

[[target]]
name = "}"
[target.labels]
a = 1
[[target.part]]
b = 2
[[target]]
labels = { a = 1, "b c" = 2 }
[[target.part]]
[[target.part]]
b = inf
'''

LINES = {
    ("title",): 2,
    ("quoted key",): 3,
    ("quoted key", 'es"cé'): 3,
    ("many",): 4,
    ("more",): 7,
    ("raw",): 8,
    ("day",): 10,
    ("list",): 11,
    ("list", 0): 12,
    ("list", 1): 12,
    ("list", 1, 0): 12,
    ("list", 1, 1): 13,
    ("list", 2): 13,
    ("list", 2, "a"): 13,
    ("list", 2, "b"): 13,
    ("list", 2, "b", "c"): 13,
    ("list", 2, "b", "c", 0): 14,
    ("empty",): 16,
    ("table",): 17,
    ("table", "inner"): 17,
    ("table", "inner", "x"): 18,
    ("target",): 20,
    ("target", 0): 20,
    ("target", 0, "name"): 21,
    ("target", 0, "labels"): 22,
    ("target", 0, "labels", "a"): 23,
    ("target", 0, "part"): 24,
    ("target", 0, "part", 0): 24,
    ("target", 0, "part", 0, "b"): 25,
    ("target", 1): 26,
    ("target", 1, "labels"): 27,
    ("target", 1, "labels", "a"): 27,
    ("target", 1, "labels", "b c"): 27,
    ("target", 1, "part"): 28,
    ("target", 1, "part", 0): 28,
    ("target", 1, "part", 1): 29,
    ("target", 1, "part", 1, "b"): 30,
}


def places(value: Any, at: Place = ()) -> Iterator[Place]:
    """Yield where everything in a document is."""
    if at:
        yield at
    if isinstance(value, dict):
        for key, each in value.items():
            yield from places(each, (*at, key))
    elif isinstance(value, list):
        for number, each in enumerate(value):
            yield from places(each, (*at, number))


@pytest.mark.parametrize("ending", ["\n", "\r\n"])
def test_every_key_and_value_has_its_line(ending: str) -> None:
    """Strings, comments, tables in tables and lists of them do not lead astray."""
    text = NASTY.replace("\n", ending)
    assert lines_of(text) == LINES
    assert set(places(read_toml(text))) == set(LINES)


TEXTS = st.text(st.sampled_from("ab\"'\\#[]{}=,.\n\r é"), max_size=6)
VALUES = st.recursive(
    TEXTS | st.integers() | st.booleans(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=12,
)


@given(st.dictionaries(TEXTS, VALUES, max_size=4))
def test_whatever_tomllib_reads_is_found(document: dict[str, Any]) -> None:
    """The places are those of what it has read, whatever the keys and strings."""
    text = written(document)
    assert read_toml(text) == document
    assert set(lines_of(text)) == set(places(document))


@pytest.mark.parametrize(
    ("text", "line", "reason"),
    [
        ("a = 1\nb = \n", 2, "Invalid value, character 5"),
        ("a = 1\na = 2\n", 2, "Cannot overwrite a value"),
        ("a = [\n1,\n\n", 2, "at its end"),
        ("a = " + "[" * 20_000, 1, "too many brackets in brackets"),
        ("a = " + "9" * 5_000, 1, "limit"),
    ],
)
def test_what_is_no_toml_has_a_line(text: str, line: int, reason: str) -> None:
    """And in words what is wrong there."""
    with pytest.raises(TomlError) as caught:
        read_toml(text)
    assert caught.value.line == line
    assert reason in str(caught.value)

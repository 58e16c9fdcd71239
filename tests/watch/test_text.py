"""What watch shows to people: tables fit the terminal, whatever the targets are called."""

from __future__ import annotations

import pytest
from rich.cells import cell_len

from techo._watch.text import shortened, table_of
from watches import snapshot

NAMES = [
    "b",
    "a-name-of-more-than-eighty-characters." * 3,
    "\N{CJK UNIFIED IDEOGRAPH-65E5}" * 50,
    "e\N{COMBINING ACUTE ACCENT}" * 20,
]


@pytest.mark.parametrize("width", [80, 132, 20])
def test_a_table_has_its_columns_below_each_other(width: int) -> None:
    """Also below names whose characters take two columns of a terminal, or none."""
    lines = [*table_of([snapshot(name) for name in NAMES], 100.0, width)]
    assert len({cell_len(line) for line in lines}) == 1
    assert cell_len(lines[0]) <= max(width, 70)
    assert len({cell_len(line[: line.rindex("up")]) for line in lines[1:]}) == 1


@pytest.mark.parametrize("most", [1, 2, 3, 10, 59, 60])
def test_what_is_too_long_lacks_its_middle(most: int) -> None:
    """Both ends tell names apart."""
    for name in NAMES:
        found = shortened(name, most)
        assert cell_len(found) <= most
        assert found == name or "\N{HORIZONTAL ELLIPSIS}" in found

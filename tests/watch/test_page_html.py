"""The page without its scripts: a plain table, in which no name is anything but text."""

from __future__ import annotations

import itertools
import json
from html.parser import HTMLParser
from typing import Any

import attrs
import pytest

from techo._printable import printable
from techo._probing.failure_cause import FailureCause
from techo._watch.counts import Snapshot
from techo._watch.events import State
from techo._watch.page import page
from techo._watch.table import COLUMNS, SYMBOLS, Table, row_of
from techo._watch.web_app import STATIC
from watch.feeds import HOSTILE, counts, snapshot

VOID = {"meta", "link", "input"}
TAGS = """html head meta title link noscript script body header h1 p form label input button
span table caption thead tbody tr th td bdi small select option"""


@attrs.define(slots=False)
class Parsed(HTMLParser):
    """What is in a page: elements, and the texts of the cells of each target's row."""

    text: str
    tags: list[tuple[str, dict[str, str | None]]] = attrs.field(factory=list)
    rows: list[list[str]] = attrs.field(factory=list)
    titles: list[str] = attrs.field(factory=list)
    _open: list[str] = attrs.field(factory=list)
    _in_row: bool = False

    def __attrs_post_init__(self) -> None:
        super().__init__()
        self.feed(self.text)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        """Note an element."""
        found = dict(attributes)
        self.tags.append((tag, found))
        if tag not in VOID:
            self._open.append(tag)
        if tag == "tr":
            self._in_row = str(found.get("class")).startswith("target ")
            if self._in_row:
                self.rows.append([])
        if self._in_row and tag in ("th", "td"):
            self.rows[-1].append("")
            if tag == "th":
                self.titles.append(str(found["title"]))

    def handle_endtag(self, tag: str) -> None:
        """Close the latest element, which must be this one."""
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        """Add to the text of a cell."""
        if self._in_row and {"th", "td"} & set(self._open):
            self.rows[-1][-1] += data


def parsed(*snapshots: Snapshot, **options: Any) -> Parsed:
    """Return what is in the page about these targets."""
    rows = [row_of(each) for each in snapshots]
    return Parsed("".join(page(Table.of(rows, 0.0), **options)))


def test_a_row_has_a_target_in_words_and_figures() -> None:
    """Without a script there is all that is known of it now."""
    total = counts([1_000_000 * each for each in range(1, 100)], timeout_reply=1)
    found = parsed(
        snapshot(
            "web",
            State.DEGRADED,
            since=86399.9,
            last_ns=1_234_567,
            total=total,
            cause=FailureCause.TIMEOUT_REPLY,
            reason="no reply within 1 s",
        )
    )
    (cells,) = found.rows
    assert cells[0] == "web tcp://192.0.2.1:8009"
    assert dict(zip(COLUMNS, cells[1:], strict=True)) == {
        "state": f"{SYMBOLS[State.DEGRADED]} degraded",
        "last": "1.235",
        "p50": "50.070",
        "p99": "99.000",
        "loss": "1.00",
        "since": "1970-01-01 23:59:59",
        "cause": "timeout-reply: no reply within 1 s",
    }


@pytest.mark.parametrize(
    ("state", "fields", "cell", "text"),
    [
        (State.UNKNOWN, {}, "last", "-"),
        (State.UNKNOWN, {}, "loss", "-"),
        (State.UP, {"total": counts([5]), "last_ns": 5}, "last", "0.000"),
        (State.DOWN, {"total": counts(eof=3)}, "last", "lost"),
        (State.DOWN, {"total": counts(eof=3)}, "p50", "lost"),
        (State.DOWN, {"total": counts(eof=3)}, "p99", "-"),
        (State.DOWN, {"total": counts(eof=3)}, "loss", "100.00"),
        (State.UP, {"total": counts([5] * 99_999, eof=1)}, "loss", "<0.01"),
        (State.UP, {"total": counts([5])}, "loss", "0.00"),
        (State.FLAPPING, {"down": True}, "state", f"{SYMBOLS[State.FLAPPING]} flapping (down)"),
        (State.DOWN, {"cause": FailureCause.EOF}, "cause", "eof"),
    ],
)
def test_what_is_not_known_is_not_shown_as_nothing(
    state: State, fields: dict[str, object], cell: str, text: str
) -> None:
    """Too few probes, none at all and all lost can be told apart."""
    assert row_of(snapshot("x", state, **fields)).cells[cell] == text


def test_each_state_has_a_shape_of_its_own() -> None:
    """Nobody needs colours to tell states apart."""
    assert set(SYMBOLS) == set(State)
    assert len(set(SYMBOLS.values())) == len(State)


@pytest.mark.parametrize("name", [*HOSTILE, "half of a pair: \ud83d"])
def test_a_hostile_name_is_text(name: str) -> None:
    """Wherever it stands it opens no element, adds no attribute and turns no line round."""
    hostile = {
        "endpoint": f"tcp://{name}",
        "group": name,
        "reason": name,
        "cause": FailureCause.TLS,
    }
    found = parsed(snapshot(name, **hostile), snapshot("honest", group="other"))
    assert {tag for tag, _ in found.tags} <= set(TAGS.split())
    assert [dict(each)["src"] for tag, each in found.tags if tag == "script"] == ["page.js"]
    plain = parsed(snapshot("x", endpoint="y", group="g", reason="z"), snapshot("h", group="o"))
    assert [(tag, {*each}) for tag, each in found.tags] == [
        (tag, {*each}) for tag, each in plain.tags
    ]
    (target,) = (
        json.loads(str(each["data-target"]))
        for _, each in found.tags
        if "data-target" in each and "honest" not in str(each)
    )
    assert target == name
    assert found.titles[0] == printable(name)
    shown = found.rows[0][0]
    assert shown.startswith(printable(name)[:100])
    assert shown.isprintable()


def test_nothing_is_inline_and_nothing_comes_from_elsewhere() -> None:
    """The content security policy would refuse it."""
    found = parsed(snapshot("x"))
    for tag, attributes in found.tags:
        assert not [each for each in attributes if each == "style" or each.startswith("on")]
        assert tag != "style"
        for address in (attributes.get("src"), attributes.get("href")):
            assert address in (None, *(path[1:] for path in STATIC))
    text = found.text
    assert '<script type="module" src="page.js"></script>' in text
    assert '<noscript><meta http-equiv="refresh" content="30"></noscript>' in text


def test_groups_stand_together_and_can_be_chosen_without_a_script() -> None:
    """A group is known by its number; what is not of it, or is no problem, is hidden."""
    names = [("a", "<one>"), ("b", ""), ("c", "<one>")]
    snapshots = [snapshot(name, group=group) for name, group in names]
    snapshots.append(snapshot("d", State.DOWN, group="<one>"))

    def hidden(**options: object) -> list[str]:
        found = parsed(*snapshots, **options)
        assert [cells[0][0] for cells in found.rows] == ["a", "c", "d", "b"]
        return [
            attributes.get("data-group") or json.loads(str(attributes["data-target"]))
            for tag, attributes in found.tags
            if tag in ("tbody", "tr") and "hidden" in attributes
        ]

    assert hidden() == hidden(group="") == []
    assert hidden(group="0") == ["1"]
    assert hidden(group="1") == ["0"]
    assert hidden(problems=True) == ["a", "c", "b"]


def test_a_page_is_of_another_version_if_there_are_other_targets() -> None:
    """Names, groups and endpoints make it, however they are joined; states do not."""
    tables = [
        [snapshot("a"), snapshot("b")],
        [snapshot("a")],
        [snapshot("a", group="b")],
        [snapshot("b"), snapshot("a")],
        [snapshot("a", endpoint="b")],
    ]
    versions = [Table.of(map(row_of, each), 0).version for each in tables]
    for one, other in itertools.combinations(versions, 2):
        assert one != other
    assert Table.of([row_of(snapshot("a", State.DOWN))], 9).version == versions[1]


def test_the_worst_comes_first_in_the_summary() -> None:
    """It is the title, too, which is all that a tab shows."""
    states = [State.UP, State.DOWN, State.UP]
    found = parsed(*(snapshot(str(number), state) for number, state in enumerate(states)))
    assert "<title>1 down, 2 up - techo watch</title>" in found.text

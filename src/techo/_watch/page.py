"""The page as HTML, which needs no script: one table of all targets.

Every text of a target goes through `_text`, and nothing else is put between tags.
"""

from __future__ import annotations

import html
import itertools
import json
from collections.abc import Iterator
from typing import Final

from techo._printable import printable
from techo._watch.events import State
from techo._watch.table import COLUMNS, Row, Table, shortened, utc

_REFRESH: Final = 30
"""Seconds after which a page without scripts is loaded anew."""

_LONGEST_NAME: Final = 120
"""Characters of a name that are shown; the rest is in the tooltip."""

MODULES: Final = ("strip", "moment", "common")
"""Scripts that page.js imports, which need not wait for it."""

_ZOOMS: Final = ("1h", "6h", "1d", "1w", "all")


def page(table: Table, *, group: str | None = None, problems: bool = False) -> Iterator[str]:
    """Yield the page in parts; what is not of that group, or no problem, is hidden."""
    groups = list(dict.fromkeys(each.group for each in table.rows))
    heads = "".join(f'<th scope="col">{_text(each)}</th>' for each in COLUMNS.values())
    yield f"""<!doctype html>
<html lang="en" data-version="{table.version}" data-at="{table.at}"
data-oldest="{json.dumps(table.oldest)}">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{_text(table.summary)} - techo watch</title>
<link rel="stylesheet" href="style.css">
<link rel="icon" href="icon.svg">
<noscript><meta http-equiv="refresh" content="{_REFRESH}"></noscript>
{_preloads()}<script type="module" src="page.js"></script>
</head>
<body>
<header>
<h1>techo watch</h1>
<p id="summary" role="status">{_text(table.summary)}</p>
<p id="connection">as of {utc(table.at)} UTC</p>
</header>
<form method="get">
{_choice(groups, group)}
<label><input type="checkbox" name="problems" value="1"{" checked" * problems}> only what is not
up</label>
<button id="show">show</button>
<span id="zoom" role="group" aria-label="time that is shown" hidden>{_zooms()}</span>
<span id="range"></span>
</form>
<p id="legend" hidden></p>
<table>
<caption>Round trip times and loss are of all probes since the watch began. A percentile that
falls among lost probes is lost, too.</caption>
<thead><tr><th scope="col">target</th>{heads}</tr></thead>
"""
    yield from _groups(table, group, problems=problems)
    yield """</table>
<noscript><p>With scripts on, each target has a strip of its past here.</p></noscript>
</body>
</html>
"""


def _text(text: str) -> str:
    """Return a text that is nothing but text, in HTML's elements and attributes."""
    return html.escape(printable(text))


def _preloads() -> str:
    return "".join(f'<link rel="modulepreload" href="{each}.js">\n' for each in MODULES)


def _zooms() -> str:
    return "".join(
        f'<button type="button" value="{each}" aria-pressed="false">{each}</button>'
        for each in _ZOOMS
    )


def _choice(groups: list[str], chosen: str | None) -> str:
    if len(groups) < 2:  # noqa: PLR2004  -- there is nothing to choose
        return ""
    options = "".join(
        f'<option value="{number}"{" selected" * (str(number) == chosen)}>'
        f"{_text(each) or 'no group'}</option>"
        for number, each in enumerate(groups)
    )
    return (
        f'<label>group <select name="group"><option value="">all</option>{options}</select>'
        "</label>"
    )


def _groups(table: Table, chosen: str | None, *, problems: bool) -> Iterator[str]:
    """Yield each group as a part of the table: a group is known by its number, not its name."""
    by_group = itertools.groupby(table.rows, key=lambda row: row.group)
    for number, (name, members) in enumerate(by_group):
        hidden = chosen not in (None, "", str(number))
        yield f'<tbody data-group="{number}"{" hidden" * hidden}>\n'
        if name:
            head = f'<th colspan="{len(COLUMNS) + 1}" scope="rowgroup"><bdi>{_text(name)}</bdi>'
            yield f'<tr class="group">{head}</th></tr>\n'
        for row in members:
            yield _row(row, hidden=problems and row.state == State.UP)
        yield "</tbody>\n"


def _row(row: Row, *, hidden: bool) -> str:
    cells = "".join(
        f'<td data-cell="{name}" data-label="{_text(COLUMNS[name])}">{_text(text)}</td>'
        for name, text in row.cells.items()
    )
    name, exact = printable(row.target), _text(json.dumps(row.target))
    endpoint = (
        ""
        if name == row.endpoint
        else f" <small>{_text(shortened(row.endpoint, _LONGEST_NAME))}</small>"
    )
    return (
        f'<tr class="target {_text(row.state)}" data-target="{exact}"{" hidden" * hidden}>'
        f'<th scope="row" title="{_text(name)}"><bdi>{_text(shortened(name, _LONGEST_NAME))}'
        f"</bdi>{endpoint}</th>{cells}</tr>\n"
    )

"""The page of watch in real Chromium: what it shows is what its JSON says, on any screen."""

from __future__ import annotations

import contextlib
import datetime as dt
import functools
import json
import math
import threading
import urllib.request
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlencode

import attrs
import pytest
import trio

from browsers import Browser, Page, browser
from helpers import PATIENCE, wait_until
from techo._printable import printable
from techo._watch.events import State
from techo._watch.web import serve_web
from watch.feeds import HOSTILE, FakeFeed, change, snapshot, week_of

TOKEN = "correct-horse-battery"  # noqa: S105  -- a test's own


@attrs.define(eq=False)
class Site:
    """A page that is served meanwhile by a thread."""

    feed: FakeFeed
    port: int
    token: trio.lowlevel.TrioToken
    scope: trio.CancelScope

    @property
    def url(self) -> str:
        """Where it is."""
        return f"http://127.0.0.1:{self.port}/"

    def json(self, path: str, **query: object) -> Any:
        """Return what it has at a path."""
        with urllib.request.urlopen(f"{self.url}{path}?{urlencode(query)}") as response:  # noqa: S310  -- our own
            return json.load(response)

    def run(self, change: Any) -> None:
        """Have something done where the feed lives."""
        trio.from_thread.run_sync(change, trio_token=self.token)


@contextlib.contextmanager
def served(feed: FakeFeed, token: str | None = None) -> Iterator[Site]:
    """Serve a feed's page."""
    found = list[Site]()
    ready = threading.Event()

    async def serve() -> None:
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:
                start = functools.partial(serve_web, token=token)
                _, port = await nursery.start(start, feed, "127.0.0.1", 0)
                found.append(Site(feed, port, trio.lowlevel.current_trio_token(), scope))
                ready.set()

    thread = threading.Thread(target=trio.run, args=(serve,))
    thread.start()
    try:
        assert ready.wait(PATIENCE)
        yield found[0]
    finally:
        found[0].run(found[0].scope.cancel)
        thread.join()


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """One browser for all tests, each of which has pages of its own."""
    with browser() as started:
        yield started


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    """Targets with names that would rather be something else, and in every state."""
    with served(week_of(20, names=HOSTILE)) as started:
        yield started


def drawn(page: Page, url: str, zoom: str = "1w") -> None:
    """Load the page, and wait until the strips that can be seen are drawn."""
    source = f"sessionStorage.setItem('zoom', '{zoom}')"
    page.call("Page.addScriptToEvaluateOnNewDocument", source=source)
    page.go(url)
    page.wait_for("document.documentElement.dataset.drawn")


ROWS = """[...document.querySelectorAll('tr.target')].map(row => ({
  name: row.querySelector('bdi').textContent,
  hidden: !row.checkVisibility(),
  cells: Object.fromEntries([...row.querySelectorAll('td')].map(
    cell => [cell.dataset.cell, cell.textContent])),
}))"""


def check_rows(rows: list[dict[str, Any]], data: dict[str, Any]) -> None:
    """Hold the table's texts to what /data.json says."""
    by_name = {printable(each["target"])[:99]: each for each in data["targets"]}
    assert len(rows) == len(by_name) == len(data["targets"])
    for row in rows:
        target, cells = by_name[row["name"][:99]], row["cells"]
        total, times = target["total"], target["total"]["latency_ns"]
        assert not row["hidden"]
        assert cells["state"].split()[1] == target["state"]
        assert cells["since"].replace(" ", "T") in _iso(target["since_ns"])
        if not total["received"] + total["lost"]:
            assert cells["last"] == cells["p50"] == cells["loss"] == "-"
            continue
        assert cells["loss"] == f"{total['loss_percent']:.2f}"
        for name, found in (("p50", times["p50"]), ("p99", times["p99"])):
            assert cells[name] == ("lost" if found is None else _ms(found))
        last = target["last_ns"]
        assert cells["last"] == ("lost" if last is None else _ms(last))
        assert cells["cause"].startswith(target["cause"] or "-")


def _ms(nanoseconds: float) -> str:
    return f"{nanoseconds / 1e6:,.{3 if nanoseconds < 1e8 else 1}f}"


def _iso(nanoseconds: int) -> str:
    return dt.datetime.fromtimestamp(nanoseconds / 1e9, tz=dt.UTC).isoformat()


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [400, 800, 1280])
def test_it_shows_what_json_says(
    width: int, chromium: Browser, site: Site, *, dark: bool
) -> None:
    """Texts and strips, without an error, a violation of its policy or a dialog of a name's."""
    with chromium.page(width=width, height=6000, dark=dark) as page:
        drawn(page, site.url)
        check_rows(page.evaluate(ROWS), site.json("data.json"))
        assert page.evaluate("document.documentElement.scrollWidth") == width
        labels = page.evaluate(
            "[...document.querySelectorAll('.strip canvas')].map(each => each.ariaLabel)"
        )
        since, until = (
            page.evaluate("document.getElementById('range').textContent")
            .removesuffix(" UTC")
            .split(" to ")
        )
        for row, label in zip(site.json("rows.json")["rows"], labels, strict=True):
            found = site.json("spans.json", target=row["target"], seconds=3600)["targets"][0]
            received, lost = (
                sum(each[name] for each in found["spans"][-168:])
                for name in ("received", "lost")
            )
            away = sum(each["kind"] == "down" for each in found["events"])
            assert label.startswith(f"{since} to {until} UTC: ")
            assert f" {received} received, {lost} lost, outages: {away}" in label
        paper = page.evaluate("getComputedStyle(document.documentElement).backgroundColor")
        assert (paper == "rgb(255, 255, 255)") is not dark
        assert page.complaints() == page.has_had("Page.javascriptDialogOpening") == []


COLOURS = """((canvas, share) => {
  const [x, height] = [Math.floor(canvas.width * share), canvas.height];
  const data = canvas.getContext('2d').getImageData(x, 0, 1, height).data;
  const style = getComputedStyle(document.documentElement);
  const named = {};
  for (const name of ['--loss', '--text', '--paper', '--ink']) {
    named[style.getPropertyValue(name).trim()] = name;
  }
  const seen = [];
  for (let i = 0; i < data.length; i += 4) {
    if (data[i + 3] === 0) { seen.push('nothing'); continue; }
    const hex = '#' + [...data.slice(i, i + 3)].map(
      each => each.toString(16).padStart(2, '0')).join('');
    seen.push(data[i + 3] === 255 ? named[hex] ?? hex : 'smoke');
  }
  return seen;
})(document.querySelectorAll('.strip canvas')[%d], %f)"""


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_a_strip_has_smoke_loss_and_outages(
    chromium: Browser, site: Site, *, dark: bool
) -> None:
    """Loss differs in colour and is hatched; where nothing is known there is nothing."""
    rows = site.json("rows.json")["rows"]
    seen = set[str]()
    with chromium.page(width=1280, height=6000, dark=dark) as page:
        drawn(page, site.url)
        for index, row in enumerate(rows):
            (found,) = site.json("spans.json", target=row["target"], seconds=3600)["targets"]
            shown = found["spans"][-168:]
            for at, span in enumerate(shown):
                state = "lost" if not span["received"] else "some" if span["lost"] else "all"
                if state in seen and at != 100:
                    continue
                seen.add(state)
                colours = page.evaluate(COLOURS % (index, (at + 0.5) / 168))
                smoke, band = colours[:47], colours[48:]
                if state == "lost":
                    assert smoke[0] != "nothing"
                    assert "--loss" in smoke
                    assert len(set(smoke)) > 1  # hatched
                    assert set(band) == {"--text"}
                elif state == "some":
                    assert "smoke" in smoke
                    assert set(smoke[:4]) - {"smoke", "nothing"}
                else:
                    assert set(smoke) <= {"smoke", "nothing", "--ink"}
                    assert set(smoke) & {"smoke", "--ink"}
            if not shown:
                seen.add("unknown")
                assert {*page.evaluate(COLOURS % (index, 0.5))} == {"nothing"}
    assert seen == {"lost", "some", "all", "unknown"}


def test_a_click_shows_all_that_is_known_of_a_moment(chromium: Browser, site: Site) -> None:
    """Figures, causes, events and distribution are those of /moment.json; keys do it, too."""
    (index, row, span) = next(
        (index, row, span)
        for index, row in enumerate(site.json("rows.json")["rows"])
        for span in site.json("spans.json", target=row["target"], seconds=3600)["targets"][0][
            "spans"
        ][-160:-9]
        if span["lost"] and not span["received"]
    )
    moment = site.json("moment.json", target=row["target"], start=span["start"], seconds=3600)
    with chromium.page(width=800, height=900) as page:
        drawn(page, site.url)
        canvas = f"document.querySelectorAll('.strip canvas')[{index}]"
        page.evaluate(f"{canvas}.scrollIntoView()")
        page.wait_for(f"{canvas}.ariaLabel !== 'not loaded yet'")
        since = page.evaluate(f"{canvas}.strip.range.since")
        page.click(canvas, ((span["start"] - since) / 3600 + 0.5) / 168)
        page.wait_for("document.querySelector('.moment')")
        figures = page.evaluate(
            "Object.fromEntries([...document.querySelectorAll('.moment dl div')].map("
            "each => [each.children[0].textContent, each.children[1].textContent]))"
        )
        assert figures["lost"] == str(moment["counts"]["lost"])
        assert (figures["received"], figures["p50"], figures["down"]) == ("0", "-", "3600 s")
        causes = [f"{cause} {n}" for cause, n in moment["counts"]["failures"].items()]
        text = page.evaluate("document.querySelector('.moment .causes').textContent")
        assert text == f"lost because of: {', '.join(causes)}"
        (event,) = moment["events"]
        text = page.evaluate("document.querySelector('.moment .events').textContent")
        assert text.startswith("down from ")
        assert f"{event['probes']} lost, {event['cause']}: {event['first_error']}" in text
        page.evaluate(f"{canvas}.focus()")
        for _ in range(9):
            page.press("ArrowRight")
        page.wait_for(
            "document.querySelector('.moment dd').textContent !== '0' && "
            "document.querySelectorAll('.distribution .took').length"
        )
        at = page.evaluate(f"{canvas}.strip.at")
        assert at == span["start"] + 9 * 3600
        moment = site.json("moment.json", target=row["target"], start=at, seconds=3600)
        counts = page.evaluate(
            "[...document.querySelectorAll('.distribution tr')].filter("
            "each => each.querySelector('.took')).map(each => +each.children[1].textContent)"
        )
        assert sum(counts) == moment["counts"]["received"]
        page.press("Escape")
        page.wait_for("!document.querySelector('.moment')")
        assert page.complaints() == []


def test_it_can_be_zoomed_from_an_hour_to_all_there_is(chromium: Browser, site: Site) -> None:
    """The buttons say which is on; the choice outlives loading the page again."""
    with chromium.page(width=1280) as page:
        page.go(site.url)
        page.wait_for("document.documentElement.dataset.drawn")
        hours = {}
        pressed = "document.querySelector('#zoom [aria-pressed=true]').value"
        for zoom in ("1h", "6h", "1d", "1w", "all"):
            page.click(f"document.querySelector('#zoom [value=\"{zoom}\"]')")
            page.wait_for(f"{pressed} === '{zoom}'")
            strip = "document.querySelector('.strip canvas').strip"
            page.wait_for(f"{strip}.range === {strip}.wanted")
            since, until = page.evaluate(f"[{strip}.range.since, {strip}.range.until]")
            hours[zoom] = (until - since) / 3600
        assert list(hours.values()) == [1, 6, 24, 168, pytest.approx(169, abs=1)]
        page.go(site.url)
        page.wait_for("document.documentElement.dataset.drawn")
        assert (
            page.evaluate("document.querySelector('#zoom [aria-pressed=true]').value") == "all"
        )


def test_it_is_kept_up_to_date_and_says_when_it_is_not(chromium: Browser) -> None:
    """A state that changes is shown within seconds; so are other targets, and a lost server."""
    feed = FakeFeed([snapshot("a"), snapshot("b", State.DOWN)])
    state = "document.querySelector('[data-cell=state]').textContent"
    connection = "document.getElementById('connection').textContent"
    with chromium.page() as page:
        with served(feed) as site:
            page.go(site.url)
            page.wait_for("document.documentElement.dataset.drawn")
            assert page.evaluate("document.title") == "1 down, 1 up - techo watch"
            page.click("document.querySelector('[name=problems]')")
            page.wait_for("!document.querySelector('tr.target').checkVisibility()")
            away = [snapshot("a", State.DOWN), snapshot("b", State.DOWN)]
            site.run(lambda: setattr(feed, "found", away))
            site.run(lambda: feed.publish(change("a", 1e9)))
            page.wait_for(f"{state}.endsWith(' down')")
            assert page.evaluate("document.querySelector('tr.target').checkVisibility()")
            assert page.evaluate("document.title") == "2 down - techo watch"
            site.run(lambda: setattr(feed, "found", [*away, snapshot("<b>c")]))
            site.run(lambda: feed.publish(change("<b>c", 1e9)))
            page.wait_for("document.querySelectorAll('tr.strip').length === 3")
            page.wait_for("document.documentElement.dataset.drawn")
            assert " UTC" in page.evaluate(connection)
        page.wait_for(f"{connection}.includes('no connection since then')")


def test_what_cannot_be_seen_takes_neither_memory_nor_a_connection(
    chromium: Browser,
) -> None:
    """A strip is loaded when it comes into sight; a page in the background asks seldom."""
    with served(week_of(60)) as site, chromium.page(height=600) as page:
        drawn(page, site.url)
        first, last = (f"document.querySelectorAll('.strip canvas')[{at}]" for at in (0, 59))
        assert page.evaluate(f"{first}.width") > 1000
        assert page.evaluate(f"{last}.width") == 0
        assert page.evaluate(f"{last}.ariaLabel") == "not loaded yet"
        page.evaluate(f"{last}.scrollIntoView()")
        page.wait_for(f"{last}.ariaLabel.includes(' received')")
        page.wait_for(f"{first}.width === 0")
        page.evaluate(f"{first}.scrollIntoView()")
        page.wait_for(f"{first}.width > 1000 && {last}.width === 0")
        assert site.feed.listeners == 1
        hide = "Object.defineProperty(document, 'hidden', {value: %s, configurable: true}); "
        hide += "document.dispatchEvent(new Event('visibilitychange'))"
        page.evaluate(hide % "true")
        wait_until(lambda: site.feed.listeners == 0, "the page has gone")
        page.evaluate(hide % "false")
        wait_until(lambda: site.feed.listeners == 1, "the page is back")
        assert page.complaints() == []


def test_without_scripts_it_is_a_plain_table(chromium: Browser, site: Site) -> None:
    """All there is to know of now, and a group can be chosen with the form."""
    with chromium.page(width=400, scripts=False) as page:
        page.go(site.url)
        # The debugger may run scripts where the page may not.
        check_rows(page.evaluate(ROWS), site.json("data.json"))
        assert page.evaluate("document.documentElement.scrollWidth") == 400
        assert not page.evaluate("document.querySelector('canvas')")
        assert not page.evaluate("document.getElementById('zoom').checkVisibility()")
        page.evaluate("document.querySelector('[name=group]').value = '1'")
        page.click("document.getElementById('show')")
        page.wait_for("location.search === '?group=1'")
        page.wait_for("document.readyState === 'complete'")
        shown = [each for each in page.evaluate(ROWS) if not each["hidden"]]
        group = site.json("data.json")["targets"][1]["group"]
        assert len(shown) == sum(
            each["group"] == group for each in site.json("data.json")["targets"]
        )


def test_a_token_is_all_that_it_takes(chromium: Browser) -> None:
    """What the browser was given once it shows for data and events, too."""
    with served(FakeFeed([snapshot("a")]), TOKEN) as site, chromium.page() as page:
        page.go(site.url.replace("://", f"://me:{TOKEN}@"))
        page.wait_for("document.documentElement.dataset.drawn")
        page.wait_for("document.getElementById('connection').textContent.endsWith('UTC')")
        assert site.feed.listeners == 1
        assert page.complaints() == []


def test_a_hundred_targets_and_a_week_are_drawn_in_under_a_second(
    chromium: Browser, capsys: pytest.CaptureFixture[str]
) -> None:
    """That is of the processor's time in the page: a busy machine makes it no longer."""
    with served(week_of(100)) as site, chromium.page(height=20000) as page:
        page.call("Performance.enable", timeDomain="threadTicks")
        drawn(page, site.url)
        assert page.evaluate("document.documentElement.dataset.drawn") == "100"
        total, strips = page.evaluate(
            "['techo: all strips drawn', 'techo: a strip'].map(name => "
            "performance.getEntriesByName(name).reduce((all, each) => all + each.duration, 0))"
        )
        metrics = page.call("Performance.getMetrics")["metrics"]
        spent = {each["name"]: each["value"] for each in metrics}["TaskDuration"]
    with capsys.disabled():
        print(  # noqa: T201  -- the figure is what this is for
            f"\n100 targets, a week of hours: drawn in {strips:.0f} ms, {total:.0f} ms after "
            f"the page was asked for; {1000 * spent:.0f} ms of processor time in the page"
        )
    assert 0 < spent < 1
    assert 0 < strips < math.inf

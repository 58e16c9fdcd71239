"""The page's app in memory: what is at each path, the stream of events, and who may see it."""

from __future__ import annotations

import base64
import json
import math
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlencode

import attrs
import pytest
import trio
import trio.testing

from techo._operate.web import App
from techo._watch.columns import Columns, events
from techo._watch.counts import Span
from techo._watch.events import Event, EventKind, State
from techo._watch.table import row_of
from techo._watch.web_access import require_token
from techo._watch.web_app import MOST_LISTENERS, SHARED, UPDATE, WatchApp
from watch.feeds import HOSTILE, FakeFeed, change, counts, snapshot, week_of

TOKEN = "correct-horse-battery"  # noqa: S105  -- a test's own


@attrs.define
class Response:
    """What an app has sent."""

    status: int = 0
    headers: dict[str, str] = attrs.field(factory=dict)
    body: bytes = b""
    complete: bool = False

    async def send(self, message: Mapping[str, Any]) -> None:
        """Note what is sent."""
        await trio.lowlevel.checkpoint()
        assert not self.complete
        if message["type"] == "http.response.start":
            self.status = message["status"]
            found = [(name.decode(), value.decode()) for name, value in message["headers"]]
            self.headers = dict(found)
            assert len(self.headers) == len(found)
        else:
            self.body += message["body"]
            self.complete = not message.get("more_body", False)

    @property
    def json(self) -> Any:
        """The body, read as JSON."""
        return json.loads(self.body)

    @property
    def events(self) -> list[tuple[str, Any]]:
        """The events that have come so far."""
        found = []
        for block in self.body.decode().split("\n\n")[:-1]:
            name, data = block.split("\n")
            found.append(
                (name.removeprefix("event: "), json.loads(data.removeprefix("data: ")))
            )
        return found


def scope(path: str, method: str = "GET", **headers: str) -> dict[str, Any]:
    """Return what an ASGI server says of a request."""
    path, _, query = path.partition("?")
    return {
        "type": "http",
        "method": method,
        "path": path,
        "query_string": query.encode(),
        "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
    }


async def ask(app: App, path: str, method: str = "GET", **headers: str) -> Response:
    """Return an app's response to a request."""
    response = Response()
    await app(scope(path, method, **headers), trio.sleep_forever, response.send)
    assert response.complete
    return response


@asynccontextmanager
async def listening(app: App) -> AsyncIterator[Response]:
    """Ask for the stream of events, and go away at the end."""
    response, gone = Response(), trio.Event()

    async def receive() -> Mapping[str, Any]:
        await gone.wait()
        return {"type": "http.disconnect"}

    async with trio.open_nursery() as nursery:
        nursery.start_soon(app, scope("/events"), receive, response.send)
        await trio.testing.wait_all_tasks_blocked()
        yield response
        gone.set()


def test_minutes_are_merged_into_columns_and_hours_stay_as_they_are() -> None:
    """What came late takes one from the loss of another minute of its column."""
    spans = [
        Span("a", 0, 3600, counts([128] * 7)),
        Span("a", 3600, 60, counts([127, 128, 143, 144], eof=2)),
        Span("a", 4140, 60, attrs.evolve(counts([]), down_seconds=1.5)),
        Span("a", 4200, 60, counts([5], eof=-1)),
    ]
    found = Columns(600)
    for each in spans:
        found.add(each)
    assert json.loads(found.to_text()) == [
        {"start": 0, "seconds": 3600, "received": 7, "lost": 0, "down_seconds": 0.0,
         "buckets": [16, 7]},
        {"start": 3600, "seconds": 600, "received": 4, "lost": 2, "down_seconds": 1.5,
         "buckets": [15, 1, 16, 2, 17, 1]},
        {"start": 4200, "seconds": 600, "received": 1, "lost": 0, "down_seconds": 0.0,
         "buckets": [0, 1]},
    ]  # fmt: skip


def test_events_are_those_that_lasted_in_a_range() -> None:
    """What is over, what goes on, and what goes on from before the changes that are known."""
    first = Event(kind=EventKind.DOWN, since=100, seconds=50)
    second = Event(kind=EventKind.DEGRADED, since=300)
    changes = [change("a", 150, ended=first), change("a", 300, began=second)]
    assert events(changes, None, 0, 1000) == [first, second]
    assert events(changes, None, 150, 300) == []
    assert events(changes, None, 149, 301) == [first, second]
    assert events(changes, None, 999, 1000) == [second]
    ended = attrs.evolve(second, seconds=10.0)
    assert events([*changes, change("a", 310, ended=ended)], None, 0, 999) == [first, ended]
    away = row_of(snapshot("a", State.DOWN, since=50.0))
    assert events([], away, 60, 70) == [Event(kind=EventKind.DOWN, since=50.0)]


async def test_each_path_has_what_the_page_needs(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """Names come back as they are, and nothing is left out."""
    feed = week_of(len(HOSTILE), names=HOSTILE)
    app = WatchApp(feed)
    data = (await ask(app, "/data.json")).json
    assert [each["target"] for each in data["targets"]] == HOSTILE
    assert data["oldest"] == feed.since
    assert set(data) == {"at", "oldest", "targets"}  # what has a schema says so
    rows = (await ask(app, "/rows.json")).json
    assert {each["target"] for each in rows["rows"]} == set(HOSTILE)
    assert f'data-version="{rows["version"]}"' in (await ask(app, "/")).body.decode()
    for name in HOSTILE:
        query = urlencode({"target": name, "seconds": 3600})
        (found,) = (await ask(app, f"/spans.json?{query}")).json["targets"]
        total = next(each for each in feed.found if each.target == name).total
        spans = feed.spans_of[name]
        assert found["target"] == name
        assert sum(each["received"] for each in found["spans"]) == total.received
        start = spans[0].start
        query = urlencode({"target": name, "seconds": 3600, "start": start})
        moment = (await ask(app, f"/moment.json?{query}")).json
        assert moment["counts"] == spans[0].counts.to_json()
        assert moment["buckets"] == found["spans"][0]["buckets"]
    changes = (await ask(app, "/changes.json?since=0")).json["changes"]
    assert changes == [each.to_json() for each in feed.changed]


@pytest.mark.parametrize(
    ("seconds", "grade"), [(60, 60), (600, 60), (3600, 3600), (7200, 3600), (172800, 86400)]
)
async def test_columns_are_made_of_the_longest_spans_that_fit(seconds: int, grade: int) -> None:
    """A week of minutes is not read for a week of hours."""
    feed = FakeFeed([snapshot("a")])
    await ask(WatchApp(feed), f"/spans.json?target=a&seconds={seconds}&since=0&until=99999")
    assert feed.asked == [grade]


@pytest.mark.parametrize(
    ("path", "status", "text"),
    [
        ("/spans.json", 400, "target=NAME is missing"),
        ("/spans.json?" + "target=a&" * 21, 400, "there are more than 20"),
        ("/moment.json?target=a&target=a", 400, "there are more than 1"),
        ("/spans.json?target=b", 404, "no target has this name"),
        ("/moment.json?target=b&start=0&seconds=60", 404, "no target has this name"),
        ("/spans.json?target=a&seconds=90", 400, "seconds is not a multiple of 60"),
        ("/spans.json?target=a&seconds=0", 400, "seconds is not a multiple of 60"),
        ("/spans.json?target=a&seconds=1e3", 400, "seconds is not a whole number"),
        ("/spans.json?target=a&since=nan", 400, "since is no Unix time"),
        ("/spans.json?target=a&until=1e300", 400, "until is no Unix time"),
        ("/spans.json?target=a&since=-1", 400, "since is no Unix time"),
        ("/spans.json?target=a&since=9&until=9", 400, "until is not after since"),
        ("/spans.json?target=a&seconds=60&since=0", 400, "or above 2000 times 60 s after it"),
        ("/moment.json?target=a&seconds=60", 400, "start is not a whole number"),
        ("/moment.json?target=a&start=1&seconds=61", 400, "seconds is not a multiple of 60"),
        ("/changes.json?" + "x=1&" * 30, 400, "Max number of fields exceeded"),
        ("/metrics", 404, "there are /, /changes.json, /data.json"),
        ("/static/page.js", 404, "there are"),
        ("/../web.py", 404, "there are"),
        ("/readyz", 503, "starting"),
    ],
)
async def test_what_is_asked_for_wrongly_is_refused_in_a_sentence(
    path: str, status: int, text: str
) -> None:
    """It says what is wrong, and repeats nothing that was sent."""
    app = WatchApp(FakeFeed([snapshot("a", State.UNKNOWN)]))
    response = await ask(app, path)
    assert (response.status, response.headers["content-type"]) == (
        status,
        "text/plain; charset=utf-8",
    )
    assert text in response.body.decode()


async def test_a_history_that_cannot_be_read_takes_nothing_else_along() -> None:
    """What is known now is shown on, and the strips say what is wrong."""
    app = WatchApp(FakeFeed([snapshot("a")], broken="watch.db: disk I/O error"))
    response = await ask(app, "/spans.json?target=a")
    assert (response.status, response.body) == (503, b"watch.db: disk I/O error\n")
    for path in ("/rows.json", "/data.json"):
        assert (await ask(app, path)).json["oldest"] is None


async def test_a_target_that_is_gone_takes_none_along() -> None:
    """Of several that are asked for it alone has nothing."""
    feed = week_of(2)
    found = (await ask(WatchApp(feed), "/spans.json?target=gone&target=host-001.example")).json
    gone, other = found["targets"]
    assert gone == {"target": "gone", "spans": [], "events": []}
    assert len(other["spans"]) >= 168


async def metrics(accept: str) -> tuple[bytes, str]:
    """Return what stands for the metrics."""
    await trio.lowlevel.checkpoint()
    return b"techo_up 1\n", f"text/plain; asked={accept}"


PATHS = ["/", "/style.css", "/icon.svg", "/page.js", "/strip.js", "/moment.js", "/common.js"]
PATHS += ["/data.json", "/rows.json", "/spans.json?target=a", "/changes.json", "/metrics"]
PATHS += ["/moment.json?target=a&start=0&seconds=60", "/healthz", "/readyz", "/nothing"]


@pytest.mark.parametrize("path", PATHS)
async def test_every_response_has_a_strict_policy(path: str) -> None:
    """Nothing inline, nothing from elsewhere, in no other site's frame, and to read only."""
    app = WatchApp(FakeFeed([snapshot("a")]), metrics)
    response = await ask(app, path)
    assert response.status == (404 if path == "/nothing" else 200)
    assert response.body
    policy = dict(
        part.strip().split(" ", 1)
        for part in response.headers["content-security-policy"].split(";")
    )
    assert policy.pop("require-trusted-types-for") == "'script'"
    assert policy == {
        "default-src": "'none'",
        "script-src": "'self'",
        "style-src": "'self'",
        "connect-src": "'self'",
        "img-src": "'self'",
        "form-action": "'self'",
        "base-uri": "'none'",
        "frame-ancestors": "'none'",
    }
    assert response.headers["x-content-type-options"] == "nosniff"
    assert response.headers["referrer-policy"] == "no-referrer"
    assert response.headers["cache-control"] == "no-store"
    assert (await ask(app, path, "HEAD")).headers == response.headers
    assert (await ask(app, path, "POST")).status == 405


async def test_metrics_are_made_for_who_asks() -> None:
    """The Accept header decides on their format."""
    response = await ask(WatchApp(FakeFeed(), metrics), "/metrics", accept="text/x")
    assert (response.body, response.headers["content-type"]) == (
        b"techo_up 1\n",
        "text/plain; asked=text/x",
    )


async def test_what_all_ask_for_is_made_once_a_second(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """The probes need the time."""
    feed = FakeFeed([snapshot("a")])
    app = WatchApp(feed)
    first = (await ask(app, "/data.json")).json
    feed.found = [snapshot("b")]
    await trio.sleep(0.9)
    assert (await ask(app, "/data.json")).json == first
    await trio.sleep(0.2)
    assert (await ask(app, "/data.json")).json["targets"][0]["target"] == "b"
    await trio.sleep(1)
    assert b'"target":"b"' in (await ask(app, "/rows.json")).body
    await trio.sleep(0.9)
    feed.found = [snapshot("c")]
    assert b">b<" in (await ask(app, "/")).body
    await trio.sleep(0.2)
    version = (await ask(app, "/rows.json")).json["version"]
    assert f'data-version="{version}"' in (await ask(app, "/")).body.decode()


async def test_events_come_as_they_happen_and_all_rows_now_and_then(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """The first rows come at once, so that nothing is missed between two connections."""
    feed = FakeFeed([snapshot("a")])
    app = WatchApp(feed)
    rows = (await ask(app, "/rows.json")).json
    async with listening(app) as response:
        assert response.headers["content-type"] == "text/event-stream"
        assert response.events == [("rows", rows)]
        down = change("a\n\ndata: {}", 5.0)
        feed.found = [snapshot("a", State.DOWN)]
        feed.publish(down)
        feed.publish(down)
        await trio.sleep(SHARED - 0.1)
        assert response.events[1:] == [("change", down.to_json())] * 2
        await trio.sleep(0.2)
        name, rows = response.events[-1]
        assert (name, rows["rows"][0]["state"]) == ("rows", "down")
        await trio.sleep(2 * UPDATE)
        assert [name for name, _ in response.events[3:]] == ["rows"] * 3
    assert feed.listeners == 0
    head = await ask(app, "/events", "HEAD")
    assert (head.status, head.body) == (200, b"")


async def test_listeners_are_few(autojump_clock: trio.testing.MockClock) -> None:
    """One more is refused, until another one goes."""
    app = WatchApp(FakeFeed([snapshot("a")]))
    async with trio.open_nursery() as nursery:
        async with listening(app):
            for _ in range(MOST_LISTENERS - 1):
                nursery.start_soon(app, scope("/events"), trio.sleep_forever, Response().send)
            await trio.testing.wait_all_tasks_blocked()
            refused = await ask(app, "/events")
            assert (refused.status, refused.body) == (503, b"16 pages are listening already\n")
        async with listening(app) as response:
            assert response.status == 200
        nursery.cancel_scope.cancel()


async def test_a_connection_lives_as_long_as_its_peer_reads(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """Each part that was sent prolongs it; one that is stuck does not."""
    begun = trio.current_time()
    prolonged = list[float]()
    state = {"techo.prolong": lambda: prolonged.append(trio.current_time() - begun)}

    async def send(_message: object) -> None:
        await trio.sleep(math.inf if trio.current_time() - begun > 2 * UPDATE else 0)

    with trio.move_on_after(10 * UPDATE):
        app = WatchApp(FakeFeed([snapshot("a")]))
        await app(scope("/events") | {"state": state}, trio.sleep_forever, send)
    assert prolonged == [0, 0, UPDATE, 2 * UPDATE]


def basic(user: str, password: str) -> str:
    """Return what a browser sends."""
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


@pytest.mark.parametrize(
    ("shown", "status"),
    [
        (f"Bearer {TOKEN}", 200),
        (f"bearer  {TOKEN}", 200),
        (basic("anybody", TOKEN), 200),
        (basic("", TOKEN), 200),
        (basic("a", f"b:{TOKEN}"), 401),
        (basic(TOKEN, ""), 401),
        (f"Bearer {TOKEN}x", 401),
        (f"Bearer {TOKEN[:-1]}", 401),
        ("Bearer", 401),
        ("Basic", 401),
        ("Basic ===", 401),
        ("Basic \xff", 401),
        ("Bearer \xff\xfe", 401),
        (TOKEN, 401),
        ("", 401),
        (f"Digest {TOKEN}", 401),
    ],
)
async def test_a_token_opens_everything_and_nothing_else_does(shown: str, status: int) -> None:
    """Page, data, events and metrics alike; only whether it lives may be asked without."""
    app = require_token(WatchApp(FakeFeed([snapshot("a")]), metrics), TOKEN)
    headers = {"authorization": shown} if shown else {}
    for path in (*PATHS[:-3], "/changes.json"):
        response = await ask(app, path, **headers)
        assert response.status == status, path
        if status == 401:
            challenge = 'Basic realm="techo watch", charset="UTF-8"'
            assert response.headers["www-authenticate"] == challenge
            assert b"techo_up" not in response.body
    head = await ask(app, "/events", "HEAD", **headers)
    assert head.status == status
    assert (await ask(app, f"/?token={TOKEN}")).status == 401
    for path in ("/healthz", "/readyz"):
        assert (await ask(app, path)).status == 200

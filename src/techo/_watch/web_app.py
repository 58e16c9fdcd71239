"""The app: the page, what it is drawn from, and the metrics, by HTTP and to read only."""

from __future__ import annotations

import contextlib
import importlib.resources
import json
import math
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from typing import Any, Final, Generic, TypeAlias, TypeVar
from urllib.parse import parse_qs

import attrs
import trio

from techo._operate.web import header, prolong, respond
from techo._watch.columns import Past, events, flat, grade, look_back, merged
from techo._watch.counts import DAY, HOUR, MINUTE
from techo._watch.events import Change, State
from techo._watch.feed import Feed
from techo._watch.history_file import HistoryError
from techo._watch.page import MODULES, page
from techo._watch.table import Row, Table, row_of
from techo._watch.turns import in_turns

MOST_LISTENERS: Final = 16
"""Pages that are kept up to date at once; one more is refused, and asks each few seconds."""

UPDATE: Final = 5.0
"""Seconds from one update of all targets to the next."""

SHARED: Final = 1.0
"""Seconds for which all who ask are given the same."""

MOST_COLUMNS: Final = 2000
"""In one response: more than a screen has."""

MOST_TARGETS: Final = 20
"""In one request for columns."""

SECURITY: Final = (
    (
        b"content-security-policy",
        (
            b"default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
            b"img-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'; "
            b"require-trusted-types-for 'script'"
        ),
    ),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cross-origin-opener-policy", b"same-origin"),
)
"""Nothing but what this server has, nothing inline, and in no other site's frame."""

STATIC: Final = {
    **{f"/{name}.js": "text/javascript; charset=utf-8" for name in ("page", *MODULES)},
    "/style.css": "text/css; charset=utf-8",
    "/icon.svg": "image/svg+xml",
}
"""Files of the package, which may be in an archive."""

Expose: TypeAlias = Callable[[str], Awaitable[tuple[bytes, str]]]
"""Makes the metrics for an Accept header: the text and its content type."""

T = TypeVar("T")


class _RefusedError(Exception):
    """The response is no success, and the text says why."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


@attrs.define(eq=False)
class _Shared(Generic[T]):
    """Something that is made at most once in a while, for all who ask meanwhile."""

    make: Callable[[], Awaitable[T]]
    _found: T | None = None
    _until: float = -math.inf
    _lock: trio.Lock = attrs.field(factory=trio.Lock, init=False)

    async def get(self) -> T:
        async with self._lock:
            if self._found is None or trio.current_time() >= self._until:
                self._found = await self.make()
                self._until = trio.current_time() + SHARED
            return self._found


@attrs.define(eq=False)
class WatchApp:
    """An ASGI app that shows what a feed has; see `require_token` for who may see it."""

    feed: Feed
    expose: Expose | None = None
    _listeners: int = 0
    _table: _Shared[tuple[Table, bytes]] = attrs.field(init=False)
    """With what brings a page up to date: it must not be older than a page."""
    _data: _Shared[bytes] = attrs.field(init=False)
    _routes: Mapping[str, tuple[Callable[[_Query], Awaitable[str | bytes]], str]] = attrs.field(
        init=False
    )

    def __attrs_post_init__(self) -> None:
        self._table = _Shared(self._make_table)
        self._data = _Shared(self._make_data)
        self._routes = {
            "/": (self._page, "text/html; charset=utf-8"),
            "/data.json": (lambda _query: self._data.get(), _JSON),
            "/rows.json": (self._rows, _JSON),
            "/spans.json": (self._spans, _JSON),
            "/moment.json": (self._moment, _JSON),
            "/changes.json": (self._changes, _JSON),
            "/events": (_nothing, _EVENTS),
            "/healthz": (_alive, _TEXT),
            "/readyz": (self._ready, _TEXT),
        }

    async def __call__(self, scope: Mapping[str, Any], receive: Any, send: Any) -> None:
        """Respond to one request."""
        if scope["type"] != "http":
            return  # there is nothing to do at the start and the end
        prolong(scope)
        if scope["method"] not in ("GET", "HEAD"):
            await _plain(send, 405, "this can only be read")
        elif scope["path"] == "/events" and scope["method"] == "GET":
            await self._tell_events(scope, receive, send)
        else:
            try:
                found = await self._found(scope)
            except _RefusedError as error:
                await _plain(send, error.status, str(error))
            except HistoryError as error:
                await _plain(send, 503, str(error))
            except ValueError as error:
                await _plain(send, 400, str(error))
            else:
                await respond(send, 200, *found, more_headers=SECURITY)

    async def _found(self, scope: Mapping[str, Any]) -> tuple[str | bytes, str]:
        """Return what is at a path: the body and its content type."""
        path = scope["path"]
        if path in STATIC:
            return _static(path), STATIC[path]
        if path == "/metrics" and self.expose is not None:
            return await self.expose(header(scope, b"accept"))
        if path not in self._routes:
            known = sorted([*self._routes, *["/metrics"] * (self.expose is not None)])
            raise _RefusedError(404, f"there are {', '.join(known)}")
        make, content_type = self._routes[path]
        return await make(_Query.of(scope)), content_type

    async def _make_table(self) -> tuple[Table, bytes]:
        found = [row_of(each) async for each in in_turns(self.feed.snapshots())]
        table = Table.of(found, time.time(), await self._oldest())
        rows = [_json(each.to_json()) async for each in in_turns(table.rows)]
        return table, _with(table.to_json(), "rows", rows)

    async def _rows(self, _query: _Query | None = None) -> bytes:
        return (await self._table.get())[1]

    async def _make_data(self) -> bytes:
        found = in_turns(self.feed.snapshots())
        targets = [_json(each.to_json()) async for each in found]
        head = {"at": time.time(), "oldest": await self._oldest()}
        return _with(head, "targets", targets)

    async def _oldest(self) -> float | None:
        """Return since when anything is known: what is known now can do without."""
        try:
            return await self.feed.oldest()
        except HistoryError:
            return None

    async def _ready(self, _query: _Query) -> str:
        """Return ``ready`` as soon as anything is known of any target."""
        table, _ = await self._table.get()
        if all(each.state == State.UNKNOWN for each in table.rows):
            raise _RefusedError(503, "starting")
        return "ready\n"

    async def _page(self, query: _Query) -> str:
        group, problems = query.text("group"), query.text("problems") == "1"
        table, _ = await self._table.get()
        parts = page(table, group=group, problems=problems)
        return "".join([each async for each in in_turns(parts)])

    async def _spans(self, query: _Query) -> bytes:
        """Return columns in a range of time, and the events in it, for each target."""
        targets, seconds = query.targets(), query.whole("seconds", HOUR)
        _check_minutes(seconds)
        until = query.number("until", time.time())
        since = query.number("since", until - 7 * DAY)
        if not since < until <= since + MOST_COLUMNS * seconds:
            raise ValueError(
                f"until is not after since, or above {MOST_COLUMNS} times {seconds} s after it"
            )
        table, _ = await self._table.get()
        rows = {each: table.by_name.get(each) for each in targets}
        begins = {each: look_back(row, since) for each, row in rows.items()}
        pasts = await self.feed.pasts(begins, since, until, seconds)
        # Of several, one may have just been taken away.
        if len(targets) == 1 and not (rows[targets[0]] or pasts[targets[0]].columns):
            raise _RefusedError(404, _UNKNOWN)

        def strip(target: str, past: Past) -> bytes:
            lasted = events(past.changes, rows[target], since, until)
            found = {"target": target, "events": [each.to_json() for each in lasted]}
            return _json(found)[:-1] + f',"spans":{past.columns.to_text()}}}'.encode()

        found = [strip(each, pasts[each]) async for each in in_turns(targets)]
        return _with({}, "targets", found)

    async def _moment(self, query: _Query) -> bytes:
        """Return all that is known of what befell a target in one column of its strip."""
        (target,) = query.targets(1)
        start, seconds = query.whole("start"), query.whole("seconds")
        _check_minutes(seconds)
        end = start + seconds
        spans = await self.feed.spans(target, start, end, grade(seconds))
        counts = merged(spans, start, end)
        row = await self._row(target, known=bool(spans))
        changes = await self.feed.changes(target, look_back(row, start), time.time())
        return _json(
            {
                "target": target,
                "start": start,
                "seconds": seconds,
                "counts": counts.to_json(),
                "buckets": flat(counts.latency.coarse()),
                "events": [each.to_json() for each in events(changes, row, start, end)],
            }
        )

    async def _changes(self, query: _Query) -> bytes:
        until = query.number("until", time.time())
        since = query.number("since", until - DAY)
        found = await self.feed.changes(query.text("target"), since, until)
        return _json({"changes": [each.to_json() for each in found]})

    async def _row(self, target: str, *, known: bool) -> Row | None:
        """Return how a target is now; None if it is only in the history."""
        table, _ = await self._table.get()
        found = table.by_name.get(target)
        if found is None and not known:
            raise _RefusedError(404, _UNKNOWN)
        return found

    async def _tell_events(self, scope: Mapping[str, Any], receive: Any, send: Any) -> None:
        """Send changes as they happen, and now and then all targets, until the client goes."""
        if self._listeners >= MOST_LISTENERS:
            await _plain(send, 503, f"{MOST_LISTENERS} pages are listening already")
            return
        self._listeners += 1
        lock, changed = trio.Lock(), trio.Event()

        async def tell(event: str, data: bytes) -> None:
            body = b"event: %s\ndata: %s\n\n" % (event.encode(), data)
            async with lock:
                await send({"type": "http.response.body", "body": body, "more_body": True})
            prolong(scope)  # it was read

        async def tell_changes(changes: AsyncIterator[Change]) -> None:
            async for change in changes:
                await tell("change", _json(change.to_json()))
                changed.set()

        async def tell_rows() -> None:
            nonlocal changed
            while True:
                await tell("rows", await self._rows())
                with trio.move_on_after(UPDATE):
                    await changed.wait()
                if changed.is_set():
                    changed = trio.Event()
                    await trio.sleep(SHARED)  # those that are made then have it

        headers = [(b"content-type", _EVENTS.encode()), (b"cache-control", b"no-store")]
        headers += [(b"x-content-type-options", b"nosniff"), *SECURITY]
        try:
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            async with self.feed.subscribe() as changes, trio.open_nursery() as nursery:
                nursery.start_soon(tell_changes, changes)
                nursery.start_soon(tell_rows)
                while (await receive())["type"] != "http.disconnect":
                    pass
                nursery.cancel_scope.cancel(reason="the client is gone")
        finally:
            self._listeners -= 1


_JSON: Final = "application/json"
_TEXT: Final = "text/plain; charset=utf-8"
_EVENTS: Final = "text/event-stream"

_UNKNOWN: Final = "no target has this name"

_LATEST: Final = 10**11
"""In Unix time: what is later no calendar here knows."""


@attrs.frozen
class _Query:
    """What a request asks for, after the question mark."""

    values: Mapping[str, list[str]]

    @classmethod
    def of(cls, scope: Mapping[str, Any]) -> _Query:
        return cls(
            parse_qs(scope["query_string"].decode("latin-1"), max_num_fields=MOST_TARGETS + 9)
        )

    def text(self, name: str) -> str | None:
        return self.values.get(name, [None])[-1]

    def targets(self, most: int = MOST_TARGETS) -> list[str]:
        found = self.values.get("target", [])
        if not 1 <= len(found) <= most:
            raise ValueError(f"target=NAME is missing, or there are more than {most}")
        return found

    def number(self, name: str, default: float) -> float:
        text = self.text(name)
        if text is None:
            return default
        with contextlib.suppress(ValueError):
            if 0 <= (found := float(text)) < _LATEST:
                return found
        raise ValueError(f"{name} is no Unix time in seconds")

    def whole(self, name: str, default: int | None = None) -> int:
        text = self.text(name)
        if text is None and default is not None:
            return default
        if text is None or not text.isdecimal() or not int(text) < _LATEST:
            raise ValueError(f"{name} is not a whole number of seconds")
        return int(text)


def _check_minutes(seconds: int) -> None:
    if not seconds or seconds % MINUTE:
        raise ValueError("seconds is not a multiple of 60")


def _json(found: object) -> bytes:
    return json.dumps(found, separators=(",", ":")).encode()


def _with(fields: Mapping[str, object], name: str, items: Iterable[bytes]) -> bytes:
    """Return an object of fields and a list of what is JSON already."""
    head = _json(fields)[:-1] + b"," * bool(fields)
    return head + _json(name) + b":[" + b",".join(items) + b"]}"


def _static(path: str) -> bytes:
    return (importlib.resources.files("techo._watch") / "static" / path[1:]).read_bytes()


async def _nothing(_query: _Query) -> bytes:
    await trio.lowlevel.checkpoint()
    return b""  # what HEAD gets of a stream


async def _alive(_query: _Query) -> str:
    await trio.lowlevel.checkpoint()
    return "alive\n"


async def _plain(send: Any, status: int, text: str) -> None:
    await respond(send, status, text + "\n", more_headers=SECURITY)

"""The options of watch that keep what it finds, and show it to who asks by HTTP."""

from __future__ import annotations

import argparse
import contextlib
import functools
import os
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Final

import attrs

from techo._cli.metrics import check_extra, read_address
from techo._cli.options import Group, option
from techo._cli.output import print_error
from techo._cli.readers import FILE, Form
from techo._printable import quoted
from techo.endpoint import DEFAULT_HOST, EVERY_INTERFACE, Endpoint

if TYPE_CHECKING:
    import trio

    from techo._watch.history import History
    from techo._watch.watch import Watch

KEEPING: Final = Group(
    "Keeping and showing",
    [
        option(
            "--history",
            FILE,
            "write down minutes, hours, days and changes in this file; techo history reports "
            "from it",
            shown="none",
            named="",
        ),
        option(
            "--web",
            Form("[ADDRESS:]PORT", read_address),
            "show a page of all targets there, and /metrics for Prometheus; a port alone is of "
            f"{DEFAULT_HOST}. It takes the extra metrics",
            shown="off",
        ),
        option(
            "--web-token",
            FILE,
            "a file with the token that the page then takes, which another address than a "
            "loopback one needs; TECHO_WEB_TOKEN may have the token itself",
            shown="none",
            named="",
        ),
    ],
)


@attrs.frozen
class Web:
    """Where the page is, and who may see it."""

    place: Endpoint
    token: str | None

    @property
    def host(self) -> str | None:
        """Its address; None is every one."""
        return None if self.place.host == EVERY_INTERFACE else self.place.host

    async def start(self, watch: Watch, history: History, nursery: trio.Nursery) -> None:
        """Serve it in a nursery; if that can't be, say so in one line, and go on."""
        from techo import __version__
        from techo._watch.metrics import SharedExposition
        from techo._watch.watch_feed import WatchFeed
        from techo._watch.web import serve_web

        serve = functools.partial(
            serve_web,
            WatchFeed(watch, history),
            self.host,
            self.place.port,
            token=self.token,
            expose=SharedExposition(watch.snapshots, __version__),
        )
        try:
            _, port = await nursery.start(serve)
        except OSError as error:
            reason = error.strerror or error
            print_error(f"techo: no page on {self.place}: {reason}; watching goes on")
            return
        where = str(attrs.evolve(self.place, port=port)).partition("//")[2]
        print_error(f"techo: a page is on http://{where}/, metrics on http://{where}/metrics")


def web_of(options: argparse.Namespace) -> Web | None:
    """Return where the page is to be, if it is wanted.

    Raises:
        ValueError: what it needs is not installed, or its token is missing or none; the text
            has the remedy.
    """
    if options.web is None:
        if options.web_token is not None:
            raise ValueError("--web-token is for --web ADDRESS:PORT, which is missing")
        return None
    check_extra("--web")
    from techo._watch.web_access import VARIABLE, is_loopback, read_token

    try:
        token = read_token(options.web_token, os.environ)
    except OSError as error:
        why = f"cannot read {quoted(options.web_token)}: {error.strerror or error}"
        raise ValueError(f"--web-token: {why}") from None
    web = Web(options.web, token)
    if token is None and not is_loopback(web.host):
        raise ValueError(
            f"--web: other machines can reach {options.web.host}, so the page needs a token: "
            f"--web-token FILE, or {VARIABLE}"
        )
    return web


@contextlib.asynccontextmanager
async def keeping(
    path: str | None, web: Web | None, watch: Watch, nursery: trio.Nursery
) -> AsyncIterator[None]:
    """Keep a history of a watch for a block, if it is wanted, and show the page."""
    if path is None and web is None:
        yield
        return
    from techo._watch.history import open_history

    async with open_history(path) as history:
        watch.recorder = history
        if web is not None:
            await web.start(watch, history, nursery)
        yield

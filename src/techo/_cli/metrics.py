"""The option of serve that shows its metrics and its health to who asks by HTTP."""

from __future__ import annotations

import argparse
import importlib.util
import logging
from typing import TYPE_CHECKING, Final

import attrs

from techo._cli.options import Group, option
from techo._cli.readers import Form
from techo._printable import quoted
from techo.endpoint import DEFAULT_HOST, EVERY_INTERFACE, Endpoint, Kind

if TYPE_CHECKING:
    import trio

    import techo
    from techo._operate.counting import CountingHook
    from techo._operate.health import HealthApp
    from techo._operate.workers import Workers
    from techo._server.hook import ServiceHook

_log = logging.getLogger("techo.server")


def read_address(text: str) -> Endpoint:
    """Read ADDRESS:PORT, or a port alone, which is one of this machine's own.

    Raises:
        ValueError: it has the text, and what would be right.
    """
    right = "a port such as 9100, or an address and a port such as 192.0.2.7:9100 or *:9100"
    try:
        found = Endpoint.parse(text)
    except ValueError:
        raise ValueError(f"{quoted(text)} is not {right}") from None
    if found.kind is not Kind.TCP or not text.rpartition(":")[2].isdecimal():
        raise ValueError(f"{quoted(text)} is not {right}")
    return found


METRICS: Final = Group(
    "Watching",
    [
        option(
            "--metrics",
            Form("[ADDRESS:]PORT", read_address),
            "serve /metrics for Prometheus, /healthz and /readyz there by HTTP; a port alone "
            f"is of {DEFAULT_HOST}. It takes the extra metrics",
            shown="off",
        )
    ],
)


@attrs.define(eq=False)
class Pages:
    """The pages of one service: its metrics and its health."""

    place: Endpoint
    counting: CountingHook
    """Must be a hook of the service."""
    _app: HealthApp | None = None

    async def start(self, service: techo.EchoService | Workers, nursery: trio.Nursery) -> None:
        """Serve them in a nursery; if that can't be, say so in one line, and go on."""
        from techo import EchoService, __version__
        from techo._operate.counting import Counters, LatestCounters
        from techo._operate.health import HealthApp, State
        from techo._operate.metrics import ServiceCollector, exposition
        from techo._operate.sums import counters_of
        from techo._operate.web import WebServer, host_check

        if isinstance(service, EchoService):
            counting, durations = service, self.counting.durations
            latest = LatestCounters(lambda: Counters(counting.statistics(), durations))
            nursery.start_soon(latest.keep_adding_up)
            count = latest.get
        else:
            workers = service  # whose reports are sums already
            count = lambda: counters_of(workers.report())  # noqa: E731  -- one of two
        self._app = HealthApp(exposition(ServiceCollector(count, __version__)), State.READY)
        server = WebServer(host_check(self._app, [self.place.host]))
        host = None if self.place.host == EVERY_INTERFACE else self.place.host
        try:
            _, port = await nursery.start(server.serve, host, self.place.port)
        except OSError as error:
            _log.error("no metrics on %s: %s", self.place, error.strerror or error)
            return
        where = str(attrs.evolve(self.place, port=port)).partition("//")[2]
        _log.info("metrics on http://%s/metrics", where)

    def report(self, state: str) -> None:
        """Say from now on that the service is ``leaving`` or ``draining``, so not ready."""
        from techo._operate.health import State

        if self._app is not None:
            self._app.state = State(state)


def check_extra(wanted: str) -> None:
    """Refuse what needs the extra `metrics` if that is not installed.

    Raises:
        ValueError: it has what is wanted, and how to install it.
    """
    for package, name in (("prometheus_client", "prometheus-client"), ("hypercorn",) * 2):
        if importlib.util.find_spec(package) is None:
            raise ValueError(
                f"{wanted} needs {name}: in the checkout, pip install '.[metrics]' (the extra "
                "metrics)"
            )


def pages_of(options: argparse.Namespace) -> Pages | None:
    """Return the pages that the options ask for.

    Raises:
        ValueError: what they need is not installed; the text says how to.
    """
    if options.metrics is None:
        return None
    check_extra("--metrics")
    from techo._operate.counting import CountingHook

    return Pages(options.metrics, CountingHook())


def joined(*hooks: ServiceHook | None) -> ServiceHook | None:
    """Return one hook for those that there are; None if there is none."""
    found = [each for each in hooks if each is not None]
    if len(found) < 2:  # noqa: PLR2004  -- there is nothing to join
        return found[0] if found else None
    from techo._operate.hooks import Hooks

    return Hooks(found)

"""What ping says of the packets that replies came in, and of the way."""

from __future__ import annotations

import errno
import json

import attrs
import pytest
import trio

import techo
from helpers import call, serving
from pings import see
from techo._kernel import stamps
from techo._kernel.error_queue import NetworkError, Origin
from techo._kernel.reports import ReportedError
from techo._ping.records import Records
from techo._ping.text import line_of, summary_of
from techo._probing.causes import cause_of, words_of
from techo._probing.trip import Ending, Trip, TripState

pytestmark = pytest.mark.skipif(not stamps.AVAILABLE, reason="only Linux has stamps")


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
async def test_a_reply_has_what_its_packet_had(host: str) -> None:
    """Over udp; a connection has no packets of its own."""
    async with techo.open_server(techo.Endpoint(host, 0, kind="udp")) as server:
        seen = await see(techo.ping(server.endpoints[0], count=1))
    (reply,) = seen.results
    assert isinstance(reply, techo.PingReply)
    assert (reply.ttl, reply.hops, reply.dscp, reply.ecn) == (64, 0, 0, 0)
    reply = attrs.evolve(reply, ttl=250, dscp=46, ecn=3)
    assert line_of("x", reply, verbose=True).endswith(" ms ttl=250 hops=5 dscp=EF ecn=CE")
    assert "ttl" not in line_of("x", reply)
    unknown = attrs.evolve(reply, ttl=None, dscp=None)
    assert line_of("x", unknown, verbose=True).endswith(" ms")


def test_the_command_shows_it_if_asked() -> None:
    """With -v for people, and always for machines."""
    with serving("udp://127.0.0.1:0") as process:
        place = f"udp://127.0.0.1:{process.port}"
        _, out, _ = call("ping", "-v", "-n", "1", place)
        assert b" ttl=64 hops=0 dscp=DF\n" in out
        _, out, _ = call("ping", "--json", "-n", "1", place)
        assert json.loads(out.splitlines()[0])["ttl"] == 64


def too_large(origin: Origin, offender: str | None, mtu: int) -> Trip:
    """Return a trip that was too large, as somebody has reported."""
    entry = NetworkError(errno.EMSGSIZE, origin, 3, 4, mtu, offender, b"")
    error = ReportedError.of(entry)
    trip = Trip(1, b"x", 0.0, 0.0, TripState.LOST)
    trip.ending = Ending(cause_of(error), words_of(error), error)
    return trip


@pytest.mark.parametrize(
    ("reports", "words"),
    [
        # What this machine knows by then it knows from the router.
        ([("192.0.2.1", 1300), (None, 1300)], "packets of 1,300 bytes, says 192.0.2.1"),
        ([(None, 1300)], "packets of 1,300 bytes, as was known here"),
        ([("192.0.2.1", 1400), ("192.0.2.9", 1300)], "packets of 1,300 bytes, says 192.0.2.9"),
        ([("192.0.2.1", 1400), (None, 1300)], "packets of 1,300 bytes, as was known here"),
    ],
)
async def test_the_way_s_mtu_and_who_says_so(
    reports: list[tuple[str | None, int]], words: str
) -> None:
    """They are the latest of which there was a report."""
    await trio.lowlevel.checkpoint()
    async with techo.ping("udp://127.0.0.1:9", count=1) as ping:
        records: Records = ping._records
        for offender, mtu in reports:
            origin = Origin.LOCAL if offender is None else Origin.ICMP
            records.add(too_large(origin, offender, mtu))
        assert f"the way takes {words}" in [*summary_of(ping.statistics(), sweep=False)]
        found = ping.statistics().to_json()["path_mtu"]
        assert found["mtu_bytes"] == 1300

"""Records in memory: two sides of TLS whose bytes arrive in any pieces."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Iterator

import attrs
import pytest
import trustme
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers import trust
from refusals import VERSIONS, only
from techo._tls.records import TlsRecords

Sizes = Iterator[int]
"""How much to do at a time, for ever."""

LARGEST = 2**16

MESSAGES = st.lists(
    st.tuples(st.booleans(), st.integers(0, 3 * 2**14), st.booleans()), max_size=12
)
"""For each: whether the client sends it, how many bytes, and whether they arrive right away."""

PIECES = st.lists(st.integers(1, 2**15), min_size=1, max_size=6)
ROOMS = st.lists(st.integers(1, LARGEST), min_size=1, max_size=6)


def for_ever(sizes: list[int]) -> Sizes:
    """Repeat some sizes; the small ones once only, or a test would take for ever."""
    yield from sizes
    while True:
        yield max(*sizes, 1000)


@attrs.define
class Side:
    """One side, and what it was sent and has received."""

    records: TlsRecords
    pieces: Sizes
    rooms: Sizes
    wire: bytearray = attrs.field(factory=bytearray)
    """What is on its way to it."""
    sent: bytearray = attrs.field(factory=bytearray)
    received: bytearray = attrs.field(factory=bytearray)

    def arrive(self) -> bool:
        """Let a piece arrive; return whether there was one."""
        size = next(self.pieces)
        piece = bytes(self.wire[:size])
        del self.wire[:size]
        if piece:
            self.records.feed(piece)
        return bool(piece)

    def decrypt(self) -> None:
        """Take all there is, in rooms of any size; one that is not full has had all."""
        while True:
            room = memoryview(bytearray(next(self.rooms)))
            size = self.records.decrypt(room)
            self.received += room[:size]
            if size < len(room):
                more = self.records.decrypt(memoryview(bytearray(1)))
                assert not more, "there was more than it had said"
                return


@attrs.define
class Pair:
    """A client and a server."""

    client: Side
    server: Side

    def other(self, side: Side) -> Side:
        """Return the other one."""
        return self.server if side is self.client else self.client

    def send(self, side: Side, keep: int = 0) -> None:
        """Send what a side has made, of which the last `keep` bytes are put back before."""
        made = side.records.take()
        wire, cut = self.other(side).wire, max(0, len(made) - keep)
        wire.extend(made[:cut])
        for more in side.records.put_back(made[cut:], max(1, keep // 3)):
            assert not more, "nothing is to be encrypted for it"
            assert side.records.made
            wire.extend(side.records.take())
        assert not side.records.made

    def shake_hands(self) -> None:
        """Do the handshake, in pieces; what else is to be sent comes with the first message."""
        done = dict.fromkeys(("client", "server"), False)
        for _ in range(10_000):
            for name, side in (("client", self.client), ("server", self.server)):
                if not done[name]:
                    done[name] = side.records.shake_hands()
                if side.records.made:
                    self.send(side)
                if not done[name]:
                    side.arrive()
            if all(done.values()):
                return
        raise AssertionError("no handshake")

    def deliver(self) -> None:
        """Let all arrive that is on its way, and what is made of it."""
        again = True
        while again:
            again = False
            for side in (self.client, self.server):
                while side.arrive():
                    side.decrypt()
                    again = True
                if side.records.made:
                    self.send(side)
                    again = True


@pytest.fixture(params=VERSIONS, scope="module")
def contexts(
    request: pytest.FixtureRequest, authority: trustme.CA
) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """Return a client's and a server's, for one version."""
    client = trust(authority)
    only(client, request.param)
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("localhost").configure_cert(server)
    return client, server


@pytest.fixture(scope="module")
def pair(
    contexts: tuple[ssl.SSLContext, ssl.SSLContext],
) -> Callable[[list[int], list[int]], Pair]:
    """Return what makes two sides."""

    def make(pieces: list[int], rooms: list[int]) -> Pair:
        client = TlsRecords.of(contexts[0], server_side=False, server_hostname="localhost")
        server = TlsRecords.of(contexts[1], server_side=True)
        return Pair(
            Side(client, for_ever(pieces), for_ever(rooms)),
            Side(server, for_ever(pieces), for_ever(rooms)),
        )

    return make


@settings(max_examples=50)
@given(pieces=PIECES, rooms=ROOMS, messages=MESSAGES, keep=st.integers(0, 2000), data=st.data())
def test_bytes_come_out_as_they_went_in(  # noqa: PLR0917  -- what is given
    pair: Callable[[list[int], list[int]], Pair],
    pieces: list[int],
    rooms: list[int],
    messages: list[tuple[bool, int, bool]],
    keep: int,
    data: st.DataObject,
) -> None:
    """Whatever pieces records arrive in, and are sent and put back in; then both end."""
    both = pair(pieces, rooms)
    both.shake_hands()
    for number, (by_client, size, now) in enumerate(messages):
        side = both.client if by_client else both.server
        message = (number.to_bytes() + bytes(range(251))) * (size // 252 + 1)
        assert side.records.encrypt(message[:size])
        side.sent += message[:size]
        both.send(side, keep)
        if now:
            both.other(side).arrive()
            both.other(side).decrypt()
    both.deliver()
    first = both.client if data.draw(st.booleans(), "the client ends it") else both.server
    for side in (first, both.other(first)):
        assert not both.other(side).records.peer_ended
        side.records.end()
        assert side.records.eof_sent
        both.send(side)
        both.deliver()
        assert both.other(side).records.peer_ended
    for side in (both.client, both.server):
        assert side.records.failure is None
        assert side.records.error is None
        assert both.other(side).received == side.sent


@settings(max_examples=30)
@given(pieces=PIECES, rooms=ROOMS, size=st.integers(1, 5000), where=st.integers(0, 10_000))
def test_a_record_that_was_changed_is_a_failure_after_what_came_before_it(
    pair: Callable[[list[int], list[int]], Pair],
    pieces: list[int],
    rooms: list[int],
    size: int,
    where: int,
) -> None:
    """Nothing can be encrypted after it, and the other side learns of it by an alert."""
    both = pair(pieces, rooms)
    both.shake_hands()
    client, server = both.client, both.server
    client.records.encrypt(b"before")
    both.send(client)
    client.records.encrypt(bytes(size))
    changed = bytearray(client.records.take())
    changed[5 + where % (len(changed) - 5)] ^= 1
    server.wire += changed
    both.deliver()
    assert server.received == b"before"
    assert server.records.failure is not None
    assert not server.records.encrypt(b"after")
    assert not server.records.peer_ended
    assert str(server.records.error).startswith("TLS failed: ")
    assert str(client.records.error) == "TLS failed: received alert bad record mac"
    assert not client.records.encrypt(b"after")


@settings(max_examples=30)
@given(pieces=PIECES, missing=st.integers(1, 60))
def test_an_end_without_close_notify_is_a_failure(
    pair: Callable[[list[int], list[int]], Pair], pieces: list[int], missing: int
) -> None:
    """Even between two records; what came before it comes out first."""
    both = pair(pieces, [LARGEST])
    both.shake_hands()
    both.client.records.encrypt(b"whole")
    whole = both.client.records.take()
    both.client.records.encrypt(bytes(100))
    rest = both.client.records.take()
    both.server.wire += whole + rest[:-missing] * (missing % 2)
    both.deliver()
    both.server.records.feed_end()
    both.server.decrypt()
    assert both.server.received == b"whole"
    assert isinstance(both.server.records.failure, ssl.SSLEOFError)
    assert not both.server.records.peer_ended
    assert not both.server.records.encrypt(b"after")


def test_what_was_put_back_leaves_before_what_is_made_later(
    pair: Callable[[list[int], list[int]], Pair],
) -> None:
    """Or the other side could not decrypt it."""
    both = pair([LARGEST], [LARGEST])
    both.shake_hands()
    client = both.client.records
    client.encrypt(b"first ")
    made = client.take()
    both.server.wire += made[:7]
    for nothing in client.put_back(made[7:], LARGEST):
        assert client.encrypt(nothing)
        assert client.encrypt(b"second")
        both.server.wire += client.take()
    assert not client.made
    both.deliver()
    assert both.server.received == b"first second"

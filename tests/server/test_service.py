"""The handler over any stream: outcomes, counters, replies that go wrong."""

from __future__ import annotations

import logging
from collections.abc import Callable

import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

import techo
from helpers import ended, receive_until_end


async def exchange(service: techo.EchoService, *messages: bytes) -> bytes:
    """Make one connection: send, half-close, and return all that comes back."""
    ours, theirs = trio.testing.memory_stream_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(service.handle, theirs)
        for message in messages:
            await ours.send_all(message)
            await trio.testing.wait_all_tasks_blocked()
        await ours.send_eof()
        back = await receive_until_end(ours)
    return back


async def test_every_chunk_is_answered_and_counted() -> None:
    """Chunks, bytes in and bytes out are what passed."""
    service = techo.EchoService(lambda chunk: b"<" + chunk + b">")
    assert await exchange(service, b"a", b"bc") == b"<a><bc>"
    statistics = service.statistics()
    assert (statistics.chunks, statistics.bytes_in, statistics.bytes_out) == (2, 3, 7)
    assert ended(statistics) == {"eof": 1}


async def test_the_default_reply_is_stamped() -> None:
    """The default reply is stamped, as in the tutorial."""
    assert (await exchange(techo.EchoService(), b"hello")).endswith(b"] hello")


async def test_a_reply_leaves_in_one_send() -> None:
    """Stamp and chunk are never two sends, which a peer might receive as two."""
    ours, theirs = trio.testing.memory_stream_pair()
    await ours.send_all(b"hello")
    await ours.send_eof()
    sent: list[bytes] = []
    send_all = theirs.send_stream.send_all

    async def recorded(data: bytes) -> None:
        sent.append(bytes(data))
        await send_all(data)

    theirs.send_stream.send_all = recorded  # type: ignore[method-assign,assignment]  # to see
    await techo.EchoService().handle(theirs)
    (whole,) = sent
    assert whole.endswith(b"] hello")


@given(st.lists(st.binary(min_size=1, max_size=50), max_size=8), st.integers(1, 64))
def test_any_bytes_come_back_in_order(messages: list[bytes], receive_size: int) -> None:
    """Whatever is sent and however it is cut, the same bytes come back."""
    service = techo.EchoService(techo.raw, limits=techo.Limits(receive_size=receive_size))
    assert trio.run(exchange, service, *messages) == b"".join(messages)
    statistics = service.statistics()
    assert statistics.bytes_in == statistics.bytes_out == sum(map(len, messages))
    assert statistics.chunks >= len(messages)


async def test_a_reply_is_given_bytes() -> None:
    """Streams may deliver bytearrays; a reply can rely on bytes, which can be a key."""
    seen: list[type] = []

    def note(chunk: bytes) -> bytes:
        seen.append(type(chunk))
        return chunk

    await exchange(techo.EchoService(note), b"hello")
    assert seen == [bytes]


async def test_an_empty_reply_sends_nothing() -> None:
    """A reply may be empty."""
    assert await exchange(techo.EchoService(lambda _: b""), b"hello") == b""


def refuse_x(chunk: bytes) -> bytes:
    """Raise on some chunks."""
    if b"x" in chunk:
        raise OSError("no x please")
    return chunk


def forget_to_encode(chunk: bytes) -> bytes:
    """Return what is not bytes, as the tutorial's server does."""
    return str(chunk) if b"x" in chunk else chunk  # type: ignore[return-value]  # the mistake


@pytest.mark.parametrize("reply", [refuse_x, forget_to_encode])
async def test_a_reply_that_raises_ends_only_its_own_connection(
    reply: Callable[[bytes], bytes], caplog: pytest.LogCaptureFixture
) -> None:
    """The others are served on; the traceback is in the log, with the peer's name."""
    service = techo.EchoService(reply)
    assert await exchange(service, b"a") == b"a"
    assert await exchange(service, b"x") == b""
    assert await exchange(service, b"b") == b"b"
    assert ended(service.statistics()) == {"eof": 2, "crashed": 1}
    (record,) = [each for each in caplog.records if each.exc_info]
    assert record.getMessage() == "the reply to StapledStream failed"


async def test_the_books_balance_at_every_moment() -> None:
    """Accepted == active + sum(outcomes), seen from inside every reply as well."""
    seen: list[techo.Statistics] = []

    def watching(chunk: bytes) -> bytes:
        seen.append(service.statistics())
        return chunk

    service = techo.EchoService(watching)
    async with trio.open_nursery() as nursery:
        for number in range(10):
            nursery.start_soon(exchange, service, *[b"x"] * number)
    seen.append(service.statistics())
    assert len(seen) == 46
    for each in seen:
        assert each.accepted == each.active + sum(each.outcomes.values())
    assert {each.active for each in seen} >= {0, 2, 9}


async def test_cancellation_aborts_and_closes() -> None:
    """A handler that is cancelled closes its stream and is counted."""
    service = techo.EchoService()
    ours, theirs = trio.testing.memory_stream_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(service.handle, theirs)
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    assert ended(service.statistics()) == {"aborted": 1}
    assert await ours.receive_some() == b""


async def test_a_stream_closed_by_our_own_program_is_aborted(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """An embedder may close what it handed in; that is no crash."""
    service = techo.EchoService()
    _ours, theirs = trio.testing.memory_stream_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(service.handle, theirs)
        await trio.testing.wait_all_tasks_blocked()
        await theirs.aclose()
    assert ended(service.statistics()) == {"aborted": 1}
    assert not [each for each in caplog.records if each.exc_info]


async def test_a_stream_that_fails_to_close_ends_only_its_own_connection(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """No `Exception` ever leaves the handler."""
    service = techo.EchoService()
    ours, theirs = trio.testing.memory_stream_pair()
    await ours.send_eof()

    async def fail() -> None:  # noqa: ASYNC124  -- as bad as can be
        raise RuntimeError("not in peace")

    theirs.aclose = fail  # type: ignore[method-assign]  # a stream that can't be closed in peace
    await service.handle(theirs)
    assert ended(service.statistics()) == {"eof": 1}
    assert caplog.messages == ["closing StapledStream failed"]


async def test_a_stream_closed_by_our_own_program_during_the_graceful_close_is_no_crash(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """What ended the conversation stays its outcome."""
    service = techo.EchoService(limits=techo.Limits(idle_timeout=1, close_timeout=10))
    _ours, theirs = trio.testing.memory_stream_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(service.handle, theirs)
        await trio.sleep(5)
        await theirs.aclose()
    assert ended(service.statistics()) == {"idle": 1}


async def test_connections_beyond_the_limit_are_closed_at_once() -> None:
    """`refused` is an outcome, and the place is free again when another connection ends."""
    service = techo.EchoService(limits=techo.Limits(max_connections=1))
    first, theirs = trio.testing.memory_stream_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(service.handle, theirs)
        await trio.testing.wait_all_tasks_blocked()
        assert await exchange_refused(service)
        await first.send_eof()
    assert await exchange(service, b"a") != b""
    assert ended(service.statistics()) == {"eof": 2, "refused": 1}


async def exchange_refused(service: techo.EchoService) -> bool:
    """Return whether a connection is closed without having been served."""
    ours, theirs = trio.testing.memory_stream_pair()
    await service.handle(theirs)
    return await ours.receive_some() == b""


async def test_a_connection_makes_two_lines_in_the_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """`connected` and `closed` are logged, with peer, outcome, counts and seconds."""
    caplog.set_level(logging.INFO, "techo")
    await exchange(techo.EchoService(techo.raw), b"hello")
    connected, closed = caplog.records
    assert connected.getMessage() == "connected StapledStream id=1"
    assert closed.getMessage().startswith(
        "closed StapledStream outcome=eof chunks=1 bytes_in=5 bytes_out=5 seconds=0."
    )
    assert closed.getMessage().endswith(" id=1")


async def test_handle_is_a_checkpoint_even_when_it_refuses() -> None:
    """Whatever it does, other tasks get their turn."""
    service = techo.EchoService(limits=techo.Limits(max_connections=1))
    ours, theirs = trio.testing.memory_stream_pair()
    await ours.send_eof()
    with trio.testing.assert_checkpoints():
        await service.handle(theirs)
    async with trio.open_nursery() as nursery:
        stuck = trio.testing.memory_stream_pair()[1]
        nursery.start_soon(service.handle, stuck)
        await trio.testing.wait_all_tasks_blocked()
        with trio.testing.assert_checkpoints():
            await service.handle(trio.testing.memory_stream_pair()[1])
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("idle_timeout", 0),
        ("idle_timeout", -1),
        ("idle_timeout", float("nan")),
        ("idle_timeout", "60"),
        ("lifetime", -0.5),
        ("max_connections", 0),
        ("max_connections", 2.5),
        ("max_per_host", 0),
        ("drain_timeout", -1),
        ("close_timeout", float("inf")),
        ("receive_size", 0),
        ("receive_size", 2**24 + 1),
        ("backlog", -1),
    ],
)
def test_a_limit_out_of_range_names_field_and_value(name: str, value: object) -> None:
    """Bad configuration is a ValueError that names the field and the value."""
    with pytest.raises(ValueError, match=name) as caught:
        techo.Limits(**{name: value})  # type: ignore[arg-type]  # a wrong value, on purpose
    assert repr(value) in str(caught.value)


def test_limits_at_the_edge_of_their_range_are_good() -> None:
    """What the messages call allowed is allowed."""
    limits = techo.Limits(drain_timeout=0, close_timeout=0, receive_size=2**24, max_per_host=1)
    assert limits.max_per_host == 1

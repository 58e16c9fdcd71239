"""httpx and h11 against whatever the network does: what they promise, and what was found.

The chapter `test` speaks of what is found here, in the versions that the group `system` names.
"""

from __future__ import annotations

import contextlib
import gzip

import h11
import httpx  # noqa: ASYNC127  -- the client that most programs have; its successor is another
import hypothesis
import pytest
import trio
from hypothesis import given

from plans import (
    FINDING,
    LIES,
    NAME,
    THOROUGH,
    End,
    Serve,
    connect_to,
    end_of,
    open_by,
    secured,
    timed,
    trusting,
)
from techo.testing import FaultPlan, Proxy, Throttle, Truncate, fault_plans

BODY = b"0123456789" * 5
HEAD = b"HTTP/1.1 200 OK\r\nconnection: close\r\n"
ZIPPED = gzip.compress(BODY, mtime=0)
UNTIL_THE_END = HEAD + b"\r\n"
ZIPPED_UNTIL_THE_END = HEAD + b"content-encoding: gzip\r\n\r\n"
ANSWERS = {
    "length": HEAD + b"content-length: 50\r\n\r\n" + BODY,
    "chunks": HEAD + b"transfer-encoding: chunked\r\n\r\n32\r\n" + BODY + b"\r\n0\r\n\r\n",
    "gzip": HEAD
    + b"content-encoding: gzip\r\ncontent-length: %d\r\n\r\n" % len(ZIPPED)
    + ZIPPED,
}
"""Answers that say where they end."""


def answering(answer: bytes) -> Serve:
    """Return a server of HTTP that has only one answer."""

    async def serve(stream: trio.abc.Stream) -> None:
        request = b""
        with contextlib.suppress(trio.BrokenResourceError):
            async with stream:
                async for data in stream:
                    request += data
                    if b"\r\n\r\n" in request:
                        await stream.send_all(answer)
                        return

    return serve


CONTEXT = trusting()


async def call_httpx(proxy: Proxy, scheme: str = "http") -> End:
    """Get a page by httpx, with a timeout of five seconds."""
    async with httpx.AsyncClient(
        timeout=5, trust_env=False, verify=CONTEXT, headers={"connection": "close"}
    ) as client:

        async def get() -> bytes:
            content: bytes = (await client.get(f"{scheme}://{NAME}/")).content
            return content

        with open_by(proxy):
            return await timed(get(), httpx.HTTPError)


@pytest.mark.parametrize("answer", ANSWERS.values(), ids=ANSWERS.keys())
def test_httpx_returns_the_page_or_raises_in_time(answer: bytes) -> None:
    """An answer that says where it ends is returned whole, or an HTTPError is raised."""

    @THOROUGH
    @given(
        plan=fault_plans(
            "memory", without=[*LIES, Throttle], max_upstream_faults=1, max_bytes=200
        )
    )
    def check(plan: FaultPlan) -> None:
        end = end_of(plan, answering(answer), call_httpx)
        assert end.result in {BODY, None}
        assert end.seconds <= 10

    check()


def test_httpx_over_tls_keeps_the_same_promise() -> None:
    """What happens to the handshake is an HTTPError, too."""
    serve = secured(answering(ANSWERS["length"]))

    @THOROUGH
    @given(plan=fault_plans("memory", without=[Throttle], max_bytes=3000))
    def check(plan: FaultPlan) -> None:
        end = end_of(plan, serve, lambda proxy: call_httpx(proxy, "https"))
        assert end.result in {BODY, None}
        assert end.seconds <= 15  # the handshake has five of its own

    check()


def test_the_timeout_of_httpx_is_for_each_part() -> None:
    """An answer that comes byte by byte may take any time, as its documentation says."""
    serve = answering(ANSWERS["length"])
    plan = hypothesis.find(
        fault_plans("memory", Throttle),
        lambda plan: end_of(plan, serve, call_httpx).seconds > 60,
        settings=FINDING,
    )
    assert plan == FaultPlan([Throttle(1)])
    assert end_of(plan, serve, call_httpx).result == BODY


def test_httpx_takes_half_of_a_compressed_page_for_the_whole() -> None:
    """That gzip has an end of its own is not used where nothing else says where it ends."""
    plan = hypothesis.find(
        fault_plans("memory", without=LIES, max_bytes=200),
        lambda plan: (
            end_of(plan, answering(ZIPPED_UNTIL_THE_END + ZIPPED), call_httpx).result
            not in {BODY, None}
        ),
        settings=FINDING,
    )
    assert plan == FaultPlan([Truncate(len(ZIPPED_UNTIL_THE_END))])


async def call_h11(proxy: Proxy) -> End:
    """Get a page by h11, with thirty seconds for all of it."""

    async def get() -> bytes:
        with trio.fail_after(30):
            return await get_by_h11(await connect_to(proxy))

    promised = (h11.RemoteProtocolError, trio.BrokenResourceError, trio.TooSlowError)
    return await timed(get(), *promised)


async def get_by_h11(stream: trio.abc.Stream) -> bytes:
    """Get a page in the way that the documentation of h11 shows."""
    connection = h11.Connection(h11.CLIENT)
    headers = [("host", NAME), ("connection", "close")]
    request = connection.send(h11.Request(method="GET", target="/", headers=headers))
    assert request is not None
    connection.send(h11.EndOfMessage())
    await stream.send_all(request)
    body = b""
    while not isinstance(event := connection.next_event(), h11.EndOfMessage):
        if event is h11.NEED_DATA:
            connection.receive_data(bytes(await stream.receive_some()))
        elif isinstance(event, h11.Data):
            body += event.data
    return body


@pytest.mark.parametrize("answer", ANSWERS.values(), ids=ANSWERS.keys())
def test_h11_returns_the_page_or_a_protocol_error(answer: bytes) -> None:
    """An answer that says where it ends is returned whole; a lie may remain unseen."""

    @THOROUGH
    @given(plan=fault_plans("memory", max_upstream_faults=1, max_bytes=200))
    def check(plan: FaultPlan) -> None:
        end = end_of(plan, answering(answer), call_h11)
        lies = {type(fault) for fault in (*plan.faults, *plan.upstream_faults)} & {*LIES}
        assert lies or end.result in {answer.partition(b"\r\n\r\n")[2], BODY, None}
        assert end.seconds <= 30

    check()


def test_http_itself_cannot_tell_where_an_answer_without_length_ends() -> None:
    """What ends with the connection is taken for whole, as RFC 9112 has it (6.3)."""
    plan = hypothesis.find(
        fault_plans("memory", without=LIES, max_bytes=200),
        lambda plan: (
            end_of(plan, answering(UNTIL_THE_END + BODY), call_h11).result not in {BODY, None}
        ),
        settings=FINDING,
    )
    assert plan == FaultPlan([Truncate(len(UNTIL_THE_END))])

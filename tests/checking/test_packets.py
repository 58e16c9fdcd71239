"""The suite on connections with messages: services that lose where one ends."""

from __future__ import annotations

import socket
from collections.abc import Callable
from pathlib import Path

import pytest
import trio
import trio.testing

from helpers import PATIENCE
from techo.testing import EchoServiceError, check_echo_service

BAD: dict[str, Callable[[bytes], list[bytes]]] = {
    "splits": lambda data: [data[:1000], data[1000:]],
    "cuts": lambda data: [data[:8192]],
}


@pytest.mark.parametrize("bad", BAD)
async def test_messages_that_change_their_bounds_are_rejected(
    bad: str, tmp_path: Path, patient_clock: trio.testing.MockClock
) -> None:
    """A split message is a fault, though every byte of it comes back."""

    async def serve(listener: trio.socket.SocketType) -> None:
        async with trio.open_nursery() as nursery:
            while True:
                accepted, _ = await listener.accept()
                nursery.start_soon(echo, accepted)

    async def echo(sock: trio.socket.SocketType) -> None:
        with sock:
            try:
                while data := await sock.recv(2**18):
                    for part in filter(None, BAD[bad](data)):
                        await sock.send(part)
            except OSError:
                return  # the suite has seen enough

    kind = socket.SOCK_SEQPACKET
    with trio.socket.socket(socket.AF_UNIX, kind) as listener, trio.fail_after(PATIENCE):
        await listener.bind(str(tmp_path / "s"))
        listener.listen(100)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(serve, listener)
            with pytest.raises(EchoServiceError) as caught:
                await check_echo_service(
                    f"unixpacket:{tmp_path}/s",
                    connections=5,
                    patience=1,
                    skip=["16-MiB", "back-pressure"],
                )
            nursery.cancel_scope.cancel()
    failed = {each.name: each for each in caught.value.report.failed}
    assert "came back as one of" in failed["message-bounds"].evidence
    assert (set(failed) == {"message-bounds"}) is (bad == "splits")

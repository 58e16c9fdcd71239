"""What the kernel knows of Multipath TCP, as bytes; and a kernel that knows nothing of it."""

from __future__ import annotations

import errno
import socket
from typing import Any

import pytest

import techo
from techo._kernel import mptcp


@pytest.mark.parametrize(
    ("info", "subflows"),
    [
        (bytes([1, 9, 9]) + bytes(45), 2),  # of Linux 5.16, which leaves out the first
        (bytes([1, 9, 9]) + bytes(77) + bytes([2]) + bytes(15), 2),
        (bytes(80) + bytes([1]) + bytes(15), 1),
        (bytes(96), 0),  # all of them are over
    ],
)
def test_subflows_are_counted_as_old_and_new_kernels_do(info: bytes, subflows: int) -> None:
    """The first is one of them."""
    assert mptcp.subflows_in(info) == subflows


def test_what_connections_became_adds_up() -> None:
    """Those that speak MPTCP and those that are plain TCP, and the most subflows of one."""
    one, other = techo.MptcpPaths.of([2, None, 3]), techo.MptcpPaths.of([None])
    assert one == techo.MptcpPaths(connections=2, plain=1, subflows=3)
    assert other + one == techo.MptcpPaths(connections=2, plain=2, subflows=3)


@pytest.mark.parametrize("number", [errno.ENOPROTOOPT, errno.EPROTONOSUPPORT, errno.EINVAL])
def test_a_kernel_without_it_opens_plain_tcp(
    number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether it is switched off, left out, or younger than the kernel."""

    def refuse(*_: Any) -> socket.socket:
        raise OSError(number, "refused")

    monkeypatch.setattr(socket, "socket", refuse)
    assert mptcp.protocol(socket.AF_INET) == 0


def test_a_shortage_is_not_taken_for_a_kernel_without_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It is raised, as from any socket."""

    def refuse(*_: Any) -> socket.socket:
        raise OSError(errno.EMFILE, "too many")

    monkeypatch.setattr(mptcp, "_IPPROTO_MPTCP", 262)
    monkeypatch.setattr(socket, "socket", refuse)
    with pytest.raises(OSError, match="too many"):
        mptcp.protocol(socket.AF_INET)

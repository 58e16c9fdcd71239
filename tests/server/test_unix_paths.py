"""Unix paths: live servers are not disturbed, dead ones replaced, nothing is left behind."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest
import trio

import techo
from helpers import PATIENCE, ended, receive_until_end

KINDS = {
    "unix": socket.SOCK_STREAM,
    "unixgram": socket.SOCK_DGRAM,
    "unixpacket": socket.SOCK_SEQPACKET,
}

pytestmark = pytest.mark.parametrize("kind", KINDS)


async def hello(kind: str, path: str) -> bytes:
    """Send one message and receive its reply."""
    with socket.socket(socket.AF_UNIX, KINDS[kind]) as sock:
        if kind == "unixgram":
            sock.bind("")
        sock.connect(path)
        ours = trio.socket.from_stdlib_socket(sock)
        with trio.fail_after(PATIENCE):
            await ours.send(b"hello")
            return await ours.recv(100)


async def refused(text: str) -> OSError:
    """Return the error of a server that cannot have its path."""
    with pytest.raises(OSError) as caught:  # noqa: PT011  -- the caller looks at it
        async with techo.open_server(text):
            pass
    assert caught.value.filename == text
    return caught.value


async def test_a_path_is_served_and_removed(kind: str, tmp_path: Path) -> None:
    """The path is there from the start of the block to its end."""
    path = tmp_path / "echo"
    async with techo.open_server(f"{kind}:{path}", reply=techo.raw) as server:
        assert [str(each) for each in server.endpoints] == [f"{kind}:{path}"]
        assert stat.S_ISSOCK(path.lstat().st_mode)
        assert await hello(kind, str(path)) == b"hello"
    assert not path.exists()


async def test_an_abstract_name_is_served_without_a_path(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Linux keeps an abstract name; no file appears."""
    name = f"techo-test-{os.getpid()}-{kind}"
    monkeypatch.chdir(tmp_path)
    async with techo.open_server(f"{kind}:@{name}", reply=techo.raw):
        assert await hello(kind, "\0" + name) == b"hello"
        assert not list(tmp_path.iterdir())  # noqa: ASYNC240  -- in memory


async def test_a_live_path_is_not_disturbed(kind: str, tmp_path: Path) -> None:
    """The second server gets an error and the first goes on, whatever the second's kind."""
    path = tmp_path / "echo"
    async with techo.open_server(f"{kind}:{path}", reply=techo.raw):
        for other in KINDS:
            error = await refused(f"{other}:{path}")
            assert error.errno == errno.EADDRINUSE
            assert await hello(kind, str(path)) == b"hello"


async def test_a_full_backlog_is_alive_too(kind: str, tmp_path: Path) -> None:
    """A server whose queue is full counts as alive."""
    if kind == "unixgram":
        pytest.skip("datagrams know no backlog")
    path = str(tmp_path / "echo")
    with contextlib.ExitStack() as stack:
        busy = stack.enter_context(socket.socket(socket.AF_UNIX, KINDS[kind]))
        busy.bind(path)
        busy.listen(0)
        for _ in range(2):
            sock = stack.enter_context(socket.socket(socket.AF_UNIX, KINDS[kind]))
            sock.setblocking(False)
            found = sock.connect_ex(path)
        assert found == errno.EAGAIN
        assert (await refused(f"{kind}:{path}")).errno == errno.EADDRINUSE


async def test_a_path_left_behind_is_replaced(kind: str, tmp_path: Path) -> None:
    """A path of a server that was killed is replaced, whatever its kind."""
    path = tmp_path / "echo"
    for other in KINDS.values():
        with socket.socket(socket.AF_UNIX, other) as dead:
            dead.bind(str(path))
        assert path.exists()
        async with techo.open_server(f"{kind}:{path}", reply=techo.raw):
            assert await hello(kind, str(path)) == b"hello"
        assert not path.exists()


@pytest.mark.parametrize("what", ["file", "directory", "link"])
async def test_what_is_no_socket_is_left_alone(kind: str, what: str, tmp_path: Path) -> None:
    """A file that is no socket is left alone."""
    path = tmp_path / "echo"
    if what == "file":
        path.write_text("precious")
    elif what == "directory":
        path.mkdir()
    else:
        path.symlink_to("nowhere")
    assert (await refused(f"{kind}:{path}")).errno == errno.EEXIST
    assert path.is_dir() or path.is_symlink() or path.read_text() == "precious"


async def test_a_path_that_is_somebody_else_s_now_stays(kind: str, tmp_path: Path) -> None:
    """A path that another server has replaced is not removed."""
    path = tmp_path / "echo"
    async with techo.open_server(f"{kind}:{path}"):
        path.rename(tmp_path / "old")
        path.write_text("new")
    assert path.read_text() == "new"


@pytest.mark.parametrize("mode", [0o600, 0o660, 0o777])
@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
async def test_permissions_are_as_wanted_at_every_moment(
    kind: str, mode: int, umask: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The mode holds from the moment of binding."""
    path = tmp_path / "echo"
    seen: list[int] = []
    chmod = os.chmod

    def watch(which: str, wanted: int) -> None:
        seen.append(stat.S_IMODE(path.lstat().st_mode))
        chmod(which, wanted)

    monkeypatch.setattr(os, "chmod", watch)
    before = os.umask(umask)
    try:
        async with techo.open_server(f"{kind}:{path}", unix_mode=mode):
            assert stat.S_IMODE(path.lstat().st_mode) == mode
    finally:
        os.umask(before)
    assert all(each & ~mode == 0 for each in seen)
    assert len(seen) == bool(mode & umask)


@pytest.fixture
def left_behind(kind: str, tmp_path: Path) -> Path:
    """The path of a server that has got `kill -9`."""
    path = tmp_path / "echo"
    command = [sys.executable, "-m", "techo", "-q", f"{kind}:{path}"]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == f"listening on {kind}:{path}\n".encode()
        process.kill()
    assert path.exists()
    return path


async def test_a_server_that_was_killed_can_be_started_again(
    kind: str, left_behind: Path
) -> None:
    """The path that it leaves behind is no obstacle."""
    async with techo.open_server(f"{kind}:{left_behind}", reply=techo.raw):
        assert await hello(kind, str(left_behind)) == b"hello"


async def test_a_path_that_cannot_be_removed_costs_nobody_a_byte(
    kind: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """It is one warning, and the drain goes on: pending replies leave, on every endpoint."""
    path = tmp_path / "echo"

    def refuse(name: str) -> None:
        raise PermissionError(errno.EACCES, "permission denied", name)

    limits = techo.Limits(drain_timeout=PATIENCE)
    places = (f"{kind}:{path}", "tcp://127.0.0.1:0")
    async with techo.open_server(*places, reply=techo.raw, limits=limits) as server:
        port = server.endpoints[1].port
        async with (
            await trio.open_tcp_stream("127.0.0.1", port) as stream,
            trio.open_nursery() as nursery,
        ):
            await stream.send_all(b"x")
            assert await stream.receive_some() == b"x"
            monkeypatch.setattr(os, "unlink", refuse)
            await stream.send_all(b"hello")  # the drain finds it on its way
            nursery.start_soon(server.drain)
            assert await receive_until_end(stream) == b"hello"
            await stream.aclose()
    assert ended(server.statistics()) == {"drained": 1}
    assert caplog.messages == [f"cannot remove {path}: permission denied; remove it"]
    monkeypatch.undo()
    path.unlink()

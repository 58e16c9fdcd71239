"""The pytest plugin, as projects with different async plugins meet it."""

from __future__ import annotations

import inspect
import re
import subprocess
import sys
import textwrap
import tomllib
from pathlib import Path

import pytest

import techo._pytest_plugin
from documents import chapter, pytest_files
from pytests import Run

pytest_plugins = ["pytester"]

PYPROJECT = Path(__file__).parents[2] / "pyproject.toml"

EXAMPLE = '''
import os

import pytest
import trio
import techo


async def greet(host, port):
    """Return the program under test: a client that sends hello."""
    async with await trio.open_tcp_stream(host, port) as stream:
        await stream.send_all(b"hello")
        return await stream.receive_some()


MARK
async def test_the_echo_comes_back(techo_server):
    endpoint = techo_server.endpoints[0]
    assert await greet(endpoint.host, endpoint.port) == b"hello"
    assert techo_server.statistics().bytes_in == 5


MARK
async def test_nobody_is_there(techo_closed_port):
    with trio.fail_after(30), pytest.raises(OSError):
        await greet("127.0.0.1", techo_closed_port)


MARK
async def test_there_need_be_no_network(techo_memory_server):
    async with await techo_memory_server.connect() as stream:
        await stream.send_all(b"hello")
        assert await stream.receive_some() == b"hello"


MARK
async def test_both_at_once(techo_server, techo_memory_server):
    await test_the_echo_comes_back(techo_server)
    await test_there_need_be_no_network(techo_memory_server)


MARK
async def test_what_is_left_open_is_closed(techo_server, techo_memory_server):
    stream = await techo_memory_server.connect()
    await stream.send_all(b"hello")
    endpoint = techo_server.endpoints[0]
    open_still = await trio.open_tcp_stream(endpoint.host, endpoint.port)
    await open_still.send_all(b"hello")
    assert await open_still.receive_some() == b"hello"
    LEFT.extend([open_still.socket.detach(), techo_server, techo_memory_server])


LEFT = []


def test_nothing_was_waited_for():
    descriptor, *servers = LEFT
    os.close(descriptor)
    for server in servers:
        assert server.statistics().outcomes["aborted"] == 1
'''
"""What a project's own tests look like; MARK is for what says which plugin runs them."""


def test_the_chapters_examples_pass_as_printed(pytester: pytest.Pytester, run: Run) -> None:
    """Those that need nothing but what these tests need; tests/system has all of them."""
    here = {"pytest", "pytest-trio", "anyio"}
    examples = [each for each in pytest_files(chapter("test")) if each.packages <= here]
    assert len(examples) >= 7
    files = {f"test_{number}": each.code for number, each in enumerate(examples)}
    pytester.makepyfile(**files)
    outcomes = run("").parseoutcomes()
    assert outcomes.keys() == {"passed"}
    assert outcomes["passed"] >= sum(each.code.count("def test_") for each in examples)


def test_under_trio_mode(run: Run) -> None:
    """Every async test and fixture is trio's in trio mode."""
    run(EXAMPLE.replace("MARK", ""), ini=["trio_mode = true"]).assert_outcomes(passed=6)


def test_under_an_explicit_mark(run: Run) -> None:
    """A test can be marked as trio's alone."""
    run(EXAMPLE.replace("MARK", "@pytest.mark.trio")).assert_outcomes(passed=6)


def test_under_anyio(run: Run) -> None:
    """The fixtures work with anyio's trio backend, without pytest-trio."""
    backend = "\n@pytest.fixture\ndef anyio_backend():\n    return 'trio'\n"
    source = EXAMPLE.replace("MARK", "@pytest.mark.anyio") + backend
    for arguments in ((), ("-p", "no:trio")):
        run(source, *arguments).assert_outcomes(passed=6)


def test_time_can_be_virtual(run: Run) -> None:
    """The memory server's idle timeout of a minute takes no time under an autojump clock."""
    source = """
import time
import trio

async def test_idle(techo_memory_server, autojump_clock):
    began = time.monotonic()
    stream = await techo_memory_server.connect()
    assert await stream.receive_some() == b""
    assert trio.current_time() == 60
    assert time.monotonic() - began < 30
"""
    run(source, ini=["trio_mode = true"]).assert_outcomes(passed=1)


FAULTY = """
import pytest
import trio
from techo.testing import Reset, Stall

@pytest.fixture
def anyio_backend():
    return "trio"

async def dial(server):
    endpoint = server.endpoints[0]
    return await trio.open_tcp_stream(endpoint.host, endpoint.port)

MARK
async def test_two_at_once(techo_faulty_server):
    resetting = await techo_faulty_server(Reset(after=2), seed=7)
    stalling = await techo_faulty_server(Stall(after=3))
    with trio.fail_after(30):
        async with await dial(resetting) as stream:
            await stream.send_all(b"hello")
            with pytest.raises(trio.BrokenResourceError):
                while True:
                    assert await stream.receive_some()
        async with await dial(stalling) as stream:
            await stream.send_all(b"hello")
            assert await stream.receive_some() == b"hel"
            with trio.move_on_after(0.05) as scope:
                await stream.receive_some()
            assert scope.cancelled_caught
    assert [type(each.fault) for each in resetting.history] == [Reset]
    assert resetting.seed == 7

MARK
async def test_before_a_server(techo_faulty_server, techo_proxy):
    server = await techo_faulty_server()
    proxy = await techo_proxy(server.endpoint, Reset(after=2), seed=7)
    async with await dial(proxy) as stream:
        await stream.send_all(b"hello")
        with pytest.raises(trio.BrokenResourceError):
            while True:
                assert await stream.receive_some()
    assert [type(each.fault) for each in proxy.history] == [Reset]
    assert proxy.upstream_history == ()
    with pytest.raises(ValueError, match="tls"):
        await techo_proxy("tls://localhost:443")

MARK
async def test_without_faults(techo_faulty_server):
    server = await techo_faulty_server()
    async with await dial(server) as stream:
        await stream.send_all(b"hello")
        assert await stream.receive_some() == b"hello"
    assert server.history == ()

MARK
async def test_what_cannot_be(techo_faulty_server, techo_proxy):
    with pytest.raises(ValueError, match="udp"):
        await techo_faulty_server(Stall(), endpoint="udp://127.0.0.1:0")
    for start in (techo_faulty_server, techo_proxy):
        with pytest.raises(TypeError, match=r"as arguments, .* not faults="):
            await start("localhost:1", faults=[Stall()])
"""


@pytest.mark.parametrize("mark", ["trio", "anyio"])
def test_servers_with_faults_are_made_by_the_test(run: Run, mark: str) -> None:
    """A test can start many; a fault that cannot happen there is a plain error."""
    run(FAULTY.replace("MARK", f"@pytest.mark.{mark}")).assert_outcomes(passed=4)


def test_every_test_has_servers_of_its_own(run: Run) -> None:
    """Each test has a server of its own."""
    source = """
import pytest

@pytest.mark.parametrize("time", ["first", "second"])
async def test_count(techo_memory_server, time):
    assert techo_memory_server.statistics().accepted == 0
    async with await techo_memory_server.connect() as stream:
        await stream.send_all(b"x")
        assert await stream.receive_some() == b"x"
    assert techo_memory_server.statistics().accepted == 1
"""
    run(source, ini=["trio_mode = true"]).assert_outcomes(passed=2)


def test_a_failing_test_is_told_as_it_failed(run: Run) -> None:
    """The fixtures add no failure of their own, in either plugin."""
    source = """
import pytest

@pytest.fixture
def anyio_backend():
    return "trio"

@pytest.mark.trio
async def test_trio(techo_server, techo_memory_server):
    assert await techo_memory_server.connect() is None

@pytest.mark.anyio
async def test_anyio(techo_server, techo_memory_server):
    assert await techo_memory_server.connect() is None
"""
    result = run(source)
    result.assert_outcomes(failed=2)
    failures = [f"FAILED *::test_{name} - *ssert*" for name in ("trio", "anyio")]
    result.stdout.fnmatch_lines(failures, consecutive=True)


def test_a_test_without_async_can_use_the_closed_port(run: Run) -> None:
    """Connecting is refused, and no other program can have the port meanwhile."""
    source = """
import socket
import pytest

def test_refused(techo_closed_port):
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", techo_closed_port))
    with socket.socket() as sock, pytest.raises(OSError):
        sock.bind(("127.0.0.1", techo_closed_port))
"""
    run(source, "-p", "no:trio", "-p", "no:anyio").assert_outcomes(passed=1)


def test_the_fixtures_say_what_they_are(run: Run) -> None:
    """Of each fixture `pytest --fixtures` shows the whole docstring, which is one paragraph."""
    shown = run("", "--fixtures").stdout.str()
    _, _, ours = shown.partition("fixtures defined from techo._pytest_plugin")
    described = dict(re.findall(r"^(techo_\w+) -- .*\n((?:    .+\n)+)", ours, re.MULTILINE))
    fixtures = {
        name: inspect.getdoc(thing)
        for name, thing in vars(techo._pytest_plugin).items()
        if name.startswith("techo_")
    }
    assert len(fixtures) == 7
    assert {name: textwrap.dedent(text).strip() for name, text in described.items()} == fixtures


def test_the_plugin_makes_nobody_wait() -> None:
    """Loading it loads neither trio nor a server; and techo never loads pytest."""
    heavy = "{'trio', 'attr', 'ssl', 'pytest_trio', 'anyio', 'techo._server'}"
    for code in (
        f"import techo._pytest_plugin; found = {heavy} & sys.modules.keys()",
        "import techo.testing; found = {'pytest'} & sys.modules.keys()",
    ):
        command = [
            sys.executable,
            "-c",
            f"import sys; {code}; sys.exit(str(found) if found else 0)",
        ]
        assert subprocess.run(command, check=False).returncode == 0


def test_the_entry_point_is_the_plugin() -> None:
    """The plugin that pytest loads where techo is installed exists."""
    project = tomllib.loads(PYPROJECT.read_text())["project"]
    assert project["entry-points"]["pytest11"] == {"techo": "techo._pytest_plugin"}

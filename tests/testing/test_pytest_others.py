"""The pytest plugin where no trio runs the test: what is missing, and servers in threads."""

from __future__ import annotations

import pytest

from pytests import Run

pytest_plugins = ["pytester"]

NEEDY = """
import pytest

@pytest.fixture
def anyio_backend():
    return "asyncio"
"""
NEEDY_TESTS = """
MARK
async def test_async_FIXTURE(FIXTURE):
    raise NotImplementedError

def test_plain_FIXTURE(FIXTURE):
    raise NotImplementedError
"""
INSTEAD = {
    "techo_server": "techo_thread_server",
    "techo_memory_server": "techo_thread_server",
    "techo_faulty_server": "techo_thread_server",
    "techo_proxy": "techo_thread_proxy",
}


@pytest.mark.parametrize(
    ("plugins", "mark", "missing"),
    [
        ("no:trio no:anyio", "", "needs a plugin * under trio: install pytest-trio"),
        ("no:anyio", "", "needs trio, and this test is not marked * @pytest.mark.trio *"),
        ("no:trio", "", "needs trio, and this test is not marked * @pytest.mark.anyio *"),
        ("no:trio", "@pytest.mark.anyio", "* asyncio: use INSTEAD, or *'trio'"),
    ],
)
def test_what_is_missing_is_said_in_a_sentence(
    run: Run, plugins: str, mark: str, missing: str
) -> None:
    """Where trio would not run an async fixture, it names the plugin, mark or other fixture."""
    tests = NEEDY_TESTS.replace("MARK", mark)
    source = NEEDY + "".join(tests.replace("FIXTURE", name) for name in INSTEAD)
    result = run(source, *(f"-p{plugin}" for plugin in plugins.split()))
    result.assert_outcomes(errors=8)
    plain = "is for async tests, and this one is not async: use INSTEAD"
    for name, instead in INSTEAD.items():
        for test, sentence in (("async", missing), ("plain", plain)):
            said = f"{name} {sentence.replace('INSTEAD', instead)}"
            heading = f"*ERROR at setup of test_{test}_{name} *"
            result.stdout.fnmatch_lines([heading, said], consecutive=True)


def test_what_asyncio_runs_is_no_test_of_trio(pytester: pytest.Pytester, run: Run) -> None:
    """In pytest-asyncio's auto mode that is each async test, marked for trio or not."""
    pytester.makeconftest("""
def pytest_configure(config):
    if not config.pluginmanager.has_plugin("asyncio"):
        config.pluginmanager.register(object(), "asyncio")
        config.addinivalue_line("markers", "asyncio: as pytest-asyncio has it")
""")
    source = """
import pytest

@pytest.mark.asyncio
@pytest.mark.trio
async def test_both(techo_server):
    raise NotImplementedError
"""
    result = run(source)
    result.assert_outcomes(errors=1)
    sentence = "techo_server needs trio, and pytest-asyncio runs *: use techo_thread_server"
    result.stdout.fnmatch_lines([sentence])


THREADS = """
import asyncio
import socket
import threading

import pytest
from techo.testing import Chunk, Reset

@pytest.fixture
def anyio_backend():
    return "asyncio"

def test_plain(techo_thread_server):
    resetting = techo_thread_server(Reset(after=2))
    whole = techo_thread_server()
    for server in (whole, resetting):
        with socket.create_connection(("127.0.0.1", server.port)) as sock:
            sock.sendall(b"hello")
            assert sock.recv(2, socket.MSG_WAITALL) == b"he"
            if server is resetting:
                with pytest.raises(ConnectionResetError):
                    sock.recv(3)
    assert [type(each.fault) for each in resetting.history] == [Reset]

@pytest.mark.anyio
async def test_asyncio(techo_thread_server):
    server = techo_thread_server()
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(b"hello")
    assert await reader.readexactly(5) == b"hello"
    writer.close()
    await writer.wait_closed()

def test_before_a_server(techo_thread_server, techo_thread_proxy):
    target = techo_thread_server()
    proxy = techo_thread_proxy(target.endpoint, Reset(after=2), upstream_faults=[Chunk(1, 1)])
    with socket.create_connection(("127.0.0.1", proxy.port)) as sock:
        sock.sendall(b"hello")
        assert sock.recv(2, socket.MSG_WAITALL) == b"he"
        with pytest.raises(ConnectionResetError):
            sock.recv(3)
    assert [type(each.fault) for each in proxy.history] == [Reset]
    assert {type(each.fault) for each in proxy.upstream_history} == {Chunk}
    assert target.statistics().accepted == proxy.statistics().accepted == 1

def test_what_cannot_be(techo_thread_server, techo_thread_proxy):
    with pytest.raises(ValueError, match="udp"):
        techo_thread_server(Reset(), endpoint="udp://127.0.0.1:0")
    for start in (techo_thread_server, techo_thread_proxy):
        with pytest.raises(TypeError, match=r"as arguments, .* not faults="):
            start("localhost:1", faults=[Reset()])

def test_failing(techo_thread_server):
    techo_thread_server()
    assert False

def crash(data):
    raise SystemExit(3)

def test_crashing(techo_thread_server):
    server = techo_thread_server(reply=crash)
    with socket.create_connection(("127.0.0.1", server.port)) as sock:
        sock.sendall(b"hello")
        assert sock.recv(5) == b""

def test_nothing_is_left():
    assert not [each for each in threading.enumerate() if "techo" in each.name]
"""


def test_servers_in_threads_are_for_all_other_tests(run: Run) -> None:
    """Plain and asyncio tests use them; they end with the test, as it ends or they do."""
    result = run(THREADS, "-pno:trio")
    result.assert_outcomes(passed=6, failed=1, errors=1)
    result.stdout.fnmatch_lines(["*ERROR at teardown of test_crashing*", "*SystemExit: 3"])

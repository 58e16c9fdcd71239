"""Schedulers without Dask: how they are written, who is refused, and giving up on one."""

from __future__ import annotations

import importlib.machinery
import ssl
import sys
import threading
import types
from pathlib import Path
from typing import Any

import pytest
import trio

import techo.fleet
from helpers import PATIENCE
from techo._fleet.scheduler import Scheduler, connected


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("tcp://127.0.0.1:9", "tcp://127.0.0.1:9"),
        ("tls://scheduler.example", "tls://scheduler.example:8786"),
        ("tcp://[::1]:9", "tcp://[::1]:9"),
    ],
)
def test_a_scheduler_is_read(text: str, found: str) -> None:
    """Its port is Dask's unless it is given."""
    assert str(Scheduler.parse(text)) == found


@pytest.mark.parametrize(
    "text", ["localhost:9", "udp://a:9", "tcp://", "tcp://a:b", "tcp://a/b"]
)
def test_what_is_no_scheduler_is_refused(text: str) -> None:
    """The text has what would be right."""
    with pytest.raises(ValueError, match="is no scheduler: write tcp://HOST:8786, or tls://"):
        Scheduler.parse(text)


def test_an_open_scheduler_on_another_machine_takes_a_word() -> None:
    """Who can reach it runs code on every machine; over TLS it knows who asks."""
    for text in ("tcp://127.0.0.1:9", "tcp://localhost", "tcp://[::1]:9", "tls://192.0.2.1:9"):
        Scheduler.parse(text).check_safe(insecure=False)
    other = Scheduler.parse("tcp://192.0.2.1:9")
    other.check_safe(insecure=True)
    with pytest.raises(techo.fleet.FleetError, match="use tls://, or give --insecure"):
        other.check_safe(insecure=False)


async def test_who_gives_up_does_not_wait_for_a_scheduler(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Dask tries for seconds yet, in a thread that is left to itself."""
    connecting, over = trio.Event(), threading.Event()
    token = trio.lowlevel.current_trio_token()

    def client(*_args: Any, **_options: Any) -> None:
        token.run_sync_soon(connecting.set)
        over.wait(PATIENCE)
        raise OSError

    dask = types.ModuleType("distributed")
    dask.__spec__ = importlib.machinery.ModuleSpec("distributed", None)
    monkeypatch.setattr(dask, "Client", client, raising=False)
    monkeypatch.setitem(sys.modules, "distributed", dask)

    async def connect() -> None:
        async with connected(Scheduler.parse("tcp://127.0.0.1:1")):
            pass

    async with trio.open_nursery() as nursery:
        nursery.start_soon(connect)
        with trio.fail_after(PATIENCE):
            await connecting.wait()
        nursery.cancel_scope.cancel()
    assert nursery.cancel_scope.cancelled_caught
    over.set()


@pytest.mark.parametrize(
    ("files", "words"),
    [
        (
            (None, None, None),
            "no certificates for tls://127.0.0.1:1: set ca-file",
        ),
        (
            ("/no/ca.pem", "here", None),
            "cannot read '/no/ca.pem' .No such .*: correct ca-file",
        ),
        (
            ("here", "here", "/no/key.pem"),
            "cannot read '/no/key.pem' .*: correct client.key",
        ),
        (("here", "here", None), r"\(ca-file 'here', client.cert 'here'\): .*no certificate"),
        (("a text\n", "another\n", None), "distributed.comm.tls: .*no certificate"),
    ],
    ids=["none", "missing", "missing-key", "wrong", "text"],
)
async def test_certificates_that_cannot_be_used_are_named(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    files: tuple[str | None, ...],
    words: str,
) -> None:
    """The scheduler is not called away for what is not right here."""
    (tmp_path / "here").touch()
    monkeypatch.chdir(tmp_path)

    def fail(_role: str) -> None:
        raise ssl.SSLError("no certificate")

    names = ("tls_ca_file", "tls_client_cert", "tls_client_key")
    found = types.SimpleNamespace(**dict(zip(names, files, strict=True)))
    found.get_connection_args = fail
    dask = types.ModuleType("distributed")
    dask.__spec__ = importlib.machinery.ModuleSpec("distributed", None)
    monkeypatch.setattr(dask, "Security", lambda: found, raising=False)
    monkeypatch.setitem(sys.modules, "distributed", dask)
    with pytest.raises(techo.fleet.FleetError, match=words):
        async with connected(Scheduler.parse("tls://127.0.0.1:1")):
            pass

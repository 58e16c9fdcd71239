"""Interop: the netcats that people have, as clients of ours."""

from __future__ import annotations

import os
import re
import shutil
import subprocess

import pytest

from helpers import PATIENCE, serving

CLIENTS = {
    "nc": ["nc", "-N", "127.0.0.1", "PORT"],
    "ncat": ["ncat", "127.0.0.1", "PORT"],
    "socat": ["socat", "-t", "30", "-", "TCP:127.0.0.1:PORT"],
}


@pytest.fixture(params=CLIENTS)
def client(request: pytest.FixtureRequest) -> list[str]:
    """The arguments of one of them, if it is here; in CI it must be."""
    name = str(request.param)
    if shutil.which(name) is None and not os.environ.get("CI"):
        pytest.skip(f"{name} is not installed")
    return CLIENTS[name]


def ask(client: list[str], port: int, data: bytes) -> bytes:
    """Send, half-close, and give what came back."""
    done = subprocess.run(
        [argument.replace("PORT", str(port)) for argument in client],
        input=data,
        capture_output=True,
        timeout=PATIENCE,
        check=True,
    )
    return done.stdout


def test_hello_comes_back_stamped(client: list[str]) -> None:
    """`printf hello | nc` prints exactly one stamped hello."""
    with serving() as process:
        assert re.fullmatch(rb"\[.{24}\] hello", ask(client, process.port, b"hello"))
        _, _, err = process.finish()
    assert "outcome=eof chunks=1 bytes_in=5 bytes_out=32" in err


def test_half_close_gets_everything_back(client: list[str]) -> None:
    """More than the buffers hold, every byte, and the end is an end."""
    data = os.urandom(2**20) * 8
    with serving("--reply", "raw") as process:
        assert ask(client, process.port, data) == data
        _, _, err = process.finish()
    assert "outcome=eof" in err

"""What is run: the C programs, compiled first, and the command of every server."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

import attrs

from bench.rows import Row

HERE: Final = Path(__file__).parent

SOCAT: Final = "socat"


class CannotMeasureError(Exception):
    """Something that the benchmark cannot do without is missing; the text says what to do."""


@attrs.frozen
class Programs:
    """The compiled programs."""

    load: str
    echo: str

    def command(self, server: str, transport: str) -> list[str]:
        """Give the command that starts a server."""
        if server == "c":
            return [self.echo]
        if server == SOCAT:
            listen = "TCP-LISTEN:0,bind=127.0.0.1,fork,reuseaddr,nodelay,backlog=65535"
            return [SOCAT, "-d", "-d", listen, "PIPE"]
        library = "trio" if server.startswith(("techo", "trio")) else "asyncio"
        # -P: or this folder would be where the server looks for modules first.
        return [sys.executable, "-P", str(HERE / f"with_{library}.py"), server, transport]


def compile_all(folder: Path, *flags: str) -> Programs:
    """Compile the C programs into `folder`.

    Raises:
        CannotMeasureError: there is no C compiler, or it failed.
    """
    compiler = shutil.which("cc")
    if sys.platform != "linux":
        raise CannotMeasureError("the benchmark runs on Linux only: its load client uses epoll")
    if compiler is None:
        raise CannotMeasureError("there is no cc: install a C compiler, for the load client")
    for name in ("load", "echo"):
        command = [compiler, "-O2", *flags, "-o", str(folder / name), str(HERE / f"{name}.c")]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
        if done.returncode:
            raise CannotMeasureError(f"cc cannot compile {name}.c: {done.stderr}")
    return Programs(str(folder / "load"), str(folder / "echo"))


def missing(server: str) -> str | None:
    """Say what is not installed that a server needs."""
    if server.startswith("uvloop"):
        return None if importlib.util.find_spec("uvloop") else "uvloop"
    return SOCAT if server == SOCAT and not shutil.which(SOCAT) else None


def present(row: Row) -> tuple[str, ...]:
    """Give the servers of a row that can be run here."""
    return tuple(server for server in row.servers if missing(server) is None)

"""What is run: the C programs, compiled first, a certificate, and every command."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

import attrs
import trustme

from bench.rows import Row

HERE: Final = Path(__file__).parent

SOCAT: Final = "socat"


STARTED: Final = {
    "techo--help": ["-P", "-m", "techo", "--help"],
    "techo--version": ["-P", "-m", "techo", "--version"],
    "python": ["-c", "pass"],
    "import-trio": ["-c", "import trio"],
}
"""What Python is given, by who starts."""


class CannotMeasureError(Exception):
    """Something that the benchmark cannot do without is missing; the text says what to do."""


@attrs.frozen
class Programs:
    """What was made for this run, and the commands to use it."""

    load: str
    echo: str

    certificate: Path
    """A server's, with its key; made for this run."""

    def client(self, transport: str, name: str = "c") -> list[str]:
        """Give the command that starts a client; by default the one that measures servers."""
        if name != "c":
            return [sys.executable, "-P", str(HERE / "load_trio.py"), name]
        if transport != "tls":
            return [self.load]
        return [sys.executable, "-P", str(HERE / "load_tls.py")]

    def command(self, server: str, transport: str) -> list[str]:
        """Give the command that starts a server."""
        if server == "c":
            return [self.echo]
        if server == SOCAT:
            listen = "TCP-LISTEN:0,bind=127.0.0.1,fork,reuseaddr,nodelay,backlog=65535"
            return [SOCAT, "-d", "-d", listen, "PIPE"]
        library = "trio" if server.startswith(("techo", "trio")) else "asyncio"
        # -P: or this folder would be where the server looks for modules first.
        where = f"tls:{self.certificate}" if transport == "tls" else transport
        return [sys.executable, "-P", str(HERE / f"with_{library}.py"), server, where]


def compile_all(folder: Path, *flags: str) -> Programs:
    """Compile the C programs into `folder`, and make a certificate there.

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
    certificate = folder / "certificate.pem"
    issued = trustme.CA().issue_cert("127.0.0.1")
    issued.private_key_and_cert_chain_pem.write_to_path(str(certificate))
    return Programs(str(folder / "load"), str(folder / "echo"), certificate)


def missing(contender: str) -> str | None:
    """Say what is not installed that a server or a client needs."""
    if contender.startswith("uvloop"):
        return None if importlib.util.find_spec("uvloop") else "uvloop"
    return SOCAT if contender == SOCAT and not shutil.which(SOCAT) else None


def present(row: Row) -> tuple[str, ...]:
    """Give those who take part in a row and can be run here."""
    return tuple(each for each in row.contenders if missing(each) is None)

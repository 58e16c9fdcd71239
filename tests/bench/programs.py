"""What is run: the C programs, compiled first, a certificate, and every command."""

from __future__ import annotations

import importlib
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

_AS_MODULE: Final = """
import runpy, sys
folder, module = sys.argv[1:3]
del sys.argv[1:3]
sys.path.insert(0, folder)
runpy.run_module(module, run_name="__main__", alter_sys=True)
"""
"""Runs a module of the folder that this one is in, whatever the path of modules is."""

SOCAT: Final = "socat"
SOCAT_PROXY: Final = "socat-proxy"
HAPROXY: Final = "haproxy"
TECHO_PROXY: Final = "techo-proxy"
WORKERS: Final = {"techo-1-worker": "1", "techo-2-workers": "2"}
"""How many there are, by the server's name."""

COMMANDS: Final = {SOCAT, SOCAT_PROXY, *WORKERS}
"""Servers that are programs of their own, and say in their own words where they listen."""

HANDSHAKES: Final = "handshakes"
PING: Final = "c-ping"
IRTT: Final = "irtt"
CAPACITY: Final = "techo-capacity"
PAGE: Final = "chromium"
"""What looks at the page."""

LIBRARIES: Final = ("uvloop", "aiofastnet")
"""Peers are named for those that they need, which are not installed everywhere."""

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
    handshakes: str
    echo: str
    ping: str

    certificate: Path
    """A server's, with its key; made for this run."""

    def client(self, name: str = "c") -> list[str]:
        """Return the command that starts a client; by default the one that measures servers."""
        if name == "c":
            return [self.load]
        if name == HANDSHAKES:
            return [self.handshakes]
        if name == PING:
            return [self.ping]
        if name == PAGE:
            return [
                sys.executable,
                "-P",
                "-c",
                _AS_MODULE,
                str(HERE.parent),
                "bench.page",
                name,
            ]
        if name == CAPACITY:
            return [
                sys.executable,
                "-P",
                "-c",
                _AS_MODULE,
                str(HERE.parent),
                "bench.finding",
                name,
            ]
        if name == IRTT or name.startswith(("techo-ping", "techo-watch")):
            module = "bench.watching" if name.startswith("techo-watch") else "bench.clock"
            return [sys.executable, "-P", "-c", _AS_MODULE, str(HERE.parent), module, name]
        return [sys.executable, "-P", str(HERE / "load_trio.py"), name]

    def command(self, server: str, transport: str, target: str = "") -> list[str]:
        """Give the command that starts a server, or a proxy before a `target`."""
        if server == "c":
            return [self.echo]
        if server == SOCAT:
            listen = "TCP-LISTEN:0,bind=127.0.0.1,fork,reuseaddr,nodelay,backlog=65535"
            return [SOCAT, "-d", "-d", listen, "PIPE"]
        if server == SOCAT_PROXY:
            listen = "TCP-LISTEN:0,bind=127.0.0.1,fork,reuseaddr,nodelay,backlog=65535"
            return [SOCAT, "-d", "-d", listen, f"TCP:127.0.0.1:{port_of(target)},nodelay"]
        if server == HAPROXY:
            return [sys.executable, "-P", str(HERE / "with_haproxy.py"), port_of(target)]
        if server == TECHO_PROXY:
            transport = f"{transport}:{port_of(target)}"
        if server in WORKERS:
            options = ["-q", "--reply", "raw", "--workers", WORKERS[server]]
            return [sys.executable, "-P", "-m", "techo", *options, "127.0.0.1:0"]
        library = "trio" if server.startswith(("techo", "trio")) else "asyncio"
        # -P: or this folder would be where the server looks for modules first.
        where = f"{transport}:{self.certificate}" if "tls" in transport else transport
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
    commands = {name: str(folder / name) for name in ("load", "handshakes", "echo", "ping")}
    for name, target in commands.items():
        source = str(HERE / f"{name}.c")
        # -ldl: for libssl; from glibc 2.34 on it does nothing.
        command = [compiler, "-O2", *flags, "-o", target, source, "-ldl"]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
        if done.returncode:
            raise CannotMeasureError(f"cc cannot compile {name}.c: {done.stderr}")
    certificate = folder / "certificate.pem"
    issued = trustme.CA().issue_cert("127.0.0.1")
    issued.private_key_and_cert_chain_pem.write_to_path(str(certificate))
    return Programs(**commands, certificate=certificate)


def port_of(address: str) -> str:
    """Return the port of an address as servers announce it."""
    return address.rpartition(":")[2]


def missing(contender: str) -> str | None:
    """Return what is not installed that a server or a client needs."""
    for library in LIBRARIES:
        if library in contender.split("-") and not importlib.util.find_spec(library):
            return library
    program = contender.removesuffix("-proxy")
    wanted = {SOCAT, IRTT, PAGE, HAPROXY}
    return program if program in wanted and not shutil.which(program) else None


def present(row: Row) -> tuple[str, ...]:
    """Give those who take part in a row and can be run here."""
    return tuple(each for each in row.contenders if missing(each) is None)


def peer_uses_slower_tls() -> bool:
    """Return whether aiofastnet cannot use OpenSSL directly, as it does where it is fastest.

    It can where Python itself loads OpenSSL as a library, and has not linked it in.
    """
    if missing("aiofastnet"):
        return False
    return importlib.import_module("aiofastnet").OPENSSL_DYN_LIBS is None

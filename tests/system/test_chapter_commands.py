"""Commands of the chapters: those that need only this machine are run, in their order."""

from __future__ import annotations

import re
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import attrs
import pytest

from comparisons import write_sides
from documents import EXAMPLE_COMMANDS, is_local, make_environment, techo_in
from helpers import PATIENCE, call, serving_both


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    """The port of a server of TCP and UDP, with a Unix socket in its working folder."""
    with serving_both("-q") as process:
        yield process.port


def is_server(line: str) -> bool:
    """Return whether a command serves until it is stopped."""
    found = techo_in(line)
    return found is not None and found[0] in {"serve", "proxy"}


def is_endless(line: str) -> bool:
    """Return whether a command goes on until Ctrl-C."""
    found = techo_in(line)
    return found is not None and found[0] == "ping" and not re.search(" -n | -s ", line)


def adapted(line: str, port: int) -> str:
    """Return a command with ports that are free or served, and short times."""
    if "techo proxy" in line:
        return re.sub(r"\b(8010|5300)\b", "0", line)  # whose target need not be there
    if is_server(line):
        line = re.sub(r"\b(8009|8010|9000|9100|7007)\b", "0", line).replace(
            "@echo", f"@echo-{port}"
        )
        return line
    line = re.sub(r"\b(8009|7007)\b", str(port), line)
    line = re.sub(r"-d \d+", "-d 0.2", line).replace("100000", "1000").replace("5ms'", "30s'")
    return line.replace("jq .latency_ns", "cat")  # jq need not be here


@attrs.define
class Session:
    """A shell in which commands of a chapter are entered one by one."""

    folder: Path
    port: int
    """Of a server that is there all the time."""
    environment: dict[str, str]
    servers: list[subprocess.Popen[bytes]] = attrs.field(factory=list)
    tls_port: str = ""
    """Of the last server that was started to serve TLS."""

    def enter(self, line: str) -> None:
        """Run a command to its end, or a server until it listens."""
        command = adapted(line, self.port).replace("8010", self.tls_port)
        ends = not (is_server(line) or is_endless(line))
        found = techo_in(command)
        if ends and found is not None and not re.search(r" [|>] ", command):
            environment = {"TECHO_ENDPOINT": str(self.port)}
            code, _, err = call(found[0], *found[1], stdin=b"hello\n", environment=environment)
            assert code == 0, err
            return
        popen = subprocess.Popen(
            ["sh", "-c", command if ends else f"exec {command}"],
            stdin=subprocess.PIPE if ends else subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=self.folder,
            env=self.environment
            | {"TECHO_ENDPOINT": "0" if is_server(line) else str(self.port)},
        )
        if is_server(line):
            self.servers.append(popen)
        if ends:
            _, said = popen.communicate(b"hello\n", timeout=PATIENCE)
            assert popen.returncode == 0, said.decode()
            return
        assert popen.stdout is not None
        first = popen.stdout.readline().decode()
        if is_server(line):
            assert first.startswith("listening on "), line
            if "tls:" in line:
                self.tls_port = first.strip().rpartition(":")[2]
        else:
            assert " seq=1 " in first, line
            popen.send_signal(signal.SIGINT)
            popen.communicate(timeout=PATIENCE)
            assert popen.returncode == -signal.SIGINT, line

    def close(self) -> None:
        """Stop the servers, all of which drain."""
        for each in self.servers:
            each.terminate()
        for each in self.servers:
            _, err = each.communicate(timeout=PATIENCE)
            assert each.returncode == 0, err.decode()


@pytest.mark.parametrize("name", sorted({name for name, _ in EXAMPLE_COMMANDS}))
def test_commands_work(name: str, port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that need only this machine do what they should, in the order of the chapter."""
    with tempfile.TemporaryDirectory() as folder:  # short enough for a Unix socket
        monkeypatch.chdir(folder)
        if name == "compare":
            write_sides(Path(folder))
        environment = make_environment(Path(folder))
        environment["PATH"] = f"{folder}/.venv/bin:{environment['PATH']}"
        session = Session(Path(folder), port, environment)
        try:
            for chapter_name, line in EXAMPLE_COMMANDS:
                if chapter_name != name or not is_local(line) or line.startswith("systemd-"):
                    continue  # tests/system has what systemd starts
                if line.startswith("openssl") and shutil.which("openssl") is None:
                    break  # what follows needs its files
                session.enter(line)
        finally:
            session.close()
            monkeypatch.undo()

"""The recipe for systemd: read by its tools, and laid on a real techo, since it is not here."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest
import trio

import techo
from documents import recipe
from helpers import PATIENCE, free_port, needs, until_answering, wait_until

UNITS = ("techo.service", "techo.socket")

SANDBOX = """
set -e
mount --make-rprivate /
mount --bind "$0" "$0"
mkdir "$0/dev"
for device in null zero full random urandom; do
  touch "$0/dev/$device"
  mount --bind "/dev/$device" "$0/dev/$device"
done
mount --rbind "$0/dev" /dev
mount -t proc -o nosuid,nodev,noexec,hidepid=invisible proc /proc
while read -r _ _ _ _ place _; do
  [ "$place" = "$0" ] || mount -o remount,bind,ro "$place" || true
done </proc/self/mountinfo
exec setpriv --bounding-set=-all --inh-caps=-all --ambient-caps=-all --no-new-privs "$@"
"""
"""What systemd does for the unit, as far as it takes no systemd; $0 stays writable."""

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can take rights away so")


def run(*command: str, folder: Path) -> tuple[int, str]:
    """Run one of systemd's tools; return its exit status and all that it says."""
    done = subprocess.run(
        [needs(command[0]), *command[1:]],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout


def test_systemd_takes_every_line(tmp_path: Path) -> None:
    """Of both units, with the program where it is here."""
    program = tmp_path / "techo"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    places = {"/opt/techo/bin/techo --": f"{program} --", "/bin/kill": str(program)}
    for name in UNITS:
        (tmp_path / name).write_text(recipe(name, places if name == "techo.service" else {}))
    files = [f"./{name}" for name in UNITS]
    code, text = run("systemd-analyze", "verify", "--man=no", *files, folder=tmp_path)
    # It also reads the units that are installed here, and has something to say of some.
    assert [line for line in text.splitlines() if "techo" in line] == []
    assert code == 0, text


def test_the_service_is_hardly_exposed(tmp_path: Path) -> None:
    """What systemd has to say against it is worth 1.5 of 10 at most."""
    (tmp_path / "techo.service").write_text(recipe("techo.service", {}))
    words = ["security", "--offline=true", "--no-pager", "--threshold=15", "./techo.service"]
    code, text = run("systemd-analyze", *words, folder=tmp_path)
    assert code == 0, text
    exposure = re.search(r"Overall exposure level for techo.service: ([\d.]+)", text)
    assert exposure is not None, text
    assert float(exposure[1]) <= 1.5


def values(name: str) -> list[str]:
    """Return what the unit sets a name to, line by line."""
    return re.findall(rf"^{name}=(.*)$", recipe("techo.service", {}), re.MULTILINE)


def allowed_calls(folder: Path) -> set[str]:
    """Return the names of the system calls that the unit lets through."""
    code, text = run("systemd-analyze", "--no-pager", "syscall-filter", folder=folder)
    assert code == 0, text
    sets = {
        name: re.findall(r"^ +(@?\w[\w-]*)$", body, re.MULTILINE)
        for name, body in re.findall(r"^(@[\w-]+)\n((?: +.*\n)*)", text, re.MULTILINE)
    }

    def expand(name: str) -> set[str]:
        if not name.startswith("@"):
            return {name}
        return {each for part in sets[name] for each in expand(part)}

    found = expand("@default")  # which every list of allowed ones has
    for line in values("SystemCallFilter"):
        names = {each for name in line.removeprefix("~").split() for each in expand(name)}
        found = found - names if line.startswith("~") else found | names
    return found


def confined(kept: Path, address: str, metrics: int) -> list[str]:
    """Return the command of the unit, started as systemd would start it."""
    (files,) = values("LimitNOFILE")
    (line,) = values("ExecStart")
    words = line.replace("9100", str(metrics)).split()[1:]
    for program in ("unshare", "setpriv", "prlimit", "systemd-socket-activate", "strace"):
        needs(program)
    return [
        *("unshare", "--mount", "--ipc", "--uts"),
        *("prlimit", f"--nofile={files}:{files}"),
        *("sh", "-c", SANDBOX, str(kept)),
        *("systemd-socket-activate", "-l", address, "-E", "PYTHONPATH"),
        *("-E", f"NOTIFY_SOCKET={kept}/notify"),
        *("strace", "-D", "-f", "-qq", "-o", f"{kept}/calls"),
        *(sys.executable, "-m", "techo", *words),
    ]


async def reply_of(address: str) -> bytes:
    """Return what comes back for a greeting."""
    async with techo.open_client(address) as client:
        return (await client.round_trip(b"hello")).reply


@as_root
def test_the_unit_s_restrictions_leave_techo_all_that_it_needs(tmp_path: Path) -> None:
    """It serves, is watched and drains without rights, and asks for nothing forbidden."""
    kept = tmp_path / "kept"
    kept.mkdir()
    address, metrics = f"127.0.0.1:{free_port()}", free_port()
    with (
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notified,
        (tmp_path / "log").open("wb") as log,
        subprocess.Popen(
            confined(kept, address, metrics),
            stderr=log,
            start_new_session=True,  # a terminal's SIGHUP would be its end
        ) as popen,
    ):
        notified.bind(str(kept / "notify"))
        notified.settimeout(PATIENCE)
        try:
            trio.run(until_answering, address)
            assert notified.recv(100) == b"READY=1"
            assert trio.run(reply_of, address).endswith(b"] hello")
            url = f"http://127.0.0.1:{metrics}/metrics"
            with urllib.request.urlopen(url) as page:
                text = page.read().decode()
            assert "process_open_fds " in text
            assert 'techo_connections_total{outcome="eof"}' in text
            status = Path(f"/proc/{popen.pid}/status").read_text()
            for line in ("CapBnd:\t0000000000000000", "CapEff:\t0000000000000000"):
                assert line in status
            assert "NoNewPrivs:\t1" in status
            assert len(list(Path(f"/proc/{popen.pid}/root/dev").iterdir())) == 5
            assert values("ExecReload") == ["/bin/kill -HUP $MAINPID"]
            popen.send_signal(signal.SIGHUP)
            assert notified.recv(100).startswith(b"RELOADING=1\n")
            assert notified.recv(100) == b"READY=1"
            assert trio.run(reply_of, address).endswith(b"] hello")
            popen.send_signal(signal.SIGTERM)
            assert notified.recv(100) == b"STOPPING=1"
            wait_until(lambda: popen.poll() is not None, "it drains")
        finally:
            popen.kill()
    said = (tmp_path / "log").read_text()
    assert popen.returncode == 0, said
    assert "stopped; in total" in said
    assert not re.search("WARNING|ERROR|Traceback", said), said
    calls = (kept / "calls").read_text()
    made = set(re.findall(r"^\d+ +(\w+)\(", calls, re.MULTILINE))
    assert {"execve", "epoll_wait", "recvfrom"} & made
    assert made - allowed_calls(tmp_path) == set()
    families = set(re.findall(r"\bsocket(?:pair)?\((AF_\w+)", calls))
    assert families <= set(values("RestrictAddressFamilies")[0].split())
    assert not re.search(r"PROT_WRITE\|PROT_EXEC", calls), "MemoryDenyWriteExecute"

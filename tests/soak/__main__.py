"""The soak: a good and a bad server, pinged and loaded for minutes, none of them growing.

Before that, the writer of a history is killed a hundred times.

Linux only, because that is where a process tells what memory it has (proc_pid_status(5)).
"""

from __future__ import annotations

import argparse
import functools
import json
import re
import signal
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import attrs
import trio
import trustme

from soak import killing

_SLACK: Final = 1024
"""KiB that a process may have more in the end than it had before: what the allocator happens to
keep. Less than a byte per round trip would be, over ten minutes."""

_SHARE: Final = 10
"""Samples are judged by the median of a tenth of them."""

SERVERS: Final = {
    "good_tcp": "--reply raw tcp://127.0.0.1:0",
    "good_udp": "udp://127.0.0.1:0",
    "bad_tcp": "--fault reset=10000 tcp://127.0.0.1:0",
    "bad_udp": "--fault drop=1% --fault duplicate=1% udp://127.0.0.1:0",
    "short_tls": "--lifetime 100ms --reply raw --tls-cert {certificate} tls://127.0.0.1:0",
}

CLIENTS: Final = {
    "ping": "ping -q -i 0.005 {good_tcp}",
    "ping, losing": "ping -q -i 0.005 -W 0.05 {bad_udp}",
    "ping, breaking": "ping -q -i 0.005 {bad_tcp}",
    "load": "load -c 50 -d 86400 {good_tcp}",
    "load, scheduled": "load -c 20 -r 500 -d 86400 {good_udp}",
    "load, breaking": "load -c 5 -r 200 -d 86400 {bad_tcp}",
    "load, losing": "load -c 5 -r 200 -W 0.1 -d 86400 {bad_udp}",
    "load, in TLS": "load -c 10 -r 100 -d 86400 --tls-insecure {short_tls}",
}
"""Who asks, until told to stop. The rates leave room on two cores; what matters is how much
happens in all. Over TLS a connection lasts 0.1 s: that makes 10,000 handshakes."""


@attrs.define(eq=False)
class Subject:
    """A process, and the memory it had from time to time."""

    name: str
    process: trio.Process
    samples: list[int] = attrs.field(factory=list)
    """In KiB."""

    def sample(self) -> None:
        """Look at it once."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        resident = re.search(r"VmRSS:\s+(\d+) kB", status)
        if resident is not None:  # or it has just ended
            self.samples.append(int(resident[1]))


def growth(samples: Sequence[int]) -> int:
    """Give by how many KiB memory has grown after the first tenth, which is for warming up."""
    tenth = max(1, len(samples) // _SHARE)
    settled = statistics.median(samples[tenth : 2 * tenth] or samples)
    return round(statistics.median(samples[-tenth:]) - settled)


async def start(nursery: trio.Nursery, name: str, words: str) -> Subject:
    """Start a techo command whose standard output can be read."""
    run = functools.partial(trio.run_process, stdout=subprocess.PIPE, check=False)
    process = await nursery.start(run, [sys.executable, "-m", "techo", *words.split()])
    return Subject(name, process)


async def endpoint_of(server: Subject) -> str:
    """Read where a server listens."""
    assert server.process.stdout is not None
    text = b""
    while not text.endswith(b"\n"):
        if not (chunk := await server.process.stdout.receive_some()):
            sys.exit(f"{server.name} did not start")
        text += chunk
    return text.decode().removeprefix("listening on ").strip()


async def handshakes_of(server: Subject) -> int:
    """Ask a server over TLS how many connections it has accepted."""
    assert server.process.stdout is not None
    server.process.send_signal(signal.SIGUSR1)
    text = b""
    while not text.endswith(b"\n"):
        if not (chunk := await server.process.stdout.receive_some()):
            sys.exit(f"{server.name} has ended")
        text += chunk
    return int(json.loads(text)["accepted"])


async def soak(seconds: float, certificate: Path) -> list[Subject]:
    """Run everything for a while, and give what was seen."""
    issued = trustme.CA().issue_cert("127.0.0.1")
    issued.private_key_and_cert_chain_pem.write_to_path(certificate)
    async with trio.open_nursery() as nursery:
        subjects, names = [], {"certificate": str(certificate)}
        for name, words in SERVERS.items():
            server = await start(nursery, name, f"serve -q {words.format(**names)}")
            names[name] = await endpoint_of(server)
            subjects.append(server)
        for name, words in CLIENTS.items():
            subjects.append(await start(nursery, name, words.format(**names)))
        end = trio.current_time() + seconds
        while trio.current_time() < end:
            for subject in subjects:
                subject.sample()
            await trio.sleep(min(1.0, seconds / 50))  # memory sends no event
        print(f"{await handshakes_of(subjects[list(SERVERS).index('short_tls')])} handshakes")
        for subject in reversed(subjects):
            if subject.process.returncode is None:
                subject.process.terminate()
            await subject.process.wait()
        nursery.cancel_scope.cancel(reason="all are over")
    return subjects


def main() -> int:
    """Soak, print a line for each process, and give 1 if one has grown."""
    parser = argparse.ArgumentParser(prog="soak", description=__doc__)
    parser.add_argument("--seconds", type=float, default=600.0, help="(default: 600 s)")
    parser.add_argument("--kills", type=int, default=100, help="(default: 100)")
    options = parser.parse_args()
    failed = 0
    with tempfile.TemporaryDirectory() as folder:
        minutes = killing.kill_many(Path(folder), options.kills)
        print(f"{'history':16} {minutes} minutes, killed {options.kills} times: whole")
        subjects = trio.run(soak, options.seconds, Path(folder) / "pem")
    for subject in subjects:
        code, grown = subject.process.returncode, growth(subject.samples)
        bad = grown > _SLACK or code not in {0, 1}  # 1 is what errors make of a load
        failed += bad
        verdict = "NOT FLAT" if grown > _SLACK else f"exit {code}"
        print(
            f"{subject.name:16} {subject.samples[-1]:7} KiB, grown by {grown:5} KiB, "
            f"{len(subject.samples)} samples: {verdict}"
        )
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())

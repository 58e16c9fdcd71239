"""A fleet: a scheduler and workers as processes, each in a network of its own."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest

import techo
from helpers import needs, wait_until
from networks import Network, environment, joined, network

SERVER = "10.9.0.1"
"""Where the echo server is, for all machines: an address of the host in their middle."""

MACHINES = ("one", "two", "three")
PATIENCE = 120
"""Seconds for what starts a program that imports Dask, on a busy machine."""

HOUR = 3600

DASK = [sys.executable, "-m", "distributed.cli.dask_worker"]
SCHEDULER = [sys.executable, "-m", "distributed.cli.dask_scheduler"]


@attrs.frozen
class Process:
    """A program on one of the hosts, and what it has printed."""

    popen: subprocess.Popen[bytes]
    log: Path

    @property
    def children(self) -> list[int]:
        """What it has started, from whichever of its threads."""
        tasks = Path(f"/proc/{self.popen.pid}/task").glob("*/children")
        return [*map(int, " ".join(path.read_text() for path in tasks).split())]

    def signal(self, number: signal.Signals, *others: int) -> None:
        """Send a signal to the program itself, past what has started it, and to others."""
        for each in (self.popen.pid, *others):
            os.kill(each, number)


@attrs.frozen
class Cluster:
    """Hosts, with a scheduler and an echo server in their middle."""

    net: Network
    folder: Path

    @contextlib.contextmanager
    def running(
        self, host: str, *command: str, until: str, name: str, **variables: str
    ) -> Iterator[Process]:
        """Run a program on a host for a block, which begins when it has printed `until`."""
        log = self.folder / f"{name}.log"
        with (
            log.open("wb") as file,
            subprocess.Popen(
                [*self.net.on(host), *command],
                stdout=file,
                stderr=subprocess.STDOUT,
                env=environment() | variables,
            ) as popen,
        ):
            try:

                def begun() -> bool:
                    assert popen.poll() is None, log.read_text()
                    return re.search(until, log.read_text()) is not None

                wait_until(begun, f"{name} to begin")
                yield Process(popen, log)
            finally:
                popen.kill()

    def worker(
        self, host: str, *prefix: str, name: str, **variables: str
    ) -> contextlib.AbstractContextManager[Process]:
        """Run a worker on a host for a block."""
        number = MACHINES.index(host) + 1
        command = [*DASK, f"tcp://10.7.{number}.1:8786", "--nthreads", "1", "--name", name]
        options = ["--no-nanny", "--no-dashboard", "--local-directory", str(self.folder)]
        return self.running(
            host, *prefix, *command, *options, until="Registered to", name=name, **variables
        )

    def command(self, *arguments: str, fleet: str = "tcp://127.0.0.1:8786") -> list[str]:
        """Return a techo command in the middle, which has a fleet."""
        name, *rest = arguments
        techo_command = [sys.executable, "-m", "techo", name, "--fleet", fleet, *rest]
        return [*self.net.on("middle"), *techo_command]

    def load(self, *arguments: str, fleet: str = "tcp://127.0.0.1:8786") -> Any:
        """Run a load by the fleet to its end."""
        return subprocess.run(
            self.command("load", "--json", *arguments, fleet=fleet),
            capture_output=True,
            text=True,
            check=False,
            timeout=PATIENCE,
            env=environment(),
        )


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """Three machines, the last with a clock that is an hour ahead."""
    pytest.importorskip("distributed")
    faketime = needs("faketime")
    wires = [joined("middle", host, number) for number, host in enumerate(MACHINES, 1)]
    routes = [
        f"ip -n {host} route add default via 10.7.{number}.1"
        for number, host in enumerate(MACHINES, 1)
    ]
    address = f"ip -n middle address add {SERVER}/32 dev lo"
    forward = "ip netns exec middle sysctl -qw net.ipv4.ip_forward=1"
    with (
        tempfile.TemporaryDirectory() as folder,
        network(["middle", *MACHINES], *wires, *routes, address, forward) as net,
        contextlib.ExitStack() as stack,
    ):
        made = Cluster(net, Path(folder))
        enter = stack.enter_context
        options = ["--host", "0.0.0.0", "--port", "8786", "--no-dashboard"]  # noqa: S104  -- of hosts that nobody else has
        enter(
            made.running("middle", *SCHEDULER, *options, until="Scheduler at", name="scheduler")
        )
        server = [sys.executable, "-m", "techo", "serve", "-q", "--reply", "raw"]
        enter(
            made.running(
                "middle", *server, f"{SERVER}:8009", until="listening on", name="server"
            )
        )
        enter(made.worker("one", name="one"))
        enter(made.worker("two", name="two"))
        enter(made.worker("three", faketime, "-f", f"+{HOUR}s", name="three"))
        yield made


def is_over(pid: int) -> bool:
    """Return whether a process is over, even if nobody has asked for its exit status."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].startswith("Z")
    except (FileNotFoundError, ProcessLookupError):
        return True


def report_of(done: Any) -> techo.LoadReport:
    """Return the report of a load, whatever its exit status."""
    assert done.stdout, done.stderr
    return techo.LoadReport.from_json(json.loads(done.stdout.splitlines()[-1]))


def test_three_machines_load_at_the_same_time_whatever_their_clocks_say(
    cluster: Cluster,
) -> None:
    """Every trip is counted once, and the clock that is wrong is named."""
    done = cluster.load("-d", "3", "-r", "300", "-c", "7", SERVER)
    report = report_of(done)
    assert (done.returncode, done.stderr) == (0, "")
    assert (report.received, report.connections, report.lost) == (900, 7, 0)
    assert report.unsent == 0
    assert report.seconds >= 3
    parts = {each.name.partition(" ")[0]: each for each in report.parts}
    assert {name: part.received for name, part in parts.items()} == dict.fromkeys(MACHINES, 300)
    for name, part in parts.items():
        assert part.clock_offset is not None
        assert part.clock_error is not None
        ahead = HOUR if name == "three" else 0
        assert part.clock_offset == pytest.approx(ahead, abs=1 + 2 * part.clock_error)


def test_one_that_stands_still_is_late_and_one_that_dies_is_named(cluster: Cluster) -> None:
    """The others go on; what the dead has not reported is unsent, and the exit status is 1."""
    with (
        cluster.worker("one", name="doomed") as doomed,
        cluster.worker("two", name="still") as still,
    ):
        command = cluster.command(
            *("load", "--json", "--report-every", "200ms", "-d", "9", "-r", "400", "-c", "8"),
            SERVER,
        )
        with subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment()
        ) as popen:
            assert popen.stdout is not None
            for _ in range(2):  # which come one after the other
                popen.stdout.readline()
            (orphan,), (share,) = doomed.children, still.children
            doomed.signal(signal.SIGKILL)
            still.signal(signal.SIGSTOP, share)
            wait_until(lambda: is_over(orphan), "the share of the dead to end")
            time.sleep(5)  # so long it stands still
            still.signal(signal.SIGCONT, share)
            out, err = popen.communicate(timeout=PATIENCE)
    report = techo.LoadReport.from_json(json.loads(out.splitlines()[-1]))
    parts = {each.name.partition(" ")[0]: each for each in report.parts}
    assert popen.returncode == 1
    dead = parts.pop("doomed")
    assert dead.died == "the scheduler has lost it"
    assert 0 < dead.received < 720  # a fifth of all
    assert report.unsent == dead.unsent == 720 - dead.received
    assert f"{dead.name} died: the scheduler has lost it; {dead.unsent} trips" in err.decode()
    late, others = parts.pop("still"), parts.values()
    assert late.p99 is not None
    assert late.p99 > 4e9
    assert late.lost == 0
    assert all(each.received == 720 and each.lost == 0 for each in (late, *others))


def test_the_process_of_a_share_that_dies_is_named(cluster: Cluster) -> None:
    """Its worker says how; the others go on, and no process is left of the load."""
    command = cluster.command(
        *("load", "--json", "--report-every", "200ms", "-d", "3", "-r", "400", "-c", "8"),
        SERVER,
    )
    with (
        cluster.worker("one", name="robbed") as robbed,
        subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment()
        ) as popen,
    ):
        assert popen.stdout is not None
        popen.stdout.readline()
        (share,) = robbed.children
        os.kill(share, signal.SIGKILL)
        out, err = popen.communicate(timeout=PATIENCE)
        left = robbed.children
    report = techo.LoadReport.from_json(json.loads(out.splitlines()[-1]))
    parts = {each.name.partition(" ")[0]: each for each in report.parts}
    dead = parts.pop("robbed")
    assert (popen.returncode, dead.died, left) == (1, "it was ended by signal 9", [])
    assert f"{dead.name} died: it was ended by signal 9" in err.decode()
    assert 0 < dead.received < 300  # a quarter of all
    assert report.unsent == dead.unsent == 300 - dead.received
    assert all(each.received == 300 and each.died is None for each in parts.values())


def test_another_version_is_refused(cluster: Cluster) -> None:
    """Both are named, and nothing is sent."""
    with tempfile.TemporaryDirectory() as folder:
        package = Path(folder) / "techo"
        shutil.copytree(techo.__path__[0], package)
        front = package / "__init__.py"
        front.write_text(front.read_text().replace(techo.__version__, "9.9.9"))
        path = os.pathsep.join([folder, environment()["PYTHONPATH"]])
        with cluster.worker("two", name="other", PYTHONPATH=path):
            done = cluster.load("-n", "40", "-r", "40", SERVER)
    assert (done.returncode, done.stdout) == (2, "")
    assert re.fullmatch(
        rf"techo: machine other \(\S+\) has techo 9\.9\.9, and this one has techo "
        rf"{re.escape(techo.__version__)}: install the same version everywhere\n",
        done.stderr,
    )


def test_a_signal_stops_all_machines_within_a_second_or_so(cluster: Cluster) -> None:
    """The report is of what there was, and the exit is that of the signal."""
    command = cluster.command(
        "load", "--json", "--report-every", "200ms", "-d", "1h", "-r", "99"
    )
    with subprocess.Popen(
        [*command, SERVER], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment()
    ) as popen:
        assert popen.stdout is not None
        popen.stdout.readline()
        popen.send_signal(signal.SIGINT)
        began = time.monotonic()
        out, _ = popen.communicate(timeout=PATIENCE)
        took = time.monotonic() - began
    report = techo.LoadReport.from_json(json.loads(out.splitlines()[-1]))
    assert popen.returncode == -signal.SIGINT
    assert took < 20  # an idle machine takes less than a second
    assert report.received == sum(each.received for each in report.parts) > 0
    assert (report.lost, report.unsent, [each.died for each in report.parts]) == (
        0,
        0,
        [None] * 3,
    )


def test_a_scheduler_that_is_away_or_open_is_refused(cluster: Cluster) -> None:
    """With the remedy, and nothing is sent."""
    done = cluster.load("-n", "40", "-r", "40", SERVER, fleet="tcp://127.0.0.1:1")
    assert (done.returncode, done.stdout) == (2, "")
    assert "no scheduler answers at tcp://127.0.0.1:1 (" in done.stderr
    assert "start one (dask scheduler), or check its address" in done.stderr
    done = cluster.load("-n", "40", "-r", "40", SERVER, fleet="tls://127.0.0.1:8786")
    assert (done.returncode, done.stdout) == (2, "")
    assert "Dask's configuration names no certificates for tls://127.0.0.1:8786" in done.stderr
    done = cluster.load("-n", "40", "-r", "40", SERVER, fleet="tcp://10.7.1.1:8786")
    assert (done.returncode, done.stdout) == (2, "")
    assert "use tls://, or give --insecure" in done.stderr
    done = cluster.load(
        "--insecure", "-n", "40", "-r", "40", SERVER, fleet="tcp://10.7.1.1:8786"
    )
    assert (done.returncode, report_of(done).received) == (0, 40)


def test_capacity_that_would_be_above_the_cap_is_refused_at_once(cluster: Cluster) -> None:
    """It does not search for minutes first; the text has the remedy."""
    done = subprocess.run(
        [
            *cluster.command("capacity", "--json", "--slo", "loss<50%", "--cap", "200"),
            *("--start", "150", "--max-rate", "900", "-d", "1", SERVER),
        ],
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE,
        env=environment(),
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert "above the cap of 200: if that is meant, give --cap 900" in done.stderr


def test_capacity_asks_the_fleet(cluster: Cluster) -> None:
    """Each step is made by all machines."""
    done = subprocess.run(
        [
            *cluster.command("capacity", "--json", "--slo", "loss<50%"),
            *("--start", "150", "--max-rate", "150", "-d", "1", SERVER),
        ],
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE,
        env=environment(),
    )
    *_, found = map(json.loads, done.stdout.splitlines())
    assert (done.returncode, found["trips_per_second"]) == (0, 150)


def test_a_mesh_names_who_dies_and_measures_the_others(cluster: Cluster) -> None:
    """Each serves on its own address, whatever its clock says; Ctrl-C ends it with a report."""
    command = cluster.command("mesh", "--json", "-n", "100000", "-i", "20ms")
    with (
        cluster.worker("one", name="doomed") as doomed,
        subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment()
        ) as popen,
    ):
        wait_until(lambda: two_is_there(cluster), "the second machine to probe the first")
        time.sleep(2)  # so long they probe
        doomed.signal(signal.SIGKILL)
        time.sleep(2)  # until that was noticed
        popen.send_signal(signal.SIGINT)
        out, err = popen.communicate(timeout=PATIENCE)
    found = json.loads(out)
    machines = {each["name"].partition(" ")[0]: each for each in found["machines"]}
    assert popen.returncode == 1
    assert machines.pop("doomed")["died"] == "the scheduler has lost it"
    assert "died: the scheduler has lost it" in err.decode()
    for number, name in enumerate(MACHINES, 1):
        assert machines[name]["died"] is None
        assert machines[name]["endpoint"].startswith(f"tcp://10.7.{number}.2:")
    living = {each["name"] for each in machines.values()}
    pairs = [each for each in found["pairs"] if {each["source"], each["target"]} <= living]
    assert len(pairs) == 6
    assert all(each["received"] > 0 for each in pairs)


def two_is_there(cluster: Cluster) -> bool:
    """Return whether the first machine has one of the second's connections, as in a mesh."""
    command = [*cluster.net.on("one"), "cat", "/proc/net/tcp"]
    table = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return re.search(r" 0202070A:\w{4} 01 ", table) is not None

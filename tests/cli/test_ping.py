"""techo ping, as the process it is."""

from __future__ import annotations

import contextlib
import json
import re
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest
import trustme

from helpers import PATIENCE, call, free_endpoint, run, serving, started
from techo._ping.statistics import PingStatistics
from techo._ping.text import summary_of, table_of
from techo._probing.failure_cause import FailureCause
from techo._probing.histogram import Histogram
from techo._probing.outages import Outage
from techo._probing.text import fitted, where
from techo._probing.trip import Clock

QUICK = ["-i", "0.01"]


def pinging(*arguments: str) -> contextlib.AbstractContextManager[subprocess.Popen[bytes]]:
    """Run a ping without end for a block."""
    return started("ping", *arguments)


def read_line(popen: subprocess.Popen[bytes]) -> str:
    """Return the next line of standard output."""
    assert popen.stdout is not None
    return popen.stdout.readline().decode()


def events(out: bytes) -> list[dict[str, Any]]:
    """Return what --json has printed."""
    return [json.loads(line) for line in out.splitlines()]


def test_replies_and_a_summary(port: str) -> None:
    """It prints a line for each reply, as ping(8) does, and no figure that says nothing."""
    code, out, err = run("ping", "-c", "3", *QUICK, port)
    endpoint = f"tcp://127.0.0.1:{port}"
    *replies, end, counts, setup, title, names, times, _, client, tcp = [
        line for line in out.decode().splitlines() if not re.fullmatch(r"\d+ missed", line)
    ]  # on a busy machine a probe may be due while there is no time to send it
    assert (code, err) == (0, "")
    for seq, line in enumerate(replies, 1):
        assert re.fullmatch(rf"64 bytes from {endpoint}: seq={seq} time=\d+\.\d{{3}} ms", line)
    assert len(replies) == 3
    assert end == f"--- {endpoint} ---"
    assert counts == "3 sent, 3 received, 0 lost (0 %)"
    figure = r"\d+\.\d+"
    assert title == "round trips in ms, n = 3, clock kernel:"
    assert names.split() == ["min", "mean", "p50", "max", "mdev", "jitter"]
    assert re.fullmatch(rf"( +{figure}){{6}}", times)
    assert re.fullmatch(rf"( +{figure}){{4}}", client)
    assert re.fullmatch(rf"connect {figure} ms", setup)
    assert re.match(
        rf"tcp: rtt {figure} var {figure} min {figure} ms, 0 resent, 0 lost, cwnd", tcp
    )
    assert len(tcp) <= 80


def of_all(latencies: list[int]) -> PingStatistics:
    """Return statistics in which there is something of everything."""
    histogram = Histogram.of(latencies)
    return PingStatistics(
        endpoint="tcp://echo.example.com:7007",
        address="192.0.2.1:7007",
        sent=12_345,
        received=12_000,
        lost=345,
        in_flight=3,
        missed=1,
        late=2,
        duplicate=3,
        corrupt=4,
        stray=5,
        failures={FailureCause.TIMEOUT_REPLY: 300, FailureCause.CORRUPT: 45},
        reconnects=7,
        largest=1400,
        latency=histogram,
        clocks={Clock.KERNEL: 11_000, Clock.USER: 1_000},
        client=histogram,
        mdev=12_345_678,
        jitter=999_999_999,
        outages=2,
        outage_seconds=12.5,
        longest_outage=Outage(seconds=11.5, probes=11, since=1e9, until=1e9 + 11.5),
        setup=dict.fromkeys(("lookup", "connect", "handshake"), histogram),
    )


@pytest.mark.parametrize("longest", [10**5, 10**8, 10**10])
def test_a_summary_fits_60_columns(longest: int) -> None:
    """It does with everything in it; the table has each figure under its name."""
    statistics = of_all(
        [longest // 2 + step for step in range(0, longest // 2, longest // 300)]
    )
    lines = [*fitted(summary_of(statistics, sweep=True)), *table_of(statistics)]
    assert max(map(len, lines)) <= 60
    names, figures, _, client = lines[-4:]
    ends = [match.end() for match in re.finditer(r"\S+", names)]
    assert len(ends) == 8
    for line, columns in ((figures, 8), (client, 6)):
        assert [match.end() for match in re.finditer(r"\S+", line)] == ends[:columns]


@pytest.mark.parametrize("kind", ["tcp", "udp"])
def test_a_name_is_shown_with_its_address(kind: str) -> None:
    """The address is the one that answers, though the name may have others."""
    with serving(f"{kind}://127.0.0.1:0") as process:
        name = f"{kind}://localhost:{process.port}"
        code, out, _ = call("ping", "-c", "1", name)
        assert (code, f"--- {name} (127.0.0.1:{process.port}) ---" in out.decode()) == (0, True)
        code, out, _ = call("load", "-n", "5", "-c", "1", name)
        assert code == 0
        assert out.decode().startswith(f"{name} (127.0.0.1:{process.port}): 1 connection")
        assert where(name, None) == where(name, name[6:]) == name


@pytest.mark.parametrize("kind", ["tcp", "udp"])
def test_nobody_there_is_exit_status_two(kind: str) -> None:
    """Each probe names the cause, and so does the last line, with the remedy."""
    target = free_endpoint(kind)
    code, out, err = call("ping", "-c", "5", *QUICK, target)
    lines = out.decode().splitlines()
    assert code == 2
    by = " by 127.0.0.1" * (kind == "udp")  # where the network says who
    assert lines[0] == f"no reply from {target}: seq=1 refused (connection refused{by})"
    assert "5 sent, 0 received, 5 lost (100 %)" in lines
    assert "failures: refused 5" in lines
    assert err == (
        f"techo: {target} was never reached (refused 5); start a server there, or check host "
        "and port\n"
    )


def test_quiet_means_the_summary_only(port: str) -> None:
    """Without --quiet, a timestamp stands before each line if wanted."""
    _, out, _ = call("ping", "-q", "-c", "2", *QUICK, port)
    _, stamped, _ = call("ping", "-D", "-c", "1", port)
    assert out.startswith(b"--- tcp://")
    assert re.match(rb"\[\d{10}\.\d{6}\] 64 bytes from ", stamped)


def test_machines_get_objects(port: str) -> None:
    """There is an object in each line, with a schema; times are whole nanoseconds."""
    code, out, _ = call("ping", "--json", "-c", "20", *QUICK, port)
    *replies, summary = events(out)
    assert code == 0
    assert {each["schema"] for each in [*replies, summary]} == {2}
    assert {each["event"] for each in replies} == {"reply"}
    assert [each["seq"] for each in replies] == list(range(1, 21))
    assert all(isinstance(each["latency_ns"], int) for each in replies)
    assert [summary[name] for name in ("event", "sent", "received", "lost", "failures")] == [
        "summary",
        20,
        20,
        0,
        {},
    ]
    times = summary["latency_ns"]
    assert times["min"] == min(each["latency_ns"] for each in replies)
    assert times["min"] <= times["p50"] <= times["p95"] <= times["max"]
    assert times["p99"] is None
    assert summary["setup_ns"]["connect"]["count"] == 1


def test_machines_get_failures_too() -> None:
    """The object of a failure has the cause as a word."""
    with serving("--fault", "close-unread") as process:
        code, out, _ = call("ping", "--json", "-c", "2", *QUICK, str(process.port))
    *failures, summary = events(out)
    assert code == 1
    assert {each["cause"] for each in failures} <= {"eof", "reset"}
    assert summary["lost"] == sum(summary["failures"].values()) == 2
    assert summary["outages"]["longest"]["probes"] == 2


@pytest.mark.parametrize("given", ["-n", "-c", "--count"])
def test_trips_are_counted_by_the_same_option_as_load_s(given: str, port: str) -> None:
    """The letter n counts them in both, and c as in ping(8)."""
    code, out, _ = call("ping", given, "2", *QUICK, port)
    assert code == 0
    assert b"\n2 sent, 2 received" in out


def test_a_file_gets_the_objects_and_people_the_text(port: str, tmp_path: Path) -> None:
    """It has them all, whatever is printed, and is replaced as a whole."""
    path = tmp_path / "a.json"
    for options, printed in (([], 3), (["-q"], 0), (["--json"], 3), (["--json", "-q"], 0)):
        path.write_text("x" * 10_000)
        code, out, _ = call("ping", "-n", "3", *QUICK, *options, "--output", str(path), port)
        found = events(path.read_bytes())
        assert code == 0
        assert [each["event"] for each in found] == ["reply"] * 3 + ["summary"]
        if "--json" in options:
            assert events(out) == found[-1 - printed :]
        else:
            assert out.count(b" from tcp://") == printed


def test_a_file_is_written_before_it_is_over(port: str, tmp_path: Path) -> None:
    """Who is killed has lost nothing that was printed."""
    path = tmp_path / "a.json"
    with pinging("--output", str(path), "-i", "60", port) as popen:
        read_line(popen)
        popen.kill()
        popen.wait(PATIENCE)
    assert [each["event"] for each in events(path.read_bytes())] == ["reply"]


def test_a_file_that_is_full_ends_no_ping(port: str) -> None:
    """It is reported once; all is printed, and the exit status is 1."""
    code, out, err = call("ping", "-n", "3", *QUICK, "--output", "/dev/full", port)
    assert code == 1
    assert b"\n3 sent, 3 received" in out
    assert err == "techo: cannot write '/dev/full': no space left on device\n"


def test_a_sweep_finds_the_largest_that_returns() -> None:
    """Each size is sent once, over a server that cuts datagrams."""
    with serving("--reply", "raw", "--fault", "truncate=500", "udp://127.0.0.1:0") as process:
        endpoint = str(process.endpoints[0])
        code, out, _ = call("ping", *QUICK, "-s", "100-1000/100", "-W", "200ms", endpoint)
    lines = out.decode().splitlines()
    assert code == 0
    assert "10 sent, 5 received, 5 lost (50 %)" in lines
    assert "failures: short 5" in lines
    assert "largest that returned: 500 bytes" in lines


@pytest.mark.parametrize(
    ("rule", "code", "told"),
    [
        ("received<3", 0, ""),
        ("received<4", 1, "received"),
        ("p99>5s", 1, "cannot tell"),
        ("loss>0%", 0, ""),
        ("max>1ns", 1, "max"),
        ("outage>1ms", 0, ""),
        ("refused>0", 0, ""),
    ],
)
def test_rules_decide(rule: str, code: int, told: str, port: str) -> None:
    """A rule that fires is reported on standard error and makes the exit code 1."""
    arguments = ["ping", "-q", "-c", "3", *QUICK, "--fail-if", rule, port]
    found, _, err = call(*arguments)
    assert found == code
    assert told in err
    assert len(err.splitlines()) == code


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["-c", "0"], "'0'"),
        (["-i", "nan"], "'nan'"),
        (["-W", "-1"], "'-1'"),
        (["-s", "0"], "'0'"),
        (["--output", "/nowhere/a"], "no folder '/nowhere'"),
        (["-s", "10-1"], "'10-1'"),
        (["-s", "1-10/0"], "'1-10/0'"),
        (["-s", "1-999999999"], "size 999999999 is not a whole number from 1 to 134217728"),
        (["-s", "65508", "udp://127.0.0.1:9"], "size 65508: 65508 bytes do not fit into one"),
        (["--fail-if", "p99>5M"], "'p99>5M'"),
        (["*:8009"], "name host and port"),
        (["fd:3"], "fd:3"),
        (["tls+fd:3", "--tls-insecure"], "can't connect to tls+fd:3: it is for servers"),
        (["--tls-insecure"], "--tls-insecure"),
        (["--tls-ca", "/nowhere", "tls://127.0.0.1:1"], "'/nowhere'"),
    ],
)
def test_nonsense_is_refused(arguments: list[str], told: str) -> None:
    """One line names the bad value, and the exit code is 2."""
    code, out, err = call("ping", *arguments)
    assert (code, out) == (2, b"")
    assert told in err
    assert len(err.splitlines()) == 1


def test_the_environment_below_the_options(port: str) -> None:
    """Options win over variables, as for every command."""
    environment = {"TECHO_COUNT": "2", "TECHO_SIZE": "9", "TECHO_INTERVAL": "0.01"}
    _, out, _ = call("ping", "-c", "1", port, environment=environment)
    assert out.startswith(b"9 bytes from ")
    assert b"\n1 sent, 1 received" in out


def test_interrupted_it_prints_the_summary_and_dies_by_the_signal(port: str) -> None:
    """It dies by SIGINT if the verdict is good, and exits with 0 after SIGTERM."""
    for number, code in [(signal.SIGINT, -signal.SIGINT), (signal.SIGTERM, 0)]:
        with pinging("-i", "60", port) as popen:
            assert "seq=1" in read_line(popen)
            popen.send_signal(number)
            out, err = popen.communicate(timeout=PATIENCE)
        assert (popen.returncode, err) == (code, b"")
        assert b"\n1 sent, 1 received" in out


def test_interrupted_with_a_bad_verdict_the_verdict_counts(port: str) -> None:
    """The exit code is the one for a server never reached, or for a rule that fired."""
    with pinging("-i", "60", free_endpoint("tcp")) as popen:
        assert "refused" in read_line(popen)
        popen.send_signal(signal.SIGINT)
        assert popen.wait(PATIENCE) == 2
    arguments = ["-i", "60", "--fail-if", "received>0", port]
    with pinging(*arguments) as popen:
        read_line(popen)
        popen.send_signal(signal.SIGINT)
        assert popen.wait(PATIENCE) == 1


def test_sigquit_asks_for_the_statistics_so_far(port: str) -> None:
    """They are printed on standard error, and ping goes on."""
    with pinging("-i", "0.01", port) as popen:
        read_line(popen)
        popen.send_signal(signal.SIGQUIT)
        assert popen.stderr is not None
        said = [popen.stderr.readline().decode() for _ in range(4)]
        assert re.match(r"\d+ sent, \d+ received, 0 lost \(0 %\)", said[0])
        assert re.match("round trips in ms, n = ", said[1])
        assert said[2].split()[:2] == ["min", "mean"]
        assert said[3].split()[0] > "0"
        assert "seq=" in read_line(popen)


def test_a_restart_of_the_server_is_an_outage() -> None:
    """Its begin and end are right to the interval, and the connection is opened again."""
    with serving() as first:
        endpoint = str(first.endpoints[0])
        with pinging("--json", "-i", "0.05", endpoint) as popen:
            assert json.loads(read_line(popen))["event"] == "reply"
            first.finish(signal.SIGKILL)
            while json.loads(line := read_line(popen))["event"] == "reply":
                pass
            causes = [json.loads(line)["cause"], json.loads(read_line(popen))["cause"]]
            with serving(endpoint):
                while json.loads(line := read_line(popen))["event"] == "failure":
                    causes.append(json.loads(line)["cause"])
                answered = json.loads(line)
                popen.send_signal(signal.SIGINT)
                out, _ = popen.communicate(timeout=PATIENCE)
    summary = events(out)[-1]
    assert set(causes) <= {"eof", "reset", "refused"}
    assert "refused" in causes
    # A process that is killed may accept once more, before all of its sockets are closed.
    assert summary["reconnects"] in {1, 2}
    assert summary["outages"]["count"] == 1
    longest = summary["outages"]["longest"]
    assert longest["probes"] == summary["lost"]
    assert longest["to_ns"] - longest["from_ns"] == pytest.approx(
        longest["duration_ns"], abs=2.5e9
    )
    assert longest["to_ns"] == pytest.approx(
        answered["at_ns"] - answered["latency_ns"], abs=2.5e9
    )


def test_lost_datagrams_are_those_that_were_lost() -> None:
    """A tenth is dropped on purpose, and ping counts as many as the server."""
    with serving("--fault", "drop=10%", "--seed", "3", "udp://127.0.0.1:0") as process:
        target = str(process.endpoints[0])
        arguments = ["--json", "-c", "100", "-i", "0.005", "-W", "0.5", target]
        code, out, _ = call("ping", *arguments)
        dropped = process.statistics()["datagrams"]["dropped"]["fault"]
    summary = events(out)[-1]
    assert code == 0
    assert 0 < dropped < 100
    assert summary["failures"] == {"timeout-reply": dropped}
    assert (summary["lost"], summary["received"]) == (dropped, 100 - dropped)
    assert summary["loss_percent"] == pytest.approx(dropped)


def test_tls_has_its_handshake_told_apart(tmp_path: Path) -> None:
    """The handshake has a time of its own, and a bad certificate is the cause `tls`."""
    authority, certificate = trustme.CA(), tmp_path / "certificate.pem"
    authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(certificate)
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    with serving("--tls-cert", str(certificate), "tls://127.0.0.1:0") as process:
        target = str(process.endpoints[0])
        trusted = call("ping", "--tls-ca", str(tmp_path / "ca.pem"), "-c", "1", target)
        distrusted = call("ping", "-c", "1", target)
    assert trusted[0] == 0
    assert re.search(rb"^connect \S+ ms, TLS handshake \S+ ms$", trusted[1], re.MULTILINE)
    assert distrusted[0] == 2
    assert b"seq=1 tls (bad certificate (" in distrusted[1]


def test_nobody_reads_what_is_printed(port: str) -> None:
    """It ends without a word."""
    with pinging("-i", "0.01", port) as popen:
        read_line(popen)
        assert popen.stdout is not None
        popen.stdout.close()
        assert popen.wait(PATIENCE) == 1
        assert popen.stderr is not None
        assert popen.stderr.read() == b""


def test_the_kernel_s_clock_is_refused_where_there_is_none() -> None:
    """By the reason, before anything is tried: Unix sockets have none, in every kind."""
    reasons = {
        **{
            f"{kind}:/nowhere": "no Unix sockets" for kind in ("unix", "unixgram", "unixpacket")
        },
        "mptcp://127.0.0.1:1": "nothing that MPTCP sends",
    }
    for endpoint, reason in reasons.items():
        code, out, err = call("ping", "--clock", "kernel", endpoint)
        assert (code, out) == (2, b"")
        assert err == f"techo: clock kernel: {endpoint} has none: Linux stamps {reason}\n"

"""techo load, as the process it is."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import trustme

from entering import entered
from helpers import PATIENCE, call, free_endpoint, run, serving, started, wait_until

FIGURE = r"[\d,]+\.\d+"


FIGURES = ["count", "min", "mean", "p50", "p90", "p95", "p99", "p99_9", "max"]


def load(*arguments: str) -> tuple[int, dict[str, Any]]:
    """Run a load and return its exit code and its object."""
    code, out, _ = call("load", "--json", *arguments)
    found: dict[str, Any] = json.loads(out)
    return code, found


ROWS = ("n", "min", "mean", "p50", "p90", "p99", "p99.9", "max")


def table_of(text: str) -> dict[str, list[str]]:
    """Return the rows of the times by their names."""
    found = {
        line.split()[0]: line.split()[1:] for line in text.splitlines() if line[:2] == "  "
    }
    return {name: found[name] for name in ROWS}


def test_counts_times_and_a_histogram() -> None:
    """The text for people has the counts that the server has, too."""
    with serving("--reply", "raw") as process:
        code, out, err = run(
            *("load", "-c", "5", "-n", "1000", "-s", "100", "--report-every", "1h"),
            str(process.port),
        )
        counted = process.statistics()
    lines = out.decode().splitlines()
    first, trips, counts, client, _, heading = lines[:6]
    times, histogram = lines[6:14], lines[14:]
    assert (code, err) == (0, "")
    assert first == f"tcp://127.0.0.1:{process.port}: 5 connections x 100 bytes"
    assert re.fullmatch(rf"1,000 round trips in \d+\.\d{{3}} s: {FIGURE}/s, \S+ Mbit/s", trips)
    assert counts == "0 lost (0 %)"
    assert max(map(len, lines)) <= 60
    assert re.fullmatch(r"client CPU \d+\.\d\d s(, \d+ % of a core.*)?", client)
    assert heading.split() == ["ms", "service"]
    (count,), *figures = table_of("\n".join(times)).values()
    assert count == "1,000"
    assert all(re.fullmatch(FIGURE, each) for (each,) in figures)
    assert histogram[1].strip() == "service time, ms"
    rows = [re.search(r"- *\S+ +([\d,]+) +\S+ %", line) for line in histogram[2:]]
    assert sum(int(row[1].replace(",", "")) for row in rows if row) == 1000
    assert "━" in "".join(histogram)
    assert (counted["accepted"], counted["received_bytes"]) == (5, 100_000)


def test_with_a_rate_there_are_three_times(port: str) -> None:
    """There are service, response and what lies between, for the trips that were due."""
    code, out, _ = call("load", "-r", "500", "-d", "1", port)
    text = out.decode()
    assert code == 0
    assert "10 connections x 64 bytes\n500 trips/s wanted\n500 round trips in " in text
    assert "  ms     service  response  send lag" in text
    table = table_of(text)
    assert (table["n"], table["p99.9"]) == (["500"] * 3, ["-"] * 3)
    assert all(len(row) == 3 for row in table.values())
    assert "response time, ms" in text


def test_no_percentile_for_which_there_are_too_few(port: str) -> None:
    """Three trips support a median, and nothing above it."""
    _, out, _ = call("load", "-n", "3", port)
    shown = [name for name, (figure,) in table_of(out.decode()).items() if figure != "-"]
    assert shown == ["n", "min", "mean", "p50", "max"]


def test_machines_get_an_object(port: str) -> None:
    """It has the fields that the README lists, and times in whole nanoseconds."""
    code, found = load("-c", "3", "-r", "200", "-n", "200", "-s", "9", port)
    assert code == 0
    assert (found["schema"], found["event"]) == (2, "summary")
    asked = ("connections", "size_bytes", "pipeline", "wanted_trips_per_second")
    assert [found[name] for name in asked] == [3, 9, 1, 200]
    assert (found["sent"], found["loss_percent"]) == (200, 0)
    assert (found["received"], found["received_bytes"], found["failures"]) == (200, 1800, {})
    assert found["trips_per_second"] == pytest.approx(200 / found["seconds"])
    for name in ("service", "response", "send_lag", "latency"):
        times = found[f"{name}_ns"]
        assert list(times) == FIGURES
        assert (times["count"], times["p99_9"]) == (200, None)
        assert 0 <= times["min"] <= times["p50"] <= times["p90"] <= times["p99"]
        assert times["p99"] <= times["max"]
        assert all(isinstance(each, int) for each in times.values() if each is not None)
    for name in ("service", "response", "send_lag"):
        assert sum(found[f"{name}_histogram"]["buckets"].values()) == 200
    assert found["response_ns"]["min"] >= found["service_ns"]["min"]
    assert found["client_cpu_seconds"] > 0
    assert found["client_was_limit"] is False


def test_standard_output_may_be_gone_what_is_kept_is_kept(tmp_path: Path, port: str) -> None:
    """Files are written first; then the failure to print the rest is reported."""
    path, picture = tmp_path / "a.json", tmp_path / "a.png"
    files = ["--output", str(path), "--plot", str(picture)]
    code, err = entered(os.open("/dev/full", os.O_WRONLY), "load", "-n", "10", port, *files)
    assert code == 1
    assert err == "techo: cannot write to standard output: No space left on device\n"
    assert json.loads(path.read_text())["received"] == 10
    assert picture.stat().st_size > 1000


def test_a_file_that_can_not_be_written_in_the_end_is_told(port: str) -> None:
    """The exit code is 1, and the text is printed all the same."""
    code, out, err = call("load", "-n", "10", port, "--output", "/dev/full")
    assert code == 1
    assert b"10 round trips" in out
    assert err == "techo: cannot write '/dev/full': no space left on device\n"


def test_messages_that_look_alike_are_not_taken_for_lost() -> None:
    """There are 256 messages of one byte, and here 400 are in flight at once."""
    with serving("--reply", "raw", f"unixpacket:@alike-{os.getpid()}") as process:
        target = str(process.endpoints[0])
        code, found = load("-s", "1", "--pipeline", "400", "-c", "1", "-n", "2000", target)
    assert code == 0
    assert (found["received"], found["lost"], found["duplicate"]) == (2000, 0, 0)


def test_who_closes_at_once_is_a_cause_and_no_silence() -> None:
    """Nothing comes back, however quick it is, and the load ends within a timeout."""
    with serving("--fault", "refuse") as process:
        code, found = load("-c", "1", "-d", "60", "-W", "0.3", str(process.port))
    assert code == 1
    assert found["received"] == 0
    assert set(found["failures"]) <= {"eof", "reset"}
    assert found["lost"] == sum(found["failures"].values()) > 0


def test_a_file_gets_the_object_and_people_the_text(tmp_path: Path, port: str) -> None:
    """The file is replaced as a whole."""
    path = tmp_path / "a.json"
    path.write_text("x" * 10_000)
    _, out, _ = call("load", "-n", "10", port, "--output", str(path))
    assert b"10 round trips" in out
    assert json.loads(path.read_text())["received"] == 10


def test_nobody_there_is_exit_status_two() -> None:
    """The cause is counted and reported with the remedy."""
    endpoint = free_endpoint("tcp")
    code, out, err = call("load", "-c", "4", endpoint)
    assert code == 2
    # Each tries once; and again, while another has not tried yet.
    assert re.search(rb"\nfailures: refused \d\n  refused: connection refused\n", out)
    assert re.fullmatch(
        rf"techo: {re.escape(endpoint)} was never reached \(refused [4-9]\); "
        r"start a server there, or check host and port\n",
        err,
    )


@pytest.mark.parametrize(
    ("fault", "causes"),
    [
        ("corrupt=100%", {"corrupt"}),
        ("reset=650", {"reset"}),
        ("truncate=650", {"short"}),
    ],
)
def test_errors_are_exit_status_one(fault: str, causes: set[str]) -> None:
    """Errors are counted by cause, and a broken connection is opened again."""
    with serving("--reply", "raw", "--fault", fault) as process:
        # Where all is corrupt nothing ever comes back, and then it goes on for so long.
        code, found = load("-c", "2", "-n", "100", "-W", "60", str(process.port))
    assert code == 1
    assert set(found["failures"]) == causes
    assert found["received"] + found["lost"] == 100
    assert found["lost"] == sum(found["failures"].values())
    assert found["reconnects"] >= 2


def test_an_end_between_two_messages_costs_one_at_the_most() -> None:
    """The next may have been sent by then, or not; the connection is opened again."""
    with serving("--reply", "raw", "--fault", "truncate=640") as process:
        code, found = load("-c", "2", "-n", "100", str(process.port))
    assert found["received"] + found["lost"] == 100
    assert found["reconnects"] >= 2
    assert found["lost"] <= found["reconnects"]
    assert found["failures"] == {"eof": found["lost"]} if found["lost"] else not code


@pytest.mark.parametrize(
    ("rule", "code", "told"),
    [
        ("received<200", 0, ""),
        ("received_bytes<12k", 0, ""),
        ("loss_percent>0%", 0, ""),
        ("p95>9", 0, ""),
        ("received<201", 1, "received"),
        ("p99>9s", 0, ""),
        ("p99.9>9s", 1, "cannot tell"),
        ("service.max>1ns", 1, "service.max"),
        ("response.min<0s", 0, ""),
        ("send_lag>=0s", 1, "send_lag"),
        ("loss>0%", 0, ""),
        ("rate>1e9/s", 0, ""),
        ("rate<1e9", 1, "rate"),
        ("timeout-reply>0", 0, ""),
        ("failures>0", 0, ""),
    ],
)
def test_rules_decide(rule: str, code: int, told: str, port: str) -> None:
    """A rule that fires is reported on standard error and makes the exit code 1."""
    arguments = ["-r", "2000", "-n", "200", "--fail-if", rule, port]
    found, _, err = call("load", *arguments)
    assert found == code
    assert told in err
    assert len(err.splitlines()) == code


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["-c", "0"], "'0'"),
        (["-d", "nan"], "'nan'"),
        (["-n", "1.5"], "'1.5'"),
        (["-r", "-1"], "'-1'"),
        (["-s", "1-10"], "'1-10'"),
        (["-W", "inf"], "'inf'"),
        (["--pipeline", "many"], "'many'"),
        (["--warm-up", "-1"], "'-1'"),
        (["-d", "1", "-n", "1"], "--duration and --trips"),
        (["--fail-if", "p98>5ms"], "'p98>5ms'"),
        (["--fail-if", "response.p99>5ms"], "'response.p99>5ms': without --rate"),
        (["--fail-if", "send_lag>5ms"], "'send_lag>5ms': without --rate"),
        (["--fail-if", "probe.p99>5ms"], "'probe.p99>5ms': without --probe there is no probe"),
        (
            ["--probe", "2000"],
            "'2000' is not a number of probes per second above 0, up to 1000",
        ),
        (["--output", "-"], "'-' is not a file; --json prints to standard output"),
        (["--output", "/nowhere/a.json"], "no folder '/nowhere'"),
        (["--output", "/"], "it is a folder"),
        (["--plot", "a.svg", "--output", "./a.svg"], "--plot and --output both name 'a.svg'"),
        (["-r", "1e18"], "'1e18' is not a number of trips per second above 0"),
        (["--plot", "a.pdf"], "'a.pdf' is neither .svg nor .png"),
        (["--plot", "/nowhere/a.svg"], "no folder '/nowhere'"),
        (["*:8009"], "name host and port"),
        (["fd:3"], "fd:3"),
        (["tls+fd:3", "--tls-insecure"], "can't connect to tls+fd:3: it is for servers"),
        (["--tls-insecure"], "--tls-insecure"),
        (["-s", "65508", "udp://127.0.0.1:9"], "size 65508: 65508 bytes do not fit"),
        (["-s", "300000000"], "size 300000000 is not a whole number from 1 to 134217728"),
        (["--output="], "'' is not the name of a file"),
        (["-c", "1000000000"], "files may be open, which is too few for 1000000000"),
    ],
)
def test_nonsense_is_refused(arguments: list[str], told: str) -> None:
    """One line names the bad value, and the exit code is 2, before anything is sent."""
    code, out, err = call("load", *arguments)
    assert (code, out) == (2, b"")
    assert told in err
    assert len(err.splitlines()) == 1


@pytest.mark.parametrize("nothing", ["0", "0.0", ".0"])
def test_no_warm_up_may_be_asked_for(nothing: str, port: str) -> None:
    """Zero is the default, in whatever way it is written."""
    code, found = load("--warm-up", nothing, "-n", "5", port)
    assert (code, found["received"]) == (0, 5)


def test_interrupted_in_the_warm_up_it_says_that_nothing_was_counted() -> None:
    """It does not say that nothing came back."""
    with (
        serving() as process,
        started("load", "--warm-up", "60", str(process.port)) as popen,
    ):
        wait_until(lambda: process.statistics()["sent_bytes"] > 0, "no trips")
        popen.send_signal(signal.SIGINT)
        _, err = popen.communicate(timeout=PATIENCE)
    assert (popen.returncode, err.splitlines()[-1]) == (1, b"techo: nothing was counted")


def test_more_connections_are_no_remedy_where_nobody_is() -> None:
    """The hint about unsent trips is only for servers that can be reached."""
    with serving("--max-connections", "1") as process:
        _, slow, _ = call(
            "load", "-c", "1", "-r", "1e6", "-d", "0.1", "-W", "1", str(process.port)
        )
        arguments = ["-r", "100", "-n", "1000", "-W", "0.5", str(process.port)]
        with started("load", *arguments) as popen:
            wait_until(lambda: process.statistics()["sent_bytes"] > 10_000, "no trips")
            process.finish()
            gone, _ = popen.communicate(timeout=PATIENCE)
    assert b"\nunsent: no connection was free" in slow
    assert b"refused: connection refused" in gone
    assert b"\nunsent: no connection was free" not in gone


def test_the_environment_below_the_options(tmp_path: Path, port: str) -> None:
    """Of duration and trips, the option counts, whichever the environment has."""
    environment = {"TECHO_CONNECTIONS": "2", "TECHO_SIZE": "9", "TECHO_DURATION": "60"}
    _, out, _ = call("load", "-n", "5", port, environment=environment)
    environment = {"TECHO_TRIPS": "1000000000", "TECHO_OUTPUT": str(tmp_path / "b.json")}
    code, _, _ = call("load", "-d", "1", port, environment=environment)
    assert b": 2 connections x 9 bytes\n5 round trips" in out
    assert code == 0
    assert json.loads((tmp_path / "b.json").read_text())["received"] > 0


def test_interrupted_it_reports_what_was_measured() -> None:
    """It dies by SIGINT if the verdict is good, and exits with 0 after SIGTERM."""
    with serving() as process:
        for number, code in [(signal.SIGINT, -signal.SIGINT), (signal.SIGTERM, 0)]:
            before = process.statistics()["sent_bytes"]
            with started("load", "-d", "60", str(process.port)) as popen:
                wait_until(lambda: process.statistics()["sent_bytes"] > before, "no trips")  # noqa: B023  -- called at once
                popen.send_signal(number)
                out, err = popen.communicate(timeout=PATIENCE)
            assert popen.returncode == code
            assert err in {b"", b"techo: waiting for trips in flight; again to stop now\n"}
            assert b"10 connections x 64 bytes\n" in out


def test_interrupted_twice_it_does_not_wait() -> None:
    """A server that halts does not hold it up; trips in flight are reported."""
    with serving() as process, started("load", "-W", "60", str(process.port)) as popen:
        wait_until(lambda: process.statistics()["sent_bytes"] > 0, "no trips")
        process.popen.send_signal(signal.SIGSTOP)
        try:
            os.waitid(os.P_PID, process.popen.pid, os.WSTOPPED)
            popen.send_signal(signal.SIGINT)
            assert popen.stderr is not None
            assert b"waiting for trips in flight" in popen.stderr.readline()
            popen.send_signal(signal.SIGINT)
            out, _ = popen.communicate(timeout=PATIENCE)
        finally:
            process.popen.send_signal(signal.SIGCONT)
    assert popen.returncode == -signal.SIGINT
    assert b" lost, 10 in flight\n" in re.sub(rb" \(.*? %\)", b"", out)


def test_late_signals_cost_no_report() -> None:
    """It delivers the report, however often Ctrl-C is pressed."""
    with serving() as process, started("load", "-c", "300", str(process.port)) as popen:
        wait_until(lambda: process.statistics()["sent_bytes"] > 0, "no trips")
        while popen.poll() is None:
            popen.send_signal(signal.SIGINT)
            time.sleep(0.01)  # as quickly as a person could and more
        assert popen.returncode == -signal.SIGINT
        assert popen.stdout is not None
        assert b"round trips in" in popen.stdout.read()


@pytest.mark.parametrize(
    ("name", "begins"), [("a.svg", b"<?xml"), ("a.PNG", b"\x89PNG"), ("b.svg", b"<?xml")]
)
def test_the_picture_is_drawn(name: str, begins: bytes, tmp_path: Path, port: str) -> None:
    """Its format is that of the suffix, and it has a curve for each time."""
    rate = ["-r", "1000"] if name.startswith("a") else []
    arguments = [*rate, "-n", "200", "--plot", str(tmp_path / name), port]
    code, _, err = call("load", *arguments)
    drawn = (tmp_path / name).read_bytes()
    assert (code, err) == (0, "")
    assert drawn.startswith(begins)
    if name.endswith("svg"):
        assert b"service time, n = 200" in drawn
        assert (b"response time, n = 200" in drawn) == bool(rate)
        assert b"10 x 64 bytes, 0 lost (0 %), 20" in drawn  # and the date
        assert b"seconds since counting began" in drawn


def test_the_picture_of_an_endpoint_with_dollars_has_them(tmp_path: Path) -> None:
    """Its name is no formula, and a report is not lost for it."""
    picture = tmp_path / "a.svg"
    with serving("unix:@techo-$_$-" + tmp_path.name) as process:
        endpoint = str(process.endpoints[0])
        code, out, err = call("load", "-n", "20", "--plot", str(picture), endpoint)
    assert (code, err) == (0, "")
    assert endpoint.encode() in out
    assert endpoint.encode() in picture.read_bytes()


def test_without_matplotlib_it_says_so_before_it_begins() -> None:
    """The line says what to install, and nothing is measured."""
    code = (
        "import sys; sys.modules['matplotlib'] = None\n"
        "from techo._cli import main; sys.exit(main(sys.argv[1:]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "load", "--plot", "a.svg", "1"],
        capture_output=True,
        timeout=PATIENCE,
        check=False,
    )
    assert (done.returncode, done.stdout) == (2, b"")
    assert done.stderr == (
        b"techo: --plot needs matplotlib: in the checkout, pip install '.[plot]' (the extra "
        b"plot)\n"
    )


def test_a_narrow_place_cuts_no_figure(port: str) -> None:
    """Every figure is printed whole, however narrow the terminal is."""
    _, out, _ = call("load", "-n", "1000", port, environment={"COLUMNS": "30"})
    (count,), *figures = table_of(out.decode()).values()
    assert count == "1,000"
    assert all(re.fullmatch(FIGURE, each) for (each,) in figures)
    assert "…" not in out.decode()


def test_over_tls_the_server_is_left_in_good_manners(tmp_path: Path) -> None:
    """Each connection is closed gracefully."""
    authority, certificate = trustme.CA(), tmp_path / "certificate.pem"
    authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(certificate)
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    with serving("--tls-cert", str(certificate), "tls://127.0.0.1:0") as process:
        target = str(process.endpoints[0])
        ca = str(tmp_path / "ca.pem")
        code, found = load("--tls-ca", ca, "-c", "3", "-n", "60", target)
        wait_until(lambda: process.read_log().count("outcome=eof") >= 3, process.read_log())
        distrusted = call("load", target)
        misnamed = call("load", "--tls-ca", ca, "--tls-server-name", "echo.example", target)
    assert (code, found["received"], found["failures"]) == (0, 60, {})
    assert distrusted[0] == 2
    assert re.search(r" \(tls \d\d\); --tls-ca FILE", distrusted[2])
    assert b"\n  tls: bad certificate (unable to get local issuer" in distrusted[1]
    assert b"\n  tls: bad certificate (Hostname mismatch" in misnamed[1]

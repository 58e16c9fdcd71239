"""techo check: what it prints, and its exit status."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import trustme

from helpers import call, free_endpoint, run, serving
from techo._checking.context import Check, CheckReport, Verdict
from techo._cli.check import _last_lines, _row
from techo.endpoint import Endpoint

QUICK = ["--connections", "5", "--skip", "16-MiB"]


def test_a_good_server_gets_a_table_of_passes() -> None:
    """It prints a line for each check and one for all, and exits with 0."""
    with serving("--reply", "raw") as process:
        code, out, err = run("check", str(process.port), *QUICK)
    lines = out.decode().splitlines()
    assert (code, err) == (0, "")
    assert lines[0].split()[:2] == ["empty", "pass"]
    others = {line.split()[0]: line[16:32].strip() for line in lines if " pass " not in line}
    del others[f"tcp://127.0.0.1:{process.port}"]
    assert others == {"16-MiB": "skipped", "message-bounds": "not applicable"}
    end = "(raw replies): 12 pass, 0 fail, 1 not applicable, 1 skipped"
    assert lines[-1] == f"tcp://127.0.0.1:{process.port} {end}"


@pytest.mark.parametrize("verdict", Verdict)
def test_only_what_was_done_has_a_time(verdict: Verdict) -> None:
    """Where nothing was tried out, none is worth reading."""
    (line,) = _row(Check("empty", verdict, "evidence", seconds=1.0), None)
    assert ("1,000.0 ms" in line) == (verdict in {Verdict.PASSED, Verdict.FAILED})


def test_what_was_not_tried_is_counted_apart() -> None:
    """Where nothing comes back, what depends on it is neither failed nor not applicable."""
    quick = [*QUICK, "--patience", "100ms"]
    with serving("-q", "--fault", "never-read") as process:
        code, out, _ = call("check", str(process.port), *quick)
        _, objects, _ = call("check", "--json", str(process.port), *quick)
    *lines, last = out.decode().splitlines()
    *checks, summary = map(json.loads, objects.splitlines())
    untried = [line.split()[0] for line in lines if line[16:32].strip() == "not tried"]
    assert code == 1
    assert "64-KiB" in untried
    assert last.endswith(f" fail, 1 skipped, {len(untried)} not tried")
    assert [each["check"] for each in checks if each["verdict"] == "not tried"] == untried
    assert (summary["not_tried"], summary["skipped"]) == (len(untried), 1)
    assert summary["not_applicable"] == 0


def test_a_failure_is_told_and_is_exit_status_one() -> None:
    """The line of a failed check has the evidence."""
    with serving("--reply", "stamped") as process:
        code, out, err = call("check", "--reply", "raw", str(process.port), *QUICK)
    assert (code, err) == (1, "")
    assert "fail" in out.decode()
    assert "should be raw" in out.decode()


def test_machines_get_objects() -> None:
    """There is an object in each line, and times are whole nanoseconds."""
    with serving("udp://127.0.0.1:0") as process:
        code, out, _ = call("check", "--json", str(process.endpoints[0]), *QUICK)
    *checks, summary = map(json.loads, out.splitlines())
    assert code == 0
    assert [each["verdict"] for each in checks] == ["pass"] * 9
    assert all(isinstance(each["elapsed_ns"], int) for each in [*checks, summary])
    assert checks[0]["sent_bytes"] == 1
    assert checks[0]["offset_bytes"] is None
    assert {each["schema"] for each in [*checks, summary]} == {2}
    assert {each["event"] for each in checks} == {"check"}
    assert summary["event"] == "summary"
    assert summary["reply"] == "stamped"
    verdicts = ("passed", "failed", "not_applicable", "skipped", "not_tried")
    assert [summary[name] for name in verdicts] == [9, 0, 0, 0, 0]


def test_a_file_gets_the_objects_and_people_the_table(tmp_path: Path, port: str) -> None:
    """It has what --json prints; where it cannot be written the exit status is 1."""
    path = tmp_path / "a.json"
    code, out, _ = call("check", port, *QUICK, "--output", str(path))
    found = [json.loads(line) for line in path.read_text().splitlines()]
    assert code == 0
    assert len(found) == len(out.splitlines())
    assert found[-1]["passed"] == sum(each.get("verdict") == "pass" for each in found)
    code, printed, err = call("check", port, *QUICK, "--output", "/dev/full")
    assert code == 1
    assert len(printed.splitlines()) == len(found)
    assert err == "techo: cannot write '/dev/full': no space left on device\n"


@pytest.mark.parametrize("kind", ["tcp", "udp"])
def test_nobody_there_is_exit_status_two(kind: str) -> None:
    """It prints one line, with the remedy."""
    endpoint = free_endpoint(kind)
    code, out, err = call("check", endpoint)
    assert (code, out) == (2, b"")
    assert err == (
        f"techo: cannot check {endpoint}: connection refused; "
        "start a server there, or check host and port\n"
    )


def test_a_path_that_is_not_there_has_its_own_remedy(tmp_path: Path) -> None:
    """The remedy is the one that talk names."""
    code, _, err = call("check", f"unix:{tmp_path}/s")
    assert code == 2
    assert "check the path" in err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--patience", "0"], "--patience: '0' is not a number of seconds above 0"),
        (["--connections", "x"], "--connections: 'x' is not a whole number from 1"),
        (["-c", "5"], "there is no option '-c'"),
        (["--output", "/nowhere/a"], "no folder '/nowhere'"),
        (["--skip", "nothing"], "no check 'nothing'; there are"),
        (["--tls-insecure"], "--tls-insecure is for tls endpoints"),
        (["fd:3"], "it is for servers"),
        (["tls+fd:3"], "it is for servers"),
    ],
)
def test_wrong_usage_is_exit_status_two(arguments: list[str], words: str) -> None:
    """It prints one line that names the option or the value."""
    code, out, err = call("check", *arguments)
    assert (code, out) == (2, b"")
    assert words in err
    assert err.count("\n") == 1


def test_tls_is_checked_with_talk_s_options(tmp_path: Path) -> None:
    """A server whose certificate is not trusted cannot be reached."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca"))
    theirs = authority.issue_cert("echo.example").private_key_and_cert_chain_pem
    theirs.write_to_path(str(tmp_path / "both"))
    with serving("--tls-cert", str(tmp_path / "both"), "tls://127.0.0.1:0") as process:
        endpoint = str(process.endpoints[0])
        trust = ["--tls-ca", str(tmp_path / "ca"), "--tls-server-name", "echo.example"]
        assert call("check", endpoint, *trust, *QUICK)[0] == 0
        code, _, err = call("check", endpoint)
    assert code == 2
    assert "bad certificate" in err


def test_options_come_from_the_environment_too(port: str) -> None:
    """Variables set the options of check, as of every command."""
    environment = {"TECHO_ENDPOINT": port, "TECHO_REPLY": "raw"}
    assert call("check", *QUICK, environment=environment)[0] == 1


SERVER = """
import socket, struct, sys, threading
mode, there = sys.argv[1], []
server = socket.create_server(("127.0.0.1", 0), backlog=100)
print(server.getsockname()[1], flush=True)
def serve(sock):
    there.append(sock)
    try:
        if mode == "greets":
            sock.sendall(b"220 hello\\r\\n")
        elif len(there) > 5:  # as xinetd does with more than it allows
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            return
        while data := sock.recv(65536):
            sock.sendall(data)
    except OSError:
        pass
    finally:
        there.remove(sock)
        sock.close()
while True:
    threading.Thread(target=serve, args=[server.accept()[0]], daemon=True).start()
"""


@pytest.mark.parametrize(("mode", "failures"), [("greets", 11), ("resets", 1)])
def test_a_hostile_server_fails_checks_and_is_no_traceback(mode: str, failures: int) -> None:
    """One that speaks first, and one that resets several connections at once."""
    command = [sys.executable, "-c", SERVER, mode]
    with subprocess.Popen(command, stdout=subprocess.PIPE, bufsize=0) as server:
        assert server.stdout is not None
        port = server.stdout.readline().decode().strip()
        code, out, err = call("check", "--connections", "20", "--skip", "16-MiB", port)
        server.kill()
    assert (code, err) == (1, "")
    last = out.decode().splitlines()[-1]
    assert f", {failures} fail, " in last


@pytest.mark.parametrize("width", [50, 60, 80, 120])
def test_a_terminal_need_not_break_lines(width: int) -> None:
    """Evidence is broken between words, beside what was checked or below it."""
    evidence = "everything came back after we had finished sending, then end-of-file"
    each = Check("message-bounds", Verdict.PASSED, evidence, seconds=1.0)
    lines = _row(each, width)
    assert max(map(len, lines)) <= width
    assert " ".join(" ".join(lines).split()).endswith(evidence)
    assert len(_row(each, None)) == 1


@pytest.mark.parametrize("width", [50, 60, 80])
def test_the_last_line_is_broken_between_words(width: int) -> None:
    """A terminal shows all of its words whole; a pipe gets one line."""
    report = CheckReport((), None)
    lines = _last_lines(Endpoint.parse("tcp://127.0.0.1:8009"), report, width)
    assert max(map(len, lines)) <= width
    (whole,) = _last_lines(Endpoint.parse("tcp://127.0.0.1:8009"), report, None)
    assert " ".join(" ".join(lines).split()) == whole


def test_the_longest_time_stays_in_its_column() -> None:
    """As many seconds as `--patience` has; what was not tried has no time."""
    passed = Check("empty", Verdict.PASSED, "evidence", seconds=0.001)
    failed = Check("1-byte", Verdict.FAILED, "evidence", seconds=10.0083)
    skipped = Check("goes-on", Verdict.NOT_APPLICABLE, "evidence", seconds=0.001)
    rows = ["".join(_row(each, 80)) for each in (passed, failed, skipped)]
    assert len({row.index("evidence") for row in rows}) == 1
    assert "10,008.3 ms" in rows[1]
    assert "ms" not in rows[2]

"""The proxy between programs that are not ours: HTTP, TLS of OpenSSL's, and nc over UDP."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import pytest
import trustme

from documents import blocks, chapter, make_environment
from helpers import PATIENCE, free_port, needs, serving

SCRIPTS = [each.code for each in blocks(chapter("proxy")) if each.language == "bash"]


def script(number: int, folder: Path, end: str = "") -> subprocess.CompletedProcess[str]:
    """Run a block of the chapter as it is, but with ports that are free, and an `end`."""
    code = SCRIPTS[number]
    for port in ("8010", "8080"):
        code = code.replace(port, str(free_port()))
    environment = make_environment(folder)
    environment["PATH"] = f"{folder}/.venv/bin:{environment['PATH']}"
    return subprocess.run(
        ["bash", "-c", f"{code}\n{end}\nwait"],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )


def piped(*command: str) -> subprocess.Popen[bytes]:
    """Start a program with pipes for what it is told and what it says."""
    pipe, nothing = subprocess.PIPE, subprocess.DEVNULL
    return subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=nothing)


def test_the_first_lines_of_the_chapter(tmp_path: Path) -> None:
    """An HTTP client gets a late page, then a reset; SIGUSR1 prints what was counted."""
    done = script(0, tmp_path)
    assert re.search(r"^\d{3,}$", done.stdout, re.MULTILINE), done
    assert "ConnectionResetError" in done.stderr
    (counted,) = [line for line in done.stdout.splitlines() if line.startswith("{")]
    outcomes = json.loads(counted)["outcomes"]
    assert (outcomes["eof"], outcomes["faulted"], sum(outcomes.values())) == (1, 1, 2)


def test_a_file_of_faults_is_read_again(tmp_path: Path) -> None:
    """The block about it runs, and says nothing of its own."""
    done = script(1, tmp_path, "kill $proxy")
    assert done.stdout.startswith("listening on ")
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("fault", ["", "delay=50ms"])
def test_tls_passes_untouched(fault: str, authority: trustme.CA, tmp_path: Path) -> None:
    """OpenSSL's client trusts the certificate of OpenSSL's server behind the proxy."""
    program, port = needs("openssl"), free_port()
    pem, ca = tmp_path / "pem", tmp_path / "ca"
    authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(pem)
    authority.cert_pem.write_to_path(ca)
    server = [program, "s_server", "-quiet", "-rev", "-accept", f"127.0.0.1:{port}", "-cert"]
    options = [f"--fault={fault}"] * bool(fault)
    with (
        subprocess.Popen([*server, str(pem)], stderr=subprocess.DEVNULL) as theirs,
        serving("proxy", *options, "tcp://127.0.0.1:0", f"tcp://127.0.0.1:{port}") as process,
    ):
        try:
            client = [program, "s_client", "-quiet", "-verify_return_error", "-CAfile", str(ca)]
            client += ["-verify_ip", "127.0.0.1", "-connect", f"127.0.0.1:{process.port}"]
            with piped(*client) as ours:
                assert ours.stdin is not None
                assert ours.stdout is not None
                ours.stdin.write(b"untouched\n")
                ours.stdin.flush()
                assert ours.stdout.readline() == b"dehcuotnu\n"
                ours.kill()
        finally:
            theirs.kill()


def test_nc_over_udp() -> None:
    """A datagram of nc's goes through the proxy to an nc that listens, and an answer back."""
    program, port = needs("nc"), free_port()
    place, target = "udp://127.0.0.1:0", f"udp://127.0.0.1:{port}"
    with (
        serving("proxy", place, target) as process,
        piped(program, "-u", "-l", "127.0.0.1", str(port)) as far,
        piped(program, "-u", "127.0.0.1", str(process.port)) as near,
    ):
        try:
            for source, sink, line in ((near, far, b"there\n"), (far, near, b"back\n")):
                assert source.stdin is not None
                assert sink.stdout is not None
                source.stdin.write(line)
                source.stdin.flush()
                assert sink.stdout.readline() == line
            assert process.counters()["active"] == 1
        finally:
            far.kill()
            near.kill()

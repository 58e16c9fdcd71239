"""The benchmark itself: its programs compile, its figures are there, its load client checks."""

from __future__ import annotations

import os
import socket
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path

import attrs
import pytest

from bench import measure, programs, report, rows, verdicts
from helpers import PATIENCE

ROW = rows.echo("tiny", 3, 200, {"c": 100.0})
EFFORT = measure.Effort(rounds=2, seconds=0.05)


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> programs.Programs:
    """The C programs, without a warning."""
    folder = tmp_path_factory.mktemp("bench")
    try:
        return programs.compile_all(folder, "-Wall", "-Wextra", "-Werror")
    except programs.CannotMeasureError as error:
        if "cannot compile" in str(error) or "CI" in os.environ:
            pytest.fail(str(error))
        pytest.skip(str(error))


def test_a_row_gives_figures_a_ratio_and_a_verdict(
    compiled: programs.Programs, tmp_path: Path
) -> None:
    """Every server has its turn in every round, and the table has a line for each."""
    seen: list[int] = []
    turns = measure.measure(compiled, ROW, EFFORT, lambda: seen.append(1))
    assert len(seen) == 4
    for figures in (*turns["techo"], *turns["c"]):
        assert figures["messages"] > 0
        assert figures["cpu_us"] > 0
        assert figures["p50_us"] <= figures["p99_us"]

    result = report.Report(EFFORT)
    result.add(ROW, turns)
    ours, theirs = result.lines
    assert (ours.server, ours.ratio, ours.reached) == ("techo", None, None)
    assert (theirs.server, theirs.target, theirs.reached) == ("c", 100.0, True)
    assert "tiny: server CPU per message" in result.table()
    assert result.all_reached
    result.write_json(tmp_path / "raw.json")
    assert '"cpu_us"' in (tmp_path / "raw.json").read_text()


def test_ratios_are_paired_and_what_exceeds_its_target_falls_short() -> None:
    """The median of ratios counts, not a ratio of medians; a busy load client is named."""
    busy = {"load_share": 0.96, "server_share": 0.5}
    turns = {
        "techo": [{"cpu_us": 300.0}, {"cpu_us": 200.0}, {"cpu_us": 404.0}],
        "c": [{"cpu_us": 1.0} | busy, {"cpu_us": 2.0} | busy, {"cpu_us": 4.0} | busy],
    }
    result = report.Report(EFFORT)
    result.add(ROW, turns)
    assert result.lines[1].ratio == verdicts.Spread(100.5, 101.0, 200.5)
    assert not result.all_reached
    assert "SHORT  the load client was the bottleneck" in result.table()


@pytest.mark.parametrize(
    ("row", "key"),
    [
        (attrs.evolve(rows.chosen(["idle"])[0], load=("idle", "20")), "connection_bytes"),
        (attrs.evolve(rows.chosen(["delay"])[0], load=("echo", "20", "64")), "delay_p99_us"),
        (rows.chosen(["stamped"])[0], "cpu_us"),
        (rows.chosen(["connect"])[0], "cpu_us"),
    ],
    ids=lambda value: value.name if isinstance(value, rows.Row) else None,
)
def test_every_kind_of_row_has_its_figures(
    compiled: programs.Programs, row: rows.Row, key: str
) -> None:
    """Also those that need a fresh server, a probe, or a stamp in the reply."""
    row = attrs.evolve(row, least_seconds=0.2 if row.probed else 0)  # the probe naps
    turns = measure.measure(compiled, row, measure.Effort(1, 0.05), lambda: None)
    assert set(turns) == set(row.servers)
    assert all(key in figures for each in turns.values() for figures in each)


def wrong_byte(data: bytes) -> bytes:
    """Change the last byte, and only that."""
    return data[:-1] + bytes([data[-1] ^ 1])


@pytest.mark.parametrize(
    ("work", "reply", "complaint"),
    [
        ("echo 1 64", wrong_byte, "a wrong byte"),
        ("echo 1 64", lambda data: data + b"!", "more came back"),
        ("echo 1 64", lambda data: data[:-1], "end-of-file in mid-message"),
        ("trip", wrong_byte, "a wrong byte"),
        ("trip", lambda data: data[:-1], "end-of-file in mid-message"),
        ("idle 1", wrong_byte, "a wrong byte"),
    ],
)
def test_load_tells_a_server_that_does_not_echo(
    compiled: programs.Programs,
    work: str,
    reply: Callable[[bytes], bytes],
    complaint: str,
) -> None:
    """It exits with 1 and says what was wrong, whatever work it does."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer_once() -> None:
            peer, _ = listener.accept()
            with peer:
                peer.sendall(reply(peer.recv(64)))

        thread = threading.Thread(target=answer_once)
        thread.start()
        port = str(listener.getsockname()[1])
        done = subprocess.run(
            [compiled.load, port, str(os.getpid()), *work.split(), "0.05"],
            capture_output=True,
            text=True,
            check=False,
            timeout=PATIENCE,
        )
        thread.join(PATIENCE)
    assert (done.returncode, done.stdout) == (1, "")
    assert complaint in done.stderr

"""techo capacity: the rows, the result, and the exit status."""

from __future__ import annotations

import json
import re
import shlex
import signal
from pathlib import Path

import pytest
import trio

import techo
from capacities import found, report, step
from helpers import PATIENCE, call, free_endpoint, started
from schemas import kind_of
from techo._capacity import capacity
from techo._capacity.text import row_of
from terminals import on_a_terminal

BRIEF = shlex.split("--slo 'loss<50%' --start 100 -d 50ms --warm-up 0")
"""Options of a search whose steps are short, and hold on any machine."""

HELD, FAILED = techo.StepVerdict.HELD, techo.StepVerdict.FAILED
CLIENT, GONE = techo.StepVerdict.CLIENT_LIMIT, techo.StepVerdict.NEVER_REACHED


def test_each_step_is_a_row_and_the_result_says_how_well_it_is_known(port: str) -> None:
    """A server that holds all that is tried holds at least that."""
    code, out, err = call("capacity", *BRIEF, "--max-rate", "200", port)
    heading, *rows, capacity, evidence = out.decode().splitlines()
    assert (code, err) == (0, "")
    assert heading.split() == ["trips/s", "s", "p50", "ms", "p99", "ms", "loss", "%"]
    assert [row.split()[0] for row in rows] == ["100", "200", "200"]
    assert [row.split()[5:] for row in rows] == [["held"], ["held"], ["held,", "confirmed"]]
    assert capacity == f"capacity of tcp://127.0.0.1:{port}: at least 200/s with loss<50%"
    assert re.fullmatch(r"  held in 2 of 2 steps: \d+\.\d s, 40 trips", evidence)


def test_machines_get_an_object_for_each_step_and_one_for_the_result(
    port: str, tmp_path: Path
) -> None:
    """A file has the same; the SLO is what was typed."""
    path = tmp_path / "steps.json"
    code, out, err = call(
        "capacity", *BRIEF, "--max-rate", "100", "--json", "--output", str(path), port
    )
    assert (code, err) == (0, "")
    objects = [json.loads(line) for line in out.decode().splitlines()]
    assert [kind_of(each) for each in objects] == ["capacity_step"] * 2 + ["capacity"]
    assert path.read_bytes() == out
    assert [each["confirming"] for each in objects[:2]] == [False, True]
    last = objects[-1]
    assert (last["outcome"], last["slo"]) == ("found", ["loss<50%"])
    assert (last["trips_per_second"], last["failed_trips_per_second"]) == (100, None)
    assert last["held"]["received"] == 20


def test_nobody_there_is_said_with_the_remedy() -> None:
    """After the only step that there is."""
    code, out, err = call("capacity", *BRIEF, free_endpoint("tcp"))
    assert code == 2
    assert "never reached (refused 10); start a server there" in err
    assert out.decode().splitlines()[1].endswith("  not reached")


@pytest.mark.parametrize(
    ("result", "expected", "sentence"),
    [
        (
            found(techo.CapacityOutcome.LOWEST_FAILED, None, 1.5625, step(1.5625, FAILED)),
            1,
            "the lowest rate that was tried, 1.5625/s, fails already: p99<5ms (was 9.000 ms)",
        ),
        (
            found(
                techo.CapacityOutcome.LOWEST_FAILED,
                None,
                2,
                step(2, FAILED, missed=("reconnects==0 (was 7)",)),
            ),
            1,
            (
                "the lowest rate that was tried, 2/s, fails already: reconnects==0 (was 7); "
                "if the server allows fewer than 10 at once, lower -c"
            ),
        ),
        (
            found(
                techo.CapacityOutcome.CLIENT_LIMIT,
                100,
                102,
                step(100, HELD),
                step(102, CLIENT, client="it was slow", remedy="be faster"),
                step(100, HELD, confirming=True),
            ),
            2,
            "the client was the limit, and not tcp://127.0.0.1:8009: it was slow; be faster",
        ),
        (
            found(
                techo.CapacityOutcome.NEVER_REACHED,
                100,
                None,
                step(100, HELD),
                step(200, GONE, report=report([], failures={techo.FailureCause.REFUSED: 10})),
            ),
            2,
            "tcp://127.0.0.1:8009 is gone (refused 10); the steps before may be why",
        ),
        (
            found(techo.CapacityOutcome.UNFINISHED, 100, None, step(100, HELD)),
            2,
            "100 steps were too few; raise --max-steps, or --precision 2%",
        ),
    ],
    ids=lambda value: str(value.outcome) if isinstance(value, techo.Capacity) else "",
)
def test_what_was_not_found_is_said_and_has_its_exit_status(
    monkeypatch: pytest.MonkeyPatch, result: techo.Capacity, expected: int, sentence: str
) -> None:
    """One line on standard error, with the remedy, after the result."""

    async def find(*_: object, **__: object) -> techo.Capacity:
        await trio.lowlevel.checkpoint()
        return result

    monkeypatch.setattr(capacity, "find", find)
    code, out, err = call("capacity", *BRIEF)
    assert (code, err) == (expected, f"techo: {sentence}\n")
    assert out.decode().startswith("capacity of tcp://127.0.0.1:8009: ")


def test_one_step_is_not_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """The remedy for too few is said in good English."""

    async def find(*_: object, **__: object) -> techo.Capacity:
        await trio.lowlevel.checkpoint()
        return found(techo.CapacityOutcome.UNFINISHED, 100, None, step(100, HELD))

    monkeypatch.setattr(capacity, "find", find)
    code, _, err = call("capacity", *BRIEF, "--max-steps", "1")
    assert (code, "techo: 1 step was too few; raise --max-steps" in err) == (2, True)


def test_the_result_names_the_next_rate_and_what_failed_there() -> None:
    """The evidence for both bounds, in three lines."""
    result = found(
        techo.CapacityOutcome.FOUND,
        1000,
        1015,
        step(1000, HELD),
        step(1015, FAILED),
        step(1015, FAILED),
        step(1000, HELD, confirming=True),
    )
    assert str(result).splitlines()[-3:] == [
        "capacity of tcp://127.0.0.1:8009: 1,000/s with p99<5ms",
        "  held in 2 of 2 steps: 2.0 s, 200 trips",
        "  1,015/s, 1.5 % above, failed in 2 steps: p99<5ms (was 9.000 ms)",
    ]
    assert row_of(result.steps[1]).endswith("  FAILED: p99<5ms (was 9.000 ms)")
    assert {len(row_of(each)[:45].rstrip()) for each in result.steps} == {45}


def test_ctrl_c_ends_it_with_what_is_known(port: str) -> None:
    """The step in hand is not waited for, and the process dies by the signal."""
    options = [*BRIEF, "-d", "50ms", "--max-rate", "100", "--precision", "0.01%", "-W", "5s"]
    options[options.index("loss<50%")] = "p50<1h"  # which takes years to confirm
    with started("capacity", *options, port) as popen:
        assert popen.stdout is not None
        assert popen.stderr is not None
        while b"held" not in popen.stdout.readline():
            pass
        popen.send_signal(signal.SIGINT)
        out, err = popen.communicate()
    assert (popen.returncode, err) == (-signal.SIGINT, b"")
    assert b"at least 100/s with p50<1h\n  held in 1 of 1 step" in out
    assert b"not confirmed\n" in out


def test_a_terminal_shows_what_is_tried_until_its_row_is_there(port: str) -> None:
    """Under the rows a bar says at which rate, and whether it is to be confirmed."""
    arguments = ["capacity", "--slo", "p50<1h", "--start", "100", "--max-rate", "200"]
    with on_a_terminal(*arguments, "-d", "300ms", "--warm-up", "0", port) as terminal:
        terminal.read_until("trying 100/s: ")
        terminal.read_until("held")
        terminal.read_until("confirming 200/s: ")
        terminal.type(b"\x03")
        terminal.read_until("not confirmed")
        assert terminal.popen.wait(PATIENCE) == -signal.SIGINT


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ([], "capacity needs what must hold: --slo 'p99<5ms', for example"),
        (["--slo", "p99>5ms"], "an SLO is what must hold; did you mean p99<5ms?"),
        (["--slo", "rate<5"], "no figure 'rate'"),
        (["--slo", "max<0s"], "no server can do that; did you mean max<5ms?"),
        (
            ["--slo", "connect.p99<5ms"],
            "connections stay open; have them replaced, with --reconnect-every 1 for example",
        ),
        (["--slo", "p99<5ms", "--start", "200", "--max-rate", "100"], "--start 200 is above"),
        (["--slo", "p99<5ms", "--precision", "0"], "--precision"),
    ],
)
def test_what_makes_no_sense_is_refused(arguments: list[str], reason: str) -> None:
    """Before anything is tried."""
    code, out, err = call("capacity", *arguments)
    assert (code, out) == (2, b"")
    assert reason in err

"""Figures: ping and load have the same under the same names, in rules and in JSON."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

import techo
from helpers import call
from techo._cli.running import missing_lines, object_of
from techo._rules import ALSO_CALLED, LOAD, NEAR, PING, Rule

QUICK = {"ping": ["-i", "5ms"], "load": ["-c", "1"]}
FIGURES = ["count", "min", "mean", "p50", "p90", "p95", "p99", "p99_9", "max"]

NUMBERS_WITHOUT_UNITS = {
    *("schema", "seq", "count", "bits", "probes", "connections", "pipeline", "corrupt"),
    *("sent", "received", "lost", "in_flight", "missed", "late", "duplicate", "stray"),
    *("unsent", "reconnects", "passed", "failed", "not_applicable", "failures", "buckets"),
    *("skipped", "not_tried", "kernel", "user"),
    *("accepted", "active", "parked", "chunks", "echoed", "outcomes", "dropped"),
    *("connects", "reconnect_every", "seeds"),
    *("dropped_here", "samples", "retransmits", "reorderings", "congestion_window"),
}
"""What is counted, or has no unit."""
UNITS = ("_ns", "_bytes", "_percent", "seconds", "_per_second")


def summary_of(command: str, port: str, *options: str) -> dict[str, Any]:
    """Return the last object that a command prints."""
    _, out, _ = call(command, "--json", *QUICK.get(command, []), *options, port)
    found: dict[str, Any] = json.loads(out.splitlines()[-1])
    return found


@pytest.fixture(scope="module")
def summaries(port: str) -> dict[str, dict[str, Any]]:
    """Return what each command says of one server."""
    check = ["--skip", "16-MiB", "--skip", "back-pressure", "--connections", "2"]
    return {
        "ping": summary_of("ping", port, "-n", "20"),
        "load": summary_of("load", port, "-n", "20", "-r", "500"),
        "check": summary_of("check", port, *check),
        "serve": object_of(techo.EchoService().statistics()),
    }


def test_what_a_server_did_not_print_is_an_object_too() -> None:
    """Where lines are missing, it says how many, as every object says what it is."""
    assert json.loads(missing_lines(3)) == {"schema": 2, "event": "dropped", "lines": 3}


def test_the_same_figures_have_the_same_names(summaries: dict[str, dict[str, Any]]) -> None:
    """What both commands can tell stands under the same name, and is of the same kind."""
    ping, load = summaries["ping"], summaries["load"]
    same = {
        *("schema", "event", "endpoint", "address", "sent", "received", "lost", "in_flight"),
        *("loss_percent", "late", "duplicate", "stray", "reconnects", "failures"),
        *("outages", "latency_ns", "mptcp", "dropped_here"),
    }
    assert ping.keys() & load.keys() == same
    for name in same - {"outages", "latency_ns"}:
        assert type(ping[name]) is type(load[name])
    assert ping["outages"].keys() == load["outages"].keys()
    assert list(load["latency_ns"]) == FIGURES
    assert set(ping["latency_ns"]) == {*FIGURES, "mdev", "jitter"}
    for each in (ping, load):
        assert (each["sent"], each["received"], each["loss_percent"]) == (20, 20, 0)


def test_every_number_has_its_unit_in_its_name(summaries: dict[str, dict[str, Any]]) -> None:
    """It is a count, or stands under a name that ends in a unit."""

    def look(fields: dict[str, Any], *, unit: bool) -> None:
        for name, value in fields.items():
            known = unit or name in NUMBERS_WITHOUT_UNITS or name.endswith(UNITS)
            if isinstance(value, dict):
                look(value, unit=known)
            elif isinstance(value, int | float) and not isinstance(value, bool):
                assert known, name

    for each in summaries.values():
        look(each, unit=False)


BOTH = sorted(PING.keys() & LOAD.keys())


@pytest.mark.parametrize("command", ["ping", "load"])
def test_one_rule_works_in_both(command: str, port: str) -> None:
    """Every figure that both have can be judged in either, with the same limit."""
    rules = [f"{name}<0{'%' if name == 'loss' else ''}" for name in BOTH]
    options = [part for rule in rules for part in ("--fail-if", rule)]
    code, _, err = call(command, "-n", "20", *QUICK[command], *options, port)
    cannot_tell = set(re.findall(r"^techo: (\S+)<0: cannot tell", err, re.MULTILINE))
    assert code == 1
    assert cannot_tell == {"p99", "p99.9", "subflows"}
    assert "nothing was to be MPTCP" in err
    assert len(err.splitlines()) == 3


def test_what_one_command_alone_has_is_named() -> None:
    """It is a mistake in the others, which say whose it is."""
    alone = {"mdev", "jitter", "missed", "certificate_days", "retransmits"}
    assert PING.keys() - LOAD.keys() == alone
    for name in ("mdev", "missed"):
        with pytest.raises(ValueError, match=f"no figure '{name}': only ping has it"):
            Rule.parse(f"{name}>1", LOAD)
    for name in ("send_lag", "service.p99"):
        with pytest.raises(ValueError, match=f"'{name}': only load and merge have it"):
            Rule.parse(f"{name}>1", PING)


@pytest.mark.parametrize(("name", "figure"), ALSO_CALLED.items())
def test_a_figure_may_be_called_as_json_does(name: str, figure: str) -> None:
    """It is the same rule."""
    assert Rule.parse(f"{name}>1%" if figure == "loss" else f"{name}>1", LOAD).name == figure


@pytest.mark.parametrize(("name", "figure"), NEAR.items())
def test_what_others_call_it_is_a_hint(name: str, figure: str) -> None:
    """The error says how it is called here."""
    with pytest.raises(ValueError, match=rf"did you mean {figure}\?"):
        Rule.parse(f"{name}>1", LOAD)

"""The JSON Schema: it describes all that machines are given, and each kind is given."""

from __future__ import annotations

import json
import logging
import re
import shlex
import signal
import socket
from pathlib import Path
from typing import Any

import jsonschema
import pytest

import techo
from documents import chapter
from helpers import PATIENCE, Process, call, dial, free_endpoint, receive_exactly, serving
from histories import BEGIN, change, outage, span, write
from schemas import KINDS, SCHEMA, kind_of
from techo import _log
from techo._checking.context import Verdict
from techo._cli.logs import JsonFormatter
from techo._mesh.outliers import OutlierKind
from techo._schema import SCHEMA as NUMBER
from techo._schema import headed
from techo._watch.events import EventKind, State


def test_it_is_a_schema() -> None:
    """It is one by the rules of the draft that it names, for the number of today."""
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    for kind in KINDS:
        assert SCHEMA["$defs"][kind]["properties"]["schema"] == {"const": NUMBER}


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("cause", techo.FailureCause),
        ("outcome", techo.Outcome),
        ("drop_reason", techo.DropReason),
        ("step_verdict", techo.StepVerdict),
        ("capacity_outcome", techo.CapacityOutcome),
        ("watch_state", State),
        ("watch_kind", EventKind),
        ("comparison_verdict", techo.Verdict),
        ("mesh_outlier_kind", OutlierKind),
    ],
)
def test_its_words_are_those_of_the_code(name: str, words: Any) -> None:
    """Causes, outcomes and reasons are all there, and no other."""
    assert SCHEMA["$defs"][name]["enum"] == [*words]


def test_its_verdicts_are_those_of_the_code() -> None:
    """A check has passed, has failed or makes no sense there."""
    found = SCHEMA["$defs"]["check"]["properties"]["verdict"]["enum"]
    assert found == [*Verdict]


@pytest.mark.parametrize("kind", KINDS)
def test_every_field_is_in_the_chapter(kind: str) -> None:
    """The tables of the chapter on JSON have each, and its event."""
    text = chapter("json")
    fields = SCHEMA["$defs"][kind]["properties"]
    assert re.search(rf"`{fields['event']['const']}`", text)
    common = {"schema", "event"}
    if kind == "log_total":
        return  # it has the fields of `statistics`
    for name in fields.keys() - common:
        assert re.search(rf"`{name}[`{{]", text), name


def test_it_says_no_to_what_is_wrong() -> None:
    """A field too many, one too few, a wrong unit and an unknown event are none of it."""
    good = headed("dropped", lines=3)
    assert kind_of(good) == "dropped_lines"
    for bad in [
        good | {"more": 1},
        headed("dropped"),
        headed("dropped", lines="3"),
        headed("dropped", lines=0),
        headed("unheard-of", lines=3),
        good | {"schema": 1},
    ]:
        with pytest.raises(AssertionError):
            kind_of(bad)


def kinds_of(text: str) -> set[str]:
    """Return the kinds of objects, one on each line."""
    return {kind_of(json.loads(line)) for line in text.splitlines() if line.startswith("{")}


CAPACITY = shlex.split("--slo 'loss<50%' --start 100 --max-rate 100 -d 50ms --warm-up 0")
"""Options of a search that is over after two short steps."""


def test_commands_print_what_is_described(tmp_path: Path) -> None:
    """Every kind of object that a command prints is in the schema, and was seen."""
    seen = set[str]()
    nobody = free_endpoint("tcp")
    first, second = str(tmp_path / "a.json"), str(tmp_path / "b.json")
    kept = str(tmp_path / "watch.db")
    write(kept, [span(BEGIN, 5000, lost=1), change(BEGIN, State.DOWN, began=outage(BEGIN))])
    with serving("-q") as process, serving("-q", "--fault", "reset=99") as resetting:
        port, bad = str(process.port), str(resetting.port)
        for arguments in [
            ("check", "--json", "--skip", "back-pressure", port),
            ("ping", "--json", "-n", "2", "-i", "10ms", port),
            ("ping", "--json", "-n", "2", "-i", "10ms", nobody),
            ("load", "--json", "--output", first, "-n", "20", port),
            ("load", "--json", "-n", "50", "-r", "100", "--report-every", "200ms", port),
            ("load", "--json", "--output", second, "-n", "20", bad),
            ("ping", "--json", "-n", "3", "-i", "10ms", bad),
            ("merge", "--json", first, second),
            ("capacity", "--json", *CAPACITY, port),
            ("compare", "--json", first, second),
            ("history", "--json", "--every", "day", kept),
            ("watch", "--json", "--for", "100ms", "-i", "10ms", port),
            ("ping", "--json", "-n", "2", "-i", "10ms", port, bad),
        ]:
            _, out, err = call(*arguments)
            found = kinds_of(out.decode())
            assert found, (arguments, err)
            seen |= found
    described = {each for each in KINDS if not each.startswith("log_")}
    # tests/cli/test_mesh.py has that which takes a fleet.
    assert seen == described - {"statistics", "dropped_lines", "mesh"}


def datagrams(process: Process) -> None:
    """Send a datagram that is answered, and two that are one too many a second."""
    address = ("127.0.0.1", process.endpoints[1].port)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(PATIENCE)
        sock.sendto(b"hello", address)
        assert sock.recv(100)
        for _ in range(2):
            sock.sendto(b"hello", address)
        # The second is only counted: nothing but statistics says that it has arrived.
        while process.statistics()["datagrams"]["dropped"]["rate"] < 2:
            pass


def test_a_server_prints_what_is_described() -> None:
    """Its statistics and its log are in the schema, and of the log every kind that it has."""
    with serving(
        *("--log-format", "json", "-v", "--max-connections", "1"),
        *("--max-datagrams-per-second", "1", "tcp://127.0.0.1:0", "udp://127.0.0.1:0"),
        sockets=2,
    ) as process:
        with dial(process) as sock:
            sock.sendall(b"hello")
            receive_exactly(sock, 32)
            with dial(process) as other:
                assert other.recv(1) == b""
        datagrams(process)
        assert kind_of(process.statistics()) == "statistics"
        _, _, log = process.finish(signal.SIGTERM)
    expected = ["starting", "connected", "closed", "refused", "dropped", "echoed"]
    assert kinds_of(log) >= {f"log_{each}" for each in [*expected, "draining", "total"]}


def test_what_seldom_happens_is_described(caplog: pytest.LogCaptureFixture) -> None:
    """Failures, shortages, sums and other messages of the log are in the schema."""
    with caplog.at_level(logging.DEBUG, "techo.server"):
        try:
            int("of a reply function")
        except ValueError:
            _log.failure(
                "the reply to %s failed", "peer", endpoint="tcp://127.0.0.1:1", peer="p"
            )
        _log._last.clear()
        assert _log.shortage(MemoryError())
        _log.summed_up(("refused", "max-connections 1 reached", "unix:a"), "peer", 3, 60.0)
        _log.summed_up(("dropped", "datagrams not answered (rate)", "unix:a"), "peer", 3, 60.0)
        _log.warning("something else")
    formatter = JsonFormatter()
    found = [kind_of(json.loads(formatter.format(record))) for record in caplog.records]
    names = ["failure", "shortage", "refused", "dropped", "message"]
    assert found == [f"log_{name}" for name in names]

"""techo mesh: what is printed, kept and drawn of a mesh, and the exit status of it."""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio

from helpers import call
from schemas import kind_of
from techo._cli import mesh as command
from techo._cli.plot_mesh import shade_of
from techo._mesh.report import Mesh, MeshMachine, MeshPair
from techo._probing.failure_cause import FailureCause
from techo._probing.histogram import Histogram
from techo._rules import PING, Figures

FLEET = ("mesh", "--fleet", "tcp://127.0.0.1:1")
MS = 1_000_000


def pair(source: str, target: str, lost: int, cause: FailureCause) -> MeshPair:
    """Return a pair of ten probes."""
    latency = Histogram.of([MS] * (10 - lost))
    figures: Figures = dict.fromkeys(PING, 0.0)
    return MeshPair(
        source=source,
        target=target,
        sent=10,
        received=10 - lost,
        lost=lost,
        failures={cause: lost} if lost else {},
        latency=latency,
        figures=figures | {"p50": latency.percentile(50, lost=lost), "loss": 10.0 * lost},
    )


def mesh_of(
    lost: int = 0,
    cause: FailureCause = FailureCause.TIMEOUT_REPLY,
    *,
    everywhere: bool = False,
    died: str | None = None,
) -> Mesh:
    """Return a mesh of three machines in which A has lost so much to B."""
    pairs = [
        pair(a, b, lost if everywhere or a + b == "AB" else 0, cause)
        for a in "ABC"
        for b in "ABC"
        if a != b
    ]
    machines = [
        MeshMachine(name=name, endpoint="tcp://10.0.0.1:4", died=died if name == "C" else None)
        for name in "ABC"
    ]
    return Mesh(machines=machines, pairs=pairs)


def run(
    monkeypatch: pytest.MonkeyPatch, found: Mesh | Exception, *arguments: str
) -> tuple[int, str, str]:
    """Run the command with a fleet that has found this."""

    async def mesh_by_fleet(*_: Any) -> Mesh:
        await trio.lowlevel.checkpoint()
        if isinstance(found, Exception):
            raise found
        return found

    monkeypatch.setattr(command, "mesh_by_fleet", mesh_by_fleet)
    monkeypatch.setattr(command, "check_fleet", lambda _options: None)
    code, out, err = call(*FLEET, *arguments)
    return code, out.decode(), err


@pytest.mark.parametrize(
    ("found", "arguments", "code", "words"),
    [
        (mesh_of(), ("--fail-if", "p50>2ms"), 0, ""),
        (mesh_of(1), (), 0, ""),
        (mesh_of(1), ("--fail-if", "loss>5%"), 1, "techo: A to B: loss>5%: loss was 10 %\n"),
        (mesh_of(10), (), 1, "A to B: none of 10 probes came back (timeout-reply 10)"),
        (mesh_of(died="it has gone"), (), 1, "techo: C died: it has gone\n"),
        (
            mesh_of(10, FailureCause.REFUSED, everywhere=True),
            (),
            2,
            "no machine has reached another (refused 60); let all ports through between them",
        ),
        (mesh_of(1, FailureCause.LOCAL), (), 2, "1 failure of machines' own say nothing"),
        (ValueError("the scheduler has no workers"), (), 2, "the scheduler has no workers"),
    ],
    ids=["good", "lossy", "rule", "silent", "died", "unreached", "local", "no-fleet"],
)
def test_the_exit_status_says_what_came_of_it(
    monkeypatch: pytest.MonkeyPatch,
    found: Mesh | Exception,
    arguments: tuple[str, ...],
    code: int,
    words: str,
) -> None:
    """What was bad is named by its pair or its machine; the rest is not."""
    ended, _, err = run(monkeypatch, found, *arguments)
    assert ended == code
    assert words in err
    assert bool(err) is (code != 0)


def test_people_get_matrices_and_machines_an_object(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """What is kept is what is printed for machines."""
    path = tmp_path / "mesh.json"
    _, out, _ = run(monkeypatch, mesh_of(10), "--output", str(path))
    assert out.startswith("3 machines, 6 pairs at once, 60 probes\n\np50 ms ")
    assert out.endswith("only A to B (loss 100 %, usually 0 %)\n")
    _, printed, _ = run(monkeypatch, mesh_of(10), "--json")
    assert printed == path.read_text()
    assert kind_of(json.loads(printed)) == "mesh"


def test_a_picture_has_a_matrix_of_each_figure(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """It is drawn too where a pair has lost all, and names those that stand out."""
    pytest.importorskip("matplotlib")
    path = tmp_path / "mesh.svg"
    run(monkeypatch, mesh_of(10), "--plot", str(path))
    text = path.read_text()
    for words in ("p50 (ms)", "p99 (ms)", "loss (%)", "only A to B"):
        assert f"<!-- {words}" in text


def test_a_picture_bears_any_name(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Letters that no font here has, and a name as wide as the picture, cost no warning."""
    pytest.importorskip("matplotlib")
    path, mesh = tmp_path / "mesh.svg", mesh_of()
    name = "机" * 90
    machines = [attrs.evolve(mesh.machines[0], name=name), *mesh.machines[1:]]
    code, _, err = run(monkeypatch, attrs.evolve(mesh, machines=machines), "--plot", str(path))
    assert (code, err) == (0, "")
    assert f"<!-- 1: {name[:31]}…" in path.read_text()


def test_a_picture_is_red_where_a_pair_stands_out_and_nowhere_else() -> None:
    """What differs from the usual, but is not bad, is shaded between."""
    shades = [shade_of("p50", value * MS, MS) for value in (0.5, 1, 2.9, 3.1, math.inf)]
    assert shades == sorted(shades)
    assert shades[0] == shades[1] < 0.5
    assert shades[3] == shades[4] > shades[2] + 0.1
    assert shade_of("loss", 100, 100) == shades[4]
    assert shade_of("p50", math.inf, math.inf) == shades[4]
    assert math.isnan(shade_of("p50", None, MS))


def test_a_bar_shows_what_was_found_so_far(monkeypatch: pytest.MonkeyPatch) -> None:
    """Once something was: until then it connects."""
    drawn = list[tuple[float, float, str]]()

    @contextlib.contextmanager
    def open_bar(_total: float) -> Iterator[Callable[[float, float, str], None]]:
        yield lambda *what: drawn.append(what)

    async def mesh_by_fleet(_options: Any, watch: Any, _stop: Any) -> Mesh:
        await trio.lowlevel.checkpoint()
        watch(attrs.evolve(mesh_of(), pairs=[MeshPair(source="A", target="B")]))
        watch(mesh_of(2))
        return mesh_of()

    monkeypatch.setattr(command, "open_bar", open_bar)
    monkeypatch.setattr(command, "mesh_by_fleet", mesh_by_fleet)
    monkeypatch.setattr(command, "check_fleet", lambda _options: None)
    assert call(*FLEET, "-n", "20")[0] == 0
    assert drawn == [(60, 120, "58 received, 2 lost")]


def test_it_takes_a_fleet() -> None:
    """Without one, the remedy is named."""
    assert call("mesh") == (
        2,
        b"",
        "techo: mesh needs machines: --fleet SCHEDULER; see techo help fleet\n",
    )

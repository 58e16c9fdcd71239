"""Meshes as values: matrices, who stands out, and how that is said."""

from __future__ import annotations

import io
import json

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from techo._mesh.outliers import OutlierKind, outliers_of
from techo._mesh.report import Mesh, MeshMachine, MeshPair
from techo._mesh.text import show
from techo._probing.failure_cause import FailureCause
from techo._probing.histogram import Histogram

MS = 1_000_000


def mesh_of(
    times: list[list[int]],
    lost: list[list[int]] | None = None,
    dead: str = "",
    probes: int = 200,
) -> Mesh:
    """Return a mesh of machines A, B, ... that have probed each other so often."""
    names = [chr(ord("A") + number) for number in range(len(times))]
    pairs = []
    for i, source in enumerate(names):
        for j, target in enumerate(names):
            if i != j:
                gone = 0 if lost is None else lost[i][j]
                latency = Histogram.of([times[i][j]] * (probes - gone))
                failures = {FailureCause.TIMEOUT_REPLY: gone} if gone else {}
                pairs.append(
                    MeshPair(
                        source=source,
                        target=target,
                        sent=probes,
                        received=probes - gone,
                        lost=gone,
                        failures=failures,
                        latency=latency,
                    )
                )
    machines = [
        MeshMachine(name=name, died="it has gone" if name in dead else None) for name in names
    ]
    return Mesh(machines=machines, pairs=pairs)


def found(mesh: Mesh, figure: str = "p50") -> list[str]:
    """Return who stands out in a figure, in words."""
    return [str(each) for each in outliers_of(mesh) if each.figure == figure]


SIZES = st.integers(3, 7)


@settings(max_examples=40)
@given(size=SIZES, data=st.data())
def test_one_slow_machine_is_named_and_nothing_else(size: int, data: st.DataObject) -> None:
    """However much the others differ from each other, up to the double."""
    slow = data.draw(st.integers(0, size - 1))
    fast = st.integers(MS, 2 * MS)
    times = [
        [MS * 9 if slow in {i, j} else data.draw(fast) for j in range(size)]
        for i in range(size)
    ]
    name = chr(ord("A") + slow)
    assert found(mesh_of(times, probes=3)) == [f"everything from and to {name} is slow: {name}"]


@settings(max_examples=40)
@given(size=SIZES, data=st.data())
def test_a_column_a_row_and_a_pair_are_told_apart(size: int, data: st.DataObject) -> None:
    """Each is named as what it is, and once."""
    i, j = data.draw(st.permutations(range(size)))[:2]
    row, column = chr(ord("A") + i), chr(ord("A") + j)
    usual = [[MS] * size for _ in range(size)]
    times = [[9 * MS if b == j else MS for b in range(size)] for _ in range(size)]
    assert found(mesh_of(times, probes=3)) == [f"everything to {column} is slow: {column}"]
    times = [[9 * MS if a == i else MS] * size for a in range(size)]
    assert found(mesh_of(times, probes=3)) == [f"everything from {row} is slow: {row}"]
    times = [[*each] for each in usual]
    times[i][j] = 9 * MS
    assert found(mesh_of(times, probes=3)) == [f"only {row} to {column}"]
    times[j][i] = 9 * MS
    first, second = sorted([row, column])
    assert found(mesh_of(times, probes=3)) == [f"only between {first} and {second}"]


@settings(max_examples=40)
@given(
    st.lists(st.lists(st.integers(1, 20 * MS), min_size=4, max_size=4), min_size=4, max_size=4)
)
def test_each_bad_pair_is_explained(times: list[list[int]]) -> None:
    """All pairs that outliers are about are slower than usual, and no other pair is."""
    mesh = mesh_of(times, probes=3)
    about = set[tuple[str, str]]()
    for each in outliers_of(mesh):
        if each.figure != "p50":
            continue
        for pair in mesh.pairs:
            row, column = pair.source in each.machines, pair.target in each.machines
            names = (pair.source, pair.target)
            if {
                OutlierKind.MACHINE: row or column,
                OutlierKind.SOURCE: row,
                OutlierKind.TARGET: column,
                OutlierKind.BOTH_WAYS: row and column,
                OutlierKind.PAIR: names == tuple(each.machines),
            }[each.kind]:
                about.add(names)
    values = {(each.source, each.target): each.percentile(50) or 0.0 for each in mesh.pairs}
    usual = sorted(values.values())[2]
    slow = {pair for pair, value in values.items() if value > max(3 * usual, usual + 0.2 * MS)}
    assert about == slow


def test_loss_is_judged_by_points_and_a_dead_machine_by_nothing() -> None:
    """What a machine that died has lost is no news of the network."""
    lost = [[3 if 1 in {i, j} else 1 for j in range(4)] for i in range(4)]
    times = [[MS] * 4] * 4
    assert not found(mesh_of(times, lost), "loss")
    lost = [[9 if 1 in {i, j} else 1 for j in range(4)] for i in range(4)]
    mesh = mesh_of(times, lost)
    assert found(mesh, "loss") == ["everything from and to B loses more: B"]
    assert found(mesh, "p99") == ["everything from and to B is slow: B"]
    assert not outliers_of(mesh_of(times, lost, dead="B"))


def test_two_machines_have_no_row() -> None:
    """What is slow between two may be either."""
    assert found(mesh_of([[0, MS], [9 * MS, 0]])) == ["only B to A"]


def test_a_mesh_is_shown_as_matrices() -> None:
    """Each figure has one, without the diagonal; below it is who stands out."""
    times = [[MS, MS, 9 * MS], [MS, MS, MS], [MS, MS, MS]]
    lost = [[0, 0, 0], [0, 0, 0], [200, 0, 0]]
    assert str(mesh_of(times, lost)).splitlines() == [
        "3 machines, 6 pairs at once, 1,200 probes",
        "",
        "p50 ms     to A     to B     to C",
        "from A             1.000    9.000",
        "from B    1.000             1.000",
        "from C     lost    1.000",
        "",
        "p99 ms     to A     to B     to C",
        "from A             1.000    9.000",
        "from B    1.000             1.000",
        "from C     lost    1.000",
        "",
        "loss %     to A     to B     to C",
        "from A                 0        0",
        "from B        0                 0",
        "from C      100        0",
        "",
        "only between A and C (p50 9.000 ms or more, usually 1.000 ms)",
        "only between A and C (p99 9.000 ms or more, usually 1.000 ms)",
        "only C to A (loss 100 %, usually 0 %)",
    ]
    assert "B died: it has gone" in str(mesh_of(times, dead="B"))


def renamed(mesh: Mesh, names: dict[str, str]) -> Mesh:
    """Return a mesh whose machines have other names."""
    return attrs.evolve(
        mesh,
        machines=[attrs.evolve(each, name=names[each.name]) for each in mesh.machines],
        pairs=[
            attrs.evolve(each, source=names[each.source], target=names[each.target])
            for each in mesh.pairs
        ],
    )


class Terminal(io.StringIO):
    """A terminal as wide as the environment says."""

    def isatty(self) -> bool:
        """Return that it is one."""
        return True


@pytest.mark.parametrize("term", ["xterm", "dumb"])
def test_a_narrow_terminal_has_the_matrix_in_parts(
    monkeypatch: pytest.MonkeyPatch, term: str
) -> None:
    """Each part has all sources, and as many targets as fit; nothing is cut, nor wrapped."""
    monkeypatch.setenv("TERM", term)
    monkeypatch.setenv("COLUMNS", "80")
    names = {name: f"w{name} (10.0.0.{name}:34567)" for name in "ABCDEFGH"}
    mesh = renamed(mesh_of([[1019 * MS] * 8] * 8), names)
    file = Terminal()
    show(mesh, file, colours=False)
    lines = file.getvalue().splitlines()
    assert max(map(len, lines)) <= 80
    heads = [line.split() for line in lines if line.startswith("p50 ms")]
    assert [each[3::2] for each in heads] == [[f"w{name}" for name in "ABCDEF"], ["wG", "wH"]]
    assert lines[10] == "from wH (10.0.0.H:34567)" + "  1,019.0" * 6
    assert str(mesh).splitlines()[2].endswith("to wG    to wH")  # no terminal: one part


def test_machines_have_numbers_if_names_are_long_or_the_same() -> None:
    """Which has which is said once, and matrices stay narrow."""
    times = [[MS] * 2] * 2
    mesh = renamed(mesh_of(times), {"A": "10.0.0.1:34567", "B": "B"})
    assert str(mesh).splitlines()[1:8] == [
        "",
        "1: 10.0.0.1:34567",
        "2: B",
        "",
        "p50 ms     to 1     to 2",
        "from 1             1.000",
        "from 2    1.000",
    ]
    mesh = renamed(mesh_of(times), {"A": "m (10.0.0.1:3)", "B": "m (10.0.0.2:3)"})
    assert str(mesh).splitlines()[2:4] == ["1: m (10.0.0.1:3)", "2: m (10.0.0.2:3)"]


def test_a_mesh_without_probes_has_no_matrix() -> None:
    """It was stopped before it began."""
    mesh = mesh_of([[MS] * 2] * 2, probes=0)
    assert str(mesh) == "2 machines, 2 pairs at once, 0 probes"


def test_what_has_lost_all_is_red_even_if_that_is_usual(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """None stands out then, but none is good."""
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    file = Terminal()
    mesh = mesh_of([[MS] * 2] * 2, [[200] * 2] * 2)
    assert not outliers_of(mesh)
    show(mesh, file, colours=True)
    assert "\x1b[1;31m   lost" in file.getvalue()
    assert "\x1b[32m" not in file.getvalue()


def test_json_has_no_infinity() -> None:
    """What was lost has no time, and the histograms add up to what came back."""
    lost = [[0, 0, 0], [0, 0, 0], [200, 0, 0]]
    text = json.dumps(mesh_of([[MS] * 3] * 3, lost).to_json(), allow_nan=False)
    data = json.loads(text)
    assert data["event"] == "mesh"
    (bad,) = (each for each in data["pairs"] if each["lost"])
    assert (bad["source"], bad["target"], bad["loss_percent"]) == ("C", "A", 100)
    assert bad["latency_ns"]["p50"] is None
    slow, *_, lossy = data["outliers"]
    assert (slow["kind"], slow["machines"], slow["least_ns"]) == ("pair", ["C", "A"], None)
    assert (lossy["figure"], lossy["least_percent"]) == ("loss", 100)

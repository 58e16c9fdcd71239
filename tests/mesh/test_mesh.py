"""Meshes as values: matrices, who stands out, and how that is said."""

from __future__ import annotations

import json

from hypothesis import given, settings
from hypothesis import strategies as st

from techo._mesh.outliers import OutlierKind, outliers_of
from techo._mesh.report import Mesh, MeshMachine, MeshPair
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
        "p50 ms   to A   to B   to C",
        "from A         1.000  9.000",
        "from B  1.000         1.000",
        "from C   lost  1.000",
        "",
        "p99 ms   to A   to B   to C",
        "from A         1.000  9.000",
        "from B  1.000         1.000",
        "from C   lost  1.000",
        "",
        "loss %  to A  to B  to C",
        "from A           0     0",
        "from B     0           0",
        "from C   100     0",
        "",
        "only between A and C (p50 9.000 ms or more, usually 1.000 ms)",
        "only between A and C (p99 9.000 ms or more, usually 1.000 ms)",
        "only C to A (loss 100 % or more, usually 0 %)",
    ]
    assert "B died: it has gone" in str(mesh_of(times, dead="B"))


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

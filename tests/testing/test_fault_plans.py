"""Fault plans: what the strategy finds fits, shrinks, and is printed to be repeated."""

from __future__ import annotations

import shlex
import subprocess
import sys
from typing import Any

import attrs
import hypothesis
import pytest
import trio
from hypothesis import HealthCheck, Phase, given, settings
from trio.testing import MockClock

from techo import testing
from techo._cli import proxy, serve
from techo._cli.parsing import parse
from techo._faults import fault_plans as strategy
from techo._faults import values
from techo._faults.plan import check_applicable
from techo._faults.text import parse_fault
from techo.endpoint import Endpoint
from techo.testing import Fault, FaultPlan, Reset, Stall, Truncate, fault_plans

TRANSPORTS = sorted(values.EVERYTHING)

QUICK = settings(
    max_examples=50,
    deadline=None,  # virtual time makes one in real time meaningless
    database=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow],  # as a machine may be
    phases=[Phase.generate, Phase.shrink],  # explaining takes a hundred runs more
)


def options_of(command: str) -> dict[str, list[str]]:
    """Return the values of the options of a command line, by name."""
    found: dict[str, list[str]] = {}
    for word in shlex.split(command):
        name, equals, value = word.partition("=")
        if name.startswith("--") and equals:
            found.setdefault(name, []).append(value)
    return found


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_plans_fit_the_transport_and_print_what_repeats_them(transport: str) -> None:
    """The faults can happen there, within bounds; repr and options read back as the same."""

    @QUICK
    @given(plan=fault_plans(transport, max_upstream_faults=1, max_bytes=100, max_seconds=2))
    def check(plan: FaultPlan) -> None:
        faults = (*plan.faults, *plan.upstream_faults)
        check_applicable(faults, transport, transport)
        assert (len(plan.faults) <= 3, len(plan.upstream_faults) <= 1) == (True, True)
        fields = [field for fault in faults for field in numbers_of(fault).items()]
        assert all(value <= (2 if name in TIMES else 200) for name, value in fields)
        assert eval(repr(plan), vars(testing)) == plan  # noqa: S307  -- of our own making
        options = options_of(plan.command_line("LISTEN", "TARGET"))
        assert tuple(map(parse_fault, options.get("--fault", []))) == plan.faults
        upstream = options.get("--upstream-fault", [])
        assert tuple(map(parse_fault, upstream)) == plan.upstream_faults
        assert options.get("--seed", ["0"]) == [str(plan.seed)]
        assert options == options_of(str(plan))

    check()


TIMES = {"seconds", "jitter"}


def numbers_of(fault: Fault) -> dict[str, Any]:
    """Return the numbers of a fault, by the names of its fields."""
    fields = attrs.asdict(fault)
    return {name: value for name, value in fields.items() if isinstance(value, int | float)}


def test_every_kind_of_fault_can_be_chosen() -> None:
    """No kind of fault is forgotten where it fits, and a chosen kind comes alone."""
    known = {kind for kind in vars(values).values() if isinstance(kind, type)}
    kinds = {kind for kind in known if issubclass(kind, Fault)} - {Fault}
    assert set(strategy._KINDS) == kinds
    for kind in kinds:
        transport = "udp" if "udp" in kind.transports else min(kind.transports)
        plan = hypothesis.find(
            fault_plans(transport, kind, max_faults=1),
            lambda plan: bool(plan.faults),
            settings=settings(QUICK, phases=[Phase.generate]),
        )
        assert [type(fault) for fault in plan.faults] == [kind]


async def read_message(stream: trio.abc.ReceiveStream) -> bytes:
    """Read four digits of length and so many bytes: a client with a bug at a single offset."""
    got = b""
    async for data in stream:
        got += data
        if len(got) >= 4 and len(got) >= 4 + int(got[:4]):
            return got[4:]
    if len(got) == 4:
        return b""  # it should be as for every other length
    raise EOFError


async def ask(plan: FaultPlan) -> bytes | None:
    """Return what the client returns; None if it fails as it promises."""
    async with (
        testing.open_memory_server(
            reply=lambda _: b"0005hello", faults=plan.faults, seed=plan.seed
        ) as server,
        await server.connect() as stream,
    ):
        try:
            with trio.fail_after(30):
                await stream.send_all(b"?")
                return await read_message(stream)
        except (EOFError, trio.BrokenResourceError, trio.TooSlowError):
            return None


def answer(plan: FaultPlan) -> bytes | None:
    """Return what the client returns on virtual time."""
    return trio.run(ask, plan, clock=MockClock(autojump_threshold=0))


def test_what_fails_shrinks_to_the_one_fault_that_matters() -> None:
    """A bug at one offset is found, and nothing else is left in the plan."""
    plan = hypothesis.find(
        fault_plans("memory", testing.Chunk, testing.Delay, Reset, Truncate, max_bytes=32),
        lambda plan: answer(plan) not in {b"hello", None},
        settings=settings(QUICK, max_examples=3000),
    )
    assert plan == FaultPlan([Truncate(4)])


def test_what_fails_is_reported_as_values_and_as_commands() -> None:
    """The report has the plan as Python writes it, and the commands that repeat it."""

    @QUICK
    @given(plan=fault_plans("memory", Reset, Stall))
    def check(plan: FaultPlan) -> None:
        assert not any(fault.after >= 3 for fault in plan.faults if isinstance(fault, Reset))

    with pytest.raises(AssertionError) as caught:
        check()
    report = "\n".join(caught.value.__notes__)
    assert "FaultPlan(faults=(Reset(after=3),))" in report
    assert "techo --reply=raw --fault=reset=3\n" in report
    assert "techo proxy --fault=reset=3 LISTEN TARGET\n" in report


def test_command_lines_name_places() -> None:
    """A plan is a command for an echo server, or for a proxy if there is a target."""
    plan = FaultPlan([Reset(1024)], seed=7)
    assert plan.command_line() == "techo --reply=raw --fault=reset=1k --seed=7"
    listen = Endpoint.parse("[::1]:80")
    assert plan.command_line(listen) == f"{plan.command_line()} 'tcp://[::1]:80'"
    both = FaultPlan([Reset(1)], upstream_faults=[Stall(2)])
    assert both.command_line("8000", "8001") == (
        "techo proxy --fault=reset=1 --upstream-fault=stall=2 8000 8001"
    )
    _, *arguments = shlex.split(plan.command_line(listen))
    served = parse(serve.COMMAND, arguments, {})
    assert (served.fault, served.seed) == ([Reset(1024)], 7)
    # Offsets count the bytes of replies, and usually a date is before each.
    assert served.reply == "raw"
    _, _, *arguments = shlex.split(both.command_line("8000", "8001"))
    options = parse(proxy.COMMAND, arguments, {})
    assert (options.fault, options.upstream_fault) == ([Reset(1)], [Stall(2)])
    with pytest.raises(ValueError, match="upstream_faults are a proxy's"):
        both.command_line("8000")
    with pytest.raises(ValueError, match="is not only faults of techo"):
        FaultPlan(["reset"])  # type: ignore[list-item]  # the point of it
    with pytest.raises(ValueError, match=r"Reset\(\) is not a list of faults"):
        FaultPlan(Reset())  # type: ignore[arg-type]  # likewise
    with pytest.raises(ValueError, match="a proxy to 8001 needs listen"):
        both.command_line(target="8001")


@pytest.mark.parametrize(
    ("arguments", "options", "reason"),
    [
        (["memroy"], {}, "unknown transport 'memroy'; did you mean memory?"),
        (["icmp://127.0.0.1"], {}, "can't happen on transport icmp: there are ip, memory,"),
        (["udp", Stall], {}, "Stall cannot happen on udp, only on memory,"),
        (["tcp"], {"max_faults": -1}, "max_faults -1 is not a whole number from 0"),
        (["tcp"], {"max_bytes": 0}, "max_bytes 0 is not a whole number from 1"),
        (["tcp"], {"connections": 0}, "connections 0 is not a whole number from 1"),
        (["tcp"], {"max_seconds": 0}, "max_seconds 0 is not a number of seconds from 0.001"),
        (["tcp"], {"max_seconds": "1"}, "max_seconds '1' is not a number of seconds from"),
        (
            ["tcp", Reset(3)],
            {},
            r"kinds Reset\(after=3\) is not a kind of fault",
        ),
        (["tcp"], {"without": [int]}, "without <class 'int'> is not a kind of fault"),
        (["tcp"], {"without": Reset}, r"without .*Reset'> is not a list of kinds of fault"),
        (["tcp", Stall], {"without": [Stall]}, "no kind of fault is left"),
    ],
)
def test_what_makes_no_plan_is_refused(
    arguments: list[Any], options: dict[str, Any], reason: str
) -> None:
    """The error names the value and what would be right."""
    with pytest.raises(ValueError, match=reason):
        fault_plans(*arguments, **options)


def test_hypothesis_is_only_needed_for_plans() -> None:
    """Without hypothesis all else of techo.testing is there, and an error names the remedy."""
    code = """
import sys
sys.modules["hypothesis"] = None
import techo.testing
try:
    techo.testing.fault_plans()
except ImportError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
    assert b"install it, or techo with its extra testing" in done.stdout

"""Examples of the chapters: programs are run, and commands are read by techo.

tests/system/test_chapter_commands.py runs the commands.
"""

from __future__ import annotations

import importlib
import re
import subprocess
import sys
from collections.abc import Iterator

import pytest

from documents import EXAMPLE_COMMANDS, EXPLAINING, Block, blocks, chapter, techo_in
from helpers import PATIENCE, call, serving_both
from techo._cli.parsing import parse

PROGRAMS = [
    (name, block)
    for name in EXPLAINING
    for block in blocks(chapter(name))
    if block.language == "python" and "def test_" not in block.code
]
"""Those that are tests are run by tests/testing/test_pytest_plugin.py."""

SERVE = "trio.run(trio.serve_tcp, service.handle, 8009)"
"""What would serve for ever on a port that may be taken."""

SERVE_ONCE = """
async def main():
    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(trio.serve_tcp, service.handle, 0)
        port = listeners[0].socket.getsockname()[1]
        async with techo.open_client(f"127.0.0.1:{port}") as client:
            print((await client.round_trip(b"hello")).reply.decode())
        nursery.cancel_scope.cancel()
trio.run(main)
"""


@pytest.mark.parametrize(
    ("name", "block"), PROGRAMS, ids=[f"{name}-{n}" for n, (name, _) in enumerate(PROGRAMS)]
)
def test_programs_work_as_printed(name: str, block: Block) -> None:
    """Each prints what the chapter says; warnings are errors."""
    code = block.code.replace(SERVE, SERVE_ONCE)
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        capture_output=True,
        timeout=4 * PATIENCE,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()
    if code != block.code:
        assert re.fullmatch(rb"\[.{24}\] hello\n", done.stdout)
    else:
        assert block.shown, f"{name} does not say what this prints"
        assert done.stdout.decode() == block.shown


@pytest.mark.parametrize(("name", "line"), EXAMPLE_COMMANDS)
def test_commands_are_ones_that_techo_takes(name: str, line: str) -> None:
    """Every techo command in the chapters goes through the parser of its command."""
    found = techo_in(line)
    if found is None:
        assert re.match(r"(openssl|python) ", line), f"{name}: what is it?"
        return
    command, arguments = found
    if ">" in arguments:
        arguments = arguments[: arguments.index(">")]
    parse(importlib.import_module(f"techo._cli.{command}").COMMAND, arguments, {})


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    """The port of a server of TCP and UDP, with a Unix socket in its working folder."""
    with serving_both("-q") as process:
        yield process.port


def shape(text: str) -> list[str]:
    """Return lines with every number made the same, and every gap."""
    return [" ".join(re.sub(r"\d+(\.\d+)?", "0", line).split()) for line in text.splitlines()]


def test_what_ping_is_said_to_print_is_what_it_prints(port: int) -> None:
    """The lines that the chapter shows are those of today, but for their figures."""
    shown = next(each.code for each in blocks(chapter("ping")) if each.language == "console")
    command, _, lines = shown.partition("\n")
    assert command == "$ techo ping -n 3"
    _, out, _ = call("ping", "-n", "3", "-i", "10ms", "-W", "30s", str(port))
    # On a busy machine some may not be sent in time, which has a line of its own.
    found = [line for line in shape(out.decode()) if line != "0 missed"]
    assert found == shape(lines)

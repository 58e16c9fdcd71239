"""compare, as its chapter has it: a loop that loads two servers in turns, and the verdict."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

from documents import blocks, chapter, make_environment
from helpers import PATIENCE, serving


def test_the_loop_of_the_chapter_finds_the_slower_server(tmp_path: Path) -> None:
    """Entered as it is printed, for shorter runs and fewer, it shows which one is slower."""
    (loop,) = (each.code for each in blocks(chapter("compare")) if each.language == "bash")
    environment = make_environment(tmp_path)
    environment["PATH"] = f"{tmp_path}/.venv/bin:{environment['PATH']}"
    with serving("-q") as old, serving("-q", "--fault", "delay=20ms") as new:
        shorter = loop.replace("-d 10", "-d 0.5").replace(" 6 7 8 9 10", "")
        assert shorter.count("-d 0.5") == 2
        for printed, server in (("8009", old), ("8010", new)):
            shorter = shorter.replace(printed, str(server.port))
        done = subprocess.run(
            ["sh", "-e", "-c", shorter],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            timeout=10 * PATIENCE,
            check=True,
        )
    table = done.stdout[done.stdout.index("before: 5 runs of ") :]
    assert re.search(r"^p50 ms .* slower$", table, re.MULTILINE)
    assert re.search(r"^rate /s .* slower$", table, re.MULTILINE)
    assert re.search(r"^loss % .* no change shown$", table, re.MULTILINE)

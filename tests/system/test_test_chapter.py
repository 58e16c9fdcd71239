"""The chapter on testing, where there is only techo, pytest and what each example names."""

from __future__ import annotations

import functools
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

import pytest

from documents import README, chapter, pytest_files
from helpers import PATIENCE

EXAMPLES = pytest_files(chapter("test"))
NEEDED = sorted({each.packages for each in EXAMPLES}, key=sorted)
Environment: TypeAlias = Callable[[frozenset[str]], Path]

CONFIGURATION = """
[pytest]
filterwarnings = error
addopts = --strict-markers --strict-config -p no:cacheprovider
"""
PYTEST_ASYNCIO = "asyncio_default_fixture_loop_scope = function\n"
"""What pytest-asyncio wants to be told; without, it warns."""


def call_uv(*arguments: object) -> None:
    """Run uv, which says itself what went wrong."""
    command = [sys.executable, "-m", "uv", *map(str, arguments), "--quiet"]
    subprocess.run(command, timeout=20 * PATIENCE, check=True)


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """A function that makes an environment of techo's wheel and packages, once for each set."""
    folder = tmp_path_factory.mktemp("environments")
    call_uv("build", "--wheel", "--out-dir", folder, README.parent)
    (wheel,) = folder.glob("*.whl")

    @functools.cache
    def make(packages: frozenset[str]) -> Path:
        place = folder / "+".join(sorted(packages))
        call_uv("venv", "--python", sys.executable, place)
        python = place / "bin" / "python"
        call_uv("pip", "install", "--python", python, wheel, *sorted(packages))
        return python

    return make


def run_tests(folder: Path, python: Path, *arguments: str) -> str:
    """Run pytest in a folder, warnings being errors; return what it prints."""
    (folder / "pytest.ini").write_text(
        CONFIGURATION + PYTEST_ASYNCIO * ("pytest-asyncio" in str(python))
    )
    environment = {key: text for key, text in os.environ.items() if "PYTHON" not in key}
    done = subprocess.run(
        [python, "-m", "pytest", "-q", *arguments],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=10 * PATIENCE,
        check=False,
    )
    return done.stdout + done.stderr


@pytest.mark.parametrize("packages", NEEDED, ids=lambda each: "+".join(sorted(each)))
def test_examples_need_what_they_say(
    packages: frozenset[str], environment: Environment, tmp_path: Path
) -> None:
    """Each example passes, without a warning, where nothing else is installed."""
    count = 0
    for number, example in enumerate(EXAMPLES):
        if example.packages == packages:
            (tmp_path / f"test_{number}.py").write_text(example.code)
            count += example.code.count("def test_")
    printed = run_tests(tmp_path, environment(packages))
    passed = re.search(r"^(\d+) passed in [\d.]+s$", printed, re.MULTILINE)
    assert passed is not None, printed
    assert int(passed[1]) >= count > 0


NEEDY = """
import pytest

MARK
async def test_async(techo_server):
    raise NotImplementedError

def test_plain(techo_faulty_server):
    raise NotImplementedError
"""
NO_PLUGIN = "needs a plugin that runs async tests under trio: install pytest-trio"
ON_ASYNCIO = "needs trio, and pytest-asyncio runs this test: use techo_thread_server"


@pytest.mark.parametrize(
    ("packages", "options", "mark", "sentence"),
    [
        (["pytest"], (), "", NO_PLUGIN),
        (["pytest", "pytest-asyncio"], (), "@pytest.mark.asyncio", ON_ASYNCIO),
        (["pytest", "pytest-asyncio"], ("-oasyncio_mode=auto",), "", ON_ASYNCIO),
    ],
)
def test_what_is_missing_is_said_in_a_sentence(
    packages: list[str],
    sentence: str,
    environment: Environment,
    tmp_path: Path,
    *,
    options: tuple[str, ...],
    mark: str,
) -> None:
    """Without a plugin, and with one that does not run trio, it says what to do instead."""
    (tmp_path / "test_needy.py").write_text(NEEDY.replace("MARK", mark))
    printed = run_tests(tmp_path, environment(frozenset(packages)), *options)
    assert f"\ntecho_server {sentence}\n" in printed
    plain = "is for async tests, and this one is not async: use techo_thread_server"
    assert f"\ntecho_faulty_server {plain}\n" in printed
    assert "2 errors in" in printed

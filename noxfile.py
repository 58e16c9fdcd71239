"""Everything that is checked: `nox` for the usual, `nox -l` for the list."""

from __future__ import annotations

import os
import re
import shutil
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import nox

nox.needs_version = ">=2025.2.9"  # the first with dependency_groups() that knows include-group
nox.options.error_on_missing_interpreters = False
nox.options.default_venv_backend = "uv|virtualenv"  # uv installs in a tenth of pip's time
os.environ.setdefault("UV_PYTHON_DOWNLOADS", "never")  # a Python that is not here is skipped

PROJECT = nox.project.load_toml("pyproject.toml")
VERSIONS = nox.project.python_versions(PROJECT)
RUNNING = f"{sys.version_info.major}.{sys.version_info.minor}"
nox.options.sessions = ["lint", "types", f"tests-{RUNNING}"]

PYTEST = ("pytest", f"--numprocesses={3 * (os.cpu_count() or 1)}", "--dist=worksteal")
"""Several tests at a time: they wait more than they compute."""

COMPILED = {"UV_COMPILE_BYTECODE": "1"}
"""Hundreds of processes import what is installed here, and need not all compile it."""


def groups(*names: str) -> tuple[str, ...]:
    """Give the requirements of the dependency groups, for `session.install`."""
    return nox.project.dependency_groups(PROJECT, *names)


@nox.session
def lint(session: nox.Session) -> None:
    """Style and bugs (ruff), and what can go wrong in trio code (flake8-async)."""
    session.install(*groups("lint"))
    session.run("ruff", "check", *session.posargs, ".")
    session.run("ruff", "format", "--check", ".")
    look_for_hazards(session, "src")


@nox.session
def lint_tests(session: nox.Session) -> None:
    """Find hazards in the tests' trio code, at a second a file (flake8-async)."""
    session.install(*groups("lint"))
    look_for_hazards(session, "tests")


def look_for_hazards(session: nox.Session, folder: str) -> None:
    """Run flake8-async, but for ASYNC9: no checkpoint is wanted on every way out of all.

    It takes half a second a file, and what it looks for can only be where one of these is.
    """
    hazardous = re.compile(r"async|trio|BaseException|ExceptionGroup|except\s*[:*]")
    files = [
        str(each) for each in Path(folder).rglob("*.py") if hazardous.search(each.read_text())
    ]
    startable = ["on", "_serve_address", "_serve_path", "_serve_inherited", "_keep_open"]
    startable += ["_serve_socket", "_keep", "_keep_one", "heed", "_serve", "_run", "serve_web"]
    session.run(
        "flake8",
        "--enable=ASYNC1,ASYNC2,ASYNC3,ASYNC4",  # the others need not even run
        "--select=ASYNC1,ASYNC2,ASYNC3,ASYNC4",
        f"--startable-in-context-manager={','.join(startable)}",
        *files,
    )


@nox.session
def types(session: nox.Session) -> None:
    """Types, strictly, of the tests too."""
    session.install("-e", ".", *groups("types"), "nox")
    session.run("mypy", *session.posargs)


def compile_tests(session: nox.Session) -> None:
    """Let pytest compile all tests, which each of its processes would do for itself otherwise.

    That takes thrice as long as to load them. If one cannot be, the tests will say so.
    """
    if session.posargs:
        return  # only some of them are wanted
    everything, system = (
        set(Path(each).rglob("test_*.py")) for each in ("tests", "tests/system")
    )
    files = sorted(map(str, everything - system))
    processes = min(os.cpu_count() or 1, 4)

    def compile_some(number: int) -> None:
        session.run(
            *("pytest", "--collect-only", "--quiet", *files[number::processes]),
            env={"PYTHONDONTWRITEBYTECODE": ""},
            silent=True,
            log=False,
            success_codes=range(6),
        )

    with ThreadPoolExecutor(processes) as pool:
        list(pool.map(compile_some, range(processes)))


@nox.session(python=sorted({*VERSIONS, RUNNING}))
def tests(session: nox.Session) -> None:
    """All tests on the built package."""
    session.install(".", *groups("test"), env=COMPILED)
    compile_tests(session)
    session.run(*PYTEST, *session.posargs)


@nox.session(python=VERSIONS[-1])
def coverage(session: nox.Session) -> None:
    """All tests with coverage of every process, which makes them nearly twice as long."""
    session.install(".", *groups("test"), env=COMPILED)
    compile_tests(session)
    data = {"COVERAGE_FILE": str(Path(session.virtualenv.location) / "coverage")}
    session.run("coverage", "erase", env=data)
    session.run("coverage", "run", "-m", *PYTEST, *session.posargs, env=data)
    session.run("coverage", "combine", "--quiet", env=data)
    if session.posargs:
        return  # a part of the tests covers a part of the code
    session.run("coverage", "report", env=data)
    pure = "--include=*/techo/endpoint.py,*/techo/reply.py"
    session.run("coverage", "report", pure, "--fail-under=100", env=data)


@nox.session(python=VERSIONS[0])
def minimums(session: nox.Session) -> None:
    """Test with the oldest dependencies that pyproject.toml allows."""
    oldest = [
        requirement.partition(">=")[0] + "==" + requirement.partition(">=")[2]
        for requirement in PROJECT["project"]["dependencies"]
    ]
    session.install(".", *oldest, *groups("test"), env=COMPILED)
    compile_tests(session)
    session.run(*PYTEST, *session.posargs)


@nox.session
def system(session: nox.Session) -> None:
    """Test what takes other programs or more than 2 s; in CI nothing of it is skipped."""
    session.install(".", *groups("system"), env=COMPILED)
    session.run("pytest", "tests/system", *session.posargs)


@nox.session
def bench(session: nox.Session) -> None:
    """Compare what a message costs techo and others; `-- --help` tells the options (Linux)."""
    session.install(".[metrics]", *groups("bench"))
    session.run("python", "-m", "bench", *session.posargs, env={"PYTHONPATH": "tests"})


@nox.session
def soak(session: nox.Session) -> None:
    """Ping and load for ten minutes: nobody's memory may grow; `-- --help` (Linux)."""
    session.install(".[testing]")
    session.run("python", "-m", "soak", *session.posargs, env={"PYTHONPATH": "tests"})


@nox.session
def build(session: nox.Session) -> None:
    """Wheel and sdist, each installed into a clean environment and run."""
    session.install("build")
    with tempfile.TemporaryDirectory() as folder:
        session.run("python", "-m", "build", "--outdir", folder, *session.posargs)
        for number, package in enumerate(sorted(Path(folder).iterdir())):
            environment = Path(folder) / f"environment-{number}"
            session.run("python", "-m", "venv", str(environment))
            programs = environment / ("Scripts" if os.name == "nt" else "bin")
            session.run(
                str(programs / "pip"), "install", "--quiet", str(package), external=True
            )
            session.run(str(programs / "techo"), "--version", external=True)
            if not (environment / "share" / "man" / "man1" / "techo.1").is_file():
                session.error(f"{package.name} has no manual page")
            session.run(str(programs / "python"), "-c", SMOKE, external=True)


SMOKE = """
import techo, trio
async def main():
    async with techo.open_server("*:0") as server:
        async with techo.open_client(f"127.0.0.1:{server.endpoints[0].port}") as client:
            print((await client.round_trip(b"hello from the package")).reply.decode())
trio.run(main)
"""


@nox.session
def zipapp(session: nox.Session) -> None:
    """One file, dist/techo.pyz, which needs Python and nothing else; tried out so."""
    archive = Path("dist", "techo.pyz")
    archive.parent.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        session.install("--target", folder, ".")
        for unused in ("bin", "share"):
            shutil.rmtree(Path(folder, unused), ignore_errors=True)
        # What is compiled would run on this system and this Python only.
        if compiled := [*Path(folder).rglob("*.so"), *Path(folder).rglob("*.pyd")]:
            session.error(f"not pure Python: {', '.join(map(str, compiled))}")
        for cache in [*Path(folder).rglob("__pycache__")]:
            shutil.rmtree(cache)
        session.run(
            *("python", "-m", "zipapp", folder, "--compress", f"--output={archive}"),
            *("--main=techo.__main__:main", "--python=/usr/bin/env python3"),
        )
    session.run("python", "tests/try_zipapp.py", str(archive))

"""Tries out an archive where there is Python and nothing else: `python try_zipapp.py FILE`."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

PATIENCE = 30


def main(archive: Path) -> None:
    """Serve, talk, ping and show a chapter; raise an `AssertionError` where one fails."""
    # -I: no variables, no user's packages; -S: no site-packages; -B: nothing is written.
    python = [sys.executable, "-I", "-S", "-B"]
    with tempfile.TemporaryDirectory() as empty:

        def run(*arguments: str, stdin: bytes = b"") -> str:
            done = subprocess.run(
                [*python, archive, *arguments],
                input=stdin,
                stdout=subprocess.PIPE,
                timeout=PATIENCE,
                check=True,
                cwd=empty,
                env={},
            )
            return done.stdout.decode()

        check_nothing_else_is_there([*python, "-c"], empty)
        assert run("--version").startswith("techo ")
        assert "Serve" in run("--help")
        assert "listening on" in run("help", "serve")
        server = subprocess.Popen(
            [*python, archive, "-q", "tcp://127.0.0.1:0", "udp://127.0.0.1:0"],
            stdout=subprocess.PIPE,
            cwd=empty,
            env={},
        )
        try:
            assert server.stdout is not None
            for _ in range(2):
                endpoint = (
                    server.stdout.readline().decode().removeprefix("listening on ").strip()
                )
                assert run("talk", endpoint, stdin=b"hello\n").endswith("] hello\n")
                *_, last = run("ping", "--json", "-n", "2", "-i", "10ms", endpoint).splitlines()
                assert json.loads(last)["received"] == 2
            server.send_signal(signal.SIGTERM)
            assert server.wait(PATIENCE) == 0
        finally:
            server.kill()
            server.communicate()


def check_nothing_else_is_there(python: list[str], folder: str) -> None:
    """Make sure that what is in the archive would be missing without it."""
    code = "import importlib.util as u; print([*map(u.find_spec, ('techo', 'trio', 'attrs'))])"
    done = subprocess.run(
        [*python, code], stdout=subprocess.PIPE, check=True, cwd=folder, env={}
    )
    assert done.stdout == b"[None, None, None]\n", done.stdout


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve())

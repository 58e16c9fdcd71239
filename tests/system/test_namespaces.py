"""What takes privileges, in a namespace in which anybody has them, or nobody."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from helpers import PATIENCE, command, needs
from techo._server.datagrams import ANSWERING_PORTS


def unshared(*command_line: str, root: bool) -> subprocess.CompletedProcess[str]:
    """Run a command in a network of its own, as its root or without any privilege."""
    options = ["--user", "--net", *(["--map-root-user"] if root else [])]
    return subprocess.run(
        [needs("unshare"), *options, *command_line],
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )


def test_a_privileged_port_is_explained() -> None:
    """To a user who may not bind it."""
    done = unshared(*command("1"), root=False)
    assert done.returncode == 2
    assert done.stderr == (
        "techo: cannot listen on tcp://127.0.0.1:1: permission denied; "
        "ports below 1024 need privileges; choose a higher one\n"
    )


def test_ports_that_answer_everything_are_not_answered() -> None:
    """Port 0 is among them, from which only a forger can send; port 8 is like any other."""
    done = unshared(sys.executable, str(Path(__file__).parent / "forger.py"), root=True)
    assert done.stderr == ""
    assert json.loads(done.stdout) == {
        **{str(port): ["guarded"] for port in ANSWERING_PORTS},
        "8": [],
    }

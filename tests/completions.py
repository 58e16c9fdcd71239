"""What shells have to complete: what is typed, a folder with files, how a shell is asked."""

from __future__ import annotations

import subprocess
from pathlib import Path

from helpers import PATIENCE, call

TYPED = [
    ("techo pi", "ping"),
    ("techo --rep", "--reply"),
    ("techo --reply st", "stamped"),
    ("techo 8009 --log-f", "--log-format"),
    ("techo serve --log-format j", "json"),
    ("techo help tou", "tour"),
    ("techo help loa", "load"),
    ("techo ping --fai", "--fail-if"),
    ("techo load -n 5 --jso", "--json"),
    ("techo load --output oth", "other.json"),
    ("techo talk --tls-ca oth", "other.json"),
    ("techo merge one.json oth", "other.json"),
    ("techo compare one.json oth", "other.json"),
    ("techo compare --after one.json oth", "other.json"),
    ("techo history oth", "other.json"),
    ("techo history --every h", "hour"),
    ("techo completion f", "fish"),
    ("techo --reply=st", "stamped"),
    ("techo serve --log-format=j", "json"),
    ("techo check --reply=st", "stamped"),
    ("techo check --skip back", "back-pressure"),
    ("techo check --skip=empty --skip=back", "back-pressure"),
    ("techo --fault half-close", "half-close-first"),
    ("techo --fault refuse --fault dela", "delay="),
    ("techo serve --fault=thr", "throttle="),
    ("techo load --output=oth", "other.json"),
    ("techo load --plot oth", "other.json"),
    ("techo ping tcp://localhost:8009 --output oth", "other.json"),
    ("techo serve --tls-key=oth", "other.json"),
]
"""What is typed, and the only word that its last one can become."""


def prepare(folder: Path) -> Path:
    """Write the scripts of all shells into a folder; return one beside them that has files."""
    for name in ("bash", "zsh", "fish"):
        code, script, err = call("completion", name)
        assert (code, err) == (0, "")
        (folder / name).write_bytes(script)
    files = folder / "files"
    files.mkdir()
    for name in ("one.json", "other.json"):
        (files / name).touch()
    return files


def ask(command: list[str], folder: Path) -> str:
    """Run a shell; return what it prints."""
    done = subprocess.run(
        command, capture_output=True, text=True, cwd=folder, timeout=PATIENCE, check=True
    )
    assert done.stderr == ""
    return done.stdout

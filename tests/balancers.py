"""The recipes' balancers, HAProxy and nginx, run on this machine before two techo."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from documents import recipe
from helpers import PATIENCE, free_port, needs, running

HOSTS: Final = ("127.0.0.2", "127.0.0.3")
"""Of the servers `one` and `two`."""

_NGINX: Final = """
daemon off;
master_process off;
pid {folder}/pid;
load_module /usr/lib/nginx/modules/ngx_stream_module.so;
events {{}}
include {folder}/recipe;
"""
"""What includes the recipe, as nginx.conf would."""


def adapted(name: str, front: str, lame_duck: float = PATIENCE) -> str:
    """Return a recipe whose three machines are this one."""
    back, metrics = free_port(), free_port()
    places = {
        "192.0.2.10": "127.0.0.1",
        "192.0.2.1:8009": f"{HOSTS[0]}:{back}",
        "192.0.2.2:8009": f"{HOSTS[1]}:{back}",
        "'*:8009'": f"tcp://*:{back}",
        "--lame-duck 10s": f"--lame-duck {lame_duck:g}s",
    }
    if name == "haproxy.cfg":
        ports = {"*:9100": f"*:{metrics}", "port 9100": f"port {metrics}"}
        places |= {"bind :8009": f"bind {front}", **ports}
    else:
        places |= {"listen 8009": f"listen {front}"}
    return recipe(name, places)


def options_of_servers(text: str) -> list[list[str]]:
    """Return the command line that a recipe has for its servers, for each of them."""
    (line,) = re.findall(r"^# techo (.*)$", text, re.MULTILINE)
    return [[*shlex.split(line.replace("*:", f"{host}:")), "--reply", "raw"] for host in HOSTS]


@contextmanager
def balancing(name: str, text: str, folder: Path) -> Iterator[Path]:
    """Run a recipe's balancer for a block, which is given the file of its log."""
    file, main, log = (folder / each for each in ("recipe", "main", "log"))
    file.write_text(text)
    main.write_text(_NGINX.format(folder=folder))
    words = {"haproxy": f"-db -f {file}", "nginx": f"-c {main} -e stderr"}[name]
    with log.open("wb") as errors, running([needs(name), *words.split()], errors):
        yield log

"""The process of a machine of a fleet: it carries out its share, without Dask."""

from __future__ import annotations

import signal
import socket
import sys
from typing import NoReturn

import trio

from techo._cli import output, process
from techo._fleet.order import Order
from techo._fleet.share import share_process


def main() -> NoReturn:
    """Carry out the share that this process was started for: see `command_line` of `share`."""
    # All signals are for Dask's worker; when that is over, so is this.
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        signal.signal(getattr(signal, name), signal.SIG_IGN)
    process.open_missing_streams()
    output.survive_any_encoding()
    channel, silence, order = sys.argv[1:]
    try:
        sock = socket.socket(fileno=int(channel))
        sock.set_inheritable(False)
        trio.run(share_process(Order.from_json(order), sock, float(silence)).run)
        code = 0
    except Exception as error:  # noqa: BLE001  -- a bug
        from techo._cli.bugs import report_bug  # a tenth of what is to be imported

        code = report_bug(error)
    sys.exit(code)

"""The commands by what they are for, and the first page of help, which they are on.

All of it is text: `techo --help` waits for no import.
"""

from __future__ import annotations

from typing import Final

SUMMARIES: Final = {
    "serve": "send back every chunk that arrives, until it is stopped",
    "proxy": "pass everything on to a server, with faults for both sides",
    "talk": "send lines or a file, and print what comes back",
    "check": "try out whether a server is a good echo",
    "ping": "measure loss and latency, probe by probe",
    "load": "make many round trips over many connections, and measure those",
    "capacity": "find the highest rate at which a server holds what it must",
    "mesh": "have many machines probe each other, and say which stand out",
    "watch": "watch many targets for days, and say when each was away",
    "merge": "add up the reports of several loads",
    "compare": "say what has changed between loads, and what may be chance",
    "history": "report what watch has written down, over days",
    "help": "show a chapter, such as the tour, or a command's help",
    "completion": "print what completes command lines in bash, zsh or fish",
}
"""What each is for. Each is a file of this name, which has its `COMMAND`."""

COMMANDS: Final = tuple(SUMMARIES)

DEFAULT: Final = "serve"
"""The command that need not be named."""

GROUPS: Final = {
    "Serve, and try out a server": ("serve", "proxy", "talk", "check"),
    "Measure one": ("ping", "load", "merge", "compare", "capacity"),
    "Watch many": ("watch", "history", "mesh"),
    "Learn": ("help", "completion"),
}
"""The commands as the first page shows them."""

USAGE: Final = "techo [COMMAND] [OPTION | ARGUMENT]..."

ABOUT: Final = """\
An echo service: a server that is safe to leave running, and clients that compare every byte \
and tell the truth about loss and latency."""

EXAMPLES: Final = (
    ("techo", "serve on this machine, until Ctrl-C"),
    ("printf hello | techo talk", "have it sent back, from another terminal"),
    ("techo ping -n 3 localhost", "measure three round trips"),
)
"""Commands, and what they do."""

MORE: Final = """\
Without a command, techo serves: techo --reply raw 9000. An endpoint is HOST:PORT; without a \
host it is on this machine, without a port it is 8009. Others are tls://HOST:PORT, \
udp://HOST:PORT and unix:PATH."""

WHERE: Final = (
    ("techo COMMAND --help", "all options, with units and defaults"),
    ("techo help", "all chapters"),
    ("techo help tour", "from twelve lines of trio to this server"),
)
"""Where to read more."""

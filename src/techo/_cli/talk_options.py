"""The options of talk, and what its help says."""

from __future__ import annotations

from typing import Final

from techo._cli.arguments import Command
from techo._cli.client_options import add_arguments

_DESCRIPTION = """\
Send what is read from standard input and print what comes back.

On a terminal: a prompt, a line in, its reply out; an empty line or Ctrl-D ends it. In a pipe:
everything as it comes, until the input ends and all of it has come back.

Over udp, unixgram and unixpacket a line is a message. What no reply comes to, over udp and
unixgram, is told after a second, and the talk goes on."""

_MORE = """\
What takes a value can be set in the environment too, as TECHO_ENDPOINT or TECHO_TLS_CA. What
is given here wins; TECHO_TLS_... count for tls endpoints and are ignored for others.

Exit status: 0 all came back, 1 the server cut it short or owed a reply, 2 wrong usage, a line
too long for a message, or no connection."""


TALK: Final = Command("[OPTION]... [ENDPOINT]", _DESCRIPTION, _MORE, add_arguments)

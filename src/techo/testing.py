"""For tests of programs that use networks: the echo service without sockets."""

from __future__ import annotations

from techo._faults.values import (
    Chunk,
    CloseUnread,
    Corrupt,
    Delay,
    DropReply,
    DuplicateReply,
    ExpiredCertificate,
    Fault,
    FaultEvent,
    HalfCloseFirst,
    IgnoreEnd,
    Lengthen,
    NeverHandshake,
    NeverRead,
    NoCloseNotify,
    Refuse,
    ReorderReplies,
    Reset,
    SlowAccept,
    SlowClose,
    Stall,
    Throttle,
    Truncate,
    WrongName,
)
from techo._memory.listener import MemoryListener
from techo._memory.stream import MemoryStream
from techo._memory_server import MemoryServer, open_memory_server

__all__ = [
    "Chunk",
    "CloseUnread",
    "Corrupt",
    "Delay",
    "DropReply",
    "DuplicateReply",
    "ExpiredCertificate",
    "Fault",
    "FaultEvent",
    "HalfCloseFirst",
    "IgnoreEnd",
    "Lengthen",
    "MemoryListener",
    "MemoryServer",
    "MemoryStream",
    "NeverHandshake",
    "NeverRead",
    "NoCloseNotify",
    "Refuse",
    "ReorderReplies",
    "Reset",
    "SlowAccept",
    "SlowClose",
    "Stall",
    "Throttle",
    "Truncate",
    "WrongName",
    "open_memory_server",
]

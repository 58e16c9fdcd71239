"""For tests: peers that misbehave, the service without sockets, and a check of any other."""

from __future__ import annotations

from techo._checking.context import Check, CheckReport, EchoServiceError, Verdict
from techo._checking.suite import check_echo_service
from techo._faults.fault_plans import FaultPlan, fault_plans
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
from techo._faulty_stream import FaultyHalfCloseableStream, FaultyStream, faulty
from techo._fields import with_texts
from techo._fixtures import StartProxy, StartServer, StartThreadProxy, StartThreadServer
from techo._memory.listener import MemoryListener
from techo._memory.stream import MemoryStream
from techo._memory_server import MemoryServer, open_memory_server
from techo._proxying.proxy import Proxy, open_proxy
from techo._threads.proxy import ProxyOptions, ThreadProxy, open_thread_proxy
from techo._threads.server import ServerOptions, ThreadServer, open_thread_server

__all__ = [
    "Check",
    "CheckReport",
    "Chunk",
    "CloseUnread",
    "Corrupt",
    "Delay",
    "DropReply",
    "DuplicateReply",
    "EchoServiceError",
    "ExpiredCertificate",
    "Fault",
    "FaultEvent",
    "FaultPlan",
    "FaultyHalfCloseableStream",
    "FaultyStream",
    "HalfCloseFirst",
    "IgnoreEnd",
    "Lengthen",
    "MemoryListener",
    "MemoryServer",
    "MemoryStream",
    "NeverHandshake",
    "NeverRead",
    "NoCloseNotify",
    "Proxy",
    "ProxyOptions",
    "Refuse",
    "ReorderReplies",
    "Reset",
    "ServerOptions",
    "SlowAccept",
    "SlowClose",
    "Stall",
    "StartProxy",
    "StartServer",
    "StartThreadProxy",
    "StartThreadServer",
    "ThreadProxy",
    "ThreadServer",
    "Throttle",
    "Truncate",
    "Verdict",
    "WrongName",
    "check_echo_service",
    "fault_plans",
    "faulty",
    "open_memory_server",
    "open_proxy",
    "open_thread_proxy",
    "open_thread_server",
]


def __dir__() -> list[str]:
    return __all__


for _name in __all__:
    with_texts(globals()[_name])

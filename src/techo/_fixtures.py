"""What the fixtures of the pytest plugin return, for the annotations of tests."""

from __future__ import annotations

from typing import Protocol, Unpack

from techo._echo_service import EchoService
from techo._faults.values import Fault
from techo._proxying.proxy import Proxy
from techo._proxying.target import Connect
from techo._threads.proxy import ProxyOptions, ThreadProxy
from techo._threads.server import ServerOptions, ThreadServer
from techo.endpoint import Endpoint


class StartServer(Protocol):
    """What the fixture `techo_faulty_server` is: a function to be awaited."""

    async def __call__(
        self, *faults: Fault, endpoint: Endpoint | str = ..., **options: Unpack[ServerOptions]
    ) -> EchoService:
        """Start a server with faults, which is closed when the test is over."""
        ...


class StartThreadServer(Protocol):
    """What the fixture `techo_thread_server` is: a plain function."""

    def __call__(
        self, *faults: Fault, endpoint: Endpoint | str = ..., **options: Unpack[ServerOptions]
    ) -> ThreadServer:
        """Start a server with faults, which is closed when the test is over."""
        ...


class StartProxy(Protocol):
    """What the fixture `techo_proxy` is: a function to be awaited."""

    async def __call__(
        self,
        target: Endpoint | str | Connect,
        *faults: Fault,
        endpoint: Endpoint | str | None = ...,
        **options: Unpack[ProxyOptions],
    ) -> Proxy:
        """Start a proxy with faults, which is closed when the test is over."""
        ...


class StartThreadProxy(Protocol):
    """What the fixture `techo_thread_proxy` is: a plain function."""

    def __call__(
        self,
        target: Endpoint | str | Connect,
        *faults: Fault,
        endpoint: Endpoint | str | None = ...,
        **options: Unpack[ProxyOptions],
    ) -> ThreadProxy:
        """Start a proxy with faults, which is closed when the test is over."""
        ...

"""What load.c does, over TLS: `load_tls.py tls:PORT PID echo COUNT SIZE SECONDS`.

In Python, because a C client would need OpenSSL's headers on every machine. It takes less time
for a message than the servers do; where it does not, the table says so. Each connection and
message has its own bytes, and every byte is checked. Prints one line of JSON, as load.c does.
"""

from __future__ import annotations

import contextlib
import json
import math
import random
import select
import socket
import ssl
import sys
import time
from typing import Final, NoReturn

OFFSETS: Final = 4096
"""Different messages: where in the pattern they begin."""

BUFFER: Final = 2**16
"""Bytes received at once: a TLS record has a quarter of it at most."""

PATIENCE: Final = 5.0
"""Seconds of silence after which the server is considered stuck."""

WARM_UP: Final = 0.1
"""Seconds before counting begins."""

EVENTS: Final = select.EPOLLIN | select.EPOLLOUT | select.EPOLLET


def bad(what: str) -> NoReturn:
    """End: the server did not echo."""
    sys.exit(what)


def context() -> ssl.SSLContext:
    """Give a client's context which trusts anybody: the bytes are looked at, not the name."""
    found = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    found.check_hostname = False
    found.verify_mode = ssl.CERT_NONE
    return found


class Connection:
    """A connection with one message in flight."""

    def __init__(self, load: Load, port: int) -> None:
        plain = socket.create_connection(("127.0.0.1", port), PATIENCE)
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sock = load.context.wrap_socket(plain)
        self.sock.setblocking(False)
        self.load = load
        self.number = 0

    def begin(self, at: float) -> None:
        """Send the next message, as much of it as the socket takes."""
        self.at = (self.sock.fileno() * 61 + self.number * 7) % OFFSETS
        self.number += 1
        self.sent = self.got = 0
        self.begun = at
        self.send_on()

    def send_on(self) -> None:
        """Send what is left of a message."""
        with contextlib.suppress(ssl.SSLWantWriteError, ssl.SSLWantReadError):
            while self.sent < self.load.size:
                rest = self.load.view[self.at + self.sent : self.at + self.load.size]
                self.sent += self.sock.send(rest)

    def go_on(self) -> bool:
        """Send and receive what can be; whether a whole message has come back."""
        self.send_on()
        while self.got < self.load.size:
            try:
                data = self.sock.recv(BUFFER)
            except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
                return False
            if not data:
                bad("end-of-file in mid-message")
            if self.got + len(data) > self.load.size:
                bad("more came back than was sent")
            if not self.load.pattern.startswith(data, self.at + self.got):
                bad("a wrong byte came back")
            self.got += len(data)
        return True  # nothing more can have come; if it has, the next reply is wrong

    def finish(self) -> None:
        """Say goodbye; nothing else may come back."""
        self.sock.settimeout(PATIENCE)
        try:
            self.sock.unwrap()
        except ssl.SSLEOFError:
            pass  # not every server says goodbye too
        except ssl.SSLError as error:
            bad(f"more came back than was sent, or no end: {error}")
        self.sock.close()


class Load:
    """The client: its messages, and what it measures."""

    def __init__(self, pid: int, size: int) -> None:
        self.context = context()
        self.size = size
        self.pattern = random.Random(1).randbytes(size + OFFSETS)  # noqa: S311  -- any bytes do
        self.view = memoryview(self.pattern)
        self.latencies: list[float] = []
        self.clock = ~pid << 3 | 2  # as clock_getcpuclockid(3) makes it; Python has none

    def clocks(self) -> tuple[float, float, float]:
        """Give the time, and the processor time of the server and of this process."""
        return time.monotonic(), time.clock_gettime(self.clock), time.process_time()

    def echo(self, port: int, count: int, seconds: float) -> None:
        """Keep `count` messages in flight; measure for a while, once all have been answered."""
        epoll = select.epoll()
        everyone = {
            each.sock.fileno(): each for each in (Connection(self, port) for _ in range(count))
        }
        for fd, connection in everyone.items():
            epoll.register(fd, EVENTS)
            connection.begin(time.monotonic())
        unanswered = set(everyone)
        counting_from = time.monotonic() + WARM_UP
        window: list[tuple[float, float, float]] = []  # when it begins; and then, when it ends
        while everyone:
            ready = epoll.poll(PATIENCE)
            if not ready:
                bad("no reply")
            for fd, _ in ready:
                connection = everyone[fd]
                if not connection.go_on():
                    continue
                at = time.monotonic()
                unanswered.discard(fd)
                if len(window) == 1:
                    self.latencies.append(at - connection.begun)
                if len(window) == 2:
                    epoll.unregister(fd)
                    everyone.pop(fd).finish()
                else:
                    connection.begin(at)
            at = time.monotonic()
            counted = len(window) == 1 and at > window[0][0] + seconds
            if counted or (not window and not unanswered and at > counting_from):
                window.append(self.clocks())
        self.print_figures(*window)

    def print_figures(
        self, begun: tuple[float, float, float], ended: tuple[float, float, float]
    ) -> None:
        """Print them under the names that load.c gives them."""
        if not self.latencies:
            bad("no message came back while counting")
        seconds, server, own = (
            after - before for before, after in zip(begun, ended, strict=True)
        )
        self.latencies.sort()
        messages = len(self.latencies)
        figures = {
            "messages": messages,
            "seconds": seconds,
            "begin": begun[0],
            "end": ended[0],
            "cpu_us": server / messages * 1e6,
            "p50_us": self.latencies[math.ceil(0.5 * messages) - 1] * 1e6,
            "p99_us": self.latencies[math.ceil(0.99 * messages) - 1] * 1e6,
            "server_share": server / seconds,
            "load_cpu_us": own / messages * 1e6,
            "load_share": own / seconds,
            "processes": 1,
        }
        print(json.dumps(figures))


def main(address: str, pid: str, _work: str, count: str, size: str, seconds: str) -> None:
    """Do what the words say."""
    try:
        Load(int(pid), int(size)).echo(
            int(address.removeprefix("tls:")), int(count), float(seconds)
        )
    except OSError as error:
        bad(f"the server broke the connection: {error}")


if __name__ == "__main__":
    main(*sys.argv[1:])

"""The process as Prometheus sees it: memory, CPU time and descriptors, at one cost (Linux).

The library's own collector lists every descriptor to count them, which takes 8 ms of 10,000.
"""

from __future__ import annotations

import contextlib
import os
import resource
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import attrs
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

_STARTED: Final = 19
"""Of /proc/PID/stat behind the name (proc(5)): when it started, in ticks from boot on."""


@attrs.frozen(eq=False)
class ProcessCollector(Collector):
    """Yields the families by the names that all of Prometheus' libraries use."""

    proc: Path = Path("/proc/self")

    def collect(self) -> Iterator[Metric]:
        """Yield each family once; none where there is no /proc."""
        with contextlib.suppress(OSError):
            pages = (self.proc / "statm").read_text().split()
            fields = (self.proc / "stat").read_text().rpartition(")")[2].split()
            yield from self._memory(*(int(each) * resource.getpagesize() for each in pages[:2]))
            yield from self._times(int(fields[_STARTED]))
            yield GaugeMetricFamily(
                "process_open_fds", "Number of open file descriptors.", self._descriptors()
            )
            most, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
            yield GaugeMetricFamily(
                "process_max_fds", "Maximum number of open file descriptors.", most
            )

    @staticmethod
    def _memory(virtual: int, resident: int) -> Iterator[Metric]:
        yield GaugeMetricFamily(
            "process_virtual_memory_bytes", "Virtual memory size in bytes.", virtual
        )
        yield GaugeMetricFamily(
            "process_resident_memory_bytes", "Resident memory size in bytes.", resident
        )

    @staticmethod
    def _times(started: int) -> Iterator[Metric]:
        booted = time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)
        yield GaugeMetricFamily(
            "process_start_time_seconds",
            "Start time of the process since unix epoch in seconds.",
            booted + started / os.sysconf("SC_CLK_TCK"),
        )
        yield CounterMetricFamily(
            "process_cpu_seconds",
            "Total user and system CPU time spent in seconds.",
            time.process_time(),
        )

    def _descriptors(self) -> int:
        """Return how many are open; Linux 6.2 and later says so without listing them."""
        size = (self.proc / "fd").stat().st_size
        return size or len(list((self.proc / "fd").iterdir()))

"""What several systems' tests share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from networks import Network, joined, network


@pytest.fixture
def hosts() -> Iterator[Network]:
    """Two hosts joined by a wire; new ones let nobody open datagram sockets of ICMP."""
    with network(["client", "server"], joined("client", "server", 1)) as made:
        yield made

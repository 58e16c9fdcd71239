"""The usual case of one endpoint: what listens at one place has that and its port by name."""

from __future__ import annotations

from techo.endpoint import Endpoint


class OneEndpoint:
    """What has `endpoints`, and of one also `endpoint` and `port`."""

    __slots__ = ()

    @property
    def endpoints(self) -> tuple[Endpoint, ...]:
        """What is listened on now: one for each socket, with the real port."""
        raise NotImplementedError

    @property
    def endpoint(self) -> Endpoint:
        """The only one of `endpoints`.

        Raises:
            ValueError: there is none, or more than one; the text says how many.
        """
        found = self.endpoints
        if len(found) == 1:
            return found[0]
        if not found:
            raise ValueError("nothing is listened on now, so that there is no endpoint")
        listed = ", ".join(map(str, found))
        raise ValueError(f"there are {len(found)} endpoints: take one of {listed}")

    @property
    def port(self) -> int:
        """The port of `endpoint`.

        Raises:
            ValueError: as that, or it has none.
        """
        endpoint = self.endpoint
        if not endpoint.port:
            raise ValueError(f"{endpoint} has no port")
        return endpoint.port

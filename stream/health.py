"""Whether this worker does its work, for whoever decides to restart it or to send it traffic."""

import os
import socket
from collections.abc import Iterable
from typing import Any

from headrace.schemas.errors import BadConfig
from headrace.stream.poller import Place

HOST = "127.0.0.1"


def check_port(port: int) -> None:
    """Raise if the pages cannot be served on this port, before anything is started; 0 and -1 always can."""
    if port <= 0:
        return
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as the server does: a worker that ended is no bar
        try:
            probe.bind((HOST, port))
            probe.listen(1)
        except OSError as error:
            raise port_taken(port, error) from error


def port_taken(port: int, error: OSError) -> BadConfig:
    """Return what is to be said about a port that cannot be had.

    >>> print(port_taken(6066, OSError(98, "while attempting to bind")))
    config cannot run (1 problem):
      web_port = 6066: cannot listen on 127.0.0.1:6066 (Address already in use); take another,
        0 for a free one, -1 for none
    """
    reason = os.strerror(error.errno or 0)
    return BadConfig(
        [f"web_port = {port}: cannot listen on {HOST}:{port} ({reason}); take another, 0 for a free one, -1 for none"]
    )


class Health:
    """What the progress of each partition says.

    A partition without lag is well, however long it is silent. One with lag that has not moved for
    ``stall_red_ms`` is red, and after ``stall_exit_ms`` the worker should end.

    >>> health = Health(stall_red_ms=1_000, stall_exit_ms=5_000)
    >>> health.observe(("t", 0), lag=0, still_ms=60_000), health.red
    (False, [])
    >>> health.observe(("t", 0), lag=3, still_ms=1_500), health.red
    (False, ['t[0]'])
    >>> health.observe(("t", 0), lag=3, still_ms=5_500)
    True
    >>> health.observe(("t", 0), lag=2, still_ms=10), health.red
    (False, [])
    """

    def __init__(self, *, stall_red_ms: int, stall_exit_ms: int) -> None:
        self._stall_red_ms = stall_red_ms
        self._stall_exit_ms = stall_exit_ms
        self._red: set[Place] = set()
        self.lag: dict[Place, int] = {}

    def observe(self, place: Place, *, lag: int, still_ms: float) -> bool:
        """Note how a partition stands; True if it has stood still for too long."""
        self.lag[place] = lag
        if lag > 0 and still_ms >= self._stall_red_ms:
            self._red.add(place)
        else:
            self._red.discard(place)
        return lag > 0 and still_ms >= self._stall_exit_ms

    def forget_all_but(self, places: Iterable[Place]) -> None:
        """Drop the partitions that this worker no longer has."""
        kept = set(places)
        self._red &= kept
        self.lag = {place: lag for place, lag in self.lag.items() if place in kept}

    @property
    def red(self) -> list[str]:
        """The partitions that have events and do not move."""
        return [f"{topic}[{number}]" for topic, number in sorted(self._red)]

    def add_pages(self, app: Any) -> None:
        """Serve ``/health/live`` and ``/health/ready``."""

        @app.page("/health/live")  # type: ignore[untyped-decorator]
        async def live(view: Any, request: Any) -> Any:  # noqa: ARG001
            """Say 200 while partitions move, 503 when one with lag stands still."""
            red = self.red
            return view.json({"live": not red, "still": red}, status=503 if red else 200)

        @app.page("/health/ready")  # type: ignore[untyped-decorator]
        async def ready(view: Any, request: Any) -> Any:  # noqa: ARG001
            """Say 200 while this worker takes part, 503 before its first assignment, in a rebalance and when red."""
            well = app.consumer.resumed.is_set() and not app.rebalancing and not self.red
            return view.json({"ready": well, "still": self.red}, status=200 if well else 503)

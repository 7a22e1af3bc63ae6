"""Whether this worker does its work, for whoever decides to restart it or to send it traffic."""

import asyncio
import ipaddress
import os
import socket
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

from headrace.schemas.errors import BadConfig
from headrace.stream.poller import Place

HOST = "127.0.0.1"
BEAT_SECONDS = 0.5
LATE_SECONDS_MAX = 10.0  # an event loop that has not ticked for this long hangs
# A proxy on this host names in these whom it speaks for.
FORWARDED = ("Forwarded", "X-Forwarded-For", "X-Real-IP", "Via")


def check_port(port: int, host: str = HOST) -> None:
    """Raise if the pages cannot be served on this port, before anything is started; 0 and -1 always can."""
    if port <= 0:
        return
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as the server does: a worker that ended is no bar
        try:
            probe.bind((host, port))
            probe.listen(1)
        except OSError as error:
            raise port_taken(port, error, host) from error


def port_taken(port: int, error: OSError, host: str = HOST) -> BadConfig:
    """Return what is to be said about a port that cannot be had.

    >>> print(port_taken(6066, OSError(98, "while attempting to bind")))
    config cannot run (1 problem):
      web_port = 6066: cannot listen on 127.0.0.1:6066 (Address already in use); take another,
        0 for a free one, -1 for none
    """
    reason = os.strerror(error.errno or 0)
    return BadConfig(
        [f"web_port = {port}: cannot listen on {host}:{port} ({reason}); take another, 0 for a free one, -1 for none"]
    )


class Standing(NamedTuple):
    """What a worker has to have to do its work."""

    assigned: bool = True  # partitions were given to it, once at the least; a spare gets none
    rebalancing: bool = False
    recovering: tuple[int, ...] = ()  # partitions of which the memory is being made again
    producer: bool = True
    broker: bool = True  # one has answered lately

    @property
    def missing(self) -> list[str]:
        """Why it is not ready."""
        said = {
            "no partitions were assigned yet": not self.assigned,
            "a rebalance is under way": self.rebalancing,
            f"the memory of partitions {list(self.recovering)} is being made again": bool(self.recovering),
            "there is no producer": not self.producer,
            "no broker answers": not self.broker,
        }
        return [text for text, holds in said.items() if holds]


class Answer(NamedTuple):
    """What a page says: a word to anybody, and details to those who may know."""

    well: bool
    word: str
    details: dict[str, Any]


class Health:
    """What the progress of each partition says.

    A partition without lag is well, however long it is silent. One with lag that has not moved for
    ``stall_red_ms`` is red, and after ``stall_exit_ms`` the worker should end. While no broker answers that is not
    for a restart to mend, so the worker stays live, and is not ready.

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
        self.standing: Callable[[], Standing] = Standing  # how the worker stands now
        self.delay = 0.0  # how much later than asked the last beat came
        self._beaten_at: float | None = None
        self._started = False

    async def beat(self) -> None:
        """Note again and again that the event loop runs."""
        while True:
            due = time.monotonic() + BEAT_SECONDS
            await asyncio.sleep(BEAT_SECONDS)
            self.note_beat(time.monotonic(), due)

    def note_beat(self, now: float, due: float) -> None:
        """Note that the event loop came to this now, which was due then."""
        self._beaten_at, self.delay = now, max(0.0, now - due)

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

    # What the pages say.

    def live(self, now: float) -> Answer:
        """Say whether a restart would mend nothing: the event loop ticks, and every partition with lag moves."""
        standing = self.standing()
        late = 0.0 if self._beaten_at is None else max(0.0, now - self._beaten_at - BEAT_SECONDS)
        still = self.red if standing.broker else []
        word = "hangs" if late > LATE_SECONDS_MAX else "stalled" if still else "live"
        well = word == "live"
        return Answer(well, word, {"live": well, "still": self.red, "late_seconds": late, "broker": standing.broker})

    def ready(self, now: float) -> Answer:
        """Say whether the worker takes part: it is live, and nothing is missing."""
        standing, live = self.standing(), self.live(now)
        missing = standing.missing
        well = live.well and not missing and not self.red
        details = {"ready": well, "still": self.red, "missing": missing, **standing._asdict()}
        return Answer(well, "ready" if well else "unready", details)

    def started(self, now: float) -> Answer:  # noqa: ARG002 - as the others
        """Say whether the worker has begun: it had a producer and its first assignment, and made its memory again."""
        standing = self.standing()
        self._started = self._started or (standing.assigned and standing.producer and not standing.recovering)
        word = "started" if self._started else "starting"
        return Answer(self._started, word, {"started": self._started, "missing": standing.missing})

    def answers(self) -> Mapping[str, Answer]:
        """Return what every page says now."""
        now = time.monotonic()
        return {"live": self.live(now), "ready": self.ready(now), "started": self.started(now)}

    def add_pages(self, app: Any) -> None:
        """Serve ``/health/live``, ``/health/ready`` and ``/health/started``."""
        for probe in ("live", "ready", "started"):
            app.page(f"/health/{probe}", name=f"health-{probe}")(self._page(probe))

    def _page(self, probe: str) -> Callable[..., Any]:
        async def page(view: Any, request: Any) -> Any:
            answer = self.answers()[probe]
            status = 200 if answer.well else 503
            if "verbose" in request.query and not is_stranger(request.remote, request.headers):
                return view.json(answer.details, status=status)
            return view.text(f"{answer.word}\n", status=status)

        page.__name__ = f"health_{probe}"
        page.__doc__ = f"Say 200 and a word while the worker is {probe}, else 503."
        return page


def is_stranger(remote: str | None, headers: Mapping[str, str]) -> bool:
    """Say whether somebody asks who is not on this host, be it through a proxy on it.

    >>> is_stranger("127.0.0.1", {}), is_stranger("::1", {}), is_stranger("::ffff:127.0.0.1", {})
    (False, False, False)
    >>> is_stranger("10.1.2.3", {}), is_stranger(None, {}), is_stranger("127.0.0.1", {"X-Forwarded-For": "10.1.2.3"})
    (True, True, True)
    """
    try:
        address = ipaddress.ip_address(remote or "")
    except ValueError:
        return True
    mapped = getattr(address, "ipv4_mapped", None)
    return not (mapped or address).is_loopback or any(name in headers for name in FORWARDED)

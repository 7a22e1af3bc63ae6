"""A worker's page as a program follows it: the newest snapshot, or why there is none."""

import http.client
import threading
import time
from collections import deque
from typing import Any, NamedTuple
from urllib.parse import SplitResult, urlsplit

import orjson

from headrace.schemas.errors import BadConfig

PAUSE_SECONDS = 1.0  # from one try to the next
QUIET_SECONDS_MAX = 10.0  # a page that says nothing for so long has gone: it tells something every second
LINE_BYTES_MAX = 16 << 20
TROUBLE_CHARACTERS_MAX = 200
HISTORY_COUNT = 300  # ten minutes, as the page keeps them
NEEDED = frozenset({"at", "worker", "rates", "totals", "latency", "lag", "partitions", "group", "health", "point"})


class Sighting(NamedTuple):
    """What is known of a worker: its newest snapshot, when that came, and what is the matter if it is no more."""

    url: str
    snapshot: dict[str, Any] | None
    history: tuple[dict[str, Any], ...]
    heard: float  # seconds ago; of a snapshot that never came, since when it is looked for
    trouble: str


def address(text: str) -> SplitResult:
    """Return a page's address; what is left out is HTTP's.

    >>> address("127.0.0.1:6066").geturl(), address("https://page.example/fraud/").geturl()
    ('http://127.0.0.1:6066', 'https://page.example/fraud')
    >>> address("ftp://x")
    Traceback (most recent call last):
    headrace.schemas.errors.BadConfig: config cannot run (1 problem):
      ftp://x: not the address of a worker's page, as its line "ready" says it: http://HOST:PORT
    """
    try:
        parts = urlsplit(text if "://" in text else f"http://{text}")
        if parts.scheme in {"http", "https"} and parts.hostname and not parts.username and (parts.port or 80) > 0:
            return parts._replace(path=parts.path.rstrip("/"), query="", fragment="")
    except ValueError:  # of a port that is none
        pass
    raise BadConfig([f'{text}: not the address of a worker\'s page, as its line "ready" says it: http://HOST:PORT'])


class Follower(threading.Thread):
    """Reads what a page tells, second by second; where it stops, looks for it again every second.

    Straight to the address, whatever proxies the environment names, and to no other that it sends one to: the token
    goes along.
    """

    def __init__(self, url: SplitResult, token: str, woken: threading.Event) -> None:
        super().__init__(name=f"follow {url.netloc}", daemon=True)
        self.url = url.geturl()
        self.refused = ""  # for good: to ask again does not help
        self._parts = url
        self._token = token
        self._woken = woken
        self._lock = threading.Lock()
        self._snapshot: dict[str, Any] | None = None
        self._history: deque[dict[str, Any]] = deque(maxlen=HISTORY_COUNT)
        self._heard_at = time.monotonic()
        self._trouble = ""

    def sighting(self) -> Sighting:
        """Return what is known now."""
        with self._lock:
            heard = time.monotonic() - self._heard_at
            return Sighting(self.url, self._snapshot, tuple(self._history), heard, self._trouble)

    def run(self) -> None:
        """Follow until the process ends, or the page refuses."""
        while not self.refused:
            trouble = self._follow()
            with self._lock:
                self._trouble = trouble[:TROUBLE_CHARACTERS_MAX]
            self._woken.set()
            time.sleep(PAUSE_SECONDS)

    def _follow(self) -> str:
        """Read until the page says no more; return why."""
        secure = self._parts.scheme == "https"
        connect = http.client.HTTPSConnection if secure else http.client.HTTPConnection
        connection = connect(self._parts.hostname or "", self._parts.port, timeout=QUIET_SECONDS_MAX)
        headers = {"Accept": "text/event-stream"} | ({"Authorization": f"Bearer {self._token}"} if self._token else {})
        try:
            connection.request("GET", f"{self._parts.path}/page/events", headers=headers)
            answer = connection.getresponse()
            if answer.status in {401, 403}:
                self.refused = answer.read(TROUBLE_CHARACTERS_MAX).decode(errors="replace").strip()
                return self.refused
            if answer.status != 200:
                return f"it answers {answer.status}: no page of a worker, or page = false"
            while line := answer.readline(LINE_BYTES_MAX):
                if line.startswith(b"data: "):
                    self._take(orjson.loads(line[6:]))
        except TimeoutError:
            return f"no word for {QUIET_SECONDS_MAX:.0f} s"
        except OSError as error:
            return error.strerror or str(error) or type(error).__name__
        except (http.client.HTTPException, ValueError) as error:
            return f"what answers is no page of a worker ({type(error).__name__})"
        finally:
            connection.close()
        return "it has ended"

    def _take(self, told: Any) -> None:
        if not isinstance(told, dict) or not told.keys() >= NEEDED:
            raise ValueError("no snapshot")
        with self._lock:
            if "history" in told:  # with the first of a connection
                self._history.clear()
                self._history.extend(told.pop("history"))
            elif not self._history or told["at"] - self._history[-1]["at"] >= 2.0:
                self._history.append(told["point"])
            self._snapshot, self._heard_at, self._trouble = told, time.monotonic(), ""
        self._woken.set()

"""The alerts that wait for one webhook: which is next, when it is tried again, and when it is given up."""

import heapq
import random
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass

COUNT_MAX = 5_000
PAUSE_SECONDS_FIRST = 0.5


@dataclass(eq=False)
class Waiting:
    """One alert that a webhook has not taken yet."""

    identity: str
    partition: int
    offset: int
    body: bytes
    key: str
    traceparent: str = ""
    since: float = 0.0
    due: float = 0.0
    attempts: int = 0
    gone: bool = False


class Outbox:
    """What waits for one webhook, in the order in which it came.

    Of the alerts that have one id the next is not tried before the one before it was taken or given up. Alerts of
    different ids do not wait for each other: one that a webhook cannot digest holds up nothing but its own id.

    After an attempt that failed the alert pauses, and so does the webhook. The pause is drawn between half and all
    of 0.5 s, 1 s, 2 s, ... and at most ``pause_max``: for the alert by its own attempts, for the webhook by the
    attempts that failed one after the other. So a webhook that is down is asked once in a pause, however much waits.

    >>> outbox = Outbox(pause_max=60.0, give_up=3_600.0, bytes_max=1_000, draw=lambda: 1.0)
    >>> first, second = Waiting("a", 0, 7, b"{}", "a/raised/1.0"), Waiting("a", 0, 8, b"{}", "a/cleared/2.0")
    >>> outbox.put(first, 0.0), outbox.put(second, 0.0)
    (None, None)
    >>> outbox.next(0.0) is first
    True
    >>> outbox.failed(first, 0.0)
    False
    >>> outbox.next(0.0)
    0.5
    >>> outbox.next(0.5) is first
    True
    >>> outbox.accepted(first)
    >>> outbox.next(0.5) is second
    True
    """

    def __init__(
        self, *, pause_max: float, give_up: float, bytes_max: int, draw: Callable[[], float] = random.random
    ) -> None:
        self._pause_max = pause_max
        self._give_up = give_up
        self._bytes_max = bytes_max
        self._draw = draw
        self._order: dict[Waiting, None] = {}
        self._lines: dict[str, deque[Waiting]] = {}
        self._heap: list[tuple[float, int, Waiting]] = []
        self._pushed = 0
        self._bytes = 0
        self._failures = 0
        self._quiet_until = 0.0
        self.sending: Waiting | None = None

    def __len__(self) -> int:
        return len(self._order)

    @property
    def full(self) -> bool:
        """True where no more is taken in: what comes then stays in Kafka."""
        return len(self._order) >= COUNT_MAX or self._bytes >= self._bytes_max

    @property
    def roomy(self) -> bool:
        """True where there is so much room that it is worth reading again what was left in Kafka."""
        return len(self._order) <= COUNT_MAX // 2 and self._bytes <= self._bytes_max // 2

    @property
    def failures(self) -> int:
        """How many attempts have failed one after the other."""
        return self._failures

    def put(self, one: Waiting, now: float) -> None:
        """Take an alert in; its time to be given up begins."""
        one.since = one.due = now
        self._order[one] = None
        self._bytes += len(one.body)
        line = self._lines.setdefault(one.identity, deque())
        line.append(one)
        if len(line) == 1:
            self._push(one)

    def next(self, now: float) -> Waiting | float | None:
        """Return what is to be sent now, or in how many seconds something will be, or None where nothing waits."""
        while self._heap and self._heap[0][2].gone:
            heapq.heappop(self._heap)
        if not self._heap:
            return None
        moment = max(self._heap[0][0], self._quiet_until)
        if moment > now:
            return moment - now
        self.sending = heapq.heappop(self._heap)[2]
        return self.sending

    def accepted(self, one: Waiting) -> None:
        """Hear that the webhook has taken it."""
        self._failures, self._quiet_until, self.sending = 0, 0.0, None
        if not one.gone:
            self._drop(one)

    def failed(self, one: Waiting, now: float, *, after: float = 0.0) -> bool:
        """Hear that the webhook has not taken it, and asked for a pause ``after`` it; say whether it is given up."""
        self._failures += 1
        self._quiet_until = now + max(self._pause(self._failures), min(after, self._pause_max))
        self.sending = None
        if one.gone:
            return False
        one.attempts += 1
        if now - one.since >= self._give_up:
            self._drop(one)
            return True
        one.due = now + self._pause(one.attempts)
        self._push(one)
        return False

    def expire(self, now: float) -> list[Waiting]:
        """Give up what has waited too long, except for what is being sent."""
        gone: list[Waiting] = []
        # What came first is first here, and first among those of its id.
        for one in self._order:
            if one is self.sending or now - one.since < self._give_up:
                break
            gone.append(one)
        for one in gone:
            self._drop(one)
        return gone

    def forget(self, partitions: Iterable[int]) -> None:
        """Let go of what belongs to somebody else now."""
        theirs = set(partitions)
        for one in [one for one in self._order if one.partition in theirs]:
            self._drop(one)

    def _drop(self, one: Waiting) -> None:
        one.gone = True
        del self._order[one]
        self._bytes -= len(one.body)
        line = self._lines[one.identity]
        was_first = line[0] is one
        line.remove(one)
        if not line:
            del self._lines[one.identity]
        elif was_first:
            self._push(line[0])

    def _push(self, one: Waiting) -> None:
        self._pushed += 1
        heapq.heappush(self._heap, (one.due, self._pushed, one))

    def _pause(self, attempts: int) -> float:
        longest = min(self._pause_max, PAUSE_SECONDS_FIRST * 2.0 ** min(attempts - 1, 40))
        return longest * (0.5 + 0.5 * self._draw())

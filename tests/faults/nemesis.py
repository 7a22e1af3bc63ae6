"""Trouble with a seed: who is hit, when, and with what."""

import random
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from faults.tally import Tally
from faults.worker import Worker

POINTS = {  # in a worker's code, and how often at most it comes by before it dies there
    "after_produce": 40,
    "before_commit": 40,
    "after_commit": 40,
    "before_snapshot_rename": 6,
}
SOMEWHERE = "somewhere"  # a worker dies there when its time has come
HUNT_SECONDS_MAX = 45.0  # with all that has to be taken in again on a slow machine


class Blow(NamedTuple):
    """One thing that was done to somebody."""

    at: float
    what: str
    whom: str


class Nemesis:
    """Does harm to workers at random, and remembers when.

    Pauses are drawn between nothing and ``pause_max`` seconds, so that blows also fall while the last one
    is not over yet.
    """

    def __init__(self, workers: Sequence[Worker], *, seed: int, pause_max: float) -> None:
        self.blows: list[Blow] = []
        self._workers = list(workers)
        self._random = random.Random(seed)
        self._pause_max = pause_max
        self._actions: dict[str, Callable[[Worker], None]] = {"kill": self.kill, "terminate": self.terminate}

    def rage(
        self,
        *,
        until: Callable[[], bool],
        actions: Sequence[str] = ("kill", "terminate"),
        others: Mapping[str, Callable[[], None]] | None = None,
    ) -> None:
        """Strike until something is so; ``others`` are blows that hit no worker, like a broker's restart."""
        actions = [*actions, *(others or {})]
        while True:
            end = time.monotonic() + self._random.uniform(0, self._pause_max)
            while time.monotonic() < end:
                if until():
                    return
                time.sleep(0.05)
            what = self._random.choice(actions)
            if others and what in others:
                self.blows.append(Blow(time.monotonic(), what, "broker"))
                others[what]()
            else:
                self._actions[what](self._random.choice(self._workers))

    def kill(self, worker: Worker) -> None:
        """SIGKILL, and up to a second later it is started again."""
        self.blows.append(Blow(time.monotonic(), "kill", worker.name))
        worker.kill()
        time.sleep(self._random.random())
        worker.start()

    def terminate(self, worker: Worker) -> None:
        """SIGTERM, which it has to obey, and start it again."""
        self.blows.append(Blow(time.monotonic(), "terminate", worker.name))
        worker.terminate()
        code = worker.wait()
        # A worker that was still importing when it was told to go had nothing to drain.
        assert code == 0 or "ready" not in worker.output, f"{worker.name} ended with {code}:\n{worker.tail}"
        worker.start()

    def hunt(self, points: Sequence[str], *, meanwhile: Callable[[int], None]) -> None:
        """Start the workers, and have them die at these points of their code, often several at a time.

        Whoever dies is started again, to die at the next point. One that does not come to its point, because it has
        nothing to do, dies somewhere, and the point waits for another. ``meanwhile`` hears after each death how many
        there were.
        """
        left = list(reversed(points))
        hunted: dict[Worker, tuple[str, float]] = {}

        def start(worker: Worker) -> None:
            point = left.pop() if left else ""
            if point in POINTS:
                worker.start(HEADRACE_FAILPOINT=f"{point}:{self._random.randint(1, POINTS[point])}")
                hunted[worker] = point, time.monotonic() + HUNT_SECONDS_MAX
            else:
                worker.start()
            if point == SOMEWHERE:
                hunted[worker] = point, time.monotonic() + self._random.uniform(0, self._pause_max)

        for worker in self._workers:
            start(worker)
        while hunted:
            for worker, (point, until) in list(hunted.items()):
                if worker.alive and time.monotonic() < until:
                    continue
                where = SOMEWHERE if worker.alive else point
                worker.kill()
                assert worker.exit_code == -signal.SIGKILL, f"{worker.name} ended by itself:\n{worker.tail}"
                self.blows.append(Blow(time.monotonic(), where, worker.name))
                del hunted[worker]
                if where != point:
                    left.insert(0, point)
                start(worker)
                meanwhile(len(self.blows))
            time.sleep(0.02)

    def silences(self, seen: Tally) -> list[tuple[float, str]]:
        """Return how long a partition's outputs stayed away after the last blow before they came back."""
        found = []
        for partition, begin, end in seen.gaps:
            before = [blow for blow in self.blows if blow.at <= end]
            # Blows that fall into a silence prolong it, and the worker is not to blame for that.
            start = max(begin, before[-1].at) if before else begin
            found.append((end - start, f"partition {partition} was silent for {end - start:.1f} s after {before[-1:]}"))
        return sorted(found, reverse=True)

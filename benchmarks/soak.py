"""Millions of events while workers and the broker are killed and restarted (``make soak``).

What has to hold at the end: every event was scored once, and the workers have not grown. One worker is never
touched, so that it lives through everything that happens to the others and its memory, threads and files can be
judged over the whole run; two more are killed with -9 or told to go, at random, and started again; the broker is
restarted now and then, gently or not. The seed decides, and is printed.

    python benchmarks/soak.py --events 5000000
    python benchmarks/soak.py --seconds 600 --seed 7
"""

import argparse
import json
import os
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from faults.footprint import Footprint, footprint, growth
from faults.generator import Generator
from faults.nemesis import Nemesis
from faults.stage import Stage

from headrace.stream.broker import RealBroker

EVENTS = 5_000_000
RATE = 12_000  # leaves a machine with two cores room for the broker, the workers and the reader
SAMPLE_SECONDS = 1.0
CATCH_UP_SECONDS_MAX = 150.0  # from the last event sent to the last one seen
BACKLOG_MAX = 200_000  # events sent and not yet seen; the generator waits at more, for nobody's disk is endless

SETTLE_SECONDS_MAX = 120.0  # a client that was replaced while the broker was away may take a minute to end
# What counts as flat: memory over the second half of a run, threads and files from its beginning to its end.
# A process that leaks shows it many times over.
GROWTH_MAX = {"rss_kb": 24_000, "threads": 1.0, "files": 6.0}
COUNTED = ("threads", "files")


@dataclass
class Report:
    """What the run came to."""

    seed: int
    events: int = 0
    seconds: float = 0.0
    blows: dict[str, int] = field(default_factory=dict)
    grown: dict[str, float] = field(default_factory=dict)
    largest: dict[str, float] = field(default_factory=dict)
    judge_kb: int = 0
    problems: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        lines = [
            f"{self.events:,} events in {self.seconds:,.0f} s, seed {self.seed}",
            f"blows: {', '.join(f'{count} {what}' for what, count in sorted(self.blows.items())) or 'none'}",
        ]
        for name, limit in GROWTH_MAX.items():
            if name in self.grown:
                most = self.largest[name]
                lines.append(f"{name}: grew by {self.grown[name]:,.1f} (allowed {limit:,.0f}), at most {most:,.0f}")
        lines += self.problems or ["every event was scored once, and nothing grew"]
        return "\n".join(lines)


class Sampler:
    """Looks at one process every second, from a thread of its own."""

    def __init__(self, pid: int) -> None:
        self.looks: list[Footprint] = []
        self._pid = pid
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def stop(self) -> list[Footprint]:
        self._stopping.set()
        self._thread.join(10)
        return self.looks

    def _run(self) -> None:
        while not self._stopping.wait(SAMPLE_SECONDS):
            if look := footprint(self._pid):
                self.looks.append(look)


def soak(
    broker: RealBroker,
    folder: Path,
    *,
    events: int = EVENTS,
    seconds: float = float("inf"),
    seed: int = 1,
    rate: int = RATE,
    restarts: bool = True,
    say: Callable[[str], None] = lambda _: None,
) -> Report:
    """Run it on a broker that is there, and return what came of it. Stops at the first bound that is reached."""
    report = Report(seed)
    began = time.monotonic()
    with Stage(broker.address, folder, seed=seed) as stage:
        generator = stage.generator()
        live = stage.watch(generator.ledger)
        survivor, *victims = [stage.worker(name).start() for name in ("survivor", "second", "third")]
        for worker in (survivor, *victims):
            worker.wait_until_ready()
        sampler = Sampler(survivor.pid)
        generator.start(
            events, rate=rate, held_back=lambda: generator.ledger.outputs - live.tally.outputs > BACKLOG_MAX
        )
        nemesis = Nemesis(victims, seed=seed, pause_max=min(20.0, max(3.0, events / rate / 20)))
        hurt = Hurt(broker)

        def over() -> bool:
            assert survivor.alive, f"the worker that nobody touched ended with {survivor.exit_code}:\n{survivor.tail}"
            say(_progress(generator, live.tally.outputs, began))
            return not generator.running or time.monotonic() - began > seconds

        nemesis.rage(until=over, others={"broker restart": hurt.restart, "broker kill": hurt.kill} if restarts else {})
        ledger = generator.stop()
        stage.wait_for(ledger.outputs, CATCH_UP_SECONDS_MAX)
        _settle(sampler)
        looks = sampler.stop()
        report.events, report.seconds = ledger.outputs, time.monotonic() - began
        for blow in nemesis.blows:
            report.blows[blow.what] = report.blows.get(blow.what, 0) + 1
        try:
            stage.judge(ledger)
        except AssertionError as error:
            report.problems.append(str(error))
        _judge_growth(report, looks)
        own = footprint(os.getpid())
        report.judge_kb = own.rss_kb if own else 0
    return report


@dataclass(frozen=True)
class Hurt:
    """What can be done to a broker."""

    broker: RealBroker

    def restart(self) -> None:
        """Stop it as an operator would, and start it."""
        self.broker.stop()
        self.broker.start()

    def kill(self) -> None:
        """SIGKILL, and start it: it finds its log as the process left it."""
        self.broker.stop(hard=True)
        self.broker.start()


def _settle(sampler: Sampler) -> None:
    """Wait until what was started because of the blows has ended; what never ends is found by the judge."""
    deadline = time.monotonic() + SETTLE_SECONDS_MAX
    while time.monotonic() < deadline and any(_more(sampler.looks, name) > GROWTH_MAX[name] for name in COUNTED):
        time.sleep(SAMPLE_SECONDS)


def _more(looks: list[Footprint], name: str) -> float:
    """Return how many more there are at the end than there were in the first fifth of the run."""
    return getattr(looks[-1], name) - median(getattr(look, name) for look in looks[: max(3, len(looks) // 5)])


def _judge_growth(report: Report, looks: list[Footprint]) -> None:
    for name, limit in GROWTH_MAX.items():
        report.largest[name] = max(getattr(look, name) for look in looks)
        report.grown[name] = _more(looks, name) if name in COUNTED else growth(looks, name, warm_up=0.5)
        if report.grown[name] > limit:
            report.problems.append(f"{name} grew by {report.grown[name]:,.1f}, allowed {limit:,.0f}")


def _progress(generator: Generator, seen: int, began: float) -> str:
    now = time.monotonic() - began
    return f"{now:6,.0f} s  sent {generator.ledger.outputs:>10,}  scored {seen:>10,}  {seen / max(now, 1):8,.0f}/s"


@contextmanager
def _printer(every: float) -> Iterator[Callable[[str], None]]:
    last = [0.0]

    def say(line: str) -> None:
        if time.monotonic() - last[0] > every:
            last[0] = time.monotonic()
            print(line, flush=True)

    yield say


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--events", type=int, default=EVENTS, metavar="N", help="stop after so many (default: %(default)s)"
    )
    parser.add_argument("--seconds", type=float, default=float("inf"), metavar="N", help="stop after so many seconds")
    parser.add_argument("--rate", type=int, default=RATE, metavar="N", help="events per second (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=int(os.environ.get("HEADRACE_SEED", "1")), metavar="N")
    parser.add_argument("--json", action="store_true", help="print the report as JSON")
    given = parser.parse_args()
    print(f"HEADRACE_SEED={given.seed}", flush=True)
    with tempfile.TemporaryDirectory(prefix="headrace-soak-") as folder, RealBroker() as broker, _printer(10) as say:
        report = soak(
            broker, Path(folder), events=given.events, seconds=given.seconds, rate=given.rate, seed=given.seed, say=say
        )
    print(json.dumps(asdict(report)) if given.json else report)
    sys.exit(1 if report.problems else 0)


if __name__ == "__main__":
    main()

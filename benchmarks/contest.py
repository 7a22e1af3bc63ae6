"""One contestant, one measurement: started, watched from outside, stopped, and its outputs judged."""

import itertools
import json
import shutil
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import reader
import sender
from contestants import HERE, INPUT, SHORT_INPUT
from process import Child, Neighbours
from topics import OUTPUT, Topics

QUIET_SECONDS = 1.5  # with everything out, this long without a new record is the end
STALL_SECONDS_MAX = 60.0  # a contestant that starts, or goes on, later than this is taken as stopped
PROBES = 200  # events before a latency run; the first answer shows that the contestant is there
WARM_UP_SECONDS = 5.0
AHEAD_SECONDS = 5.0  # from the schedule to its start: the sender makes the events, and we what they must come to
PERCENTILES = (50, 99, 99.9)
_numbers = itertools.count(1)


@dataclass
class Arena:
    """What all measurements of a run share."""

    broker: str
    broker_pid: int
    topics: Topics
    out: Path
    seed: int
    seconds_max: float


class _Running:
    """A contestant at work, in names and folders that no other run has used."""

    def __init__(self, arena, contestant, python, kind):
        number = next(_numbers)
        self.group = f"bench-{number:03}"
        self.topic = f"predictions-{number:03}"
        arena.topics.create(self.topic, OUTPUT)
        self.state = Path(tempfile.mkdtemp(prefix="headrace-bench-"))
        command = contestant.command(
            python,
            broker=arena.broker,
            group=self.group,
            in_topic=SHORT_INPUT if contestant.slow and kind == "throughput" else INPUT,
            out_topic=self.topic,
            tuned_for=kind,
            state_dir=self.state,
        )
        self.started = time.monotonic()
        log = arena.out / "logs" / f"{number:03}-{kind}-{contestant.name}.log"
        self.child = Child(command, log, self.state)
        self.neighbours = Neighbours(arena.broker_pid, self.child)
        self._arena = arena

    def __enter__(self):
        return self

    def __exit__(self, *_error):
        self.child.stop()
        shutil.rmtree(self.state, ignore_errors=True)
        # Changelogs carry the name of the group; a few rounds of them fill a disk.
        self._arena.topics.drop(self.topic, *self._arena.topics.named_after(self.group))


def throughput(arena, contestant, python, sent):
    """Let the contestant work through the input topic as fast as it can.

    The rate is that of distinct predictions in its output topic, by the broker's clock. The contestant knows
    nothing of the measurement, and to watch it costs four small requests every quarter of a second.
    """
    with _Running(arena, contestant, python, "throughput") as run:
        problem = _until_all_is_out(arena, run, len(sent))
        cpu_seconds, memory_mib = run.child.usage()
        neighbours = run.neighbours.percent()
        stopped = run.child.stop()
        judge = reader.Judge(sent)
        reader.read_all(arena.broker, run.topic, judge)
        verdict = judge.close()
        first = min((moment for moment in judge.seen if moment), default=None)
        return {
            "rate": reader.steady_rate(judge.seen),
            "events": len(sent),
            "seconds_to_first": None if first is None else round(first - _epoch() - run.started, 2),
            "cpu_us_per_event": round(cpu_seconds / verdict.distinct * 1e6, 2) if verdict.distinct else None,
            "memory_mib": round(memory_mib),
            "neighbours_percent": neighbours,
            "stopped_when_asked": stopped,
            "verdict": verdict.as_dict(),
            "problem": problem,
        }


def latency(arena, contestant, python, rate, seconds):
    """Send events on a schedule that waits for nobody; see how late after it each prediction is readable."""
    arena.topics.drop(INPUT)
    arena.topics.create(INPUT)
    count, make = int(rate * (WARM_UP_SECONDS + seconds)), contestant.job.make
    probes = make(PROBES, arena.seed + 1)
    with _Running(arena, contestant, python, "latency") as run:
        output = reader.consumer(arena.broker, run.topic)
        problem = _until_it_answers(arena, run, output, probes)
        if problem:
            output.close()
            return {"rate": rate, "verdict": reader.Verdict(count, missing=count).as_dict(), "problem": problem}
        start, epoch = time.monotonic() + AHEAD_SECONDS, _epoch()
        load = Child(
            [
                sys.executable, HERE / "sender.py", "--broker", arena.broker, "--topic", INPUT,
                "--job", contestant.job.name, "--count", count, "--rate", rate, "--seed", arena.seed,
                "--start", start, "--epoch", epoch,
            ],
            run.child.log.with_suffix(".sender.log"),
            HERE,
        )  # fmt: skip
        at = sender.schedule(count, rate, start, epoch)
        judge = reader.Judge(make(count, arena.seed, at=at), before=probes)
        problem = _follow(run, output, judge, start + WARM_UP_SECONDS + seconds, epoch)
        output.close()
        load.wait(10)
        cpu_seconds, memory_mib = run.child.usage()
        verdict = judge.close()
        skipped = int(rate * WARM_UP_SECONDS)
        seen = np.array(judge.seen[skipped:])
        # A prediction that never came took for ever: it must push the percentiles up, not leave them.
        waited = np.where(seen > 0, (seen - at[skipped:]) * 1000, np.inf)
        return {
            "rate": rate,
            "events": len(waited),
            **{f"p{mark:g}_ms": _finite(np.percentile(waited, mark, method="higher")) for mark in PERCENTILES},
            "max_ms": _finite(waited.max()),
            "cpu_percent": round(cpu_seconds / (time.monotonic() - run.started) * 100, 1),
            "memory_mib": round(memory_mib),
            "neighbours_percent": run.neighbours.percent(),
            "sender": _last_json(load),
            "verdict": verdict.as_dict(),
            "problem": problem,
        }


def _until_all_is_out(arena, run, count):
    """Wait until the output topic holds ``count`` records and rests; return what went wrong, or None.

    Offsets count transaction markers too, so with transactions ``count`` is passed a little early; then the
    rest decides.
    """
    deadline = run.started + arena.seconds_max
    before, moved = -1, run.started
    while True:
        time.sleep(0.25)
        now, total = time.monotonic(), sum(arena.topics.ends(run.topic))
        if total != before:
            before, moved = total, now
        if total >= count and now - moved > QUIET_SECONDS:
            return None
        if run.child.ended is not None:
            return f"ended with {run.child.ended}: {run.child.tail()}"
        if now - moved > STALL_SECONDS_MAX:
            return f"no new output for {STALL_SECONDS_MAX:.0f} s: {run.child.tail()}"
        if now > deadline:
            return f"not done after {arena.seconds_max:.0f} s"


def _until_it_answers(arena, run, output, probes):
    """Send a few events until the first prediction comes back, then wait for the others."""
    arena.topics.fill(INPUT, probes)
    deadline = time.monotonic() + STALL_SECONDS_MAX
    answers = 0
    while answers < PROBES:
        if run.child.ended is not None:
            return f"ended with {run.child.ended}: {run.child.tail()}"
        if time.monotonic() > deadline:
            return f"answered {answers} of {PROBES} events within {STALL_SECONDS_MAX:.0f} s: {run.child.tail()}"
        answers += sum(message.error() is None for message in output.consume(PROBES, 0.1))
    return None


def _follow(run, output, judge, last_due, epoch):
    """Take predictions as they become readable, until all are there or none comes any more."""
    moved = time.monotonic()
    while judge.verdict.distinct < judge.verdict.expected:
        first = output.poll(0.1)
        now = time.monotonic()
        if first is None:
            if run.child.ended is not None:
                return f"ended with {run.child.ended}: {run.child.tail()}"
            if now > last_due and now - moved > STALL_SECONDS_MAX / 2:
                return None  # the verdict says how many are missing
            continue
        messages = [first, *output.consume(10_000, 0)]
        moved = time.monotonic()
        for message in messages:
            if message.error() is None:
                judge.take(message.key(), message.value(), moved + epoch)
    # A contestant that doubles does it now or never: look a moment longer.
    for message in output.consume(10_000, 0.5):
        if message.error() is None:
            judge.take(message.key(), message.value(), time.monotonic() + epoch)
    return None


def _epoch():
    """Return what turns the monotonic clock into wall-clock time."""
    return time.time() - time.monotonic()


def _finite(value):
    return round(float(value), 3) if np.isfinite(value) else None


def _last_json(child):
    try:
        return json.loads(child.tail(1))
    except ValueError:
        return {"problem": child.tail()}

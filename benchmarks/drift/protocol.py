"""How contestants are tuned and judged: everybody the same way, and nobody on what they were tuned on.

An alarm within ``rest`` events of the last one that counted is the same alarm. Before a change every alarm is false;
the first one after it, within the horizon, is the detection, and the run ends there.
"""

import gc
import resource
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np

from drift import changes as every_change
from drift.contestant import Contestant, Measured
from drift.worlds import ROWS, Columns, World

Make = Callable[[float, int], Contestant]  # from a knob and a seed

TUNING, QUIET, PRICED = 1_000_000, 2_000_000, 3_000_000  # where the seeds of each purpose begin; those of changes at 0
COPIES_MAX, GROWN_BYTES = 512, 32 * 2**20  # what was free before is used up first, so small copies have to be many


@dataclass(frozen=True)
class Form:
    """How much of everything. Counts are of events; those that a batch does not divide are not allowed."""

    rate: float = 1e-5  # of false alarms per event, which everybody is tuned to
    reference: int = 20_000
    lead: int = 20_000  # stationary, before a change
    horizon: int = 20_000  # after it
    rest: int = 1_000
    stretch: int = 100_000  # of one stationary run: every run has its own seed and reference
    tuning: int = 1_000_000
    quiet: int = 2_000_000
    seeds: int = 30
    steps: int = 10  # of the search for a knob
    priced: int = 50_000
    changes: tuple[str, ...] = tuple(every_change.BY_NAME)

    def scaled(self, share: float) -> "Form":
        """Return less of it, for a contestant that is slow: fewer events and seeds, and none shorter."""
        return Form(
            **{
                **vars(self),
                "tuning": _stretches(self, self.tuning * share),
                "quiet": _stretches(self, self.quiet * share),
                "seeds": max(2, round(self.seeds * share)),
                "priced": max(10 * ROWS, round(self.priced * share / ROWS) * ROWS),
            }
        )


def _stretches(form, count):
    # Fewer than would allow one false alarm tell nothing about the rate.
    return max(1, round(max(count, 1 / form.rate) / form.stretch)) * form.stretch


@dataclass
class Tuned:
    """The most sensitive knob with few enough false alarms; none, where even the least sensitive has too many."""

    knob: float | None
    events: int
    alarms: int
    allowed: int


@dataclass
class Outcome:
    """What became of one change."""

    change: str
    seed: int
    delay: int | None  # in events, from the first one that is changed to the alarm
    false_alarms: int


class Watch:
    """A contestant at work, with its place in the stream and what counts as one alarm."""

    def __init__(self, contestant: Contestant, form: Form):
        self.contestant, self.form = contestant, form
        self.at, self.last = 0, -form.rest

    def step(self, batch: Columns, change_at: int | None = None) -> list[int]:
        """Return the events of new alarms. What began before the change is over at the change."""
        found = []
        for place in self.contestant.update(batch):
            event = self.at + int(place)
            crossed = change_at is not None and self.last < change_at <= event
            if event - self.last >= self.form.rest or crossed:
                found.append(event)
                self.last = event
        self.at += ROWS
        return found

    def fork(self) -> "Watch":
        """Return another one that goes on from here by itself."""
        other = Watch(self.contestant.copy(), self.form)
        other.at, other.last = self.at, self.last
        return other


def started(contestant: Contestant, batches: Iterator[Columns], form: Form) -> Watch:
    """Show a contestant its reference."""
    contestant.fit(_joined(list(islice(batches, form.reference // ROWS))))
    return Watch(contestant, form)


def tune(make: Make, world: World, form: Form, seed: int = 0) -> Tuned:
    """Find the most sensitive knob whose false alarms on stationary runs are at most the common rate.

    What is measured needs one pass. Else the knob is searched for by halves, on a logarithmic scale, as if fewer
    alarms always came with a less sensitive one; a pass ends as soon as there are too many.
    """
    allowed = int(form.rate * form.tuning)
    probe = make(float("inf"), 0)
    if isinstance(probe, Measured):
        return _tune_measured(make, world, form, seed, allowed)
    sensitive, least = probe.knobs

    def alarms(knob):
        return false_alarms(make, knob, world, form, form.tuning, TUNING + seed, enough=allowed + 1)

    best = alarms(least)
    if best > allowed:
        return Tuned(None, form.tuning, best, allowed)
    if (count := alarms(sensitive)) <= allowed:
        return Tuned(sensitive, form.tuning, count, allowed)
    for _ in range(form.steps):
        middle = float(np.sqrt(sensitive * least))
        count = alarms(middle)
        if count <= allowed:
            least, best = middle, count
        else:
            sensitive = middle
    return Tuned(least, form.tuning, best, allowed)


def _tune_measured(make, world, form, seed, allowed):
    runs = []
    for number in range(form.tuning // form.stretch):
        batches = world.batches(TUNING + seed + number)
        contestant = started(make(float("inf"), TUNING + seed + number), batches, form).contestant
        run = []
        for at in range(0, form.stretch, ROWS):
            run += [(at + place, value) for place, value in contestant.measure(next(batches))]
        runs.append(run)
    values = np.unique([value for run in runs for _, value in run])
    # Just above each number that was met; the first of them with few enough alarms is the most sensitive.
    knobs = [float(np.nextafter(value, np.inf)) for value in values]
    low, high = 0, len(knobs) - 1
    while low < high:
        middle = (low + high) // 2
        if _counted(runs, knobs[middle], form.rest) <= allowed:
            high = middle
        else:
            low = middle + 1
    return Tuned(knobs[low], form.tuning, _counted(runs, knobs[low], form.rest), allowed)


def _counted(runs, knob, rest):
    count = 0
    for run in runs:
        last = -rest
        for event, value in run:
            if value >= knob and event - last >= rest:
                count, last = count + 1, event
    return count


def false_alarms(
    make: Make, knob: float, world: World, form: Form, events: int, first: int, enough: float = float("inf")
) -> int:
    """Return how many alarms there are on stationary runs; counting ends at ``enough``."""
    count = 0
    for number in range(events // form.stretch):
        batches = world.batches(first + number)
        watch = started(make(knob, first + number), batches, form)
        for batch in islice(batches, form.stretch // ROWS):
            count += len(watch.step(batch))
            if count >= enough:
                return count
    return count


def change_at(form: Form, seed: int) -> int:
    """Return the first event after the reference that is changed: never where a batch begins for all seeds."""
    return form.lead + int(np.random.default_rng([seed, 5]).integers(ROWS))


def changed(make: Make, knob: float, world: World, form: Form, seed: int) -> Iterator[Outcome]:
    """Yield what becomes of each kind of change in one stream: they share what was before them."""
    batches = world.batches(seed)
    watch = started(make(knob, seed), batches, form)
    false = sum(len(watch.step(batch)) for batch in islice(batches, form.lead // ROWS))
    at = change_at(form, seed)
    after = list(islice(batches, form.horizon // ROWS + 1))
    for name in form.changes:
        put = every_change.BY_NAME[name].begin(world, seed)
        one, more, delay = watch.fork(), 0, None
        for batch in after:
            since = np.arange(one.at, one.at + ROWS) - at
            alarms = one.step(put(batch, since), at)
            more += sum(event < at for event in alarms)
            delay = next((event - at for event in alarms if at <= event < at + form.horizon), None)
            if delay is not None:
                break
        yield Outcome(name, seed, delay, false + more)


def cost(make: Make, knob: float, world: World, form: Form) -> dict[str, float]:
    """Return microseconds of processor time per event that is looked at, and what it takes of memory."""
    batches = world.batches(PRICED)
    watch = started(make(knob, PRICED), batches, form)
    watch.step(next(batches))
    # The least of three parts: whatever else the machine does only ever adds.
    part, least = form.priced // ROWS // 3, float("inf")
    for _ in range(3):
        shown = list(islice(batches, part))
        began = time.process_time()
        for batch in shown:
            watch.step(batch)
        least = min(least, (time.process_time() - began) / (part * ROWS))
    process = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024  # before the copies
    gc.collect()
    before = _resident()
    copies = [watch.contestant.copy()]
    while len(copies) < COPIES_MAX and _resident() - before < GROWN_BYTES:
        copies.append(watch.contestant.copy())
    state = max(0, _resident() - before) / len(copies)
    return {
        "us_per_event": least * 1e6 / watch.contestant.reads,
        "state_kib": state / 1024,
        "process_mib": process,
    }


def stationary(make: Make, knob: float, world: World, form: Form, events: int, seed: int) -> int:
    """Return how many alarms there are on one long stationary run: every one, without any rest."""
    batches = world.batches(QUIET + seed)
    contestant = started(make(knob, QUIET + seed), batches, form).contestant
    return sum(len(contestant.update(batch)) for batch in islice(batches, events // ROWS))


def _resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def _joined(batches):
    return {name: np.concatenate([batch[name] for batch in batches]) for name in batches[0]}

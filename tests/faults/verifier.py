"""The judge: every event once, nothing else, in order, and nothing left open."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from faults import reader
from faults.ledger import Fate, Ledger
from faults.tally import EXAMPLES_MAX, Tally

_IS_SCORED = bytes(int(fate == Fate.SCORED) for fate in range(256))
_IS_DEAD = bytes(int(fate == Fate.DEAD) for fate in range(256))


class Unfaithful(AssertionError):
    """What came out is not what went in, with everything that is wrong about it."""

    def __init__(self, seed: int, problems: list[str]) -> None:
        self.problems = problems
        super().__init__("\n  ".join([f"not exactly once (HEADRACE_SEED={seed}):", *problems]))


@dataclass(frozen=True)
class Verifier:
    """Compares what was sent with what can be read back.

    It shares no code and no library with the workers: it reads with aiokafka, assigns itself its partitions,
    and takes nothing from a worker's word.
    """

    address: str
    topic: str
    predictions: str
    dead_letters: str
    group: str | None

    def judge(self, ledger: Ledger, live: Tally | None = None) -> Tally:
        """Raise `Unfaithful` with everything that is wrong, or return what was read."""
        seen = reader.read(self.address, Tally(ledger, self.predictions, self.dead_letters))
        problems = [*self.problems_of(seen), *self._open_transactions(), *self._offsets()]
        if live is not None:
            problems += _live_problems(live, seen)
        if problems:
            raise Unfaithful(ledger.seed, problems)
        return seen

    def problems_of(self, seen: Tally) -> Iterator[str]:
        """Yield what a reader would complain about."""
        ledger = seen.ledger
        yield from _compared("predictions", ledger, [c.translate(_IS_SCORED) for c in ledger.fates], seen.scored)
        yield from _compared("dead letters", ledger, [c.translate(_IS_DEAD) for c in ledger.fates], seen.dead)
        for oddity, examples in seen.odd.items():
            yield f"{seen.odd_count[oddity]} {oddity}: {_some(examples, seen.odd_count[oddity])}"

    def lag(self) -> dict[int, tuple[int, int]]:
        """Return committed offset and log end of each input partition where they differ."""
        assert self.group is not None
        done = reader.committed(self.address, self.group)
        end = reader.ends(self.address, [self.topic])
        return {tp.partition: (done.get(tp, 0), last) for tp, last in end.items() if done.get(tp, 0) != last}

    def _offsets(self) -> Iterator[str]:
        if self.group is not None:
            for partition, (done, end) in self.lag().items():
                yield f"partition {partition} of {self.topic} is committed up to {done}, and its log ends at {end}"

    def _open_transactions(self) -> Iterator[str]:
        topics = [self.predictions, self.dead_letters]
        stable = reader.ends(self.address, topics, isolation="read_committed")
        for tp, end in reader.ends(self.address, topics).items():
            if stable[tp] < end:
                yield f"a transaction is open in partition {tp.partition} of {tp.topic} from {stable[tp]} on"


def _compared(what: str, ledger: Ledger, wanted: list[bytes], found: list[bytearray]) -> Iterator[str]:
    lost, doubled, uncalled = [], [], []
    for partition, (want, have) in enumerate(zip(wanted, found, strict=True)):
        padded = bytes(have) + bytes(max(0, len(want) - len(have)))
        if padded == want:
            continue
        for sequence, times in enumerate(padded):
            name = f"{partition}-{sequence}"
            due = want[sequence] if sequence < len(want) else 0
            if due and not times:
                lost.append(f"{name} ({ledger.poisons[name].kind})" if name in ledger.poisons else name)
            elif due and times > 1:
                doubled.append(f"{name} ({times} times)")
            elif times and not due:
                fate = ledger.fates[partition][sequence] if sequence < len(want) else 0
                uncalled.append(f"{name} ({_fate(ledger, name, fate)})")
    for names, verdict in ((lost, "lost"), (doubled, "doubled"), (uncalled, "uncalled for")):
        if names:
            yield f"{len(names)} {what} {verdict}: {_some(names, len(names))}"


def _fate(ledger: Ledger, name: str, fate: int) -> str:
    if name in ledger.poisons:
        return f"a dead letter: {ledger.poisons[name].kind}"
    return Fate(fate).name.lower() if fate else "never sent"


def _live_problems(live: Tally, seen: Tally) -> Iterator[str]:
    for what, lived, read in (
        ("predictions", live.scored, seen.scored),
        ("dead letters", live.dead, seen.dead),
    ):
        twice, gone, missed = [], [], []
        for partition, (column, other) in enumerate(zip(lived, read, strict=True)):
            if column == other and max(column, default=0) <= 1:
                continue
            length = max(len(column), len(other))
            pairs = zip(column.ljust(length, b"\0"), other.ljust(length, b"\0"), strict=True)
            for sequence, (times, later) in enumerate(pairs):
                if times > 1:
                    twice.append(f"{partition}-{sequence}")
                elif times > later:
                    gone.append(f"{partition}-{sequence}")
                elif later > times:
                    missed.append(f"{partition}-{sequence}")
        for names, verdict in (
            (twice, "were seen twice by the live reader"),
            (gone, "were seen by the live reader and are not there any more"),
            (missed, "were not seen by the live reader"),
        ):
            if names:
                yield f"{len(names)} {what} {verdict}: {_some(names, len(names))}"


def _some(names: Iterable[str], count: int) -> str:
    kept = list(names)[:EXAMPLES_MAX]
    return ", ".join(kept) + (", ..." if count > len(kept) else "")

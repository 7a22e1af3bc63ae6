"""What stops a learner that has become worse than a model that does not learn, and lets it begin again."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, NamedTuple

import numpy as np

from headrace.models.memory import NEVER, Array, Floats
from headrace.models.mixer import SURE, losses

UNWORN = 1.0  # labels of each kind that the share of ones begins with


@dataclass(frozen=True)
class Brake:
    """Stops a learner that has become worse, takes it back to when it was good, and tries it again later.

    Labels are looked at in windows of ``of_last``, by the log losses of the scores that were published. A learner is
    *good* where its loss is at most that of the static model and ``margin`` of it besides, and lower than that of the
    share of ones so far by ``better`` of it. It is *bad* where one of the two does not hold by three standard errors.

    It begins on trial: it learns, and the static model's score counts alone, until the first window in which it is
    good. After a window in which it is bad it is as it was before the last window in which it was not, together with
    the combination, and nothing is learned from the next ``rest`` labels. Then it is on trial again.

    >>> Brake(margin=0.1, of_last=500).rest
    2000
    """

    margin: float = 0.1
    better: float = 0.05
    of_last: int = 500
    rest: int = 2_000

    def problems(self, kind: str, *, learns: bool, waits: bool) -> Iterator[str]:
        """Yield what is wrong with it, and with what it is to stop."""
        if not learns:
            yield "brake: there is no learner that it could stop; name one by online="
        elif kind != "binary":
            yield f"brake: it compares the log losses of a classifier of two classes, and this one's kind is {kind}"
        if not waits:
            yield "brake: it is for labels that have a topic of their own, and there are none"
        if not 0.0 <= self.margin < float("inf"):
            yield f"brake: margin={self.margin}: allowed are 0 and more, as it is a part of the static model's loss"
        if not 0.0 <= self.better < 1.0:
            yield f"brake: better={self.better}: allowed are 0 up to 1, as it is a part of a loss"
        if not self.of_last >= 30:
            yield f"brake: of_last={self.of_last}: allowed are 30 labels and more; fewer show nothing"
        if not self.rest >= 0:
            yield f"brake: rest={self.rest}: allowed are 0 labels and more"


class Phase(StrEnum):
    """What a learner is doing."""

    TRIAL = "trial"  # it learns, and does not count
    RUNNING = "running"
    RESTING = "resting"  # it neither learns nor counts


class Turn(NamedTuple):
    """A learner was stopped, or counts again."""

    number: int
    at: float
    raised: bool
    text: str
    effect: dict[str, float]  # the losses that it was told by
    worse_than: str = ""


class Braking:
    """A brake at work on one partition."""

    def __init__(self, brake: Brake, *, has_static: bool) -> None:
        self.fingerprint = f"{brake} {has_static}"
        self._brake, self._has_static = brake, has_static
        self.phase = Phase.TRIAL
        self.stops = 0
        self._resting = 0  # labels from which nothing will be learned
        self._sums = [0.0] * 8  # labels; losses of learner, static and baseline; two differences and their squares
        self._ones, self._known = 0, 0
        self._newest = self._since = NEVER  # of records; those that were scored before are not looked at on trial
        self._good: bytes | None = None
        self._next_good: bytes | None = None

    @property
    def holds(self) -> bool:
        """Say whether the learner does not count."""
        return self.phase is not Phase.RUNNING

    @property
    def teaches(self) -> bool:
        """Say whether labels teach."""
        return self.phase is not Phase.RESTING

    def take(self, labels: Floats, static: Floats, online: Floats, event_wrote: Floats, wrote: Floats) -> int:
        """Take labels in up to where it is to be decided, and return how many those are."""
        before = self._known + np.arange(len(labels))
        ones = self._ones + np.cumsum(labels) - labels
        shares = (ones + UNWORN) / (before + 2.0 * UNWORN)
        mine, usual = losses("binary", online, labels), losses("binary", shares, labels)
        theirs = losses("binary", static, labels) if self._has_static else usual
        # Of what was scored while the learner was bad nothing says how good it is now.
        compared = np.isfinite(mine) & np.isfinite(theirs) & (event_wrote >= self._since)
        many = self._until(compared)
        some = slice(0, many)
        for one in (event_wrote[some], wrote[some]):
            self._newest = max(self._newest, float(np.max(one, where=~np.isnan(one), initial=NEVER)))
        self._known, self._ones = self._known + many, self._ones + int(labels[some].sum())
        if self.phase is Phase.RESTING:
            self._resting -= many
            return many
        x, s, b = (column[some][compared[some]] for column in (mine, theirs, usual))
        ahead = [x - (1.0 + self._brake.margin) * s, x - (1.0 - self._brake.better) * b]
        for place, column in enumerate([np.ones(len(x)), x, s, b, *ahead, *(one * one for one in ahead)]):
            # One after the other, wherever a batch is cut.
            self._sums[place] = float(np.cumsum(np.concatenate([[self._sums[place]], column]))[-1])
        return many

    def _until(self, compared: Array) -> int:
        if self.phase is Phase.RESTING:
            return min(self._resting, len(compared))
        missing = self._brake.of_last - int(self._sums[0])
        places = np.flatnonzero(compared)
        return len(compared) if len(places) < missing else int(places[missing - 1]) + 1

    @property
    def due(self) -> bool:
        """Say whether it is to be decided."""
        if self.phase is Phase.RESTING:
            return self._resting == 0
        return self._sums[0] >= self._brake.of_last

    def decide(self, at: float, learned: Callable[[], bytes]) -> tuple[Turn | None, bytes | None]:
        """Go on from a window, where ``learned`` is what was learned; return what is told, and what is gone back to.

        ``at`` is when the last label was true.
        """
        phase, sums = self.phase, self._sums
        self._sums = [0.0] * 8
        if phase is Phase.RESTING:
            self.phase = Phase.TRIAL
            return None, None
        count, *_ = sums
        bad = [_surely_more(count, sums[4 + one], sums[6 + one]) for one in (0, 1)]
        if not self._has_static:
            bad[0] = False
        if phase is Phase.TRIAL:
            if (sums[4] > 0.0 and self._has_static) or sums[5] > 0.0:
                return None, None
            self.phase, self._good = Phase.RUNNING, learned()
            self._next_good = self._good
            return (self._turn(at, sums, raised=False) if self.stops else None), None
        if not any(bad):
            self._good, self._next_good = self._next_good, learned()
            return None, None
        self.stops += 1
        self.phase, self._resting, self._since = Phase.RESTING, self._brake.rest, self._newest
        if not self._resting:
            self.phase = Phase.TRIAL
        good, self._next_good = self._good, None
        return self._turn(at, sums, raised=True, than="static" if bad[0] else "baseline"), good

    def _turn(self, at: float, sums: list[float], *, raised: bool, than: str = "") -> Turn:
        count, mine, theirs, usual = sums[0], *(one / sums[0] for one in sums[1:4])
        effect = {"labels": count, "online_loss": mine, "baseline_loss": usual}
        if self._has_static:
            effect["static_loss"] = theirs
        said = f"its log loss over the last {count:.0f} labels is {mine:.4f}, "
        said += f"the static model's {theirs:.4f}, " if self._has_static else ""
        said += f"that of the share of ones {usual:.4f}"
        if not raised:
            return Turn(self.stops, at, raised, f"the learner is good again and counts: {said}", effect)
        after = f"it is as it was when it was good, and learns nothing from the next {self._brake.rest} labels"
        return Turn(self.stops, at, raised, f"the learner was stopped: {said}; {after}", effect, than)

    def begin_again(self) -> None:
        """Put a learner on trial that has just forgotten what it knew."""
        self.phase, self._resting, self._since = Phase.TRIAL, 0, self._newest
        self._sums = [0.0] * 8
        self._good = self._next_good = None

    def dump(self) -> dict[str, Any]:
        """Return all of it as plain data."""
        return {
            "fingerprint": self.fingerprint,
            "phase": self.phase.value,
            "stops": self.stops,
            "resting": self._resting,
            "sums": list(self._sums),
            "ones": self._ones,
            "known": self._known,
            "times": [self._newest, self._since],
            "good": [self._good, self._next_good],
        }

    def load(self, data: Mapping[str, Any]) -> None:
        """Take what ``dump`` returned; of another brake nothing."""
        if data["fingerprint"] != self.fingerprint:
            return
        self.phase, self.stops, self._resting = Phase(data["phase"]), data["stops"], data["resting"]
        self._sums, self._ones, self._known = list(data["sums"]), data["ones"], data["known"]
        self._newest, self._since = data["times"]
        self._good, self._next_good = data["good"]


def _surely_more(count: float, total: float, squares: float) -> bool:
    """Say whether a mean is above zero by three standard errors."""
    variance = squares / count - (total / count) ** 2
    return total > 0.0 and total * total > SURE * SURE * count * variance

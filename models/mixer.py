"""A combination at work on one partition: the weights of the two models, and what labels make of them."""

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from math import exp
from typing import Any, Protocol

import numpy as np

from headrace.models.measures import Kind, as_classes, as_columns, chances_of, given_in
from headrace.models.memory import Array, Floats

SURE = 3.0  # standard errors
_HEAD_START = 3.0  # of the static model, in nats: the learner begins with a weight of 0.05
_MOST = 100.0  # times what both models' squared errors have been: one label counts no more
_COMPARED_MAX = 1e100  # squared errors beyond it say nothing
_NEAREST = 1e-6  # a probability is never taken for nearer to zero or one: one label costs at most 14 nats

# A column of numbers; of a multiclass model a mapping from each class to a column of probabilities, or such a mapping
# for each row.
Scores = Any


class Learner(Protocol):
    """What a stacker learns with."""

    def predict(self, columns: Mapping[str, Floats]) -> Floats:
        """Return a score per row."""

    def learn(self, columns: Mapping[str, Floats], labels: Floats) -> None:
        """Take labels in, one after the other."""

    def dump(self) -> Any:
        """Return all of it as plain data."""

    def load(self, data: Any) -> None:
        """Take what ``dump`` returned."""


LearnerOf = Callable[[Any], Learner]


class Mixer(Protocol):
    """A combination at work on one partition.

    Both scores come as a column each, with NaN where a model has none; then the other one counts alone. ``groups`` is
    what each row has in the field that ``Combination.per`` names.
    """

    fingerprint: str  # a dump fits where it is the same

    def combined(self, static: Scores, online: Scores, groups: Sequence[Any] | None = None) -> tuple[Scores, Floats]:
        """Return the scores, and the weight of the learner in each. Changes nothing."""

    def learn(
        self, static: Scores, online: Scores, labels: Any, groups: Sequence[Any] | None = None, at: Any = None
    ) -> None:
        """Take in what was true of rows, one after the other: where a batch is cut does not show."""

    def followed(
        self, static: Scores, online: Scores, labels: Any, groups: Sequence[Any] | None = None, at: Any = None
    ) -> tuple[Scores, Floats]:
        """Return what ``combined`` does of rows, each before what is true of that row is taken in. NaN is not."""

    def report(self) -> dict[str, float | None]:
        """Say where it stands, for people and metrics."""

    def dump(self) -> dict[str, Any]:
        """Return all of it as plain data."""

    def load(self, data: Mapping[str, Any]) -> None:
        """Take what ``dump`` returned."""


class Weighing:
    """What all have: how many labels were learned, and what becomes of scores that have a weight."""

    def __init__(self, made_by: str, kind: Kind) -> None:
        self._kind = kind
        self._seen = 0
        self.fingerprint = hashlib.sha256(f"{made_by} {kind}".encode()).hexdigest()[:16]

    def _weights(self, count: int, groups: Sequence[Any] | None) -> Floats:
        raise NotImplementedError

    def learn(
        self, static: Scores, online: Scores, labels: Any, groups: Sequence[Any] | None = None, at: Any = None
    ) -> None:
        """Take in what was true of rows, one after the other."""
        raise NotImplementedError

    def combined(self, static: Scores, online: Scores, groups: Sequence[Any] | None = None) -> tuple[Scores, Floats]:
        """Return the scores, and the weight of the learner in each."""
        return self._mix(static, online, self._weights(_count(static, online), groups))

    def followed(
        self, static: Scores, online: Scores, labels: Any, groups: Sequence[Any] | None = None, at: Any = None
    ) -> tuple[Scores, Floats]:
        """Return scores and weights of rows, each as they are before what is true of that row is taken in."""
        return self._mix(static, online, self._weights_before(static, online, labels, groups, at))

    def _weights_before(
        self, static: Scores, online: Scores, labels: Any, groups: Sequence[Any] | None, at: Any
    ) -> Floats:
        """Take in what is true of rows, and return the weight that each had before."""
        weights = np.empty(len(labels))
        for row in range(len(labels)):
            some = slice(row, row + 1)
            group = None if groups is None else groups[some]
            weights[row] = self._weights(1, group)[0]
            if not np.isnan(labels[row]):
                self.learn(static[some], online[some], labels[some], group, None if at is None else at[some])
        return weights

    def _mix(self, static: Scores, online: Scores, weights: Floats) -> tuple[Scores, Floats]:
        count = _count(static, online)
        if self._kind == "multiclass":
            static, online = as_columns(static), as_columns(online)
        in_static, in_online = _there(static, count), _there(online, count)
        if not (in_static & in_online).all():
            weights = np.where(in_online, np.where(in_static, weights, 1.0), 0.0)
        if not isinstance(static, Mapping):
            return _mixed(static, online, weights), weights
        # A class that one of the models does not know has no chance with it.
        names = sorted({*static, *online}, key=repr)
        nothing = np.zeros(count)
        columns = {
            name: _mixed(np.nan_to_num(static.get(name, nothing)), np.nan_to_num(online.get(name, nothing)), weights)
            for name in names
        }
        neither = ~(in_static | in_online)
        if neither.any():
            columns = {name: np.where(neither, np.nan, column) for name, column in columns.items()}
        return columns, weights

    def _paired(self, static: Scores, online: Scores, labels: Any) -> tuple[Array, list[float], list[float]]:
        """Return which rows can be compared, and both losses of those."""
        mine, theirs = losses(self._kind, static, labels), losses(self._kind, online, labels)
        both = np.isfinite(mine) & np.isfinite(theirs)
        self._seen += int(both.sum())
        return both, mine[both].tolist(), theirs[both].tolist()

    def report(self) -> dict[str, float | None]:
        """Say where it stands."""
        return {"seen": float(self._seen), "weight": float(self._weights(1, None)[0])}

    def dump(self) -> dict[str, Any]:
        """Return all of it as plain data."""
        return {"fingerprint": self.fingerprint, "seen": self._seen}

    def load(self, data: Mapping[str, Any]) -> None:
        """Take what ``dump`` returned."""
        assert data["fingerprint"] == self.fingerprint, "whoever loads has compared them"
        self._seen = data["seen"]


class OneOfTwo(Weighing):
    """Always the same model, where it has a score."""

    def __init__(self, made_by: str, kind: Kind, *, online: bool) -> None:
        super().__init__(made_by, kind)
        self._online = online

    def _weights(self, count: int, groups: Sequence[Any] | None) -> Floats:  # noqa: ARG002
        # An anomaly detector learns without labels.
        learned = self._seen > 0 or self._kind == "anomaly"
        return np.full(count, float(self._online and learned))

    def _weights_before(
        self,
        static: Scores,  # noqa: ARG002
        online: Scores,
        labels: Any,
        groups: Sequence[Any] | None,  # noqa: ARG002
        at: Any,  # noqa: ARG002
    ) -> Floats:
        known = _there(online, len(labels)) & ~np.isnan(labels)
        before = self._seen + np.cumsum(known) - known
        self._seen += int(known.sum())
        weights: Floats = self._online * ((before > 0) | (self._kind == "anomaly")).astype(np.float64)
        return weights

    def learn(
        self,
        static: Scores,  # noqa: ARG002
        online: Scores,
        labels: Any,
        groups: Sequence[Any] | None = None,  # noqa: ARG002
        at: Any = None,  # noqa: ARG002
    ) -> None:
        """Take in what was true of rows, one after the other."""
        if self._kind == "multiclass":
            online = as_columns(online)
        self._seen += int(_there(online, len(labels)).sum())


class RecentLoss(Weighing):
    """Sums of losses that fade: the static model's, the learner's, their count, and what is left of the head start."""

    def __init__(self, made_by: str, kind: Kind, *, half_life: float, floor: float, per: bool, groups_max: int) -> None:
        super().__init__(made_by, kind)
        _check_loss(kind, "by_recent_loss")
        self._fade = 0.5 ** (1.0 / half_life)
        self._floor, self._groups_max = floor, groups_max
        self._by_group = per
        self._overall = [0.0, 0.0, 0.0, _HEAD_START]
        self._groups: OrderedDict[Any, list[float]] = OrderedDict()  # the one that had no label for longest comes first
        self._known: dict[Any, float] = {}  # weights that were computed since a label last changed them

    def _weights(self, count: int, groups: Sequence[Any] | None) -> Floats:
        if not self._by_group or groups is None:
            return np.full(count, self._weight(self._overall))
        known = self._known
        overall = self._weight(self._overall)
        for group in set(groups).difference(known):
            if group in self._groups:
                known[group] = self._weight(self._groups[group])
        return np.array([known.get(group, overall) for group in groups], np.float64)

    def _weight(self, sums: list[float]) -> float:
        static, online, count, head_start = sums
        if not count:
            return 0.0
        ahead = static - online
        if self._kind == "regression":
            ahead = count * ahead / (static + online) if static + online else 0.0
        weight = 1.0 / (1.0 + exp(min(head_start - ahead, 700.0)))
        return min(max(weight, self._floor), 1.0 - self._floor)

    def _weights_before(
        self, static: Scores, online: Scores, labels: Any, groups: Sequence[Any] | None, at: Any
    ) -> Floats:
        if self._by_group or self._kind != "binary":
            return super()._weights_before(static, online, labels, groups, at)
        both, mine, theirs = self._paired(static, online, labels)
        fade, weigh, losses = self._fade, self._weight, zip(mine, theirs, strict=True)
        sums, weights = self._overall, []
        for known in both.tolist():
            weights.append(weigh(sums))
            if known:
                x, y = next(losses)
                s, o, n, h = sums
                sums = [s * fade + x, o * fade + y, n * fade + 1.0, h * fade]
        self._overall = sums
        return np.array(weights, np.float64)

    def learn(
        self,
        static: Scores,
        online: Scores,
        labels: Any,
        groups: Sequence[Any] | None = None,
        at: Any = None,  # noqa: ARG002
    ) -> None:
        """Take in what was true of rows, one after the other."""
        both, mine, theirs = self._paired(static, online, labels)
        fade, bounded = self._fade, self._kind == "regression"
        keys = None
        if self._by_group and groups is not None:
            keys = [groups[row] for row in np.flatnonzero(both).tolist()]
        s, o, n, h = self._overall
        for row, (x, y) in enumerate(zip(mine, theirs, strict=True)):
            if bounded and s + o > 0.0:
                most = _MOST * (s + o) / n
                x, y = min(x, most), min(y, most)  # noqa: PLW2901
            if keys is not None:
                self._learn_of(keys[row], x, y, [s, o, n, h])
            s, o, n, h = s * fade + x, o * fade + y, n * fade + 1.0, h * fade
        self._overall = [s, o, n, h]

    def _learn_of(self, group: Any, x: float, y: float, overall: list[float]) -> None:
        s, o, n, h = self._groups.pop(group, overall)
        fade = self._fade
        self._groups[group] = [s * fade + x, o * fade + y, n * fade + 1.0, h * fade]
        self._known.pop(group, None)
        if len(self._groups) > self._groups_max:
            self._known.pop(self._groups.popitem(last=False)[0], None)

    def report(self) -> dict[str, float | None]:
        """Say where it stands."""
        s, o, n, _ = self._overall
        losses = {"static_loss": s / n if n else None, "online_loss": o / n if n else None}
        return {**super().report(), **losses, "groups": float(len(self._groups))}

    def dump(self) -> dict[str, Any]:
        """Return all of it as plain data."""
        sums = np.array(list(self._groups.values()), np.float64).reshape(-1, 4)
        return {**super().dump(), "overall": self._overall, "groups": list(self._groups), "sums": sums}

    def load(self, data: Mapping[str, Any]) -> None:
        """Take what ``dump`` returned."""
        super().load(data)
        self._overall = list(data["overall"])
        self._groups = OrderedDict(zip(data["groups"], data["sums"].tolist(), strict=True))
        self._known = {}


class Trial(Weighing):
    """Sums that fade: the static model's losses, the differences, their squares, the weights and their squares."""

    def __init__(self, made_by: str, kind: Kind, *, margin: float, least: int, half_life: float) -> None:
        super().__init__(made_by, kind)
        _check_loss(kind, "until_proven")
        self._fade = 0.5 ** (1.0 / half_life)
        self._margin, self._least = margin, least
        self._sums = [0.0] * 5
        self._proven = False
        self._changed = 0  # labels that were seen when it last changed
        self._changed_at: float | None = None

    def _weights(self, count: int, groups: Sequence[Any] | None) -> Floats:  # noqa: ARG002
        return np.full(count, float(self._proven))

    def learn(
        self,
        static: Scores,
        online: Scores,
        labels: Any,
        groups: Sequence[Any] | None = None,  # noqa: ARG002
        at: Any = None,
    ) -> None:
        """Take in what was true of rows, one after the other."""
        seen = self._seen
        both, mine, theirs = self._paired(static, online, labels)
        times = [None] * len(mine) if at is None else np.asarray(at, np.float64)[both].tolist()
        fade, s, g, q, n, m = self._fade, *self._sums
        squared, sure, bounded = fade * fade, SURE * SURE, self._kind == "regression"
        for x, y, time in zip(mine, theirs, times, strict=True):
            if bounded and s + s - g > 0.0:
                most = _MOST * (s + s - g) / n
                x, y = min(x, most), min(y, most)  # noqa: PLW2901
            d = x - y
            s, g, q, n, m = s * fade + x, g * fade + d, q * fade + d * d, n * fade + 1.0, m * squared + 1.0
            seen += 1
            if seen - self._changed < self._least:
                continue
            ahead = -g if self._proven else g - self._margin * s
            if ahead > 0.0 and ahead * ahead > sure * m * (q / n - (g / n) * (g / n)):
                self._proven, self._changed, self._changed_at = not self._proven, seen, time
        self._sums = [s, g, q, n, m]

    def report(self) -> dict[str, float | None]:
        """Say where it stands."""
        s, g, _, n, _ = self._sums
        return {
            **super().report(),
            "static_loss": s / n if n else None,
            "online_loss": (s - g) / n if n else None,
            "proven": float(self._proven),
            "since_label": float(self._changed),
            "since": self._changed_at,
        }

    def dump(self) -> dict[str, Any]:
        """Return all of it as plain data."""
        made = {"sums": self._sums, "proven": self._proven, "changed": self._changed, "changed_at": self._changed_at}
        return {**super().dump(), **made}

    def load(self, data: Mapping[str, Any]) -> None:
        """Take what ``dump`` returned."""
        super().load(data)
        self._sums, self._proven = list(data["sums"]), data["proven"]
        self._changed, self._changed_at = data["changed"], data["changed_at"]


class Stack(Weighing):
    """A learner that reads both scores."""

    def __init__(self, made_by: str, kind: Kind, learner: Learner, *, logits: bool, least: int) -> None:
        super().__init__(made_by, kind)
        if kind not in {"binary", "regression"}:
            raise ValueError(f"combine: a stacker reads one number of each model, and a {kind} model has no such one")
        self._learner, self._least = learner, least
        self._logits = logits and kind == "binary"

    def _weights(self, count: int, groups: Sequence[Any] | None) -> Floats:  # noqa: ARG002
        return np.full(count, np.nan if self._seen >= self._least else 0.0)

    def combined(self, static: Scores, online: Scores, groups: Sequence[Any] | None = None) -> tuple[Scores, Floats]:
        """Return the scores, and the weight of the learner in each."""
        alone, weights = super().combined(static, online, groups)
        rows = np.isfinite(static) & np.isfinite(online)
        if self._seen < self._least or not rows.any():
            return alone, weights
        scores = alone.copy()
        scores[rows] = self._learner.predict(self._columns(static, online, rows))
        # What it says may be no number yet, and the static model's is.
        failed = rows & ~np.isfinite(scores)
        return np.where(failed, static, scores), np.where(failed, 0.0, weights)

    def followed(
        self, static: Scores, online: Scores, labels: Any, groups: Sequence[Any] | None = None, at: Any = None
    ) -> tuple[Scores, Floats]:
        """Return scores and weights of rows, each as they are before what is true of that row is taken in."""
        scores, weights = np.empty(len(labels)), np.empty(len(labels))
        for row in range(len(labels)):
            some = slice(row, row + 1)
            (scores[row],), (weights[row],) = self.combined(static[some], online[some], groups)
            if not np.isnan(labels[row]):
                self.learn(static[some], online[some], labels[some], groups, at)
        return scores, weights

    def _columns(self, static: Floats, online: Floats, rows: Array) -> dict[str, Floats]:
        columns = {"static": static[rows], "online": online[rows]}
        if not self._logits:
            return columns
        return {name: _logit(column) for name, column in columns.items()}

    def learn(
        self,
        static: Scores,
        online: Scores,
        labels: Any,
        groups: Sequence[Any] | None = None,  # noqa: ARG002
        at: Any = None,  # noqa: ARG002
    ) -> None:
        """Take in what was true of rows, one after the other."""
        both, _, _ = self._paired(static, online, labels)
        if both.any():
            static, online = np.asarray(static, np.float64), np.asarray(online, np.float64)
            self._learner.learn(self._columns(static, online, both), np.asarray(labels, np.float64)[both])

    def report(self) -> dict[str, float | None]:
        """Say where it stands."""
        return {"seen": float(self._seen), "weight": None if self._seen >= self._least else 0.0}

    def dump(self) -> dict[str, Any]:
        """Return all of it as plain data."""
        return {**super().dump(), "learner": self._learner.dump()}

    def load(self, data: Mapping[str, Any]) -> None:
        """Take what ``dump`` returned."""
        super().load(data)
        self._learner.load(data["learner"])


def _check_loss(kind: Kind, name: str) -> None:
    if kind == "anomaly":
        raise ValueError(
            f"combine={name}: an anomaly score has no loss that could be compared; "
            "allowed are static_only and online_only"
        )


def _count(static: Scores, online: Scores) -> int:
    for scores in (static, online):
        if not isinstance(scores, Mapping):
            return len(scores)
        if scores:
            return len(next(iter(scores.values())))
    return 0


def _there(scores: Scores, count: int) -> Array:
    return given_in(scores, count) if isinstance(scores, Mapping) else np.isfinite(scores)


def _mixed(static: Floats, online: Floats, weights: Floats) -> Floats:
    with np.errstate(invalid="ignore"):
        made = (1.0 - weights) * static + weights * online
    # A weight of nothing does not make nothing of NaN.
    return np.where(weights == 0.0, static, np.where(weights == 1.0, online, made))


def _logit(p: Floats) -> Floats:
    near = np.clip(p, _NEAREST, 1.0 - _NEAREST)
    made: Floats = np.log(near / (1.0 - near))
    return made


def losses(kind: Kind, scores: Scores, labels: Any) -> Floats:
    """Return the loss of each row, and NaN where there is none."""
    if kind == "multiclass":
        true = as_classes(labels)
        scores = as_columns(scores)
        chance = np.clip(chances_of(scores, true), _NEAREST, 1.0 - _NEAREST)
        there = given_in(scores, len(true)) & np.array([one is not None for one in true.tolist()], bool)
        return np.where(there, -np.log(chance), np.nan)
    p, y = np.asarray(scores, np.float64), np.asarray(labels, np.float64)
    if kind == "regression":
        with np.errstate(over="ignore", invalid="ignore"):
            squares = (p - y) ** 2
            return np.where(squares <= _COMPARED_MAX, squares, np.nan)
    near = np.clip(p, _NEAREST, 1.0 - _NEAREST)
    return np.where((y == 0.0) | (y == 1.0), -np.log(np.where(y == 1.0, near, 1.0 - near)), np.nan)

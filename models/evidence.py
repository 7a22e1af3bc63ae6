"""How much speaks for a change: sums up what slices show, so that chance alone seldom reaches a bound, however long.

What is summed up are *e-values*: numbers that are one on the average, or less, as long as nothing has changed. Products
of them from every possible beginning on, added up, stay below ``n`` for ``n`` slices on the average, whatever is
looked at and for however long. So does a weighted mean over many series, and that is what bounds the false alarms of
all of them together.

References
----------
Shin, J., Ramdas, A., Rinaldo, A. (2022). E-detectors: a nonparametric framework for sequential change detection.
Neyman, J. (1937). Smooth test for goodness of fit.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np

from headrace.models.memory import Array, Floats, Ints
from headrace.models.reference import SCORES, Reference, correlations, whole_ranks

Kind = Literal["shift", "rare", "shape", "relation"]

EFFECTS = np.array([0.05, 0.1, 0.2, 0.4, 0.8])  # shifts of a score, in its own spread, that are looked for
ODDS = np.array([0.7, 1.5, 3.0, 6.0])  # by how much the log odds of what is rare may have risen
RELATIONS = np.array([0.06, 0.12, 0.25, 0.5])  # changes of a correlation
PRIORS = np.array([10.0, 100.0, 1_000.0])  # how close to the reference another shape may be
WINDOWS = (4, 16, 64)  # slices, in which a change of shape is looked for
KEPT = max(WINDOWS)
KEPT_PRODUCTS = 16
SURE = 2.0  # standard errors of the reference that are no change
SURE_OF_LASTING = 4.0  # where they are large because what is alike lasts: of many series some are as far out as that
WANDERS = 4.0  # times as far as means went by themselves from one part of the reference to the next is no change
COST_MOST = 1e6  # of an event, by logarithm: that of an effect that no event could pay for overflows
LEAST = 0.01  # and no shift smaller than this is one
RELATION_LEAST = 0.03
EVENTS_MIN = 50  # for a correlation
RARE_MOST = 0.5  # what more than so many events are is not rare
SHARES: dict[Kind, float] = {"shift": 0.45, "rare": 0.15, "shape": 0.2, "relation": 0.2}  # of the false alarms
SCORE_SHARES = np.array([0.4, 0.3, 0.15, 0.15])


class Found(NamedTuple):
    """Something that chance does not explain."""

    kind: Kind
    place: int  # of the series, or of the pair
    part: int  # which score or share
    sign: int
    strength: float  # natural logarithm of how many times the bound was exceeded
    age: int  # slices since it began, as far as can be told


class Effect(NamedTuple):
    """How large a change is over some slices, and how sure that is."""

    size: float
    error: float
    events: float


class Evidence:
    """What speaks for a change in a set of series, slice by slice.

    ``slices_per_alarm`` is after how many slices, on the average and at the least, a false alarm may come.
    """

    def __init__(
        self, reference: Reference, *, slices_per_alarm: float, related: Sequence[int] = (), share: float = 1.0
    ) -> None:
        self.reference = reference
        self.related = list(related) if reference.related is not None else []
        self._begins = reference.binner.begins
        self._series = len(reference.binner.series)
        self._bound = math.log(max(1.0, slices_per_alarm)) - math.log(share)
        first, second = np.triu_indices(len(self.related), 1)
        self.pairs = np.stack([first, second], axis=1)
        self._begin()
        self._recent: list[Ints] = []
        self._products: list[Array] = []
        self.slices = 0
        self._since = 0  # from which slice on a change of shape is looked for
        self._turned = 0  # and since when slices are of the same season
        # What goes together is counted by these, wherever what is usual goes.
        self._ranks = [whole_ranks(reference.scores[place]) for place in self.related]
        self._prepare()

    def refer(self, reference: Reference) -> None:
        """Compare with this from the next slice on: what is usual may change, if it does so before a slice is seen."""
        self.reference = reference
        self._prepare()

    def turn(self, reference: Reference) -> None:
        """Compare with this from the next slice on, and no slice from before with it: another season has come."""
        self.refer(reference)
        self._turned = self._since = self.slices

    def _begin(self) -> None:
        self.muted: dict[Kind, Array] = {
            "shift": np.zeros(self._series, np.bool_),
            "relation": np.zeros(len(self.pairs), np.bool_),
        }
        self._sums: dict[Kind, Floats] = {
            "shift": np.full((self._series, SCORES, 2, len(EFFECTS)), -np.inf),
            "rare": np.full((self._series, 2, len(ODDS)), -np.inf),
            "relation": np.full((len(self.pairs), 2, len(RELATIONS)), -np.inf),
        }
        self._ages: dict[Kind, Floats] = {name: np.zeros(one.shape) for name, one in self._sums.items()}
        self._heights: dict[Kind, Floats] = {name: np.zeros(one.shape) for name, one in self._sums.items()}

    def _prepare(self) -> None:
        reference, binner = self.reference, self.reference.binner
        self._scores = np.concatenate(reference.scores, axis=1)
        self._missing = np.array(self._begins[1:] - 1)
        self._by_mean = np.array([one.by_mean for one in binner.series])
        self._outside = np.zeros(binner.total, np.int64)
        for begin, one in zip(self._begins[:-1].tolist(), binner.series, strict=True):
            self._outside[[begin + place for place in one.outside]] = 1
        events = self._events(reference.counts)
        self._inflation = reference.inflation[:, :SCORES]
        sizes = np.maximum(events, 1.0)[:, None]
        self._spare = np.maximum(LEAST, _sure(self._inflation) * np.sqrt(self._inflation / sizes))
        self._spare = np.maximum(self._spare, WANDERS * reference.wander)
        self._usable = np.stack([np.any(one != 0, axis=1) for one in reference.scores])
        # log E exp(effect * score) of each score, both ways, under the reference: exact, and not only for the normal.
        self._costs = np.zeros((self._series, SCORES, 2, len(EFFECTS)))
        for place, score in enumerate(reference.scores):
            share = reference.shares(place)
            for way, sign in enumerate((1.0, -1.0)):
                with np.errstate(over="ignore"):
                    tilted = np.exp(sign * EFFECTS[None, :, None] * score[:, None, :-1])
                self._costs[place, :, way] = np.minimum(np.log((tilted * share).sum(axis=2)), COST_MOST)
        totals = np.array([reference.of(place).sum() for place in range(self._series)], np.float64)
        rare = np.stack([reference.counts[self._missing], self._add(reference.counts * self._outside)], axis=1)
        # What was hardly met may be more frequent than it was by chance.
        high = (rare + 4.0 + 4.0 * np.sqrt(rare + 1.0)) / np.maximum(totals, 1.0)[:, None]
        self._usual = np.clip(high, 1e-9, RARE_MOST)
        self._is_rare = high < RARE_MOST
        odds = np.log(self._usual / (1 - self._usual))[:, :, None] + ODDS
        self._risen = 1 / (1 + np.exp(-odds))
        self._rare_inflation = np.maximum(1.0, reference.inflation[:, SCORES:])
        self._prepare_shapes()
        if self.related:
            assert reference.related is not None
            assert reference.unrelated is not None
            at = self.pairs[:, 0], self.pairs[:, 1]
            self._usual_relation = np.arctanh(reference.related[at])
            self._relation_inflation = np.maximum(1.0, reference.unrelated[at])
            unsure = np.sqrt(self._relation_inflation / max(1, reference.events))
            self._relation_spare = np.maximum(RELATION_LEAST, _sure(self._relation_inflation) * unsure)
        lost = 0.0 if len(self.pairs) else SHARES["relation"]
        part = {name: math.log(one / (1 - lost)) for name, one in SHARES.items()}
        usable = max(1, int(self._usable.any(axis=1).sum()))
        self._shift_bounds = self._bound - part["shift"] + np.log(2 * usable / SCORE_SHARES)[None, :, None]
        self._rare_bound = self._bound - part["rare"] + math.log(2 * self._series)
        looks = sum(1 / _pause(window) for window in WINDOWS)
        self._shape_bound = self._bound - part["shape"] + math.log(self._series * looks)
        self._relation_bound = self._bound - part["relation"] + math.log(2 * max(1, len(self.pairs)))

    def _add(self, values: Array) -> Array:
        """Add up the bins of each series."""
        made: Array = np.add.reduceat(values, self._begins[:-1], axis=-1)
        return made

    def _events(self, counts: Array) -> Floats:
        """Return how many values of each series are not missing."""
        made: Floats = (self._add(counts) - counts[..., self._missing]).astype(np.float64)
        return made

    # What comes.

    def step(self, counts: Ints, products: Array | None = None) -> list[Found]:
        """Take a slice in; return what is found, the strongest first. Whoever opens an alert for it mutes it."""
        self.slices += 1
        self._recent = [*self._recent[-KEPT + 1 :], counts]
        if products is not None and self.related:
            self._products = [*self._products[-KEPT_PRODUCTS + 1 :], products]
        found = [*self._shifted(counts), *self._rarer(counts), *self._shaped()]
        if products is not None and self.related:
            found += self._related(counts, products)
        return sorted(found, key=lambda one: (-one.strength, one))

    def _follow(self, kind: Kind, gains: Floats) -> Floats:
        """Add the gains of a slice to the sums from every beginning; return their logarithms, a mean over effects."""
        sums = self._sums[kind]
        sums[:] = np.logaddexp(0.0, sums) + gains
        heights, ages = self._heights[kind], self._ages[kind]
        heights += gains
        ages += 1
        low = heights <= 0.0
        heights[low] = 0.0
        ages[low] = 0.0
        top = sums.max(axis=-1)
        made: Floats = top + np.log(np.exp(sums - top[..., None]).mean(axis=-1))
        return made

    def _shifted(self, counts: Ints) -> list[Found]:
        events = self._events(counts)
        sums = self._add(self._scores * counts).T  # a row per series
        ways = np.stack([sums, -sums], axis=2) - (events[:, None] * self._spare)[:, :, None]
        gains = EFFECTS * ways[..., None] - events[:, None, None, None] * self._costs
        strength = self._follow("shift", gains / self._inflation[:, :, None, None]) - self._shift_bounds
        strength[~self._usable] = -np.inf
        strength[self.muted["shift"]] = -np.inf
        return [self._found("shift", *at.tolist(), strength=strength) for at in np.argwhere(strength > 0)]

    def _rarer(self, counts: Ints) -> list[Found]:
        totals = self._add(counts).astype(np.float64)
        rare = np.stack([counts[self._missing], self._add(counts * self._outside)], axis=1).astype(np.float64)
        usual = self._usual[:, :, None]
        rest = totals[:, None] - rare
        gains = rare[:, :, None] * np.log(self._risen / usual)
        gains += rest[:, :, None] * np.log((1 - self._risen) / (1 - usual))
        strength = self._follow("rare", gains / self._rare_inflation[:, :, None]) - self._rare_bound
        strength[self.muted["shift"]] = -np.inf
        strength[~self._is_rare] = -np.inf
        return [
            Found("rare", place, part, 1, float(strength[place, part]), self._age("rare", place, part))
            for place, part in np.argwhere(strength > 0).tolist()
        ]

    def _shaped(self) -> list[Found]:
        best = np.full(self._series, -np.inf)
        age = np.zeros(self._series)
        for window in WINDOWS:
            if self.slices % _pause(window) or self.slices - self._since < window:
                continue
            strength = self._shape(self.window(window)) - self._shape_bound
            better = strength > best
            best[better], age[better] = strength[better], window
        best[self.muted["shift"] | self._by_mean] = -np.inf
        return [
            Found("shape", place, 0, 1, float(best[place]), int(age[place]))
            for place in np.flatnonzero(best > 0).tolist()
        ]

    def _shape(self, counts: Ints) -> Floats:
        """Return how much better another distribution explains the counts than that of the reference does.

        Both are uncertain: the reference is what it was counted to be, and others are drawn around it, closer or not.
        """
        here = counts / self._shape_sizes
        here[self._missing] = 0.0
        each = log_gamma((self._weights + here).ravel()).reshape(self._weights.shape)
        each[:, self._missing] = 0.0
        events = self._add(here)
        ends = log_gamma((self._weight_totals + events).ravel()).reshape(self._weight_totals.shape)
        likely = self._add(each) - self._weight_gammas - ends + self._weight_total_gammas
        others = likely[1:] - likely[0]
        top = others.max(axis=0)
        made: Floats = top + np.log(np.exp(others - top).mean(axis=0))
        return made

    def _prepare_shapes(self) -> None:
        """Lay out what a shape is compared with: the reference as it was counted, and what is around it."""
        places = range(self._series)
        # A reference whose means go so far by themselves is as one of fewer events.
        wanders = self._events(self.reference.counts) * (self.reference.wander**2).max(axis=1)
        self._shape_sizes = np.repeat(np.maximum(self._inflation.max(axis=1), wanders), np.diff(self._begins))
        share = np.concatenate([np.append(self.reference.shares(place), 1.0) for place in places])
        usual = self.reference.counts / self._shape_sizes + 0.5
        self._weights = np.stack([usual, *(prior * share for prior in PRIORS)])
        self._weights[:, self._missing] = 1.0  # which has no say
        gammas = log_gamma(self._weights.ravel()).reshape(self._weights.shape)
        gammas[:, self._missing] = 0.0
        self._weight_gammas = self._add(gammas)
        self._weight_totals = self._add(self._weights) - 1.0
        self._weight_total_gammas = log_gamma(self._weight_totals.ravel()).reshape(self._weight_totals.shape)

    def _related(self, counts: Ints, products: Array) -> list[Found]:
        events = float(counts[self._begins[0] : self._begins[1]].sum())
        if events < EVENTS_MIN:
            return []
        now = np.arctanh(self._relation(counts, products))
        off = now - self._usual_relation
        ways = np.stack([off, -off], axis=1) - self._relation_spare[:, None]
        gains = events * (RELATIONS * ways[..., None] - RELATIONS**2 / 2) / self._relation_inflation[:, None, None]
        strength = self._follow("relation", gains) - self._relation_bound
        strength[self.muted["relation"]] = -np.inf
        return [
            Found("relation", place, 0, 1 - 2 * way, float(strength[place, way]), self._age("relation", place, way))
            for place, way in np.argwhere(strength > 0).tolist()
        ]

    def _relation(self, counts: Ints, products: Array) -> Floats:
        all_pairs = correlations(products, counts, self.reference.binner, self._ranks, self.related)
        made: Floats = all_pairs[self.pairs[:, 0], self.pairs[:, 1]]
        return made

    def _found(self, kind: Kind, place: int, part: int, way: int, *, strength: Floats) -> Found:
        return Found(
            kind, place, part, 1 - 2 * way, float(strength[place, part, way]), self._age(kind, place, part, way)
        )

    def _age(self, kind: Kind, *at: int) -> int:
        heights, ages = self._heights[kind][at], self._ages[kind][at]
        return max(1, int(ages[int(np.argmax(heights))]))

    # What is asked.

    def window(self, slices: int) -> Ints:
        """Return the counts of the last slices together."""
        made: Ints = np.sum(self._recent[-min(slices, self._alike) :], axis=0)
        return made

    @property
    def _alike(self) -> int:
        """How many of the last slices are of the same season."""
        return max(1, self.slices - self._turned)

    def effect(self, found: Found, slices: int) -> Effect:
        """Return how large a change is over the last slices."""
        counts = self.window(min(slices, len(self._recent)))
        if found.kind == "relation":
            slices = min(slices, len(self._products), self._alike)
            counts = self.window(slices)
            events = float(counts[self._begins[0] : self._begins[1]].sum())
            now = np.arctanh(self._relation(counts, np.sum(self._products[-slices:], axis=0))[found.place])
            error = math.sqrt(self._relation_inflation[found.place] / max(1.0, events))
            return Effect(float(now - self._usual_relation[found.place]) * found.sign, error, events)
        begin, end = self._begins[found.place], self._begins[found.place + 1]
        mine = counts[begin:end]
        if found.kind == "shift":
            events = float(mine[:-1].sum())
            size = float(self.reference.scores[found.place][found.part] @ mine) * found.sign / max(1.0, events)
            return Effect(size, math.sqrt(self._inflation[found.place, found.part] / max(1.0, events)), events)
        events = float(mine.sum())
        if found.kind == "rare":
            outside = self._outside[begin:end]
            rare = float(mine[-1] if found.part == 0 else mine @ outside)
            usual = float(self._usual[found.place, found.part])
            error = math.sqrt(self._rare_inflation[found.place, found.part] * usual / max(1.0, events))
            return Effect(rare / max(1.0, events) - usual, error, events)
        share = self.reference.shares(found.place)
        here = mine[:-1] / max(1, mine[:-1].sum())
        chance = (len(share) - 1) * float(self._inflation[found.place].max()) / max(1.0, events)
        size = float(((here - share) ** 2 / share).sum()) - chance
        return Effect(size, chance, events)

    def mute(self, found: Found, *, muted: bool = True) -> None:
        """Look for nothing in what has an alert already; when that is over, begin anew."""
        kind: Kind = "relation" if found.kind == "relation" else "shift"
        self.muted[kind][found.place] = muted
        for name in ("relation",) if kind == "relation" else ("shift", "rare"):
            self._sums[name][found.place] = -np.inf  # type: ignore[index]
            self._heights[name][found.place] = self._ages[name][found.place] = 0.0  # type: ignore[index]

    def begin_again(self) -> None:
        """Forget what speaks for a change by now: a change is over, and what it left behind is none."""
        for kind, sums in self._sums.items():
            sums[:] = -np.inf
            self._heights[kind][:] = self._ages[kind][:] = 0.0
        self._since = self.slices

    def dump(self) -> dict[str, Any]:
        """Return what was summed up as plain data; the reference is kept elsewhere."""
        return {
            "muted": {name: one.astype(np.int8) for name, one in self.muted.items()},
            "sums": dict(self._sums),
            "ages": dict(self._ages),
            "heights": dict(self._heights),
            "recent": list(self._recent),
            "products": [one.astype(np.float64) for one in self._products],
            "slices": [self.slices, self._since],
            **({"turned": self._turned} if self._turned else {}),
        }

    def load(self, data: Mapping[str, Any]) -> None:
        """Take what ``dump`` returned."""
        self.muted = {name: one.astype(np.bool_) for name, one in data["muted"].items()}
        for name in self._sums:
            self._sums[name] = data["sums"][name].copy()
            self._ages[name] = data["ages"][name].copy()
            self._heights[name] = data["heights"][name].copy()
        self._recent = [one.copy() for one in data["recent"]]
        self._products = [one.copy() for one in data["products"]]
        self.slices, self._since = data["slices"]
        self._turned = data.get("turned", 0)


def _sure(inflation: Floats) -> Floats:
    return np.where(inflation > 1, SURE_OF_LASTING, SURE)


def _pause(window: int) -> int:
    """Return how many slices pass between two looks at a window: a look at nearly the same would show the same."""
    return max(1, window // 4)


def log_gamma(values: Floats) -> Floats:
    """Return the logarithm of the gamma function of positive numbers, to about twelve digits.

    >>> log_gamma(np.array([1.0, 5.0, 0.5, 30.25])).round(6).tolist()
    [-0.0, 3.178054, 0.572365, 72.104205]
    >>> [round(math.lgamma(one), 6) for one in (1.0, 5.0, 0.5, 30.25)]
    [0.0, 3.178054, 0.572365, 72.104205]
    """
    product = np.ones(len(values))
    for step in range(7):
        product *= values + step
    x = values + 7.0
    inverse = 1.0 / x
    series = inverse * (1 / 12 - inverse**2 * (1 / 360 - inverse**2 * (1 / 1260 - inverse**2 / 1680)))
    with np.errstate(over="ignore"):
        made: Floats = (x - 0.5) * np.log(x) - x + 0.5 * math.log(2 * math.pi) + series - np.log(product)
    # Of large numbers the product overflows; they need no shift.
    large = values > 1e6
    if large.any():
        y = values[large]
        made[large] = (y - 0.5) * np.log(y) - y + 0.5 * math.log(2 * math.pi) + 1 / (12 * y)
    return made

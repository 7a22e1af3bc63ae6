"""What is usual: how often each bin was met, how much that varies from slice to slice, and what goes together."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from headrace.models.bins import Binner, Bins
from headrace.models.memory import Array, Floats, Ints

SCORES = 4  # of a distribution's shape: where it is, how wide, how lopsided, how heavy its ends
RARE = 2  # and the shares of what is missing, and of what was never met
SLICES_MIN = 8  # with fewer nobody can tell how much slices vary
SCORE_MOST = 8.0  # of two that are rarely not alike, some events make any correlation
RARE_MIN = 30  # of what is rare, to tell how much it varies
UNSURE = 1.5  # by how much they may vary more than independent events would, where that is not known
CERTAIN = 6.0  # standard deviations that are none, because there are many series, pairs and points in time
NEIGHBOURS_MOST = 0.9  # more, and a series that goes up and down with the hours would be left alone
SCALE = 8  # of the whole numbers that stand for ranks where it is asked what goes together


class Reference:
    """What some slices of a stream, in which all was well, say about its series.

    ``scores`` are functions of the bin that are zero on the average and vary by one: orthonormal polynomials of the
    rank, of which the first is where a value lies, the second how far out; where the mean is what matters, the first is
    the value itself, and there is no other. A shift in any of them is a shift of the
    sum over the events of a slice, and ``inflation`` says how many times more those sums vary than they would if
    events were independent: events that resemble their neighbours count for less. ``wander`` says how far their means
    go by themselves from one part of the time to the next; a shift no larger than some of that is none.

    >>> one = Bins.of_values("amount", np.arange(1000.0), bins_max=4)
    >>> binner = Binner([one])
    >>> rows = np.stack([binner.count(binner.bin([np.arange(1000.0)])) for _ in range(10)])
    >>> usual = Reference.learn(binner, rows)
    >>> usual.events, usual.scores[0][0].round(2).tolist()
    (10000, [-1.79, -1.34, -0.45, 0.44, 1.34, 1.79, 0.0])
    """

    def __init__(
        self,
        binner: Binner,
        counts: Ints,
        inflation: Floats,
        *,
        slices: int,
        related: Floats | None = None,
        unrelated: Floats | None = None,
        wander: Floats | None = None,
    ) -> None:
        self.binner = binner
        self.counts = np.asarray(counts, np.int64)
        self.inflation = np.asarray(inflation, np.float64)  # a row per series, a column per score and rare share
        self.slices = slices
        self.related = related  # correlations of ranks, of the series that were asked for
        self.unrelated = unrelated  # how many times more they vary than those of independent events
        still = np.zeros((len(binner.series), SCORES))
        self.wander = (
            still if wander is None else np.asarray(wander, np.float64)
        )  # a row per series, a column per score
        self.scores = [self._scores(place) for place in range(len(binner.series))]

    @property
    def events(self) -> int:
        """How many events it is made of."""
        first = self.binner.series[0].count
        return int(self.counts[:first].sum())

    def of(self, place: int) -> Ints:
        """Return how often each bin of a series was met."""
        made: Ints = self.counts[self.binner.begins[place] : self.binner.begins[place + 1]]
        return made

    def shares(self, place: int) -> Floats:
        """Return the share of each bin among the values that are not missing, none of them zero."""
        counts = self.of(place)[:-1] + 0.5 * (self.of(place)[:-1] == 0)
        made: Floats = counts / counts.sum()
        return made

    def chance(self, place: int, totals: Array) -> Floats:
        """Return up to which PSI chance alone may bring so many values of a series.

        On the average that is the number of bins, less one, over the number of values, and more where the scores of
        the reference vary more than those of independent events would; some standard deviations are added to it.
        """
        before = self.of(place)
        free = max(1, len(before) - 1)
        varies = np.maximum(1.0, self.inflation[place, : min(SCORES, free)])
        mean, square = free + (varies - 1).sum(), free + (varies**2 - 1).sum()
        noise = float(mean + CERTAIN * np.sqrt(2 * square))
        made: Floats = noise * (1 / np.maximum(1, totals) + 1 / max(1, int(before.sum())))
        return made

    def relatable(self, place: int) -> bool:
        """Say whether it can be told how a series goes together with others: not if hardly an event is not alike."""
        score = self.scores[place][0][self.of(place) > 0]
        return bool(score.any()) and float(np.abs(score).max()) <= SCORE_MOST

    def _scores(self, place: int) -> Floats:
        share, one = self.shares(place), self.binner.series[place]
        ranks = one.middles[:-1] if one.by_mean else np.cumsum(share) - share / 2
        made = np.zeros((SCORES, len(share) + 1))
        known = int(np.count_nonzero(self.of(place)[:-1]))
        columns = [np.ones(len(share))]
        for degree in range(1, min(1 if one.by_mean else SCORES, known - 1) + 1):
            raw = (2 * ranks - 1) ** degree
            for _ in range(2):  # once more takes away what rounding left
                for other in columns:
                    raw = raw - (share * raw * other).sum() * other
            size = math.sqrt((share * raw * raw).sum())
            if size < 1e-6:
                break
            columns.append(raw / size)
            made[degree - 1, :-1] = columns[-1]
        return made

    @classmethod
    def learn(
        cls, binner: Binner, rows: Array, products: Sequence[Array] = (), related: Sequence[int] = (), *, parts: int = 0
    ) -> "Reference":
        """Learn what is usual from slices: the counts of each, and the sums of products of whole-number ranks.

        With ``parts`` it is learned too how far means wander between so many parts of the slices.
        """
        counts = rows.sum(axis=0)
        inflation = np.ones((len(binner.series), SCORES + RARE))
        plain = cls(binner, counts, inflation, slices=len(rows))
        for place, score in enumerate(plain.scores):
            some = rows[:, binner.begins[place] : binner.begins[place + 1]]
            events = some[:, :-1].sum(axis=1)
            there = events > 0
            if not there.any():
                continue  # nobody has said anything of it
            sums = some[there] @ score.T
            varied = [sums / np.sqrt(events[there, None])]
            for rare in (some[:, -1], some[:, binner.series[place].outside].sum(axis=1)):
                share = rare.sum() / max(1, some.sum())
                expected = some.sum(axis=1) * share
                enough = rare.sum() >= RARE_MIN
                off = (rare - expected)[there] / np.sqrt(expected * (1 - share) + 1e-9)[there]
                varied.append((off if enough and share < 1 else np.zeros_like(off))[:, None])
            inflation[place] = _inflation(np.concatenate(varied, axis=1))
            if not varied[-1].any():  # too rare to tell: it resembles its neighbours as the rest does
                inflation[place, -1] = inflation[place].max()
        wander = plain._wander(rows, parts) if parts else None
        if not len(products):
            return cls(binner, counts, inflation, slices=len(rows), wander=wander)
        ranks = [whole_ranks(plain.scores[place]) for place in related]
        each = np.stack(
            [correlations(product, row, binner, ranks, related) for product, row in zip(products, rows, strict=True)]
        )
        usual = correlations(np.sum(products, axis=0), counts, binner, ranks, related)
        events = rows[:, : binner.series[0].count].sum(axis=1)
        varied = np.sqrt(events)[:, None, None] * (np.arctanh(each) - np.arctanh(usual))
        return cls(binner, counts, inflation, slices=len(rows), related=usual, unrelated=_inflation(varied))

    def _wander(self, rows: Array, parts: int) -> Floats:
        """Return by how much the means of parts of the slices differ: a standard deviation for each score."""
        cuts = np.linspace(0, len(rows), parts + 1).astype(int)[:-1]
        sums = np.add.reduceat(rows, cuts, axis=0)
        made = np.zeros((len(self.scores), SCORES))
        for place, score in enumerate(self.scores):
            some = sums[:, self.binner.begins[place] : self.binner.begins[place + 1]]
            events = some[:, :-1].sum(axis=1)
            some, events = some[events > 0], events[events > 0]
            if len(some) > 1:
                made[place] = (some @ score.T / events[:, None]).std(axis=0, ddof=1)
        return made

    def dump(self) -> dict[str, Any]:
        """Return it as plain data that a person can read."""
        data: dict[str, Any] = {"slices": self.slices, "series": {}}
        for place, one in enumerate(self.binner.series):
            data["series"][one.name] = {
                **one.dump(),
                "counts": self.of(place).tolist(),
                "inflation": self.inflation[place].tolist(),
                **({"wander": self.wander[place].tolist()} if self.wander[place].any() else {}),
            }
        if self.related is not None and self.unrelated is not None:
            data["related"] = {"usual": self.related.tolist(), "inflation": self.unrelated.tolist()}
        return data

    @classmethod
    def load(cls, data: Mapping[str, Any]) -> "Reference":
        """Make it again from what ``dump`` returned."""
        series = data["series"]
        binner = Binner([Bins.load(name, one) for name, one in series.items()])
        counts = np.concatenate([np.array(one["counts"], np.int64) for one in series.values()])
        related = data.get("related")
        return cls(
            binner,
            counts,
            np.array([one["inflation"] for one in series.values()]),
            slices=data["slices"],
            related=None if related is None else np.array(related["usual"]),
            unrelated=None if related is None else np.array(related["inflation"]),
            wander=np.array([one.get("wander", [0.0] * SCORES) for one in series.values()]),
        )


def _inflation(varied: Floats) -> Floats:
    """Return how much more sums over slices vary than those of independent events would, if that is more than chance.

    What is given varies by one, slice by slice, where events are independent. They may resemble each other within a
    slice, and slices the one before: what lasts for longer than a slice adds up.
    """
    slices, spread = len(varied), (varied**2).mean(axis=0)
    if slices < SLICES_MIN:
        unsure: Floats = np.maximum(spread, UNSURE)
        return unsure
    neighbours = _neighbours(varied)
    # Slices that resemble each other say less about how much they vary.
    chance = np.sqrt(2 / slices * (1 + neighbours**2) / (1 - neighbours**2))
    known = np.where((spread > 1 + chance) | (neighbours > 0), np.maximum(1, spread * (1 + chance)), 1.0)
    # What follows the neighbour is taken to resemble less and less, by the powers.
    made: Floats = known * (1 + neighbours) / (1 - neighbours)
    return made


def _neighbours(varied: Floats) -> Floats:
    """Return the correlation of slices with the one before them, zero where it may well be chance.

    Of few slices it comes out too small; that is put right, and one standard error is added.

    References
    ----------
    Andrews, D., Monahan, J. (1992). An improved heteroskedasticity and autocorrelation consistent covariance matrix
    estimator.
    Kendall, M. (1954). Note on bias in the estimation of autocorrelation.
    """
    slices = len(varied)
    found = (varied[:-1] * varied[1:]).sum(axis=0) / np.maximum((varied**2).sum(axis=0), 1e-12)
    sure = np.clip(found + (1 + 3 * found) / slices, 0.0, NEIGHBOURS_MOST)
    sure = np.minimum(NEIGHBOURS_MOST, sure + np.sqrt((1 - sure**2) / slices))
    made: Floats = np.where(found > 1 / math.sqrt(slices), sure, 0.0)
    return made


def whole_ranks(scores: Floats) -> Array:
    """Return a whole number for each bin that says where it lies: sums of their products come out exact in any order.

    >>> whole_ranks(np.array([[-1.5, 0.0, 1.5, 0.0]])).tolist()
    [-12.0, 0.0, 12.0, 0.0]
    """
    made: Array = np.round(SCALE * scores[0]).astype(np.float32)
    return made


def correlations(
    products: Array, counts: Array, binner: Binner, ranks: Sequence[Array], related: Sequence[int]
) -> Floats:
    """Return how ranks go together, each pair's correlation, from sums of products and from counts."""
    places = [slice(binner.begins[place], binner.begins[place + 1]) for place in related]
    events = float(counts[places[0]].sum())
    means = np.array([(counts[at] @ rank) / events for at, rank in zip(places, ranks, strict=True)])
    covariances = products / events - np.outer(means, means)
    spread = np.sqrt(np.maximum(np.diag(covariances), 1e-9))
    made: Floats = np.clip(covariances / np.outer(spread, spread), -0.999, 0.999)
    np.fill_diagonal(made, 0.0)
    return made

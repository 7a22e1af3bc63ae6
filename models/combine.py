"""How the scores of the static model and of the learner become one, as a pipeline says it."""

import importlib
from dataclasses import dataclass
from typing import Any, Protocol

from headrace.models.measures import Kind
from headrace.models.mixer import LearnerOf, Mixer, OneOfTwo, RecentLoss, Stack, Trial

HALF_LIFE = 1_000.0  # labels, after which one counts half
FLOOR = 0.05
GROUPS_MAX = 10_000
MARGIN, LEAST = 0.02, 500
STACK_LEAST = 200


class Combination(Protocol):
    """How scores are to be combined, as a pipeline says it."""

    @property
    def per(self) -> str | None:
        """The field whose values have weights of their own, if one does."""

    def fresh(self, kind: Kind, *, learner_of: LearnerOf | None = None) -> Mixer:
        """Return what combines on one partition of which no label was seen yet."""


def _check_half_life(half_life: float) -> None:
    if not 0.0 < half_life < float("inf"):
        raise ValueError(f"half_life = {half_life!r}: allowed are positive numbers; it is counted in labels")


@dataclass(frozen=True)
class ByRecentLoss:
    """Weights that follow which model has been right lately.

    Of each model the losses of its labels are summed, and a label counts half when ``half_life`` more have come. The
    weight of the learner is ``1 / (1 + exp(h - (S - O)))``. There ``S`` and ``O`` are the sums of the static model and
    of the learner, and ``h`` is a head start of 3 for the static model, which fades as they do. This is Bayes' rule
    for which of the two makes the labels, with a memory that fades; the learner begins with 0.05. The loss is the log
    loss. Of a regression it is the squared error, and ``n * (S - O) / (S + O)`` stands for ``S - O``, with ``n`` the
    labels that count: the same rule for errors that have the deviation which both models show.

    The weight stays between ``floor`` and ``1 - floor``; it is zero before the first label, and where the learner has
    no score. No label counts for more than 14, nor an error for more than 200 times the mean of both models'.

    With ``per`` every value of a field has weights of its own. It begins with those of all labels. Of more than
    ``groups_max`` the one leaves that had no label for longest.

    >>> import numpy as np
    >>> mixer = by_recent_loss(half_life=10).fresh("binary")
    >>> static, online, labels = np.full(20, 0.5), np.full(20, 0.9), np.ones(20)
    >>> mixer.combined(static, online)[1].max().item()
    0.0
    >>> mixer.learn(static, online, labels)
    >>> scores, weights = mixer.combined(static[:1], online[:1])
    >>> scores.round(3), weights.round(3)
    (array([0.88]), array([0.95]))
    """

    half_life: float = HALF_LIFE
    floor: float = FLOOR
    per: str | None = None
    groups_max: int = GROUPS_MAX

    def __post_init__(self) -> None:
        _check_half_life(self.half_life)
        if not 0.0 <= self.floor <= 0.5:
            raise ValueError(f"floor = {self.floor!r}: allowed are 0 to 0.5, as it is the least weight of either model")
        if self.groups_max < 1:
            raise ValueError(f"groups_max = {self.groups_max!r}: there is one group at the least")

    def __call__(
        self,
        *,
        half_life: float = HALF_LIFE,
        floor: float = FLOOR,
        per: str | None = None,
        groups_max: int = GROUPS_MAX,
    ) -> "ByRecentLoss":
        """Return the same with other settings."""
        return ByRecentLoss(half_life, floor, per, groups_max)

    def fresh(self, kind: Kind, *, learner_of: LearnerOf | None = None) -> Mixer:  # noqa: ARG002
        """Return what combines on one partition."""
        return RecentLoss(
            repr(self),
            kind,
            half_life=self.half_life,
            floor=self.floor,
            per=self.per is not None,
            groups_max=self.groups_max,
        )


@dataclass(frozen=True)
class UntilProven:
    """The static model alone until the learner has proven itself, and again when it no longer does.

    Of both the mean loss of recent labels is kept, where one counts half when ``half_life`` more have come, and of the
    difference on each label its mean and its deviation. The learner has proven itself when its loss is lower by more
    than ``margin``, as a part of the static model's, and three standard errors besides. It is sent back when its loss
    is higher, by three standard errors. Between the two nothing changes, and never before ``least`` labels have come
    since the last change; so it does not go to and fro. ``report`` says since which label, and since when.

    >>> import numpy as np
    >>> mixer = until_proven(least=50).fresh("regression")
    >>> labels = np.arange(60.0)
    >>> mixer.learn(labels + 1.0, labels, labels, at=labels)
    >>> mixer.report()["proven"], mixer.report()["since"]
    (1.0, 49.0)
    """

    margin: float = MARGIN
    least: int = LEAST
    half_life: float = HALF_LIFE
    per: None = None

    def __post_init__(self) -> None:
        _check_half_life(self.half_life)
        if not 0.0 <= self.margin < 1.0:
            raise ValueError(
                f"margin = {self.margin!r}: allowed are 0 to 1, as it is a part of the static model's loss"
            )
        if self.least < 2:
            raise ValueError(f"least = {self.least!r}: nothing is proven by fewer than 2 labels")

    def __call__(self, *, margin: float = MARGIN, least: int = LEAST, half_life: float = HALF_LIFE) -> "UntilProven":
        """Return the same with other settings."""
        return UntilProven(margin, least, half_life)

    def fresh(self, kind: Kind, *, learner_of: LearnerOf | None = None) -> Mixer:  # noqa: ARG002
        """Return what combines on one partition."""
        return Trial(repr(self), kind, margin=self.margin, least=self.least, half_life=self.half_life)


@dataclass(frozen=True)
class Stacked:
    """A River model that reads both scores, ``static`` and ``online``, and learns what they mean together.

    Probabilities are given to it as logits, unless ``logits`` is off. Until it has learned ``least`` labels, and where
    one of the scores is missing, the static model counts, or the one that is there. It has no weight for the learner:
    that is NaN.
    """

    model: Any
    logits: bool = True
    least: int = STACK_LEAST
    per: None = None

    def fresh(self, kind: Kind, *, learner_of: LearnerOf | None = None) -> Mixer:
        """Return what combines on one partition; ``learner_of`` makes a learner of a River model."""
        if learner_of is None:
            learner_of = importlib.import_module("headrace.models.learners").learner_of
        return Stack(repr(self), kind, learner_of(self.model), logits=self.logits, least=self.least)


def stacked(model: Any, *, logits: bool = True, least: int = STACK_LEAST) -> Stacked:
    """Combine with a River model that reads both scores."""
    return Stacked(model, logits, least)


@dataclass(frozen=True)
class Only:
    """One of the models counts; the other one where that has no score, or the learner has no label yet."""

    which: str
    per: None = None

    def fresh(self, kind: Kind, *, learner_of: LearnerOf | None = None) -> Mixer:  # noqa: ARG002
        """Return what combines on one partition."""
        return OneOfTwo(repr(self), kind, online=self.which == "online")


by_recent_loss = ByRecentLoss()
until_proven = UntilProven()
static_only = Only("static")
online_only = Only("online")

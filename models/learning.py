"""What is learned in one partition: by the learner, by the combination, and by whoever asks how good they are."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from headrace.models.labels import TEACHES, Id, Outcomes, Scored, Waiting
from headrace.models.memory import Floats
from headrace.schemas.event import Truth
from headrace.schemas.outcome import By

REVISES = frozenset({By.REVISION})


class Learner(Protocol):
    """A model that keeps learning, row by row. Predicting changes nothing."""

    @property
    def seen(self) -> int:
        """How many rows it has learned from."""

    def predict(self, columns: Mapping[str, Floats]) -> Floats:
        """Return a score per row."""

    def learn(self, columns: Mapping[str, Floats], labels: Floats) -> None:
        """Learn from each row, in order."""

    def predict_learn(self, columns: Mapping[str, Floats], labels: Floats) -> Floats:
        """Return a score per row, each made before its label was learned; a label that is NaN teaches nothing."""

    def dump(self) -> dict[str, Any]:
        """Return all of it as plain data."""

    def load(self, data: Mapping[str, Any]) -> None:
        """Take what ``dump`` returned."""


class Mixer(Protocol):
    """Makes one score of two, and learns which of them to believe."""

    def combined(self, static: Floats, online: Floats, groups: Sequence[Any] | None) -> tuple[Floats, Floats]:
        """Return a score per row, and how much of it is the learner's."""

    def learn(self, static: Floats, online: Floats, labels: Floats, groups: Sequence[Any] | None) -> None:
        """Learn from what turned out to be true."""

    def dump(self) -> dict[str, Any]:
        """Return all of it as plain data."""

    def load(self, data: Mapping[str, Any]) -> None:
        """Take what ``dump`` returned."""


class Judge(Protocol):
    """Knows how good a model has been."""

    def add(self, at: Floats, scores: Floats, labels: Floats) -> None:
        """Take labels in, each with the score that its event was given."""

    def revise(self, at: Floats, scores: Floats, old_labels: Floats, new_labels: Floats) -> None:
        """Take labels back that were wrong, and the right ones in."""

    def dump(self) -> dict[str, Any]:
        """Return all of it as plain data."""

    def load(self, data: Mapping[str, Any]) -> None:
        """Take what ``dump`` returned."""


class Learning:
    """Scores with what was learned, lets scored events wait for their labels, and learns from those.

    A label first says how good the published scores were, then teaches the combination, then the learner. Each
    event teaches once, by the first that becomes known of it; what corrects that corrects the quality alone.
    """

    def __init__(
        self,
        features: Sequence[str],
        truth: Truth | None,
        *,
        learner: Learner | None = None,
        mixer: Mixer | None = None,
        judges: Mapping[str, Judge] | None = None,
    ) -> None:
        self.features = tuple(features)
        self.waiting = Waiting(features, truth) if truth else None  # labels come with their events otherwise
        self.learner = learner
        self.mixer = mixer
        self.judges = dict(judges or {})  # by what they judge: a field of Scored
        self.taught = 0

    def online(self, made: Mapping[str, Floats]) -> Floats | None:
        """Return what the learner says of events, or None without one."""
        if self.learner is None:
            return None
        with np.errstate(all="ignore"):
            return self.learner.predict({name: made[name] for name in self.features})

    def combined(self, static: Floats | None, online: Floats | None, groups: Sequence[Any] | None) -> Floats:
        """Return the score of events: what both models say together, or what the only one says."""
        if static is None or online is None:
            known = online if static is None else static
            assert known is not None, "a pipeline has a model at the least"
            return known
        if self.mixer is None:
            return static
        return self.mixer.combined(static, online, groups)[0]

    # What comes, and becomes known.

    def cuts(self, ids: Sequence[Id]) -> list[int]:
        """Return where a batch is to be cut: after an event whose label is there already, which teaches at once."""
        return [] if self.waiting is None else list(self.waiting.cuts(ids))

    def scored(self, scored: Scored) -> Outcomes:
        """Let events wait for their labels; return what is known already of some."""
        assert self.waiting is not None
        return self._heard(self.waiting.add(scored))

    def label(self, ids: Sequence[Id], keys: Sequence[Any], *, at: Floats, labels: Floats, wrote: Floats) -> Outcomes:
        """Take labels, and learn from those that say something new."""
        assert self.waiting is not None
        return self._heard(self.waiting.label(ids, keys, at=at, labels=labels, wrote=wrote))

    def tick(self, *, wall: float, event: float) -> Outcomes:
        """Do what is to be done now that it is so late."""
        assert self.waiting is not None
        return self._heard(self.waiting.tick(wall=wall, event=event))

    def known(self, scored: Scored, labels: Floats) -> None:
        """Learn from events whose labels came with them; what is NaN teaches nothing."""
        self._judge(scored.at, scored, labels)
        if self.mixer is not None:
            self.mixer.learn(scored.static, scored.online, labels, scored.groups or None)
        self.taught += int((~np.isnan(labels)).sum())

    def _heard(self, outcomes: Outcomes) -> Outcomes:
        teaching, revised = outcomes.only(TEACHES), outcomes.only(REVISES)
        if revised.size:
            for name, judge in self.judges.items():
                judge.revise(revised.at, getattr(revised.of, name), revised.was, revised.labels)
        if teaching.size:
            of, labels = teaching.of, teaching.labels
            self._judge(teaching.at, of, labels)
            if self.mixer is not None:
                self.mixer.learn(of.static, of.online, labels, of.groups or None)
            if self.learner is not None:
                with np.errstate(all="ignore"):
                    columns = {name: of.features[:, place].copy() for place, name in enumerate(self.features)}
                    self.learner.learn(columns, labels)
            self.taught += teaching.size
        return outcomes

    def _judge(self, at: Floats, of: Scored, labels: Floats) -> None:
        for name, judge in self.judges.items():
            judge.add(at, getattr(of, name), labels)

    # What is kept.

    def dump(self) -> dict[str, Any]:
        """Return all of it as plain data."""
        return {
            "waiting": None if self.waiting is None else self.waiting.dump(),
            "learner": None if self.learner is None else self.learner.dump(),
            "mixer": None if self.mixer is None else self.mixer.dump(),
            "judges": {name: judge.dump() for name, judge in self.judges.items()},
            "taught": self.taught,
        }

    def load(self, data: Mapping[str, Any]) -> None:
        """Take what ``dump`` returned."""
        if self.waiting is not None:
            self.waiting.load(data["waiting"])
        if self.learner is not None:
            self.learner.load(data["learner"])
        if self.mixer is not None:
            self.mixer.load(data["mixer"])
        for name, judge in self.judges.items():
            judge.load(data["judges"][name])
        self.taught = data["taught"]

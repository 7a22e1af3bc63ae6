"""What is learned in one partition: by the learner, by the combination, and by whoever asks how good they are."""

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from headrace.models.baselines import Baselines
from headrace.models.labels import TEACHES, Id, Outcomes, Scored, Waiting
from headrace.models.learners import Learner, RowFailed
from headrace.models.memory import Array, Floats
from headrace.models.mixer import Mixer
from headrace.models.quality import Quality
from headrace.schemas.event import Truth
from headrace.schemas.outcome import By

REVISES = frozenset({By.REVISION})
LARGE = 1e18  # no feature is larger; a learner that squares it, and adds up for years, stays finite


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
        judges: Mapping[str, Quality] | None = None,
        baselines: Baselines | None = None,
    ) -> None:
        self.features = tuple(features)
        self.waiting = Waiting(features, truth) if truth else None  # labels come with their events otherwise
        self.learner = learner
        self.mixer = mixer
        self.judges = dict(judges or {})  # by what they judge: a field of Scored, or a baseline
        self.baselines = baselines
        self.taught = 0

    def online(self, made: Mapping[str, Floats]) -> Floats:
        """Return what the learner says of events."""
        assert self.learner is not None
        learner = self.learner
        return _each_row(lambda columns, _labels: learner.predict(columns), self._read(made), None)

    def online_known(self, made: Mapping[str, Floats], labels: Floats) -> Floats:
        """Return what the learner says of events, each before it learns what is true of that one."""
        assert self.learner is not None
        return _each_row(self.learner.predict_learn, self._read(made), labels)

    def contributions(self, made: Mapping[str, Floats]) -> Floats:
        """Return what each feature contributes to what the learner says, a row per event, and what is there without."""
        assert self.learner is not None
        columns = self._read(made)
        sound = _sound(columns)
        with np.errstate(all="ignore"):
            contributions = self.learner.contributions(columns if sound.all() else _where(sound, columns))
        contributions[~sound] = np.nan
        return contributions

    def online_known_why(self, made: Mapping[str, Floats], labels: Floats) -> tuple[Floats, Floats]:
        """Return what the learner says of events, and why, each before it learns what is true of that one."""
        ends = [*(np.flatnonzero(~np.isnan(labels)) + 1).tolist(), len(labels)]
        scores, why = [], []
        # What a label teaches shows in what is said of the next event, so both are asked for in between.
        for begin, end in pairwise(dict.fromkeys([0, *ends])):
            part = {name: column[begin:end] for name, column in made.items()}
            why.append(self.contributions(part))
            scores.append(self.online_known(part, labels[begin:end]))
        return np.concatenate(scores), np.concatenate(why)

    def combined(self, static: Floats, online: Floats, groups: Sequence[Any] | None) -> tuple[Floats, Floats]:
        """Return what both models say together, and the learner's weight in it.

        What one of them does not know, the other says alone.
        """
        if self.mixer is None:
            alone = np.isnan(static)
            return np.where(alone, online, static), alone.astype(np.float64)
        return self.mixer.combined(static, online, groups)

    def combined_known(
        self, static: Floats, online: Floats, labels: Floats, groups: Sequence[Any] | None, at: Floats
    ) -> tuple[Floats, Floats]:
        """Return the same of events, each before it is learned what is true of that one."""
        if self.mixer is None:
            return self.combined(static, online, groups)
        return self.mixer.followed(static, online, labels, groups, at)

    def _read(self, made: Mapping[str, Floats]) -> dict[str, Floats]:
        return {name: made[name] for name in self.features}

    def _mix(self, static: Floats, online: Floats, labels: Floats, groups: Sequence[Any] | None, at: Floats) -> None:
        if self.mixer is not None:
            self.mixer.learn(static, online, labels, groups, at)

    # What comes, and becomes known.

    @property
    def waits_for_events(self) -> bool:
        """Say whether there are labels whose event has not come."""
        return self.waiting is not None and self.waiting.early > 0

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
        """Note what was true of events whose labels came with them. Both models have learned it by now."""
        there = np.flatnonzero(~np.isnan(labels))
        some = scored if len(there) == scored.size else scored.only(there)
        self._judge(some.at, some, labels[there])
        self.taught += len(there)

    def _heard(self, outcomes: Outcomes) -> Outcomes:
        teaching, revised = outcomes.only(TEACHES), outcomes.only(REVISES)
        if revised.size:
            for name, judge in self.judges.items():
                if name in Scored._fields:  # what a baseline foretold was of what was known then
                    judge.revise(revised.since, getattr(revised.of, name), revised.was, revised.labels)
            if self.baselines is not None:
                self.baselines.revise(revised.was, revised.labels)
        if teaching.size:
            of, labels = teaching.of, teaching.labels
            self._judge(teaching.at, of, labels)
            self._mix(of.static, of.online, labels, of.groups or None, teaching.at)
            if self.learner is not None:
                self._teach(of, labels)
            self.taught += teaching.size
        return outcomes

    def _teach(self, scored: Scored, labels: Floats) -> None:
        assert self.learner is not None
        learner = self.learner
        columns = {name: scored.features[:, place].copy() for place, name in enumerate(self.features)}

        def learn(columns: Mapping[str, Floats], labels: Floats) -> Floats:
            learner.learn(columns, labels)
            return labels

        _each_row(learn, columns, labels)

    def _judge(self, at: Floats, of: Scored, labels: Floats) -> None:
        foretold = {} if self.baselines is None else self.baselines.step(labels)
        for name, judge in self.judges.items():
            judge.add(at, foretold[name] if name in foretold else getattr(of, name), labels)

    # What is kept.

    def take(self, part: Mapping[str, Any]) -> None:
        """Take in again what a step took in."""
        if "scored" in part:
            scored = Scored(**part["scored"])
            if "labels" not in part:
                self.scored(scored)
                return
            there = np.flatnonzero(~np.isnan(part["labels"]))
            some, labels = scored.only(there), part["labels"][there]
            self._mix(some.static, some.online, labels, some.groups or None, some.at)
            if self.learner is not None:
                self._teach(some, labels)
            self.known(some, labels)
        elif "told" in part:
            self.label(**part["told"])
        elif "tick" in part:
            self.tick(**part["tick"])

    def dump(self) -> dict[str, Any]:
        """Return all of it as plain data."""
        return {
            "waiting": None if self.waiting is None else self.waiting.dump(),
            "learner": None if self.learner is None else self.learner.dump(),
            "mixer": None if self.mixer is None else [self.mixer.fingerprint, self.mixer.dump()],
            "baselines": None if self.baselines is None else self.baselines.dump(),
            "judges": {name: [judge.fingerprint, judge.dump()] for name, judge in self.judges.items()},
            "taught": self.taught,
        }

    def load(self, data: Mapping[str, Any]) -> None:
        """Take what ``dump`` returned."""
        if self.waiting is not None:
            self.waiting.load(data["waiting"])
        if self.learner is not None:
            self.learner.load(data["learner"])
        # How scores are combined and judged may change: that is no reason to forget what was learned.
        kept = {"mixer": data["mixer"], **data["judges"]}
        for name, part in {"mixer": self.mixer, **self.judges}.items():
            fingerprint, held = kept.get(name) or (None, None)
            if part is not None and held is not None and part.fingerprint == fingerprint:
                part.load(held)
        if self.baselines is not None and data["baselines"] is not None:
            self.baselines.load(data["baselines"])
        self.taught = data["taught"]


def _sound(columns: Mapping[str, Floats]) -> Array:
    """Say of each row whether no feature is missing or absurd."""
    sound = np.ones(len(next(iter(columns.values()))), np.bool_)
    for column in columns.values():
        sound &= np.abs(column) <= LARGE  # which NaN is not
    return sound


def _where(sound: Array, columns: Mapping[str, Floats]) -> dict[str, Floats]:
    """Return the columns with zeros in the rows that are not sound: River would raise over some of what is there."""
    return {name: np.where(sound, column, 0.0) for name, column in columns.items()}


def _each_row(ask: Callable[..., Floats], columns: Mapping[str, Floats], labels: Floats | None) -> Floats:
    """Ask about all rows; one on which the model raises has no score and teaches nothing, and the others go on.

    Neither has one with a feature that is missing or absurd: it would be in the weights for ever.
    """
    count = len(next(iter(columns.values())))
    sound = _sound(columns)
    if not sound.all():
        made = np.full(count, np.nan)
        if sound.any():
            some = {name: column[sound] for name, column in columns.items()}
            made[sound] = _each_row(ask, some, None if labels is None else labels[sound])
        return made
    parts: list[Floats] = []
    begin = 0
    with np.errstate(all="ignore"):
        while begin < count:
            rest = columns if not begin else {name: column[begin:] for name, column in columns.items()}
            try:
                parts.append(ask(rest, None if labels is None else labels[begin:]))
            except RowFailed as failed:
                scores = failed.scores[: failed.row]
                parts += [scores, np.full(failed.row + 1 - len(scores), np.nan)]
                begin += failed.row + 1
            else:
                break
    return parts[0] if len(parts) == 1 else np.concatenate(parts)

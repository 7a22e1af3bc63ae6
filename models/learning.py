"""What is learned in one partition: by the learner, by the combination, and by whoever asks how good they are."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from headrace.models.baselines import Baselines
from headrace.models.labels import TEACHES, Id, Outcomes, Scored, Waiting
from headrace.models.learners import Learner, RowFailed
from headrace.models.lessons import UNTAUGHT, Lessons, Version
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

    Where the learner is ``shared`` by all partitions, nobody learns here: what would teach is handed out as lessons,
    and the learner is put in place from outside (``adopt``). What is kept of it is which one was in use.
    """

    def __init__(
        self,
        features: Sequence[str],
        truth: Truth | None,
        *,
        learner: Learner | None = None,
        shared: bool = False,
        mixer: Mixer | None = None,
        judges: Mapping[str, Quality] | None = None,
        baselines: Baselines | None = None,
    ) -> None:
        self.features = tuple(features)
        self.waiting = Waiting(features, truth) if truth else None  # labels come with their events otherwise
        self.learner = learner
        self.shared = shared
        self.version = self._here = UNTAUGHT  # which learner is in use, and which one is here
        self._lessons: list[Lessons] = []
        self.mixer = mixer
        self.judges = dict(judges or {})  # by what they judge: a field of Scored, or a baseline
        self.baselines = baselines
        self.taught = 0

    def online(self, made: Mapping[str, Floats]) -> Floats:
        """Return what the learner says of events."""
        assert self.learner is not None
        assert not self.lacks, "whoever made the state again has put a learner in place"
        learner = self.learner
        return _each_row(lambda columns, _labels: learner.predict(columns), self._read(made), None)

    def online_known(self, made: Mapping[str, Floats], labels: Floats) -> Floats:
        """Return what the learner says of events, each before it learns what is true of that one."""
        assert self.learner is not None
        return _each_row(self.learner.predict_learn, self._read(made), labels)

    def combined(self, static: Floats, online: Floats, groups: Sequence[Any] | None) -> Floats:
        """Return what both models say together; what one of them does not know, the other says alone."""
        if self.mixer is None:
            return np.where(np.isnan(static), online, static)
        scores: Floats = self.mixer.combined(static, online, groups)[0]
        return scores

    def combined_known(
        self, static: Floats, online: Floats, labels: Floats, groups: Sequence[Any] | None, at: Floats
    ) -> Floats:
        """Return what both models say together of events, each before it is learned what is true of that one."""
        if self.mixer is None:
            return self.combined(static, online, groups)
        scores: Floats = self.mixer.followed(static, online, labels, groups, at)
        return scores

    def _read(self, made: Mapping[str, Floats]) -> dict[str, Floats]:
        return {name: made[name] for name in self.features}

    def _mix(self, static: Floats, online: Floats, labels: Floats, groups: Sequence[Any] | None, at: Floats) -> None:
        if self.mixer is not None:
            self.mixer.learn(static, online, labels, groups, at)

    # The learner that all partitions share.

    def adopt(self, version: Version, learner: Learner) -> None:
        """Score with this learner from now on."""
        assert self.shared
        self.version = self._here = version
        self.learner = learner

    @property
    def lacks(self) -> bool:
        """Say whether the learner that was in use is known by its version alone, so that one has to be put in place."""
        return self._here != self.version

    def lessons(self) -> list[Lessons]:
        """Return what became known since this was last asked, and is to be learned elsewhere."""
        lessons, self._lessons = self._lessons, []
        return lessons

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
        if self.shared:
            self._teach(some, labels[there], some.at)
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
            self._teach(of, labels, teaching.at)
            self.taught += teaching.size
        return outcomes

    def _teach(self, scored: Scored, labels: Floats, at: Floats) -> None:
        if self.shared:
            if scored.size:
                self._lessons.append(Lessons.of(scored, labels, at))
        elif self.learner is not None:
            teach(self.learner, self.features, scored.features, labels)

    def _judge(self, at: Floats, of: Scored, labels: Floats) -> None:
        foretold = {} if self.baselines is None else self.baselines.step(labels)
        for name, judge in self.judges.items():
            judge.add(at, foretold[name] if name in foretold else getattr(of, name), labels)

    # What is kept.

    def take(self, part: Mapping[str, Any]) -> None:
        """Take in again what a step took in."""
        if "learner" in part:
            self.version = Version(*part["learner"])
        elif "scored" in part:
            scored = Scored(**part["scored"])
            if "labels" not in part:
                self.scored(scored)
                self._lessons.clear()
                return
            there = np.flatnonzero(~np.isnan(part["labels"]))
            some, labels = scored.only(there), part["labels"][there]
            self._mix(some.static, some.online, labels, some.groups or None, some.at)
            if not self.shared:
                self._teach(some, labels, some.at)
            self.known(some, labels)
        elif "told" in part:
            self.label(**part["told"])
        elif "tick" in part:
            self.tick(**part["tick"])
        self._lessons.clear()  # they went out with the step that was taken in first

    def dump(self) -> dict[str, Any]:
        """Return all of it as plain data."""
        return {
            "waiting": None if self.waiting is None else self.waiting.dump(),
            "learner": None if self.learner is None or self.shared else self.learner.dump(),
            **({"version": list(self.version)} if self.shared else {}),
            "mixer": None if self.mixer is None else [self.mixer.fingerprint, self.mixer.dump()],
            "baselines": None if self.baselines is None else self.baselines.dump(),
            "judges": {name: [judge.fingerprint, judge.dump()] for name, judge in self.judges.items()},
            "taught": self.taught,
        }

    def load(self, data: Mapping[str, Any]) -> None:
        """Take what ``dump`` returned."""
        if self.waiting is not None:
            self.waiting.load(data["waiting"])
        if self.shared:
            self.version = Version(*data["version"])
        elif self.learner is not None:
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


def teach(learner: Learner, names: Sequence[str], features: Array, labels: Floats) -> None:
    """Let a learner learn rows of features that have these names, one after the other."""
    columns = {name: features[:, place].copy() for place, name in enumerate(names)}

    def learn(columns: Mapping[str, Floats], labels: Floats) -> Floats:
        learner.learn(columns, labels)
        return labels

    _each_row(learn, columns, labels)


def _each_row(ask: Callable[..., Floats], columns: Mapping[str, Floats], labels: Floats | None) -> Floats:
    """Ask about all rows; one on which the model raises has no score and teaches nothing, and the others go on.

    Neither has one with a feature that is missing or absurd: it would be in the weights for ever.
    """
    count = len(next(iter(columns.values())))
    sound = np.ones(count, np.bool_)
    for column in columns.values():
        sound &= np.abs(column) <= LARGE  # which NaN is not
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

"""What is learned in one partition: by the learner, by the combination, and by whoever asks how good they are."""

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from headrace.models import snapshot
from headrace.models.actions import News, Obedience, restart_learner, reweight
from headrace.models.baselines import Baselines
from headrace.models.brake import Brake, Braking, Turn
from headrace.models.classes import Classes
from headrace.models.detectors import Detecting
from headrace.models.labels import TEACHES, Id, Outcomes, Scored, Waiting
from headrace.models.learners import Learner, RowFailed
from headrace.models.lessons import UNTAUGHT, Lessons, Version
from headrace.models.limits import LARGE, Limiter, Limits
from headrace.models.memory import Array, Floats, Wide
from headrace.models.mixer import Mixer
from headrace.models.quality import Quality
from headrace.schemas.event import Truth
from headrace.schemas.order import Action, Order
from headrace.schemas.outcome import By, Withheld

REVISES = frozenset({By.REVISION})


class Learning:
    """Scores with what was learned, lets scored events wait for their labels, and learns from those.

    A label first says how good the published scores were, then teaches the combination, then the learner. Each
    event teaches once, by the first that becomes known of it; what corrects that corrects the quality alone. What
    ``limits`` or the ``brake`` withhold says how good scores were, and teaches neither. With ``classes`` labels are the
    numbers that those give them.

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
        limits: Limits | None = None,
        brake: Brake | None = None,
        has_static: bool = False,
        wide: Callable[[int], Wide] = Wide,
        classes: Classes | None = None,
        obedience: Obedience | None = None,
        detecting: Detecting | None = None,
    ) -> None:
        self.features = tuple(features)
        self.classes = classes
        many = classes is not None
        # Without it labels come with their events.
        self.waiting = Waiting(features, truth, wide=wide, classes=many) if truth else None
        self.learner = learner
        self.shared = shared
        self.version = self._here = UNTAUGHT  # which learner is in use, and which one is here
        self._lessons: list[Lessons] = []
        self.mixer = mixer
        self.judges = dict(judges or {})  # by what they judge: a field of Scored, or a baseline
        self.baselines = baselines
        self.limiter = Limiter(limits, len(self.features)) if limits is not None else None
        self.braking = Braking(brake, has_static=has_static) if brake is not None else None
        self.obedience = obedience  # what was done because of alerts, where that is asked for
        self.detecting = detecting  # River's detectors over the errors, where there are any
        self._begun = self._learned() if obedience is not None else b""
        self.taught = 0  # events of which something became known, also where it was kept from teaching
        self._turns: list[Turn] = []
        # Hears what is true of events, once of each.
        self.on_known: Callable[[Scored, Floats], None] | None = None

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

    def chances(self, made: Mapping[str, Floats], labels: Floats | None) -> tuple[Floats, Floats, Array]:
        """Return how likely the likeliest class of each event is, which that is, and how likely each class is.

        With ``labels`` each event is learned after that, as ``online_known`` does.
        """
        assert self.learner is not None
        assert self.classes is not None
        learner, classes = self.learner, self.classes

        def ask(columns: Mapping[str, Floats], labels: Floats | None) -> Floats:
            try:
                said = (
                    learner.predict_classes(columns)
                    if labels is None
                    else learner.predict_learn_classes(columns, labels)
                )
            except RowFailed as failed:
                raise RowFailed(failed.row, failed.cause, classes.rows(failed.classes)) from failed
            return classes.rows(said)

        rows = _each_row(ask, self._read(made), labels, 2 + len(classes))
        return rows[:, 0], rows[:, 1], rows[:, 2:]

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
        if self.mixer is None or self._falls_back or (self.braking is not None and self.braking.holds):
            alone = np.isnan(static)
            return np.where(alone, online, static), alone.astype(np.float64)
        return self.mixer.combined(static, online, groups)

    @property
    def _falls_back(self) -> bool:
        return self.obedience is not None and self.obedience.falls_back

    def combined_known(
        self, static: Floats, online: Floats, labels: Floats, groups: Sequence[Any] | None, at: Floats
    ) -> tuple[Floats, Floats]:
        """Return the same of events, each before it is learned what is true of that one."""
        if self.mixer is None:
            return self.combined(static, online, groups)
        followed = self.mixer.followed(static, online, labels, groups, at)
        return self.combined(static, online, groups) if self._falls_back else followed

    def _read(self, made: Mapping[str, Floats]) -> dict[str, Floats]:
        return {name: made[name] for name in self.features}

    def _mix(self, static: Floats, online: Floats, labels: Floats, groups: Sequence[Any] | None, at: Floats) -> None:
        if self.mixer is not None:
            self.mixer.learn(static, online, labels, groups, at)

    # What is done because of alerts.

    def news(self, heard: Sequence[Order]) -> News | None:
        """Return what of these orders is to be followed; None where nothing is, or nobody asked for any."""
        return None if self.obedience is None else self.obedience.news(heard)

    def obey(self, news: Mapping[str, Any]) -> None:
        """Follow orders, as plain data: from now on, and once each."""
        obedience = self.obedience
        if obedience is None:
            return  # the page asks for nothing any more
        for action, alert, ends in news["orders"]:
            if Action(action).lasts:
                obedience.hold(alert, ends=ends)
            elif action in (restart_learner, reweight):
                self._begin_again(learner=action == restart_learner)
        obedience.upto = (news["upto"][0], news["upto"][1])

    def _begin_again(self, *, learner: bool) -> None:
        """Forget how scores are combined, and if asked what was learned: its weight was earned by what is forgotten."""
        assert self.obedience is not None
        taught, mixed = snapshot.decode(self._begun)
        if learner and self.learner is not None and not self.shared:
            self.learner.load(taught)
            # Of what the one before has scored, nothing says how good this one is.
            self.obedience.since = self.obedience.newest
            if self.braking is not None:
                self.braking.begin_again()
        if self.mixer is not None:
            self.mixer.load(mixed)

    def _learned(self) -> bytes:
        taught = None if self.learner is None or self.shared else self.learner.dump()
        return snapshot.encode([taught, None if self.mixer is None else self.mixer.dump()])

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
        self._met(scored)
        return self._heard(self.waiting.add(scored))

    def label(
        self,
        ids: Sequence[Id],
        keys: Sequence[Any],
        *,
        at: Floats,
        labels: Floats,
        wrote: Floats,
        sources: Sequence[Any] = (),
    ) -> Outcomes:
        """Take labels, and learn from those that say something new."""
        assert self.waiting is not None
        return self._heard(self.waiting.label(ids, keys, at=at, labels=labels, wrote=wrote, sources=sources))

    def tick(self, *, wall: float, event: float) -> Outcomes:
        """Do what is to be done now that it is so late."""
        assert self.waiting is not None
        return self._heard(self.waiting.tick(wall=wall, event=event))

    def turns(self) -> list[Turn]:
        """Return when the learner was stopped or counted again since this was asked last."""
        turns, self._turns = self._turns, []
        return turns

    def known(self, scored: Scored, labels: Floats) -> None:
        """Note what was true of events whose labels came with them. Both models have learned it by now."""
        self._met(scored)
        there = np.flatnonzero(~np.isnan(labels))
        some = scored if len(there) == scored.size else scored.only(there)
        self._tell(some, labels[there], some.at)
        self._judge(some.at, some, labels[there])
        if self.shared:
            self._teach(some, labels[there], some.at)
        self.taught += len(there)

    def _heard(self, outcomes: Outcomes) -> Outcomes:
        teaching, revised = outcomes.only(TEACHES), outcomes.only(REVISES)
        if revised.size:
            was, is_now = self._true(revised.was), self._true(revised.labels)
            for name, judge in self.judges.items():
                if name in Scored._fields:  # what a baseline foretold was of what was known then
                    judge.revise(revised.since, self._foretold(name, revised.of), was, is_now)
            if self.baselines is not None:
                self.baselines.revise(was, is_now)
        if teaching.size:
            of, labels = teaching.of, teaching.labels
            self._tell(of, labels, teaching.at)
            self._judge(teaching.at, of, labels)
            self.taught += teaching.size
            if self.limiter is None and self.braking is None:
                self._learn(teaching)
            else:
                withheld = iter(self._learn_within(teaching))
                told = [next(withheld) if one in TEACHES else None for one in outcomes.by]
                return outcomes._replace(withheld=told)
        return outcomes

    def _learn(self, teaching: Outcomes) -> None:
        """Teach the combination, then the learner."""
        of, labels = teaching.of, teaching.labels
        online = of.online
        if self.obedience is not None and self.obedience.since >= 0.0:
            online = np.where(of.wrote > self.obedience.since, online, np.nan)
        self._mix(of.static, online, labels, of.groups or None, teaching.at)
        self._teach(of, labels, teaching.at)

    def _met(self, scored: Scored) -> None:
        if self.obedience is not None and scored.size:
            self.obedience.newest = max(self.obedience.newest, float(scored.wrote.max()))

    def _learn_within(self, teaching: Outcomes) -> list[Withheld | None]:
        """Teach what is allowed, and say what kept the rest from it."""
        withheld: list[Withheld | None] = [None] * teaching.size
        if self.limiter is not None:
            withheld = self.limiter.allow(teaching.wrote, teaching.sources or [None] * teaching.size)
        places = np.array([place for place, one in enumerate(withheld) if one is None], np.int64)
        while len(places):
            some = teaching.some(places)
            if self.braking is None:
                self._learn(some)
                break
            of, teaches = some.of, self.braking.teaches
            many = self.braking.take(some.labels, of.static, of.online, of.wrote, some.wrote)
            now, places = places[:many], places[many:]
            if teaches:
                self._learn(teaching.some(now))
            else:
                for place in now.tolist():
                    withheld[place] = Withheld.BRAKE
            if self.braking.due:
                self._decide(float(some.at[many - 1]))
        return withheld

    def _decide(self, at: float) -> None:
        """Stop the learner, let it go on, or let it begin again."""
        assert self.braking is not None
        assert self.learner is not None
        learner, mixer = self.learner, self.mixer

        turn, good = self.braking.decide(at, self._learned)
        if good is not None:
            taught, mixed = snapshot.decode(good)
            learner.load(taught)
            if mixer is not None:
                mixer.load(mixed)
        if turn is not None:
            self._turns.append(turn)

    def _teach(self, scored: Scored, labels: Floats, at: Floats) -> None:
        features = scored.features if self.limiter is None else self.limiter.clipped(scored.features)
        if self.shared:
            if scored.size:
                self._lessons.append(Lessons.of(scored._replace(features=features), labels, at))
        elif self.learner is not None:
            teach(self.learner, self.features, features, labels)

    def _judge(self, at: Floats, of: Scored, labels: Floats) -> None:
        true = self._true(labels)
        foretold = {} if self.baselines is None else self.baselines.step(true)
        for name, judge in self.judges.items():
            judge.add(at, foretold[name] if name in foretold else self._foretold(name, of), true)

    def _foretold(self, name: str, of: Scored) -> Any:
        """Return what a model said of events, as it is judged."""
        if self.classes is None:
            return getattr(of, name)
        assert of.said is not None
        assert of.chances is not None
        return self.classes.foretold(of.said, of.chances)

    def _true(self, labels: Floats) -> Any:
        """Return labels as they are judged: classes by their names, which are the same in every partition."""
        return labels if self.classes is None else self.classes.named(labels)

    def _tell(self, of: Scored, labels: Floats, at: Floats) -> None:
        """Tell who wants to hear it what is true of events; of classes, whether the likeliest one was."""
        if self.on_known is None and self.detecting is None:
            return
        label = labels if of.said is None else (of.said == labels).astype(np.float64)
        if self.on_known is not None:
            self.on_known(of, label)
        if self.detecting is not None:
            self.detecting.known(of, label, at)

    # What is kept.

    def take(self, part: Mapping[str, Any]) -> None:
        """Take in again what a step took in."""
        if self.classes is not None:
            self.classes.meet(part.get("classes", ()))
        if "orders" in part:
            self.obey(part["orders"])
        elif "learner" in part:
            self.version = Version(*part["learner"])
        elif "scored" in part:
            self._take_scored(Scored(**part["scored"]), part.get("labels"))
        elif "told" in part:
            self.label(**part["told"])
        elif "tick" in part and self.waiting is not None:
            self.tick(**part["tick"])
        self._turns.clear()  # they were told when it happened
        if self.detecting is not None:
            self.detecting.findings()  # and so were these
        self._lessons.clear()  # they went out with the step that was taken in first

    def _take_scored(self, scored: Scored, known: Floats | None) -> None:
        if known is None:
            self.scored(scored)
            return
        there = np.flatnonzero(~np.isnan(known))
        some, labels = scored.only(there), known[there]
        self._mix(some.static, some.online, labels, some.groups or None, some.at)
        if not self.shared:
            self._teach(some, labels, some.at)
        self.known(some, labels)

    def dump(self) -> dict[str, Any]:
        """Return all of it as plain data."""
        data: dict[str, Any] = {
            "waiting": None if self.waiting is None else self.waiting.dump(),
            "learner": None if self.learner is None or self.shared else self.learner.dump(),
            **({"version": list(self.version)} if self.shared else {}),
            "mixer": None if self.mixer is None else [self.mixer.fingerprint, self.mixer.dump()],
            "baselines": None if self.baselines is None else self.baselines.dump(),
            "judges": {name: [judge.fingerprint, judge.dump()] for name, judge in self.judges.items()},
            "taught": self.taught,
        }
        for name, part in self._parts.items():
            if part is not None:
                data[name] = part.dump()
        return data

    @property
    def _parts(self) -> dict[str, Any]:
        parts = {"limits": self.limiter, "brake": self.braking, "classes": self.classes}
        return {**parts, "obedience": self.obedience, "detecting": self.detecting}

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
        for name, part in self._parts.items():
            if part is not None and name in data:
                part.load(data[name])
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


def teach(learner: Learner, names: Sequence[str], features: Array, labels: Floats) -> None:
    """Let a learner learn rows of features that have these names, one after the other."""
    columns = {name: features[:, place].copy() for place, name in enumerate(names)}

    def learn(columns: Mapping[str, Floats], labels: Floats) -> Floats:
        learner.learn(columns, labels)
        return labels

    _each_row(learn, columns, labels)


def _each_row(
    ask: Callable[..., Floats], columns: Mapping[str, Floats], labels: Floats | None, width: int | None = None
) -> Floats:
    """Ask about all rows; one on which the model raises has no score and teaches nothing, and the others go on.

    Neither has one with a feature that is missing or absurd: it would be in the weights for ever. With ``width`` the
    answer about a row is so many numbers.
    """

    def nothing(count: int) -> Floats:
        return np.full(count if width is None else (count, width), np.nan)

    count = len(next(iter(columns.values())))
    sound = _sound(columns)
    if not sound.all():
        made = nothing(count)
        if sound.any():
            some = {name: column[sound] for name, column in columns.items()}
            made[sound] = _each_row(ask, some, None if labels is None else labels[sound], width)
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
                parts += [scores, nothing(failed.row + 1 - len(scores))]
                begin += failed.row + 1
            else:
                break
    return parts[0] if len(parts) == 1 else np.concatenate(parts)

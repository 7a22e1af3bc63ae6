"""The one order in which everything happens to a batch of events."""

import difflib
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import compress, pairwise, repeat
from operator import attrgetter
from typing import Any, Literal, NamedTuple, get_args, get_origin

import msgspec
import numpy as np

from headrace.models import actions, detectors
from headrace.models.actions import Obedience
from headrace.models.baselines import Baselines
from headrace.models.brake import Brake
from headrace.models.classes import WHOLE_MAX, Classes
from headrace.models.combine import Combination, by_recent_loss
from headrace.models.detectors import CALM_COUNT, Detecting, Finding
from headrace.models.fallback import Answers, Fallback, Mask, answers, answers_with_fallback
from headrace.models.features import Columns, Feature, FeatureFailed, Floats, is_number, parts
from headrace.models.keyed import KeyedFeature
from headrace.models.labels import Outcomes, Scored, Waiting
from headrace.models.learners import Kind, learner_of, problems_of
from headrace.models.learning import Learning
from headrace.models.lessons import Lessons
from headrace.models.limits import Limits
from headrace.models.measures import CLASSES_MAX
from headrace.models.memory import NEVER, Array, Wide
from headrace.models.quality import Quality
from headrace.models.reasons import Reasons, Share, first_of, why_none
from headrace.models.state import KEYS_MAX, State
from headrace.models.static import Explained, Linear, Model, ask_why
from headrace.models.targets import Target
from headrace.models.trained import Trained
from headrace.models.watch import OURS, REASON, REASONS_MAX, Counted, Watch, Watching
from headrace.schemas.alert import Alert, AlertState
from headrace.schemas.dead_letter import Reason, Rejection
from headrace.schemas.errors import BadPipeline
from headrace.schemas.event import Event, Label, Wire, columns_of, is_text, type_name
from headrace.schemas.outcome import outcome_type
from headrace.schemas.prediction import PREDICTED, Flag, prediction_type
from headrace.schemas.quality import QualityReport
from headrace.schemas.span import seconds

TRAINED_COUNT = 4_096  # events for training that are looked up before what nobody waits for any more is forgotten

Whose = Literal["partition", "shared"]
WHOSE: tuple[Whose, ...] = get_args(Whose)

_ADDRESS = re.compile(r" at 0x[0-9a-f]+")
_TEXT = "which names one of many classes: kind='multiclass' tells them apart; other labels are numbers"
# What an event's flags are, by a number that has a bit for each.
_FLAGS = [tuple(flag.value for bit, flag in enumerate(Flag) if number >> bit & 1) for number in range(1 << len(Flag))]


class Effects(NamedTuple):
    """What a step wants done. The shell does it; the core only says it.

    ``predictions`` are in the order of the events, without those that ``rejections`` names by index.
    """

    predictions: list[msgspec.Struct]
    rejections: list[Rejection]
    alerts: list[Alert]
    change: list[Any] | None = None  # what the state took in, so that it can be made again
    outcomes: Sequence[msgspec.Struct] = ()  # what became known of events
    lessons: Sequence[Lessons] = ()  # what is to be learned by the learner that all partitions share
    slices: Sequence[Counted] = ()  # what events were like, of slices of time that are over
    scores: Sequence[tuple[str, Floats]] = ()  # a column per model, NaN where it has none: for whoever counts them


class Seen(NamedTuple):
    """What a step made of some events, for who wants to see more of it than its effects."""

    features: dict[str, Floats]
    static: Floats  # the static model's score, or what stood in for it
    stood_in: Mask | None
    online: Floats | None
    weights: Floats | None  # of the learner, NaN where a combination has none
    scores: Floats
    shares: list[Share]


class Pipeline:
    """One application: the events it scores, the features it makes of them, the model that reads those.

    ``step`` reads no clock, no network and no global: with the same state the same events in the same order
    give the same effects through every door, and where a batch is cut does not show. A pipeline itself never
    changes; what it remembers of a partition is in the state that ``fresh`` makes.

    >>> from headrace.models.features import log1p
    >>> class Payment(Event, topic="payments", key="account"):
    ...     id: str
    ...     at: float
    ...     account: str
    ...     amount: float
    >>> pipeline = Pipeline(
    ...     name="payments",
    ...     events=Payment,
    ...     features={"amount": log1p("amount")},
    ...     static=Linear({"amount": 0.5}, bias=-1.0),
    ... )
    >>> state = pipeline.fresh()
    >>> effects = pipeline.step([Payment("p1", 0.0, "a7", 0.0), Payment("p2", 0.0, "a7", -3.0)], state)
    >>> effects.predictions
    [Prediction(id='p1', at=0.0, account='a7', score=0.2689414213699951, static=0.2689414213699951,
                online=None, model='payments', version='1', flags=())]
    >>> effects.rejections[0].message
    "score is nan; feature 'amount' (log1p('amount')) is nan"
    """

    def __init__(
        self,
        *,
        name: str,
        events: type[Event],
        features: Mapping[str, Feature],
        static: Model | None = None,
        fallback: Fallback | Model | float | None = None,
        labels: type[Label] | str | None = None,
        online: Any = None,
        learner: Whose = "partition",
        combine: Combination | None = None,
        kind: Kind | None = None,
        limits: Limits | None = None,
        brake: Brake | None = None,
        quality_window: str = "1d",
        watch: Watch | None = None,
        detectors: Mapping[str, Any] | None = None,
        missing: Mapping[str, float | str] | None = None,
        keys_max: int = KEYS_MAX,
        reasons: int = 0,
        codes: Mapping[str, str] | None = None,
    ) -> None:
        self.name = name
        self.events = events
        self.features = dict(features)
        self.static = static
        # What stands in for the static model where it fails; without it, such an event is a dead letter.
        self.fallback = fallback if isinstance(fallback, Fallback | None) else Fallback(fallback)
        self.labels = None if isinstance(labels, str) else labels
        self.label_field = labels if isinstance(labels, str) else None  # where an event's label comes with it
        self.online = online
        self.learner = learner  # whose the learner is: each partition has one of its own, or all share one
        self.combine = combine or (by_recent_loss if static is not None and online is not None else None)
        self.asked_kind = kind
        self.kind: Kind = kind or "binary"
        self.limits = limits  # of what labels may teach
        self.brake = brake  # what stops a learner that has become bad
        self.quality_window = quality_window
        self.watch = watch  # for changes of the whole stream
        self.detectors = dict(detectors or {})  # of River's, for the errors of each partition
        self.missing = dict(missing or {})  # what stands for a field that is None, in training and in serving
        self.keys_max = keys_max  # that are remembered per partition, of each kind of key
        self.reasons = reasons  # that a prediction tells, of each model
        self.codes = dict(codes or {})  # what features are called in those
        if problems := list(_problems(self)):
            raise BadPipeline(problems)
        if online is not None:
            self.kind = learner_of(online, kind=kind).kind
        self.version = static.version if static is not None else "1"
        self.wire = events.wire
        self._keyed = {name: one for name, one in self.features.items() if isinstance(one, KeyedFeature)}
        self._stateless = {name: one for name, one in self.features.items() if name not in self._keyed}
        # What reads the same fields as another needs no look of its own: of those the first is looked at.
        first = {(one.keys, one.fields): key for key, one in reversed(self._keyed.items())}
        self._checked = {key: one for key, one in self._keyed.items() if first[one.keys, one.fields] == key}
        delays = {name: found for name, one in self._keyed.items() if (found := _delay_of(one)) is not None}
        self.targets = tuple(delays)  # the features that look back at labels
        self._target_delay = min(delays.values(), default=0.0)  # the shortest time after which one does
        types = columns_of(events)
        asked = [field for one in self.features.values() for field in one.fields]
        asked += [self.wire.time, *([self.label_field] if self.label_field else [])]
        # The numbers that every batch is asked for; what stands for a missing one is put in one by one.
        self._numbers = tuple(
            name for name in dict.fromkeys(asked) if is_number(types[name]) and name not in self.missing
        )
        self._read = (static.features if static is not None else ()) or tuple(self.features)
        self._identity = tuple(dict.fromkeys((self.wire.id, self.wire.time, self.wire.key)))
        self._id, self._key = attrgetter(self.wire.id), attrgetter(self.wire.key)
        self._classes = (str if _text_of(self) else int) if self.kind == "multiclass" else None
        self.prediction = prediction_type(events, name, self.version, reasons=reasons > 0, classes=self._classes)
        self._limited = limits is not None or brake is not None
        self.outcome = outcome_type(events, name, self.version, limited=self._limited, classes=self._classes)
        self._group_field = self.combine.per if self.combine is not None else None
        self._why_none = _why_no_reasons(self) if reasons else {}
        self._reasons = Reasons(reasons, tuple(self.features), self.codes) if reasons else None

    def __repr__(self) -> str:
        return f"<Pipeline {self.name}: {self.events.__name__} from {self.wire.topic}>"

    @property
    def topics(self) -> tuple[str, ...]:
        """The topics that are read, that of the events first."""
        return (self.wire.topic,) if self.labels is None else (self.wire.topic, self.labels.wire.topic)

    @property
    def has_memory(self) -> bool:
        """Say whether anything is remembered of a partition."""
        return self.looks_back or self.fallback is not None or self.learns or self.watch is not None

    @property
    def looks_back(self) -> bool:
        """Say whether a feature looks at what was before."""
        return bool(self._keyed)

    @property
    def learns(self) -> bool:
        """Say whether labels come."""
        return self.labels is not None or self.label_field is not None

    @property
    def shares(self) -> bool:
        """Say whether all partitions share one learner."""
        return self.learner == "shared"

    @property
    def acts(self) -> bool:
        """Say whether anything is done about alerts by itself."""
        return self.watch is not None and bool(self.watch.rules)

    @property
    def obeys(self) -> bool:
        """Say whether any of that is done in every partition."""
        return self.watch is not None and any(one.here for one in actions.asked_of(self.watch.rules))

    @property
    def without_reasons(self) -> dict[str, str]:
        """The models that give no reasons although they are asked for, and why."""
        return {role: why for role, why in self._why_none.items() if why}

    def fresh(self, *, waits: bool = True, wide: Callable[[int], Wide] = Wide) -> State:
        """Return the state of a partition of which nothing was seen yet.

        Without ``waits`` no event is kept for its label: that is for whoever has events alone. Whoever has nothing
        else has the learner for himself, too, where others share it; who has a feature that looks back at labels is
        refused. ``wide`` makes what keeps features and scores of events until their labels come, which may be
        elsewhere than in memory.
        """
        if self.targets and not waits:
            text = (
                "looks back at labels, and here are events alone; a worker has both, and so have "
                "Pipeline.transform(events, state, labels) and headrace.testing.Driver"
            )
            raise BadPipeline([f"features[{name!r}] ({self.features[name].origin}) {text}" for name in self.targets])
        learning, said = self._fresh_learning(waits=waits, wide=wide) if self.learns else (None, "")
        return State(
            self.wire.time,
            self._keyed,
            keys_max=self.keys_max,
            fallback=self.fallback,
            learning=learning,
            watching=None if self.watch is None else Watching(self.watch),
            said=said,
        )

    def trained(self) -> Trained:
        """Return the learner that all partitions share, with nothing learned yet."""
        assert self.online is not None
        return Trained(
            tuple(self.features),
            learner_of(self.online, kind=self.kind),
            f"{tuple(self.features)}{self._said_of_learner}",
        )

    @property
    def _said_of_learner(self) -> str:
        model = _ADDRESS.sub("", repr(self.online))
        return f" {self.kind} {model}"

    def _fresh_learning(self, *, waits: bool, wide: Callable[[int], Wide]) -> tuple[Learning, str]:
        truth = self.labels.truth if self.labels is not None and waits else None
        learner = learner_of(self.online, kind=self.kind) if self.online is not None else None
        both = learner is not None and self.static is not None and self.combine is not None
        mixer = self.combine.fresh(self.kind, learner_of=learner_of) if both and self.combine is not None else None
        judged = {"static": self.static, "online": self.online}
        names = [*(name for name, model in judged.items() if model is not None), "score"]
        baselines = Baselines(self.kind)
        judges = {name: Quality(self.kind, window=self.quality_window) for name in (*names, *baselines.names)}
        classes = None
        if self._classes is not None:
            first = self.labels.truth.first if self.labels is not None else None
            classes = Classes(text=self._classes is str, first=first)
        learning = Learning(
            tuple(self.features),
            truth,
            learner=learner,
            shared=self.shares and waits,
            mixer=mixer,
            judges=judges,
            baselines=baselines,
            limits=self.limits,
            brake=self.brake,
            has_static=self.static is not None,
            wide=wide,
            classes=classes,
            obedience=Obedience(self.watch.fingerprint) if self.obeys and self.watch is not None else None,
            detecting=Detecting(self.detectors) if self.detectors else None,
        )
        asked = truth and (truth.field, truth.within, truth.otherwise)
        whose = " shared" if learning.shared else ""
        said = f" {tuple(self.features)} {asked} {self.label_field}{self._said_of_learner}{whose}"
        return learning, said if classes is None else f"{said} classes {self._classes} {classes.names}"

    def transform(
        self, events: Sequence[Event], state: State, labels: Sequence[Label] | None = None
    ) -> dict[str, Floats]:
        """Return the features of the events, a column each, and take them in: for training, without a score.

        They are in the order in which the pipeline names them. An event whose features fail raises ``FeatureFailed``.

        Where a feature looks back at labels, those have to be given that became known since the last call (none is
        ``[]``). They are taken in by their time, each before the first event that is not older. Nobody learns from
        them, and where no feature looks at them they make no difference.
        """
        columns = Columns(events, self.missing, self._numbers)
        made = self._own(columns)
        if not self.targets:
            made = self._with_memory(made, columns, state)
        else:
            made |= self._with_labels(events, state, labels)
        return {name: made[name] for name in self.features}

    def _with_labels(self, events: Sequence[Event], state: State, labels: Sequence[Label] | None) -> dict[str, Floats]:
        """Make the features with a memory, and let labels come between the events."""
        if labels is None:
            name = self.targets[0]
            raise ValueError(
                f"features[{name!r}] ({self.features[name].origin}) looks back at labels: give those that became known "
                "since the last call, transform(events, state, labels), or [] where there are none"
            )
        assert self.labels is not None
        assert state.learning is not None
        assert state.learning.waiting is not None
        told = sorted(labels, key=attrgetter(self.labels.wire.time))
        rejections, given, _ = self._told(told, state.learning, None)
        if rejections:
            raise ValueError(f"labels: {rejections[0].message}")
        at = np.fromiter(map(attrgetter(self.wire.time), events), np.float64, len(events))
        now = np.maximum.accumulate(at)
        made: list[dict[str, Floats]] = []
        first = 0
        for begin in range(0, len(events), TRAINED_COUNT):
            end = min(len(events), begin + TRAINED_COUNT)
            last = len(told) if end == len(events) else int(np.searchsorted(given["at"], now[end - 1], side="right"))
            known = {name: column[first:last] for name, column in given.items()}
            made += self._among_labels(events[begin:end], now[begin:end], known, state, state.learning.waiting)
            first = last
        return {name: np.concatenate([one[name] for one in made]) for name in self._keyed}

    def _among_labels(
        self, events: Sequence[Event], now: Floats, given: Mapping[str, Any], state: State, waiting: Waiting
    ) -> Iterator[dict[str, Floats]]:
        """Yield the features of some events, with the labels that come between them or right after them.

        ``now`` is how late it is by each event. A label comes before the event that is as late, or later: then where
        the first event is that can look back at the label's own.
        """
        of = waiting.times(given["ids"])
        if np.isnan(of).any():
            wanted = set(given["ids"])
            here: dict[Any, float] = {}
            for one, at in zip(map(self._id, events), map(attrgetter(self.wire.time), events), strict=True):
                if one in wanted:
                    here.setdefault(one, at)
            of = np.where(np.isnan(of), [here.get(one, np.nan) for one in given["ids"]], of)
        kept = ~(given["at"] > of + waiting.stays)  # a worker has forgotten the event by then
        looked = np.fmax(given["at"], of + self._target_delay)
        before = np.where(kept, np.searchsorted(now, looked), -1)
        order = np.argsort(before, kind="stable")[np.count_nonzero(~kept) :]
        given = {
            name: column[order] if isinstance(column, np.ndarray) else [column[place] for place in order.tolist()]
            for name, column in given.items()
        }
        before = before[order]
        ends = sorted({*before.tolist(), *self._lookers(events), len(events)} - {0})
        for begin, end in pairwise([0, *ends]):
            _hear(waiting, given, *np.searchsorted(before, [begin, begin + 1]).tolist())
            columns = Columns(events[begin:end], self.missing)
            yield self._with_memory({}, columns, state)
            waiting.add(self._unscored(events[begin:end], columns, state))
        _hear(waiting, given, int(np.searchsorted(before, len(events))), len(before))
        if waiting.due(NEVER, waiting.clock):
            waiting.tick(wall=NEVER, event=waiting.clock)

    def _unscored(self, events: Sequence[Event], columns: Columns, state: State) -> Scored:
        """Put together what is kept of events that nobody scores."""
        nobody = np.full(len(events), np.nan)
        made = dict.fromkeys(self.features, nobody)
        said = _Said(nobody, None, None, None, None)
        return self._scored(events, columns, made, None, nobody, said, None, state)

    def _lookers(self, events: Sequence[Event]) -> list[int]:
        """Return the places before which a batch is to be cut: there an event looks back at one of the batch.

        What an event adds is there once it was scored, so the other one has to come in the next part.
        """
        if not self.targets:
            return []
        at = np.fromiter(map(attrgetter(self.wire.time), events), np.float64, len(events))
        sound = at[np.isfinite(at)]
        if not len(sound) or sound.max() - sound.min() < self._target_delay:
            return []  # nearly every batch
        cuts: list[int] = []
        earliest: dict[Any, float] = {}
        for place, (key, time) in enumerate(zip(map(self._key, events), at.tolist(), strict=True)):
            if earliest.get(key, math.inf) <= time - self._target_delay:
                cuts.append(place)
                earliest = {}
            if math.isfinite(time):
                earliest[key] = min(time, earliest.get(key, math.inf))
        return cuts

    def step(
        self, events: Sequence[Event], state: State, wrote: Floats | None = None, seen: list[Seen] | None = None
    ) -> Effects:
        """Score the events: features of each, features of its key's past, the models, what they say together.

        An event whose own features fail is not remembered; one that the model cannot score is. ``wrote`` says when
        their records were written, in seconds; without it, that is taken to be when the events were. ``seen`` is
        given what was made of those events whose features did not fail.
        """
        if not events:
            return Effects([], [], [])
        learning = state.learning
        cuts = learning.cuts(list(map(self._id, events))) if learning is not None and learning.waits_for_events else []
        cuts += self._lookers(events)
        if state.watching is not None and self.label_field is not None:
            # What is true of an event is counted in the slice of time that it belongs to.
            cuts += state.watching.cuts(np.array([getattr(event, self.wire.time) for event in events], np.float64))
        if not cuts:
            return self._step(events, state, wrote, seen)
        # A label is there already: its event teaches at once, and what comes after it is scored with that.
        parts = []
        for begin, end in pairwise(sorted({0, *cuts, len(events)})):
            some = self._step(events[begin:end], state, None if wrote is None else wrote[begin:end], seen)
            parts.append(some._replace(rejections=[one._replace(at=one.at + begin) for one in some.rejections]))
        return together(parts)

    def learn(self, labels: Sequence[Label], state: State, wrote: Floats | None = None) -> Effects:
        """Take labels: say what became known by them, and learn from it."""
        assert self.labels is not None
        assert state.learning is not None
        rejections, given, new = self._told(labels, state.learning, wrote)
        outcomes = state.learning.label(**given)
        change = [{**({"classes": new} if new else {}), "told": given}] if given["ids"] else None
        alerts, lessons = self._alerts(state), state.learning.lessons()
        return Effects([], rejections, alerts, change, self._outcomes(outcomes, state.learning), lessons)

    def _told(
        self, labels: Sequence[Label], learning: Learning, wrote: Floats | None
    ) -> tuple[list[Rejection], dict[str, Any], list[Any]]:
        """Return which labels cannot be, the others as columns, and the classes that they are the first to name."""
        assert self.labels is not None
        wire, truth = self.labels.wire, self.labels.truth
        values = [getattr(label, truth.field) for label in labels]
        new: list[Any] = []
        if (classes := learning.classes) is not None:
            told, wrong, new = classes.take(values)
        else:
            told = np.array([np.nan if value is None else value for value in values], np.float64)
            wrong = ~np.isnan(told) & (~np.isfinite(told) if self.kind == "regression" else (told != 0) & (told != 1))
        rejections = [self._not_true(at, values[at]) for at in np.flatnonzero(wrong).tolist()]
        at = np.array([getattr(label, wire.time) for label in labels], np.float64)
        places = np.flatnonzero(~wrong)
        given: dict[str, Any] = {
            "ids": [getattr(labels[place], wire.id) for place in places.tolist()],
            "keys": [getattr(labels[place], wire.key) for place in places.tolist()],
            "at": at[places],
            "labels": told[places],
            "wrote": (at if wrote is None else wrote)[places],
        }
        if self.limits is not None and self.limits.source:
            given["sources"] = [getattr(labels[place], self.limits.source) for place in places.tolist()]
        return rejections, given, new

    def tick(self, state: State, *, wall: float, event: float, quiet: bool = True) -> Effects:
        """Do what is to be done now that it is so late, by the clock on the wall and by the times of events.

        Without ``quiet`` there are events that were not read yet, and no slice of time is over by the clock alone.
        """
        learning, watching = state.learning, state.watching
        # Where no event waits there may be labels whose event does not come: they are given up too.
        outcomes = None if learning is None or learning.waiting is None else learning.tick(wall=wall, event=event)
        slices = watching.tick(wall) if watching is not None and quiet else []
        change: list[Any] = [{"tick": {"wall": wall, "event": event}, **({} if quiet else {"busy": True})}]
        if learning is None or outcomes is None:
            return Effects([], [], [], change, slices=slices)
        told = self._outcomes(outcomes, learning)
        return Effects([], [], self._alerts(state), change, told, learning.lessons(), slices)

    def quality(self, state: State, partition: int) -> list[QualityReport]:
        """Report how good each model, and each baseline, has been on a partition."""
        assert state.learning is not None
        return [
            QualityReport(
                pipeline=self.name,
                version=self.version,
                partition=partition,
                model="combined" if name == "score" else name,
                kind=self.kind,
                at=judge.at,
                window=judge.window_s,
                **judge.report(),
            )
            for name, judge in state.learning.judges.items()
            if judge.at is not None
        ]

    def _step(self, events: Sequence[Event], state: State, wrote: Floats | None, seen: list[Seen] | None) -> Effects:
        columns = Columns(events, self.missing, self._numbers)
        rejections: list[Rejection] = []
        kept = None  # the places of the events that are left, where some are not
        try:
            made = self._own(columns)
        except FeatureFailed:
            kept, made, rejections = self._sound(events)
            if not kept:
                return Effects([], rejections, [])
            events = [events[at] for at in kept]
            wrote = None if wrote is None else wrote[kept]
            columns = Columns(events, self.missing, self._numbers)
        made = self._with_memory(made, columns, state)
        static, failed, stood_in, counted = self._ask(made, state, len(events))
        said = self._learned(made, static, stood_in, columns, state)
        scores, online, known = said.scores, said.online, said.known
        shares = self._shares(made, static, stood_in, said) if self._reasons is not None else []
        if seen is not None:
            seen.append(Seen(made, static, stood_in, online, said.weights, scores, shares))
        finite = np.isfinite(scores)
        there = finite if np.count_nonzero(finite) < len(events) else None  # nearly every batch: all of them
        if there is not None:
            told = {one.at for one in failed}
            bad = [at for at in np.flatnonzero(~finite).tolist() if at not in told]
            failed = [one for one in failed if not finite[one.at]]  # else the other model has a score
            failed += [self._not_finite(at, made, scores) for at in bad]
            rejections += failed if kept is None else [one._replace(at=kept[one.at]) for one in failed]
            rejections.sort()
        change = state.change(columns, counted) if self.has_memory else None
        slices = (
            []
            if state.watching is None
            else self._watched(made, scores, static, online, columns, wrote, state, change, shares)
        )
        unknown = np.logical_or.reduce([share.unknown for share in shares]) if shares else None
        flags = _flags(None if self.static is None else static, online, stood_in, unknown, state)
        reasons = None if self._reasons is None else self._reasons.told(made, shares)
        predicted = None
        if said.predicted is not None and state.learning is not None and state.learning.classes is not None:
            predicted = state.learning.classes.named(said.predicted)
        predictions = self._predictions(columns, scores, static, online, there, stood_in, flags, predicted, reasons)
        by_model = self._by_model(scores, static, online)
        if state.learning is None or change is None or (known is None and state.learning.waiting is None):
            return Effects(predictions, rejections, [], change, slices=slices, scores=by_model)
        if state.learning.shared:
            change.insert(0, {"learner": list(state.learning.version)})
        scored = self._scored(events, columns, made, wrote, static, said, stood_in, state)
        if known is None:
            scored = scored if there is None else scored.only(np.flatnonzero(there))
            outcomes = state.learning.scored(scored)
            change.append({"scored": scored.plain()})
            alerts = self._alerts(state)
            become, lessons = self._outcomes(outcomes, state.learning), state.learning.lessons()
            return Effects(predictions, rejections, alerts, change, become, lessons, slices, by_model)
        state.learning.known(scored, known)
        change.append({"scored": scored.plain(), "labels": known, **({"classes": said.new} if said.new else {})})
        lessons, alerts = state.learning.lessons(), self._alerts(state)
        return Effects(predictions, rejections, alerts, change, lessons=lessons, slices=slices, scores=by_model)

    def _watched(
        self,
        made: Mapping[str, Floats],
        scores: Floats,
        static: Floats,
        online: Floats | None,
        columns: Columns,
        wrote: Floats | None,
        state: State,
        change: list[Any] | None,
        shares: Sequence[Share],
    ) -> list[Counted]:
        """Count what the events are like; return the slices of time that are over."""
        assert state.watching is not None
        at: Floats = columns[self.wire.time]
        own = {"score": scores, "static": static}
        if online is not None:
            own |= {"online": online, "disagreement": np.abs(online - static)}
        if wrote is not None:
            own["delay"] = wrote - at
        if state.watching.follows_reasons and shares:
            own[REASON] = first_of(shares[0], state.watching.features)
        rows = state.watching.bins(made, own, columns.raw)
        taken = rows, state.watching.numbers(at), float((at if wrote is None else wrote).max())
        if change is not None:
            change[0]["watched"] = state.watching.change(*taken)
        return state.watching.add(*taken)

    def _by_model(self, scores: Floats, static: Floats, online: Floats | None) -> list[tuple[str, Floats]]:
        if self.static is None or online is None:
            return [("online" if self.static is None else "static", scores)]
        return [("static", static), ("online", online), ("combined", scores)]

    def _learned(
        self, made: Mapping[str, Floats], static: Floats, stood_in: Mask | None, columns: Columns, state: State
    ) -> "_Said":
        """Return the scores, what the learner says, and the labels that came with the events."""
        learning = state.learning
        if learning is None:
            return _Said(static, None, None, None, None)
        known = None
        new: list[Any] = []
        if self.label_field is not None and learning.classes is not None:
            taken = learning.classes.take(columns.raw(self.label_field))
            known, new = taken.numbers, taken.new
        elif self.label_field is not None:
            known = columns[self.label_field]
            if self.kind == "binary":
                known = np.where((known == 0) | (known == 1), known, np.nan)
        if learning.classes is not None:
            online, predicted, chances = learning.chances(made, known)
            return _Said(online, online, known, None, None, predicted, chances, new)
        if learning.learner is None:
            return _Said(static, None, known, None, None)
        why = None
        # What came with events is learned elsewhere, and later, where the learner is shared.
        now = None if learning.shared else known
        if self._reasons is None or self._why_none.get("online"):
            online = learning.online(made) if now is None else learning.online_known(made, now)
        elif now is None:
            online, why = learning.online(made), learning.contributions(made)
        else:
            online, why = learning.online_known_why(made, now)
        if self.static is None:
            return _Said(online, online, known, None, why)
        alone = static if stood_in is None else np.where(stood_in, np.nan, static)
        groups = None if self._group_field is None else columns.raw(self._group_field)
        if known is None:
            scores, weights = learning.combined(alone, online, groups)
        else:
            scores, weights = learning.combined_known(alone, online, known, groups, columns[self.wire.time])
        return _Said(np.where(np.isnan(scores), static, scores), online, known, weights, why)

    def _shares(self, made: Mapping[str, Floats], static: Floats, stood_in: Mask | None, said: "_Said") -> list[Share]:
        """Return what each model that can tell says of why."""
        shares = []
        if isinstance(self.static, Explained) and not self._why_none["static"]:
            counted = np.isfinite(static)
            if stood_in is not None:
                counted &= ~stood_in
            if said.weights is not None:
                counted &= said.weights != 1.0
            why, places = np.full((len(static), len(self._read) + 1), np.nan), np.flatnonzero(counted)
            if len(places):
                asked = {name: made[name][places] for name in self._read}
                why[places] = ask_why(self.static, asked, len(places))
            shares.append(Share("static", self._read, why, counted))
        if said.online is not None and said.why is not None:
            counted = np.isfinite(said.online)
            if said.weights is not None:
                counted &= said.weights != 0.0
            shares.append(Share("online", tuple(self.features), said.why, counted))
        return shares

    def _scored(
        self,
        events: Sequence[Event],
        columns: Columns,
        made: Mapping[str, Floats],
        wrote: Floats | None,
        static: Floats,
        said: "_Said",
        stood_in: Mask | None,
        state: State,
    ) -> Scored:
        """Put together what is kept of events until their labels come."""
        at: Floats = columns[self.wire.time]
        nobody = np.full(len(events), np.nan)
        alone = nobody if self.static is None else static if stood_in is None else np.where(stood_in, np.nan, static)
        return Scored(
            columns.listed(self.wire.id),
            columns.listed(self.wire.key),
            at,
            at if wrote is None else wrote,
            np.stack([made[name] for name in self.features], axis=1),
            alone,
            nobody if said.online is None else said.online,
            said.scores,
            [] if self._group_field is None else columns.raw(self._group_field),
            said.predicted,
            said.chances,
            state.lives if self.targets else None,
        )

    def _outcomes(self, outcomes: Outcomes, learning: Learning) -> list[msgspec.Struct]:
        """Return outcomes as they are published."""
        of, classes = outcomes.of, learning.classes
        numbers = (outcomes.at, outcomes.labels, outcomes.was, of.at, of.score, of.static, of.online)
        columns: list[Iterable[Any]] = [_numbers(column) for column in numbers]
        if classes is not None:
            columns[1:3] = classes.named(outcomes.labels), classes.named(outcomes.was)
        ids = [of.ids] if self.wire.id == self.wire.key else [of.ids, of.keys]
        if self._limited or classes is not None:
            columns += [repeat(self.name), repeat(self.version)]
        if self._limited:
            columns.append(outcomes.withheld or repeat(None))
        if classes is not None:
            assert of.said is not None
            columns.append(classes.named(of.said))
        return list(map(self.outcome, *ids, outcomes.by, *columns))

    def _alerts(self, state: State) -> list[Alert]:
        """Say when the learner was stopped, and when it counts again; and what detectors found."""
        assert state.learning is not None
        detecting = state.learning.detecting
        found = [] if detecting is None else [self._found(one) for one in detecting.findings()]
        return found + [
            Alert(
                id=f"{self.name}-learner-{turn.number}",
                at=turn.at,
                kind="learner",
                state=AlertState.RAISED if turn.raised else AlertState.CLEARED,
                text=turn.text,
                series="online",
                pipeline=self.name,
                version=self.version,
                explained_by=[turn.worse_than] if turn.worse_than else [],
                effect=turn.effect,
            )
            for turn in state.learning.turns()
        ]

    def _found(self, finding: Finding) -> Alert:
        """Say what one of River's detectors found in one partition."""
        said = f"{finding.detector} says that {finding.series} has changed"
        if not finding.raised:
            said = f"{finding.detector} has found no change of {finding.series} for {CALM_COUNT} labels"
        theirs = "how often that is wrong is the detector's own: it is not among the promised false alarms"
        return Alert(
            id=f"{self.name}-detector-{finding.series}-{finding.number}",
            at=finding.at,
            kind="detector",
            state=AlertState.RAISED if finding.raised else AlertState.CLEARED,
            text=f"{said}; {theirs}" if finding.raised else said,
            series=finding.series,
            pipeline=self.name,
            version=self.version,
            effect=finding.effect,
        )

    def _not_true(self, at: int, value: Any) -> Rejection:
        allowed = {"binary": "0 and 1", "anomaly": "0 and 1"}.get(self.kind, "numbers")
        if self._classes is not None:
            which = "names" if self._classes is str else f"whole numbers below {WHOLE_MAX}"
            allowed = f"{which} of {CLASSES_MAX} classes, those that came first"
        return Rejection(at, Reason.WRONG_LABEL, f"the label is {value!r}; allowed are {allowed}, and null")

    def _own(self, columns: Columns) -> dict[str, Floats]:
        """Make the features that look at each event alone."""
        with np.errstate(all="ignore"):  # what is not finite is rejected by name
            made = {name: feature.column(name, columns) for name, feature in self._stateless.items()}
            for name, feature in self._checked.items():
                feature.check(name, columns, self.wire.time)
            return made

    def _with_memory(self, made: dict[str, Floats], columns: Columns, state: State) -> dict[str, Floats]:
        if not self._keyed:
            return made
        with np.errstate(all="ignore"):
            past, at = state.step(columns), columns[self.wire.time]
            for name, feature in self._keyed.items():
                made[name] = feature.combined(at, past[feature.keys], columns)
        return made

    def _ask(self, made: Mapping[str, Floats], state: State, count: int) -> Answers:
        if self.static is None:
            return Answers(np.full(count, np.nan), [], None, None)
        read = {name: made[name] for name in self._read}
        if self.fallback is None or state.breaker is None:
            return answers(self.static, read, count)
        its_features = {name: made[name] for name in self.fallback.features or self.features}
        return answers_with_fallback(self.static, read, self.fallback, its_features, state.breaker, count)

    def _predictions(
        self,
        batch: Columns,
        scores: Floats,
        static: Floats,
        online: Floats | None,
        there: Mask | None,
        stood_in: Mask | None,
        flags: list[Any] | None,
        predicted: list[Any] | None,
        reasons: list[Any] | None,
    ) -> list[msgspec.Struct]:
        """Make the predictions, without those of events that have no score."""
        values = scores.tolist()
        statics: Iterable[float | None] = values if static is scores else _numbers(static)
        if stood_in is not None:
            statics = [None if gone else value for value, gone in zip(statics, stood_in.tolist(), strict=True)]
        if self.static is None:
            statics = repeat(None)
        columns: list[Iterable[Any]] = [*[batch.listed(name) for name in self._identity], values, statics]
        more = predicted is not None or reasons is not None
        if online is not None or flags is not None or more:
            columns.append(repeat(None) if online is None else _numbers(online))
        if flags is not None or more:
            columns += [repeat(self.name), repeat(self.version), repeat(()) if flags is None else flags]
        columns += [one for one in (predicted, reasons) if one is not None]
        made = map(self.prediction, *columns)
        return list(made if there is None else compress(made, there.tolist()))

    def _sound(self, events: Sequence[Event]) -> tuple[list[int], dict[str, Floats], list[Rejection]]:
        """Find the events whose own features can be made, so that one that fails takes no other with it.

        A feature looks at each event on its own, so the others get the numbers that they would have had.
        """
        kept: list[int] = []
        made: list[dict[str, Floats]] = []
        rejections: list[Rejection] = []
        for at, event in enumerate(events):
            try:
                made.append(self._own(Columns([event], self.missing)))
            except FeatureFailed as error:
                kind = type(error.__cause__).__name__ if error.__cause__ else "FeatureFailed"
                rejections.append(Rejection(at, Reason.FEATURE_FAILED, str(error), kind))
            else:
                kept.append(at)
        together = {name: np.concatenate([one[name] for one in made]) for name in self._stateless if made}
        return kept, together, rejections

    def _not_finite(self, at: int, made: Mapping[str, Floats], scores: Floats) -> Rejection:
        causes = [
            f"feature {name!r} ({self.features[name].origin}) is {made[name][at]}"
            for name in self.features
            if not math.isfinite(made[name][at])
        ]
        return Rejection(at, Reason.NOT_FINITE, "; ".join([f"score is {scores[at]}", *causes]))


def _numbers(column: Floats) -> list[float | None]:
    """Return numbers for the wire, None for each that is none."""
    listed: list[float | None] = column.tolist()
    for place in np.flatnonzero(np.isnan(column)).tolist():
        listed[place] = None
    return listed


def _delay_of(feature: KeyedFeature) -> float | None:
    """Return how long before its event a feature looks back at labels; None where it does not."""
    return min((one.delay for one in feature.wanted if isinstance(one, Target)), default=None)


def _hear(waiting: Waiting, given: Mapping[str, Any], begin: int, end: int) -> None:
    """Let the events that wait hear some of these labels."""
    if begin < end:
        some = {name: column[begin:end] for name, column in given.items()}
        waiting.label(**some)


def together(parts: Sequence[Effects]) -> Effects:
    """Put what parts of a batch gave one after the other."""
    columns: Iterable[Any] = zip(*parts, strict=True)
    return Effects(*[[value for some in column for value in some or ()] for column in columns])


class _Said(NamedTuple):
    """What was said of events, beside what the static model says."""

    scores: Floats
    online: Floats | None
    known: Floats | None  # the labels that came with them
    weights: Floats | None  # of the learner
    why: Floats | None  # what each feature contributed to what the learner says
    predicted: Floats | None = None  # the likeliest class
    chances: Array | None = None  # how likely each class is
    new: Sequence[Any] = ()  # classes that the labels named first


def _flags(
    static: Floats | None, online: Floats | None, stood_in: Mask | None, unknown: Mask | None, state: State
) -> list[tuple[str, ...]] | None:
    """Return each event's flags; None where none has any, which is nearly every batch."""
    missed = [] if static is None else state.missed
    failed = None if online is None or static is None else 4 * ~np.isfinite(static) + 8 * ~np.isfinite(online)
    if unknown is not None and not unknown.any():
        unknown = None
    if stood_in is None and not missed and unknown is None and (failed is None or not failed.any()):
        return None
    count = len(next(one for one in (static, online) if one is not None))
    late = np.zeros(count, np.bool_)
    for places in missed:
        late[places] = True
    fell = np.zeros(count, np.bool_) if stood_in is None else stood_in
    made = 1 * fell + 2 * late + (0 if failed is None else failed) + (0 if unknown is None else 16 * unknown)
    return list(map(_FLAGS.__getitem__, made.tolist()))


def _problems(pipeline: Pipeline) -> Iterator[str]:
    """Yield every misfit between the parts, so that a person mends them in one go."""
    wire = getattr(pipeline.events, "wire", None)
    if wire is None:
        name = pipeline.events.__name__
        yield f'events: {name} names no topic; write class {name}(Event, topic="...", key="...")'
        return
    if not pipeline.name.replace("-", "").replace("_", "").replace(".", "").isalnum():
        yield f"name = {pipeline.name!r}: allowed are letters, digits and ._-, as it names the consumer group"
    fields = columns_of(pipeline.events)
    for name, feature in pipeline.features.items():
        if not isinstance(feature, Feature):
            yield f"features[{name!r}] is {feature!r}: expected a feature; a function becomes one with @feature"
            continue
        for wanted in feature.fields:
            if wanted not in fields:
                yield (
                    f"features[{name!r}] ({feature.origin}) reads {wanted!r}, which {pipeline.events.__name__} "
                    f"does not have{_near(wanted, fields)}"
                )
        if isinstance(feature, KeyedFeature):
            yield from _misfits(name, feature, wire, fields)
            if (delay := _delay_of(feature)) is not None:
                yield from _misfits_of_target(pipeline, f"features[{name!r}] ({feature.origin})", feature, delay)
    yield from _stand_ins(pipeline, fields)
    yield from _misfits_of_labels(pipeline, fields)
    if pipeline.static is None and pipeline.online is None:
        yield "static, online: there is neither, and somebody has to score"
    models: dict[str, Any] = {} if pipeline.static is None else {"static": pipeline.static}
    if pipeline.fallback is not None:
        yield from (f"fallback: {told}" for told in pipeline.fallback.problems())
        if not isinstance(pipeline.fallback.stand_in, float | int):
            models["fallback"] = pipeline.fallback.stand_in
    for role, model in models.items():
        yield from _unfit(role, model, pipeline.features)
    read = [model.features or tuple(pipeline.features) for model in models.values() if isinstance(model, Model)]
    for name in pipeline.features if read and pipeline.online is None else ():
        if not any(name in names for names in read):
            yield f"features[{name!r}] is read by no model; leave it out, or let one read it: a weight of zero will do"
    yield from _misfits_of_classes(pipeline)
    yield from _misfits_of_reasons(pipeline)
    if pipeline.keys_max < 1:
        yield f"keys_max = {pipeline.keys_max}: a partition remembers one key at the least"
    if not pipeline.features:
        yield "features: there are none, and a model needs at least one"


def _misfits_of_labels(pipeline: Pipeline, fields: Mapping[str, Any]) -> Iterator[str]:
    """Yield why labels, and what learns from them, do not fit."""
    events = pipeline.events.__name__
    field, labels = pipeline.label_field, pipeline.labels
    if field is not None and field not in fields:
        yield f"labels={field!r}: {events} has no such field{_near(field, fields)}"
    elif field is not None and is_text(fields[field]):
        if pipeline.kind != "multiclass":
            yield f"labels={field!r}: {events}.{field} is {type_name(fields[field])}, {_TEXT}"
    elif field is not None and not is_number(fields[field]):
        yield f"labels={field!r}: {events}.{field} is {type_name(fields[field])}, and labels are numbers"
    truth = getattr(labels, "truth", None)
    if labels is not None and truth is None:
        yield f'labels={labels.__name__}: write class {labels.__name__}(Label, topic="...", of={events}, within="7d")'
    elif truth is not None and truth.of is not pipeline.events:
        yield f"labels={getattr(labels, '__name__', '')}: its labels are of {truth.of.__name__}, not of {events}"
    if labels is not None and truth is not None and truth.text and pipeline.kind != "multiclass":
        yield f"labels={labels.__name__}: {labels.__name__}.{truth.field} is text, {_TEXT}"
    if pipeline.online is not None:
        yield from problems_of(pipeline.online, pipeline.asked_kind)
        if not pipeline.learns:
            yield "online: it learns from labels, and there are none; name them by labels="
    if pipeline.limits is not None:
        yield from pipeline.limits.problems(labels if truth is not None else None)
        if pipeline.online is None:
            yield "limits: nothing learns; name a learner by online="
    if pipeline.brake is not None:
        learns, kind = pipeline.online is not None, _likely_kind(pipeline)
        yield from pipeline.brake.problems(kind, learns=learns, waits=truth is not None)
    if pipeline.learner not in WHOSE:
        yield f"learner = {pipeline.learner!r}: allowed are {', '.join(map(repr, WHOSE))}"
    elif pipeline.shares and pipeline.online is None:
        yield "learner = 'shared': there is no learner to share; name one by online="
    elif pipeline.shares and pipeline.asked_kind == "multiclass":
        yield "learner = 'shared': partitions number classes in the order in which they meet them; leave it out"
    elif pipeline.shares and pipeline.brake is not None:
        yield "brake: it stops a partition's own learner, and this one is shared; leave one of them out"
    combine = pipeline.combine
    if combine is not None and (pipeline.static is None or pipeline.online is None):
        yield "combine: it makes one score of two, and there is one model"
    elif combine is not None and combine.per is not None and combine.per not in fields:
        yield f"combine: per={combine.per!r}: {events} has no such field{_near(combine.per, fields)}"
    if pipeline.watch is not None:
        yield from _misfits_of_watch(pipeline, pipeline.watch, fields)
    if pipeline.detectors:
        both = {"static": pipeline.static is not None, "online": pipeline.online is not None}
        kind = pipeline.asked_kind or _likely_kind(pipeline)
        yield from detectors.problems(pipeline.detectors, kind=kind, learns=pipeline.learns, **both)
    try:
        seconds(pipeline.quality_window)
    except ValueError as error:
        yield f"quality_window: {error}"


def _likely_kind(pipeline: Pipeline) -> str:
    """Return what kind of scores there are, as far as a pipeline that may be wrong says so."""
    if pipeline.online is None or list(problems_of(pipeline.online, pipeline.asked_kind)):
        return pipeline.kind
    return learner_of(pipeline.online, kind=pipeline.asked_kind).kind


def _misfits_of_classes(pipeline: Pipeline) -> Iterator[str]:
    """Yield why a pipeline cannot tell classes apart."""
    if pipeline.kind != "multiclass":
        return
    if pipeline.online is None:
        yield "kind = 'multiclass': only a learner tells more than two classes apart; name one by online="
    if pipeline.static is not None:
        model = getattr(pipeline.static, "kind", type(pipeline.static).__name__)
        yield (
            f"static: {model} gives an event one number, and kind = 'multiclass' needs one of each class: the two "
            "cannot be combined; leave out static=, or score with it in a pipeline of its own"
        )
    otherwise = pipeline.labels.truth.otherwise if getattr(pipeline.labels, "truth", None) is not None else None  # type: ignore[union-attr]
    if otherwise is not None and not otherwise.is_integer():
        yield f"labels: otherwise={otherwise}: allowed are whole numbers, as a class is one"
    wire = pipeline.events.wire
    if PREDICTED in (wire.id, wire.time, wire.key):
        yield f"kind = 'multiclass': {pipeline.events.__name__} calls a field {PREDICTED!r} that is in every prediction"


def _text_of(pipeline: Pipeline) -> bool:
    """Say whether classes are named by text."""
    if pipeline.labels is not None:
        return pipeline.labels.truth.text
    return pipeline.label_field is not None and is_text(columns_of(pipeline.events)[pipeline.label_field])


def _misfits_of_watch(pipeline: Pipeline, watch: Watch, fields: Mapping[str, Any]) -> Iterator[str]:
    """Yield why what is watched does not fit."""
    if not isinstance(watch, Watch):
        yield f"watch is {watch!r}: expected Drift(...), which says what is compared with what"
        return
    for name in watch.features:
        if name not in pipeline.features:
            near = _near(name, pipeline.features)
            yield f"watch: its reference knows {name!r}, which is no feature{near}; make it anew"
    for name in pipeline.features:
        if name in OURS:
            yield f"features[{name!r}]: what the worker watches by itself has that name; take another"
        elif name not in watch.places:
            yield f"watch: its reference does not know the feature {name!r}; make it anew"
    online = pipeline.online is not None
    both = online and pipeline.static is not None
    yield from actions.problems(watch.rules, learns=online, both=both, shared=pipeline.shares)
    if watch.reasons and not pipeline.reasons:
        yield "watch: reasons: the pipeline tells none; say how many by Pipeline(reasons=...)"
    elif watch.reasons and len(watch.features) > REASONS_MAX:
        yield f"watch: reasons: there are {len(watch.features)} features, and {REASONS_MAX} can be told apart"
    for field in watch.slices:
        if field not in fields:
            yield f"watch: slices: {pipeline.events.__name__} has no field {field!r}{_near(field, fields)}"


def _misfits_of_reasons(pipeline: Pipeline) -> Iterator[str]:
    """Yield why reasons, and what features are called in them, do not fit."""
    reasons, codes = pipeline.reasons, pipeline.codes
    if type(reasons) is not int or reasons < 0:
        yield f"reasons = {reasons!r}: allowed are whole numbers; it is how many each model gives for a score"
    elif codes and not reasons:
        yield "codes: they are what features are called in reasons, and there are none; say how many by reasons="
    for name, code in codes.items():
        if name not in pipeline.features:
            yield f"codes[{name!r}] is of no feature{_near(name, pipeline.features)}"
        elif not isinstance(code, str) or not code:
            yield f"codes[{name!r}] = {code!r}: allowed is text"
    called = [codes.get(name, name) for name in pipeline.features]
    for code in dict.fromkeys(one for one in called if called.count(one) > 1):
        names = " and ".join(repr(name) for name, one in zip(pipeline.features, called, strict=True) if one == code)
        yield f"codes: {names} are both called {code!r}, and nobody could tell which it was"
    wire = pipeline.events.wire
    if reasons and "reasons" in (wire.id, wire.time, wire.key):
        yield f"reasons: {pipeline.events.__name__} calls a field so that is in every prediction"


def _why_no_reasons(pipeline: Pipeline) -> dict[str, str]:
    """Return why a model gives no reasons, or nothing if it does; where none does, raise."""
    found = {}
    if pipeline.static is not None:
        found["static"] = why_none(pipeline.static)
    if pipeline.online is not None:
        found["online"] = learner_of(pipeline.online, kind=pipeline.asked_kind).why_no_reasons()
    if all(found.values()):
        raise BadPipeline([f"reasons = {pipeline.reasons}: {role}: {why}" for role, why in found.items()])
    return found


def _unfit(role: str, model: Any, features: Mapping[str, Feature]) -> Iterator[str]:
    """Yield why a model does not fit the features."""
    if not isinstance(model, Model):
        yield f"{role} is {model!r}: expected a model, which has features, version and score"
        return
    for name in model.features:
        if name not in features:
            yield f"{role} reads {name!r}, which is no feature{_near(name, features)}"
    if doubled := sorted({name for name in model.features if model.features.count(name) > 1}):
        yield f"{role} reads {doubled[0]!r} twice"
    if not isinstance(model.version, str):
        yield f"{role}.version = {model.version!r}: allowed is text"
    if isinstance(model, Linear):
        yield from (f"{role}: {told}" for told in model.problems())


def _stand_ins(pipeline: Pipeline, fields: Mapping[str, Any]) -> Iterator[str]:
    """Yield what is wrong with what stands for missing values."""
    for name, value in pipeline.missing.items():
        if name not in fields:
            yield f"missing[{name!r}]: {pipeline.events.__name__} has no such field{_near(name, fields)}"
            continue
        field = f"{pipeline.events.__name__}.{name} is {type_name(fields[name])}"
        if type(None) not in parts(fields[name]):
            yield f"missing[{name!r}]: {field}, and never missing"
        elif is_number(fields[name]) and not (isinstance(value, int | float) and math.isfinite(value)):
            yield f"missing[{name!r}] = {value!r}: allowed are finite numbers, as {field}"


def _misfits(name: str, feature: KeyedFeature, wire: Wire, fields: Mapping[str, Any]) -> Iterator[str]:
    """Yield why a feature with a memory does not fit the events."""
    said = f"features[{name!r}] ({feature.origin})"
    if wire.key not in feature.keys:
        yield (
            f"{said} remembers per {' and '.join(map(repr, feature.keys))}, but the topic's key is {wire.key!r}: "
            f"events with the same {feature.keys[0]!r} are spread over partitions, and each would know a part of them; "
            f"add {wire.key!r} to per(...), or publish the events to a topic whose key is {feature.keys[0]!r}"
        )
    for field in feature.numbers:
        if field in fields and not is_number(fields[field]):
            yield f"{said} needs numbers, and {field!r} is {type_name(fields[field])}"
    for field in feature.values:
        if field in fields and not all(_is_plain(part) for part in parts(fields[field])):
            yield (
                f"{said} tells values of {field!r} apart, which is {type_name(fields[field])}: allowed are str, int, "
                "float, bool, bytes and None"
            )


def _misfits_of_target(pipeline: Pipeline, said: str, feature: KeyedFeature, delay: float) -> Iterator[str]:
    """Yield why a feature cannot look back at the labels."""
    truth = getattr(pipeline.labels, "truth", None)
    if pipeline.label_field is not None:
        yield (
            f"{said} looks back at labels that come later, and labels={pipeline.label_field!r} come with their events: "
            f"write rate({pipeline.label_field!r}, ...) instead"
        )
    elif pipeline.labels is None:
        yield f"{said} looks back at labels, and there are none; name their class by labels="
    elif truth is not None and delay < truth.within:
        yield (
            f"{said} looks back at events that are {delay:g} s old, and a {pipeline.labels.__name__} may take "
            f"{truth.within:g} s (within): what is known of the younger ones is no fair sample, and another one in "
            f"training; allowed are delays of {truth.within:g} s and more"
        )
    if pipeline.asked_kind == "multiclass":
        yield f"{said} averages labels, and of kind = 'multiclass' they are names of classes, which have no mean"
    wire = pipeline.events.wire
    if feature.keys != (wire.key,) and wire.key in feature.keys:
        yield (
            f"{said} remembers per {' and '.join(map(repr, feature.keys))}, and of an event that waits for its label "
            f"the topic's key alone is known; write per({wire.key!r})"
        )


def _is_plain(hint: Any) -> bool:
    return hint in (str, int, float, bool, bytes, type(None)) or get_origin(hint) is Literal


def _near(name: str, names: Mapping[str, Any]) -> str:
    near = difflib.get_close_matches(name, names, n=1)
    return f"; did you mean {near[0]!r}?" if near else f"; there are {', '.join(names)}"

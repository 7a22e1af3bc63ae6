"""``headrace drift report``: a period of a stream, from the topics: what came, what moved, how far, what was said."""

import sys
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing
from datetime import UTC, datetime
from typing import NamedTuple, Protocol

import msgspec
import numpy as np

from headrace.models import snapshot
from headrace.models.beginning import Beginning
from headrace.models.bins import Bins
from headrace.models.distances import VALUES_MIN, distances, shares
from headrace.models.evidence import RELATION_LEAST
from headrace.models.evidence import SURE as ERRORS_OF_REFERENCE
from headrace.models.memory import Array, Floats, Ints
from headrace.models.monitor import EVENTS_MIN
from headrace.models.pipeline import Pipeline
from headrace.models.reference import CERTAIN, Reference, correlations, whole_ranks
from headrace.models.watch import Counted, Watch, kind_of
from headrace.schemas.alert import Alert, AlertState, Evidence, Severity
from headrace.schemas.codec import encode
from headrace.schemas.config import Config
from headrace.schemas.errors import BadConfig, BadPipeline, BadReference, BadSlice, TopicMissing
from headrace.schemas.position import EARLIEST, LATEST, Position
from headrace.schemas.quality import QualityReport
from headrace.stream.files import Target
from headrace.stream.replay import Progress, with_group
from headrace.stream.slice import Asking, Log, Reader

READ_COUNT = 1_000
POINTS_MAX = 200  # in a plot; more would not be seen
REPORTS_MAX = 4 * POINTS_MAX  # on one model on one partition
NICE_SECONDS = (1, 2, 10, 20, 60, 300, 600, 1_800, 3_600, 7_200, 21_600, 43_200, 86_400)  # each divides the next
RELATIONS_MAX = 40
GROUP_SERIES_MAX = 3
ALERTS_MAX = 500
MEASURES = {  # what is plotted of how good a model is
    "binary": ("log_loss", "roc_auc", "accuracy", "calibration_ratio"),
    "multiclass": ("accuracy", "macro_f1", "log_loss", "kappa"),
    "regression": ("mae", "rmse", "r2", "bias"),
    "anomaly": ("roc_auc", "pr_auc", "precision_at_k"),
}
_alert = msgspec.json.Decoder(Alert).decode
_quality = msgspec.json.Decoder(QualityReport).decode
Line = list[float | None]  # a number for each point in time, or none


class Period(NamedTuple):
    """A time of the events, in seconds; without an end it is as long as there are slices."""

    begin: float | None = None
    end: float | None = None

    @classmethod
    def asked(cls, begin: Position, end: Position) -> "Period":
        """Return the period between two positions, or raise: in the time of events there are no offsets.

        >>> Period.asked(Position.parsed("@2026-01-01"), Position.parsed("latest"))
        Period(begin=1767225600.0, end=None)
        >>> Period.asked(Position.parsed("41"), Position.parsed("latest"))
        Traceback (most recent call last):
        headrace.schemas.errors.BadConfig: config cannot run (1 problem):
          --from 41: a report is of a time of the events; allowed are @2026-01-31T12:00:00Z and earliest
        """
        problems = [
            f"{flag} {given.said}: a report is of a time of the events; allowed are @2026-01-31T12:00:00Z and {word}"
            for flag, given, word in (("--from", begin, EARLIEST), ("--to", end, LATEST))
            if given.time_ms is None and given.said != word
        ]
        if problems:
            raise BadConfig(problems)
        return cls(*(None if one.time_ms is None else one.time_ms / 1_000 for one in (begin, end)))

    def has(self, at: float) -> bool:
        """Say whether a time is in it."""
        return (self.begin is None or at >= self.begin) and (self.end is None or at < self.end)


# What a report says.


class Series(msgspec.Struct, kw_only=True):
    """How one series was spread, and how far that was from what is usual.

    ``furthest`` is the point in time at which it was furthest from the reference, beyond what chance would give, and
    ``moved`` is by how much PSI that was. Without a reference there are no distances.
    """

    name: str
    kind: str  # feature, score or label
    compared_with: str
    bins: list[str]
    outside: list[int]  # bins of values that the reference never had
    reference: list[int]
    current: list[int]
    furthest: list[int] = []
    furthest_at: float | None = None
    moved: float = 0.0
    distances: dict[str, float] = {}  # of the whole period
    furthest_distances: dict[str, float] = {}
    over_time: dict[str, Line] = {}
    missing: Line = []
    new: Line = []

    def share(self, counts: Sequence[int], places: Sequence[int]) -> float | None:
        """Return the share of some bins."""
        total = sum(counts)
        return sum(counts[place] for place in places) / total if total else None


class GroupSeries(msgspec.Struct, kw_only=True):
    """A series that moved in a part of the stream."""

    name: str
    at: float
    psi: float
    moved: float


class Group(msgspec.Struct, kw_only=True):
    """A part of the stream that is watched on its own, such as ``merchant=m7``, and what moved most in it."""

    name: str
    events: int
    moved: list[GroupSeries]


class Relation(msgspec.Struct, kw_only=True):
    """Two features that did not go together as they used to: correlations of their ranks."""

    first: str
    second: str
    usual: float
    current: float  # in the whole period
    furthest: float
    furthest_at: float
    over_time: Line


class Said(msgspec.Struct, kw_only=True):
    """Something that was said of an alert."""

    at: float
    state: AlertState
    severity: Severity
    text: str


class Told(msgspec.Struct, kw_only=True):
    """One alert, from when it was raised until it was cleared."""

    id: str
    kind: str
    text: str
    series: str
    slice: str
    severity: Severity  # the worst
    since: float
    cleared: float | None
    life: list[Said]
    explained_by: list[str]
    effect: dict[str, float]
    action: str
    evidence: Evidence


class Judged(msgspec.Struct, kw_only=True):
    """How good one model was in its sliding window, all partitions together, and what was said last."""

    model: str
    kind: str
    window: float
    labels: float
    over_time: dict[str, Line]
    newest: dict[str, float]


class Report(msgspec.Struct, kw_only=True):
    """All that is told of a period. Times are those of the events, in seconds; points are ``step`` seconds apart."""

    pipeline: str
    version: str
    begin: float
    end: float
    every: float
    step: float
    slices: int
    events: int
    partitions: list[int]
    alerts: dict[str, int]  # by their severity
    points: list[float]
    volume: list[int]
    told: list[Told]
    series: list[Series]
    groups: list[Group]
    relations: list[Relation]
    quality: list[Judged]
    notes: list[str]


# What is read.


class Takes(Protocol):
    """What reads the records of a topic."""

    unreadable: int

    def take(self, value: bytes) -> None:
        """Take a record."""


class Slices:
    """Puts the slices of all partitions together, in as many points in time as a plot can show, however many there are.

    Points become wider when there are too many of them, so that a week takes no more memory than an hour.
    """

    def __init__(self, watch: Watch, period: Period) -> None:
        self._watch, self._period = watch, period
        self.width = 1  # slices in a point
        self.points: dict[int, Counted] = {}
        self.numbers: tuple[int, int] | None = None  # of the first and the last slice in the period
        self.there: tuple[int, int] | None = None  # and on the topic
        self.partitions: set[int] = set()
        self.count = self.of_others = self.unreadable = 0
        self.beginning = Beginning(watch)

    def take(self, value: bytes) -> None:
        """Take a record."""
        try:
            said = snapshot.decode(zlib.decompress(value))
            if "slice" not in said:
                return  # a partition is idle, or somebody has seen an alert
            number = int(said["slice"][0])
            inside = self._period.has(number * self._watch.every_s)
            if said["of"] != self._watch.fingerprint:
                self.of_others += inside
                return
            self.there = _stretched(self.there, number)
            early = self.beginning.wants(number)
            if not inside and not early:
                return
            slice_, partition = Counted.load(said["slice"]), int(said["partition"])
        except (zlib.error, snapshot.Unreadable, KeyError, IndexError, TypeError, ValueError, AttributeError):
            self.unreadable += 1
            return
        if early:
            self.beginning.note(slice_)
        if inside:
            self._add(slice_)
            self.partitions.add(partition)
            self.count += 1

    def _add(self, slice_: Counted) -> None:
        self.numbers = _stretched(self.numbers, slice_.number)
        place = slice_.number // self.width
        known = self.points.get(place)
        self.points[place] = slice_ if known is None else known.plus(slice_)
        while self.numbers[1] // self.width - self.numbers[0] // self.width >= POINTS_MAX:
            wider = self._wider()
            points: dict[int, Counted] = {}
            for at, one in self.points.items():
                whole = at * self.width // wider
                points[whole] = points[whole].plus(one) if whole in points else one
            self.width, self.points = wider, points

    def _wider(self) -> int:
        for nice in NICE_SECONDS:
            slices = nice / self._watch.every_s
            if slices > self.width and slices % self.width == 0:
                return int(slices)
        return 2 * self.width

    def places(self) -> list[int]:
        """Return the numbers of all points, those without an event too."""
        assert self.numbers is not None
        return list(range(self.numbers[0] // self.width, self.numbers[1] // self.width + 1))


def _stretched(ends: tuple[int, int] | None, number: int) -> tuple[int, int]:
    return (number, number) if ends is None else (min(ends[0], number), max(ends[1], number))


class Alerts:
    """What was said of each alert of a pipeline."""

    def __init__(self, pipeline: str) -> None:
        self._pipeline = pipeline
        self._said: dict[str, list[Alert]] = {}
        self.unreadable = 0

    def take(self, value: bytes) -> None:
        """Take a record."""
        try:
            alert = _alert(value)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            self.unreadable += 1
            return
        if alert.pipeline in ("", self._pipeline):
            self._said.setdefault(alert.id, []).append(alert)

    def told(self, begin: float, end: float) -> list[Told]:
        """Return the alerts that were open in a period, the first to be raised first."""
        found = [_told(sorted(some, key=lambda one: one.at)) for some in self._said.values()]
        mine = [one for one in found if one.life[0].at <= end and (one.cleared is None or one.cleared >= begin)]
        return sorted(mine, key=lambda one: (one.life[0].at, one.id))


def severest(told: Sequence[Told], most: int) -> list[Told]:
    """Return the most severe, in the order in which they were."""
    chosen = {one.id for one in sorted(told, key=lambda one: -one.severity.rank)[:most]}
    return [one for one in told if one.id in chosen]


def _told(said: Sequence[Alert]) -> Told:
    first, last = said[0], said[-1]
    # An alert that is over shows again what is usual; what it was about is what was said before.
    there = [one for one in said if one.state != AlertState.CLEARED] or list(said)
    shown = max(there, key=lambda one: (bool(one.evidence.bins), one.severity.rank, one.at))
    return Told(
        id=first.id,
        kind=first.kind,
        text=there[0].text,
        series=first.series,
        slice=first.slice,
        severity=max((one.severity for one in said), key=lambda one: one.rank),
        since=first.since if first.since is not None else first.at,
        cleared=last.at if last.state == AlertState.CLEARED else None,
        life=[Said(at=one.at, state=one.state, severity=one.severity, text=one.text) for one in said],
        explained_by=next((one.explained_by for one in reversed(said) if one.explained_by), []),
        effect=next((one.effect for one in reversed(there) if one.effect), {}),
        action=next((one.action for one in reversed(there) if one.action), ""),
        evidence=shown.evidence,
    )


class Qualities:
    """What was reported of how good each model of a pipeline is: of each partition no more than a plot can show."""

    def __init__(self, pipeline: str, period: Period) -> None:
        self._pipeline, self._period = pipeline, period
        self._of: dict[tuple[str, int | None], _Reports] = {}
        self.unreadable = 0

    def take(self, value: bytes) -> None:
        """Take a record."""
        try:
            report = _quality(value)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            self.unreadable += 1
            return
        late = self._period.end is not None and report.at >= self._period.end
        if report.pipeline == self._pipeline and not late:
            known = self._of.setdefault((report.model, report.partition), _Reports())
            known.take(report, inside=self._period.has(report.at))

    def judged(self, points: Sequence[float], step: float) -> list[Judged]:
        """Return how good each model was at each point in time: the newest reports of all partitions until its end."""
        of: dict[str, list[QualityReport]] = {}
        for (model, _), known in self._of.items():
            of.setdefault(model, []).extend(known.all())
        made = [self._judged(some, points, step) for some in of.values()]
        return sorted(
            (one for one in made if one is not None), key=lambda one: (_MODELS.get(one.model, len(_MODELS)), one.model)
        )

    def _judged(self, reports: list[QualityReport], points: Sequence[float], step: float) -> Judged | None:
        whole = [one for one in reports if one.partition is None]
        ordered = sorted(whole or reports, key=lambda one: one.at)
        names = MEASURES[ordered[-1].kind]
        lines: dict[str, Line] = {name: [None] * len(points) for name in names}
        newest: dict[int | None, QualityReport] = {}
        at, any_inside = 0, False
        for place, begin in enumerate(points):
            heard = False
            while at < len(ordered) and ordered[at].at < begin + step:
                newest[ordered[at].partition] = ordered[at]
                heard = heard or ordered[at].at >= begin
                at += 1
            if heard:
                any_inside = True
                for name in names:
                    lines[name][place] = _together([one.recent for one in newest.values()], name)
        if not any_inside:
            return None
        recent = [one.recent for one in newest.values()]
        every = list(dict.fromkeys(name for one in recent for name in one))
        together = {name: _together(recent, name) for name in every}
        return Judged(
            model=ordered[-1].model,
            kind=ordered[-1].kind,
            window=ordered[-1].window,
            labels=sum(one.get("count") or 0.0 for one in recent),
            over_time={name: line for name, line in lines.items() if any(one is not None for one in line)},
            newest={name: value for name, value in together.items() if value is not None},
        )


class _Reports:
    """Reports on one model on one partition; when there are too many, the newest of each of wider spans of time."""

    def __init__(self) -> None:
        self._before: QualityReport | None = None  # the newest before the period
        self._kept: dict[int, QualityReport] = {}
        self._width = 1.0

    def take(self, report: QualityReport, *, inside: bool) -> None:
        if not inside:
            self._before = _newer(self._before, report)
            return
        self._put(report)
        while len(self._kept) > REPORTS_MAX:
            kept, self._kept = self._kept, {}
            self._width *= 2
            for one in kept.values():
                self._put(one)

    def _put(self, report: QualityReport) -> None:
        place = int(report.at // self._width)
        self._kept[place] = _newer(self._kept.get(place), report)

    def all(self) -> list[QualityReport]:
        return [*([] if self._before is None else [self._before]), *self._kept.values()]


def _newer(known: QualityReport | None, report: QualityReport) -> QualityReport:
    return report if known is None or report.at >= known.at else known


_MODELS = {name: place for place, name in enumerate(("combined", "static", "online"))}


def _together(reports: Sequence[dict[str, float | None]], name: str) -> float | None:
    """Return a number of all partitions: what is counted is added up, of the rest it is the mean by labels."""
    known = [(one[name], one.get("count") or 0.0) for one in reports if one.get(name) is not None]
    if name in ("count", "unusable", "positives"):
        return sum((value or 0.0) for value, _ in known) if known else None
    weight = sum(count for _, count in known)
    return sum((value or 0.0) * count for value, count in known) / weight if weight else None


# What is made of it.


def make(pipeline: Pipeline, slices: Slices, alerts: Alerts, qualities: Qualities, notes: Sequence[str] = ()) -> Report:
    """Return the report on slices, of which there is at least one."""
    watch = pipeline.watch
    assert watch is not None
    assert slices.numbers is not None
    places, step = slices.places(), slices.width * watch.every_s
    points = [place * step for place in places]
    begin, end = slices.numbers[0] * watch.every_s, (slices.numbers[1] + 1) * watch.every_s
    told = alerts.told(begin, end)
    counts = Counter(one.severity.value for one in told)
    notes = list(notes)
    if slices.of_others:
        notes.append(f"{slices.of_others:,} slices are of another reference than the page's, and left out")
    takers: list[tuple[str, Takes]] = [("slices", slices), ("alerts", alerts), ("quality", qualities)]
    for name, taker in takers:
        if taker.unreadable:
            notes.append(f"records on the topic of {name} that cannot be read, and are left out: {taker.unreadable:,}")
    if len(told) > ALERTS_MAX:
        notes.append(f"of {len(told):,} alerts the {ALERTS_MAX} most severe are told of")
        told = severest(told, ALERTS_MAX)
    rows = _Rows(watch, slices, places)
    series = list(_series(watch, slices, rows, points, notes))
    return Report(
        pipeline=pipeline.name,
        version=pipeline.version,
        begin=begin,
        end=end,
        every=watch.every_s,
        step=step,
        slices=slices.count,
        events=sum(one.events for one in slices.points.values()),
        partitions=sorted(slices.partitions),
        alerts={one.value: counts[one.value] for one in reversed(Severity)},
        points=points,
        volume=[slices.points[place].events if place in slices.points else 0 for place in places],
        told=told,
        series=sorted(series, key=lambda one: -one.moved),
        groups=_groups(watch, slices, places, points),
        relations=_relations(watch, slices, places, points),
        quality=qualities.judged(points, step),
        notes=notes,
    )


class _Rows:
    """Counts of points in time, a row each; a point without an event has zeros."""

    def __init__(self, watch: Watch, slices: Slices, places: Sequence[int]) -> None:
        there = [slices.points.get(place) for place in places]
        self.counts = _stacked([None if one is None else one.counts for one in there], watch.binner.total)
        self.own = _stacked([None if one is None else one.own for one in there], watch.event_binner.total)
        self.labels = _stacked([None if one is None else one.labels for one in there], watch.label_binner.total)


def _stacked(rows: Sequence[Ints | None], total: int) -> Ints:
    nothing = np.zeros(total, np.int64)
    return np.stack([nothing if one is None else one for one in rows])


def _series(watch: Watch, slices: Slices, rows: _Rows, points: Sequence[float], notes: list[str]) -> Iterator[Series]:
    learned = [slices.beginning.learned(1), slices.beginning.learned(2)]
    for what, found in zip(("scores", "labels"), learned, strict=True):
        if found is None:
            any_there = rows.own.any() if what == "scores" else rows.labels.any()
            if any_there:
                notes.append(f"it is not known yet how the worker's own {what} are spread usually: too few slices")
        elif slices.numbers is not None and slices.numbers[0] <= found[2]:
            notes.append(f"what the worker's own {what} are compared with was learned within this period")
    parts = (
        (watch.binner, rows.counts, (watch.reference, 0, 0)),
        (watch.event_binner, rows.own, learned[0]),
        (watch.label_binner, rows.labels, learned[1]),
    )
    for part, (binner, counts, known) in enumerate(parts):
        for place, one in enumerate(binner.series):
            mine = counts[:, binner.begins[place] : binner.begins[place + 1]]
            if part and not mine.any():
                continue  # there is no such model, or no label came
            usual = None if known is None else known[0]
            if part == 0:
                text = f"the reference, of {watch.reference.events:,} events"
            elif known is None:
                text = ""
            else:
                ends = known[1] * watch.every_s, (known[2] + 1) * watch.every_s
                text = f"the first slices that the topic has, {when(ends[0])} to {when(ends[1])}"
            kind = kind_of(part, one.name)
            yield _one(one, mine, usual, place, points, kind=kind, compared_with=text)


def _one(
    bins: Bins,
    rows: Ints,
    usual: Reference | None,
    place: int,
    points: Sequence[float],
    *,
    kind: str,
    compared_with: str,
) -> Series:
    totals = rows.sum(axis=1)
    outside = bins.outside
    made = Series(
        name=bins.name,
        kind=kind,
        compared_with=compared_with,
        bins=bins.names,
        outside=outside,
        reference=[] if usual is None else usual.of(place).tolist(),
        current=rows.sum(axis=0).tolist(),
        missing=_line(rows[:, bins.missing] / np.maximum(1, totals), totals > 0),
        new=_line(rows[:, outside].sum(axis=1) / np.maximum(1, totals), totals > 0),
    )
    if usual is None or not usual.of(place).any():
        return made
    before = usual.of(place)
    each = [distances(before, row) if total >= VALUES_MIN else None for row, total in zip(rows, totals, strict=True)]
    if rows.any():
        made.distances = _rounded(distances(before, rows.sum(axis=0)))
        made.over_time = {
            name: [None if one is None else round(one[name], 6) for one in each] for name in made.distances
        }
    beyond = _beyond(usual, place, rows)
    if (totals >= VALUES_MIN).any():
        at = int(np.argmax(beyond))
        made.moved = round(max(0.0, float(beyond[at])), 6)
        made.furthest, made.furthest_at = rows[at].tolist(), points[at]
        made.furthest_distances = _rounded(distances(before, rows[at]))
    return made


def _rounded(measured: dict[str, float]) -> dict[str, float]:
    return {name: round(value, 6) for name, value in measured.items()}


def _line(values: Floats, there: Array) -> Line:
    return [round(float(value), 6) if one else None for value, one in zip(values, there, strict=True)]


def _beyond(usual: Reference, place: int, rows: Ints) -> Floats:
    """Return by how much the PSI of each point is more than what chance would give."""
    before, totals = usual.of(place), rows.sum(axis=1)
    now = (rows + 0.5) / (totals + 0.5 * len(before))[:, None]
    then = shares(before)
    psi = ((now - then) * np.log(now / then)).sum(axis=1)
    made: Floats = psi - usual.chance(place, totals)
    made[totals < VALUES_MIN] = -np.inf
    return made


def _groups(watch: Watch, slices: Slices, places: Sequence[int], points: Sequence[float]) -> list[Group]:
    made = []
    first = watch.binner.series[0].count
    for field, values in watch.slices.items():
        for value, usual in values.items():
            name = f"{field}={value}"
            there = [slices.points.get(place) for place in places]
            rows = _stacked([None if one is None else one.groups.get(name) for one in there], watch.binner.total)
            found = []
            for place, one in enumerate(watch.binner.series):
                mine = rows[:, watch.binner.begins[place] : watch.binner.begins[place + 1]]
                beyond = _beyond(usual, place, mine)
                at = int(np.argmax(beyond))
                if beyond[at] > 0:
                    psi = round(distances(usual.of(place), mine[at])["psi"], 6)
                    found.append(GroupSeries(name=one.name, at=points[at], psi=psi, moved=round(float(beyond[at]), 6)))
            found.sort(key=lambda one: -one.moved)
            made.append(Group(name=name, events=int(rows[:, :first].sum()), moved=found[:GROUP_SERIES_MAX]))
    return sorted(made, key=lambda one: -max((each.moved for each in one.moved), default=0.0))


def _relations(watch: Watch, slices: Slices, places: Sequence[int], points: Sequence[float]) -> list[Relation]:
    usual, inflation = watch.reference.related, watch.reference.unrelated
    if usual is None or inflation is None or len(watch.related) < 2 or len(usual) != len(watch.related):
        return []
    ranks = [whole_ranks(watch.reference.scores[place]) for place in watch.related]

    def related(one: Counted) -> Floats:
        return correlations(one.products, one.counts, watch.binner, ranks, watch.related)

    there = {at: slices.points[place] for at, place in enumerate(places) if place in slices.points}
    enough = {at: one for at, one in there.items() if one.events >= EVENTS_MIN}
    if not enough:
        return []
    each = {at: related(one) for at, one in enough.items()}
    whole: Counted | None = None
    for one in there.values():
        whole = one if whole is None else whole.plus(one)
    assert whole is not None
    current = related(whole)
    inflated = np.maximum(1.0, inflation)
    spare = np.maximum(RELATION_LEAST, ERRORS_OF_REFERENCE * np.sqrt(inflated / max(1, watch.reference.events)))
    order = list(each)
    off = np.stack([np.abs(np.arctanh(each[at]) - np.arctanh(usual)) for at in order])
    errors = np.stack([CERTAIN * np.sqrt(inflated / enough[at].events) for at in order])
    beyond = np.triu((off - spare - errors).max(axis=0), 1)
    furthest = (off - errors).argmax(axis=0)
    pairs = sorted(np.argwhere(beyond > 0).tolist(), key=lambda pair: -float(beyond[tuple(pair)]))[:RELATIONS_MAX]
    names = [watch.binner.series[place].name for place in watch.related]
    return [
        Relation(
            first=names[a],
            second=names[b],
            usual=round(float(usual[a, b]), 6),
            current=round(float(current[a, b]), 6),
            furthest=round(float(each[order[furthest[a, b]]][a, b]), 6),
            furthest_at=points[order[furthest[a, b]]],
            over_time=[round(float(each[at][a, b]), 6) if at in each else None for at in range(len(points))],
        )
        for a, b in pairs
    ]


def when(seconds: float) -> str:
    """Return a time as people read it, in UTC; the number where it is beyond all calendars.

    >>> when(1_767_225_605.0), when(1e300)
    ('2026-01-01 00:00:05', '1e+300 s')
    """
    try:
        return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S")
    except (OverflowError, OSError, ValueError):
        return f"{seconds:g} s"


# Where it is read from.


def read(pipeline: Pipeline, config: Config, period: Period, *, slices_topic: str = "") -> Report:
    """Read the topics, and return the report on a period, or raise if there is nothing to report on."""
    if pipeline.watch is None:
        raise BadPipeline(
            [f"{pipeline.name} watches nothing, so there are no slices; write Pipeline(watch=Drift(...))"]
        )
    config = with_group(pipeline, config)
    topic = slices_topic or config.slices_topic
    slices, alerts = Slices(pipeline.watch, period), Alerts(pipeline.name)
    qualities = Qualities(pipeline.name, period)
    notes: list[str] = []
    asking = Asking(config)
    try:
        logs = asking.logs(topic)
    except TopicMissing as error:
        raise TopicMissing(
            f"{error}; a worker whose page says watch=Drift(...) makes it, and --group says which worker's"
        ) from error
    wanted: list[tuple[str, dict[int, Log], Takes]] = [(topic, logs, slices)]
    others: list[tuple[str, Takes, str]] = [
        (config.topic_alerts, alerts, "so no alert is told of"),
        (config.topic_quality, qualities, "so it is not said how good the models were"),
    ]
    for name, taker, lacking in others:
        try:
            wanted.append((name, asking.logs(name), taker))
        except TopicMissing:
            notes.append(f"there is no topic {name}, {lacking}")
    offsets = sum(log.end - log.first for _, some, _ in wanted for log in some.values())
    progress = Progress(offsets, sys.stderr)
    with closing(Reader(config)) as reader, closing(progress):
        for name, some, taker in wanted:
            for partition, log in some.items():
                for messages in reader.read(name, partition, *log, count=READ_COUNT):
                    for message in messages:
                        taker.take(message.value() or b"")
                    progress.moved(f"reading {name}", len(messages), len(messages))
    if slices.numbers is None:
        raise _nothing(pipeline.watch, slices, period, topic)
    return make(pipeline, slices, alerts, qualities, notes)


def _nothing(watch: Watch, slices: Slices, period: Period, topic: str) -> BadSlice | BadReference:
    said = " ".join(
        f"{flag} {when(at)}" for flag, at in (("--from", period.begin), ("--to", period.end)) if at is not None
    )
    if slices.of_others:
        return BadReference(
            f"{topic}: all {slices.of_others:,} slices in this period are of another reference than the page's "
            f"(which is {watch.fingerprint}); put back the reference.json that was used then"
        )
    if slices.there is None:
        return BadSlice([f"{topic} has no slice yet; one is published when its time is over ({watch.every})"])
    first, last = slices.there[0] * watch.every_s, (slices.there[1] + 1) * watch.every_s
    return BadSlice([f"{said}: no slice is in between; {topic} has those of {when(first)} to {when(last)}, in UTC"])


def main(
    pipeline: Pipeline, config: Config, period: Period, *, out: str, force: bool = False, as_json: bool = False
) -> None:
    """Write the report, as a page or as its numbers, and tell on stderr what is in it."""
    from headrace.stream.report_page import page  # noqa: PLC0415 - it needs what is said here

    target = Target(out, force=force)
    report = read(pipeline, config, period)
    content = encode(report) + b"\n" if as_json else page(report).encode()
    with target, target.writing():
        target.file.write(content)
        target.keep()
    told = ", ".join(f"{count} {severity}" for severity, count in report.alerts.items() if count) or "none"
    moved = sum(one.moved > 0 for one in report.series)
    print(  # noqa: T201
        f"{when(report.begin)} to {when(report.end)} UTC: {report.events:,} events, alerts: {told}; "
        f"{moved} of {len(report.series)} series moved",
        *(f"note: {one}" for one in report.notes),
        sep="\n",
        file=sys.stderr,
        flush=True,
    )

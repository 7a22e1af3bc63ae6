"""Tells changes of the whole stream from chance, and says of each what it is, since when, and when it is over."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import msgspec
import numpy as np

from headrace.models.actions import ERRORS
from headrace.models.distances import distances, shares
from headrace.models.evidence import KEPT, Evidence, Found
from headrace.models.memory import Floats, Ints
from headrace.models.reference import Reference
from headrace.models.settling import HOUR_ROWS_MAX, Settling, alike
from headrace.models.trailing import Trailing
from headrace.models.watch import EVENT_SERIES, FEATURE_SERIES, LABEL_SERIES, REASON, Counted, Watch
from headrace.schemas.alert import Alert, AlertState, Severity
from headrace.schemas.alert import Evidence as Shown
from headrace.schemas.order import Action, Order, OrderState

EVENTS_MIN = 200  # fewer say little, and wait for the next slice
WAIT_SLICES_MAX = 1_000  # for a partition that says nothing
OWN = ("own", "labels")  # what hangs on the worker itself
LEARNER = frozenset({"score", "online", "disagreement", "error", "error_online", "calibration"})  # and on its learner
SHARES = {"features": 0.6, "own": 0.15, "labels": 0.15, "volume": 0.1}  # of the false alarms; slices share the first
TOGETHER_SLICES = 6  # what is found so soon after an alert is a part of it
SURE = 8.0  # a change is over if it is half as large as it was, and that is so many standard errors away
CLEAR_SLICES = 3  # in a row
SEVERITY_SLICES = 4
VOLUME_EFFECTS = np.array([0.5, 1.0, 2.0])
VOLUME_CLIP = 4.0
VOLUME_SLICES = 30  # before it is known how many events there are
VOLUME_MEMORY = 0.02  # how fast what is usual follows
EXPLAINED_MAX = 10
BAD_SHIFT, WORSE_SHIFT = 0.25, 0.75  # in the spread of the reference, from where on it matters more
BAD_PSI, WORSE_PSI = 0.1, 0.25
_WAYS = {
    0: ("moved up", "moved down"),
    1: ("spread out", "drew together"),
    2: ("leans upwards", "leans downwards"),
    3: ("has heavier ends", "has lighter ends"),
}


class Cause(NamedTuple):
    """What was found in which series."""

    engine: str  # features, own, labels, volume, or a value of a field that is watched on its own
    found: Found

    @property
    def key(self) -> str:
        """A name for what it is about, whatever exactly was found there."""
        kind = "relation" if self.found.kind == "relation" else "series"
        return f"{self.engine}/{kind}/{self.found.place}"


class Open:
    """An alert that is not over."""

    def __init__(self, alert: Alert, causes: Sequence[Cause], sizes: Sequence[float], slice_number: int) -> None:
        self.alert = alert
        self.causes = list(causes)
        self.sizes = list(sizes)  # of each cause's effect when it was found
        self.calm = [0] * len(self.causes)  # for how many slices in a row it has been gone
        self.begun = slice_number
        self.acknowledged = False
        self.taken: list[Action] = []  # what was done because of it


class Monitor:
    """Puts the slices of all partitions together, and raises one alert for one change.

    A slice is looked at when every partition that was ever heard of is past it, or is known to be idle: so how many
    workers there are, and how far each has come, changes nothing. ``step`` is given what partitions say, in the order
    in which it was written, and returns what is to be said.
    """

    def __init__(self, watch: Watch, *, name: str, version: str) -> None:
        self._watch = watch
        self._name, self._version = name, version
        self._partitions = 1  # that there are, as far as was heard
        self._last: dict[int, int] = {}  # the newest slice of each partition
        self._idle: set[int] = set()
        self._waiting: dict[int, Counted] = {}  # slices that are not complete, by their number
        self._gathered: Counted | None = None  # with too few events to be looked at
        self._done: int | None = None  # the last slice that was looked at
        self._engines = self._fresh_engines()
        self._trailing = self._fresh_trailing()
        self._hours: dict[str, int] = {}  # of the season, that engines compare with
        self._learned: dict[str, Reference] = {}  # what is usual of the worker's own numbers
        self._settling: dict[str, Settling] = {}  # what it will be
        self._unsettled: set[str] = set()  # where the learner was not spread as the time before
        self._volume = _Volume(watch.slices_per_alarm / SHARES["volume"])
        self.open: dict[str, Open] = {}  # by the id of the alert
        self._owner: dict[str, str] = {}  # of a cause: the alert that it belongs to
        self._names = 0
        self._orders: list[Order] = []
        self._ordered_count = 0
        self.looked = 0  # slices that were looked at
        self.late = 0  # slices that came when their time was over
        self.repeated = 0  # and those that came twice
        self._first: int | None = None  # slice, from which the features begin to remember

    def _fresh_engines(self) -> dict[str, Evidence]:
        watch = self._watch
        groups = [(f"{field}={value}", one) for field, some in watch.slices.items() for value, one in some.items()]
        share = SHARES["features"] / (2 if groups else 1)
        engines = {"features": self._evidence(watch.reference, share, watch.related)}
        engines |= {name: self._evidence(one, share / len(groups), ()) for name, one in groups}
        return engines

    def _evidence(self, reference: Reference, share: float, related: Sequence[int]) -> Evidence:
        per_alarm = self._watch.slices_per_alarm
        return Evidence(reference, slices_per_alarm=per_alarm, related=related, share=share)

    def _fresh_trailing(self) -> dict[str, Trailing]:
        return {name: self._follower(name) for name in self._engines} if self._watch.window_slices else {}

    def _follower(self, name: str) -> Trailing:
        engine = self._engines[name]
        return Trailing(engine.reference, engine.related, self._watch.window_slices)

    # What comes.

    def step(self, said: Sequence[Mapping[str, Any]]) -> list[Alert]:
        """Take what partitions say, and what people do about alerts; return what is to be said."""
        alerts: list[Alert] = []
        for one in said:
            if "acknowledged" in one:
                alerts += self._acknowledge(one["acknowledged"], one.get("by", ""))
                continue
            partition = one["partition"]
            self._partitions = max(self._partitions, one["partitions"])
            if "slice" in one:
                slice_ = Counted.load(one["slice"])
                self._idle.discard(partition)
                if slice_.number <= self._last.get(partition, slice_.number - 1):
                    self.repeated += 1  # at least once, it may come again
                    continue
                self._last[partition] = slice_.number
                self._put(slice_)
            else:
                self._idle.add(partition)
            alerts += self._look()
        return alerts

    def orders(self) -> list[Order]:
        """Return what is to be done, or is over, since this was asked last."""
        orders, self._orders = self._orders, []
        return orders

    def _put(self, slice_: Counted) -> None:
        number = slice_.number
        if self._done is not None and number <= self._done:
            self.late += 1
            number = self._done + 1
        known = self._waiting.get(number)
        self._waiting[number] = slice_._replace(number=number) if known is None else known.plus(slice_)

    def _look(self) -> list[Alert]:
        alerts: list[Alert] = []
        while self._waiting:
            number = min(self._waiting)
            behind = [one for one, last in self._last.items() if last < number and one not in self._idle]
            unheard = self._done is None and len(self._idle | self._last.keys()) < self._partitions
            many = len(self._waiting) > WAIT_SLICES_MAX
            if (behind or unheard) and not many:
                break
            alerts += self._take(self._waiting.pop(number))
        return alerts

    def _take(self, slice_: Counted) -> list[Alert]:
        self._first = slice_.number if self._first is None else self._first
        if (slice_.number - self._first) * self._watch.every_s < self._watch.warm_up_s:
            self._done = slice_.number
            return []
        gap = 0 if self._done is None else slice_.number - self._done - 1
        self._done = slice_.number
        alerts = self._heed_volume(slice_, gap)
        if self._gathered is not None and self._watch.part(self._gathered.number) != self._watch.part(slice_.number):
            self._gathered = None  # it is of another hour, and compared with none
        together = slice_ if self._gathered is None else self._gathered.plus(slice_)
        if together.events < EVENTS_MIN:
            self._gathered = together
            return alerts
        self._gathered = None
        self.looked += 1
        hour, found = self._watch.part(slice_.number), []
        if self._turn("features", hour):
            engine = self._engines["features"]
            found = [Cause("features", one) for one in engine.step(together.counts, together.products)]
        for name, counts in together.groups.items():
            if name in self._engines and self._turn(name, hour):
                found += [Cause(name, one) for one in self._engines[name].step(counts)]
        found += self._own("own", together.own, hour)
        if together.labels.any():
            found += self._own("labels", together.labels, hour)
        at = (slice_.number + 1) * self._watch.every_s
        alerts += [*self._settle(at), *self._raise(found, at)]
        self._follow(together)
        return alerts

    def _follow(self, slice_: Counted) -> None:
        """Let what is usual follow the stream, where that is asked for."""
        own = {"own": slice_.own, "labels": slice_.labels} if slice_.labels.any() else {"own": slice_.own}
        for name, counts in {"features": slice_.counts, **slice_.groups, **own}.items():
            if name in self._trailing:
                products = slice_.products if name == "features" else None
                usual = self._trailing[name].step(slice_.number, counts, products)
                if usual is not None:
                    self._engines[name].refer(usual)

    def _usual(self, name: str, hour: int) -> Reference | None:
        """Return what is usual in an hour of the season; None where nobody knows."""
        if name in OWN:
            return self._learned.get(f"{name}@{hour}")
        known = self._watch.parts.get("" if name == "features" else name)
        return known[hour] if known is not None else None

    def _turn(self, name: str, hour: int) -> bool:
        """Have a slice compared with the same hour of other days, if that is asked for; False where none is known."""
        if not self._watch.season_s:
            return True
        usual = self._usual(name, hour)
        if usual is not None and self._hours.get(name) != hour:
            self._hours[name] = hour
            self._engines[name].turn(usual)
        return usual is not None

    def _own(self, name: str, counts: Ints, hour: int) -> list[Cause]:
        """Look at what the worker itself has made: tell changes of what it has learned of that, and learn on.

        With seasons each hour of one is learned on its own.
        """
        key, found = f"{name}@{hour}" if self._watch.season_s else name, []
        if key in self._learned:
            self._turn(name, hour)
            found = [Cause(name, one) for one in self._engines[name].step(counts)]
            found = [one for one in found if not self._learns(one, key)]
            if self._watch.window_slices or self.open:
                return found  # it follows the stream, or what comes now is not usual
        usual = self._settling.setdefault(key, self._fresh_settling(key)).take(counts)
        if usual is not None:
            self._refer(name, key, usual)
        return found

    def _fresh_settling(self, key: str) -> Settling:
        binner = self._watch.event_binner if key.startswith("own") else self._watch.label_binner
        return Settling(binner, HOUR_ROWS_MAX) if self._watch.season_s else Settling(binner)

    def _refer(self, name: str, key: str, usual: Reference) -> None:
        """Compare what the worker itself makes with this from now on."""
        before, self._learned[key] = self._learned.get(key), usual
        places = {one.name: place for place, one in enumerate(usual.binner.series) if one.name in LEARNER}
        learner = usual.of(places["online" if name == "own" else "error_online"])
        settled = before is not None and alike(before, usual, list(places.values()))
        if settled or self._watch.window_slices or not learner[:-1].any():
            self._unsettled.discard(key)
        else:
            self._unsettled.add(key)
        if name in self._engines:
            self._engines[name].refer(usual)
            self._engines[name].begin_again()
        else:
            self._engines[name] = self._evidence(usual, SHARES[name], ())
        if self._watch.window_slices:
            self._trailing[name] = self._follower(name)

    def _learns(self, cause: Cause, key: str) -> bool:
        """Say whether that is a learner on its way, as far as can be told: one whose errors grow is not."""
        series, _ = self._told(cause)
        on_its_way = key in self._unsettled or series.startswith("error")
        return series in LEARNER and on_its_way and not self._is_error(cause)

    # Alerts.

    def _raise(self, found: Sequence[Cause], at: float) -> list[Alert]:
        """Open an alert for what was found, or add it to one that has just been opened."""
        found = [one for one in found if one.key not in self._owner]
        if not found:
            return []
        causes = self._ordered(found)
        sizes = [self._size(one) for one in causes]
        for one in causes:
            self._engines[one.engine].mute(one.found)
        mine = self._belongs_to(causes[0])
        if mine is not None:
            mine.causes += causes
            mine.sizes += sizes
            mine.calm += [0] * len(causes)
            self._owner.update(dict.fromkeys((one.key for one in causes), mine.alert.id))
            return self._worse(mine, at)
        first, severity = causes[0], self._severity(causes, since=self.looked)
        self._names += 1
        series, slice_ = self._told(first)
        age = first.found.age * self._watch.every_s
        alert = Alert(
            id=f"{self._name}-{first.engine.replace('=', '-')}-{series}-{int(at)}-{self._names}".replace(" ", ""),
            at=at,
            kind="relation" if first.found.kind == "relation" else _KIND.get(first.engine, "drift"),
            state=AlertState.RAISED,
            text=self._text(first),
            series=series,
            slice=slice_,
            severity=severity,
            since=at - age,
            pipeline=self._name,
            version=self._version,
            explained_by=self._explained(causes),
            effect=self._quality(first.found.age),
            action=_ACTIONS[severity],
            evidence=self._shown(first),
        )
        mine = self.open[alert.id] = Open(alert, causes, sizes, self.looked)
        mine.alert = _with(alert, **self._act(mine, severity, at))
        self._owner.update(dict.fromkeys((one.key for one in causes), alert.id))
        return [mine.alert]

    def _ordered(self, found: Sequence[Cause]) -> list[Cause]:
        """Return what was found, each series once, what explains the most first.

        Features before the scores that are made of them, those before errors, and the strongest first. The whole
        stream comes before a slice of it, unless that has moved more than twice as far.
        """
        strongest = sorted(found, key=lambda one: -one.found.strength)
        causes = list({one.key: one for one in reversed(strongest)}.values())[::-1]
        whole = {self._told(one)[0]: self._size(one) for one in causes if one.engine == "features"}

        def rank(cause: Cause) -> tuple[int, bool, float]:
            series, slice_ = self._told(cause)
            level = {"own": 2, "labels": 3}.get(cause.engine, 1 if series == FEATURE_SERIES else 0)
            shared = bool(slice_) and series in whole and self._size(cause) <= 2 * whole[series]
            hidden = not slice_ and any(
                other.engine not in ("features", "own", "labels")
                and self._told(other)[0] == series
                and self._size(other) > 2 * whole.get(series, math.inf)
                for other in causes
            )
            return level, shared or hidden, -cause.found.strength

        return sorted(causes, key=rank)

    def _belongs_to(self, cause: Cause) -> Open | None:
        """Return the alert that tells of the same thing: one that has just been raised, or that is of the same series.

        In a slice of the stream there are fewer events, so it shows there later. And scores move because features do.
        """
        series = self._told(cause)[0]
        follows = cause.engine == "own" or series == FEATURE_SERIES
        for mine in reversed(self.open.values()):
            others = [one for one in mine.causes if one.engine != "volume"]
            if others and self.looked - mine.begun <= TOGETHER_SLICES:
                return mine
            known = {self._told(one)[0] for one in others}
            if series in known or (follows and any(one.engine not in ("own", "labels") for one in others)):
                return mine
        return None

    def _worse(self, mine: Open, at: float) -> list[Alert]:
        severity = max(mine.alert.severity, self._severity(mine.causes, since=mine.begun), key=lambda one: one.rank)
        acted = self._act(mine, severity, at)
        if severity is mine.alert.severity and not acted:
            mine.alert = _with(mine.alert, explained_by=self._explained(mine.causes))
            return []
        return [self._say(mine, at, AlertState.WORSE, severity=severity, **acted)]

    def _say(self, mine: Open, at: float, state: AlertState, **changed: Any) -> Alert:
        first = mine.causes[0]
        shown = {} if first.engine == "volume" else {"evidence": self._shown(first)}
        changed = {"explained_by": self._explained(mine.causes), "effect": self._quality(8), **shown, **changed}
        mine.alert = _with(mine.alert, at=at, state=state, **changed)
        return mine.alert

    # What is done about them.

    def _act(self, mine: Open, severity: Severity, at: float) -> dict[str, Any]:
        """Order what is to be done about an alert, each once; return what its record says of that, if there is news."""
        rules = self._watch.rules
        kinds = self._kinds(mine) if rules else set()
        asked = {action: None for rule in rules if rule.holds(kinds, severity) for action in rule.actions}
        due = [action for action in asked if action not in mine.taken]
        if not due:
            return {}
        # What is done once, and was done for another alert that is still open, is done for this one too.
        done = {action for one in self.open.values() for action in one.taken if not action.lasts}
        mine.taken += due
        for action in due:
            if action not in done:
                self._order(mine, action, at, OrderState.GIVEN)
        return {"actions": [action.value for action in mine.taken]}

    def _kinds(self, mine: Open) -> set[str]:
        """Return what an alert is about: its own kind, and those of what has moved with it."""
        kinds = {mine.alert.kind}
        for one in mine.causes:
            kinds.add("relation" if one.found.kind == "relation" else _KIND.get(one.engine, "drift"))
            if self._is_error(one):
                kinds.add(ERRORS)
        return kinds

    def _is_error(self, cause: Cause) -> bool:
        """Say whether a model errs more than it did."""
        if cause.engine != "labels" or not LABEL_SERIES[cause.found.place].startswith("error"):
            return False
        slices = min(max(cause.found.age, 1), KEPT)
        told = _before_and_now("error", self._engines["labels"], cause.found.place, slices)
        return bool(told) and told["error"] > told["error_before"]

    def _lift(self, mine: Open, at: float) -> None:
        for action in mine.taken:
            if action.lasts:
                self._order(mine, action, at, OrderState.LIFTED)

    def _order(self, mine: Open, action: Action, at: float, state: OrderState) -> None:
        self._ordered_count += 1
        alert, lifted = mine.alert, state is OrderState.LIFTED
        self._orders.append(
            Order(
                id=f"{alert.id}/{action}{'/lifted' if lifted else ''}",
                at=at,
                number=self._ordered_count,
                action=action,
                state=state,
                alert=alert.id,
                kind=alert.kind,
                series=alert.series,
                slice=alert.slice,
                severity=alert.severity.value,
                text=f"{alert.series} is as it was" if lifted else alert.text,
                pipeline=self._name,
                version=self._version,
                reference=self._watch.fingerprint,
            )
        )

    def _settle(self, at: float) -> list[Alert]:
        """See which changes are over."""
        said: list[Alert] = []
        for name, mine in list(self.open.items()):
            if mine.causes[0].engine == "volume":
                continue
            for place, (cause, size) in enumerate(zip(mine.causes, mine.sizes, strict=True)):
                mine.calm[place] = mine.calm[place] + 1 if self._over(cause, size) else 0
            said += self._worse(mine, at)
            if all(calm >= CLEAR_SLICES for calm in mine.calm):
                text = f"{mine.alert.series} is as it was"
                said.append(self._say(mine, at, AlertState.CLEARED, text=text, action=""))
                self._lift(mine, at)
                for cause in mine.causes:
                    self._engines[cause.engine].mute(cause.found, muted=False)
                    self._owner.pop(cause.key, None)
                del self.open[name]
                for engine in self._engines.values():
                    engine.begin_again()
        return said

    def _over(self, cause: Cause, size: float) -> bool:
        engine = self._engines[cause.engine]
        for slices in range(1, KEPT + 1):
            effect = engine.effect(cause.found, slices)
            if size >= SURE * effect.error or slices == KEPT:
                return effect.size <= size / 2
        return False

    def _acknowledge(self, name: str, by: str) -> list[Alert]:
        mine = self.open.get(name)
        if mine is None or mine.acknowledged:
            return []
        mine.acknowledged = True
        text = f"{mine.alert.text} (acknowledged by {by})" if by else mine.alert.text
        return [self._say(mine, mine.alert.at, AlertState.ACKNOWLEDGED, text=text)]

    def _heed_volume(self, slice_: Counted, gap: int) -> list[Alert]:
        """See whether there are many more events than usual, or many fewer."""
        at = (slice_.number + 1) * self._watch.every_s
        said: list[Alert] = []
        for events in [0] * min(gap, WAIT_SLICES_MAX) + [slice_.events]:
            sign = self._volume.step(events)
            mine = next((one for one in self.open.values() if one.causes[0].engine == "volume"), None)
            if sign and mine is None:
                self._names += 1
                alert = Alert(
                    id=f"{self._name}-volume-{int(at)}-{self._names}",
                    at=at,
                    kind="volume",
                    state=AlertState.RAISED,
                    text=f"{'more' if sign > 0 else 'fewer'} events than usual: {events} in {self._watch.every}, where "
                    f"{self._volume.usual:.0f} are",
                    series="volume",
                    severity=Severity.HIGH if events == 0 else Severity.MEDIUM,
                    since=at - self._watch.every_s,
                    pipeline=self._name,
                    version=self._version,
                    action=_ACTIONS[Severity.MEDIUM],
                )
                found = Found("shift", 0, 0, sign, 0.0, 1)
                mine = self.open[alert.id] = Open(alert, [Cause("volume", found)], [1.0], self.looked)
                mine.alert = _with(alert, **self._act(mine, alert.severity, at))
                said.append(mine.alert)
            elif mine is not None and self._volume.calm:
                said.append(self._say(mine, at, AlertState.CLEARED, text="as many events as usual", action=""))
                self._lift(mine, at)
                del self.open[mine.alert.id]
                self._volume.reset()
        return said

    # What is said.

    def _reference(self, engine: str) -> Reference:
        return self._engines[engine].reference

    def _told(self, cause: Cause) -> tuple[str, str]:
        """Return the series that a cause is about, and the slice."""
        engine, found = self._engines[cause.engine], cause.found
        slice_ = cause.engine if "=" in cause.engine else ""
        names = [one.name for one in engine.reference.binner.series]
        if found.kind == "relation":
            first, second = (names[engine.related[at]] for at in engine.pairs[found.place].tolist())
            return f"{first}~{second}", slice_
        return names[found.place], slice_

    def _text(self, cause: Cause) -> str:
        series, slice_ = self._told(cause)
        found, where = cause.found, f" where {slice_}" if slice_ else ""
        engine = self._engines[cause.engine]
        effect = engine.effect(found, min(found.age, KEPT))
        if series == REASON and cause.engine == "own":
            return self._text_of_reasons(cause)
        if found.kind == "relation":
            return f"{series.replace('~', ' and ')} go together otherwise than before{where} ({effect.size:+.2f})"
        if found.kind == "rare":
            what = "is missing" if found.part == 0 else "has values that it never had"
            return f"{series} {what} more often than before{where} (by {effect.size:.1%} of the events)"
        if found.kind == "shape":
            return f"{series} is spread otherwise than before{where}"
        way = _WAYS[found.part][0 if found.sign > 0 else 1]
        return f"{series} {way}{where} (by {effect.size:.2f} of its spread)"

    def _text_of_reasons(self, cause: Cause) -> str:
        """Say which feature has gained most as the first reason: they have no order in which they could move."""
        shown = self._shown(cause)
        gains = [now - before for now, before in zip(shown.current, shown.reference, strict=True)]
        most = gains.index(max(gains))
        name = {"missing": "none", "other": "another one"}.get(shown.bins[most], shown.bins[most])
        return (
            f"the first reason for scores is another than before: {name} for {shown.current[most]:.1%} of them, "
            f"where it was for {shown.reference[most]:.1%}"
        )

    def _explained(self, causes: Sequence[Cause]) -> list[str]:
        told = [" ".join(filter(None, self._told(one))) for one in causes[1:] if one.engine != "volume"]
        return list(dict.fromkeys(told))[:EXPLAINED_MAX]

    def _size(self, cause: Cause) -> float:
        return self._engines[cause.engine].effect(cause.found, min(cause.found.age, KEPT)).size

    def _severity(self, causes: Sequence[Cause], *, since: int) -> Severity:
        """Say how much it matters, by what there was lately and since it began."""
        told = (self._severity_of(one, min(SEVERITY_SLICES, self.looked - since + one.found.age)) for one in causes)
        return max(told, key=lambda one: one.rank)

    def _severity_of(self, cause: Cause, slices: int) -> Severity:
        engine, found = self._engines[cause.engine], cause.found
        effect = engine.effect(found, slices).size
        if found.kind == "relation":
            bad, worse, size = 0.15, 0.4, effect
        elif found.kind == "shift":
            bad, worse, size = BAD_SHIFT, WORSE_SHIFT, effect
        elif found.kind == "rare":
            bad, worse, size = 0.01, 0.1, effect
        else:
            shown = self._shown(cause, slices=slices)
            bad, worse, size = BAD_PSI, WORSE_PSI, shown.distances.get("psi", 0.0)
        return Severity.HIGH if size >= worse else Severity.MEDIUM if size >= bad else Severity.LOW

    def _shown(self, cause: Cause, *, slices: int = 0) -> Shown:
        engine, found = self._engines[cause.engine], cause.found
        window = engine.window(slices or min(max(found.age, 1), KEPT))
        reference = engine.reference
        place = engine.related[int(engine.pairs[found.place][0])] if found.kind == "relation" else found.place
        one, before = reference.binner.series[place], reference.of(place)
        now = window[reference.binner.begins[place] : reference.binner.begins[place + 1]]
        measured = {name: round(size, 6) for name, size in distances(before, now).items()}
        if found.kind == "relation":
            measured["relation"] = round(engine.effect(found, min(max(found.age, 1), KEPT)).size, 6)
        return Shown(
            bins=one.names,
            reference=[round(float(share), 6) for share in shares(before)],
            current=[round(float(share), 6) for share in shares(now)],
            reference_count=int(before.sum()),
            current_count=int(now.sum()),
            distances=measured,
        )

    def _quality(self, slices: int) -> dict[str, float]:
        """Say what became of the quality: measured where labels are there, estimated by the scores where not."""
        made: dict[str, float] = {}
        labels = self._engines.get("labels")
        if labels is not None and labels.slices:
            made |= _before_and_now("error", labels, LABEL_SERIES.index("error"), slices)
        own = self._engines.get("own")
        if own is not None and own.slices:
            place = EVENT_SERIES.index("score")
            for name, counts in (
                ("estimated_accuracy_before", own.reference.of(place)),
                ("estimated_accuracy", _of(own, place, slices)),
            ):
                middles = own.reference.binner.series[place].middles
                sure, there = np.fmax(middles, 1 - middles)[:-1], counts[:-1]
                if there.sum():
                    made[name] = round(float((np.nan_to_num(sure, nan=1.0) * there).sum() / there.sum()), 6)
        return made

    # What is kept.

    @property
    def fingerprint(self) -> str:
        """What is remembered hangs on it: slices in other bins do not fit."""
        return self._watch.fingerprint

    @property
    def key_count(self) -> int:
        """How many keys are remembered: of a stream as a whole there are none."""
        return 0

    def take(self, change: Sequence[Mapping[str, Any]]) -> int:
        """Take in again what a step took in; return how many records that were."""
        self.step(change)
        self._orders.clear()  # they were given when it happened
        return len(change)

    def dump(self) -> dict[str, Any]:
        """Return all of it as plain data."""
        learned = {name: one.dump() for name, one in self._learned.items()}
        trailing = {name: one.dump() for name, one in self._trailing.items()}
        return {
            **({"trailing": trailing} if trailing else {}),
            **({"hours": dict(self._hours)} if self._hours else {}),
            "fingerprint": self._watch.fingerprint,
            "partitions": self._partitions,
            "last": [[one, last] for one, last in self._last.items()],
            "idle": sorted(self._idle),
            "waiting": [one.dump() for one in self._waiting.values()],
            "gathered": None if self._gathered is None else self._gathered.dump(),
            "done": self._done,
            "learned_references": learned,
            "engines": {name: engine.dump() for name, engine in self._engines.items()},
            "settling": {name: one.dump() for name, one in self._settling.items()},
            "unsettled": sorted(self._unsettled),
            "volume": self._volume.dump(),
            "open": [_dumped(one) for one in self.open.values()],
            "names": self._names,
            "ordered": self._ordered_count,
            "looked": self.looked,
            "late": self.late,
            "repeated": self.repeated,
            "first": self._first,
        }

    def load(self, data: Mapping[str, Any]) -> None:
        """Take what ``dump`` returned."""
        self._partitions = data["partitions"]
        self._last = dict(data["last"])
        self._idle = set(data["idle"])
        self._waiting = {one[0]: Counted.load(one) for one in data["waiting"]}
        self._gathered = None if data["gathered"] is None else Counted.load(data["gathered"])
        self._done = data["done"]
        self._engines = self._fresh_engines()
        self._learned = {name: Reference.load(held) for name, held in data["learned_references"].items()}
        for key, usual in self._learned.items():
            name = key.partition("@")[0]
            if name not in self._engines:
                self._engines[name] = self._evidence(usual, SHARES[name], ())
        self._hours = dict(data.get("hours", {}))
        for name, hour in self._hours.items():
            known = self._usual(name, hour)
            assert known is not None
            self._engines[name].refer(known)
        self._trailing = self._fresh_trailing()
        for name, held in data.get("trailing", {}).items():
            if name in self._trailing:
                self._trailing[name].load(held)
                self._engines[name].refer(self._trailing[name].reference())
        for name, held in data["engines"].items():
            self._engines[name].load(held)
        self._settling = {key: self._fresh_settling(key) for key in data["settling"]}
        for key, held in data["settling"].items():
            self._settling[key].load(held)
        self._unsettled = set(data["unsettled"])
        self._volume.load(data["volume"])
        self.open = {one["alert"]["id"]: _loaded(one) for one in data["open"]}
        self._owner = {cause.key: name for name, mine in self.open.items() for cause in mine.causes}
        self._names, self.looked, self.late = data["names"], data["looked"], data["late"]
        self.repeated, self._first = data["repeated"], data["first"]
        self._ordered_count = data.get("ordered", 0)


_KIND = {"own": "score", "labels": "quality", "volume": "volume"}
_ACTIONS = {
    Severity.LOW: "look at it when there is time",
    Severity.MEDIUM: "see whether the quality suffers, and whether the producers of the events have changed something",
    Severity.HIGH: "see whether the events are right; consider training the static model anew",
}


def _of(engine: Evidence, place: int, slices: int) -> Ints:
    begins = engine.reference.binner.begins
    made: Ints = engine.window(max(1, min(slices, KEPT)))[begins[place] : begins[place + 1]]
    return made


def _before_and_now(name: str, engine: Evidence, place: int, slices: int) -> dict[str, float]:
    middles = np.nan_to_num(engine.reference.binner.series[place].middles[:-1])
    before, now = engine.reference.of(place)[:-1], _of(engine, place, slices)[:-1]
    if not before.sum() or not now.sum():
        return {}
    return {
        f"{name}_before": round(float((middles * before).sum() / before.sum()), 6),
        name: round(float((middles * now).sum() / now.sum()), 6),
    }


def _with(alert: Alert, **changed: Any) -> Alert:
    return msgspec.structs.replace(alert, **changed)


def _dumped(mine: Open) -> dict[str, Any]:
    alert = {name: getattr(mine.alert, name) for name in mine.alert.__struct_fields__}
    if mine.alert.actions is msgspec.UNSET:
        del alert["actions"]
    shown = mine.alert.evidence
    alert["evidence"] = {name: getattr(shown, name) for name in shown.__struct_fields__}
    alert |= {"state": mine.alert.state.value, "severity": mine.alert.severity.value}
    return {
        "alert": alert,
        "causes": [[one.engine, *one.found] for one in mine.causes],
        "sizes": mine.sizes,
        "calm": mine.calm,
        "begun": mine.begun,
        "acknowledged": mine.acknowledged,
        **({"taken": [one.value for one in mine.taken]} if mine.taken else {}),
    }


def _loaded(data: Mapping[str, Any]) -> Open:
    alert = dict(data["alert"])
    alert |= {
        "state": AlertState(alert["state"]),
        "severity": Severity(alert["severity"]),
        "evidence": Shown(**alert["evidence"]),
    }
    causes = [Cause(engine, Found(*found)) for engine, *found in data["causes"]]
    mine = Open(Alert(**alert), causes, data["sizes"], data["begun"])
    mine.calm, mine.acknowledged = list(data["calm"]), data["acknowledged"]
    mine.taken = [Action(one) for one in data.get("taken", ())]
    return mine


class _Volume:
    """Whether there are as many events as usual: follows the logarithm of their number, slowly."""

    def __init__(self, slices_per_alarm: float) -> None:
        self._bound = math.log(max(1.0, slices_per_alarm)) + math.log(2)
        self._mean = self._square = 0.0
        self._seen = 0
        self._sums = np.full((2, len(VOLUME_EFFECTS)), -np.inf)
        self._calm = 0
        self._alarmed = False

    @property
    def usual(self) -> float:
        """How many events a slice has usually."""
        return math.expm1(self._mean)

    @property
    def calm(self) -> bool:
        """Say whether it has been as usual for a while."""
        return self._calm >= CLEAR_SLICES

    def step(self, events: int) -> int:
        """Take a slice; return 1 where there are more than usual now, -1 where there are fewer, else 0."""
        value = math.log1p(events)
        if self._seen < VOLUME_SLICES:
            self._seen += 1
            off = value - self._mean
            self._mean += off / self._seen
            self._square += off * (value - self._mean)
            return 0
        spread = math.sqrt(max(self._square / VOLUME_SLICES, 0.01))  # a tenth more or less is nothing
        off = max(-VOLUME_CLIP, min(VOLUME_CLIP, (value - self._mean) / spread))
        self._calm = self._calm + 1 if abs(off) < VOLUME_CLIP / 2 else 0
        if self._alarmed:
            return 0
        ways = np.array([[off], [-off]])
        self._sums = np.logaddexp(0.0, self._sums) + VOLUME_EFFECTS * (ways - 0.5) - VOLUME_EFFECTS**2 / 2
        strength: Floats = self._sums.max(axis=1) - self._bound
        if strength.max() > 0:
            self._alarmed = True
            self._calm = 0
            return 1 if strength[0] > strength[1] else -1
        self._mean += VOLUME_MEMORY * (value - self._mean)
        self._square += VOLUME_MEMORY * (VOLUME_SLICES * (value - self._mean) ** 2 - self._square)
        return 0

    def reset(self) -> None:
        """Look again."""
        self._alarmed = False
        self._sums[:] = -np.inf

    def dump(self) -> list[Any]:
        """Return it as plain data."""
        return [self._mean, self._square, self._seen, self._sums.copy(), self._calm, self._alarmed]

    def load(self, data: Sequence[Any]) -> None:
        """Take what ``dump`` returned."""
        self._mean, self._square, self._seen, sums, self._calm, self._alarmed = data
        self._sums = sums.copy()

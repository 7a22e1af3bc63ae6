"""What a pipeline remembers of one partition."""

import hashlib
from collections.abc import Mapping, Sequence
from itertools import chain, islice
from typing import Any

import numpy as np

from headrace.models import sketch
from headrace.models.change import Delta, Remembered, delta
from headrace.models.fallback import Breaker, Fallback
from headrace.models.keeper import ENTRIES_MAX, Keeper, Wanted
from headrace.models.keyed import VALUES_MAX, KeyedFeature
from headrace.models.learning import Learning
from headrace.models.memory import NEVER, Array, Columns, Floats, Ints, Keys, Measure, rounds
from headrace.models.targets import Life, Lives, Target, Targets, Truths
from headrace.models.watch import Watching

KEYS_MAX = 2_000_000  # per partition and kind of key
LEAVE_SHARE, LEAVE_MAX = 64, 1_024  # when there are too many keys, one in so many leaves, and no more than so many
QUIET_SHARE = 8  # of the keys, one in so many is put in the order in which they will leave
SWEEP_COUNT = 65_536  # events from one look for keys that nothing happened to any more to the next
CLOCK_COUNT = 1_024  # events of which the median says what time it is: one absurd time moves nothing


_NOBODY = np.empty((2, 0), np.int64)
_LIFE = Life()


class Part:
    """Some events of a batch."""

    def __init__(self, fields: Remembered, places: Ints) -> None:
        self._fields, self._places = fields, places
        self._columns: dict[str, Array] = {}

    def __getitem__(self, name: str) -> Array:
        """Return a field of these events as a column."""
        column = self._columns.get(name)
        if column is None:
            column = self._columns[name] = self._fields[name][self._places]
        return column


class Table:
    """What is remembered per value of some fields.

    Memory is bounded: past ``keys_max`` keys those leave to which nothing came for longest, one in 64 or 1,024
    at once; and every 65,536 events those leave to which nothing happened for longer than any feature looks
    back. Both come at a certain event, so where a batch is cut does not show.
    """

    def __init__(self, keys: Sequence[str], wanted: Sequence[Wanted], *, keys_max: int) -> None:
        together: dict[tuple[Any, ...], list[Wanted]] = {}
        for one in dict.fromkeys(wanted):
            together.setdefault(one.kept_by, []).append(one)
        self.key_fields = tuple(keys)
        self._wanted = list(together.values())
        self._keepers: list[Keeper] = [group[0].keeper(group) for group in self._wanted]
        self._horizon = max(keeper.horizon for keeper in self._keepers)
        self._keys_max = keys_max
        self._keys = Keys()
        self._rows = Columns({"arrived": Measure("i8", -1), "newest": Measure("f8", NEVER)})
        self._clock = np.full(CLOCK_COUNT, NEVER)
        self._arrived = 0
        self.missed: list[Ints] = []  # the places in the last batch of events that came too late
        self._quiet = _NOBODY  # rows, and when something came to them: those that will leave next, in that order
        self.evicted = 0  # keys that left because there were too many
        self.expired = 0  # keys that left because nothing happened to them

    def __len__(self) -> int:
        return len(self._keys)

    def step(self, at: Floats, fields: Remembered) -> dict[Wanted, Array]:
        """Return what is wanted, as it was before each event, and take the events in."""
        keys = fields.raw(self.key_fields[0])
        if len(self.key_fields) > 1:
            keys = list(zip(*map(fields.raw, self.key_fields), strict=True))
        made: dict[Wanted, list[Array]] = {one: [] for group in self._wanted for one in group}
        self.missed = []
        done = 0
        while done < len(keys):
            until = min(len(keys), done + SWEEP_COUNT - self._arrived % SWEEP_COUNT)
            rows = self._rows_of(keys[done:until] if (done, until) != (0, len(keys)) else keys)
            places = np.arange(done, done + len(rows))
            self._carry_out(rows, places, at, fields, made)
            done += len(rows)
            if done < until:
                self._make_room()
            elif self._arrived % SWEEP_COUNT == 0:
                self._sweep()
        return {one: parts[0] if len(parts) == 1 else np.concatenate(parts) for one, parts in made.items()}

    def _rows_of(self, keys: Sequence[Any]) -> Ints:
        """Return the rows of these keys, up to the first for which there is no room."""
        rows = self._keys.rows(keys)
        if rows is not None:
            return rows
        rows = self._keys.found(keys)
        fresh: dict[Any, int] = {}
        for place in np.flatnonzero(rows < 0).tolist():
            fresh.setdefault(keys[place], place)
        if len(fresh) > (room := self._keys_max - len(self._keys)):
            without = list(fresh)[room]
            rows = rows[: fresh[without]]
            fresh = dict(islice(fresh.items(), room))
        self._keys.add_all(list(fresh))
        new = np.flatnonzero(rows < 0)
        rows[new] = self._keys.found([keys[place] for place in new.tolist()])
        count = self._keys.row_count
        self._rows.grow(count)
        for keeper in self._keepers:
            keeper.grow(count)
        return rows

    def _carry_out(
        self, rows: Ints, places: Ints, at: Floats, fields: Remembered, made: Mapping[Wanted, list[Array]]
    ) -> None:
        if not len(rows):
            return
        self._rows["arrived"][rows] = self._arrived + np.arange(len(rows))  # of a row that comes twice, the last
        np.maximum.at(self._rows["newest"], rows, at[places])
        outputs: dict[Wanted, Array] = {}
        in_order = all(keeper.in_order for keeper in self._keepers)
        for number, chosen in enumerate(chain([np.arange(len(rows))], () if in_order else rounds(rows))):
            here = places[chosen]
            part = fields if len(here) == fields.count else Part(fields, here)
            for keeper, group in zip(self._keepers, self._wanted, strict=True):
                if keeper.in_order != (number == 0):
                    continue
                for one, column in zip(group, keeper.step(rows[chosen], at[here], part), strict=True):
                    if len(chosen) == len(rows):
                        outputs[one] = column
                    else:
                        if one not in outputs:
                            outputs[one] = np.empty((len(rows), *column.shape[1:]), column.dtype)
                        outputs[one][chosen] = column
                if len(keeper.missed):
                    self.missed.append(here[keeper.missed])
        for one, column in outputs.items():
            made[one].append(column)
        last = places[-CLOCK_COUNT:]
        self._clock[(self._arrived + len(rows) - len(last) + np.arange(len(last))) % CLOCK_COUNT] = at[last]
        self._arrived += len(rows)

    def _make_room(self) -> None:
        """Forget the keys to which nothing came for longest."""
        arrived = self._rows["arrived"]
        count = min(max(1, len(self._keys) // LEAVE_SHARE), LEAVE_MAX)
        leaving: list[Ints] = []
        missing = count
        while missing:
            if not self._quiet.shape[1]:
                self._quiet = self._quietest()
            (rows, then), self._quiet = self._quiet[:, :missing], self._quiet[:, missing:]
            rows = rows[arrived[rows] == then]  # to the others something came since, or they have left
            arrived[rows] = -1
            leaving.append(rows)
            missing -= len(rows)
        self.evicted += count
        self._forget(np.sort(np.concatenate(leaving)))

    def _quietest(self) -> Ints:
        """Put some keys in the order in which they will leave: to look through all each time would take long."""
        arrived = self._rows["arrived"][: self._keys.row_count]
        used = np.flatnonzero(arrived >= 0)
        times = arrived[used]
        count = max(1, len(used) // QUIET_SHARE)
        oldest = np.argpartition(times, count - 1)[:count]
        oldest = oldest[np.argsort(times[oldest])]
        return np.stack([used[oldest], times[oldest]])

    def _sweep(self) -> None:
        """Forget the keys to which nothing happened for longer than anybody looks back."""
        now = float(np.median(self._clock))
        rows = self._keys.row_count
        used = self._rows["arrived"][:rows] >= 0
        stale = np.flatnonzero(used & (self._rows["newest"][:rows] < now - self._horizon))
        if len(stale):
            self.expired += len(stale)
            self._forget(stale)

    def _forget(self, rows: Ints) -> None:
        listed = rows.tolist()
        self._keys.forget(listed)
        self._rows.reset(listed)
        for keeper in self._keepers:
            keeper.forget(listed)

    def truths(self, otherwise: float | None) -> Truths:
        """Return what tells this table's targets what is true of events."""
        (lives,) = (one.columns for one in self._keepers if isinstance(one, Lives))

        def rows_of(keys: Sequence[Any], then: Ints) -> tuple[Ints, Ints]:
            rows = self._keys.found(keys)
            places = np.flatnonzero(rows >= 0)
            places = places[lives["life"][rows[places]] == then[places]]
            return places, rows[places]

        return Truths([one for one in self._keepers if isinstance(one, Targets)], rows_of, otherwise)

    def knows(self, values: Sequence[Any]) -> bool:
        """Say whether a key, given as the values of its fields, is remembered."""
        return self._keys.known(tuple(values) if len(self.key_fields) > 1 else values[0])

    @property
    def late(self) -> int:
        """How many events were scored and not remembered, because they came too late."""
        return max(keeper.late for keeper in self._keepers)

    @property
    def bytes(self) -> int:
        """What it takes of memory, keys and all."""
        return self._keys.bytes + self._rows.bytes + sum(keeper.bytes for keeper in self._keepers)

    def dump(self) -> dict[str, Any]:
        """Return all of it as plain data."""
        count = self._keys.row_count
        return {
            "keys": self._keys.dump(),
            "rows": self._rows.dump(count),
            "keepers": [keeper.dump(count) for keeper in self._keepers],
            "clock": self._clock.copy(),
            "arrived": self._arrived,
            "evicted": self.evicted,
            "expired": self.expired,
        }

    def load(self, data: Mapping[str, Any]) -> None:
        """Take what ``dump`` returned."""
        self._keys = Keys.load(data["keys"])
        self._rows.load(data["rows"])
        for keeper, held in zip(self._keepers, data["keepers"], strict=True):
            keeper.load(held)
        self._clock = data["clock"].copy()
        self._quiet = _NOBODY
        self._arrived, self.evicted, self.expired = data["arrived"], data["evicted"], data["expired"]


class State:
    """All that a pipeline remembers of one partition: a table for each kind of key.

    ``fingerprint`` says what is remembered: a snapshot of one pipeline does not fit another.
    """

    def __init__(
        self,
        time: str,
        features: Mapping[str, KeyedFeature],
        *,
        keys_max: int = KEYS_MAX,
        fallback: Fallback | None = None,
        learning: Learning | None = None,
        watching: Watching | None = None,
        said: str = "",
    ) -> None:
        self._time = time
        self.breaker = Breaker(fallback) if fallback else None
        self.learning = learning
        self.watching = watching
        if learning is not None and watching is not None:
            learning.on_known = watching.known
        asked: dict[tuple[str, ...], set[Wanted]] = {}
        for one in features.values():
            asked.setdefault(one.keys, set()).update(one.wanted)
        targets = [keys for keys, group in asked.items() if any(isinstance(one, Target) for one in group)]
        for keys in targets:
            asked[keys].add(_LIFE)
        # In an order of their own: features may change theirs, and the state still fits.
        wanted = {keys: sorted(asked[keys], key=repr) for keys in sorted(asked)}
        self.tables = {keys: Table(keys, group, keys_max=keys_max) for keys, group in wanted.items()}
        self._target: tuple[str, ...] | None = None
        self.lives: Ints | None = None  # of the keys of the last step's events, where a feature looks back at labels
        if targets and learning is not None and learning.waiting is not None:
            (self._target,) = targets  # labels come under one key
            learning.waiting.tell(self.tables[self._target].truths(learning.waiting.otherwise))
        reads = {name for keys, group in wanted.items() for name in (*keys, *(f for one in group for f in one.reads))}
        self._exact = frozenset(name for one in features.values() for name in one.values)
        self.fields = tuple(sorted(reads | {time})) if wanted else ()
        bounds = (keys_max, LEAVE_SHARE, LEAVE_MAX, ENTRIES_MAX, VALUES_MAX, sketch.LEVELS)
        said = f"{time} {bounds} {list(wanted.items())}{said}"
        self.fingerprint = hashlib.sha256(said.encode()).hexdigest()[:16]

    def change(self, fields: Remembered, failed: list[int] | None = None) -> list[Any]:
        """Return what a step takes in, as plain data, so that ``take`` can take it in again.

        ``failed`` are the events on which the static model failed, where a breaker counts them.
        """
        part: dict[str, Any] = {"events": delta(self.fields, fields, self._exact)}
        return [part if failed is None else {**part, "failed": failed}]

    def take(self, change: list[Any]) -> int:
        """Take in again what a step took in; return how many events that were."""
        count = 0
        for part in change:
            if "events" in part:
                fields = Delta(part["events"])
                self.step(fields)
                if self.breaker is not None and "failed" in part:
                    self.breaker.take(fields.count, part["failed"])
                count += fields.count
            if self.watching is not None and "watched" in part:
                self.watching.take(part["watched"])
            if self.learning is not None:
                self.learning.take(part)
            if self.watching is not None and "tick" in part and "busy" not in part:
                self.watching.tick(part["tick"]["wall"])
        return count

    def step(self, fields: Remembered) -> dict[tuple[str, ...], dict[Wanted, Array]]:
        """Return what is wanted per kind of key, as it was before each event, and take the events in."""
        if not self.tables:
            return {}
        at = fields[self._time]
        past = {keys: table.step(at, fields) for keys, table in self.tables.items()}
        if self._target is not None:
            self.lives = past[self._target][_LIFE]
        return past

    @property
    def missed(self) -> list[Ints]:
        """The places of events of the last step that came too late for a table to take them in."""
        return [places for table in self.tables.values() for places in table.missed]

    @property
    def clock(self) -> float:
        """What time it is by the events."""
        waiting = self.learning.waiting if self.learning is not None else None
        return NEVER if waiting is None else waiting.clock

    def due(self, wall: float, event: float, *, quiet: bool = True) -> bool:
        """Say whether anything happens by itself when it is so late; ``quiet`` says that all events were read."""
        waiting = self.learning.waiting if self.learning is not None else None
        if quiet and self.watching is not None and self.watching.due(wall):
            return True
        return waiting is not None and waiting.due(wall, event)

    @property
    def key_count(self) -> int:
        """How many keys are remembered."""
        return sum(map(len, self.tables.values()))

    def dump(self) -> dict[str, Any]:
        """Return all of it as plain data: numbers, strings, lists, dictionaries and arrays."""
        data: dict[str, Any] = {
            "fingerprint": self.fingerprint,
            "tables": [table.dump() for table in self.tables.values()],
        }
        if self.breaker is not None:
            data["breaker"] = self.breaker.dump()
        if self.learning is not None:
            data["learning"] = self.learning.dump()
        if self.watching is not None:
            data["watching"] = self.watching.dump()
        return data

    def load(self, data: Mapping[str, Any]) -> None:
        """Take what ``dump`` returned."""
        assert data["fingerprint"] == self.fingerprint, "whoever loads has compared them"
        for table, held in zip(self.tables.values(), data["tables"], strict=True):
            table.load(held)
        # A fallback may come, go or change: that is no reason to lose what the features remember.
        if self.breaker is not None and "breaker" in data:
            self.breaker.load(data["breaker"])
        if self.learning is not None:
            self.learning.load(data["learning"])
        if self.watching is not None and "watching" in data:
            self.watching.load(data["watching"])

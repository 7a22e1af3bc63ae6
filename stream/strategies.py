"""Streams of events for tests with Hypothesis, made from the class of the events."""

import math
import re
from itertools import accumulate
from typing import TYPE_CHECKING, Any, TypeVar

from msgspec import inspect

from headrace.schemas.event import Event
from headrace.schemas.span import seconds

if TYPE_CHECKING:
    from hypothesis.strategies import SearchStrategy

START = 1_767_225_600.0  # 2026-01-01 in UTC
WORDS = ("a", "b", "c")  # few, so that keys meet again and windows have something in them
GAPS = (0.0, 1.0, 60.0, 600.0, 7_200.0, 100_000.0)  # seconds, to both sides of the windows that people write
FAR = 1e6
ITEMS_MAX = 3

E = TypeVar("E", bound=Event)


def events(
    cls: type[E],
    /,
    *,
    count: int | None = None,
    min_count: int = 1,
    max_count: int = 20,
    gaps: "SearchStrategy[float] | None" = None,
    jitter: str | None = None,
    **fields: "SearchStrategy[Any]",
) -> "SearchStrategy[list[E]]":
    """Return a strategy for lists of events, with values from the types and bounds of the class's fields.

    Ids are different, and keys few. Times do not go back, unless ``jitter`` says by how much: "5m". ``gaps`` are the
    seconds from one event to the next. A field's own strategy takes the place of the one that its type gives.

    >>> from headrace import Event
    >>> class Payment(Event, topic="payments", key="card"):
    ...     id: str
    ...     at: float
    ...     card: str
    ...     amount: float
    >>> from hypothesis import find, strategies as st
    >>> find(events(Payment, amount=st.integers(5, 9)), lambda made: len(made) == 2)
    [Payment(id='id-0', at=1767225600.0, card='a', amount=5), Payment(id='id-1', at=1767225600.0, card='a', amount=5)]
    """
    st = _hypothesis()
    kind = inspect.type_info(cls)
    assert isinstance(kind, inspect.StructType)
    types = {field.name: field.type for field in kind.fields}
    if unknown := sorted(set(fields) - set(types)):
        raise ValueError(f"{cls.__name__} has no field {', '.join(unknown)}; it has {', '.join(types)}")
    wire = cls.wire
    if count is not None:
        min_count = max_count = count
    if not 0 <= min_count <= max_count:
        raise ValueError(f"min_count = {min_count}, max_count = {max_count}: the first may not be more than the second")
    if gaps is None:
        gaps = _spans(st, 3_600.0) | st.sampled_from(GAPS)
    late = st.just(0.0) | _spans(st, seconds(jitter)) if jitter else st.just(0.0)
    made = {name: _values(st, of, f"{cls.__name__}.{name}") for name, of in types.items() if name not in fields}
    if wire.key not in fields:
        made[wire.key] = st.sampled_from(WORDS if isinstance(types[wire.key], inspect.StrType) else (0, 1, 2))
    counted = [name for name in (wire.id, wire.time) if name not in fields]
    drawn = {name: one for name, one in {**made, **fields}.items() if name not in counted}

    def together(rows: list[tuple[float, float, dict[str, Any]]]) -> list[E]:
        times = accumulate((gap for gap, _, _ in rows[1:]), initial=START)
        listed = []
        for number, ((_, behind, values), time) in enumerate(zip(rows, times, strict=False)):
            own = {
                wire.id: f"id-{number}" if isinstance(types[wire.id], inspect.StrType) else number,
                wire.time: time - behind if isinstance(types[wire.time], inspect.FloatType) else int(time - behind),
            }
            listed.append(cls(**{**own, **values}))
        return listed

    row = st.tuples(gaps, late, st.fixed_dictionaries(drawn))
    return _rows(st, row, min_count, max_count).map(together)  # type: ignore[no-any-return]


def _rows(st: Any, row: Any, least: int, most: int) -> Any:
    """Return a strategy for lists of rows out of which Hypothesis can take any.

    From a list it takes up to five choices at once, and a row is more. So a row may be absent, which is one choice,
    and then it is small enough to go.
    """
    if least == most:
        return st.lists(row, min_size=least, max_size=most)
    sure = max(0, least - 1)
    maybe, more = st.none() | row | row | row, most - sure
    few, many = (st.lists(maybe, min_size=size, max_size=more) for size in (min(least, 1), more // 2))
    there = (few | many).map(lambda rows: [one for one in rows if one is not None])
    if least:
        there = there.filter(bool)
    return st.tuples(st.lists(row, min_size=sure, max_size=sure), there).map(lambda both: both[0] + both[1])


def _spans(st: Any, most: float) -> Any:
    """Return a strategy for seconds; milliseconds, because whole numbers shrink better than floats."""
    return st.integers(0, int(most * 1_000)).map(lambda number: number / 1_000)


def _hypothesis() -> Any:
    try:
        from hypothesis import strategies  # noqa: PLC0415 - an extra, and slow to import
    except ImportError as error:
        raise ModuleNotFoundError(
            "headrace.testing.events needs hypothesis, which is not installed: pip install 'headrace[testing]'",
            name="hypothesis",
        ) from error
    return strategies


def _values(st: Any, kind: inspect.Type, place: str) -> Any:
    """Return a strategy for values of a type; what is simplest comes first."""
    match kind:
        case inspect.NoneType():
            return st.none()
        case inspect.BoolType():
            return st.booleans()
        case inspect.IntType():
            return _ints(st, kind)
        case inspect.FloatType(multiple_of=None):
            return _floats(st, kind)
        case inspect.StrType():
            return _texts(st, kind)
        case inspect.LiteralType(values=values):
            return st.sampled_from(values)
        case inspect.EnumType(cls=cls):
            return st.sampled_from(cls)
        case inspect.UnionType(types=types):
            nothing_first = sorted(types, key=lambda one: not isinstance(one, inspect.NoneType))
            return st.one_of(*(_values(st, one, place) for one in nothing_first))
        case inspect.ListType(item_type=item):
            least, most = kind.min_length or 0, kind.max_length
            items = _values(st, item, f"{place}[...]")
            return st.lists(items, min_size=least, max_size=least + ITEMS_MAX if most is None else most)
        case inspect.DictType(key_type=key, value_type=value):
            keys, values = _values(st, key, f"{place}[...]"), _values(st, value, f"{place}[...]")
            return st.dictionaries(keys, values, min_size=kind.min_length or 0, max_size=ITEMS_MAX)
        case inspect.StructType(cls=cls, fields=fields):
            return st.builds(cls, **{one.name: _values(st, one.type, f"{place}.{one.name}") for one in fields})
    name = type(kind).__name__.removesuffix("Type").lower()
    field = re.split(r"[.\[]", place)[1]
    raise TypeError(f"{place} is of type {name}, for which there is no strategy: give one, as events(..., {field}=...)")


def _ints(st: Any, kind: inspect.IntType) -> Any:
    step = kind.multiple_of or 1
    least = kind.ge if kind.ge is not None else kind.gt + 1 if kind.gt is not None else None
    most = kind.le if kind.le is not None else kind.lt - 1 if kind.lt is not None else None
    low = math.ceil(least / step) if least is not None else None
    high = math.floor(most / step) if most is not None else None
    if low is None:
        low = -int(FAR) if high is None else high - int(FAR)
    if high is None:
        high = max(low, 0) + int(FAR)
    return st.integers(low, high).map(lambda number: number * step)


def _floats(st: Any, kind: inspect.FloatType) -> Any:
    low, high = kind.ge if kind.ge is not None else kind.gt, kind.le if kind.le is not None else kind.lt
    if low is None:
        low = -FAR if high is None else min(high, 0.0) - FAR
    if high is None:
        high = max(low, 0.0) + FAR
    open_low, open_high = low == kind.gt, high == kind.lt
    return st.floats(low, high, exclude_min=open_low, exclude_max=open_high)


def _texts(st: Any, kind: inspect.StrType) -> Any:
    least, most = kind.min_length or 0, kind.max_length
    if kind.pattern is not None:
        return st.from_regex(kind.pattern).filter(
            lambda text: len(text) >= least and (most is None or len(text) <= most)
        )
    texts = st.text(min_size=least, max_size=least + 5 if most is None else most)
    return st.sampled_from(WORDS) | texts if least <= 1 and (most is None or most >= 1) else texts

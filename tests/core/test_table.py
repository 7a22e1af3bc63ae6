"""Rows of a table as events: column by column where all is well, and the same as row by row where it is not."""

from typing import Annotated, Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace import Event
from headrace.schemas.dead_letter import Reason
from headrace.schemas.table import TableCodec

fixed = settings(derandomize=True, deadline=None, max_examples=200)


class Reading(Event, topic="readings", key="sensor"):
    """One of each kind of field that a table has to tell apart."""

    id: str
    at: float
    sensor: int
    value: float
    unit: str = "C"
    note: str | None = None
    limit: float | None = None
    tags: list[str] = msgspec.field(default_factory=list)


NAMES = ["id", "at", "sensor", "value", "unit", "note", "limit"]
CELLS = st.sampled_from([None, "1", "2.5", "x", "nan", "-3", "true"])


@fixed
@given(st.lists(st.tuples(*[CELLS] * len(NAMES)), max_size=6))
def test_a_table_is_what_its_rows_are_one_by_one(rows: list[tuple[str | None, ...]]) -> None:
    codec = TableCodec(Reading, NAMES, strict=False)
    columns = {name: [row[at] for row in rows] for at, name in enumerate(NAMES)}
    events, rejections = codec.decode(columns)
    refused = {one.at for one in rejections}
    assert len(events) + len(refused) == len(rows)
    kept = iter(events)
    for at, row in enumerate(rows):
        cells = {name: cell for name, cell in zip(NAMES, row, strict=True) if cell is not None}
        try:
            want = msgspec.convert(cells, Reading, strict=False)
        except msgspec.ValidationError:
            assert at in refused
        else:
            assert (at in refused) == (cells["at"] == "nan")
            if at not in refused:
                assert repr(next(kept)) == repr(want)


def test_a_default_is_made_anew_for_each_row() -> None:
    codec = TableCodec(Reading, ["id", "at", "sensor", "value"], strict=True)
    events, _ = codec.decode({"id": ["a", "b"], "at": [1.0, 2.0], "sensor": [1, 2], "value": [0.5, 1.5]})
    events[0].tags.append("hot")
    assert events[1] == Reading("b", 2.0, 2, 1.5)


def test_columns_that_nothing_stands_in_for_are_missing() -> None:
    assert TableCodec(Reading, ["at", "value", "colour"], strict=True).missing == ["id", "sensor"]


def test_a_class_may_say_more_about_its_fields() -> None:
    class Picky(Event, topic="picky", key="user", kw_only=True, rename="camel"):
        user_name: str = "nobody"
        id: str
        at: float
        user: str
        amount: Annotated[float, msgspec.Meta(ge=0)] | None

        def __post_init__(self) -> None:
            if self.user_name == "root":
                raise ValueError("not him")

    codec = TableCodec(Picky, ["id", "at", "user", "amount", "userName"], strict=True)
    columns: dict[str, list[Any]] = {"id": ["a", "b", "c"], "at": [1.0] * 3, "user": ["u"] * 3}
    good, none = codec.decode({**columns, "amount": [1.0, None, 0.0], "userName": ["x", None, "z"]})
    assert [(one.user_name, one.amount) for one in good] == [("x", 1.0), ("nobody", None), ("z", 0.0)]
    assert none == []
    kept, told = codec.decode({**columns, "amount": [-1.0, 1.0, 0.0], "userName": ["x", "root", "z"]})
    assert [one.id for one in kept] == ["c"]
    assert [(one.at, one.message) for one in told] == [(0, "Expected `float` >= 0.0 - at `$.amount`"), (1, "not him")]


@pytest.mark.parametrize("time", ["nan", "inf", "-inf"])
def test_a_time_that_the_wire_could_not_carry_is_refused(time: str) -> None:
    codec = TableCodec(Reading, ["id", "at", "sensor", "value"], strict=False)
    columns = {"id": ["a", "b"], "at": ["1", time], "sensor": ["1", "1"], "value": ["nan", "1"]}
    events, rejections = codec.decode(columns)
    assert [event.id for event in events] == ["a"], "what a value may be, the pipeline says"
    (told,) = rejections
    assert (told.at, told.reason) == (1, Reason.WRONG_TYPE)
    assert told.message == f"Expected a finite number, got {time} - at `$.at`"

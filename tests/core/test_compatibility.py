"""Whether today's class reads yesterday's events: what is said, and that the decoder agrees.

Flow: two classes of random fields; events that are well for the first are decoded with the second.
"""

import random
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
import pytest

from headrace import Event
from headrace.schemas.compatibility import compared, schema_of
from headrace.stream import schema

NOTHING = object()
# Types, each with values that are well for it, and that show where another type is narrower.
TYPES: list[tuple[Any, list[Any]]] = [
    (int, [0, -7, 12]),
    (float, [0, 1.5, -2]),
    (str, ["", "a", "zz"]),
    (bool, [True, False]),
    (int | None, [-3, None]),
    (str | None, ["aa", None]),
    (float | str, [1.5, "bb", -2]),
    (Literal["a", "b"], ["a", "b"]),
    (Literal["a", "b", "c"], ["a", "b", "c"]),
    (Literal["a", "b"] | None, ["a", "b", None]),
    (Any, [-1, 2.5, "aa", None, [2.5], [{}], {"a": True}]),
    (list[int] | None, [None, [1]]),
    (list[str], [[], ["a"]]),
    (dict[str, int], [{}, {"a": 1}]),
    (list[int], [[], [1, 2]]),
    (list[float], [[], [1.5], [2]]),
    (Annotated[int, msgspec.Meta(ge=0)], [0, 12]),
    (Annotated[int, msgspec.Meta(ge=10)], [10, 12]),
    (Annotated[str, msgspec.Meta(max_length=1)], ["", "a"]),
]


def _a_class(chance: random.Random) -> tuple[type, dict[str, tuple[list[Any], bool]]]:
    """Return a class, and of each field the values that it takes and whether it may be missing."""
    fields: list[Any] = []
    held = {}
    for name in chance.sample(["a", "b", "c"], chance.randint(1, 3)):
        kind, values = chance.choice(TYPES)
        optional = chance.random() < 0.4
        fields.append((name, kind, values[0]) if optional and not isinstance(values[0], list | dict) else (name, kind))
        held[name] = values, optional and not isinstance(values[0], list | dict)
    return msgspec.defstruct("Some", fields, kw_only=True), held


@pytest.mark.parametrize("number", range(40))
def test_what_is_said_is_what_the_decoder_does(number: int) -> None:
    chance = random.Random(number)
    for _ in range(10):
        (old, held), (new, _) = _a_class(chance), _a_class(chance)
        said = compared(msgspec.json.schema(old), msgspec.json.schema(new))
        broken = []
        # Every value of every field once, the others as they come; and each that may be missing, missing.
        for name, (values, optional) in held.items():
            for value in [*values, *([NOTHING] if optional else [])]:
                event = {other: chance.choice(those) for other, (those, _) in held.items()} | {name: value}
                event = {other: one for other, one in event.items() if one is not NOTHING}
                msgspec.json.decode(msgspec.json.encode(event), type=old)
                try:
                    msgspec.json.decode(msgspec.json.encode(event), type=new)
                except msgspec.ValidationError as error:
                    broken.append((event, str(error)))
        breaks = [one for one in said if one.breaks]
        assert bool(breaks) == bool(broken), (msgspec.json.schema(old), msgspec.json.schema(new), said, broken)


class Place(msgspec.Struct):
    lat: float
    lon: float


class Further(msgspec.Struct):
    lat: float
    lon: float
    height: float


class Before(Event, topic="t", key="card"):
    id: str
    at: float
    card: str
    place: Place
    old: str = ""


class After(Event, topic="t", key="card"):
    id: str
    at: float
    card: str
    place: Further
    note: str | None = None


def test_nested_fields_are_told_by_their_path() -> None:
    told = {one.field: one.breaks for one in compared(schema_of(Before), schema_of(After))}
    assert told == {"old": False, "place.height": True, "note": False}


def test_a_class_differs_in_nothing_from_itself() -> None:
    assert compared(schema_of(Before), schema_of(Before)) == []


PIPELINE = """\
from headrace import Event, Linear, Pipeline, log1p

class Payment(Event, topic="payments", key="card"):
    id: str
    at: float
    card: str
    amount: float

pipeline = Pipeline(name="p", events=Payment, features={"a": log1p("amount")}, static=Linear({"a": 1.0}))
"""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pipeline.py").write_text(PIPELINE)
    return tmp_path


def test_a_schema_that_was_kept_is_compared_with_todays_class(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert schema.show("pipeline.py") == 0
    (project / "old.json").write_text(capsys.readouterr().out)
    assert schema.check("pipeline.py", "old.json", as_json=False) == 0
    assert capsys.readouterr().out == "Payment reads what was written for old.json: nothing changed\n"
    (project / "pipeline.py").write_text(PIPELINE.replace("amount: float", "amount: float\n    country: str"))
    assert schema.check("pipeline.py", "old.json", as_json=False) == 1
    shown = capsys.readouterr().out
    assert shown.startswith("breaks  country: is new and has no default")
    assert shown.endswith("Payment does not read all that was written for old.json: 1 of 1 differences breaks\n")
    assert schema.check("pipeline.py", "old.json", as_json=True) == 1
    assert msgspec.json.decode(capsys.readouterr().out)["field"] == "country"


def test_events_that_were_kept_are_read_with_todays_class(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good = '{"id": "p1", "at": 1.0, "card": "c", "amount": 1}\n'
    (project / "old.jsonl").write_text(3 * good)
    assert schema.check("pipeline.py", "old.jsonl", as_json=False) == 0
    assert capsys.readouterr().out == "Payment reads all 3 events of old.jsonl\n"
    (project / "old.jsonl").write_text(good + '{"id": "p1", "at": 1.0, "card": "c"}\n' * 2 + "{\n")
    assert schema.check("pipeline.py", "old.jsonl", as_json=False) == 1
    assert capsys.readouterr().out.splitlines() == [
        "breaks  2 events, missing_field, line 2: Object missing required field `amount` - at `$.amount`",
        "breaks  1 event, not_json, line 4: Input data was truncated",
        "3 of the 4 events of old.jsonl would be dead letters",
    ]

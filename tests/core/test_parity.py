"""What was published beside what a replay gives: equal, different, missing or unexpected, and nothing else."""

import random
from collections import Counter
from typing import Any

import msgspec
import pytest

from headrace.stream.parity import EXAMPLES, Comparison, Report, differences

encode = msgspec.json.encode


def _value(identity: Any, score: float = 0.5, **other: Any) -> bytes:
    made = {"id": identity, "at": 1.0, "card": "c", "score": score, "static": score, "online": None}
    return encode({**made, "model": "fraud", "version": "1", **other})


def _compared(
    replayed: list[tuple[Any, bytes | None]], published: list[bytes | None], later: tuple[bytes, ...] = (), **named: Any
) -> Report:
    comparison = Comparison("id", "fraud", **named)
    for offset, (identity, value) in enumerate(replayed):
        comparison.replayed(identity, value, 1, offset, "" if value else "not_finite")
    for offset, given in enumerate(published):
        comparison.published(given, 2, offset)
    for event in later:
        comparison.came_later(event)
    return comparison.finish(Report(topic="cards", predictions="predictions"))


def _counts(report: Report) -> tuple[int, ...]:
    return report.equal, report.different, report.missing, report.unexpected


def test_equal_bytes_are_equal() -> None:
    report = _compared([("a", _value("a")), (7, _value(7))], [_value(7), _value("a")])
    assert _counts(report) == (2, 0, 0, 0)
    assert report.all_equal
    assert not report.equal_in_other_bytes


def test_other_bytes_with_the_same_fields_are_equal_and_counted() -> None:
    written = (
        b'{ "version": "1", "model": "fraud", "online": null, "static": 5e-1, '
        b'"score": 0.5, "card": "c", "at": 1, "id": "a"}'
    )
    report = _compared([("a", _value("a"))], [written])
    assert _counts(report) == (1, 0, 0, 0)
    assert report.equal_in_other_bytes == 1


def test_the_last_bit_of_a_score_is_a_difference() -> None:
    report = _compared([("a", _value("a", 0.1 + 0.2))], [_value("a", 0.3)])
    assert _counts(report) == (0, 1, 0, 0)
    assert [(one.field, one.published, one.replayed) for one in report.differences] == [
        ("score", 0.3, 0.30000000000000004),
        ("static", 0.3, 0.30000000000000004),
    ]
    assert (report.differences[0].partition, report.differences[0].offset) == (1, 0)


def test_fields_are_compared_by_value_and_by_being_there() -> None:
    assert not list(differences({"a": 1, "b": None}, {"b": None, "a": 1.0}))
    assert list(differences({"a": True}, {"a": 1})) == [("a", True, 1)]
    assert list(differences({"a": None}, {})) == [("a", None, None)]


def test_an_event_that_was_rejected_has_no_prediction_to_miss_and_none_to_expect() -> None:
    report = _compared([("a", None)], [])
    assert _counts(report) == (0, 0, 0, 0)
    report = _compared([("a", None)], [_value("a")])
    assert _counts(report) == (0, 0, 0, 1)
    (one,) = report.unexpected_predictions
    assert one.reason == "its event was rejected in the replay: not_finite"
    assert (one.id, one.partition, one.offset) == ("a", 2, 0)


def test_a_prediction_that_comes_again_is_unexpected_unless_that_is_allowed() -> None:
    twice = [_value("a"), _value("a")]
    assert _counts(_compared([("a", _value("a"))], twice)) == (1, 0, 0, 1)
    allowed = _compared([("a", _value("a"))], twice, repeats_allowed=True)
    assert _counts(allowed) == (1, 0, 0, 0)
    assert allowed.repeated == 1
    other = [_value("a"), _value("a", 0.25)]
    assert _counts(_compared([("a", _value("a"))], other, repeats_allowed=True)) == (1, 0, 0, 1)


def test_events_of_one_id_each_have_their_prediction_in_any_order() -> None:
    events = [("a", _value("a", 0.1)), ("a", _value("a", 0.2)), ("a", None), ("a", _value("a", 0.3))]
    values = [value for _, value in events if value]
    for seed in range(10):
        random.Random(seed).shuffle(values)
        assert _counts(_compared(events, list(values))) == (3, 0, 0, 0)
    assert _counts(_compared(events, values[:2])) == (2, 0, 1, 0)
    assert _counts(_compared(events, [*values[:2], _value("a", 0.9)])) == (2, 1, 0, 0)


def test_a_prediction_of_no_event_is_unexpected_only_where_every_event_was_read() -> None:
    report = _compared([("a", _value("a"))], [_value("a"), _value("b")])
    assert _counts(report) == (1, 0, 0, 0)
    assert report.outside == 1
    report = _compared(
        [("a", _value("a"))], [_value("a"), _value("b"), _value("c")], (b'{"id":"c","x":1}',), whole=True
    )
    assert _counts(report) == (1, 0, 0, 1)
    assert report.unexpected_predictions[0].id == "b"


def test_other_models_share_the_topic_and_are_left_out() -> None:
    report = _compared([("a", _value("a"))], [_value("a"), _value("a", model="spam")], whole=True)
    assert _counts(report) == (1, 0, 0, 0)
    assert report.others == 1


@pytest.mark.parametrize("value", [None, b"", b"no", b"[]", b'{"model":"fraud"}', b'{"id":1.5}', b'{"id":"\xff"}'])
def test_what_is_no_prediction_is_unexpected(value: bytes | None) -> None:
    report = _compared([("a", _value("a"))], [_value("a"), value])
    assert _counts(report) == (1, 0, 0, 1)
    assert report.unexpected_predictions[0].reason.startswith("no prediction: ")


def test_the_id_is_the_field_that_the_event_names() -> None:
    comparison = Comparison("payment", "fraud")
    value = encode({"payment": "p", "id": "something else", "model": "fraud"})
    comparison.replayed("p", value, 0, 0)
    comparison.published(value, 0, 0)
    assert comparison.finish(Report(topic="", predictions="")).equal == 1
    assert comparison.id_of(b'{"payment":"p","model":7}') == "p"


def test_the_first_of_each_kind_are_shown_and_all_are_counted() -> None:
    events = [(f"d{number}", _value(f"d{number}")) for number in range(30)]
    gone = [(f"m{number}", _value(f"m{number}")) for number in range(30)]
    strange = [_value(f"u{number}") for number in range(30)]
    report = _compared([*events, *gone], [*[_value(name, 0.25) for name, _ in events], *strange], whole=True)
    assert _counts(report) == (0, 30, 30, 30)
    told = report.told()
    for heading in ("different, the first:", "missing, the first:", "unexpected, the first:"):
        assert heading in told
    assert len({one.id for one in report.differences}) == EXAMPLES
    assert len(report.missing_events) == len(report.unexpected_predictions) == EXAMPLES
    assert msgspec.json.decode(encode(report))["different"] == 30


def test_counts_are_those_of_a_recount() -> None:
    for seed in range(50):
        chance = random.Random(seed)
        events = [(number, _value(number, chance.random())) for number in range(40)]
        want: Counter[str] = Counter()
        published = []
        for number, value in events:
            fate = chance.choice(("equal", "different", "missing", "unexpected"))
            want[fate] += 1
            if fate == "unexpected":
                want["equal"] += 1
                published.append(value)
            if fate != "missing":
                published.append(_value(number, 2.0) if fate == "different" else value)
        chance.shuffle(published)
        report = _compared(events, list(published))
        assert _counts(report) == tuple(want[kind] for kind in ("equal", "different", "missing", "unexpected"))

"""The bytes on the wire, pinned: what was written is read today, and today's bytes are what was written.

A file here was published by a release and is never changed. A new form of a record is a new folder.
"""

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from core.records import Alone, Record, Transaction, config_of, fraud

from headrace.schemas import dead_letter, slack
from headrace.schemas.acknowledgement import Acknowledgement
from headrace.schemas.alert import Alert, AlertState, Evidence, Severity
from headrace.schemas.codec import EventCodec, encode, encode_all
from headrace.schemas.dead_letter import Reason, Rejection
from headrace.schemas.order import Action, Order, OrderState
from headrace.schemas.prediction import Contribution, prediction_type
from headrace.schemas.quality import QualityReport

WIRE = Path(__file__).with_name("wire-1")
Prediction: Any = prediction_type(Transaction, "fraud", "1")
Told: Any = prediction_type(Transaction, "fraud", "1", reasons=True)
Named: Any = prediction_type(Transaction, "colour", "1", classes=str)
Numbered: Any = prediction_type(Transaction, "level", "1", classes=int)

EVENTS = [
    Transaction("p1", 1_700_000_000.0, "card-7", "m-1", 12.5, 48.8566, 2.3522, "FR"),
    Transaction("p2", 1_700_000_000.125, 'é"\\\n😀', "", -0.0, -90.0, 180.0, "DE"),
    Transaction("", 0.0, "0", "m", 1e300, 5e-324, 1e16, ""),
]
PREDICTIONS = [
    Prediction("p1", 1_700_000_000.0, "card-7", 0.25, 0.25),
    Prediction("p2", 1_700_000_000.125, 'é"\\\n😀', 5e-324, 5e-324),
    Prediction("p3", 0.0, "0", 0.1, 0.2, 0.3),
    Prediction("p4", 0.0, "0", 0.5, None, flags=("static_fallback", "late")),
]
WHY = (Contribution("static", "R01", 12.0, 0.75), Contribution("online", "amount", None, -5e-324))
TOLD = [
    Told("p1", 1_700_000_000.0, "card-7", 0.25, 0.25, reasons=WHY),
    Told("p2", 0.0, "0", 0.5, None, flags=("static_fallback", "no_reasons")),
]
CLASSES = [
    Named("p1", 1_700_000_000.0, "card-7", 0.75, None, 0.75, predicted='é"'),
    Named("p2", 0.0, "0", 0.0, None, 0.0, flags=("late",)),
    Numbered("p3", 0.0, "0", 0.5, None, 0.5, predicted=-3),
]
ALERTS = [
    Alert(id="drift-amount-7", at=12.5, kind="drift", state=AlertState.RAISED, text="amount moved"),
    Alert(
        id="drift-amount-7",
        at=13.0,
        kind="drift",
        state=AlertState.CLEARED,
        text="é",
        series="amount",
        slice="merchant=m7",
        severity=Severity.HIGH,
        since=9.5,
        pipeline="fraud",
        version="1",
        explained_by=["spent_1h", "country=FR"],
        effect={"log_loss": 0.25},
        action="look at it",
        evidence=Evidence(
            bins=["below 5", "5 and more"],
            reference=[0.5, 0.5],
            current=[0.25, 0.75],
            reference_count=100_000,
            current_count=512,
            distances={"psi": 0.25},
        ),
    ),
]
ACKNOWLEDGEMENTS = [
    Acknowledgement(id="drift-amount-7", at=1_700_000_000.125, by="ada", note="é"),
    Acknowledgement(id="drift-amount-7", at=0.0),
]
ORDER = Order(
    id="drift-amount-7/fall_back",
    at=12.5,
    number=3,
    action=Action.FALL_BACK,
    state=OrderState.GIVEN,
    alert="drift-amount-7",
    kind="drift",
    series="amount",
    slice="merchant=m7",
    severity="high",
    text="é",
    pipeline="fraud",
    version="1",
    reference="0123456789abcdef",
)
ORDERS = [
    ORDER,
    ORDER.applied(3, offset=1 << 40),
    msgspec.structs.replace(ORDER, id="drift-amount-7/fall_back/lifted", state=OrderState.LIFTED).applied(0, offset=0),
]
# What Slack gets of the alerts above, and of one that says what it should not be able to say.
SLACK = [
    *ALERTS,
    Alert(
        id="<!channel>",
        at=1e300,
        kind="drift",
        state=AlertState.WORSE,
        text="<!channel> look at <https://evil.example|this> & that",
        series="<@U1>",
        explained_by=[f"s{place}" for place in range(12)],
    ),
]
QUALITY = [
    QualityReport(
        pipeline="fraud",
        version="1",
        partition=3,
        model="online",
        kind="binary",
        at=1_700_000_000.125,
        window=86_400.0,
        overall={"count": 1250.0, "accuracy": 0.8872, "log_loss": 5e-324},
        recent={"count": 0.0, "accuracy": None, "log_loss": None},
    ),
    QualityReport(
        pipeline="prices",
        version="é",
        partition=None,
        model="mean",
        kind="regression",
        at=0.0,
        window=90.0,
        overall={"count": 1.5, "r2": -1e300},
        recent={},
    ),
]


def _lines(name: str) -> list[bytes]:
    lines = (WIRE / name).read_bytes().splitlines()
    assert lines
    return lines


def test_events_that_were_published_are_read() -> None:
    assert EventCodec(Transaction).decode(_lines("transactions.jsonl")) == (EVENTS, [])


def test_events_that_are_written_today_are_those_bytes() -> None:
    assert encode_all(EVENTS) == _lines("transactions.jsonl")


def test_events_of_a_later_producer_are_read_too() -> None:
    # It added fields, reordered them, and writes whole numbers where it can.
    assert EventCodec(Transaction).decode(_lines("transactions-later.jsonl")) == (EVENTS[:1] * 3, [])


def test_predictions_that_are_written_today_are_those_bytes() -> None:
    assert encode_all(PREDICTIONS) == _lines("predictions.jsonl")


def test_predictions_that_were_published_are_read() -> None:
    read = [msgspec.json.decode(line, type=Prediction) for line in _lines("predictions.jsonl")]
    assert read == PREDICTIONS


def test_predictions_with_reasons_are_those_bytes_and_are_read() -> None:
    lines = _lines("predictions-with-reasons.jsonl")
    assert encode_all(TOLD) == lines
    assert [msgspec.json.decode(line, type=Told) for line in lines] == TOLD


def test_predictions_of_classes_are_those_bytes_and_are_read() -> None:
    lines = _lines("predictions-of-classes.jsonl")
    assert encode_all(CLASSES) == lines
    assert [msgspec.json.decode(line, type=type(one)) for line, one in zip(lines, CLASSES, strict=True)] == CLASSES
    # A reader that knows no classes reads them, and one that does reads predictions without.
    assert [msgspec.json.decode(line, type=Prediction).score for line in lines] == [one.score for one in CLASSES]
    assert all(msgspec.json.decode(line, type=Named).predicted is None for line in _lines("predictions.jsonl"))


def test_a_reader_that_knows_no_reasons_reads_predictions_that_have_some_and_the_other_way_round() -> None:
    read = [msgspec.json.decode(line, type=Prediction) for line in _lines("predictions-with-reasons.jsonl")]
    assert [(one.id, one.score, one.flags) for one in read] == [(one.id, one.score, one.flags) for one in TOLD]
    assert all(not msgspec.json.decode(line, type=Told).reasons for line in _lines("predictions.jsonl"))


def test_a_reader_that_knows_the_first_fields_only_reads_predictions() -> None:
    class Known(msgspec.Struct):
        id: str
        at: float
        card: str
        score: float
        static: float | None
        online: float | None
        model: str
        version: str

    fields = Known.__struct_fields__
    read = [msgspec.json.decode(line, type=Known) for line in _lines("predictions.jsonl")]
    want = [tuple(getattr(one, name) for name in fields) for one in PREDICTIONS]
    assert [msgspec.structs.astuple(one) for one in read] == want


def test_what_the_worker_publishes_has_the_shape_that_is_pinned() -> None:
    # The score itself may differ in its last bit from one kind of processor to the next.
    config = config_of()
    limits = dict.fromkeys((config.topic_predictions, config.topic_alerts, config.topic_dead_letters), 1_000_000)
    outputs = Alone(fraud, config, limits).step([Record(_lines("transactions.jsonl")[0])])
    pinned = json.loads(_lines("predictions.jsonl")[0])
    made = json.loads(outputs.values[0])
    assert list(made) == list(pinned)
    assert made == {**pinned, "score": made["score"], "static": made["score"]}
    assert outputs.keys == [pinned["card"]]


def test_orders_are_those_bytes_and_are_read() -> None:
    assert encode_all(ORDERS) == _lines("orders.jsonl")
    assert [msgspec.json.decode(line, type=Order) for line in _lines("orders.jsonl")] == ORDERS


def test_an_alert_names_what_was_done_and_one_without_has_no_such_field() -> None:
    acted = msgspec.structs.replace(ALERTS[1], actions=["fall_back"])
    assert encode(acted) == encode(ALERTS[1])[:-1] + b',"actions":["fall_back"]}'
    assert msgspec.json.decode(encode(acted), type=Alert) == acted


def test_alerts_that_are_written_today_are_those_bytes() -> None:
    assert encode_all(ALERTS) == _lines("alerts.jsonl")


def test_alerts_that_were_published_are_read() -> None:
    assert [msgspec.json.decode(line, type=Alert) for line in _lines("alerts.jsonl")] == ALERTS


def test_acknowledgements_that_are_written_today_are_those_bytes() -> None:
    assert encode_all(ACKNOWLEDGEMENTS) == _lines("acknowledgements.jsonl")


def test_acknowledgements_that_were_published_are_read() -> None:
    read = [msgspec.json.decode(line, type=Acknowledgement) for line in _lines("acknowledgements.jsonl")]
    assert read == ACKNOWLEDGEMENTS


def test_messages_to_slack_that_are_written_today_are_those_bytes() -> None:
    assert [slack.message(alert) for alert in SLACK] == _lines("slack.jsonl")


def test_nothing_that_an_alert_says_is_markup_for_slack() -> None:
    for line in _lines("slack.jsonl"):
        assert b"<" not in line
        assert b">" not in line


def test_a_message_to_slack_has_no_part_that_is_too_long_whatever_the_alert_says() -> None:
    long = "&<a>" * 5_000
    alert = Alert(
        id=long,
        at=1.0,
        kind=long,
        state=AlertState.RAISED,
        text=long,
        series=long,
        slice=long,
        since=1.0,
        explained_by=[long] * 100,
        effect={f"{long}{place}": 0.1 for place in range(100)},
        action=long,
        evidence=Evidence(distances={f"{long}{place}": 0.1 for place in range(100)}),
    )
    message = msgspec.json.decode(slack.message(alert))
    header, section, facts, context = message["blocks"]
    assert len(header["text"]["text"]) <= 150
    assert len(section["text"]["text"]) <= 3_000
    assert len(facts["fields"]) <= 10
    assert all(len(field["text"]) <= 2_000 for field in facts["fields"])
    assert len(context["elements"][0]["text"]) <= 2_000
    assert len(message["text"]) <= 3_000


def test_reports_on_quality_that_are_written_today_are_those_bytes() -> None:
    assert encode_all(QUALITY) == _lines("quality.jsonl")


def test_reports_on_quality_that_were_published_are_read() -> None:
    assert [msgspec.json.decode(line, type=QualityReport) for line in _lines("quality.jsonl")] == QUALITY


def _letters() -> dict[str, dict[str, str | None]]:
    place = {"topic": "transactions", "partition": 2, "offset": 41, "pipeline": "fraud", "version": "1"}
    return {
        reason.value: {
            name: value and value.decode()
            for name, value in dead_letter.headers(Rejection(0, reason, f"why: {reason} é", "a.B"), **place)  # type: ignore[arg-type]
        }
        for reason in Reason
    }


@pytest.mark.parametrize("reason", Reason)
def test_headers_of_a_dead_letter_are_those_that_tools_look_for(reason: Reason) -> None:
    pinned = json.loads((WIRE / "dead-letters.json").read_text())
    assert _letters()[reason] == pinned[reason]
    assert list(_letters()[reason]) == list(pinned[reason]), "the order of headers is on the wire too"


def test_no_reason_was_renamed_or_dropped() -> None:
    assert set(json.loads((WIRE / "dead-letters.json").read_text())) <= {reason.value for reason in Reason}


if __name__ == "__main__":  # for a new folder, before its first release
    every = (
        ("transactions", EVENTS),
        ("predictions", PREDICTIONS),
        ("predictions-with-reasons", TOLD),
        ("predictions-of-classes", CLASSES),
        ("alerts", ALERTS),
        ("acknowledgements", ACKNOWLEDGEMENTS),
        ("quality", QUALITY),
    )
    for file, structs in every:
        (WIRE / f"{file}.jsonl").write_bytes(b"".join(encode(one) + b"\n" for one in structs))
    (WIRE / "slack.jsonl").write_bytes(b"".join(slack.message(one) + b"\n" for one in SLACK))
    (WIRE / "dead-letters.json").write_text(json.dumps(_letters(), indent=2, ensure_ascii=False) + "\n")

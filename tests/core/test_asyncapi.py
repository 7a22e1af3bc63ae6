"""What ``headrace schema asyncapi`` says is AsyncAPI 3.0, and is what goes over the wire.

There is no parser of AsyncAPI for Python, so its rules are written down here, as far as the document goes: what is
required, and nothing that is not defined. Payloads are judged by a validator of JSON Schema, with what was published.
"""

import copy
import json
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from headrace.examples.fraud.pipeline import Transaction

from headrace import Event, Label, Linear, Pipeline, log1p
from headrace.schemas.acknowledgement import Acknowledgement
from headrace.schemas.codec import encode
from headrace.schemas.config import configure, from_pairs
from headrace.schemas.dead_letter import Reason
from headrace.stream import asyncapi, cli
from headrace.stream.load import load_pipeline
from headrace.testing import Driver

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ("examples/fraud", "examples/ctr", "benchmarks/stateless")
TEXT = {"type": "string", "minLength": 1}


def closed(required: dict[str, Any], **optional: Any) -> dict[str, Any]:
    """Return the schema of an object that has these fields and no others."""
    fields = {**required, **optional}
    return {"type": "object", "properties": fields, "required": list(required), "additionalProperties": False}


def each(value: dict[str, Any], names: str) -> dict[str, Any]:
    """Return the schema of an object of such values, with names like that."""
    return {"type": "object", "patternProperties": {names: value}, "additionalProperties": False, "minProperties": 1}


def reference(where: str) -> dict[str, Any]:
    return closed({"$ref": {"type": "string", "pattern": f"^#/{where}$"}})


NAME = r"[\w\d.\-_]+"
KAFKA_CHANNEL = closed({"topic": TEXT, "bindingVersion": {"const": "0.5.0"}})
KAFKA_MESSAGE = closed({"key": {"type": "object"}, "bindingVersion": {"const": "0.5.0"}})
RULES = closed(
    {
        "asyncapi": {"const": "3.0.0"},
        "info": closed({"title": TEXT, "version": TEXT}, description=TEXT),
        "channels": each(
            closed(
                {
                    "address": TEXT,
                    "description": TEXT,
                    "messages": each(reference(f"components/messages/{NAME}"), f"^{NAME}$"),
                    "bindings": closed({"kafka": KAFKA_CHANNEL}),
                }
            ),
            f"^{NAME}$",
        ),
        "operations": each(
            closed(
                {
                    "action": {"enum": ["send", "receive"]},
                    "channel": reference(f"channels/{NAME}"),
                    "messages": {
                        "type": "array",
                        "minItems": 1,
                        "items": reference(f"channels/{NAME}/messages/{NAME}"),
                    },
                }
            ),
            f"^{NAME}$",
        ),
        "components": closed(
            {
                "messages": each(
                    closed(
                        {
                            "name": TEXT,
                            "summary": TEXT,
                            "contentType": TEXT,
                            "payload": {"type": "object"},
                            "bindings": closed({"kafka": KAFKA_MESSAGE}),
                        },
                        title=TEXT,
                        headers={"type": "object", "properties": {"type": {"const": "object"}}, "required": ["type"]},
                        correlationId=closed(
                            {"location": {"type": "string", "pattern": r"^\$message\.(payload|header)#/"}}
                        ),
                    ),
                    f"^{NAME}$",
                ),
                "schemas": each({"type": "object"}, f"^{NAME}$"),
            }
        ),
    },
    defaultContentType=TEXT,
    servers=each(closed({"host": TEXT, "protocol": {"enum": ["kafka", "kafka-secure"]}}), f"^{NAME}$"),
)


def judge(document: dict[str, Any]) -> None:
    """Raise where the document is not what the specification says."""
    jsonschema.validate(document, RULES, cls=jsonschema.Draft202012Validator)
    for where in _references(document):
        _resolved(document, where)
    for name, operation in document["operations"].items():
        channel = operation["channel"]["$ref"]
        for message in operation["messages"]:
            assert message["$ref"].startswith(f"{channel}/messages/"), f"{name}: a message of another channel"
    for schema in document["components"]["schemas"].values():
        jsonschema.Draft202012Validator.check_schema(schema)
    for message in document["components"]["messages"].values():
        jsonschema.Draft202012Validator.check_schema(message["payload"])
        jsonschema.Draft202012Validator.check_schema(message["bindings"]["kafka"]["key"])
        if "correlationId" in message:
            schema = _resolved(document, message["payload"]["$ref"])
            assert message["correlationId"]["location"].rpartition("#/")[2] in schema["properties"]


def _references(value: Any) -> list[str]:
    if isinstance(value, list):
        return [found for one in value for found in _references(one)]
    if not isinstance(value, dict):
        return []
    own = [value["$ref"]] if isinstance(value.get("$ref"), str) else []
    return own + [found for one in value.values() for found in _references(one)]


def _resolved(document: dict[str, Any], where: str) -> Any:
    found: Any = document
    for part in where.removeprefix("#/").split("/"):
        assert part in found, f"{where} leads nowhere"
        found = found[part]
    return found


@cache
def _document(path: str, *pairs: str) -> dict[str, Any]:
    made = asyncapi.document(load_pipeline(str(ROOT / path)), configure(from_pairs(pairs)))
    return json.loads(json.dumps(made))


@pytest.mark.parametrize("path", EXAMPLES)
def test_what_is_said_is_asyncapi(path: str) -> None:
    judge(_document(path))


@pytest.mark.parametrize(
    "spoil",
    [
        lambda it: it.pop("info"),
        lambda it: it.update(topics={}),
        lambda it: it["channels"]["events"]["messages"].clear(),
        lambda it: it["operations"]["receiveEvents"].update(action="publish"),
        lambda it: it["operations"]["receiveEvents"]["channel"].update({"$ref": "#/channels/nothing"}),
        lambda it: it["operations"]["receiveEvents"]["channel"].update({"$ref": "#/channels/labels"}),
        lambda it: it["components"]["schemas"].pop("Contribution"),
        lambda it: it["components"]["schemas"]["Prediction"].update(type="record"),
        lambda it: it["components"]["messages"]["events"]["correlationId"].update(location="$message.payload#/uid"),
    ],
)
def test_the_judge_finds_what_is_wrong(spoil: Any) -> None:
    document = copy.deepcopy(_document("examples/fraud"))
    spoil(document)
    with pytest.raises((AssertionError, jsonschema.ValidationError, jsonschema.SchemaError)):
        judge(document)


def test_every_record_of_a_pipeline_is_as_the_document_says() -> None:
    pipeline, document = load_pipeline(str(ROOT / "examples/fraud")), _document("examples/fraud")
    driver = Driver(pipeline)
    day, where = 1_767_225_600.0, {"merchant": "m", "lat": 48.9, "lon": 2.4, "country": "FR"}
    payments = [Transaction(id=f"t{n}", at=day + n, card=f"c{n % 7}", amount=float(n), **where) for n in range(60)]
    came: dict[str, list[bytes]] = {"events": [], "labels": [], "acknowledgements": []}
    for one in payments:
        came["events"].append(encode(one))
        driver.pipe(one)
    for place, one in enumerate(payments[:50]):
        said = {"id": one.id, "at": one.at + 86_400, "card": one.card, "label": place % 2}
        came["labels"].append(encode(said))
        driver.label(one.id, place % 2, at=said["at"], key=one.card)
    driver.clock = payments[-1].at
    driver.advance("30d")
    driver.pipe(b'{"id": "t1"}', key="c", headers={"traceparent": "00-1"})
    came["acknowledgements"].append(encode(Acknowledgement(id="a", at=1.0, by="ada")))
    for name, message in document["components"]["messages"].items():
        check = jsonschema.Draft202012Validator({**message["payload"], "components": document["components"]})
        topic = document["channels"][name]["address"]
        records = driver.published(topic) if name not in came else ()
        values = [one.value for one in records] + came.get(name, [])
        assert values or name == "alerts", name
        for value in values:
            if name != "deadLetters":
                check.validate(json.loads(value))
        for one in records if "headers" in message else ():
            jsonschema.validate({key: value.decode() for key, value in one.headers or ()}, message["headers"])
    strict = document["components"]["schemas"]["Prediction"]
    made = json.loads(driver.published("predictions")[0].value)
    assert strict["required"] == list(strict["properties"]) == list(made), "a prediction has every field, in this order"


def test_an_alert_is_as_the_document_says() -> None:
    from headrace.schemas.alert import Alert, AlertState

    document = _document("examples/fraud")
    check = {"$ref": "#/components/schemas/Alert", "components": document["components"]}
    alert = json.loads(encode(Alert(id="drift-amount-7", at=12.5, kind="drift", state=AlertState.RAISED, text="moved")))
    jsonschema.validate(alert, check)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**alert, "state": "gone"}, check)


def test_topics_and_brokers_are_those_of_the_options() -> None:
    pairs = ("topic_predictions=scores", "broker=one:9093,two:9093", "kafka.security.protocol=ssl")
    document = _document("examples/fraud", *pairs)
    assert document["channels"]["predictions"]["address"] == "scores"
    assert document["channels"]["predictions"]["bindings"]["kafka"]["topic"] == "scores"
    assert document["servers"] == {
        "broker-1": {"host": "one:9093", "protocol": "kafka-secure"},
        "broker-2": {"host": "two:9093", "protocol": "kafka-secure"},
    }


def test_every_reason_of_a_dead_letter_is_named() -> None:
    headers = _document("examples/fraud")["components"]["messages"]["deadLetters"]["headers"]
    assert headers["properties"]["headrace.errors.code"]["enum"] == [reason.value for reason in Reason]


def test_names_of_fields_are_those_on_the_wire() -> None:
    class Payment(Event, topic="payments", key="card", id="number", rename="camel"):
        """Paid."""

        number: str
        at: float
        card: str
        amount: float
        paid_in: str

    class Back(Label, topic="backs", of=Payment, within="1d", id="its_number", rename="camel"):
        its_number: str
        at: float
        card: str
        label: int

    pipeline = Pipeline(
        name="p", events=Payment, labels=Back, features={"log": log1p("amount")}, static=Linear({"log": 1.0})
    )
    document = json.loads(json.dumps(asyncapi.document(pipeline, configure())))
    judge(document)
    messages = document["components"]["messages"]
    assert messages["labels"]["correlationId"] == {"location": "$message.payload#/itsNumber"}
    assert messages["labels"]["summary"] == "Records of Back."
    assert "paidIn" in document["components"]["schemas"]["Payment"]["properties"]
    assert set(document["channels"]) == {
        "events",
        "labels",
        "predictions",
        "outcomes",
        "quality",
        "alerts",
        "deadLetters",
    }


def test_the_command_prints_it(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        cli.main(["schema", "asyncapi", str(ROOT / "examples/fraud"), "--set", "topic_alerts=tell"])
    assert end.value.code == 0
    assert json.loads(capsys.readouterr().out) == _document("examples/fraud", "topic_alerts=tell")

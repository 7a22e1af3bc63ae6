"""``headrace schema asyncapi``: the topics that a pipeline reads and writes, as an AsyncAPI 3.0 document."""

import inspect
import json
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import msgspec

from headrace.models.pipeline import Pipeline
from headrace.schemas import dead_letter
from headrace.schemas.acknowledgement import Acknowledgement
from headrace.schemas.alert import Alert
from headrace.schemas.config import Config
from headrace.schemas.dead_letter import CONNECT, OURS, RETRIES, Reason, Rejection
from headrace.schemas.order import Order
from headrace.schemas.prediction import Flag
from headrace.schemas.quality import QualityReport
from headrace.stream import terminal
from headrace.stream.load import load_pipeline

VERSION = "3.0.0"
BINDINGS = "0.5.0"  # of the bindings for Kafka
MIME = "application/json"
RECEIVE, SEND = "receive", "send"  # as the worker does it
Schema = dict[str, Any]

_TRACE = {
    "traceparent": {"type": "string", "description": "Travels from an event to what is published of it, as others do."}
}


class Channel(NamedTuple):
    """A topic that others read or write, and what its records are."""

    name: str
    topic: str
    action: str
    what: str
    key: str
    payload: Any = None  # the class of the records; None where they are as they came
    id: str = ""  # the field by which records of different topics are of one event
    headers: Mapping[str, Any] = {}
    required: tuple[str, ...] = ()  # of the headers


def channels(pipeline: Pipeline, config: Config) -> list[Channel]:
    """Return what goes in and out, without what workers keep for themselves: changelogs, lessons, slices."""
    wire, by_key = pipeline.wire, f"The event's `{pipeline.wire.key}`, as text."
    what, id_ = _said(pipeline.events), _encoded(pipeline.events, wire.id)
    found = [Channel("events", wire.topic, RECEIVE, what, by_key, pipeline.events, id_, _TRACE)]
    if (labels := pipeline.labels) is not None:
        what, id_ = _said(labels), _encoded(labels, labels.wire.id)
        found.append(Channel("labels", labels.wire.topic, RECEIVE, what, by_key, labels, id_))
    if pipeline.watch is not None:
        what, topic = _said(Acknowledgement), config.topic_acknowledgements
        found.append(Channel("acknowledgements", topic, RECEIVE, what, "The alert's `id`.", Acknowledgement, "id"))
    what = f"The score of each event, by {pipeline.name}. Readers set isolation.level=read_committed."
    topic = config.topic_predictions
    found.append(Channel("predictions", topic, SEND, what, by_key, pipeline.prediction, wire.id, _TRACE))
    if pipeline.labels is not None:
        what = "What became known of an event after it was scored, and with which score it was published."
        found.append(Channel("outcomes", config.topic_outcomes, SEND, what, by_key, pipeline.outcome, wire.id))
    if pipeline.learns:
        key = "What it is a report on: pipeline, partition or `all`, model."
        found.append(Channel("quality", config.topic_quality, SEND, _said(QualityReport), key, QualityReport))
    found.append(Channel("alerts", config.topic_alerts, SEND, _said(Alert), "The alert's `id`.", Alert, "id"))
    if pipeline.acts:
        key = "The record's `id`."
        found.append(Channel("orders", config.control_topic, SEND, _said(Order), key, Order, "alert"))
    what = "A record that cannot be scored, key, value and headers as they came, with headers that say why."
    known, required = _dead_letter_headers()
    topic = config.topic_dead_letters
    found.append(Channel("deadLetters", topic, SEND, what, "As it came.", headers=known, required=required))
    return found


def document(pipeline: Pipeline, config: Config) -> Schema:
    """Return the document, from the classes that are on the wire.

    >>> from headrace.examples.fraud.pipeline import pipeline
    >>> from headrace.schemas.config import configure
    >>> made = document(pipeline, configure())
    >>> made["channels"]["events"]["address"], made["operations"]["receiveEvents"]["action"]
    ('transactions', 'receive')
    >>> sorted(made["channels"])
    ['acknowledgements', 'alerts', 'deadLetters', 'events', 'labels', 'outcomes', 'predictions', 'quality']
    """
    found = channels(pipeline, config)
    payloads, schemas = _schemas(found)
    return {
        "asyncapi": VERSION,
        "info": {
            "title": pipeline.name,
            "version": pipeline.version,
            "description": f"What the pipeline {pipeline.name} reads and writes. An operation is the worker's: it "
            "receives events, and sends predictions.",
        },
        "defaultContentType": MIME,
        "servers": _servers(config),
        "channels": {
            one.name: {
                "address": one.topic,
                "description": one.what,
                "messages": {one.name: {"$ref": f"#/components/messages/{one.name}"}},
                "bindings": {"kafka": {"topic": one.topic, "bindingVersion": BINDINGS}},
            }
            for one in found
        },
        "operations": {
            f"{one.action}{one.name[0].upper()}{one.name[1:]}": {
                "action": one.action,
                "channel": {"$ref": f"#/channels/{one.name}"},
                "messages": [{"$ref": f"#/channels/{one.name}/messages/{one.name}"}],
            }
            for one in found
        },
        "components": {
            "messages": {one.name: _message(one, payloads.get(one.name)) for one in found},
            "schemas": schemas,
        },
    }


def main(path: str, config: Config) -> int:
    """Print the document of a pipeline."""
    pipeline = load_pipeline(path)
    terminal.line(json.dumps(document(pipeline, config), indent=2))
    return 0


def _servers(config: Config) -> Schema:
    secure = config.kafka.get("security.protocol", "").upper() in {"SSL", "SASL_SSL"}
    protocol = "kafka-secure" if secure else "kafka"
    hosts = enumerate((one.strip() for one in config.broker.split(",")), start=1)
    return {f"broker-{number}": {"host": host, "protocol": protocol} for number, host in hosts}


def _message(one: Channel, payload: Schema | None) -> Schema:
    message: Schema = {"name": one.name, "summary": one.what.partition("\n")[0]}
    if one.payload is None:
        message["payload"] = {"description": "Whatever the record had: it may be no JSON, or nothing at all."}
        message["contentType"] = "application/octet-stream"
    else:
        message["title"] = one.payload.__name__
        message["payload"] = payload
        message["contentType"] = MIME
    if one.headers:
        message["headers"] = {"type": "object", "properties": dict(one.headers)}
    if one.required:
        message["headers"]["required"] = list(one.required)
    if one.id:
        message["correlationId"] = {"location": f"$message.payload#/{one.id}"}
    message["bindings"] = {
        "kafka": {"key": {"type": "string", "description": one.key}, "bindingVersion": BINDINGS},
    }
    return message


def _schemas(found: Iterable[Channel]) -> tuple[dict[str, Schema], dict[str, Schema]]:
    """Return where each payload is written down, and all that is: what is sent has every field that it can have."""
    typed = [one for one in found if one.payload is not None]
    made, schemas = msgspec.json.schema_components(
        [one.payload for one in typed], ref_template="#/components/schemas/{name}"
    )
    payloads = {one.name: dict(schema) for one, schema in zip(typed, made, strict=True)}
    at_times = {one.payload.__name__: _at_times(one.payload) for one in typed}
    received = _reached([payloads[one.name] for one in typed if one.action == RECEIVE], schemas)
    for name, schema in schemas.items():
        if "description" in schema:
            schema["description"] = _prose(schema["description"])
        if name not in received and "properties" in schema:
            schema["required"] = [field for field in schema["properties"] if field not in at_times.get(name, ())]
            for field in schema["properties"].values():
                field.pop("default", None)
    flags = schemas[_name(payloads["predictions"])]["properties"]["flags"]
    flags["description"] = "; ".join(f"`{one}`: {one.text}" for one in Flag) + ". There may be more."
    return payloads, dict(schemas)


def _reached(value: Any, schemas: Mapping[str, Schema]) -> set[str]:
    """Return the names of all that a schema leads to."""
    found: set[str] = set()
    left = [value]
    while left:
        one = left.pop()
        if isinstance(one, list):
            left += one
        elif isinstance(one, dict):
            left += one.values()
            if "$ref" in one and (name := _name(one)) not in found:
                found.add(name)
                left.append(schemas[name])
    return found


def _name(reference: Schema) -> str:
    return str(reference["$ref"]).rpartition("/")[2]


def _said(cls: type) -> str:
    """Return what a class of records says of itself."""
    return _prose(cls.__doc__ or f"Records of {cls.__name__}.")


def _at_times(cls: type[msgspec.Struct]) -> set[str]:
    """Return the fields that a record has where there is something to say, and lacks otherwise."""
    return {one.encode_name for one in msgspec.structs.fields(cls) if one.default is msgspec.UNSET}


def _encoded(cls: type[msgspec.Struct], field: str) -> str:
    """Return the name that a field has on the wire."""
    return next(one.encode_name for one in msgspec.structs.fields(cls) if one.name == field)


def _prose(text: str) -> str:
    r"""Return a docstring without its examples, in Markdown.

    >>> _prose("What ``it`` is.\n\n    More of it.\n\n    >>> 1 + 1\n    2")
    'What `it` is.\n\nMore of it.'
    """
    return inspect.cleandoc(text).partition(">>>")[0].strip().replace("``", "`")


def _dead_letter_headers() -> tuple[Schema, tuple[str, ...]]:
    rejection = Rejection(0, Reason.NOT_JSON, "")
    ours = dict(dead_letter.headers(rejection, topic="", partition=0, offset=0, pipeline="", version=""))
    known: Schema = {name: {"type": "string"} for name in ours}
    for name in ("partition", "offset"):
        known[f"{CONNECT}{name}"]["description"] = "A number, in digits."
    known[f"{CONNECT}topic"]["description"] = "Where the record is."
    known[f"{CONNECT}exception.message"]["description"] = "What is wrong with it, for a person."
    known[f"{OURS}code"] |= {"enum": [*Reason], "description": "Why it was not scored."}
    cut = "How large it was, where it had to be cut, in digits."
    known[f"{OURS}cut.from.bytes"] = {"type": "string", "description": cut}
    known[RETRIES] = {"type": "string", "description": "How often somebody had it scored again, in digits."}
    return known, tuple(ours)

"""Records as the client hands them over, made without a broker."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
from confluent_kafka import TIMESTAMP_CREATE_TIME

from headrace.models.pipeline import Effects, Pipeline
from headrace.schemas.config import Config, Given, configure
from headrace.stream.agents import Scorer
from headrace.stream.commit import Outputs
from headrace.stream.load import load_pipeline
from headrace.stream.state import Memory

fraud: Pipeline = load_pipeline(str(Path(__file__).resolve().parents[2] / "benchmarks/stateless"))
Transaction: Any = fraud.events

GOOD: dict[str, Any] = {
    "id": "p1",
    "at": 1_700_000_000.0,
    "card": "card-7",
    "merchant": "m-1",
    "amount": 12.5,
    "lat": 48.8566,
    "lon": 2.3522,
    "country": "FR",
}
Headers = list[tuple[str, bytes | None]]


class Record:
    """The part of ``confluent_kafka.Message`` that is read."""

    def __init__(
        self,
        value: bytes | None,
        *,
        key: bytes | None = b"card-7",
        headers: Headers | None = None,
        topic: str = "transactions",
        partition: int = 0,
        offset: int = 0,
        error: Any = None,
        written_at: float = 1_700_000_000.0,
    ) -> None:
        self._value = value
        self._key = key
        self._headers = headers
        self._place = topic, partition, offset
        self._error = error
        self._timestamp = (TIMESTAMP_CREATE_TIME, int(1_000 * written_at))

    def timestamp(self) -> tuple[int, int]:
        return self._timestamp

    def __len__(self) -> int:
        return len(self._value or b"")

    def value(self) -> bytes | None:
        return self._value

    def key(self) -> bytes | None:
        return self._key

    def headers(self) -> Headers | None:
        return self._headers

    def topic(self) -> str:
        return self._place[0]

    def partition(self) -> int:
        return self._place[1]

    def offset(self) -> int:
        return self._place[2]

    def error(self) -> Any:
        return self._error


def transaction(**other: Any) -> bytes:
    """Return a payment as the terminals publish it, with these fields instead."""
    return msgspec.json.encode({**GOOD, **other})


def raw(name: str, text: bytes) -> bytes:
    """Return a payment in which this field's value is written just so, valid JSON or not."""
    fields = [
        msgspec.json.encode(field) + b":" + (text if field == name else msgspec.json.encode(value))
        for field, value in GOOD.items()
    ]
    return b"{" + b",".join(fields) + b"}"


def without(name: str) -> bytes:
    """Return a payment that lacks this field."""
    return msgspec.json.encode({field: value for field, value in GOOD.items() if field != name})


def config_of(**options: Any) -> Config:
    """Return a worker's options, these and else the defaults."""
    return configure({name: Given(value, "test") for name, value in options.items()})


class Alone(Scorer):
    """A scorer to which every batch is of a partition of which nothing was seen before."""

    def step(self, messages: list[Any]) -> Outputs:  # type: ignore[override]
        """Return what is to be published for these records."""
        memory = Memory(("transactions", 0), "state", self._pipeline.fresh(), None, bytes_max=1_000)
        return super().step(messages, memory, len(messages))


def step(pipeline: Pipeline, events: Sequence[Any]) -> Effects:
    """Score events of a partition of which nothing was seen before."""
    return pipeline.step(events, pipeline.fresh())

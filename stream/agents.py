"""Kafka in, effects out. Decides nothing."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Protocol, cast

from confluent_kafka import Message

from headrace.models.pipeline import Pipeline
from headrace.schemas import dead_letter
from headrace.schemas.codec import EventCodec, encode_all
from headrace.schemas.config import Config
from headrace.schemas.dead_letter import Header, Reason, Rejection
from headrace.stream.commit import Batch, Committer, Output, Outputs
from headrace.stream.guard import without_reply_headers
from headrace.stream.transport import RecordBatch

log = logging.getLogger("headrace.agents")

# A step that takes longer than this holds up timers and pages; from then on steps run beside the loop.
SLOW_STEP_SECONDS = 0.1


class Scorer:
    """From the records of a batch to what is to be published: decode, step, encode."""

    def __init__(self, pipeline: Pipeline, config: Config, bytes_max: dict[str, int]) -> None:
        self._pipeline = pipeline
        self._config = config
        self._codec = EventCodec(pipeline.events, bytes_max=config.event_bytes_max)
        self._bytes_max = bytes_max
        self._key = pipeline.wire.key
        self.scored = 0
        self.rejected = 0
        self.busy = False  # a batch is between its arrival and the moment it is carried out

    def step(self, messages: list[Message]) -> Outputs:
        """Return what is to be published for these records."""
        values = [message.value() for message in messages]
        events, rejections = self._codec.decode(values)
        keyless = [index for index, message in enumerate(messages) if message.key() is None]
        kept = messages
        if rejections or keyless:
            events, kept, rejections = _without(messages, events, rejections, keyless)
        effects = self._pipeline.step(events)
        if effects.rejections:
            places = {id(message): index for index, message in enumerate(messages)} if kept is not messages else None
            gone = {rejection.at for rejection in effects.rejections}
            rejections += [
                one._replace(at=places[id(kept[one.at])] if places else one.at) for one in effects.rejections
            ]
            kept = [message for index, message in enumerate(kept) if index not in gone]
        records = encode_all(effects.predictions)
        assert len(records) == len(kept), "every event has a prediction or a reason"
        outputs, large = self._publish(kept, effects.predictions, records)
        if large:
            index_of = {id(message): index for index, message in enumerate(messages)}
            rejections += [one._replace(at=index_of[id(kept[one.at])]) for one in large]
        others = [self._dead_letter(messages[one.at], one) for one in sorted(rejections)]
        others += [Output(self._config.topic_alerts, alert.id, encode_all([alert])[0]) for alert in effects.alerts]
        self.scored += len(records) - len(large)
        self.rejected += len(rejections)
        return Outputs(outputs.topic, outputs.records, outputs.others + others, outputs.size + _size(others))

    def _publish(
        self, kept: list[Message], predictions: list[Any], values: list[bytes]
    ) -> tuple[Outputs, list[Rejection]]:
        """Put predictions into records, except those that are too large for their topic."""
        topic, key = self._config.topic_predictions, self._key
        keys = [str(getattr(prediction, key)) for prediction in predictions]
        headers = [message.headers() for message in kept]
        large: list[Rejection] = []
        bytes_max = self._bytes_max[topic]
        if any(headers) or any(len(value) + len(name) > bytes_max for value, name in zip(values, keys, strict=True)):
            return self._publish_each(topic, keys, values, headers, bytes_max)
        records = [{"value": value, "key": name} for value, name in zip(values, keys, strict=True)]
        return Outputs(topic, records, [], sum(map(len, values))), large

    def _publish_each(
        self, topic: str, keys: list[str], values: list[bytes], headers: list[Any], bytes_max: int
    ) -> tuple[Outputs, list[Rejection]]:
        # librdkafka's batch call takes no headers; all of a batch goes one way, so that order is kept.
        outputs, large = [], []
        for index, (key, value, given) in enumerate(zip(keys, values, headers, strict=True)):
            passed = without_reply_headers(given) if given else None
            size = len(value) + len(key) + sum(len(name) + len(content or b"") for name, content in passed or ())
            if size > bytes_max:
                text = f"the prediction has {size} bytes; topic {topic} takes {bytes_max}"
                large.append(Rejection(index, Reason.OUTPUT_TOO_LARGE, text))
            else:
                outputs.append(Output(topic, key, value, passed))
        return Outputs(topic, [], outputs, _size(outputs)), large

    def _dead_letter(self, message: Message, rejection: Rejection) -> Output:
        topic, number, offset = message.topic(), message.partition(), message.offset()
        assert topic is not None
        assert number is not None
        assert offset is not None
        added = dead_letter.headers(
            rejection,
            topic=topic,
            partition=number,
            offset=offset,
            pipeline=self._pipeline.name,
            version=self._pipeline.version,
        )
        given: list[Header] = list(cast("list[Header]", message.headers() or []))
        names = {name for name, _ in given}
        headers = given + [header for header in added if header[0] not in names]
        value, key = message.value(), message.key()
        room = self._bytes_max[self._config.topic_dead_letters] - len(key or b"")
        room -= sum(len(name) + len(content or b"") for name, content in headers)
        if value is not None and len(value) > room:
            # The letter must arrive. What does not fit is where the first three headers say.
            headers.append((f"{dead_letter.OURS}value.bytes", str(len(value)).encode()))
            value = value[: max(0, room - 64)]
        return Output(self._config.topic_dead_letters, key, value, headers)


def _without(
    messages: list[Message], events: list[Any], rejections: list[Rejection], keyless: list[int]
) -> tuple[list[Any], list[Message], list[Rejection]]:
    """Drop what was not decoded, and what has no key, from events and messages alike."""
    rejected = {one.at for one in rejections}
    text = "the record has no key, and the key decides which partition knows its history"
    rejections = rejections + [Rejection(index, Reason.KEY_MISSING, text) for index in keyless if index not in rejected]
    decoded = iter(events)
    pairs = [(message, next(decoded)) for index, message in enumerate(messages) if index not in rejected]
    pairs = [(message, event) for message, event in pairs if message.key() is not None]
    return [event for _, event in pairs], [message for message, _ in pairs], rejections


def _size(outputs: list[Output]) -> int:
    return sum(len(output.value or b"") for output in outputs)


class Events(Protocol):
    """The part of ``faust.Stream`` that the agent uses."""

    def __aiter__(self) -> AsyncIterator[RecordBatch]: ...


async def score_events(
    stream: Events,
    scorer: Scorer,
    committer: Committer,
    *,
    drained: Callable[[], bool],
    fail: Callable[[BaseException], Awaitable[None]],
) -> None:
    """Score batches until the stream ends: step, carry out, commit when it is time.

    While a commit is under way the next batch is already stepped; it is carried out after the commit.
    An exception never leaves this loop: Faust would acknowledge the batch and start the agent anew, and
    the batch would be lost. It ends the worker instead, with nothing of the batch committed.
    """
    slow = False
    try:
        async for batch in stream:
            scorer.busy = True
            began = time.monotonic()
            if slow:
                outputs = await asyncio.to_thread(scorer.step, batch.messages)
            else:
                outputs = scorer.step(batch.messages)
            slow = time.monotonic() - began > SLOW_STEP_SECONDS
            await committer.carry_out(Batch(batch.place, batch.next_offset, batch.epoch), outputs)
            scorer.busy = False
            if slow or committer.due(drained=drained()):
                committer.commit_soon()
    except asyncio.CancelledError:
        raise
    except Exception as error:
        log.exception("a batch could not be carried out; the worker ends, and nothing of it is committed")
        await fail(error)

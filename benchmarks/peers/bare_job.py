"""A loop that somebody who knows librdkafka writes by hand: no framework, at-least-once.

Records are taken as they come, up to 2,000 at a time, decoded into typed structs by msgspec, scored one by
one, and produced. Every 100 ms the producer is flushed, a failed delivery ends the process, and only then the
offsets of what was flushed are committed. No dead letters, no metrics, no care about rebalances: what the
library itself can do, not a product.
"""

import signal
import time

from confluent_kafka import Consumer, Producer
from scoring import arguments, score
from typed import Prediction, decode, encode

BATCH_COUNT_MAX = 2_000
COMMIT_SECONDS = 0.1


def predictions(messages):
    """Return what to publish for each message."""
    made = []
    for message in messages:
        event = decode(message.value())
        value = score(event.at, event.amount, event.lat, event.lon, event.country)
        made.append(encode(Prediction(event.id, event.at, event.card, value, value)))
    return made


def main(description=__doc__, predictions=predictions):
    options = arguments(description)
    consumer = Consumer(
        {
            "bootstrap.servers": options.broker,
            "group.id": options.group,
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
            "queued.min.messages": 100_000,
            # A full queue is looked at again after this long; the 1,000 ms of librdkafka starve a fast loop.
            "fetch.queue.backoff.ms": 10,
            "fetch.wait.max.ms": 100,
        }
    )
    producer = Producer(
        {
            "bootstrap.servers": options.broker,
            "enable.idempotence": True,  # keeps the order of a key when a send is retried
            "linger.ms": 5 if options.tuned_for == "throughput" else 0,
            "partitioner": "murmur2_random",
            "queue.buffering.max.messages": 1_000_000,
            "socket.nagle.disable": True,
        }
    )
    stopped = []
    signal.signal(signal.SIGTERM, lambda number, _frame: stopped.append(number))
    failed = []

    def on_error(error, _message):
        if error is not None:
            failed.append(error)

    consumer.subscribe([options.in_topic])
    positions = {}
    commit_at = time.monotonic() + COMMIT_SECONDS
    while not stopped:
        # consume(n, t) waits out its timeout even when it has records, so poll waits for the first.
        first = consumer.poll(0.05)
        messages = [] if first is None else [first, *consumer.consume(BATCH_COUNT_MAX - 1, 0)]
        for message in messages:
            if message.error() is not None:
                raise SystemExit(str(message.error()))
        for message, value in zip(messages, predictions(messages), strict=True):
            producer.produce(options.out_topic, value, message.key(), on_delivery=on_error)
            positions[message.partition()] = message
        producer.poll(0)
        if positions and time.monotonic() >= commit_at:
            commit(consumer, producer, positions, failed)
            commit_at = time.monotonic() + COMMIT_SECONDS
    commit(consumer, producer, positions, failed)
    consumer.close()


def commit(consumer, producer, positions, failed):
    """Commit what was delivered: flush, look for failures, then the offsets."""
    producer.flush()
    if failed:
        raise SystemExit(f"not delivered: {failed[0]}")
    for message in positions.values():
        consumer.commit(message=message, asynchronous=True)
    positions.clear()


if __name__ == "__main__":
    main()

"""Quix Streams: one StreamingDataFrame from topic to topic, its own JSON codec (orjson)."""

from pathlib import Path

from quixstreams import Application
from scoring import arguments, predict


def application(options, **more):
    """Return the application as every job of Quix has it."""
    latency = options.tuned_for == "latency"
    return Application(
        broker_address=options.broker,
        consumer_group=options.group,
        auto_offset_reset="earliest",
        processing_guarantee=options.guarantee,
        state_dir=Path(options.state_dir),
        loglevel="WARNING",
        consumer_extra_config={
            "queued.min.messages": 100_000,
            "fetch.queue.backoff.ms": 10,
            "fetch.wait.max.ms": 100,
        },
        producer_extra_config={
            "linger.ms": 0 if latency else 5,
            "partitioner": "murmur2_random",
            "queue.buffering.max.messages": 1_000_000,
            "socket.nagle.disable": True,
            # librdkafka waits this long before a transaction that follows another at once.
            "retry.backoff.ms": 5,
        },
        **{
            "commit_interval": 0.01 if latency and options.guarantee == "exactly-once" else 0.1,
            "auto_create_topics": False,
            **more,
        },
    )


def main():
    options = arguments(__doc__)
    app = application(options)
    transactions = app.topic(options.in_topic, key_deserializer="bytes", value_deserializer="json")
    predictions = app.topic(options.out_topic, key_serializer="bytes", value_serializer="json")
    app.dataframe(transactions).apply(predict).to_topic(predictions)
    app.run()


if __name__ == "__main__":
    main()

"""Pathway: its Kafka connectors, one function over batches of rows; persistence on, for at-least-once.

Raw bytes in and out: a Pathway table cannot have a column called ``id``, so its own JSON writer cannot say
what is wanted here.
"""

import pathway as pw
from scoring import arguments, score
from typed import Prediction, decode, encode


# Deterministic: else the engine keeps every answer, to be able to take it back.
@pw.udf(deterministic=True, max_batch_size=2_000)
def predict(values: list[bytes]) -> list[bytes]:
    predictions = []
    for value in values:
        event = decode(value)
        chance = score(event.at, event.amount, event.lat, event.lon, event.country)
        predictions.append(encode(Prediction(event.id, event.at, event.card, chance, chance)))
    return predictions


def main():
    options = arguments(__doc__)
    transactions = pw.io.kafka.read(
        {
            "bootstrap.servers": options.broker,
            "group.id": options.group,
            "auto.offset.reset": "earliest",
            "queued.min.messages": "100000",
            "fetch.queue.backoff.ms": "10",
            "fetch.wait.max.ms": "100",
        },
        topic=options.in_topic,
        format="raw",
        autogenerate_key=True,  # a card has many events; its name is not the key of a row
        autocommit_duration_ms=100 if options.tuned_for == "throughput" else 10,
        name="transactions",
    )
    pw.io.kafka.write(
        transactions.select(pw.this.key, value=predict(pw.this.data)),
        {
            "bootstrap.servers": options.broker,
            "linger.ms": "5" if options.tuned_for == "throughput" else "0",
            "partitioner": "murmur2_random",
            "queue.buffering.max.messages": "1000000",
            "socket.nagle.disable": "true",
        },
        topic_name=options.out_topic,
        format="raw",
        key=pw.this.key,
        value=pw.this.value,
    )
    pw.run(
        monitoring_level=pw.MonitoringLevel.NONE,
        persistence_config=pw.persistence.Config(
            pw.persistence.Backend.filesystem(options.state_dir), snapshot_interval_ms=1_000
        ),
    )


if __name__ == "__main__":
    main()

"""Bytewax: Kafka source, one batch operator, Kafka sink; recovery on, so that it is at-least-once."""

from datetime import timedelta
from pathlib import Path

import bytewax.operators as op
from bytewax.connectors.kafka import KafkaSink, KafkaSinkMessage, KafkaSource
from bytewax.dataflow import Dataflow
from bytewax.recovery import RecoveryConfig, init_db_dir
from bytewax.run import cli_main
from scoring import arguments, score
from typed import Prediction, decode, encode


def predict(messages):
    predictions = []
    for message in messages:
        event = decode(message.value)
        value = score(event.at, event.amount, event.lat, event.lon, event.country)
        prediction = Prediction(event.id, event.at, event.card, value, value)
        predictions.append(KafkaSinkMessage(message.key, encode(prediction)))
    return predictions


def main():
    options = arguments(__doc__)
    flow = Dataflow("fraud")
    source = KafkaSource(
        [options.broker],
        [options.in_topic],
        batch_size=10_000,  # the sink flushes once per batch, so a large one pays that seldom
        add_config={
            "queued.min.messages": "100000",
            "fetch.queue.backoff.ms": "10",
            "fetch.wait.max.ms": "100",
        },
    )
    sink = KafkaSink(
        [options.broker],
        options.out_topic,
        add_config={
            "enable.idempotence": "true",
            "linger.ms": "5" if options.tuned_for == "throughput" else "0",
            "partitioner": "murmur2_random",
            "queue.buffering.max.messages": "1000000",
            "socket.nagle.disable": "true",
        },
    )
    # A function of a batch and not of an event: one call into Python for the whole batch.
    op.output("out", op.flat_map_batch("predict", op.input("in", flow, source), predict), sink)
    folder = Path(options.state_dir) / "recovery"
    folder.mkdir(parents=True)
    init_db_dir(folder, 1)
    cli_main(flow, epoch_interval=timedelta(seconds=1), recovery_config=RecoveryConfig(folder))


if __name__ == "__main__":
    main()

"""Bytewax with the whole job: its own state, keyed by partition, holds windows and a learner; no recovery.

A batch of the source is of one partition, and goes through as one value: an item for each event would pay for a
key and a tuple each time.
"""

import bytewax.operators as op
from bytewax.connectors.kafka import KafkaSink, KafkaSinkMessage, KafkaSource
from bytewax.dataflow import Dataflow
from bytewax.operators import StatefulBatchLogic
from bytewax.run import cli_main
from partition import Partition
from scoring import arguments
from typed import decode_labelled, encode


class Learning(StatefulBatchLogic):
    """What one partition remembers."""

    def __init__(self, _snapshot):
        self._partition = Partition()

    def on_batch(self, values):
        predict = self._partition.predict
        made = [
            KafkaSinkMessage(message.key, encode(predict(decode_labelled(message.value))))
            for messages in values
            for message in messages
        ]
        return [made], StatefulBatchLogic.RETAIN

    def snapshot(self):
        return None  # there is no recovery that would want it


def by_partition(messages):
    """Return the batch as one value, under the name of its partition."""
    numbers = {message.partition for message in messages}
    return [(str(number), [one for one in messages if one.partition == number]) for number in numbers]


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
    partitions = op.flat_map_batch("by_partition", op.input("in", flow, source), by_partition)
    learned = op.stateful_batch("learn", partitions, Learning)
    made = op.flat_map_batch("made", learned, lambda pairs: [one for _, some in pairs for one in some])
    op.output("out", made, sink)
    cli_main(flow)


if __name__ == "__main__":
    main()

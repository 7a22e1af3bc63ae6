"""Topics: made, filled and dropped, each time alike for everybody."""

import time

from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

PARTITIONS = 4
WAIT_SECONDS_MAX = 30.0
# The broker's own clock on every record of an output: no contestant can choose when it says it was ready.
OUTPUT = {"message.timestamp.type": "LogAppendTime"}


class Topics:
    """The topics of one broker."""

    def __init__(self, broker):
        self.broker = broker
        self._admin = AdminClient({"bootstrap.servers": broker, "log_level": 0})
        self._watcher = Consumer(
            {
                "bootstrap.servers": broker,
                "group.id": "bench-watch",
                "isolation.level": "read_committed",
                "log_level": 0,
            }
        )

    def create(self, name, config=None):
        """Create ``name`` and return once the broker leads all its partitions."""
        self._admin.create_topics([NewTopic(name, PARTITIONS, 1, config=config or {})])[name].result()
        self._until(lambda: len(self._partitions(name)) == PARTITIONS, f"topic {name} did not appear")

    def drop(self, *names):
        """Delete topics that may or may not be there, and return once they are gone."""
        present = [name for name in names if self._partitions(name)]
        for future in self._admin.delete_topics(present).values() if present else ():
            future.result()
        for name in present:
            self._until(lambda name=name: not self._partitions(name), f"topic {name} did not go away")

    def named_after(self, group):
        """Return the topics that a contestant made for itself."""
        return [name for name in self._admin.list_topics(timeout=10).topics if group in name]

    def fill(self, name, events):
        """Produce all ``events`` and return once the broker has them."""
        producer = Producer(
            {
                "bootstrap.servers": self.broker,
                "linger.ms": 50,
                "partitioner": "murmur2_random",
                "queue.buffering.max.messages": 2_000_000,
                "queue.buffering.max.kbytes": 2_000_000,
            }
        )
        for index, (key, value) in enumerate(events.messages()):
            producer.produce(name, value, key)
            if index % 10_000 == 0:
                producer.poll(0)
        if left := producer.flush(120):
            raise SystemExit(f"topic {name} could not be filled: {left} events were not taken within 120 s")

    def ends(self, name):
        """Return where a read_committed reader of each partition would end now."""
        return [
            self._watcher.get_watermark_offsets(TopicPartition(name, number), timeout=10)[1]
            for number in range(PARTITIONS)
        ]

    def close(self):
        """Let go of the connections."""
        self._watcher.close()

    def _partitions(self, name):
        try:
            topic = self._admin.list_topics(timeout=10).topics.get(name)
        except KafkaException:
            return ()
        if topic is None or topic.error is not None:
            return ()
        return [part for part in topic.partitions.values() if part.error is None and part.leader >= 0]

    def _until(self, done, problem):
        deadline = time.monotonic() + WAIT_SECONDS_MAX
        while not done():
            if time.monotonic() > deadline:
                raise SystemExit(f"{problem} within {WAIT_SECONDS_MAX:.0f} s")
            time.sleep(0.05)

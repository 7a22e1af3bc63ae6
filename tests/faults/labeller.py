"""Says of events what is true of them: late, twice, corrected, of nobody, or not at all."""

import heapq
import random
import threading
import time
from collections import Counter
from typing import Any

import confluent_kafka
import orjson


class Labeller(threading.Thread):
    """Follows the events, and publishes a label for most, each where its event lies.

    What it says of an event hangs on the event and on nothing else, so that whoever reads both can tell again.
    """

    def __init__(self, address: str, topic: str, partitions: int, *, seed: int, delay_max: float = 2.0) -> None:
        super().__init__(daemon=True)
        self.fates: Counter[str] = Counter()
        self._address = address
        self._topic = topic
        self._partitions = partitions
        self._random = random.Random(seed)
        self._delay_max = delay_max
        self._due: list[tuple[float, int, int, Any]] = []
        self._stopping = threading.Event()
        self._read = 0

    @property
    def read(self) -> int:
        """How many events it has seen, and spoken of if it wanted to."""
        return 0 if self._due else self._read

    def run(self) -> None:
        """Read, wait, and speak, until it is told to stop."""
        settings = {"bootstrap.servers": self._address, "log_level": 0}
        consumer = confluent_kafka.Consumer({**settings, "group.id": "labeller", "enable.auto.commit": False})
        consumer.assign([confluent_kafka.TopicPartition(self._topic, one, 0) for one in range(self._partitions)])
        producer = confluent_kafka.Producer({**settings, "enable.idempotence": True, "linger.ms": 5})
        while not self._stopping.is_set():
            for message in consumer.consume(500, 0.05):
                if message.error() is None:
                    self._judge(message.partition(), orjson.loads(message.value()))
                    self._read += 1
            while self._due and self._due[0][0] <= time.monotonic():
                _, _, partition, label = heapq.heappop(self._due)
                producer.produce(f"{self._topic}-labels", orjson.dumps(label), label["card"], partition)
            producer.poll(0)
        producer.flush(30)
        consumer.close()

    def stop(self) -> None:
        """Say nothing more, and wait until all that was said is published."""
        self._stopping.set()
        self.join(60)

    def _judge(self, partition: int | None, event: dict[str, Any]) -> None:
        fate = self._random.choices(["once", "twice", "corrected", "nobody", "never"], [60, 5, 5, 5, 25])[0]
        self.fates[fate] += 1
        label = {"id": event["id"], "at": event["at"] + 1.0, "card": event["card"], "label": int(event["amount"] > 50)}
        said = {
            "once": [label],
            "twice": [label, label],
            "corrected": [label, {**label, "label": 1 - label["label"], "at": event["at"] + 2.0}],
            "nobody": [label, {**label, "id": f"nobody-{event['id']}"}],
            "never": [],
        }[fate]
        for one in said:
            at = time.monotonic() + self._random.random() * self._delay_max
            heapq.heappush(self._due, (at, self.fates.total() * 2 + (one is not label), partition or 0, one))

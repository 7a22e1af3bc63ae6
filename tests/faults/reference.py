"""A worker to try the harness on: the plain transactional loop, correct by itself and wrong on request.

It takes the command line of ``headrace run`` and does the least of it. ``--set flaw=...`` breaks it in one way
that the verifier has to find; without a flaw the verifier has to be content.
"""

import argparse
import json
import os
import signal
import sys
import time
import uuid

import confluent_kafka
from confluent_kafka import KafkaError, KafkaException, TopicPartition

FLAWS = {
    "": "none",
    "offsets-first": "the offsets are committed before the predictions are produced",
    "outside": "the predictions are produced outside of the transaction that carries the offsets",
}


class Reference:
    """Read, score, write and commit in one transaction; after any trouble begin again where the group is."""

    def __init__(self, address: str, group: str, settings: dict[str, str]) -> None:
        self._flaw = settings.get("flaw", "")
        assert self._flaw in FLAWS, f"no flaw is called {self._flaw!r}: {FLAWS}"
        self._predictions = settings["topic_predictions"]
        self._interval = int(settings.get("commit_interval_ms", "100")) / 1_000
        self._batch = int(settings.get("batch_count_max", "2000"))
        self._kill_at = _failpoint()
        passed = {name.removeprefix("kafka."): value for name, value in settings.items() if name.startswith("kafka.")}
        self._shared = {"bootstrap.servers": address, "log_level": 3, **passed}
        self._transactional = {
            "transactional.id": f"{group}-{settings.get('instance', uuid.uuid4().hex)}",
            "transaction.timeout.ms": int(settings.get("transaction_timeout_ms", "10000")),
            "retry.backoff.ms": 5,
            "partitioner": "murmur2_random",
        }
        self._stopping = False
        self._consumer = confluent_kafka.Consumer(
            {
                **self._shared,
                "group.id": group,
                "isolation.level": "read_committed",
                "auto.offset.reset": "earliest",
                "enable.auto.commit": False,
                "enable.partition.eof": True,
                "partition.assignment.strategy": settings.get("assignment", "cooperative-sticky"),
                "session.timeout.ms": int(settings.get("session_timeout_ms", "10000")),
                "heartbeat.interval.ms": 500,
            }
        )
        self._producer = self._new_producer()
        self._plain = confluent_kafka.Producer({**self._shared, "partitioner": "murmur2_random", "linger.ms": 1})
        self._offsets: dict[tuple[str, int], int] = {}
        self._open = self._wrote = False
        self._begun = 0.0

    def run(self) -> None:
        """Work until SIGTERM."""
        signal.signal(signal.SIGTERM, self._stop)
        self._consumer.subscribe([os.environ["FAULTS_TOPIC"]], on_assign=self._assigned, on_revoke=self._revoked)
        while not self._stopping:
            messages = self._consumer.consume(self._batch, 0.05)
            try:
                self._step(messages)
            except KafkaException as error:
                self._recover(error)
        if self._offsets:
            try:
                self._commit()
            except KafkaException as error:
                self._recover(error)
        self._consumer.close()

    def _step(self, messages: list[confluent_kafka.Message]) -> None:
        good = []
        for message in messages:
            if (error := message.error()) is None:
                good.append(message)
            elif error.code() == KafkaError._PARTITION_EOF:
                # Behind the last record there may be markers; only the end itself is no lag.
                place = (message.topic(), message.partition())
                if self._offsets.get(place, -1) != message.offset():
                    self._offsets[place] = message.offset()
            else:
                print(f"consumer: {error}", file=sys.stderr)
        if good or self._offsets:
            self._begin()
        if self._flaw == "offsets-first" and good:
            ahead = {(m.topic(), m.partition()): m.offset() + 1 for m in good}
            self._consumer.commit(
                offsets=[TopicPartition(*place, end) for place, end in ahead.items()], asynchronous=False
            )
        producer = self._plain if self._flaw == "outside" else self._producer
        for message in good:
            event = json.loads(message.value())
            answer = {"id": event["id"], "at": event["at"], "card": event["card"], "score": 0.5}
            producer.produce(self._predictions, json.dumps(answer), message.key())
            producer.poll(0)
            self._wrote = True
        if self._flaw == "outside":
            self._plain.flush()
        self._note(good)
        drained = len(messages) < self._batch
        if self._open and (drained or time.monotonic() - self._begun > self._interval):
            self._commit()

    def _note(self, messages: list[confluent_kafka.Message]) -> None:
        for message in messages:
            self._offsets[message.topic(), message.partition()] = message.offset() + 1

    def _begin(self) -> None:
        if not self._open:
            self._producer.begin_transaction()
            self._open, self._begun = True, time.monotonic()

    def _commit(self) -> None:
        # Offsets that the group has already would make a transaction of nothing.
        offsets = [TopicPartition(topic, partition, offset) for (topic, partition), offset in self._offsets.items()]
        known = {(tp.topic, tp.partition): tp.offset for tp in self._consumer.committed(offsets, 10)}
        moved = [tp for tp in offsets if known[tp.topic, tp.partition] != tp.offset]
        if moved or self._wrote:
            self._producer.flush()
            if moved:
                self._producer.send_offsets_to_transaction(moved, self._consumer.consumer_group_metadata(), 10)
            self._kill_at -= 1
            if self._kill_at == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            self._producer.commit_transaction(10)
        else:
            self._producer.abort_transaction(10)
        self._open = self._wrote = False
        self._offsets.clear()

    def _recover(self, error: KafkaException) -> None:
        print(f"beginning again after {error}", file=sys.stderr)
        # Whatever became of the transaction, a new producer of the same name ends it.
        self._producer = self._new_producer()
        self._open = self._wrote = False
        self._offsets.clear()
        for tp in self._consumer.committed(self._consumer.assignment(), 10):
            self._consumer.seek(TopicPartition(tp.topic, tp.partition, max(tp.offset, 0)))

    def _new_producer(self) -> confluent_kafka.Producer:
        while not self._stopping:
            producer = confluent_kafka.Producer({**self._shared, **self._transactional})
            try:
                producer.init_transactions(20)
            except KafkaException as error:
                print(f"no producer yet: {error}", file=sys.stderr)
            else:
                return producer
        raise SystemExit(1)

    def _assigned(self, consumer: confluent_kafka.Consumer, partitions: list[TopicPartition]) -> None:
        print(f"ready with {len(partitions)} more partitions", file=sys.stderr)

    def _revoked(self, consumer: confluent_kafka.Consumer, partitions: list[TopicPartition]) -> None:
        if not self._open:
            return
        # What is in the open transaction belongs to somebody else from now on. The partitions that stay
        # are read again too, which is wasteful and right.
        self._recover(KafkaException("a rebalance"))

    def _stop(self, number: int, frame: object) -> None:
        self._stopping = True


def _failpoint() -> int:
    name, _, count = os.environ.get("HEADRACE_FAILPOINT", "").partition(":")
    return int(count or 1) if name == "before_commit" else 0


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("command", choices=["run"])
    parser.add_argument("path")
    parser.add_argument("--broker", required=True)
    parser.add_argument("--group", required=True)
    parser.add_argument("--guarantee", default="exactly-once")
    parser.add_argument("--set", action="append", default=[])
    given = parser.parse_args()
    Reference(given.broker, given.group, dict(pair.split("=", 1) for pair in given.set)).run()


if __name__ == "__main__":
    main()

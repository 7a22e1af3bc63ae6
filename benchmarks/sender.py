"""Sends events at a fixed rate, whatever comes out at the other end (an open loop).

The schedule is made before the first send: event i is meant for ``start + i / rate``, and that is its ``at``.
Latency is taken from there, so an event that waits because the sender or the broker stalled is not forgiven.
Runs as a process of its own; prints one line of JSON at the end.
"""

import argparse
import json
import signal
import time

import numpy as np
from confluent_kafka import Producer

import jobs


def schedule(count: int, rate: float, start: float, epoch: float) -> np.ndarray:
    """Return the intended wall-clock time of each event.

    ``start`` is on the monotonic clock that sender and reader share, ``epoch`` turns it into wall-clock time.
    """
    return np.round(epoch + start + np.arange(count) / rate, 6)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--broker", required=True)
    parser.add_argument("--topic", required=True)
    parser.add_argument("--job", choices=jobs.BY_NAME, required=True)
    parser.add_argument("--count", type=int, required=True)
    parser.add_argument("--rate", type=float, required=True)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--start", type=float, required=True)
    parser.add_argument("--epoch", type=float, required=True)
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    at = schedule(options.count, options.rate, options.start, options.epoch)
    messages = list(jobs.BY_NAME[options.job].make(options.count, options.seed, at=at).messages())
    producer = Producer(
        {
            "bootstrap.servers": options.broker,
            "linger.ms": 0,
            "partitioner": "murmur2_random",
            "socket.nagle.disable": True,
        }
    )
    producer.list_topics(options.topic, timeout=10)  # connected before the first event is due
    late_max = 0.0
    sent = 0
    while sent < options.count:
        now = time.monotonic()
        due = min(options.count, int((now - options.start) * options.rate) + 1)
        if due <= sent:
            producer.poll(0)
            time.sleep(max(0.0, options.start + sent / options.rate - time.monotonic()))
            continue
        late_max = max(late_max, now - options.start - sent / options.rate)
        for key, value in messages[sent:due]:
            producer.produce(options.topic, value, key)
        sent = due
    print(json.dumps({"late_ms_max": round(late_max * 1000, 3), "left": producer.flush(30)}))


if __name__ == "__main__":
    main()

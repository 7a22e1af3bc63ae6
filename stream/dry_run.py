"""``headrace run --dry-run``: a worker that does everything but publish and commit, and tells what it would have."""

import asyncio
import getpass
import re
import threading
import time
from collections import Counter
from typing import Any

import msgspec

from headrace.schemas.config import EXACTLY_ONCE, Config
from headrace.schemas.dead_letter import OURS
from headrace.stream import terminal
from headrace.stream.state import Memories, Memory

REPORT_SECONDS = 5.0
_RESET = "auto.offset.reset"
SAMPLE_CHARACTERS_MAX = 200


def rehearsed(config: Config) -> Config:
    """Return the options of a dry run: a group of its own, which begins with what comes now, and no port.

    >>> from headrace.schemas.config import configure, from_pairs
    >>> config = rehearsed(configure(from_pairs(["group=cards", "web_port=8080", "guarantee=at-least-once"])))
    >>> config.group.startswith("cards-dryrun-"), config.web_port, config.kafka
    (True, -1, {'auto.offset.reset': 'latest'})
    """
    user = re.sub(r"[^\w.-]", "_", getpass.getuser())
    return msgspec.structs.replace(
        config,
        group=f"{config.group}-dryrun-{user}",
        group_instance_id="",
        # What would be in a transaction is known when it would be committed; nothing is counted before that.
        guarantee=EXACTLY_ONCE,
        web_port=-1,
        kafka={_RESET: "latest", **config.kafka},
    )


class DryRun:
    """What would have been published and committed. Records come from whichever thread commits."""

    def __init__(self, config: Config, *, as_json: bool) -> None:
        self._lock = threading.Lock()
        self._letters = config.topic_dead_letters
        self._state = config.state_topic
        self._predictions = config.topic_predictions
        self._group = config.group
        self._as_json = as_json
        self._began = self._last_at = time.monotonic()
        self._last = 0
        self.outputs: Counter[str] = Counter()
        self.reasons: Counter[str] = Counter()
        self.samples: dict[str, Any] = {}  # by topic or by reason, the newest
        self.offsets: dict[str, int] = {}

    def producer(self) -> Any:
        """Return what stands where a producer would."""
        return DryProducer(self)

    def take(self, outputs: Counter[str], reasons: Counter[str], samples: dict[str, Any]) -> None:
        """Count what one transaction would have made visible."""
        with self._lock:
            self.outputs.update(outputs)
            self.reasons.update(reasons)
            self.samples.update(samples)

    def moved(self, offsets: Any) -> None:
        """Note where the group would be."""
        with self._lock:
            self.offsets.update({f"{one.topic}[{one.partition}]": one.offset for one in offsets})

    def reason_of(self, topic: str, headers: Any) -> str:
        """Return why a record is a dead letter, or nothing where it is none."""
        if topic != self._letters:
            return ""
        return next((text.decode() for name, text in headers or () if name == f"{OURS}code"), "unknown")

    def report(self, *, last: bool = False) -> None:
        """Print what would have been done so far."""
        now = time.monotonic()
        with self._lock:
            events = self.outputs[self._predictions] + self.outputs[self._letters]
            since = self._began if last else self._last_at
            rate = (events - (0 if last else self._last)) / max(now - since, 1e-9)
            self._last, self._last_at = events, now
            said = {
                "seconds": round(now - self._began, 1),
                "events": events,
                "rate": round(rate, 1),
                "outputs": {name: count for name, count in self.outputs.items() if name != self._state},
                "dead_letters": dict(self.reasons),
                "samples": dict(self.samples),
                "offsets": dict(self.offsets),
                "last": last,
            }
        if self._as_json:
            terminal.json_line(said)
        else:
            _print(said)

    async def keep_reporting(self) -> None:
        """Print it now and then."""
        while True:
            await asyncio.sleep(REPORT_SECONDS)
            self.report()


def _print(said: dict[str, Any]) -> None:
    outputs = ", ".join(f"{count:,} to {name}" for name, count in said["outputs"].items())
    what = f"would have published {outputs}" if outputs else "nothing came"
    when = "in all" if said["last"] else f"{said['seconds']:6.0f} s"
    terminal.line(f"{when}  {said['events']:,} events, {said['rate']:,.0f} a second: {what}")
    for reason, count in sorted(said["dead_letters"].items()):
        terminal.line(f"          {count:,} dead letters: {reason}")
    for name, sample in said["samples"].items():
        terminal.line(f"          {name}: {sample['value'][:SAMPLE_CHARACTERS_MAX]}")


class DryProducer:
    """The part of ``confluent_kafka.Producer`` that the committer uses, without a broker behind it."""

    def __init__(self, run: DryRun) -> None:
        self._run = run
        self._forget()

    def _forget(self) -> None:
        self._outputs: Counter[str] = Counter()
        self._reasons: Counter[str] = Counter()
        self._samples: dict[str, Any] = {}
        self._offsets: list[Any] = []

    def produce(
        self, topic: str, value: Any = None, key: Any = None, _partition: int = -1, *, headers: Any = None
    ) -> None:
        """Count a record, for when its transaction ends."""
        self._outputs[topic] += 1
        reason = self._run.reason_of(topic, headers)
        if reason:
            self._reasons[reason] += 1
        name = f"{topic} ({reason})" if reason else topic
        if self._outputs[topic] == 1 or reason:
            shown = (value or b"").decode(errors="replace")
            self._samples[name] = {
                "key": key.decode(errors="replace") if isinstance(key, bytes) else key,
                "value": shown,
            }

    def begin_transaction(self) -> None:
        """Begin to count anew."""
        self._forget()

    def send_offsets_to_transaction(self, offsets: Any, _group: Any, _seconds: float = 0.0) -> None:
        """Note the offsets, for when the transaction ends."""
        self._offsets = list(offsets)

    def commit_transaction(self, _seconds: float = 0.0) -> None:
        """Tell what would be visible now."""
        self._run.take(self._outputs, self._reasons, self._samples)
        self._run.moved(self._offsets)
        self._forget()

    def abort_transaction(self, _seconds: float = 0.0) -> None:
        """Forget what would have been taken back."""
        self._forget()

    def poll(self, _seconds: float = 0.0) -> int:
        """Hear of nothing."""
        return 0

    def flush(self, _seconds: float = 0.0) -> int:
        """Wait for nothing."""
        return 0

    def purge(self) -> None:
        """Have nothing to throw away."""

    def close(self) -> None:
        """Have nothing to let go of."""


class DryMemories(Memories):
    """What partitions remember, from the first record that the dry run sees on: no changelog, and no file."""

    def _restore(self, number: int) -> Memory:
        return self._new_at((self.topics[0], number), None)

    def _save(self, *_: Any) -> None:
        """Write nothing."""

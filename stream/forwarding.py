"""Alerts to webhooks: what was read is sent by a thread for each, and committed when each is done with it."""

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, Protocol

import msgspec

from headrace.schemas import slack
from headrace.schemas.alert import Alert
from headrace.schemas.webhook import Form, Webhook
from headrace.stream.outbox import Outbox, Waiting
from headrace.stream.progress import UNKNOWN, Progress
from headrace.stream.webhooks import Answer, idempotency_key

log = logging.getLogger("headrace.alerts")

TELL_SECONDS = 60.0
_decode = msgspec.json.Decoder(Alert).decode


def printable(text: str) -> str:
    """Return a text as a log or a terminal can have it, whoever wrote it.

    >>> printable("moved" + chr(10) + chr(27) + "[31m far")
    'moved??[31m far'
    """
    return "".join(one if one.isprintable() else "?" for one in text)


class Sends(Protocol):
    """The part of ``webhooks.Caller`` that is used."""

    def send(self, webhook: Webhook, body: bytes, key: str, traceparent: str = "") -> Answer:
        """Send it, and say what came of it."""


class Counts(msgspec.Struct):
    """What has become of the alerts of one webhook in this process."""

    accepted: int = 0
    attempts: int = 0
    given_up: int = 0


class Target(NamedTuple):
    """A webhook, what waits for it, and what has become of the rest."""

    webhook: Webhook
    outbox: Outbox
    counts: Counts


class Forwarder:
    """Sends what it is given to every webhook, and knows how far each is.

    One thread gives it records and asks how far it is; a thread for each webhook sends. Whatever they share is under
    one lock, which nobody holds while something is sent.
    """

    def __init__(
        self,
        webhooks: Sequence[Webhook],
        caller: Sends,
        *,
        pause_max: float,
        give_up: float,
        bytes_max: int,
        record_bytes_max: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._caller = caller
        self._clock = clock
        self._record_bytes_max = record_bytes_max
        self._targets = {
            one.name: Target(one, Outbox(pause_max=pause_max, give_up=give_up, bytes_max=bytes_max), Counts())
            for one in webhooks
        }
        self._partitions: dict[int, Progress] = {}
        self._changed = threading.Condition()
        self._stopping = False
        self._told: dict[str, float] = {}
        self._threads = [
            threading.Thread(target=self._send, args=(target,), name=f"headrace-webhook-{name}", daemon=True)
            for name, target in self._targets.items()
        ]
        self.malformed = 0

    def start(self) -> None:
        """Begin to send."""
        for thread in self._threads:
            thread.start()

    def stop(self, seconds: float) -> bool:
        """Send nothing more; say whether what was being sent has ended in time."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        deadline = time.monotonic() + seconds
        for thread in self._threads:
            if thread.ident is not None:
                thread.join(max(0.0, deadline - time.monotonic()))
        return not any(thread.is_alive() for thread in self._threads)

    @property
    def counts(self) -> Mapping[str, Counts]:
        """What has become of the alerts, by webhook as it may be shown."""
        return {f"{target.webhook} ({target.webhook.form})": target.counts for target in self._targets.values()}

    def assigned(self, partition: int, offset: int, metadata: str = "") -> None:
        """Take a partition over, from what its group has committed."""
        with self._changed:
            self._partitions[partition] = Progress(offset, self._targets, metadata)

    def revoked(self, partitions: Sequence[int], seconds: float) -> None:
        """Let go of partitions: what waits is the next one's, and what is being sent has this long to end.

        Without the wait it could arrive after what the next owner sends.
        """
        with self._changed:
            for target in self._targets.values():
                target.outbox.forget(partitions)

            def still() -> bool:
                sending = (target.outbox.sending for target in self._targets.values())
                return any(one is not None and one.partition in partitions for one in sending)

            self._changed.wait_for(lambda: not still(), seconds)

    def forget(self, partitions: Sequence[int]) -> None:
        """Hear that where these partitions are is somebody else's to say."""
        with self._changed:
            for target in self._targets.values():
                target.outbox.forget(partitions)
            for partition in partitions:
                self._partitions.pop(partition, None)

    def take(self, partition: int, offset: int, value: bytes | None, traceparent: str = "") -> None:
        """Take a record in, for every webhook that wants it and has room; its trace goes along."""
        with self._changed:
            progress = self._partitions.get(partition)
            if progress is None:
                return
            wanting = [target for name, target in self._targets.items() if progress.wants(name, offset)]
            alert = self._read(partition, offset, value) if wanting else None
            now = self._clock()
            for webhook, outbox, _ in wanting:
                if alert is None:
                    progress.skip(webhook.name, offset + 1)
                elif outbox.full:
                    log.warning("%s: %d alerts wait, more stay in Kafka until there is room", webhook, len(outbox))
                    progress.leave(webhook.name, offset)
                else:
                    # As it is: fields of a later version go along. Slack's form is ours.
                    body = slack.message(alert) if webhook.form == Form.SLACK else value or b""
                    key = idempotency_key(alert.id, alert.state, alert.at)
                    outbox.put(Waiting(alert.id, partition, offset, body, key, traceparent), now)
                    progress.take(webhook.name, offset)
            self._changed.notify_all()

    def ended(self, partition: int, offset: int) -> None:
        """Hear that there is no record before this offset any more: markers of transactions take offsets too."""
        with self._changed:
            if (progress := self._partitions.get(partition)) is not None:
                for name in self._targets:
                    progress.skip(name, offset)

    def committed(self) -> dict[int, tuple[int, str]]:
        """Return what is to be committed of each partition: an offset, and what to keep beside it."""
        with self._changed:
            found = {partition: progress.committed for partition, progress in self._partitions.items()}
        return {partition: place for partition, place in found.items() if place[0] != UNKNOWN}

    def to_read_again(self) -> dict[int, int]:
        """Return from where partitions have to be read again, because there is room now for what was left there."""
        found: dict[int, int] = {}
        with self._changed:
            for partition, progress in self._partitions.items():
                left = [
                    place.upto
                    for name, place in progress.places.items()
                    if place.left and self._targets[name].outbox.roomy
                ]
                if left:
                    found[partition] = min(left)
        return found

    def reads_again(self, partition: int, offset: int) -> None:
        """Hear that a partition is read from there."""
        with self._changed:
            for place in self._partitions[partition].places.values():
                # Not who left it earlier and has got room since it was decided where to begin.
                if place.upto >= offset:
                    place.left = False

    def _read(self, partition: int, offset: int, value: bytes | None) -> Alert | None:
        if value is None:
            return None  # that is how a compacted topic forgets a key
        if len(value) > self._record_bytes_max:
            why = f"it has {len(value)} bytes, and allowed are event_bytes_max = {self._record_bytes_max}"
        else:
            try:
                return _decode(value)
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
                why = str(error)
        self.malformed += 1
        log.error("partition %d, offset %d: no alert, and not sent: %s", partition, offset, printable(why)[:500])
        return None

    def _send(self, target: Target) -> None:
        webhook, outbox, counts = target
        while (one := self._next(target)) is not None:
            counts.attempts += 1
            try:
                answer = self._caller.send(webhook, one.body, one.key, one.traceparent)
            except Exception as error:  # noqa: BLE001 - this thread is all that the webhook has
                # What it says may have the address in it.
                answer = Answer(False, f"not sent: {type(error).__name__}")
            with self._changed:
                if answer.accepted:
                    counts.accepted += 1
                    if outbox.failures:
                        log.info("%s takes alerts again; %d wait", webhook, len(outbox) - 1)
                        self._told.pop(webhook.name, None)
                    outbox.accepted(one)
                    # Also where it was forgotten meanwhile: the next owner of its partition need not send it again.
                    self._settle(webhook, one)
                else:
                    self._tell(target, one, answer)
                    if outbox.failed(one, self._clock(), after=answer.after):
                        self._give_up(target, one)
                self._changed.notify_all()

    def _next(self, target: Target) -> Waiting | None:
        """Wait for what is to be sent next; None says that it is over."""
        with self._changed:
            while not self._stopping:
                now = self._clock()
                for gone in target.outbox.expire(now):
                    self._give_up(target, gone)
                found = target.outbox.next(now)
                if isinstance(found, Waiting):
                    return found
                self._changed.wait(found)
        return None

    def _settle(self, webhook: Webhook, one: Waiting) -> None:
        if (progress := self._partitions.get(one.partition)) is not None:
            progress.settle(webhook.name, one.offset)

    def _give_up(self, target: Target, one: Waiting) -> None:
        target.counts.given_up += 1
        self._settle(target.webhook, one)
        log.error(
            "%s: alert %s given up after %d attempts in %.0f s; it is in partition %d, offset %d (%d given up so far)",
            target.webhook,
            one.key,
            one.attempts,
            self._clock() - one.since,
            one.partition,
            one.offset,
            target.counts.given_up,
        )

    def _tell(self, target: Target, one: Waiting, answer: Answer) -> None:
        now = time.monotonic()
        name = target.webhook.name
        if now - self._told.get(name, -TELL_SECONDS) < TELL_SECONDS:
            return  # a webhook that is down says so with every attempt
        self._told[name] = now
        log.warning(
            "%s did not take alert %s: %s; %d wait, and it is tried again",
            target.webhook,
            one.key,
            answer.said,
            len(target.outbox),
        )

"""What others know and the page shows: alerts, who has seen them, what is watched, and the workers of the group."""

import contextlib
import logging
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Mapping
from typing import Any, NamedTuple, cast

import msgspec
from confluent_kafka import Consumer, ConsumerGroupTopicPartitions, KafkaException, Message, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec  # type: ignore[attr-defined]

from headrace.schemas.acknowledgement import Acknowledgement
from headrace.schemas.alert import Alert, AlertState
from headrace.schemas.config import Config
from headrace.stream import clients
from headrace.stream.watched import Watched

log = logging.getLogger("headrace.board")

POLL_SECONDS = 0.2
TOPICS_SECONDS = 5.0  # from one look for topics and their partitions to the next
SUM_SECONDS = 2.0  # from one sum of what is watched to the next
GROUP_SECONDS = 3.0  # from one look at the group to the next
ASK_SECONDS_MAX = 5.0
READ_COUNT = 500
OPEN_COUNT_MAX = 500  # alerts that are kept; the oldest leave
SERIES_COUNT_MAX = 64  # of which the newest evidence is kept
ACKNOWLEDGED_COUNT_MAX = 1_000
TEXT_CHARACTERS_MAX = 2_000
BINS_MAX = 64
AGAIN_SECONDS_MAX = 15.0  # a worker that makes memories again says so every two seconds, as long as it lives
HEARD_SECONDS_MAX = 180.0  # and every minute that it does not
WORKERS_COUNT_MAX = 1_000
STOP_SECONDS_MAX = 5.0

_alert = msgspec.json.Decoder(Alert).decode
_acknowledgement = msgspec.json.Decoder(Acknowledgement).decode


class Alerts:
    """What was last said of each alert, and what shows what moved. Bounded: the oldest leave.

    >>> alerts = Alerts()
    >>> one = Alert(id="a1", at=1.0, kind="drift", state=AlertState.RAISED, text="amount moved", series="amount")
    >>> alerts.take(one)
    >>> [(told["id"], told["acknowledged"]) for told in alerts.open()]
    [('a1', None)]
    >>> alerts.acknowledged(Acknowledgement(id="a1", at=2.0, by="ada"))
    >>> alerts.open()[0]["acknowledged"]["by"]
    'ada'
    >>> alerts.take(msgspec.structs.replace(one, state=AlertState.CLEARED))
    >>> alerts.open()
    []
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open: OrderedDict[str, Alert] = OrderedDict()
        self._seen: OrderedDict[str, Acknowledgement] = OrderedDict()
        self._series: OrderedDict[tuple[str, str], Alert] = OrderedDict()

    def take(self, alert: Alert) -> None:
        """Hear of an alert."""
        with self._lock:
            self._open.pop(alert.id, None)
            if alert.state is AlertState.CLEARED:
                self._seen.pop(alert.id, None)
            else:
                self._open[alert.id] = alert
                while len(self._open) > OPEN_COUNT_MAX:
                    self._open.popitem(last=False)
            if alert.evidence.bins:
                place = alert.series, alert.slice
                self._series.pop(place, None)
                self._series[place] = alert
                while len(self._series) > SERIES_COUNT_MAX:
                    self._series.popitem(last=False)

    def acknowledged(self, said: Acknowledgement) -> None:
        """Hear that somebody has seen one."""
        with self._lock:
            self._seen.pop(said.id, None)
            self._seen[said.id] = said
            while len(self._seen) > ACKNOWLEDGED_COUNT_MAX:
                self._seen.popitem(last=False)

    def is_open(self, identity: str) -> bool:
        """Say whether there is such an alert, and it is not cleared."""
        with self._lock:
            return identity in self._open

    def open(self) -> list[dict[str, Any]]:
        """Return the alerts that are not cleared, the most severe first, each with who has seen it."""
        with self._lock:
            found = sorted(self._open.values(), key=lambda one: (-one.severity.rank, _began(one), one.id))
            seen = dict(self._seen)
        return [
            {
                "id": one.id,
                "at": one.at,
                "since": _began(one),
                "kind": one.kind,
                "state": one.state.value,
                "severity": one.severity.value,
                "series": one.series,
                "slice": one.slice,
                "text": one.text[:TEXT_CHARACTERS_MAX],
                "action": one.action[:TEXT_CHARACTERS_MAX],
                "explained_by": one.explained_by[:8],
                "effect": one.effect,
                "acknowledged": _told(seen.get(one.id), one),
            }
            for one in found
        ]

    def drift(self) -> list[dict[str, Any]]:
        """Return the newest evidence of each series, the newest first."""
        with self._lock:
            found = list(self._series.values())[::-1]
        return [
            {
                "series": one.series or one.kind,
                "slice": one.slice,
                "at": one.at,
                "state": one.state.value,
                "severity": one.severity.value,
                "bins": one.evidence.bins[:BINS_MAX],
                "reference": one.evidence.reference[:BINS_MAX],
                "current": one.evidence.current[:BINS_MAX],
                "reference_count": one.evidence.reference_count,
                "current_count": one.evidence.current_count,
                "distances": one.evidence.distances,
            }
            for one in found
        ]


def _began(alert: Alert) -> float:
    return alert.at if alert.since is None else alert.since


def _told(seen: Acknowledgement | None, alert: Alert) -> dict[str, Any] | None:
    if seen is not None:
        return {"at": seen.at, "by": seen.by, "note": seen.note}
    return {"at": alert.at, "by": "", "note": ""} if alert.state is AlertState.ACKNOWLEDGED else None


class Member(NamedTuple):
    """A worker of the group, as the broker knows it."""

    name: str
    host: str
    places: tuple[tuple[str, int], ...]


class Standing(NamedTuple):
    """How far the group is in a partition, and where that ends."""

    topic: str
    partition: int
    committed: int | None
    end: int


class Group:
    """The workers of the group with their partitions, how fast the group moves through those, and what is made again.

    ``recovering`` is how many changes are left of a memory that is made again, as its worker says; ``tells`` is whether
    it has said anything lately, so that None means that nothing is left.

    >>> group = Group()
    >>> group.take(10.0, [Member("host-0", "/10.0.0.1", (("cards", 0),))], [Standing("cards", 0, 40, 100)])
    >>> group.take(12.0, [Member("host-0", "/10.0.0.1", (("cards", 0),))], [Standing("cards", 0, 60, 110)])
    >>> group.hear({"worker": "host-0", "recovering": [[0, 700]]}, now=12.0)
    >>> (one,) = group.told(now=13.0)["partitions"]
    >>> one["topic"], one["worker"], one["committed"], one["end"], one["lag"], one["rate"], one["recovering"]
    ('cards', 'host-0', 60, 110, 50, 10.0, 700)
    """

    def __init__(self) -> None:
        self._looks: deque[tuple[float, list[Member], list[Standing]]] = deque(maxlen=3)
        self._trouble = "nobody has asked the broker yet"
        # Of workers: when, and what is left.
        self._heard: OrderedDict[str, tuple[float, dict[int, int]]] = OrderedDict()

    def take(self, at: float, members: list[Member], standings: list[Standing]) -> None:
        """Hear how the group stands."""
        self._looks.append((at, members, standings))
        self._trouble = ""

    def missed(self, why: str) -> None:
        """Hear that it is not known."""
        self._looks.clear()
        self._trouble = why

    def hear(self, said: Mapping[str, Any], now: float) -> None:
        """Hear what a worker says of its memories; what says nothing of that is left alone."""
        if "recovering" not in said:
            return
        with contextlib.suppress(TypeError, ValueError, KeyError, OverflowError):
            left = {int(number): int(many) for number, many in said["recovering"]}
            worker = str(said["worker"])
            self._heard[worker] = now, left
            self._heard.move_to_end(worker)
            if len(self._heard) > WORKERS_COUNT_MAX:
                self._heard.popitem(last=False)

    def _left(self, worker: str, now: float) -> dict[int, int] | None:
        """Return what a worker makes again, None where that is not known."""
        at, left = self._heard.get(worker, (-HEARD_SECONDS_MAX, {}))
        return left if now - at < (AGAIN_SECONDS_MAX if left else HEARD_SECONDS_MAX) else None

    def told(self, now: float = 0.0) -> dict[str, Any]:
        """Return the members and the partitions."""
        looks = list(self._looks)
        if not looks:
            return {"known": False, "trouble": self._trouble, "at": None, "members": [], "partitions": []}
        at, members, standings = looks[-1]
        owners = {place: one.name for one in members for place in one.places}
        first_at, _, first = looks[0]
        before = {(one.topic, one.partition): one.committed for one in first}
        partitions: list[dict[str, Any]] = []
        for one in standings:
            had = before.get((one.topic, one.partition))
            moved = None if had is None or one.committed is None or at <= first_at else one.committed - had
            worker = owners.get((one.topic, one.partition), "")
            left = self._left(worker, now)
            partitions.append(
                {
                    "topic": one.topic,
                    "partition": one.partition,
                    "worker": worker,
                    "committed": one.committed,
                    "end": one.end,
                    "lag": max(0, one.end - (one.committed or 0)),
                    "rate": None if moved is None else round(max(0, moved) / (at - first_at), 1),
                    "recovering": None if left is None else left.get(one.partition),
                    "tells": left is not None,
                }
            )
        told = [{"name": one.name, "host": one.host.lstrip("/"), "partitions": len(one.places)} for one in members]
        return {"known": True, "trouble": "", "at": at, "members": told, "partitions": partitions}


class Board(threading.Thread):
    """Reads the alerts, what is said of them and what is watched, and asks for the group, while somebody looks.

    It is a reader without a group: it commits nothing, and the worker does not notice it.
    """

    def __init__(self, config: Config, topics: tuple[str, ...], watched: Watched | None = None) -> None:
        super().__init__(name="headrace-page-board", daemon=True)
        self.alerts = Alerts()
        self.group = Group()
        self.watched = watched
        self.looked_at = time.monotonic()  # by somebody
        self._config = config
        self._inputs = topics
        self._closing = threading.Event()
        self._partitions: set[tuple[str, int]] = set()
        self._topics_due = self._group_due = self._sum_due = 0.0
        self._slices: tuple[int, int] | None = None  # where their topic begins and ended, until its beginning is read

    def close(self) -> None:
        """Stop reading."""
        self._closing.set()
        if self.ident is not None:
            self.join(STOP_SECONDS_MAX)

    def run(self) -> None:
        """Read until closed."""
        settings: dict[str, Any] = {
            **clients.reader_settings(self._config, "page"),
            "queued.max.messages.kbytes": 4_096,
            "queued.min.messages": 1_000,
            "auto.offset.reset": "earliest",
        }
        admin = AdminClient(clients.admin_settings(self._config), logger=clients.log)
        consumer = Consumer(settings, logger=clients.log)
        try:
            while not self._closing.is_set():
                try:
                    self._look(admin, consumer)
                except KafkaException as error:
                    log.debug("the page's reader: %s", clients.kafka_error(error).str())
                    self._closing.wait(POLL_SECONDS)
        finally:
            consumer.close()

    def _look(self, admin: AdminClient, consumer: Consumer) -> None:
        now = time.monotonic()
        if now >= self._topics_due:
            self._topics_due = now + TOPICS_SECONDS
            self._find(admin, consumer)
        if now >= self._group_due and now - self.looked_at < 2 * GROUP_SECONDS:
            self._group_due = now + GROUP_SECONDS
            self._ask(admin)
        if not self._partitions:
            self._closing.wait(POLL_SECONDS)
            return
        first = consumer.poll(POLL_SECONDS)
        if first is not None:
            for message in [first, *consumer.consume(READ_COUNT, 0)]:
                self._take(message)
        if self.watched is not None and now >= self._sum_due and now - self.looked_at < 2 * GROUP_SECONDS:
            self._sum_due = now + SUM_SECONDS
            self.watched.sum_up()
            self._skip(consumer, self.watched)

    def _find(self, admin: AdminClient, consumer: Consumer) -> None:
        # All topics, because a broker may make the one that it is asked for by name.
        known = admin.list_topics(timeout=ASK_SECONDS_MAX).topics
        wanted = (self._config.topic_alerts, self._config.topic_acknowledgements)
        found = {(topic, number) for topic in wanted if topic in known for number in known[topic].partitions}
        new = found - self._partitions
        if new:
            consumer.incremental_assign([TopicPartition(topic, number, 0) for topic, number in sorted(new)])
            self._partitions |= new
        place = (self._config.slices_topic, 0)
        if self.watched is not None and place[0] in known and place not in self._partitions:
            low, high = consumer.get_watermark_offsets(TopicPartition(*place), timeout=ASK_SECONDS_MAX)
            self.watched.begins(whole=low == 0)
            consumer.incremental_assign([TopicPartition(*place, low)])
            self._slices = low, high
            self._partitions.add(place)

    def _skip(self, consumer: Consumer, watched: Watched) -> None:
        """Go on with the newest slices, as soon as the first ones have told what was usual, or are too many."""
        if self._slices is None:
            return
        (low, high), topic = self._slices, self._config.slices_topic
        (at,) = consumer.position([TopicPartition(topic, 0)])
        newest = high - watched.tail_count
        if at.offset >= newest:
            self._slices = None  # all of it is read
        elif watched.has_learned or at.offset - low > watched.head_count:
            watched.skips()
            consumer.seek(TopicPartition(topic, 0, newest))
            self._slices = None

    def _take(self, message: Message) -> None:
        if message.error() is not None:
            return
        value = message.value() or b""
        # Anybody may write to a topic; what is no alert is not shown.
        with contextlib.suppress(msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            if message.topic() == self._config.topic_alerts:
                self.alerts.take(_alert(value))
            elif message.topic() == self._config.slices_topic and self.watched is not None:
                said = self.watched.take(value)
                self.group.hear(said or {}, time.monotonic())
            else:
                self.alerts.acknowledged(_acknowledgement(value))

    def _ask(self, admin: AdminClient) -> None:
        group, known = self._config.group, admin.list_topics(timeout=ASK_SECONDS_MAX).topics
        places = [
            TopicPartition(topic, number)
            for topic in self._inputs
            if topic in known
            for number in sorted(known[topic].partitions)
        ]
        try:
            asked = admin.describe_consumer_groups([group], request_timeout=ASK_SECONDS_MAX)
            described = asked[group].result(timeout=2 * ASK_SECONDS_MAX)
            wanted = [ConsumerGroupTopicPartitions(group, places)]
            offsets = admin.list_consumer_group_offsets(wanted, request_timeout=ASK_SECONDS_MAX)[group]
            committed = {
                (one.topic, one.partition): one.offset
                for one in offsets.result(timeout=2 * ASK_SECONDS_MAX).topic_partitions
                if one.offset >= 0
            }
            latest = OffsetSpec.latest()  # type: ignore[no-untyped-call]
            ends = admin.list_offsets(dict.fromkeys(places, latest), request_timeout=ASK_SECONDS_MAX)
            standings = [
                Standing(
                    one.topic,
                    one.partition,
                    committed.get((one.topic, one.partition)),
                    ends[one].result(timeout=2 * ASK_SECONDS_MAX).offset,
                )
                for one in places
            ]
        except KafkaException as error:
            self.group.missed(f"the broker does not tell of the group's members ({clients.kafka_error(error).str()})")
            return
        members = [
            Member(
                cast("str", one.client_id).removeprefix("headrace-"),
                cast("str", one.host),
                tuple((place.topic, place.partition) for place in (one.assignment.topic_partitions or ())),
            )
            for one in described.members
        ]
        self.group.take(time.time(), sorted(members), standings)

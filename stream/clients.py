"""The properties that librdkafka's clients get, and what its errors mean for a worker."""

import logging
import time
from typing import Any, cast

import confluent_kafka
from confluent_kafka import KafkaError, KafkaException, Message

from headrace.schemas.config import Config
from headrace.schemas.dead_letter import Header
from headrace.schemas.errors import BadConfig, Fenced, HeadraceError, NotDelivered, TopicMissing

BATCH_BYTES = 262_144
TELL_SECONDS = 10.0
_told: dict[int, float] = {}


class Sparing(logging.Filter):
    """Lets one line in ten seconds through of what the client's own log says about a broker that is away."""

    def __init__(self) -> None:
        super().__init__()
        self._told = -TELL_SECONDS

    def filter(self, record: logging.LogRecord) -> bool:
        """Say whether the line is worth it; the client's lines begin with what they are about."""
        about = record.args[0] if isinstance(record.args, tuple) and record.args else None
        if about != "FAIL":
            return True
        if record.created - self._told < TELL_SECONDS:
            return False
        self._told = record.created
        return True


log = logging.getLogger("headrace.kafka")  # where every client's own lines go
log.addFilter(Sparing())


def common(config: Config) -> dict[str, Any]:
    """Return what every client of this worker gets."""
    return {
        "bootstrap.servers": config.broker,
        "client.id": f"headrace-{config.instance}" if config.instance else "headrace",
        # A broker that is away is tried again after 0.1, 0.2, ... and at most 10 seconds.
        "reconnect.backoff.ms": 100,
        "reconnect.backoff.max.ms": 10_000,
        "socket.nagle.disable": True,
        "log.connection.close": False,
        "topic.metadata.refresh.interval.ms": 30_000,
        **config.kafka,
    }


def admin_settings(config: Config) -> dict[str, Any]:
    """Return the properties of a client that only asks, and whose failures are told by whoever asked it."""
    settings = _without(_without(common(config), _PRODUCER_ONLY), _CONSUMER_ONLY)
    return {"error_cb": lambda _error: None, "log_level": 0, **settings}


# Properties that only one kind of client knows; librdkafka warns about each in the other kind.
_PRODUCER_ONLY = (
    "compression.",
    "batch.",
    "queue.buffering.",
    "message.timeout",
    "delivery.",
    "acks",
    "request.required",
    "request.timeout",
    "partitioner",
    "sticky.",
)
_CONSUMER_ONLY = (
    "allow.auto.create",
    "fetch.",
    "auto.",
    "queued.",
    "heartbeat.",
    "max.poll",
    "check.crcs",
    "coordinator.query",
    "max.partition",
)


def _without(settings: dict[str, Any], prefixes: tuple[str, ...]) -> dict[str, Any]:
    return {name: value for name, value in settings.items() if not name.startswith(prefixes)}


def consumer_settings(config: Config) -> dict[str, Any]:
    """Return the properties of the consumer."""
    ours = {
        "group.id": config.group,
        "enable.auto.commit": False,
        "enable.auto.offset.store": False,
        "isolation.level": "read_committed",
        "enable.partition.eof": True,
        "partition.assignment.strategy": config.assignment,
        "session.timeout.ms": config.session_timeout_ms,
        "queued.max.messages.kbytes": config.buffer_bytes_max // 1024,
    }
    defaults = {
        "auto.offset.reset": "earliest",
        "queued.min.messages": 100_000,
        "fetch.queue.backoff.ms": 10,
        # A member hears of a rebalance by its next heartbeat, and what moves is nobody's until all have heard.
        "heartbeat.interval.ms": min(500, config.session_timeout_ms // 3),
        # The poll thread always polls; what is slow is watched by progress, not by this.
        "max.poll.interval.ms": max(300_000, config.session_timeout_ms),
    }
    if config.group_instance_id:
        ours["group.instance.id"] = config.group_instance_id
    return {**defaults, **_without(common(config), _PRODUCER_ONLY), **ours}


def reader_settings(config: Config, purpose: str) -> dict[str, Any]:
    """Return the properties of a consumer that is assigned its partitions, and neither joins a group nor commits."""
    settings = consumer_settings(config)
    for name in ("group.instance.id", "partition.assignment.strategy"):
        settings.pop(name, None)
    # The client wants a group's name; without a member and an offset no group comes of it.
    return {**settings, "group.id": f"{config.group}-{purpose}", "error_cb": on_error}


def producer_settings(config: Config, *, transactional: bool, batch_bytes_max: int = BATCH_BYTES) -> dict[str, Any]:
    """Return the properties of a producer.

    ``retry.backoff.ms`` is paid by every transaction that follows another at once, because the
    coordinator is still writing the markers of the first; librdkafka's 100 ms would be most of the
    latency of a prediction.
    """
    defaults = {
        "retry.backoff.ms": 2,
        "retry.backoff.max.ms": 500,
        "partitioner": "murmur2_random",
        # What is sent at once must fit the smallest topic that it may be for; what one record may weigh is
        # checked against its own topic beforehand.
        "batch.size": min(BATCH_BYTES, batch_bytes_max),
        # Twice what may wait before a commit: the commit comes first, and this is what is left if it does not.
        "queue.buffering.max.messages": 2_000_000,
        "queue.buffering.max.kbytes": 2 * config.output_bytes_max // 1024,
        # A call that waits for a group's coordinator looks again only when some connection changes
        # (confluentinc/librdkafka#5511); a producer that was replaced while it waited could never be closed.
        "connections.max.idle.ms": 60_000,
    }
    ours: dict[str, Any] = {
        "enable.idempotence": True,
        "message.max.bytes": 1_000_000_000,
        "linger.ms": config.linger_ms,
    }
    if transactional:
        ours["transactional.id"] = f"{config.group}-{config.instance}"
        ours["transaction.timeout.ms"] = config.transaction_timeout_ms
    else:
        ours["message.timeout.ms"] = 0  # an output waits for its broker as long as it takes
    return {**defaults, **_without(common(config), _CONSUMER_ONLY), **ours}


FATAL_IN_READING = {
    KafkaError._FATAL,  # noqa: SLF001 - librdkafka's own code
    KafkaError.FENCED_INSTANCE_ID,
    KafkaError.TOPIC_AUTHORIZATION_FAILED,
    KafkaError.GROUP_AUTHORIZATION_FAILED,
}
_NO_TOPIC = {
    KafkaError.UNKNOWN_TOPIC_OR_PART,
    KafkaError._UNKNOWN_TOPIC,  # noqa: SLF001 - librdkafka's own codes have such names
    KafkaError._UNKNOWN_PARTITION,  # noqa: SLF001
    KafkaError.TOPIC_AUTHORIZATION_FAILED,
}


TOPIC_EXISTS = KafkaError.TOPIC_ALREADY_EXISTS
# What a broker says no to for good: asking again gives the same answer.
REFUSALS = _NO_TOPIC | {
    KafkaError.MSG_SIZE_TOO_LARGE,
    KafkaError.INVALID_MSG,
    KafkaError.INVALID_REQUIRED_ACKS,
    KafkaError.CLUSTER_AUTHORIZATION_FAILED,
    KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED,
    KafkaError.GROUP_AUTHORIZATION_FAILED,
}


def is_fenced_instance(error: KafkaError) -> bool:
    """Say whether another worker took this one's group_instance_id; the client wraps it in a fatal error of its own."""
    wrapped = error.code() == KafkaError._FATAL and "group.instance.id" in error.str()  # noqa: SLF001
    return wrapped or bool(error.code() == KafkaError.FENCED_INSTANCE_ID)


def named(error: KafkaError, doing: str) -> HeadraceError:
    """Return the error that ends a worker, from the one that librdkafka gave."""
    text = f"{doing}: {error.str()} ({error.name()})"
    if is_fenced_instance(error):
        return Fenced(f"{text}; another worker runs under the same group_instance_id: give each its own")
    if error.code() in _NO_TOPIC:
        return TopicMissing(f"{text}; nothing of this batch was committed, and it is scored again after a restart")
    return NotDelivered(f"{text}; nothing of this batch was committed, and it is scored again after a restart")


def check(config: Config) -> None:
    """Raise what librdkafka says against the properties that were passed to it, before anything is started."""
    assert config.group, "the pipeline's name is the group's, where no other was given"
    try:
        confluent_kafka.Consumer({**consumer_settings(config), "log_level": 0}).close()
        confluent_kafka.Producer({**producer_settings(config, transactional=config.exactly_once), "log_level": 0})
    except (KafkaException, ValueError, TypeError) as error:
        reason = error.args[0].str() if isinstance(error, KafkaException) else str(error)
        raise BadConfig([f"kafka.*: librdkafka says: {reason}"]) from error


# What a call of a client may raise. The second comes where it calls back, to log for one, while an error of its own
# is pending: what became of the call is not known then, as with the first.
FAILURES = (KafkaException, SystemError)


def kafka_error(error: KafkaException | SystemError) -> KafkaError:
    """Return the error inside the exception."""
    if isinstance(error, SystemError):
        return KafkaError(KafkaError._FAIL, f"the client raised {error}")  # noqa: SLF001 - librdkafka's own code
    found = error.args[0]
    assert isinstance(found, KafkaError)
    return found


def on_error(error: KafkaError) -> None:
    """Log what librdkafka reports on its own; it goes on by itself unless the error is fatal."""
    now = time.monotonic()
    if not error.fatal() and now - _told.get(error.code(), -TELL_SECONDS) < TELL_SECONDS:
        return  # a broker that is away says so many times a second
    _told[error.code()] = now
    log.log(logging.ERROR if error.fatal() else logging.WARNING, "%s", error.str())


def version() -> str:
    """Return the versions of the client and of the library below it."""
    return f"confluent-kafka {confluent_kafka.version()}, librdkafka {confluent_kafka.libversion()[0]}"


def headers_of(message: Message) -> list[Header] | None:
    """Return a record's headers; None where there are none, or one has a name that is no text."""
    try:
        return cast("list[Header] | None", message.headers())
    except (UnicodeDecodeError, SystemError):  # the client returns with the error still pending
        return None

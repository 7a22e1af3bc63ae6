"""The topics that a pipeline needs: found, created, or missed by name."""

import logging
import time
from collections import deque
from collections.abc import Callable, Container, Mapping, Sequence
from typing import Any, cast

from confluent_kafka import KafkaError, KafkaException, TopicCollection
from confluent_kafka.admin import AdminClient, ConfigResource, NewTopic  # type: ignore[attr-defined]

from headrace.models.pipeline import Pipeline
from headrace.schemas.config import Config
from headrace.schemas.errors import PartitionsChanged, TopicMissing
from headrace.stream import clients

log = logging.getLogger("headrace.topics")

REQUEST_SECONDS_MAX = 10.0
BYTES_MAX_DEFAULT = 1_048_588  # the broker's own default of max.message.bytes
MOCK_CLUSTER = "mockCluster"  # how librdkafka's mock names itself
# What a record weighs beside its key, value and headers, with room to spare.
RECORD_OVERHEAD_BYTES = 512
BYTES_MAX = BYTES_MAX_DEFAULT - RECORD_OVERHEAD_BYTES
# Of the changelog. Small segments are cleaned soon, and the log stays near the size of the state.
STATE_PROPERTIES = {"cleanup.policy": "compact", "segment.bytes": str(64 << 20), "min.cleanable.dirty.ratio": "0.3"}
# What one worker does for all partitions, by the option's name: what is handed in, what is told, and the changelog.
_LEARNER_TOPICS = ("lessons_topic", "learner_topic", "learner_state_topic")
_WATCH_TOPICS = ("slices_topic", "slices_state_topic")
_ACTION_TOPICS = ("control_topic",)
_IN_PASSING = ("lessons_topic", "slices_topic")  # read once, and kept as long as any record


def prepare(
    config: Config,
    inputs: Sequence[str],
    *,
    state: bool = False,
    learns: bool = False,
    shares: bool = False,
    watches: bool = False,
    acts: bool = False,
    stopped: Callable[[], bool] = lambda: False,
) -> dict[str, int]:
    """Wait for the broker, see to it that every topic is there, and return the largest record of each output.

    With ``state`` there is a changelog, which has as many partitions as the input. Where partitions share a learner
    (``shares``), the stream is watched (``watches``), or something is done about alerts (``acts``), there are topics
    for that, each of one partition. A broker that is not there yet is waited for, however long it takes: the order in
    which things start is nobody's duty.
    """
    heard: deque[KafkaError] = deque(maxlen=1)  # a refused password comes this way, not as an answer
    admin = AdminClient({**clients.admin_settings(config), "error_cb": cast("Any", heard.append)})
    cluster, known = _known(admin, config, stopped, heard)
    outputs = outputs_of(config, inputs, state=state, learns=learns, shares=shares, watches=watches, acts=acts)
    single = single_of(config, shares=shares, watches=watches, acts=acts)
    read_too = [config.topic_acknowledgements] if watches else []
    if doubled := sorted({topic for topic in outputs if outputs.count(topic) > 1}):
        raise TopicMissing(f"topic {doubled[0]!r} is written for two purposes; set topic_lessons or another")
    if both := sorted(set(outputs) & set(inputs)):
        raise TopicMissing(
            f"topic {both[0]!r} is read and written by the same pipeline; set topic_predictions or another"
        )
    missing = _missing(config, [*inputs, *read_too, *outputs], known)
    if cluster.startswith(MOCK_CLUSTER):
        _ask_for(admin, missing)
    else:
        _create(admin, config, [topic for topic in missing if topic not in (config.state_topic, *inputs[1:], *single)])
        _create_single(admin, config, single, missing)
        _create_beside(admin, config, inputs, missing)
        if state:
            _match(admin, config, inputs[0])
    return _bytes_max(admin, cluster, outputs)


def partitions(config: Config, topic: str) -> int:
    """Return how many partitions a topic has."""
    admin = AdminClient(clients.admin_settings(config))
    return len(admin.list_topics(topic, timeout=REQUEST_SECONDS_MAX).topics[topic].partitions)


def see_to(config: Config, names: Sequence[str], *, stopped: Callable[[], bool] = lambda: False) -> None:
    """Wait for the broker, however long it takes, and see to it that these topics are there."""
    heard: deque[KafkaError] = deque(maxlen=1)
    admin = AdminClient({**clients.admin_settings(config), "error_cb": cast("Any", heard.append)})
    cluster, known = _known(admin, config, stopped, heard)
    missing = [] if stopped() else _missing(config, names, known)
    if cluster.startswith(MOCK_CLUSTER):
        _ask_for(admin, missing)
    else:
        _create(admin, config, missing)


def look(
    config: Config,
    inputs: Sequence[str],
    *,
    state: bool = False,
    learns: bool = False,
    shares: bool = False,
    watches: bool = False,
    acts: bool = False,
) -> dict[str, int]:
    """Wait for the broker and for the input to be there; make nothing. Return the largest record of each output."""
    heard: deque[KafkaError] = deque(maxlen=1)
    admin = AdminClient({**clients.admin_settings(config), "error_cb": cast("Any", heard.append)})
    cluster, known = _known(admin, config, lambda: False, heard)
    if missing := [topic for topic in inputs if topic not in known]:
        raise TopicMissing(f"on {config.broker} there is no topic {', '.join(missing)}, and a dry run makes none")
    outputs = outputs_of(config, inputs, state=state, learns=learns, shares=shares, watches=watches, acts=acts)
    there = [topic for topic in outputs if topic in known]
    return dict.fromkeys(outputs, BYTES_MAX) | _bytes_max(admin, cluster, there)


def asked_by(pipeline: Pipeline) -> dict[str, bool]:
    """Return what decides which topics a pipeline needs, as ``prepare``, ``look`` and ``outputs_of`` take it."""
    return {
        "state": pipeline.has_memory,
        "learns": pipeline.learns,
        "shares": pipeline.shares,
        "watches": pipeline.watch is not None,
        "acts": pipeline.acts,
    }


def outputs_of(
    config: Config,
    inputs: Sequence[str],
    *,
    state: bool = False,
    learns: bool = False,
    shares: bool = False,
    watches: bool = False,
    acts: bool = False,
) -> list[str]:
    """Return the topics that a pipeline writes, those that it reads again last."""
    outputs = [config.topic_predictions, config.topic_alerts, config.topic_dead_letters]
    if len(inputs) > 1:
        outputs.append(config.topic_outcomes)
    if learns:
        outputs.append(config.topic_quality)
    if state:
        outputs.append(config.state_topic)
    return outputs + [getattr(config, name) for name in _single(shares=shares, watches=watches, acts=acts)]


def single_of(config: Config, *, shares: bool, watches: bool, acts: bool) -> dict[str, Mapping[str, str]]:
    """Return the topics of one partition, which one worker reads for all, with the properties that they need."""
    names = _single(shares=shares, watches=watches, acts=acts)
    return {getattr(config, name): {} if name in _IN_PASSING else STATE_PROPERTIES for name in names}


def _single(*, shares: bool, watches: bool, acts: bool) -> list[str]:
    """Return the same by their names among the options."""
    asked = ((_LEARNER_TOPICS, shares), (_WATCH_TOPICS, watches), (_ACTION_TOPICS, acts))
    return [name for topics, there in asked if there for name in topics]


def bytes_max(config: Config, topic: str, *, create: bool) -> int:
    """Return the largest record of an output, which is created if it is missing and that is wanted and allowed."""
    admin = AdminClient(clients.admin_settings(config))
    metadata = admin.list_topics(timeout=REQUEST_SECONDS_MAX)
    if create and (missing := _missing(config, [topic], metadata.topics)):
        _create(admin, config, missing)
    return _bytes_max(admin, metadata.cluster_id or "", [topic])[topic]


def _missing(config: Config, names: Sequence[str], known: Container[str]) -> list[str]:
    """Return which topics are not there, or raise where they may not be created."""
    missing = [topic for topic in names if topic not in known]
    if missing and not config.create_topics:
        told = ", ".join(missing)
        raise TopicMissing(f"on {config.broker} there is no topic {told}; create it, or set create_topics=true")
    return missing


def _ask_for(admin: AdminClient, names: Sequence[str]) -> None:
    """Have the embedded broker make topics, as it does when it is first asked for one."""
    for topic in names:
        admin.list_topics(topic, timeout=REQUEST_SECONDS_MAX)


def _create_beside(admin: AdminClient, config: Config, inputs: Sequence[str], missing: Sequence[str]) -> None:
    """See to it that what belongs together lies together: each input has as many partitions as the first."""
    if len(inputs) == 1:
        return
    known = admin.list_topics(timeout=REQUEST_SECONDS_MAX).topics
    count = len(known[inputs[0]].partitions)
    _create(admin, config, [topic for topic in inputs[1:] if topic in missing], partitions=count)
    for topic in inputs[1:]:
        there = len(admin.list_topics(topic, timeout=REQUEST_SECONDS_MAX).topics[topic].partitions)
        if there != count:
            raise PartitionsChanged(
                f"{inputs[0]} has {count} partitions, and {topic} has {there}: a label would not lie where its event "
                f"does. Give {topic} {count} partitions, and publish its records with the events' key"
            )


def _create_single(
    admin: AdminClient, config: Config, single: Mapping[str, Mapping[str, str]], missing: Sequence[str]
) -> None:
    """See to it that what one worker reads for all is there, with the one partition that puts all in one order."""
    for topic, properties in single.items():
        if topic in missing:
            _create(admin, config, [topic], partitions=1, properties=properties)
        there = len(admin.list_topics(topic, timeout=REQUEST_SECONDS_MAX).topics[topic].partitions)
        if there != 1:
            raise PartitionsChanged(
                f"{topic} has {there} partitions: what one worker learns, or looks at, for all has one order. Make the "
                "topic anew with one partition, or name another by topic_lessons, topic_learner, topic_slices or "
                "topic_control"
            )


def _match(admin: AdminClient, config: Config, events: str) -> None:
    """See to it that the changelog has a partition for each of the input's."""
    known = admin.list_topics(timeout=REQUEST_SECONDS_MAX).topics
    count = len(known[events].partitions)
    if config.state_topic not in known:
        _create(admin, config, [config.state_topic], partitions=count, properties=STATE_PROPERTIES)
        known = admin.list_topics(timeout=REQUEST_SECONDS_MAX).topics
    there = len(known[config.state_topic].partitions)
    if there != count:
        raise PartitionsChanged(
            f"{events} has {count} partitions, and its state in {config.state_topic} has {there}: keys are not where "
            f"their past is. Give {events} {there} partitions again, or take a new group, which reads it anew"
        )


def _known(
    admin: AdminClient, config: Config, stopped: Callable[[], bool], heard: Sequence[KafkaError]
) -> tuple[str, set[str]]:
    told = 0.0
    while not stopped():
        try:
            metadata = admin.list_topics(timeout=2)
            return metadata.cluster_id or "", set(metadata.topics)
        except KafkaException as error:
            reason = heard[-1] if heard else clients.kafka_error(error)
            if time.monotonic() - told > 10:
                told = time.monotonic()
                log.warning("no broker answers at %s (%s); trying again until one does", config.broker, reason.str())
            time.sleep(0.5)
    return "", set()


def _create(
    admin: AdminClient,
    config: Config,
    topics: Sequence[str],
    *,
    partitions: int = 0,
    properties: Mapping[str, str] | None = None,
) -> None:
    if not topics:
        return
    count = partitions or config.topic_partitions
    asked = [
        NewTopic(
            topic, num_partitions=count, replication_factor=config.topic_replication, config=dict(properties or {})
        )
        for topic in topics
    ]
    for topic, future in admin.create_topics(asked, operation_timeout=REQUEST_SECONDS_MAX).items():
        try:
            future.result(timeout=2 * REQUEST_SECONDS_MAX)
        except KafkaException as error:
            reason = clients.kafka_error(error)
            if reason.code() == KafkaError.TOPIC_ALREADY_EXISTS:
                continue  # another worker was quicker
            raise TopicMissing(f"topic {topic} could not be created on {config.broker}: {reason.str()}") from error
        log.info("created topic %s with %d partitions", topic, count)
    _wait_until_visible(admin, topics)


def _wait_until_visible(admin: AdminClient, topics: Sequence[str]) -> None:
    deadline = time.monotonic() + REQUEST_SECONDS_MAX
    while time.monotonic() < deadline:
        if set(topics) <= set(admin.list_topics(timeout=REQUEST_SECONDS_MAX).topics):
            return
        time.sleep(0.05)


def _bytes_max(admin: AdminClient, cluster: str, topics: Sequence[str]) -> dict[str, int]:
    """Ask how large a record each topic takes; where the broker will not say, assume its default."""
    limits = dict.fromkeys(topics, BYTES_MAX)
    if not topics or cluster.startswith(MOCK_CLUSTER):
        return limits  # the embedded one would let us wait for an answer
    asked = {topic: ConfigResource(ConfigResource.Type.TOPIC, topic) for topic in topics}
    answers = admin.describe_configs(list(asked.values()), request_timeout=REQUEST_SECONDS_MAX)
    for resource, future in answers.items():
        try:
            entry = future.result(timeout=2 * REQUEST_SECONDS_MAX).get("max.message.bytes")
        except KafkaException:
            continue
        if entry is not None and entry.value:
            limits[resource.name] = max(0, int(entry.value) - RECORD_OVERHEAD_BYTES)
    return limits


def lineage(config: Config, names: Sequence[str]) -> str:
    """Say which topics these are: one that was deleted and made again has its name, and is another."""
    admin = AdminClient({**clients.admin_settings(config)})
    try:
        if (admin.list_topics(timeout=REQUEST_SECONDS_MAX).cluster_id or "").startswith(MOCK_CLUSTER):
            return ""  # it answers no such question
        answers = admin.describe_topics(TopicCollection(list(names)), request_timeout=REQUEST_SECONDS_MAX)
        return " ".join(f"{name}={answers[name].result(timeout=2 * REQUEST_SECONDS_MAX).topic_id}" for name in names)
    except (KafkaException, TimeoutError) as error:
        log.debug("which topics these are, the broker does not say: %s", error)
        return ""

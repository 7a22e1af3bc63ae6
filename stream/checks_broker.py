"""What can be wrong between a worker and its broker: the way there, the login, the topics, the group."""

import ssl
import time
from collections import deque
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import cached_property
from typing import Any, NamedTuple, cast

from confluent_kafka import (
    ConsumerGroupTopicPartitions,
    KafkaError,
    KafkaException,
    TopicCollection,
    TopicPartition,
)
from confluent_kafka.admin import (  # type: ignore[attr-defined]
    AclOperation,
    AdminClient,
    ConfigResource,
    OffsetSpec,
)

from headrace.schemas.codec import EventCodec
from headrace.schemas.config import Config
from headrace.schemas.errors import HeadraceError
from headrace.stream import clients, probe
from headrace.stream.finding import Finding, Patient, fail, warn
from headrace.stream.slice import Reader
from headrace.stream.topics import MOCK_CLUSTER, STATE_PROPERTIES, asked_by, outputs_of, single_of

ANSWER_SECONDS_MAX = 10.0
SKEW_SECONDS_MAX = 5.0
SAMPLE_PARTITIONS_MAX, SAMPLE_COUNT = 4, 10
DENIED = {
    KafkaError.TOPIC_AUTHORIZATION_FAILED,
    KafkaError.GROUP_AUTHORIZATION_FAILED,
    KafkaError.CLUSTER_AUTHORIZATION_FAILED,
}

NO_COORDINATOR = {
    KafkaError.NOT_COORDINATOR,
    KafkaError.COORDINATOR_NOT_AVAILABLE,
    KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
}


class Topic(NamedTuple):
    """What a broker says of a topic."""

    partitions: int
    replicas: int
    properties: Mapping[str, str]

    def number(self, name: str, otherwise: int) -> int:
        """Return a property that is a number."""
        return int(self.properties.get(name) or otherwise)


class Cluster:
    """A client that asks, and what it was told when it came in."""

    def __init__(self, config: Config) -> None:
        self._heard: deque[KafkaError] = deque(maxlen=3)  # a refused password comes this way, not as an answer
        settings = {**clients.admin_settings(config), "error_cb": cast("Any", self._heard.append)}
        self.admin = AdminClient({**settings, "socket.timeout.ms": 10_000}, logger=clients.log)
        try:
            metadata = self.admin.list_topics(timeout=ANSWER_SECONDS_MAX / 2)
        except KafkaException as error:
            login = [one for one in self._heard if one.code() == KafkaError._AUTHENTICATION]  # noqa: SLF001
            raise KafkaException((login or [*self._heard] or [clients.kafka_error(error)])[-1]) from error
        self.brokers = len(metadata.brokers)
        self._any = str(min(metadata.brokers))
        self.topics = metadata.topics
        self.is_mock = (metadata.cluster_id or "").startswith(MOCK_CLUSTER)

    def properties(self, kind: Any, names: Sequence[str]) -> dict[str, dict[str, str]]:
        """Return the configuration of topics or brokers, of those that may be asked."""
        asked = [ConfigResource(kind, name) for name in names]
        found: dict[str, dict[str, str]] = {name: {} for name in names}
        if self.is_mock or not asked:
            return found
        for resource, answer in self.admin.describe_configs(asked, request_timeout=ANSWER_SECONDS_MAX).items():
            with suppress(KafkaException):
                entries = answer.result(timeout=2 * ANSWER_SECONDS_MAX)
                found[resource.name] = {name: entry.value or "" for name, entry in entries.items()}
        return found

    @cached_property
    def allows(self) -> dict[str, str]:
        """The configuration of one of the brokers, as the others are taken to have it."""
        return self.properties(ConfigResource.Type.BROKER, [self._any])[self._any]

    def known(self, names: Sequence[str]) -> dict[str, Topic]:
        """Return what there is of these topics."""
        there = [name for name in dict.fromkeys(names) if name in self.topics]
        properties = self.properties(ConfigResource.Type.TOPIC, there)
        return {
            name: Topic(
                len(self.topics[name].partitions),
                min((len(one.replicas) for one in self.topics[name].partitions.values()), default=0),
                properties[name],
            )
            for name in there
        }

    def group(self, name: str) -> Any:
        """Return what the broker says of a group, or None where there was never one of that name."""
        deadline = time.monotonic() + ANSWER_SECONDS_MAX
        while True:
            answer = self.admin.describe_consumer_groups(
                [name], include_authorized_operations=True, request_timeout=ANSWER_SECONDS_MAX
            )[name]
            try:
                return answer.result(timeout=2 * ANSWER_SECONDS_MAX)
            except KafkaException as error:
                code = clients.kafka_error(error).code()
                if code == KafkaError.GROUP_ID_NOT_FOUND:
                    return None
                # A broker that has never had a group makes room for them when it is first asked.
                if code not in NO_COORDINATOR or time.monotonic() > deadline:
                    raise
                time.sleep(0.2)

    def offsets(self, topic: str, partitions: int, spec: Any) -> dict[int, Any]:
        """Return where each partition is, by that measure."""
        asked = {TopicPartition(topic, number): spec for number in range(partitions)}
        answers = self.admin.list_offsets(asked, request_timeout=ANSWER_SECONDS_MAX)
        return {place.partition: answer.result(timeout=2 * ANSWER_SECONDS_MAX) for place, answer in answers.items()}


def way(patient: Patient) -> Iterator[Finding]:
    """Look at who answers at the brokers' addresses."""
    config = patient.config
    assert config is not None
    security = config.kafka.get("security.protocol", "plaintext").lower()
    context = None
    if "ssl" in security:
        try:
            context = _context(config)
        except (OSError, ssl.SSLError) as error:
            yield fail("broker-certificate", f"kafka.ssl.*: {error}", "name files that are there, in PEM")
            return
    named, well = probe.addresses(config.broker)[0], 0
    found: list[Finding] = []
    for address in named:
        wrong = [one for one in _answer(address, context) if config.exactly_once or one.check != "broker-version"]
        found += wrong
        well += not wrong
        patient.reached |= all(one.check == "broker-version" for one in wrong)
    # Any one broker leads to the others.
    for one in found:
        yield warn(one.check, one.what, one.hint) if well else one


def _context(config: Config) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=config.kafka.get("ssl.ca.location"))
    if config.kafka.get("ssl.endpoint.identification.algorithm", "https").lower() == "none":
        context.check_hostname = False
    if config.kafka.get("enable.ssl.certificate.verification", "true").lower() == "false":
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    if certificate := config.kafka.get("ssl.certificate.location"):
        password = config.kafka.get("ssl.key.password")
        context.load_cert_chain(certificate, config.kafka.get("ssl.key.location"), password)
    return context


def _answer(at: probe.Address, context: ssl.SSLContext | None) -> Iterator[Finding]:
    try:
        known = probe.requests_known(at, context)
    except ssl.SSLCertVerificationError as error:
        hint = "name who signed it by kafka.ssl.ca.location, and the broker as its certificate does"
        yield fail("broker-certificate", f"{at}: its certificate is not trusted: {error.verify_message}", hint)
    except ssl.SSLError as error:
        if not _is_plain(at):
            yield fail("broker-certificate", f"{at}: no TLS: {error.reason}", "look at kafka.ssl.*, and at its log")
            return
        yield _no_tls(at)
    except probe.NotKafka as error:
        if context is not None and _is_plain(at):
            yield _no_tls(at)
        elif context is None and (error.tls or probe.speaks_tls(at)):
            yield fail("broker-tls", f"{at} speaks TLS", "set kafka.security.protocol to SSL or SASL_SSL")
        else:
            yield fail("broker-kafka", f"{at} is no Kafka broker: {error}", "look at the port")
    except ConnectionRefusedError:
        yield fail(
            "broker-reach", f"nobody listens on {at}", "start the broker, or look at the port; make broker is one"
        )
    except OSError as error:
        if context is not None and _is_plain(at):
            yield _no_tls(at)
            return
        yield fail("broker-reach", f"{at} cannot be reached: {error}", "look at the network between here and there")
    else:
        old = [name for name, (key, version) in probe.TRANSACTIONS.items() if known.get(key, -1) < version]
        if old:
            yield fail(
                "broker-version",
                f"{at} is too old for exactly once: it does not know {', '.join(old)} as Kafka 2.5 does",
                "use a newer broker, or --guarantee at-least-once",
            )


def _no_tls(at: probe.Address) -> Finding:
    hint = "set kafka.security.protocol to PLAINTEXT, or name its port for TLS"
    return fail("broker-tls", f"{at} speaks without TLS", hint)


def _is_plain(at: probe.Address) -> bool:
    try:
        return bool(probe.requests_known(at))
    except (OSError, probe.NotKafka):
        return False


def login(patient: Patient) -> Iterator[Finding]:
    """Come in as a worker would."""
    assert patient.config is not None
    try:
        patient.broker = Cluster(patient.config)
    except KafkaException as error:
        reason = clients.kafka_error(error)
        sasl = "sasl" in patient.config.kafka.get("security.protocol", "").lower()
        hint = (
            "look at kafka.sasl.mechanism, kafka.sasl.username and kafka.sasl.password"
            if sasl
            else "the broker answers before a login and not after: it may want kafka.security.protocol=SASL_SSL"
        )
        yield fail("broker-login", f"{patient.config.broker} lets nobody in: {reason.str()}", hint)


def topics(patient: Patient) -> Iterator[Finding]:
    """Look at the topics that are read and written, and at whether they fit each other."""
    config, pipeline, cluster = patient.config, patient.pipeline, patient.broker
    assert config is not None
    inputs = list(pipeline.topics)
    outputs = outputs_of(config, inputs, **asked_by(pipeline))
    state = config.state_topic if pipeline.has_memory else ""
    watches = pipeline.watch is not None
    single = single_of(config, shares=pipeline.shares, watches=watches, acts=pipeline.acts)
    read_too = [config.topic_acknowledgements] if watches else []
    if both := sorted(set(outputs) & set(inputs)):
        told = f"{both[0]} is read and written by the same pipeline"
        yield fail("topics-apart", told, "set topic_predictions or another")
    reads = [*inputs, *read_too, *([state] if state else []), *single]
    hidden = yield from _rights(cluster, config, reads, outputs)
    made = [name for name in [*read_too, *outputs] if name not in inputs]
    yield from _missing(cluster, config, inputs, made, hidden)
    known = patient.topics = cluster.known([*inputs, *read_too, *outputs])
    events = known.get(inputs[0])
    if events is not None:
        for name in inputs[1:]:
            if name in known and known[name].partitions != events.partitions:
                told = f"{inputs[0]} has {events.partitions} partitions, and {name} has {known[name].partitions}"
                hint = "a label lies where its event does: give both the same number, and the same key"
                yield fail("topic-labels-partitions", told, hint)
        if state in known and known[state].partitions != events.partitions:
            told = f"{inputs[0]} has {events.partitions} partitions, and {state} has {known[state].partitions}"
            yield fail("state-partitions", told, "give the input its old number again, or take a new --group")
    for name in single:
        # The embedded broker makes every topic with the same number, and nothing of it is kept.
        if name in known and known[name].partitions != 1 and not cluster.is_mock:
            told = f"{name} has {known[name].partitions} partitions: what one worker reads for all has one order"
            yield fail("state-partitions", told, "make the topic anew with one partition, or name another")
    for name in [state, *(name for name, properties in single.items() if properties)]:
        if name in known and (policy := known[name].properties.get("cleanup.policy", "compact")) != "compact":
            yield fail(
                "state-compacted",
                f"{name} has cleanup.policy={policy}: what is remembered there is deleted with time",
                f"set cleanup.policy={STATE_PROPERTIES['cleanup.policy']} on the topic",
            )
    yield from _kept(pipeline, known)
    yield from _sizes(config, known, inputs)


def _rights(
    cluster: Cluster, config: Config, inputs: Sequence[str], outputs: Sequence[str]
) -> Generator[Finding, None, set[str]]:
    """Ask what this user may do with each topic; return those that are hidden from it."""
    hidden: set[str] = set()
    if cluster.is_mock:
        return hidden
    names = list(dict.fromkeys([*inputs, *outputs]))
    answers = cluster.admin.describe_topics(
        TopicCollection(names), include_authorized_operations=True, request_timeout=ANSWER_SECONDS_MAX
    )
    user = config.kafka.get("sasl.username", "this user")
    for name in names:
        try:
            allowed = answers[name].result(timeout=2 * ANSWER_SECONDS_MAX).authorized_operations
        except KafkaException as error:
            if clients.kafka_error(error).code() in DENIED:
                hidden.add(name)
                yield fail("acl-topic", f"{user} may not see {name}", f"allow it {_needs(name, inputs, outputs)}")
            continue
        if allowed is None:
            continue  # nobody asks who somebody is there
        lacking = [one for one in _operations(name, inputs, outputs) if one not in allowed]
        if lacking and AclOperation.ALL not in allowed:
            what = " and ".join(one.name for one in lacking)
            yield fail("acl-topic", f"{user} may not {what} {name}", f"allow it {_needs(name, inputs, outputs)}")
    return hidden


def _operations(name: str, inputs: Sequence[str], outputs: Sequence[str]) -> list[Any]:
    # Changelogs, and what one worker reads for all, are both.
    return [AclOperation.READ] * (name in inputs) + [AclOperation.WRITE] * (name in outputs)


def _needs(name: str, inputs: Sequence[str], outputs: Sequence[str]) -> str:
    return " and ".join(one.name for one in [*_operations(name, inputs, outputs), AclOperation.DESCRIBE])


def _missing(
    cluster: Cluster, config: Config, inputs: Sequence[str], outputs: Sequence[str], hidden: set[str]
) -> Iterator[Finding]:
    missing = [name for name in [*inputs, *outputs] if name not in cluster.topics and name not in hidden]
    for name in missing:
        check = {0: "topic-input", 1: "topic-labels"}.get(inputs.index(name) if name in inputs else -1, "topic-output")
        told = f"on {config.broker} there is no topic {name}"
        if not config.create_topics:
            yield fail(check, told, "create it, or set create_topics=true; headrace topics apply does that")
        elif name in inputs:
            yield warn(
                check, f"{told}: it will be created, and is empty", "is this the broker that producers write to?"
            )
    replicas = config.topic_replication
    if replicas < 0:
        replicas = int(cluster.allows.get("default.replication.factor") or 1)
    if missing and config.create_topics and replicas > cluster.brokers and not cluster.is_mock:
        told = f"{', '.join(missing)} would have {replicas} replicas, and there are {cluster.brokers} brokers"
        yield fail("topic-replication", told, "set topic_replication to as many as there are brokers, or fewer")


def _kept(pipeline: Any, known: Mapping[str, Topic]) -> Iterator[Finding]:
    """Look at how long the input is kept."""
    within = pipeline.labels.truth.within if pipeline.labels is not None else 0.0
    for name in pipeline.topics:
        topic = known.get(name)
        if topic is None:
            continue
        policy = topic.properties.get("cleanup.policy", "delete")
        if "compact" in policy:
            told = (
                f"{name} has cleanup.policy={policy}: of each key the last record alone is kept for whoever comes later"
            )
            yield warn("topic-compacted", told, "set cleanup.policy=delete, unless no event has to be scored again")
        kept_ms = topic.number("retention.ms", -1)
        if "delete" in policy and 0 <= kept_ms < within * 1_000:
            yield warn(
                "retention",
                f"{name} keeps records for {kept_ms / 3.6e6:g} h, and labels come up to {within / 3_600:g} h later",
                "raise retention.ms: a replay or a new group would find labels without events, or the reverse",
            )


def _sizes(config: Config, known: Mapping[str, Topic], inputs: Sequence[str]) -> Iterator[Finding]:
    """Look at what the topics take: how large a record, and by how many replicas."""
    letters = known.get(config.topic_dead_letters)
    if letters is not None and (limit := letters.number("max.message.bytes", config.event_bytes_max)):
        most = min(
            [
                config.event_bytes_max,
                *(known[name].number("max.message.bytes", limit) for name in inputs if name in known),
            ]
        )
        if limit < most:
            yield warn(
                "output-bytes",
                f"{config.topic_dead_letters} takes {limit:,} bytes, and an event may have {most:,}: one that cannot "
                "be scored would not fit in as it came",
                "raise max.message.bytes of the topic, or lower event_bytes_max",
            )
    for name, topic in known.items():
        wanted = topic.number("min.insync.replicas", 1)
        if name not in inputs and wanted > topic.replicas:
            told = f"{name} wants {wanted} replicas in sync, and has {topic.replicas}: nothing can be written"
            yield fail("topic-insync", told, "lower min.insync.replicas, or give the topic more replicas")


def limits(patient: Patient) -> Iterator[Finding]:
    """Compare timeouts with what the broker allows, and transactions with what it can keep."""
    config, cluster = patient.config, patient.broker
    assert config is not None
    allows = cluster.allows
    most = int(allows.get("transaction.max.timeout.ms") or config.transaction_timeout_ms)
    if config.exactly_once and config.transaction_timeout_ms > most:
        told = f"transaction_timeout_ms = {config.transaction_timeout_ms}, and the broker allows {most}"
        yield fail("transaction-timeout", told, "lower it, or raise transaction.max.timeout.ms of the broker")
    for name, sign in (("group.min.session.timeout.ms", 1), ("group.max.session.timeout.ms", -1)):
        bound = int(allows.get(name) or config.session_timeout_ms)
        if sign * config.session_timeout_ms < sign * bound:
            told = f"session_timeout_ms = {config.session_timeout_ms}, and the broker's {name} is {bound}"
            yield fail("session-timeout", told, "set session_timeout_ms to what the broker allows")
    replicas = int(allows.get("transaction.state.log.replication.factor") or 1)
    insync = int(allows.get("transaction.state.log.min.isr") or 1)
    if config.exactly_once and "__transaction_state" not in cluster.topics and replicas > cluster.brokers:
        told = f"the broker keeps transactions {replicas} times, and there are {cluster.brokers} brokers"
        yield fail("transaction-log", told, "set its transaction.state.log.replication.factor, or start more brokers")
    elif config.exactly_once and insync > cluster.brokers:
        told = f"transactions want {insync} brokers in sync, and there are {cluster.brokers}"
        yield fail("transaction-log", told, "set the broker's transaction.state.log.min.isr, or start more brokers")


def group(patient: Patient) -> Iterator[Finding]:
    """Look at who is in the group, and at where it is."""
    config, cluster = patient.config, patient.broker
    assert config is not None
    try:
        told = cluster.group(config.group)
    except KafkaException as error:
        if clients.kafka_error(error).code() not in DENIED:
            raise
        user = config.kafka.get("sasl.username", "this user")
        yield fail("acl-group", f"{user} may not see the group {config.group}", "allow it READ and DESCRIBE")
        return
    if told is None:
        return
    allowed = told.authorized_operations
    if allowed is not None and not {AclOperation.READ, AclOperation.ALL} & set(allowed):
        yield fail("acl-group", f"this user may not READ the group {config.group}", "allow it READ")
    members = told.members
    ours = {"headrace-" + config.instance} if config.instance else set()
    for member in members:
        if member.client_id in ours or (
            config.group_instance_id and member.group_instance_id == config.group_instance_id
        ):
            name = config.instance if member.client_id in ours else config.group_instance_id
            yield fail(
                "group-members",
                f"{config.group} has a member {name} already, on {member.host.lstrip('/')}",
                "each would fence the other: give this worker an instance, and a group_instance_id, of its own",
            )
    wanted = "range" if len(patient.pipeline.topics) > 1 else config.assignment
    if members and told.partition_assignor and told.partition_assignor != wanted:
        yield fail(
            "group-assignment",
            f"{config.group} shares partitions out by {told.partition_assignor}, and this worker by {wanted}",
            "stop the others first, or set assignment to theirs, or take another --group",
        )
    yield from _positions(patient)


def _positions(patient: Patient) -> Iterator[Finding]:
    config, cluster = patient.config, patient.broker
    assert config is not None
    for name in patient.pipeline.topics:
        topic = patient.topics.get(name)
        if topic is None:
            continue
        places = [TopicPartition(name, number) for number in range(topic.partitions)]
        asked = ConsumerGroupTopicPartitions(config.group, places)
        answer = cluster.admin.list_consumer_group_offsets([asked], request_timeout=ANSWER_SECONDS_MAX)[config.group]
        begins = cluster.offsets(name, topic.partitions, OffsetSpec.earliest())  # type: ignore[no-untyped-call]
        ends = cluster.offsets(name, topic.partitions, OffsetSpec.latest())  # type: ignore[no-untyped-call]
        for place in answer.result(timeout=2 * ANSWER_SECONDS_MAX).topic_partitions:
            if place.offset < 0:
                continue
            first, end = begins[place.partition].offset, ends[place.partition].offset
            if not first <= place.offset <= end:
                gone = (
                    f"{first - place.offset} events were deleted before they were scored"
                    if place.offset < first
                    else "the topic was made again, or lost records"
                )
                yield fail(
                    "group-offsets",
                    f"{config.group} is at {name}[{place.partition}] offset {place.offset}, and the log is {first} to "
                    f"{end}: {gone}",
                    "take a new --group, or set the group's offsets to where the log is",
                )


def records(patient: Patient) -> Iterator[Finding]:
    """Look at the newest records of the input: their clock, and whether the event's class can read them."""
    config, cluster, pipeline = patient.config, patient.broker, patient.pipeline
    assert config is not None
    name = pipeline.wire.topic
    topic = patient.topics.get(name)
    if topic is None:
        return
    newest = cluster.offsets(name, topic.partitions, OffsetSpec.max_timestamp())  # type: ignore[no-untyped-call]
    ahead = max((one.timestamp for one in newest.values() if one.offset >= 0), default=0) / 1_000 - time.time()
    if ahead > SKEW_SECONDS_MAX:
        told = f"a record of {name} was written {ahead:,.0f} s from now, by this machine's clock"
        yield warn("clock", told, "look at the clocks of this machine and of who produces: timedatectl")
    begins = cluster.offsets(name, topic.partitions, OffsetSpec.earliest())  # type: ignore[no-untyped-call]
    ends = cluster.offsets(name, topic.partitions, OffsetSpec.latest())  # type: ignore[no-untyped-call]
    reader = Reader(config)
    sample: list[Any] = []
    try:
        for number in [one for one in ends if ends[one].offset > begins[one].offset][:SAMPLE_PARTITIONS_MAX]:
            begin = max(begins[number].offset, ends[number].offset - SAMPLE_COUNT)
            for some in reader.read(name, number, begin, ends[number].offset, count=SAMPLE_COUNT):
                sample += some
    except HeadraceError as error:
        yield warn("input-sample", str(error), "the newest records could not be read")
    finally:
        reader.close()
    yield from _readable(config, pipeline, sample)


def _readable(config: Config, pipeline: Any, sample: Sequence[Any]) -> Iterator[Finding]:
    codec = EventCodec(pipeline.events, bytes_max=config.event_bytes_max)
    wrong = []
    for record in sample:
        events, rejections = codec.decode([record.value()])
        where = f"{record.topic()}[{record.partition()}] offset {record.offset()}"
        if rejections:
            wrong.append(f"{where}: {rejections[0].reason}: {rejections[0].message}")
        elif record.key() is None:
            wrong.append(f"{where}: key_missing: the record has no key")
        elif pipeline.looks_back and config.event_ahead_max_ms:
            at = getattr(events[0], pipeline.wire.time)
            if 1_000 * at > record.timestamp()[1] + config.event_ahead_max_ms:
                told = "; are those milliseconds? seconds are meant" if at > 1e11 else ""
                wrong.append(f"{where}: time_ahead: {pipeline.wire.time} = {at:.0f} is far ahead of its record{told}")
    if wrong:
        finding = fail if len(wrong) == len(sample) else warn
        told = f"{len(wrong)} of the {len(sample)} newest records would be dead letters: {wrong[-1]}"
        hint = "mend who produces, or the event's class; headrace dlq ls counts dead letters by reason"
        yield finding("input-sample", told, hint)

"""``headrace topics``: what topics a pipeline needs, how that differs from what is there, and making it so."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import msgspec
from confluent_kafka import KafkaException
from confluent_kafka.admin import (  # type: ignore[attr-defined]
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewPartitions,
    NewTopic,
)

from headrace.models.pipeline import Pipeline
from headrace.schemas.config import Config
from headrace.schemas.errors import BrokerNotAvailable, PartitionsChanged, TopicMissing
from headrace.stream import clients, terminal
from headrace.stream.checks_broker import Cluster, Topic
from headrace.stream.topics import STATE_PROPERTIES, asked_by, outputs_of, single_of

SECONDS_MAX = 30.0
KEEP, CREATE, GROW, SET, REFUSE = "keep", "create", "grow", "set", "refuse"
POLICY = "cleanup.policy"
SINGLE = "for all"  # the role of what one worker reads for all


class Step(NamedTuple):
    """What is to be done about one topic."""

    topic: str
    role: str  # what the pipeline has it for
    action: str
    partitions: int
    properties: Mapping[str, str]  # that are set, with CREATE and SET
    told: str = ""


def planned(
    pipeline: Pipeline, config: Config, known: Mapping[str, Topic], *, partitions: int | None = None
) -> list[Step]:
    """Return a step for each topic. ``partitions`` is how many the events should have, where somebody says so.

    Labels and the changelog have as many partitions as the events: a label lies where its event does, and a key's past
    where the key does. So where anything is kept by key, the number never changes. What one worker reads for all has
    one partition, which puts all in one order.
    """
    inputs, watches = list(pipeline.topics), pipeline.watch is not None
    outputs = outputs_of(config, inputs, **asked_by(pipeline))
    single = single_of(config, shares=pipeline.shares, watches=watches, acts=pipeline.acts)
    events, state = known.get(inputs[0]), config.state_topic if pipeline.has_memory else ""
    wanted = partitions or (events.partitions if events is not None else config.topic_partitions)
    keyed = bool(state) or len(inputs) > 1
    counts = dict.fromkeys({state, *inputs} - {""}, wanted) | dict.fromkeys(single, 1)  # those that must be so many
    roles = dict(zip(inputs, ("events", "labels"), strict=False)) | dict.fromkeys(outputs, "output")
    if watches:
        roles[config.topic_acknowledgements] = "read too"
    if state:
        roles[state] = "changelog"
    roles |= dict.fromkeys(single, SINGLE)
    steps = []
    for name, role in roles.items():
        count = counts.get(name, config.topic_partitions)
        properties = STATE_PROPERTIES if role == "changelog" else single.get(name, {})
        there = known.get(name)
        if there is None:
            steps.append(Step(name, role, CREATE, count, properties))
        elif name in counts and there.partitions != count:
            steps.append(_other_count(name, role, there.partitions, count, inputs[0], keyed=keyed))
        elif properties and (policy := there.properties.get(POLICY, "compact")) != "compact":
            told = f"{POLICY} is {policy}, and what is remembered there would be deleted with time"
            steps.append(Step(name, role, SET, count, {POLICY: "compact"}, told))
        else:
            steps.append(Step(name, role, KEEP, there.partitions, {}))
    return steps


def _other_count(name: str, role: str, there: int, count: int, events: str, *, keyed: bool) -> Step:
    if role == "events" and not keyed and there < count:
        return Step(name, role, GROW, count, {}, f"it has {there}; keys move, and nothing is kept by key")
    if role == SINGLE:
        told = f"it has {there} partitions, and what one worker reads for all has one order: make it anew with 1"
        return Step(name, role, REFUSE, there, {}, told)
    if not keyed:
        return Step(name, role, REFUSE, there, {}, f"it has {there} partitions, and Kafka takes none away")
    why = {
        "events": "keys would leave their past and their labels behind; take a new topic and a new group",
        "labels": f"a label has to lie where its event does, in {events}; publish labels to a new topic of {count}",
        "changelog": f"keys would not be where their past is; give {events} {there} partitions, or take a new group",
    }[role]
    return Step(name, role, REFUSE, there, {}, f"it has {there} partitions, and {count} are wanted: {why}")


def main(pipeline: Pipeline, config: Config, *, apply: bool, partitions: int | None, as_json: bool) -> int:
    """Print the plan, and carry it out where that is asked.

    A plan ends with 0 where there is nothing to do, and 1 where there is; what would break keyed state is refused.
    """
    config = msgspec.structs.replace(config, group=config.group or pipeline.name)
    try:
        cluster = Cluster(config)
    except KafkaException as error:
        reason = clients.kafka_error(error).str()
        raise BrokerNotAvailable(f"no answer from {config.broker} ({reason})") from error
    inputs = list(pipeline.topics)
    names = [*inputs, *outputs_of(config, inputs, **asked_by(pipeline)), config.topic_acknowledgements]
    steps = planned(pipeline, config, cluster.known(names), partitions=partitions)
    todo = [step for step in steps if step.action != KEEP]
    for step in steps:
        _print(step, config, as_json=as_json)
    if refused := [step for step in steps if step.action == REFUSE]:
        raise PartitionsChanged("\n  ".join(["nothing was done:", *(f"{one.topic}: {one.told}" for one in refused)]))
    if not apply:
        if not as_json:
            terminal.line(f"{len(todo)} to do: headrace topics apply" if todo else "nothing to do")
        return 1 if todo else 0
    _create([step for step in todo if step.action == CREATE], cluster.admin, config)
    for step in todo:
        if step.action != CREATE:
            _change(step, cluster.admin, config)
    if not as_json:
        terminal.line(f"{len(todo)} done")
    return 0


def _print(step: Step, config: Config, *, as_json: bool) -> None:
    if as_json:
        terminal.json_line(step._asdict())
        return
    properties = "".join(f" {name}={value}" for name, value in step.properties.items())
    replicas = (
        f", {config.topic_replication} replicas" if step.action == CREATE and config.topic_replication > 0 else ""
    )
    what = f"{step.partitions} partitions{replicas}{properties}"
    terminal.line(f"{step.action:8}{step.topic:32}{step.role:11}{what}{f'  ({step.told})' if step.told else ''}")


def _create(steps: Sequence[Step], admin: Any, config: Config) -> None:
    replicas = config.topic_replication
    new = [
        NewTopic(one.topic, num_partitions=one.partitions, replication_factor=replicas, config=dict(one.properties))
        for one in steps
    ]
    if new:
        _hear(CREATE, admin.create_topics(new, operation_timeout=SECONDS_MAX), config)


def _change(step: Step, admin: Any, config: Config) -> None:
    if step.action == GROW:
        grown = [NewPartitions(step.topic, step.partitions)]
        _hear(GROW, admin.create_partitions(grown, operation_timeout=SECONDS_MAX), config)
        return
    entries = [
        ConfigEntry(name, value, incremental_operation=AlterConfigOpType.SET) for name, value in step.properties.items()
    ]
    resource = ConfigResource(ConfigResource.Type.TOPIC, step.topic, incremental_configs=entries)
    _hear(SET, admin.incremental_alter_configs([resource]), config)


def _hear(action: str, answers: Mapping[Any, Any], config: Config) -> None:
    """Wait until it is done, or raise with everything that was not."""
    problems = []
    for topic, answer in answers.items():
        try:
            answer.result(SECONDS_MAX)
        except KafkaException as error:
            reason = clients.kafka_error(error)
            if reason.code() != clients.TOPIC_EXISTS:
                problems.append(f"{action} {getattr(topic, 'name', topic)} on {config.broker}: {reason.str()}")
    if problems:
        raise TopicMissing("\n  ".join(problems))

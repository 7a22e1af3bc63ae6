"""Every option: its default, its bounds and the reason for them, in one table."""

import difflib
import ipaddress
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import msgspec

from headrace.schemas import webhook
from headrace.schemas.errors import BadConfig

EXACTLY_ONCE = "exactly-once"
AT_LEAST_ONCE = "at-least-once"


class Option(NamedTuple):
    """One row of the table."""

    default: str | int | bool
    text: str
    least: int | None = None
    greatest: int | None = None
    allowed: tuple[str, ...] = ()
    why: str = ""


OPTIONS: dict[str, Option] = {
    # Which stream, and as whom.
    "broker": Option("127.0.0.1:9092", "the Kafka brokers to begin with, host:port, separated by commas"),
    "group": Option("", "the consumer group; empty means the pipeline's name"),
    "instance": Option(
        "", "a name that this worker keeps over restarts; empty takes the first that is free on this host"
    ),
    "group_instance_id": Option("", "static membership: a restart within the session is no rebalance; empty is off"),
    "assignment": Option(
        "cooperative-sticky",
        "how partitions are shared out; range keeps equal partitions of several topics together",
        allowed=("cooperative-sticky", "range"),
    ),
    # What is promised.
    "guarantee": Option(
        EXACTLY_ONCE,
        "outputs and offsets in one transaction, or offsets after outputs",
        allowed=(EXACTLY_ONCE, AT_LEAST_ONCE),
    ),
    "commit_interval_ms": Option(
        100,
        "the longest time between two commits under load",
        5,
        60_000,
        why="a commit costs 4 ms or more, whatever is in it",
    ),
    "transaction_timeout_ms": Option(
        10_000,
        "after this the broker aborts what a dead worker left open",
        1_000,
        900_000,
        why="900000 is the broker's own limit; readers of committed data wait behind an open transaction",
    ),
    "session_timeout_ms": Option(
        10_000,
        "after this silence the group gives a worker's partitions away",
        1_000,
        1_800_000,
        why="the broker's own bounds",
    ),
    # How much at a time.
    # So many that what a step costs whatever is in it is little per event (from 500 on a job gains a fifth), and few
    # enough that a batch and what is made of it stay in the processor's caches.
    "batch_count_max": Option(
        2_000, "events in one step", 1, 100_000, why="above this one step holds up everything else for too long"
    ),
    "buffer_count_max": Option(
        8_000,
        "events that are fetched and not yet in a step",
        1,
        1_000_000,
        why="it bounds what a rebalance throws away",
    ),
    "buffer_bytes_max": Option(
        64 << 20,
        "bytes that are fetched and not yet in a step",
        1 << 20,
        2 << 30,
        why="it bounds the memory of a slow worker",
    ),
    "waiting_memory_bytes_max": Option(
        256 << 20,
        "bytes of features and scores that wait for labels in memory; above it they are in a file of state_dir",
        0,
        1 << 44,
        why="at 0 all are in the file; a label then takes 6 us longer",
    ),
    "output_bytes_max": Option(
        64 << 20, "bytes that wait to be sent", 1 << 20, 2 << 30, why="when they are reached, fetching pauses"
    ),
    "event_bytes_max": Option(
        1_048_576,
        "a larger value is a dead letter before it is parsed",
        64,
        1 << 30,
        why="parsing cost grows with the value",
    ),
    "event_ahead_max_ms": Option(
        86_400_000,
        "an event whose time lies further ahead of its record's is a dead letter, where features remember; 0 is off",
        0,
        3_155_760_000_000,
        why="a time in the far future would empty the windows of its key; a century",
    ),
    "linger_ms": Option(
        10, "how long an output may wait for company under load", 0, 1_000, why="an idle worker sends at once"
    ),
    # Where it goes.
    "topic_predictions": Option("predictions", "where scores go"),
    "topic_alerts": Option("alerts", "where alerts go"),
    "topic_dead_letters": Option("dead-letters", "where records go that cannot be scored"),
    "topic_outcomes": Option("outcomes", "where it is told what became known of events, when there are labels"),
    "topic_quality": Option("quality", "how good each model has been, when there are labels"),
    "topic_acknowledgements": Option("acknowledgements", "where people say which alerts they have seen"),
    "topic_state": Option("", "the changelog of what features remember; empty means the group's name and -state"),
    "topic_lessons": Option(
        "", "what a shared learner is to learn; one partition. Empty means the group's name and -lessons"
    ),
    "topic_learner": Option(
        "", "what a shared learner has learned; one partition. Empty means the group's name and -learner"
    ),
    "topic_slices": Option(
        "",
        "what events were like, slice by slice, where a stream is watched; one partition. Empty means the group's "
        "name and -slices",
    ),
    "topic_control": Option(
        "",
        "what is done about alerts by itself, and where it was done; one partition. Empty means the group's name and "
        "-control",
    ),
    "learner_interval_ms": Option(
        500,
        "the least time from one telling of what a shared learner has learned to the next",
        10,
        3_600_000,
        why="a telling holds all of it, and every worker reads that; an hour",
    ),
    "accept_state_loss": Option(
        False, "begin with an empty memory where what was remembered is lost, instead of ending with STATE_LOST"
    ),
    "create_topics": Option(
        True, "create topics that are missing, input and outputs; if not, a missing one ends the start"
    ),
    "topic_partitions": Option(
        4, "partitions of the topics that we create", 1, 10_000, why="a broker's practical limit"
    ),
    "topic_replication": Option(
        -1,
        "replicas of the topics that we create; -1 asks the broker",
        -1,
        32,
        why="-1 is the broker's default",
    ),
    # Where alerts are forwarded to, by headrace alerts.
    "alert_webhooks": Option("", "addresses that get each alert as JSON, separated by commas"),
    "alert_slack_webhooks": Option("", "addresses that get each alert as a message of Slack's, separated by commas"),
    "alert_hosts": Option(
        "", "the hosts that webhooks may be on, separated by commas; empty means those that the webhooks name"
    ),
    "alert_networks": Option(
        "", "networks beyond public addresses that webhooks may be in, such as 10.1.0.0/16, separated by commas"
    ),
    "alert_group": Option("", "the consumer group of headrace alerts; empty means the worker's group and -alerts"),
    "alert_timeout_ms": Option(
        10_000,
        "a webhook that has not answered after this has not taken the alert",
        100,
        60_000,
        why="other alerts for the same webhook wait that long",
    ),
    "alert_pause_max_ms": Option(
        60_000,
        "the longest pause before a webhook that did not take an alert is tried again",
        100,
        3_600_000,
        why="an alert that comes an hour late is news no more",
    ),
    "alert_give_up_ms": Option(
        86_400_000,
        "after this an alert that a webhook did not take is given up there",
        1_000,
        604_800_000,
        why="a week is as long as a broker keeps a topic by default",
    ),
    # What is watched.
    "web_host": Option(
        "127.0.0.1",
        "the address of the page, health and metrics; another than loopback shows them to the network",
    ),
    "web_port": Option(
        0,
        "the port of the page, health and metrics; 0 takes a free one, -1 none",
        -1,
        65_535,
        why="a port has 16 bits",
    ),
    "page": Option(True, "serve the live page; false leaves health and metrics"),
    "web_token": Option("", "what whoever opens the page has to know; beyond loopback there must be one"),
    "stall_red_ms": Option(
        30_000,
        "a partition with lag that has not moved for this long turns health red",
        100,
        86_400_000,
        why="a day",
    ),
    "stall_exit_ms": Option(
        300_000,
        "and after this long the worker ends with STALLED",
        200,
        86_400_000,
        why="a day; a restart is the last remedy",
    ),
    "drain_timeout_ms": Option(
        30_000,
        "after a request to stop, what is in flight has this long",
        100,
        600_000,
        why="container platforms kill after 30 s",
    ),
    "traces": Option(
        "", "where spans of events go, an address of OTLP over HTTP such as http://127.0.0.1:4318; empty is off"
    ),
    "traces_per_mille": Option(
        10,
        "of a thousand events that have no trace of their own, or one that their producer samples, so many get a span",
        0,
        1_000,
        why="a span costs what scoring forty events does, so all of them are for a quiet topic",
    ),
    "state_dir": Option("", "where this worker keeps its files; empty means the user's state directory"),
    "allow_insecure": Option(False, "let a password or an alert travel without TLS"),
    "log_level": Option("info", "how much is logged", allowed=("debug", "info", "warning", "error")),
    "log_format": Option(
        "auto",
        "lines for a person, or an object of JSON in each; auto is text on a terminal and json elsewhere",
        allowed=("auto", "text", "json"),
    ),
}

# Properties of librdkafka that are ours to set: a guarantee rests on each.
OWNED = {
    "enable.auto.commit": "offsets are committed with the outputs",
    "enable.auto.offset.store": "offsets are committed with the outputs",
    "enable.idempotence": "it is always on",
    "transactional.id": "set instance",
    "transaction.timeout.ms": "set transaction_timeout_ms",
    "isolation.level": "records of aborted transactions are never scored",
    "group.id": "set group",
    "group.instance.id": "set group_instance_id",
    "group.protocol": "only the classic protocol is tested",
    "bootstrap.servers": "set broker",
    "metadata.broker.list": "set broker",
    "queue.buffering.max.ms": "set linger_ms",
    "queued.max.messages.kbytes": "set buffer_bytes_max",
    "message.max.bytes": "what a record may weigh is asked of its topic",
    "partition.assignment.strategy": "set assignment",
    "session.timeout.ms": "set session_timeout_ms",
    "enable.partition.eof": "progress is watched with it",
    "statistics.interval.ms": "whether a broker answers is watched with it",
    "linger.ms": "set linger_ms",
    "delivery.report.only.error": "failed deliveries are watched with it",
}
SECRETS = ("password", "secret", "ssl.key.pem", "ssl.certificate.pem", "sasl.oauthbearer.config")
KAFKA = "kafka."
TOKEN_CHARACTERS_MIN = 16
ADDRESSES = ("alert_webhooks", "alert_slack_webhooks")  # whoever knows one may write to it
DEFAULT = "default"  # where a value comes from that nobody gave


class Given(NamedTuple):
    """A value as somebody wrote it, and where."""

    value: Any
    source: str


class Config(msgspec.Struct, frozen=True, kw_only=True):
    """The options of one worker, checked. ``kafka`` goes to librdkafka as it is."""

    broker: str
    group: str
    instance: str
    group_instance_id: str
    assignment: str
    guarantee: str
    commit_interval_ms: int
    transaction_timeout_ms: int
    session_timeout_ms: int
    batch_count_max: int
    buffer_count_max: int
    buffer_bytes_max: int
    waiting_memory_bytes_max: int
    output_bytes_max: int
    event_bytes_max: int
    event_ahead_max_ms: int
    linger_ms: int
    topic_predictions: str
    topic_alerts: str
    topic_dead_letters: str
    topic_outcomes: str
    topic_quality: str
    topic_acknowledgements: str
    topic_state: str
    topic_lessons: str
    topic_learner: str
    topic_slices: str
    topic_control: str
    learner_interval_ms: int
    accept_state_loss: bool
    create_topics: bool
    topic_partitions: int
    topic_replication: int
    alert_webhooks: str
    alert_slack_webhooks: str
    alert_hosts: str
    alert_networks: str
    alert_group: str
    alert_timeout_ms: int
    alert_pause_max_ms: int
    alert_give_up_ms: int
    web_host: str
    web_port: int
    page: bool
    web_token: str
    stall_red_ms: int
    stall_exit_ms: int
    drain_timeout_ms: int
    traces: str
    traces_per_mille: int
    state_dir: str
    allow_insecure: bool
    log_level: str
    log_format: str
    kafka: dict[str, str]

    @property
    def exactly_once(self) -> bool:
        """True where outputs and offsets are committed together."""
        return self.guarantee == EXACTLY_ONCE

    @property
    def state_topic(self) -> str:
        """The changelog of what features remember."""
        return self.topic_state or f"{self.group}-state"

    @property
    def alerts_group(self) -> str:
        """The consumer group of what forwards alerts; empty where nobody named one."""
        return self.alert_group or (f"{self.group}-alerts" if self.group else "")

    @property
    def lessons_topic(self) -> str:
        """What a shared learner is to learn, in the order in which it does."""
        return self.topic_lessons or f"{self.group}-lessons"

    @property
    def learner_topic(self) -> str:
        """What a shared learner has learned, for everybody who scores."""
        return self.topic_learner or f"{self.group}-learner"

    @property
    def slices_topic(self) -> str:
        """What events were like, slice by slice, of all partitions."""
        return self.topic_slices or f"{self.group}-slices"

    @property
    def slices_state_topic(self) -> str:
        """The changelog of what looks at the slices."""
        return f"{self.slices_topic}-state"

    @property
    def control_topic(self) -> str:
        """What is done about alerts by itself, and where it was done."""
        return self.topic_control or f"{self.group}-control"

    @property
    def learner_state_topic(self) -> str:
        """The changelog of a shared learner."""
        return f"{self.learner_topic}-state"

    def shown(self) -> dict[str, Any]:
        """Return the options as they may be shown: secrets are masked.

        >>> given = {"kafka.ssl.key.password": Given("hunter2", "--set")}
        >>> configure(given).shown()["kafka"]
        {'ssl.key.password': '********'}
        """
        shown = msgspec.structs.asdict(self)
        for name in ADDRESSES:
            shown[name] = webhook.shown(shown[name])
        shown["web_token"] = "********" if self.web_token else ""
        shown["kafka"] = {name: masked(name, value) for name, value in self.kafka.items()}
        return shown


def is_loopback(host: str) -> bool:
    """Say whether this host alone reaches this address.

    >>> [is_loopback(host) for host in ("127.0.0.1", "127.8.8.8", "localhost", "::1", "0.0.0.0", "::", "10.1.2.3", "x")]
    [True, True, True, True, False, False, False, False]
    """
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


class Origin(NamedTuple):
    """An option with its value, where that was given, and what was given in places that count less."""

    name: str
    value: str | int | bool
    source: str
    over: tuple[Given, ...] = ()


def origins(config: Config, *layers: Mapping[str, Given]) -> list[Origin]:
    """Return where each value of the options comes from; secrets are masked, also those that were overridden.

    >>> layers = {"group": Given("cards", "headrace.toml:1")}, {"group": Given("refunds", "--group")}
    >>> [one for one in origins(configure(*layers), *layers) if one.over]
    [Origin(name='group', value='refunds', source='--group', over=(Given(value='cards', source='headrace.toml:1'),))]
    """
    shown = config.shown()
    values = {name: shown[name] for name in OPTIONS}
    values |= {KAFKA + name: value for name, value in sorted(shown["kafka"].items())}
    found = []
    for name, value in values.items():
        given = [layer[name] for layer in layers if name in layer]
        source = given.pop().source if given else DEFAULT
        over = tuple(Given(masked(name, str(one.value)), one.source) for one in reversed(given))
        found.append(Origin(name, value, source, over))
    return found


def json_schema() -> dict[str, Any]:
    """Return what ``headrace.toml`` may hold as JSON Schema, for editors that complete and check TOML by it.

    >>> json_schema()["properties"]["commit_interval_ms"]["maximum"]
    60000
    """
    properties: dict[str, Any] = {}
    for name, option in OPTIONS.items():
        kind = {bool: "boolean", int: "integer"}.get(type(option.default), "string")
        text = f"{option.text}; {option.why}" if option.why else option.text
        row: dict[str, Any] = {"type": kind, "description": text, "default": option.default}
        if option.allowed:
            row["enum"] = list(option.allowed)
        if option.least is not None:
            row |= {"minimum": option.least, "maximum": option.greatest}
        properties[name] = row
    values = ["string", "integer", "number", "boolean", "object"]
    properties["kafka"] = {
        "type": "object",
        "description": "properties of librdkafka, for the consumer and the producer",
        "additionalProperties": {"type": values},
        "propertyNames": {"not": {"enum": sorted(OWNED)}},
    }
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "Options of a Headrace worker",
        "type": "object",
        "properties": properties,
        "additionalProperties": False,
    }


def masked(name: str, value: str) -> str:
    """Return the value, or stars where the name says that it is a secret."""
    return "********" if any(word in name for word in SECRETS) else value


def configure(*layers: Mapping[str, Given]) -> Config:
    """Return the options from the layers, a later one winning, or raise with everything that is wrong.

    >>> configure({"commit_interval_ms": Given("50", "environment")}, {"group": Given("cards", "--group")}).group
    'cards'
    >>> configure({"comit_interval_ms": Given(50, "headrace.toml")}, {"batch_count_max": Given("0", "--set")})
    Traceback (most recent call last):
    headrace.schemas.errors.BadConfig: config cannot run (2 problems):
      batch_count_max = 0 (--set): allowed are 1 to 100000; above this one step holds up everything else for too long
      comit_interval_ms (headrace.toml): no such option; did you mean commit_interval_ms?
    """
    given: dict[str, Given] = {}
    for layer in layers:
        given.update(layer)
    problems: list[str] = []
    values: dict[str, Any] = {name: option.default for name, option in OPTIONS.items()}
    kafka: dict[str, str] = {}
    for name, (value, source) in given.items():
        if value is None or isinstance(value, list | tuple | dict):
            problems.append(f"{name} ({source}): expected name=value, with one value")
        elif name.startswith(KAFKA):
            _take_property(name.removeprefix(KAFKA), value, source, kafka, problems)
        elif name in OPTIONS:
            try:
                values[name] = _typed(value, OPTIONS[name])
            except ValueError as error:
                problems.append(f"{name} = {value} ({source}): {error}")
        else:
            near = difflib.get_close_matches(name, OPTIONS, n=1)
            hint = f"did you mean {near[0]}?" if near else "see headrace config"
            problems.append(f"{name} ({source}): no such option; {hint}")
    config = Config(**values, kafka=kafka)
    # A relation to a value that was refused would speak of a default that nobody wrote.
    refused = {problem.split(" ")[0] for problem in problems}
    problems += [told for told, names in _relations(config) if not refused.intersection(names)]
    if problems:
        raise BadConfig(sorted(problems))
    return config


def _take_property(name: str, value: Any, source: str, kafka: dict[str, str], problems: list[str]) -> None:
    if reason := OWNED.get(name):
        problems.append(f"{KAFKA}{name} ({source}): not yours to set; {reason}")
    else:
        kafka[name] = str(value).lower() if isinstance(value, bool) else str(value)


_TRUTH = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}


def _typed(value: Any, option: Option) -> str | int | bool:
    if isinstance(option.default, bool):
        truth = _TRUTH.get(str(value).lower())
        if truth is None:
            raise ValueError("allowed are true and false")
        return truth
    if isinstance(option.default, int):
        try:
            number = int(str(value).replace("_", ""))
        except ValueError:
            raise ValueError("not a whole number") from None
        assert option.least is not None
        assert option.greatest is not None
        if not option.least <= number <= option.greatest:
            raise ValueError(f"allowed are {option.least} to {option.greatest}; {option.why}")
        return number
    if option.allowed and value not in option.allowed:
        raise ValueError(f"allowed are {', '.join(option.allowed)}")
    return str(value)


def _relations(config: Config) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Yield what is wrong between options that are each in bounds, with the options that it is about."""
    topics = (
        "topic_predictions",
        "topic_alerts",
        "topic_dead_letters",
        "topic_outcomes",
        "topic_quality",
        "topic_acknowledgements",
    )
    for name in ("broker", "web_host", *topics):
        if not getattr(config, name).strip():
            yield f"{name} is empty: {OPTIONS[name].text}", (name,)
    if config.exactly_once and config.commit_interval_ms >= config.transaction_timeout_ms:
        yield (
            f"commit_interval_ms = {config.commit_interval_ms}: must be below transaction_timeout_ms = "
            f"{config.transaction_timeout_ms}, or the broker aborts every transaction before its commit",
            ("commit_interval_ms", "transaction_timeout_ms", "guarantee"),
        )
    if config.page and config.web_port >= 0 and not config.web_token and not is_loopback(config.web_host):
        yield (
            f"web_host = {config.web_host}: the page would be open to whoever reaches this address; set web_token to "
            f"{TOKEN_CHARACTERS_MIN} characters or more, or page=false, which leaves health and metrics",
            ("web_host", "web_token", "page", "web_port"),
        )
    if config.web_token and len(config.web_token) < TOKEN_CHARACTERS_MIN:
        yield (
            f"web_token has {len(config.web_token)} characters; allowed are {TOKEN_CHARACTERS_MIN} or more, because "
            "it can be tried again and again",
            ("web_token",),
        )
    if config.traces and (problem := _no_address(config.traces)):
        # Not the address itself: what is wrong with it may be a password.
        yield f"traces: {problem}", ("traces",)
    if config.stall_red_ms >= config.stall_exit_ms:
        yield (
            f"stall_red_ms = {config.stall_red_ms}: must be below stall_exit_ms = {config.stall_exit_ms}, "
            "or the worker ends before anybody was warned",
            ("stall_red_ms", "stall_exit_ms"),
        )
    if config.buffer_count_max < config.batch_count_max:
        yield (
            f"buffer_count_max = {config.buffer_count_max}: must be at least batch_count_max = "
            f"{config.batch_count_max}, or no batch is ever full",
            ("buffer_count_max", "batch_count_max"),
        )
    names = [getattr(config, name) for name in topics]
    if len(set(names)) < len(names) and all(names):
        yield f"{', '.join(topics)} = {', '.join(names)}: must be different topics", topics
    yield from webhook.problems(
        config.alert_webhooks,
        config.alert_slack_webhooks,
        config.alert_hosts,
        config.alert_networks,
        insecure=config.allow_insecure,
    )
    security = config.kafka.get("security.protocol", "plaintext").lower()
    wants_password = any(name.startswith("sasl.") for name in config.kafka) or security.startswith("sasl")
    if wants_password and "ssl" not in security and not config.allow_insecure:
        yield (
            f"kafka.security.protocol = {security}: a password would travel in the clear; set "
            "kafka.security.protocol=SASL_SSL, or allow_insecure=true if that is what you want",
            ("kafka.security.protocol", "allow_insecure"),
        )


def _no_address(url: str) -> str:
    """Return what is wrong with an address that spans are to go to, or nothing.

    >>> _no_address("http://127.0.0.1:4318"), _no_address("grpc://collector:4317")
    ('', 'expected http:// or https:// and a host')
    >>> _no_address("https://me:hunter2@collector/")
    'a name or a password has no place in it; OTEL_EXPORTER_OTLP_TRACES_HEADERS is for those'
    """
    try:
        parts = urlsplit(url)
        host = parts.hostname if parts.port is None or parts.port else None
    except ValueError as error:
        return f"no address: {error}"
    if parts.scheme not in ("http", "https") or not host or not url.isascii() or not url.isprintable() or " " in url:
        return "expected http:// or https:// and a host"
    if "@" in parts.netloc:
        return "a name or a password has no place in it; OTEL_EXPORTER_OTLP_TRACES_HEADERS is for those"
    if parts.query or parts.fragment:
        return "what follows a ? or a # has no place in it; OTEL_EXPORTER_OTLP_TRACES_HEADERS is for what is secret"
    return ""


def from_toml(text: str, source: str) -> dict[str, Given]:
    r"""Return the options in a TOML file; tables under ``kafka`` may be nested or dotted.

    >>> from_toml('group = "cards"\n[kafka]\nsasl.username = "me"', "headrace.toml")
    {'group': Given(value='cards', source='headrace.toml:1'),
     'kafka.sasl.username': Given(value='me', source='headrace.toml:3')}
    """
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise BadConfig([f"{source}: not TOML: {error}"]) from None
    lines = _lines(text)
    return {name: Given(value, f"{source}:{lines[name]}" if name in lines else source) for name, value in _flat(table)}


LINES_MAX = 1_000  # of a file of options: beyond these, where in it a value stands is not told


def _lines(text: str) -> dict[str, int]:
    """Return the line in which each name of a TOML file is given: the parser does not say, so it is asked line by line.

    A name was given in the first line with which the file, up to there, has it and is TOML; where that is the end of a
    value of several lines, its first one counts.
    """
    found: dict[str, int] = {}
    lines = text.split("\n")[:LINES_MAX]
    begun = 0
    for number, line in enumerate(lines, start=1):
        if not begun and (not line.strip() or line.lstrip().startswith("#")):
            continue
        begun = begun or number
        try:
            table = tomllib.loads("\n".join(lines[:number]) + "\n")
        except tomllib.TOMLDecodeError:
            continue  # in the middle of a value
        for name, _ in _flat(table):
            found.setdefault(name, begun)
        begun = 0
    return found


def _flat(table: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in table.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value


PREFIX = "HEADRACE_"
# Names in the environment that are switches of tests, ours and users', not options.
NOT_OPTIONS = (
    "HEADRACE_FAILPOINT",
    "HEADRACE_FAILPOINT_SLEEP",
    "HEADRACE_SEED",
    "HEADRACE_FAULTS",
    "HEADRACE_UPDATE_GOLDEN",
)


def from_environment(environ: Mapping[str, str]) -> dict[str, Given]:
    """Return the options in the environment: ``HEADRACE_GROUP``, ``HEADRACE_KAFKA_SASL_USERNAME``.

    >>> from_environment({"HEADRACE_GROUP": "cards", "HEADRACE_KAFKA_SASL_USERNAME": "me", "HOME": "/"})
    {'group': Given(value='cards', source='HEADRACE_GROUP'),
     'kafka.sasl.username': Given(value='me', source='HEADRACE_KAFKA_SASL_USERNAME')}
    """
    given = {}
    for name, value in environ.items():
        if name.startswith(PREFIX) and name not in NOT_OPTIONS:
            option = name.removeprefix(PREFIX).lower()
            if option.startswith("kafka_"):
                option = option.replace("_", ".")
            given[option] = Given(value, name)
    return given


def from_pairs(pairs: Iterable[str], source: str = "--set") -> dict[str, Given]:
    """Return the options in ``name=value`` pairs.

    >>> from_pairs(["group=cards"])
    {'group': Given(value='cards', source='--set')}
    >>> configure(from_pairs(["group"]))
    Traceback (most recent call last):
    headrace.schemas.errors.BadConfig: config cannot run (1 problem):
      group (--set): expected name=value, with one value
    """
    given = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        # What has no equals sign may hold a secret behind a colon or a blank, so only its beginning is told.
        given[name.strip() if equals else re.split(r"[:\s]", name.strip())[0]] = Given(
            value.strip() if equals else None, source
        )
    return given

"""Looks for everything that could be wrong before a worker starts, and says how to mend it."""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from confluent_kafka import KafkaException

from headrace.schemas.config import Config
from headrace.stream import checks_broker, checks_here, terminal
from headrace.stream.clients import kafka_error
from headrace.stream.finding import Examine, Finding, Patient, Verdict, warn

COLUMN = 30  # where what was found begins
EXIT_CODES = {Verdict.OK: 0, Verdict.SKIP: 0, Verdict.WARN: 1, Verdict.FAIL: 2}


class Stage(NamedTuple):
    """A few checks that look at one thing. It is skipped while what it looks at is not there.

    Where they are ``steps``, what comes after one that failed was not reached.
    """

    examine: Examine
    checks: dict[str, str]  # by name, what each looks at
    possible: Callable[[Patient], object] = lambda _patient: True
    steps: bool = False


STAGES = (
    Stage(checks_here.python, {"python-version": "this Python is one that is tested"}),
    Stage(
        checks_here.config,
        {
            "config-file": "the file of options is there, and TOML",
            "config-unknown": "every option that is given exists",
            "config-value": "every value is one that its option may have",
            "config-owned": "no property of librdkafka is set on which a guarantee rests",
            "config-client": "librdkafka knows the properties, and takes their values",
            "config-password": "no password travels without TLS, unless it is meant to",
            "config-together": "the options fit each other",
        },
    ),
    Stage(
        checks_here.pipeline,
        {
            "pipeline-file": "the pipeline's file, folder or module is there",
            "pipeline-syntax": "it is Python",
            "pipeline-import": "it runs to its end, with everything that it imports",
            "pipeline-one": "there is one pipeline in it",
            "pipeline-parts": "the parts of the pipeline fit each other",
            "model-folder": "the model's folder is there, with every file that its manifest names",
            "model-hash": "the model's files are those that were saved",
            "model-file": "the model can be read, and is trusted",
            "model-golden": "the model scores its golden rows as it did when it was saved",
            "model-features": "what the models read are features of the pipeline",
            "extras": "the libraries of the model are installed",
        },
        steps=True,
    ),
    Stage(checks_here.dependencies, {"dependencies": "what is installed is within the ranges that are tested"}),
    Stage(
        checks_here.learner,
        {
            "hash-seed": "what a learner learns does not depend on the process",
            "learner-kernel": "the kernel for the commonest learners was compiled",
        },
        lambda patient: patient.pipeline,
    ),
    Stage(
        checks_here.machine,
        {
            "state-dir": "files can be made in state_dir",
            "state-owner": "state_dir belongs to this user",
            "disk-space": "there is room in it",
            "web-port": "the port of the pages is free",
            "open-files": "enough files may be open at a time",
        },
        lambda patient: patient.config,
    ),
    Stage(
        checks_here.names,
        {"broker-address": "broker is a list of host:port", "broker-name": "the hosts have addresses"},
        lambda patient: patient.config,
    ),
    Stage(
        checks_broker.way,
        {
            "broker-reach": "somebody listens at the brokers' addresses",
            "broker-kafka": "who answers is a Kafka broker",
            "broker-tls": "both sides speak TLS, or both do not",
            "broker-certificate": "the broker's certificate is trusted",
            "broker-version": "the broker is new enough for exactly once",
        },
        lambda patient: patient.config,
        steps=True,
    ),
    Stage(checks_broker.login, {"broker-login": "the broker lets this user in"}, lambda patient: patient.reached),
    Stage(
        checks_broker.topics,
        {
            "acl-topic": "this user may read the input and write the outputs",
            "topics-apart": "nothing is read and written by the same pipeline",
            "topic-input": "the topic of the events is there",
            "topic-labels": "the topic of the labels is there",
            "topic-output": "the topics of the outputs are there, or may be created",
            "topic-replication": "there are as many brokers as replicas",
            "topic-labels-partitions": "labels have as many partitions as events",
            "state-partitions": "the changelog has as many partitions as the events, and what is read for all has one",
            "state-compacted": "the changelog is compacted, and nothing of it is deleted",
            "topic-compacted": "the input is not compacted",
            "retention": "the input is kept for as long as labels may take",
            "output-bytes": "an event that cannot be scored fits into the dead letters",
            "topic-insync": "the outputs have as many replicas as have to be in sync",
        },
        lambda patient: patient.broker and patient.pipeline,
    ),
    Stage(
        checks_broker.limits,
        {
            "transaction-timeout": "the broker allows transaction_timeout_ms",
            "transaction-log": "the broker can keep transactions",
            "session-timeout": "the broker allows session_timeout_ms",
        },
        lambda patient: patient.broker and not patient.broker.is_mock,
    ),
    Stage(
        checks_broker.group,
        {
            "acl-group": "this user may join the group",
            "group-members": "no other worker of the group has this one's name",
            "group-assignment": "the group shares partitions out as this worker does",
            "group-offsets": "where the group is, there are still records",
        },
        lambda patient: patient.topics is not None and not patient.broker.is_mock,
    ),
    Stage(
        checks_broker.records,
        {
            "clock": "no record of the input is from the future",
            "input-sample": "the newest records of the input can be read as events",
        },
        lambda patient: patient.topics is not None and not patient.broker.is_mock,
    ),
)
CHECKS = {name: text for stage in STAGES for name, text in stage.checks.items()}


def examine(path: str, configured: Callable[[], Config]) -> Iterator[Finding]:
    """Yield what each check says, in the order in which a start would meet it."""
    patient = Patient(path, configured)
    for stage in STAGES:
        if not stage.possible(patient):
            yield from (Finding(name, Verdict.SKIP) for name in stage.checks)
            continue
        found: list[Finding] = []
        otherwise = Verdict.OK
        try:
            found.extend(stage.examine(patient))
        except (KafkaException, OSError, TimeoutError) as error:
            reason = kafka_error(error).str() if isinstance(error, KafkaException) else str(error)
            told = f"could not be looked at: {reason or type(error).__name__}"
            found.append(warn(next(iter(stage.checks)), told, "run it again; the broker's log may say more"))
            otherwise = Verdict.SKIP
        for name in stage.checks:
            its = [one for one in found if one.check == name]
            yield from its or [Finding(name, otherwise)]
            if stage.steps and any(one.verdict == Verdict.FAIL for one in its):
                otherwise = Verdict.SKIP


def main(path: str, configured: Callable[[], Config], *, as_json: bool, every: bool) -> int:
    """Print what was found, of ``every`` check or of those that are not well.

    Return 0 where all is well, 1 where there is a warning, 2 where something failed.
    """
    found = []
    for one in examine(path, configured):
        found.append(one)
        if as_json:
            terminal.json_line(one)
        elif every or one.verdict not in EASY:
            _print(one)
    if not as_json:
        terminal.line(terminal.fitted(summary(found)))
    return max(EXIT_CODES[one.verdict] for one in found)


def _print(one: Finding) -> None:
    colour = terminal.coloured()
    said = f"{one.verdict.value:4}  {one.check:24}{CHECKS[one.check] if one.verdict in EASY else one.what}".rstrip()
    said = terminal.fitted(said, hang=COLUMN)
    terminal.line(terminal.painted(said[:4], one.verdict.value, colour=colour) + said[4:])
    if one.hint:
        hint = terminal.fitted(f"{'':{COLUMN}}{one.hint}", hang=COLUMN)
        terminal.line(terminal.painted(hint, "faint", colour=colour))


EASY = (Verdict.OK, Verdict.SKIP)


def summary(found: Sequence[Finding]) -> str:
    """Say in a line what was found.

    >>> summary([Finding("clock", Verdict.OK), Finding("retention", Verdict.WARN), Finding("broker-tls", Verdict.FAIL)])
    '1 failed (broker-tls), 1 warning (retention), 1 well, 0 skipped'
    """
    of = {verdict: [one.check for one in found if one.verdict == verdict] for verdict in Verdict}
    named = {verdict: f" ({', '.join(dict.fromkeys(names))})" if names else "" for verdict, names in of.items()}
    warnings = "1 warning" if len(of[Verdict.WARN]) == 1 else f"{len(of[Verdict.WARN])} warnings"
    return (
        f"{len(of[Verdict.FAIL])} failed{named[Verdict.FAIL]}, {warnings}{named[Verdict.WARN]}, "
        f"{len(of[Verdict.OK])} well, {len(of[Verdict.SKIP])} skipped"
    )

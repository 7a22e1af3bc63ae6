"""What ``headrace doctor`` finds on a real broker: faults are planted in its topics, groups, rights and listeners.

Flow: a healthy setup, in which nothing is found; then everything about the topics is spoilt at once, and each fault is
found by the name of its check.
"""

import json
import subprocess
import time
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import confluent_kafka
import pytest
from confluent_kafka import TopicPartition
from confluent_kafka.admin import (
    AclBinding,
    AclOperation,
    AclPermissionType,
    AdminClient,
    NewTopic,
    ResourcePatternType,
    ResourceType,
)

from headrace.schemas.config import configure, from_pairs
from headrace.stream import doctor
from headrace.stream.broker import RealBroker, free_port
from headrace.stream.finding import Verdict

pytestmark = pytest.mark.broker

PIPELINE = """\
from river import linear_model
from headrace import Event, Label, Linear, Pipeline, log1p, per

class Payment(Event, topic="NAME", key="card"):
    id: str
    at: float
    card: str
    amount: float

class Verdict(Label, topic="NAME-labels", of=Payment, within="2d", otherwise=0):
    id: str
    at: float
    card: str
    label: int

pipeline = Pipeline(
    name="NAME",
    events=Payment,
    labels=Verdict,
    features={"amount": log1p("amount"), "count": per("card").count("1h")},
    static=Linear({"amount": 0.5, "count": 0.1}),
    online=linear_model.LogisticRegression(),
)
"""
OUTPUTS = ("predictions", "alerts", "dead_letters", "outcomes", "quality")


class Setup:
    """A pipeline with topics of its own."""

    def __init__(self, address: str, folder: Path) -> None:
        self.address = address
        self.name = f"doctor-{uuid.uuid4().hex[:8]}"
        self.path = folder / "pipeline.py"
        self.path.write_text(PIPELINE.replace("NAME", self.name))
        self.admin = AdminClient({"bootstrap.servers": address, "log_level": 0})
        self.pairs = [f"topic_{output}={self.name}-{output}" for output in OUTPUTS]
        self.pairs += [f"state_dir={folder / 'state'}", f"group={self.name}"]

    def create(self, topic: str, partitions: int = 2, **properties: str) -> None:
        config = {name.replace("_", "."): value for name, value in properties.items()}
        new = NewTopic(topic, num_partitions=partitions, replication_factor=1, config=config)
        self.admin.create_topics([new], operation_timeout=30)[topic].result(30)

    def create_all(self) -> None:
        kept = {"retention_ms": str(30 * 86_400_000)}
        self.create(self.name, **kept)
        self.create(f"{self.name}-labels", **kept)
        for output in OUTPUTS:
            self.create(f"{self.name}-{output}")
        self.create(f"{self.name}-state", cleanup_policy="compact")

    def produce(
        self, value: bytes, *, key: bytes | None = b"c", timestamp: float | None = None, partition: int = 0
    ) -> None:
        refused: list[object] = []
        settings = {"bootstrap.servers": self.address, "log_level": 0}
        producer = confluent_kafka.Producer(
            {**settings, "on_delivery": lambda error, _: error and refused.append(error)}
        )
        producer.produce(self.name, value, key, partition, timestamp=int(1_000 * (timestamp or time.time())))
        assert producer.flush(30) == 0
        assert refused == []

    def found(self, *pairs: str, broker: str = "") -> dict[str, Verdict]:
        told = self.told(*pairs, broker=broker)
        return {one.check: one.verdict for one in told if one.verdict in (Verdict.WARN, Verdict.FAIL)}

    def told(self, *pairs: str, broker: str = "") -> list:
        given = [f"broker={broker or self.address}", *self.pairs, *pairs]
        return list(doctor.examine(str(self.path), lambda: configure(from_pairs(given))))


def _event(**other: object) -> bytes:
    return json.dumps({"id": "p1", "at": time.time(), "card": "c", "amount": 1.0, **other}).encode()


@pytest.fixture
def setup(broker, tmp_path: Path) -> Setup:
    return Setup(broker.address, tmp_path)


def test_nothing_is_found_in_a_healthy_setup(setup: Setup) -> None:
    setup.create_all()
    for number in (0, 1):
        setup.produce(_event(), partition=number)
    told = setup.told()
    assert [one for one in told if one.verdict != Verdict.OK] == []
    assert {one.check for one in told} == set(doctor.CHECKS)


def test_topics_that_are_not_there_are_found(setup: Setup) -> None:
    assert setup.found() == {"topic-input": Verdict.WARN, "topic-labels": Verdict.WARN}
    missing = dict.fromkeys(["topic-input", "topic-labels", "topic-output"], Verdict.FAIL)
    assert setup.found("create_topics=false") == missing
    assert setup.found("topic_replication=3")["topic-replication"] == Verdict.FAIL
    assert setup.name not in setup.admin.list_topics(timeout=10).topics, "looking makes nothing"


def test_faults_of_topics_are_all_found_at_once(setup: Setup) -> None:
    name = setup.name
    setup.create(name, 2, cleanup_policy="compact,delete", retention_ms=str(86_400_000))
    setup.create(f"{name}-labels", 3, retention_ms=str(3_600_000))
    setup.create(f"{name}-predictions", 1, min_insync_replicas="2")
    setup.create(f"{name}-dead_letters", 1, max_message_bytes="10000")
    setup.create(f"{name}-state", 5, cleanup_policy="delete")
    for at in range(6):
        setup.produce(_event(), timestamp=time.time() + (1_800 if at == 5 else 0))
    setup.produce(b'{"id": "p1", "card": "c"}', partition=1)
    found = setup.found(f"topic_alerts={name}")
    assert found == {
        "topics-apart": Verdict.FAIL,
        "topic-labels-partitions": Verdict.FAIL,
        "state-partitions": Verdict.FAIL,
        "state-compacted": Verdict.FAIL,
        "topic-compacted": Verdict.WARN,
        "retention": Verdict.WARN,
        "output-bytes": Verdict.WARN,
        "topic-insync": Verdict.FAIL,
        "clock": Verdict.WARN,
        "input-sample": Verdict.WARN,
    }


def test_an_input_of_which_no_record_can_be_read_is_found(setup: Setup) -> None:
    setup.create_all()
    setup.produce(b"id,at,card")
    setup.produce(_event(), key=None)
    setup.produce(_event(at=1_000 * time.time()), partition=1)
    assert setup.found() == {"input-sample": Verdict.FAIL}
    (told,) = [one for one in setup.told() if one.check == "input-sample"]
    assert told.what.startswith("3 of the 3 newest records would be dead letters")
    assert "milliseconds" in told.what


def test_a_group_that_has_this_worker_already_or_is_elsewhere_is_found(setup: Setup) -> None:
    setup.create_all()
    setup.produce(_event())
    settings = {"bootstrap.servers": setup.address, "group.id": setup.name, "log_level": 0}
    alone = confluent_kafka.Consumer({**settings, "enable.auto.commit": False})
    alone.commit(offsets=[TopicPartition(setup.name, 0, 99)], asynchronous=False)
    alone.close()
    assert setup.found() == {"group-offsets": Verdict.FAIL}

    member = confluent_kafka.Consumer(
        {
            **settings,
            "client.id": "headrace-one",
            "group.instance.id": "static-one",
            "partition.assignment.strategy": "roundrobin",
        }
    )
    member.subscribe([setup.name])
    deadline = time.monotonic() + 60
    while not member.assignment() and time.monotonic() < deadline:
        member.poll(0.2)
    assert member.assignment()
    theirs = {"group-offsets": Verdict.FAIL, "group-assignment": Verdict.FAIL}
    assert setup.found("instance=two") == theirs
    assert setup.found("instance=one") == theirs | {"group-members": Verdict.FAIL}
    assert setup.found("group_instance_id=static-one") == theirs | {"group-members": Verdict.FAIL}
    member.close()


class Guarded(NamedTuple):
    """A broker with three ways in: open, with a password, and with TLS. It is not as a worker wishes it to be."""

    open: str
    password: str
    tls: str
    certificate: Path


@pytest.fixture(scope="module")
def guarded(broker, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    """Depends on the session's broker, so that it is skipped where that is."""
    folder = tmp_path_factory.mktemp("guarded")
    store, certificate = folder / "broker.p12", folder / "broker.pem"
    given = ["-keystore", str(store), "-storetype", "PKCS12", "-storepass", "changeit", "-alias", "broker"]
    name = ["-dname", "CN=broker", "-ext", "san=ip:127.0.0.1", "-keyalg", "RSA", "-validity", "2"]
    subprocess.run(["keytool", "-genkeypair", *given, *name], check=True, capture_output=True)
    subprocess.run(
        ["keytool", "-exportcert", "-rfc", *given, "-file", str(certificate)], check=True, capture_output=True
    )
    port, sasl, tls, controller = (free_port() for _ in range(4))
    ways = f"PLAINTEXT://127.0.0.1:{port},SASL://127.0.0.1:{sasl},TLS://127.0.0.1:{tls}"
    properties = {
        "listeners": f"{ways},CONTROLLER://127.0.0.1:{controller}",
        "advertised.listeners": ways,
        "listener.security.protocol.map": ("CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,SASL:SASL_PLAINTEXT,TLS:SSL"),
        "controller.quorum.voters": f"1@127.0.0.1:{controller}",
        "sasl.enabled.mechanisms": "PLAIN",
        "listener.name.sasl.plain.sasl.jaas.config": (
            'org.apache.kafka.common.security.plain.PlainLoginModule required user_guest="welcome";'
        ),
        "ssl.keystore.location": str(store),
        "ssl.keystore.password": "changeit",
        "ssl.keystore.type": "PKCS12",
        "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        "super.users": "User:ANONYMOUS",
        "transaction.state.log.replication.factor": "3",
        "transaction.max.timeout.ms": "5000",
        "group.max.session.timeout.ms": "9000",
    }
    with RealBroker(folder / "kafka", port=port, properties=properties) as real:
        yield Guarded(real.address, f"127.0.0.1:{sasl}", f"127.0.0.1:{tls}", certificate)


def test_what_the_broker_does_not_allow_is_found(guarded: Guarded, tmp_path: Path) -> None:
    setup = Setup(guarded.open, tmp_path)
    setup.create_all()
    limits = dict.fromkeys(["transaction-timeout", "session-timeout", "transaction-log"], Verdict.FAIL)
    assert setup.found() == limits
    assert setup.found("guarantee=at-least-once", "session_timeout_ms=9000") == {}


LOGIN = ("guarantee=at-least-once", "session_timeout_ms=9000", "allow_insecure=true", "kafka.sasl.mechanism=PLAIN")


def _allow(setup: Setup, rights: Mapping[tuple[ResourceType, str], AclOperation]) -> None:
    allowed = [
        AclBinding(kind, name, ResourcePatternType.PREFIXED, "User:guest", "*", operation, AclPermissionType.ALLOW)
        for (kind, name), operation in rights.items()
    ]
    for answer in setup.admin.create_acls(allowed).values():
        answer.result(30)


def test_a_login_and_rights_that_are_missing_are_found(guarded: Guarded, tmp_path: Path) -> None:
    setup = Setup(guarded.open, tmp_path)
    setup.create_all()
    guest = [*LOGIN, "kafka.security.protocol=SASL_PLAINTEXT", "kafka.sasl.username=guest"]
    wrong = setup.found(*guest, "kafka.sasl.password=hunter2", broker=guarded.password)
    assert wrong == {"broker-login": Verdict.FAIL}
    assert setup.found(*LOGIN[:2], broker=guarded.password) == {"broker-login": Verdict.FAIL}

    guest.append("kafka.sasl.password=welcome")
    found = setup.told(*guest, broker=guarded.password)
    denied = {(one.check, one.what) for one in found if one.verdict == Verdict.FAIL}
    assert ("acl-topic", f"guest may not see {setup.name}") in denied
    assert {check for check, _ in denied} == {"acl-topic", "acl-group"}

    kind = ResourceType
    _allow(setup, {(kind.TOPIC, setup.name): AclOperation.READ})
    told = setup.told(*guest, broker=guarded.password)
    denied = {one.what for one in told if one.verdict == Verdict.FAIL}
    assert f"guest may not WRITE {setup.name}-predictions" in denied
    assert f"guest may not see the group {setup.name}" in denied

    _allow(setup, {(kind.TOPIC, setup.name): AclOperation.WRITE, (kind.GROUP, setup.name): AclOperation.READ})
    assert setup.found(*guest, broker=guarded.password) == {}


def test_tls_on_one_side_alone_and_a_certificate_of_a_stranger_are_found(guarded: Guarded, tmp_path: Path) -> None:
    setup = Setup(guarded.open, tmp_path)
    setup.create_all()
    quiet = LOGIN[:2]
    assert setup.found(*quiet, broker=guarded.tls) == {"broker-tls": Verdict.FAIL}
    tls = [*quiet, "kafka.security.protocol=SSL"]
    assert setup.found(*tls, broker=guarded.open) == {"broker-tls": Verdict.FAIL}
    assert setup.found(*tls, broker=guarded.tls) == {"broker-certificate": Verdict.FAIL}
    assert setup.found(*tls, f"kafka.ssl.ca.location={guarded.certificate}", broker=guarded.tls) == {}

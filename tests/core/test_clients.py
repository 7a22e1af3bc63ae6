"""What librdkafka says against its properties, told before anything is started."""

import logging

import pytest
from core.records import config_of

from headrace.schemas.config import OWNED
from headrace.schemas.errors import BadConfig
from headrace.stream import clients

RIGHT: dict[str, dict[str, str]] = {
    "none": {},
    "of both": {"kafka.socket.keepalive.enable": "true"},
    "of the consumer": {"kafka.fetch.min.bytes": "1000", "kafka.auto.offset.reset": "latest"},
    "of the producer": {"kafka.compression.type": "lz4", "kafka.batch.size": "100000"},
    "password": {
        "kafka.security.protocol": "SASL_SSL",
        "kafka.sasl.username": "me",
        "kafka.sasl.password": "x",
        "kafka.sasl.mechanism": "PLAIN",
    },
}
WRONG = {
    "no such property": ({"kafka.compresion.type": "lz4"}, 'No such configuration property: "compresion.type"'),
    "a choice that is none": ({"kafka.compression.type": "zip"}, 'Invalid value "zip" for configuration property'),
    "no number, of the consumer": ({"kafka.fetch.min.bytes": "x"}, "Invalid value for configuration property"),
    "no number, of the producer": ({"kafka.batch.size": "x"}, "Invalid value for configuration property"),
    "two that do not go together": ({"kafka.acks": "1"}, "`acks` must be set to `all`"),
    "a function": ({"kafka.error_cb": "print"}, "error_cb"),
}


@pytest.mark.parametrize("options", RIGHT.values(), ids=RIGHT)
def test_properties_that_the_clients_know_pass(options: dict[str, str]) -> None:
    clients.check(config_of(group="g", **options))


@pytest.mark.parametrize(("options", "text"), WRONG.values(), ids=WRONG)
@pytest.mark.parametrize("guarantee", ["exactly-once", "at-least-once"])
def test_a_property_that_the_clients_refuse_is_a_problem_of_the_options(
    options: dict[str, str], text: str, guarantee: str
) -> None:
    with pytest.raises(BadConfig) as told:
        clients.check(config_of(group="g", guarantee=guarantee, **options))
    (problem,) = told.value.problems
    assert problem.startswith("kafka.*: librdkafka says: ")
    assert text in problem


def test_members_hear_of_a_rebalance_soon_and_within_the_session() -> None:
    for session, heartbeat in ((10_000, 500), (1_200, 400)):
        made = clients.consumer_settings(config_of(group="g", session_timeout_ms=session))
        assert made["heartbeat.interval.ms"] == heartbeat
    theirs = clients.consumer_settings(config_of(group="g", **{"kafka.heartbeat.interval.ms": "2000"}))
    assert theirs["heartbeat.interval.ms"] == "2000"


def test_what_is_ours_to_set_is_set_whatever_was_passed() -> None:
    # Options refuse these by name; this is what stands behind that.
    config = config_of(group="g")
    config.kafka.update(dict.fromkeys(OWNED, "theirs"))
    consumer = clients.consumer_settings(config)
    reads = ("group.id", "enable.auto.commit", "enable.auto.offset.store", "isolation.level", "session.timeout.ms")
    assert "theirs" not in [consumer[name] for name in reads]
    producer = clients.producer_settings(config, transactional=True)
    writes = ("enable.idempotence", "message.max.bytes", "linger.ms", "transactional.id", "transaction.timeout.ms")
    assert "theirs" not in [producer[name] for name in writes]


def test_a_broker_that_is_away_is_told_once_in_ten_seconds_and_everything_else_each_time() -> None:
    def line(about: str, at: float) -> bool:
        record = logging.LogRecord("headrace.poller", logging.ERROR, "", 0, "%s [%s] %s", (about, "name", "text"), None)
        record.created = at
        return sparing.filter(record)

    sparing = clients.Sparing()
    assert [line("FAIL", at) for at in (100.0, 100.1, 109.9, 110.1, 110.2)] == [True, False, False, True, False]
    assert [line("TXNERR", at) for at in (110.3, 110.4)] == [True, True]
    assert sparing.filter(logging.LogRecord("headrace.poller", logging.INFO, "", 0, "no arguments", None, None))

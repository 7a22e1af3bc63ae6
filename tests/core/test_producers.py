"""One producer after the other: made, given up, replaced, let go of.

Flow: the client is a fake that answers ``init_transactions`` as each test says, and there is no broker.
"""

import threading
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException
from core.records import config_of

from headrace.schemas.errors import Fenced, HeadraceError, NotDelivered, TopicMissing
from headrace.stream import producers
from headrace.stream.producers import REPLACED_MAX, Producers

AWAY = KafkaError._TIMED_OUT
SECONDS_MAX = 10.0


class FakeClient:
    """Answers ``init_transactions`` with what is next in ``answers``, and with yes when there is nothing."""

    made: list["FakeClient"]
    answers: list[KafkaError]
    topics: list[set[str] | KafkaError]  # what there is, by and by; the last answer stays

    def __init__(self, settings: dict[str, Any], logger: Any = None) -> None:
        self.settings = settings
        self.asked = 0
        self.closed = threading.Event()
        FakeClient.made.append(self)

    def init_transactions(self, timeout: float) -> None:
        self.asked += 1
        if FakeClient.answers:
            raise KafkaException(FakeClient.answers.pop(0))

    def list_topics(self, timeout: float) -> Any:
        answer = FakeClient.topics.pop(0) if len(FakeClient.topics) > 1 else FakeClient.topics[0]
        if isinstance(answer, KafkaError):
            raise KafkaException(answer)
        return SimpleNamespace(topics=dict.fromkeys(answer))

    def purge(self) -> None: ...

    def close(self) -> None:
        self.closed.set()


class FakePoller:
    def __init__(self) -> None:
        self.rewound: list[Any] = []

    def committed_at_broker(self, timeout: float, given_up: Callable[[], bool]) -> Any:
        return None if given_up() else {("t", 0): 7}

    def rewind(self, committed: Any = None) -> None:
        self.rewound.append(committed)


@pytest.fixture
def poller(monkeypatch: pytest.MonkeyPatch) -> FakePoller:
    monkeypatch.setattr(producers, "Producer", FakeClient)
    monkeypatch.setattr(producers, "GONE_SECONDS", 0.3)
    monkeypatch.setattr(producers, "GONE_PAUSE_SECONDS", 0.01)
    FakeClient.made, FakeClient.answers, FakeClient.topics = [], [], [{"predictions", "dead-letters"}]
    return FakePoller()


def _producers(poller: Any, *, on_given_up: Callable[[], None] = lambda: None, **options: Any) -> Producers:
    return Producers(config_of(instance="one", **options), poller, batch_bytes_max=1_000, on_given_up=on_given_up)


def test_a_broker_that_is_away_is_asked_again_until_it_answers(poller: FakePoller) -> None:
    FakeClient.answers = [KafkaError(AWAY), KafkaError(AWAY)]
    ours = _producers(poller)
    assert ours.make()
    (client,) = FakeClient.made
    assert (ours.current, client.asked) == (client, 3)


def test_a_broker_that_says_no_is_not_asked_again(poller: FakePoller) -> None:
    FakeClient.answers = [KafkaError(KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED)]
    ours = _producers(poller)
    with pytest.raises(NotDelivered, match="no transactions with this broker"):
        ours.make()
    assert ours.current is None


def test_without_transactions_none_are_begun(poller: FakePoller) -> None:
    ours = _producers(poller, guarantee="at-least-once")
    assert ours.make()
    assert [client.asked for client in FakeClient.made] == [0]


def test_who_is_told_to_give_up_leaves_no_producer_and_says_so(poller: FakePoller) -> None:
    told: list[str] = []
    ours = _producers(poller, on_given_up=lambda: told.append("given up"))
    FakeClient.answers = [KafkaError(AWAY)] * 1_000
    renewing = threading.Thread(target=ours.renew)
    renewing.start()
    time.sleep(0.05)
    ours.giving_up.set()
    renewing.join(SECONDS_MAX)
    assert (ours.current, told, poller.rewound) == (None, ["given up"], [])
    assert all(client.closed.wait(SECONDS_MAX) for client in FakeClient.made)


def test_who_gives_up_asking_where_the_group_is_lets_go_of_the_producer_again(poller: FakePoller) -> None:
    told: list[str] = []
    ours = _producers(poller, guarantee="at-least-once", on_given_up=lambda: told.append("given up"))
    ours.closing = True
    ours.renew()
    (client,) = FakeClient.made
    assert client.closed.wait(SECONDS_MAX)
    assert (ours.current, told, poller.rewound) == (None, ["given up"], [])


def test_the_one_that_is_replaced_is_closed_and_work_goes_back_to_what_the_broker_says(poller: FakePoller) -> None:
    ours = _producers(poller)
    ours.make()
    ours.replace()
    old, new = FakeClient.made
    assert old.closed.wait(SECONDS_MAX)
    assert ours.current is new
    assert not new.closed.is_set()
    assert old.settings["transactional.id"] == new.settings["transactional.id"]
    assert poller.rewound == [{("t", 0): 7}]


def test_one_that_is_replaced_again_and_again_ends_with_a_name(poller: FakePoller) -> None:
    ours = _producers(poller, transaction_timeout_ms=12_345)
    for _ in range(REPLACED_MAX):
        ours.replace()
    with pytest.raises(Fenced, match=r"-one' was fenced 5 times within a minute.*transaction_timeout_ms = 12345"):
        ours.replace()


class Message:
    def topic(self) -> str:
        return "predictions"


@pytest.mark.parametrize(
    ("guarantee", "code", "raised"),
    [
        ("exactly-once", KafkaError.UNKNOWN_TOPIC_OR_PART, TopicMissing),
        ("exactly-once", KafkaError.MSG_SIZE_TOO_LARGE, NotDelivered),
        ("exactly-once", KafkaError._MSG_TIMED_OUT, None),  # its transaction knows
        ("exactly-once", KafkaError._PURGE_QUEUE, None),
        ("at-least-once", KafkaError._MSG_TIMED_OUT, NotDelivered),
        ("at-least-once", KafkaError._PURGE_INFLIGHT, None),
    ],
)
def test_an_output_that_was_refused_for_good_is_told_until_there_is_another_producer(
    poller: FakePoller, guarantee: str, code: int, raised: type[HeadraceError] | None
) -> None:
    ours = _producers(poller, guarantee=guarantee)
    ours.make()
    FakeClient.made[0].settings["on_delivery"](KafkaError(code), Message())
    if raised is not None:
        with pytest.raises(raised, match="publishing"):
            ours.raise_refused(())
    ours.make()
    ours.raise_refused(())


def test_only_the_first_refusal_is_told(poller: FakePoller, caplog: pytest.LogCaptureFixture) -> None:
    ours = _producers(poller, guarantee="at-least-once")
    ours.make()
    for code in (KafkaError.TOPIC_AUTHORIZATION_FAILED, KafkaError._DESTROY, KafkaError._MSG_TIMED_OUT):
        FakeClient.made[0].settings["on_delivery"](KafkaError(code), Message())
    assert [record.message.split(":")[0] for record in caplog.records] == ["an output for predictions was refused"]
    with pytest.raises(TopicMissing, match="TOPIC_AUTHORIZATION_FAILED"):
        ours.raise_refused({"predictions"})


def test_a_topic_that_stays_away_is_named_whatever_the_client_says_of_it(poller: FakePoller) -> None:
    ours = _producers(poller, guarantee="at-least-once")
    ours.make()
    FakeClient.topics = [{"predictions"}]
    FakeClient.made[0].settings["on_delivery"](KafkaError(KafkaError._DESTROY), Message())
    with pytest.raises(TopicMissing, match=r"there is no topic dead-letters on \S+ any more"):
        ours.raise_refused({"predictions", "dead-letters"})
    with pytest.raises(TopicMissing, match=r"there is no topic dead-letters on \S+ any more"):
        ours.raise_gone({"dead-letters"})
    ours.raise_gone({"predictions"})


@pytest.mark.parametrize(
    "answers",
    [
        [set(), set(), {"predictions"}],  # a broker that has just started
        [KafkaError(AWAY)],
        [set(), KafkaError(AWAY)],
    ],
    ids=["it is back", "no answer", "no answer any more"],
)
def test_a_topic_is_not_gone_before_the_broker_has_said_so_for_a_while(
    poller: FakePoller, answers: list[set[str] | KafkaError]
) -> None:
    ours = _producers(poller)
    ours.make()
    FakeClient.topics = answers
    ours.raise_gone({"predictions"})
    assert len(FakeClient.topics) == 1, "it was asked until it was clear"


def test_nobody_waits_for_a_topic_when_partitions_go(poller: FakePoller) -> None:
    ours = _producers(poller)
    ours.make()
    FakeClient.topics = [set()]
    ours.giving_up.set()
    ours.raise_gone({"predictions"})

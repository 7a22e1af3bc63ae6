"""Alerts to several webhooks at once: order, offsets, and that none waits for another."""

import logging
import threading
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import pytest
from core.hooks import Got, Hook, wait_until

from headrace.schemas.alert import Alert, AlertState
from headrace.schemas.webhook import Form, Webhook, networks, parsed
from headrace.stream import outbox
from headrace.stream.forwarding import Forwarder
from headrace.stream.progress import Progress
from headrace.stream.webhooks import Caller

STATES = (AlertState.RAISED, AlertState.WORSE, AlertState.CLEARED)


def _alert(identity: str, state: AlertState = AlertState.RAISED, at: float = 1.0) -> bytes:
    return msgspec.json.encode(Alert(id=identity, at=at, kind="drift", state=state, text="amount moved"))


def _down(status: int = 500) -> Callable[[Got, int], int]:
    return lambda _got, _place: status


class Running:
    """A forwarder at work, and what its webhooks are called."""

    def __init__(self, *urls: str, give_up: float = 3_600.0, caller: Any = None, form: Form = Form.JSON) -> None:
        self.hooks: list[Webhook] = [parsed(url, form) for url in urls]
        self.forwarder = Forwarder(
            self.hooks,
            caller or Caller(networks("127.0.0.1"), seconds=30.0),
            pause_max=0.05,
            give_up=give_up,
            bytes_max=1_000_000,
            record_bytes_max=100_000,
        )
        self.forwarder.start()
        self._next = 0

    def read(self, *values: bytes | None, partition: int = 0) -> None:
        for value in values:
            self.forwarder.take(partition, self._next, value)
            self._next += 1

    def done(self, partition: int = 0) -> int:
        return self.forwarder.committed()[partition][0]


@pytest.fixture
def run() -> Iterator[Callable[..., Running]]:
    started: list[Running] = []

    def run(*urls: str, begin: int = 0, metadata: str = "", **options: Any) -> Running:
        running = Running(*urls, **options)
        running.forwarder.assigned(0, begin, metadata)
        running._next = max(0, begin)
        started.append(running)
        return running

    yield run
    for running in started:
        assert running.forwarder.stop(60.0)


@pytest.fixture
def hook() -> Iterator[Hook]:
    with Hook() as hook:
        yield hook


@pytest.fixture
def other() -> Iterator[Hook]:
    with Hook() as hook:
        yield hook


def test_a_webhook_gets_the_alert_as_it_is(run: Any, hook: Hook) -> None:
    value = b'{"id":"a","at":1,"kind":"drift","state":"raised","text":"moved","of_a_later_version":[1]}'
    running = run(hook.url)
    running.read(value)
    wait_until(lambda: running.done() == 1)
    assert [got.body for got in hook.accepted] == [value]
    assert hook.keys == ["a/raised/1.0"]


def test_slack_gets_its_own_form(run: Any, hook: Hook) -> None:
    running = run(hook.url, form=Form.SLACK)
    running.read(_alert("a"))
    wait_until(lambda: running.done() == 1)
    assert set(msgspec.json.decode(hook.accepted[0].body)) == {"text", "blocks", "unfurl_links", "unfurl_media"}


def test_what_failed_is_tried_again_until_it_is_taken_with_the_same_key(run: Any, hook: Hook) -> None:
    hook.answer = lambda _got, place: 500 if place < 3 else 200
    running = run(hook.url)
    running.read(_alert("a"))
    wait_until(lambda: running.done() == 1)
    assert [got.headers["Idempotency-Key"] for got in hook.got] == ["a/raised/1.0"] * 4
    (counts,) = running.forwarder.counts.values()
    assert (counts.accepted, counts.attempts, counts.given_up) == (1, 4, 0)


def _told(metadata: str) -> dict[str, int]:
    return msgspec.json.decode(metadata) if metadata else {}


def test_nothing_is_committed_before_every_webhook_has_taken_it(run: Any, hook: Hook, other: Hook) -> None:
    hook.answer = _down()
    running = run(hook.url, other.url)
    running.read(*(_alert(f"a{place}") for place in range(20)))
    # The one that is down holds up neither what the other gets nor what it gets next.
    wait_until(lambda: len(other.accepted) == 20 and hook.got)
    # That it was taken is known to the server a moment before it is known to who sent it.
    wait_until(lambda: _told(running.forwarder.committed()[0][1]) == {running.hooks[1].name: 20})
    assert running.forwarder.committed()[0][0] == 0
    hook.answer = _down(200)
    wait_until(lambda: running.done() == 20)
    assert sorted(hook.keys) == sorted(other.keys)
    assert running.forwarder.committed()[0] == (20, "")


def test_a_webhook_that_hangs_holds_up_no_other(run: Any, hook: Hook, other: Hook) -> None:
    released = threading.Event()
    hook.answer = lambda _got, _place: lambda _handler: released.wait(60)
    running = run(hook.url, other.url, caller=Caller(networks("127.0.0.1"), seconds=60.0))
    running.read(*(_alert(f"a{place}") for place in range(20)))
    wait_until(lambda: len(other.accepted) == 20)
    assert len(hook.got) == 1
    released.set()


def test_states_of_one_alert_arrive_in_their_order_whatever_fails(run: Any, hook: Hook) -> None:
    hook.answer = lambda _got, place: 500 if place % 3 else 200
    running = run(hook.url)
    running.read(*(_alert(f"a{place}", state, at) for at, state in enumerate(STATES) for place in range(5)))
    wait_until(lambda: running.done() == 15)
    for place in range(5):
        of_one = [key.split("/")[1] for key in hook.keys if key.startswith(f"a{place}/")]
        assert of_one == [*STATES]


def test_after_a_restart_nobody_gets_again_what_it_has(run: Any, hook: Hook, other: Hook) -> None:
    hook.answer = _down()
    running = run(hook.url, other.url)
    running.read(*(_alert(f"a{place}") for place in range(10)))
    wait_until(lambda: len(other.accepted) == 10)
    wait_until(lambda: "10" in running.forwarder.committed()[0][1])
    offset, metadata = running.forwarder.committed()[0]
    assert running.forwarder.stop(60.0)

    hook.answer = _down(200)
    again = run(hook.url, other.url, begin=offset, metadata=metadata)
    again.read(*(_alert(f"a{place}") for place in range(12)))
    wait_until(lambda: again.done() == 12)
    assert sorted(hook.keys) == sorted(f"a{place}/raised/1.0" for place in range(12))
    assert sorted(other.keys) == sorted(hook.keys), "each of them once"


@pytest.mark.parametrize("metadata", ["", "nonsense", "[1]", '{"somebody":99}', '{"x":"y"}'])
def test_metadata_of_others_means_nothing(run: Any, hook: Hook, metadata: str) -> None:
    running = run(hook.url, begin=3, metadata=metadata)
    running.read(_alert("a"))
    wait_until(lambda: running.done() == 4)
    assert len(hook.accepted) == 1


def test_what_was_given_up_is_logged_and_counted_and_lets_the_offset_go_on(
    run: Any, hook: Hook, other: Hook, caplog: pytest.LogCaptureFixture
) -> None:
    hook.answer = _down()
    with caplog.at_level(logging.ERROR, "headrace.alerts"):
        running = run(hook.url, other.url, give_up=0.3)
        running.read(_alert("a"), _alert("a", AlertState.CLEARED, 2.0))
        wait_until(lambda: running.done() == 2)
    counts = list(running.forwarder.counts.values())
    assert [one.given_up for one in counts] == [2, 0]
    told = [record.getMessage() for record in caplog.records]
    assert len(told) == 2
    assert "alert a/raised/1.0 given up after " in told[0]
    assert told[1].endswith("it is in partition 0, offset 1 (2 given up so far)")
    assert other.keys == ["a/raised/1.0", "a/cleared/2.0"]
    assert "hunter2" not in caplog.text


def test_the_log_says_what_is_the_matter_and_never_the_address(
    run: Any, hook: Hook, caplog: pytest.LogCaptureFixture
) -> None:
    class Broken:
        def send(self, webhook: Webhook, body: bytes, key: str, traceparent: str = "") -> Any:
            raise ValueError(f"no such target {webhook.target}")

    with caplog.at_level(logging.DEBUG):
        running = run(hook.url, caller=Broken())
        running.read(_alert("a"))
        wait_until(lambda: "did not take alert a/raised/1.0: not sent: ValueError; 1 wait" in caplog.text)
    assert "hunter2" not in caplog.text


def test_what_is_no_alert_is_logged_and_stepped_over(run: Any, hook: Hook, caplog: pytest.LogCaptureFixture) -> None:
    running = run(hook.url)
    running.read(b"nonsense", b"{}", b'{"id":"\xff"}', None, b"[" * 50_000, b"x" * 100_001, _alert("a"))
    running.read(_alert("a").replace(b'"raised"', b'"\\u001b[31m\\nWARNING all is well"'))
    wait_until(lambda: running.done() == 8)
    assert hook.keys == ["a/raised/1.0"]
    assert running.forwarder.malformed == 6, "a key that was deleted is none"
    assert "\x1b" not in caplog.text
    assert not any("\n" in record.getMessage() for record in caplog.records), "no line of the log is a record's own"
    assert "partition 0, offset 1: no alert, and not sent: Object missing required field `id`" in caplog.text


def test_what_finds_no_room_stays_in_kafka_and_is_read_again(
    run: Any, hook: Hook, other: Hook, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox, "COUNT_MAX", 8)
    hook.answer = _down()
    running = run(hook.url, other.url)
    log = [_alert(f"a{place}") for place in range(50)]
    for place, value in enumerate(log):
        wait_until(lambda: len(other.accepted) >= place - 4)  # noqa: B023
        running.read(value)
    wait_until(lambda: len(other.accepted) == 50)
    assert running.done() == 0
    assert running.forwarder.to_read_again() == {}, "there is no room yet"
    hook.answer = _down(200)

    def read_again() -> bool:
        for partition, offset in running.forwarder.to_read_again().items():
            running.forwarder.reads_again(partition, offset)
            for at in range(offset, 50):
                running.forwarder.take(partition, at, log[at])
        return bool(running.done() == 50)

    wait_until(read_again)
    assert sorted(hook.keys) == sorted(other.keys), "each of them once, at both"
    assert len(hook.keys) == 50


def test_who_gets_room_while_it_is_decided_where_to_begin_loses_nothing() -> None:
    progress = Progress(0, ["a", "b"])
    progress.leave("a", 5)
    progress.leave("b", 9)
    assert not progress.wants("a", 5)
    assert (progress.places["a"].upto, progress.places["b"].upto) == (5, 9)
    progress.skip("a", 100)
    assert progress.places["a"].upto == 5, "what is left out is not behind us"


def test_markers_of_transactions_leave_no_lag(run: Any, hook: Hook) -> None:
    running = run(hook.url)
    running.read(_alert("a"))
    running.forwarder.ended(0, 5)
    wait_until(lambda: running.done() == 5)


def test_nothing_is_committed_of_a_partition_in_which_nothing_was_read(run: Any, hook: Hook) -> None:
    running = run(hook.url, begin=-1)
    assert running.forwarder.committed() == {}
    running.forwarder.ended(0, 0)
    assert running.forwarder.committed() == {0: (0, "")}


def test_partitions_that_go_are_let_go_of_after_what_is_being_sent(run: Any, hook: Hook) -> None:
    released, begun = threading.Event(), threading.Event()

    def slow(handler: Any) -> None:
        begun.set()
        released.wait(60)
        handler.send_response(200)
        handler.end_headers()

    hook.answer = lambda _got, place: slow if place == 0 else 200
    running = run(hook.url)
    running.forwarder.assigned(1, 0)
    running.read(_alert("a"), _alert("a", AlertState.WORSE))
    assert begun.wait(60)
    threading.Timer(0.2, released.set).start()
    running.forwarder.revoked([0], 60.0)
    assert released.is_set(), "who has it next does not overtake us"
    assert running.done() == 1, "and does not send again what was taken"
    running.forwarder.forget([0])
    running.forwarder.take(1, 0, _alert("b"))
    wait_until(lambda: running.done(1) == 1)
    assert [got.headers["Idempotency-Key"] for got in hook.got] == ["a/raised/1.0", "b/raised/1.0"]
    assert 0 not in running.forwarder.committed()

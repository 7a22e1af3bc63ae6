"""What waits for a webhook: order, pauses, and the end of patience, with a clock that the test sets."""

import itertools
import random
from collections.abc import Iterator

import pytest

from headrace.stream import outbox as module
from headrace.stream.outbox import Outbox, Waiting

PAUSE_MAX, GIVE_UP = 60.0, 3_600.0


def _outbox(*, draw: float = 1.0, bytes_max: int = 1_000_000, give_up: float = GIVE_UP) -> Outbox:
    return Outbox(pause_max=PAUSE_MAX, give_up=give_up, bytes_max=bytes_max, draw=lambda: draw)


def _alert(identity: str, offset: int, partition: int = 0, size: int = 10) -> Waiting:
    return Waiting(identity, partition, offset, b"x" * size, f"{identity}/{offset}")


def _failing(outbox: Outbox, now: float = 0.0) -> Iterator[tuple[float, Waiting]]:
    """Yield when what is tried, while every attempt fails."""
    while (found := outbox.next(now)) is not None:
        if isinstance(found, Waiting):
            yield now, found
            outbox.failed(found, now)
        else:
            now += found


def test_pauses_double_up_to_the_longest() -> None:
    outbox = _outbox()
    outbox.put(_alert("a", 0), 0.0)
    times = [now for now, _ in _failing(outbox)]
    pauses = [after - before for before, after in itertools.pairwise(times)]
    assert pauses[:9] == [0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0]
    assert max(pauses) == PAUSE_MAX


@pytest.mark.parametrize("draw", [0.0, 0.5, 1.0])
def test_a_pause_is_between_half_and_all_of_its_length(draw: float) -> None:
    outbox = _outbox(draw=draw)
    outbox.put(_alert("a", 0), 0.0)
    times = [now for now, _ in _failing(outbox)]
    assert times[1] == 0.5 * (0.5 + 0.5 * draw)
    assert times[-1] - times[-2] == PAUSE_MAX * (0.5 + 0.5 * draw)


def test_an_alert_is_given_up_after_its_time_and_not_before() -> None:
    outbox = _outbox()
    one = _alert("a", 0)
    outbox.put(one, 100.0)
    assert outbox.next(100.0) is one
    assert not outbox.failed(one, 100.0 + GIVE_UP - 1.0)
    assert outbox.expire(100.0 + GIVE_UP - 0.5) == []
    assert outbox.expire(100.0 + GIVE_UP) == [one]
    assert len(outbox) == 0
    assert outbox.next(100.0 + GIVE_UP) is None


def test_an_attempt_that_ends_after_the_time_is_up_was_the_last() -> None:
    outbox = _outbox()
    one = _alert("a", 0)
    outbox.put(one, 0.0)
    assert outbox.next(0.0) is one
    assert outbox.expire(2 * GIVE_UP) == [], "what is being sent may still be taken"
    assert outbox.failed(one, 2 * GIVE_UP)
    assert len(outbox) == 0


def test_of_one_id_the_next_waits_for_the_one_before() -> None:
    outbox = _outbox()
    first, second, other = _alert("a", 0), _alert("a", 1), _alert("b", 2)
    for one in (first, second, other):
        outbox.put(one, 0.0)
    assert outbox.next(0.0) is first
    outbox.failed(first, 0.0)
    assert outbox.next(0.5) is other, "the webhook is tried again, with another id"
    outbox.accepted(other)
    assert outbox.next(0.5) is first
    outbox.accepted(first)
    assert outbox.next(0.5) is second


def test_one_that_a_webhook_cannot_digest_holds_up_no_other_id() -> None:
    outbox = _outbox()
    poison = _alert("poison", 0)
    outbox.put(poison, 0.0)
    taken, now = [], 0.0
    for offset in range(1, 200):
        outbox.put(_alert(f"a{offset}", offset), now)
        while isinstance(found := outbox.next(now), Waiting):
            if found is poison:
                outbox.failed(found, now)
            else:
                outbox.accepted(found)
                taken.append(found.offset)
        now += 1.0
    assert taken == list(range(1, 200))
    assert poison.attempts < 12, "it pauses longer and longer by itself, though the webhook is well"


def test_a_webhook_that_is_down_is_asked_once_in_a_pause_however_much_waits() -> None:
    outbox = _outbox()
    for offset in range(1_000):
        outbox.put(_alert(f"a{offset}", offset), 0.0)
    tried = list(itertools.islice(_failing(outbox), 20))
    assert tried[-1][0] > 600.0
    # Each time another, so that one which the webhook cannot digest does not look like a webhook that is down.
    assert len({one for _, one in tried}) == 20


def test_everything_arrives_within_two_pauses_of_a_webhook_that_is_back() -> None:
    outbox = _outbox()
    for offset in range(100):
        outbox.put(_alert(f"a{offset % 30}", offset), 0.0)
    back, now, taken = 1_000.0, 0.0, []
    while (found := outbox.next(now)) is not None:
        if not isinstance(found, Waiting):
            now += found
        elif now < back:
            outbox.failed(found, now)
        else:
            outbox.accepted(found)
            taken.append(found)
    assert len(taken) == 100
    assert now - back <= 2 * PAUSE_MAX


@pytest.mark.parametrize(("after", "pause"), [(0.0, 0.5), (7.0, 7.0), (1e9, PAUSE_MAX)])
def test_a_pause_that_was_asked_for_is_kept_up_to_the_longest(after: float, pause: float) -> None:
    outbox = _outbox()
    one = _alert("a", 0)
    outbox.put(one, 0.0)
    assert outbox.next(0.0) is one
    outbox.failed(one, 0.0, after=after)
    assert outbox.next(0.0) == pause


def test_it_is_full_by_count_or_by_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "COUNT_MAX", 4)
    outbox = _outbox(bytes_max=1_000)
    for offset in range(4):
        assert not outbox.full
        outbox.put(_alert("a", offset), 0.0)
    assert outbox.full
    assert not outbox.roomy
    by_bytes = _outbox(bytes_max=1_000)
    by_bytes.put(_alert("a", 0, size=1_000), 0.0)
    assert by_bytes.full
    one = by_bytes.next(0.0)
    assert isinstance(one, Waiting)
    by_bytes.accepted(one)
    assert by_bytes.roomy


def test_what_belongs_to_somebody_else_is_let_go_of() -> None:
    outbox = _outbox()
    theirs, ours = _alert("a", 0, partition=1), _alert("b", 0, partition=2)
    outbox.put(theirs, 0.0)
    outbox.put(ours, 0.0)
    assert outbox.next(0.0) is theirs
    outbox.forget([1])
    assert not outbox.failed(theirs, 0.0), "it is not given up: somebody else sends it"
    assert outbox.next(1.0) is ours
    outbox.accepted(ours)
    assert outbox.next(1.0) is None
    assert len(outbox) == 0


@pytest.mark.parametrize("round_", range(20))
def test_whatever_happens_each_is_taken_or_given_up_once_and_in_the_order_of_its_id(seed: int, round_: int) -> None:
    """The oracle: per id, what came, in that order."""
    rng = random.Random(f"{seed} {round_}")
    outbox = Outbox(pause_max=8.0, give_up=40.0, bytes_max=1_000_000, draw=rng.random)
    came: dict[str, list[int]] = {}
    ended: dict[str, list[int]] = {}
    now = 0.0
    for offset in range(400):
        identity = rng.choice("abcde")
        outbox.put(_alert(identity, offset), now)
        came.setdefault(identity, []).append(offset)
        down = rng.random() < 0.7
        for _ in range(rng.randrange(4)):
            for gone in outbox.expire(now):
                ended.setdefault(gone.identity, []).append(gone.offset)
            found = outbox.next(now)
            if not isinstance(found, Waiting):
                now += rng.random() * (found or 1.0)
                continue
            now += rng.random()
            if not down:
                outbox.accepted(found)
                ended.setdefault(found.identity, []).append(found.offset)
            elif outbox.failed(found, now):
                ended.setdefault(found.identity, []).append(found.offset)
    for gone in outbox.expire(now + 1_000.0):
        ended.setdefault(gone.identity, []).append(gone.offset)
    assert ended == came
    assert len(outbox) == 0

"""When a partition is well, when it is red, and when it ends the worker."""

import pytest

from headrace.stream.health import Health

PLACE = ("t", 0)


@pytest.mark.parametrize(
    ("lag", "still_ms", "red", "ends"),
    [
        (0, 0.0, False, False),
        (0, 1e9, False, False),
        (1, 999.9, False, False),
        (1, 1_000.0, True, False),
        (1, 4_999.9, True, False),
        (1, 5_000.0, True, True),
        (-3, 1e9, False, False),
    ],
)
def test_a_partition_is_red_only_with_lag_and_without_movement(
    lag: int, still_ms: float, red: bool, ends: bool
) -> None:
    health = Health(stall_red_ms=1_000, stall_exit_ms=5_000)
    assert health.observe(PLACE, lag=lag, still_ms=still_ms) is ends
    assert health.red == (["t[0]"] if red else [])
    assert health.lag == {PLACE: lag}


def test_a_partition_that_moves_again_is_no_longer_red() -> None:
    health = Health(stall_red_ms=1_000, stall_exit_ms=5_000)
    health.observe(PLACE, lag=1, still_ms=2_000)
    health.observe(PLACE, lag=1, still_ms=0)
    assert health.red == []


def test_a_partition_that_caught_up_is_no_longer_red() -> None:
    health = Health(stall_red_ms=1_000, stall_exit_ms=5_000)
    health.observe(PLACE, lag=1, still_ms=2_000)
    health.observe(PLACE, lag=0, still_ms=9_000)
    assert health.red == []


def test_partitions_that_are_red_are_named_in_order() -> None:
    health = Health(stall_red_ms=1, stall_exit_ms=5_000)
    for place in (("t", 10), ("t", 2), ("a", 3)):
        health.observe(place, lag=1, still_ms=2)
    assert health.red == ["a[3]", "t[2]", "t[10]"]


def test_a_partition_that_went_to_another_worker_is_forgotten() -> None:
    health = Health(stall_red_ms=1, stall_exit_ms=5_000)
    for place in (("t", 0), ("t", 1), ("t", 2)):
        health.observe(place, lag=1, still_ms=2)
    health.forget_all_but([("t", 1), ("t", 7)])
    assert health.red == ["t[1]"], "what is red elsewhere must not take traffic from this worker for ever"
    assert health.lag == {("t", 1): 1}
    health.forget_all_but([])
    assert (health.red, health.lag) == ([], {})

"""When a partition is well, when it is red, and when it ends the worker."""

import asyncio
import errno
import resource
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from core.records import config_of

from headrace.schemas.errors import BadConfig
from headrace.stream import run
from headrace.stream.health import Health, check_port

ROOT = Path(__file__).resolve().parents[2]

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


@pytest.fixture
def taken() -> Iterator[int]:
    """A port on which somebody listens."""
    with socket.socket() as somebody:
        somebody.bind(("127.0.0.1", 0))
        somebody.listen()
        yield somebody.getsockname()[1]


def test_a_port_that_is_taken_ends_the_start_at_once_with_the_option_and_what_to_do(taken: int, tmp_path: Path) -> None:
    # No broker is there either: a worker that looked at the port last would wait for one. And a page that imports
    # models of River's has half a second of its own.
    command = [sys.executable, "-m", "headrace.stream.cli", "run", str(ROOT / "benchmarks/stateless")]
    command += ["--broker", "127.0.0.1:9", "--set", f"web_port={taken}", "--set", f"state_dir={tmp_path}"]
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, timeout=30, check=False, text=True)
    now = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith("BAD_CONFIG: ")
    assert done.stderr.splitlines()[1:] == [
        f"  web_port = {taken}: cannot listen on 127.0.0.1:{taken} (Address already in use); "
        "take another, 0 for a free one, -1 for none"
    ]
    # Its own processor time, because the machine may be busy with something else.
    assert now.ru_utime + now.ru_stime - used.ru_utime - used.ru_stime < 2


def test_a_port_that_is_free_or_is_to_be_found_or_not_used_is_well(taken: int) -> None:
    with pytest.raises(BadConfig):
        check_port(taken)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        free = probe.getsockname()[1]
    for port in (free, 0, -1):
        check_port(port)


@pytest.mark.parametrize(
    ("raised", "port", "told"),
    [
        (errno.EADDRINUSE, 6066, BadConfig),
        (errno.EADDRINUSE, 0, OSError),  # a free one that somebody else took: nothing is wrong with the option
        (errno.ENOSPC, 6066, OSError),
    ],
)
def test_a_port_that_is_taken_while_the_broker_is_waited_for_is_told_the_same(
    raised: int, port: int, told: type[BaseException]
) -> None:
    class Late:
        async def start(self) -> None:
            raise OSError(raised, "while starting")

    late: Any = Late()
    with pytest.raises(told):
        asyncio.run(run._start(late, config_of(web_port=port)))

"""When a partition is well, when it is red, and when it ends the worker."""

import asyncio
import errno
import http.client
import json
import resource
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Self

import confluent_kafka
import pytest
from core.records import config_of, transaction
from prometheus_client.parser import text_string_to_metric_families

from headrace.schemas.errors import BadConfig
from headrace.stream import run
from headrace.stream.broker import EmbeddedBroker
from headrace.stream.health import Health, Standing, check_port
from headrace.stream.transport import _keep_pages_home

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


READY = Standing()


def _health(standing: Standing = READY) -> Health:
    health = Health(stall_red_ms=1_000, stall_exit_ms=5_000)
    health.standing = lambda: standing
    return health


def test_a_worker_to_which_nothing_happens_is_live_ready_and_started() -> None:
    health = _health()
    health.note_beat(now=100.0, due=99.9)
    assert [page(100.0).word for page in (health.live, health.ready, health.started)] == ["live", "ready", "started"]
    assert health.live(100.0) == (True, "live", {"live": True, "still": [], "late_seconds": 0.0, "broker": True})
    assert health.delay == pytest.approx(0.1)


def test_a_worker_of_which_the_event_loop_does_not_tick_hangs() -> None:
    health = _health()
    assert health.live(1e9).well, "it has not begun to tick"
    health.note_beat(now=100.0, due=100.0)
    assert health.live(110.4).word == "live"
    answer = health.live(110.6)
    assert (answer.well, answer.word) == (False, "hangs")
    assert not health.ready(110.6).well


def test_a_worker_with_a_partition_that_stands_still_is_stalled_and_not_ready() -> None:
    health = _health()
    health.observe(PLACE, lag=1, still_ms=2_000)
    assert (health.live(0.0).well, health.live(0.0).word) == (False, "stalled")
    assert health.live(0.0).details["still"] == health.ready(0.0).details["still"] == ["t[0]"]
    assert not health.ready(0.0).well


def test_while_the_broker_is_away_a_worker_stays_live_and_is_not_ready() -> None:
    health = _health(Standing(broker=False))
    health.observe(PLACE, lag=1, still_ms=2_000)
    assert health.live(0.0).well, "a restart would not bring the broker back"
    assert not health.ready(0.0).well
    assert health.ready(0.0).details["missing"] == ["no broker answers"]


@pytest.mark.parametrize(
    ("standing", "missing"),
    [
        (Standing(assigned=False), "no partitions were assigned yet"),
        (Standing(rebalancing=True), "a rebalance is under way"),
        (Standing(recovering=(3, 5)), "the memory of partitions [3, 5] is being made again"),
        (Standing(producer=False), "there is no producer"),
        (Standing(broker=False), "no broker answers"),
    ],
)
def test_a_worker_that_lacks_something_is_live_and_not_ready_and_says_what(standing: Standing, missing: str) -> None:
    health = _health(standing)
    answer = health.ready(0.0)
    assert (answer.well, answer.word, answer.details["missing"]) == (False, "unready", [missing])
    assert health.live(0.0).well


def test_a_worker_has_started_once_it_had_all_that_it_needs_and_has_started_ever_since() -> None:
    health = _health(Standing(assigned=False))
    assert (health.started(0.0).well, health.started(0.0).word) == (False, "starting")
    for standing in (Standing(producer=False), Standing(recovering=(1,))):
        health.standing = lambda standing=standing: standing
        assert not health.started(0.0).well
    health.standing = Standing
    assert (health.started(0.0).well, health.started(0.0).word) == (True, "started")
    health.standing = lambda: Standing(assigned=False, producer=False, broker=False)
    assert health.started(0.0).well


@pytest.mark.parametrize(
    ("bind", "options", "served"),
    [
        ("0.0.0.0", None, "127.0.0.1"),
        ("0.0.0.0", "127.0.0.1", "127.0.0.1"),
        ("0.0.0.0", "0.0.0.0", "0.0.0.0"),
        ("10.1.2.3", "10.1.2.3", "10.1.2.3"),
        ("127.0.0.1", "127.0.0.1", "127.0.0.1"),
    ],
)
def test_pages_stay_at_home_unless_a_worker_is_told_otherwise(bind: str, options: str | None, served: str) -> None:
    app = SimpleNamespace(
        conf=SimpleNamespace(web_bind=bind), headrace=options and config_of(web_host=options, page=False)
    )
    _keep_pages_home(app)
    assert app.conf.web_bind == served
    assert not app.conf.web_tables_enabled


def test_an_address_that_is_not_of_this_host_ends_the_start_with_its_name() -> None:
    with pytest.raises(BadConfig, match=r"cannot listen on 192\.0\.2\.1:\d+"):
        check_port(6066, "192.0.2.1")


PAGES_SECONDS_MAX = 60


class Served:
    """A worker with its pages, on an embedded broker."""

    def __init__(self, folder: Path) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.broker = EmbeddedBroker()
        self.folder = folder

    def __enter__(self) -> Self:
        self.broker.__enter__()
        client = confluent_kafka.Producer({"bootstrap.servers": self.broker.address, "log_level": 0})
        for number in range(100):
            client.produce("transactions", transaction(id=f"p{number}"), b"card-7")
        client.produce("transactions", b"{", b"card-7")
        assert client.flush(30) == 0
        settings = (f"web_port={self.port}", f"state_dir={self.folder}", "guarantee=at-least-once")
        command = [sys.executable, "-m", "headrace.stream.cli", "run", str(ROOT / "benchmarks/stateless")]
        command += ["--broker", self.broker.address, *(part for one in settings for part in ("--set", one))]
        self.worker = subprocess.Popen(command, cwd=self.folder, stderr=subprocess.DEVNULL)
        return self

    def __exit__(self, *_: object) -> None:
        self.worker.kill()
        self.worker.wait(30)
        self.broker.__exit__(None, None, None)

    def get(self, path: str, **headers: str) -> tuple[int, str, str]:
        client = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            client.request("GET", path, headers={name.replace("_", "-"): value for name, value in headers.items()})
            answer = client.getresponse()
            return answer.status, answer.headers["Content-Type"], answer.read().decode()
        except OSError:
            return 0, "", ""
        finally:
            client.close()

    def wait_until(self, happened: Callable[[], bool]) -> None:
        deadline = time.monotonic() + PAGES_SECONDS_MAX
        while not happened():
            assert self.worker.poll() is None, "the worker has ended"
            assert time.monotonic() < deadline
            time.sleep(0.05)


def test_a_worker_serves_its_health_in_a_word_and_its_metrics_as_prometheus_reads_them(tmp_path: Path) -> None:
    with Served(tmp_path) as served:
        served.wait_until(lambda: served.get("/health/started")[0] == 200)
        served.wait_until(lambda: served.get("/health/ready")[0] == 200)
        assert served.get("/health/live") == (200, "text/plain; charset=utf-8", "live\n")
        assert served.get("/health/ready")[2] == "ready\n"
        assert served.get("/health/started")[2] == "started\n"
        status, kind, text = served.get("/health/ready?verbose")
        assert (status, kind.split(";")[0]) == (200, "application/json")
        assert json.loads(text)["missing"] == []
        # Whoever asks through a proxy on this host is not of this host.
        assert served.get("/health/ready?verbose", X_Forwarded_For="10.1.2.3")[2] == "ready\n"
        served.wait_until(lambda: "\nheadrace_predictions_total 100\n" in served.get("/metrics")[2])
        # At least once, readers have the predictions before the offsets are committed.
        served.wait_until(lambda: 'headrace_commits_total{result="committed"} 0' not in served.get("/metrics")[2])
        served.wait_until(lambda: 'headrace_consumer_lag_records{topic="transactions"' in served.get("/metrics")[2])
        status, kind, text = served.get("/metrics")
        assert (status, kind) == (200, "text/plain; version=0.0.4; charset=utf-8")
        found = {}
        for family in text_string_to_metric_families(text):
            found |= {(one.name, *sorted(one.labels.values())): one.value for one in family.samples}
        assert found["headrace_events_consumed_total", "transactions"] == 101
        assert found["headrace_dead_letters_total", "not_json"] == 1
        assert found["headrace_health", "ready"] == 1
        assert found["headrace_event_latency_seconds_count",] == 100
        assert found["headrace_commits_total", "committed"] >= 1
        assert found["headrace_partitions_assigned",] == 4
        assert sum(value for (name, *_), value in found.items() if name == "headrace_consumer_lag_records") == 0


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
    command += ["--log-format", "text"]
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

"""What ``headrace top`` shows of workers' pages, and that it stays within the terminal."""

import copy
import json
import os
import pty
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from core.records import config_of
from core.test_page import TOKEN, Served, _alert, _counted

from headrace.schemas.errors import BadConfig, WorkerMissing
from headrace.stream import top
from headrace.stream.board import Group, Member, Standing
from headrace.stream.follower import Follower, Sighting, address
from headrace.stream.frame import UNASKED, frame, summary, wide

HOSTILE = "c\x1b[2J\x07\n\u202e7"
NOW = 1_000.0


def _snapshot(instance: str = "host-0", **changes: Any) -> dict[str, Any]:
    """What a page says: of a group of two workers, of which it is one."""
    told: dict[str, Any] = {
        "number": 3,
        "at": NOW,
        "worker": {
            "run": "r1",
            "instance": instance,
            "host": "a",
            "group": "fraud",
            "guarantee": "exactly-once",
            "since": NOW - 7_300,
            "pipeline": "fraud",
            "version": "1",
            "kind": "binary",
            "topics": {"events": "transactions", "labels": "labels"},
        },
        "rates": {
            "headrace_events_consumed_total": {"transactions": 1_000.0},
            "headrace_predictions_total": {"": 990.0},
        },
        "totals": {
            "headrace_events_consumed_total": {"transactions": 5_000},
            "headrace_predictions_total": {"": 4_990},
            "headrace_dead_letters_total": {"not_json": 2, "wrong_type": 0},
        },
        "latency": {"p50": 0.009, "p99": 0.042, "count": 9, "seconds": 15.0},
        "lag": {"records": 7.0, "seconds": 0.2},
        "busy": {"decode": 0.01, "score": 0.5, "encode": 0.0, "send": 0.0, "commit": 0.1},
        "waiting": {"events": 10, "labels": 0},
        "partitions": [
            {"topic": topic, "partition": one, "lag": 7.0, "lag_seconds": 0.2, "recovering": None, "keys": 1}
            for topic in ("acknowledgements", "transactions", "labels")
            for one in (0, 1)
        ],
        "quality": {
            "static": {"log_loss": {"recent": 0.25, "overall": 0.3}, "roc_auc": {"recent": 0.9}},
            "combined": {"log_loss": {"recent": 0.2}},
        },
        "health": {"live": "live", "ready": "ready", "missing": [], "still": []},
        "group": {"known": False, "trouble": "the broker does not tell", "at": None, "members": [], "partitions": []},
        "alerts": [
            {
                "id": "a1",
                "at": NOW - 70,
                "since": NOW - 130,
                "severity": "high",
                "state": "raised",
                "series": "amount",
                "slice": "merchant=m7",
                "text": f"amount moved {HOSTILE}",
                "acknowledged": {"at": NOW, "by": "ada", "note": ""},
            }
        ],
        "drift": [
            {
                "series": "amount",
                "slice": "merchant=m7",
                "at": NOW,
                "state": "raised",
                "severity": "high",
                "distances": {},
            },
            {
                "series": "score",
                "slice": "",
                "at": NOW - 9,
                "state": "cleared",
                "severity": "low",
                "distances": {"psi": 0.4},
            },
        ],
        "predictions": [
            {
                "published": NOW - 1,
                "id": f"t{one}-{HOSTILE}",
                "at": NOW,
                "key": "カード" * 9,
                "score": 0.125,
                "static": 0.25,
                "online": None,
                "flags": ["late"],
            }
            for one in range(12)
        ],
        "dead_letters": [
            {
                "at": NOW - 65,
                "topic": "transactions",
                "partition": 0,
                "offset": 9,
                "reason": "not_json",
                "message": HOSTILE,
            }
        ],
        "point": {"at": NOW, "rate": 1.0},
    }
    return {**told, **changes}


def _seen(*snapshots: dict[str, Any], trouble: str = "") -> list[Sighting]:
    return [Sighting(f"http://h{n}", one, (), 3.0 if trouble else 0.1, trouble) for n, one in enumerate(snapshots)]


def _known() -> dict[str, Any]:
    group = Group()
    members = [
        Member("host-0", "/10.0.0.1", (("transactions", 0), ("labels", 0))),
        Member("host-1", "/10.0.0.2", (("transactions", 1), ("labels", 1))),
    ]
    for at, moved in ((10.0, 0), (12.0, 200)):
        standings = [Standing(topic, n, 100 + moved, 400 + n) for topic in ("transactions", "labels") for n in (0, 1)]
        group.take(at, members, standings)
    return group.told()


HISTORY = [{"rate": float(one)} for one in range(300)]


@pytest.mark.parametrize("colour", [True, False])
@pytest.mark.parametrize(("width", "height"), [(80, 24), (80, None), (120, 40), (40, 10), (300, 100), (10, 1)])
def test_no_line_is_wider_than_the_terminal_and_no_text_moves_the_cursor(
    width: int, height: int | None, colour: bool
) -> None:
    many = _snapshot(
        partitions=[
            {"topic": topic, "partition": one, "lag": 1e12, "lag_seconds": 1e9, "recovering": 1e12, "keys": 1}
            for topic in ("transactions", "labels")
            for one in range(300)
        ],
        alerts=_snapshot()["alerts"] * 20,
    )
    many["worker"] = {**many["worker"], "pipeline": "p" * 200, "instance": "host" * 50}
    for told in (summary(_seen(many, _snapshot("host-1"), trouble="gone" * 90), NOW), summary([], NOW)):
        lines = frame(told, HISTORY, width, height, colour=colour)
        assert height is None or len(lines) <= height
        for line in lines:
            plain = line.replace("\x1b[", "")
            for paint in ("0m", "1m", "2m", "31m", "32m", "33m"):
                plain = plain.replace(paint, "") if colour else plain
            assert wide(plain) <= max(width, 40)
            assert plain.isprintable(), plain
            assert colour or "\x1b" not in line


def test_a_small_terminal_has_everything_that_somebody_looks_for() -> None:
    text = "\n".join(frame(summary(_seen(_snapshot()), NOW), HISTORY, 80, 23, colour=False))
    for word in (
        "fraud 1, group fraud, exactly-once, up 2 h",
        "990 /s         4,990",
        "p50 9.0 ms  p99 42.0 ms",
        "28 records, 0.2 s",
        "score 50%, commit 10%",
        "static          0.2500     0.9000",
        "combined        0.2000",
        "host-0              ready        0-1",
        "0     host-0                            7               7   0.2 s",
        "ALERTS       1 open",
        "high         2 min  seen by ada: amount moved c·[2J···7, merchant=m7",
        "DEAD LETTERS     not_json 2",
        "1 min ago  transactions[0] offset 9",
        "PREDICTIONS 3/12",
        "t0-c·[2J···7",
        "0.1250   0.2500           late",
    ):
        assert word in text, text


def test_what_was_said_of_an_alert_that_is_open_is_not_told_twice_and_what_is_over_is_told_last() -> None:
    text = "\n".join(frame(summary(_seen(_snapshot()), NOW), [], 80, None, colour=False))
    assert text.count("amount") == 1
    assert "cleared        9 s  score: psi 0.400" in text


def test_counts_of_several_workers_are_added_up_and_of_latencies_the_slowest_is_told() -> None:
    other = _snapshot("host-1", latency={"p50": 0.001, "p99": 0.5, "count": 9})
    told = summary(_seen(_snapshot(), other), NOW)
    assert told["per_second"] == {"events": 2_000.0, "predictions": 1_980.0, "labels": 0.0, "dead_letters": 0.0}
    assert told["latency_ms"] == {"p50": 9.0, "p99": 500.0}
    assert told["dead_letters"]["reasons"] == {"not_json": 4}
    assert [(one["name"], one["url"]) for one in told["workers"]] == [("host-0", "http://h0"), ("host-1", "http://h1")]


def test_a_worker_whose_page_nobody_named_is_known_from_the_broker_with_its_partitions() -> None:
    told = summary(_seen(_snapshot(group=_known())), NOW)
    mine, theirs = told["workers"]
    assert (mine["name"], mine["state"], mine["partitions"]) == ("host-0", "ready", ["transactions:0", "labels:0"])
    assert (theirs["name"], theirs["state"], theirs["url"]) == ("host-1", "in the group", None)
    assert theirs["partitions"] == ["transactions:1", "labels:1"]
    assert theirs["per_second"] == 100.0, "the rate at which the events are committed, without the labels"
    assert theirs["lag"] == 202
    assert told["group_trouble"] == ""


def test_alerts_are_as_old_as_the_events_say() -> None:
    snapshot = _snapshot()
    (alert, *_), at = summary(_seen(snapshot), NOW + 1e7)["alerts"], NOW
    assert alert["age_seconds"] == at - alert["since"]


def test_what_the_board_says_before_it_has_asked_is_known_here() -> None:
    assert Group().told()["trouble"] == UNASKED


def test_snapshots_are_left_alone_and_the_summary_is_json() -> None:
    snapshot = _snapshot(group=_known())
    before = copy.deepcopy(snapshot)
    assert json.loads(json.dumps(summary(_seen(snapshot), NOW)))["at"] == NOW
    assert snapshot == before


# From pages that answer, and do not.


@pytest.fixture
def served() -> Iterator[Served]:
    one = Served(web_token=TOKEN)
    _counted(one.telemetry, 5)
    one.page._board.alerts.take(_alert())
    one.page._board.group.missed("the broker does not tell")
    yield one
    one.close()


def _until(happened: Any) -> None:
    deadline = time.monotonic() + 60
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_once_prints_a_frame_and_json_one_object(served: Served, capsys: pytest.CaptureFixture[str]) -> None:
    where, config = [f"127.0.0.1:{served.port}"], config_of(web_token=TOKEN)
    assert top.main(where, config, once=True, as_json=False) == 0
    shown = capsys.readouterr().out
    assert "host-0" in shown
    assert "1 open" in shown
    assert "\x1b" not in shown
    assert top.main(where, config, once=False, as_json=True) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["total"]["predictions"] == 5
    assert told["alerts"][0]["id"] == "a1"


def test_a_page_that_wants_another_token_ends_it_and_a_worker_that_is_not_there_too(served: Served) -> None:
    with pytest.raises(BadConfig, match="wants its token"):
        top.main([f"http://127.0.0.1:{served.port}"], config_of(), once=True, as_json=False)
    with pytest.raises(WorkerMissing, match=r"http://127\.0\.0\.1:9: Connection refused"):
        top.main(["127.0.0.1:9"], config_of(), once=True, as_json=False)
    with pytest.raises(BadConfig, match="top: where"):
        top.main([], config_of(), once=True, as_json=False)


def test_web_port_says_where_when_nobody_does(served: Served, capsys: pytest.CaptureFixture[str]) -> None:
    for host in ("127.0.0.1", "0.0.0.0"):
        config = config_of(web_token=TOKEN, web_host=host, web_port=served.port)
        assert top.main([], config, once=True, as_json=True) == 0
        (worker,) = json.loads(capsys.readouterr().out)["workers"]
        assert worker["url"] == f"http://127.0.0.1:{served.port}"


def test_a_worker_that_goes_away_is_told_and_waited_for() -> None:
    first = Served()
    follower = Follower(address(f"127.0.0.1:{first.port}"), "", threading.Event())
    follower.start()
    try:
        _until(lambda: follower.sighting().snapshot)
        assert follower.sighting().trouble == ""
    finally:
        first.close()
    _until(lambda: follower.sighting().trouble == "Connection refused")
    told = summary([follower.sighting()], NOW)
    assert [one["state"] for one in told["workers"]] == ["silent"]
    shown = "\n".join(frame(told, [], 200, 24, colour=False))
    assert f"looking again every second: {follower.url} (Connection refused)" in shown
    again = Served(port=first.port)
    try:
        _until(lambda: follower.sighting().trouble == "")
    finally:
        again.close()


@pytest.mark.parametrize(
    "answer", [b"HTTP/1.1 200 OK\r\n\r\ndata: [1]\n\n", b"HTTP/1.1 404 no\r\n\r\n", b"SSH-2.0\r\n"]
)
def test_whoever_answers_and_is_no_worker_is_told(answer: bytes) -> None:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as server:

        def once() -> None:
            client, _ = server.accept()
            client.recv(4_096)
            client.sendall(answer)
            client.close()

        threading.Thread(target=once, daemon=True).start()
        follower = Follower(address(f"127.0.0.1:{server.getsockname()[1]}"), "", threading.Event())
        assert "no page of a worker" in follower._follow()


def test_off_a_terminal_it_is_one_frame_and_nothing_heavy_is_loaded(served: Served, tmp_path: Path) -> None:
    code = f"""
import sys
from headrace.stream import cli
try:
    cli.main(["top", "http://127.0.0.1:{served.port}"])
finally:
    print(sorted({{"confluent_kafka", "faust", "numpy", "river", "asyncio"}} & set(sys.modules)), file=sys.stderr)
"""
    environ = {"HEADRACE_WEB_TOKEN": TOKEN, "PATH": "", "COLUMNS": "90"}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=tmp_path, env=environ, capture_output=True, text=True, check=True, timeout=60)
    assert done.stderr == "[]\n"
    assert "PREDICTIONS" in done.stdout
    assert all(wide(line) <= 90 for line in done.stdout.splitlines())


def test_it_fills_the_terminal_whose_size_changes_while_it_runs(served: Served) -> None:
    ours, its = pty.openpty()
    termios.tcsetwinsize(its, (24, 80))
    command = [sys.executable, "-m", "headrace.stream.cli", "top", f"http://127.0.0.1:{served.port}"]
    environ = {**os.environ, "HEADRACE_WEB_TOKEN": TOKEN, "TERM": "xterm-256color"}
    environ = {name: value for name, value in environ.items() if name not in {"COLUMNS", "LINES"}}
    shown = b""

    def drawn() -> set[int]:
        """Read on, and return how many lines each frame had."""
        nonlocal shown
        shown += os.read(ours, 65_536)
        return {one.count(b"\r\n") + 1 for one in shown.split(b"\x1b[H")[1:] if one.endswith(b"\x1b[J")}

    process = subprocess.Popen(command, stdin=its, stdout=its, env=environ)
    try:
        _until(lambda: drawn() == {24})
        termios.tcsetwinsize(its, (40, 120))
        _until(lambda: drawn() == {24, 40})
        os.write(ours, b"q")
        assert process.wait(60) == 0
    finally:
        process.kill()
        process.wait()
        os.close(ours)
        os.close(its)

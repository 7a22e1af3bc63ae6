"""What is on the page, who may see it, and what its button does."""

import asyncio
import http.client
import json
import socket
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import confluent_kafka
import msgspec
import numpy as np
import pytest
from aiohttp import web
from core.records import config_of
from headrace.examples.fraud.pipeline import pipeline

from headrace.schemas.acknowledgement import Acknowledgement
from headrace.schemas.alert import Alert, AlertState, Evidence, Severity
from headrace.schemas.config import Given, configure
from headrace.schemas.dead_letter import Reason, Rejection
from headrace.schemas.errors import BadConfig, BrokerNotAvailable
from headrace.stream import alerts as alerts_of
from headrace.stream import board, fan, page
from headrace.stream.board import Alerts, Group, Member, Standing
from headrace.stream.broker import EmbeddedBroker
from headrace.stream.fan import Fan
from headrace.stream.health import Health
from headrace.stream.page import Page
from headrace.stream.telemetry import Letter, Step, Tally, Telemetry
from headrace.stream.view import View, quantile

FOLDER = Path(page.__file__).parent
TOKEN = "correct-horse-battery-staple"
PLACE = ("transactions", 0)


# From counters to what is shown.


def _counted(telemetry: Telemetry, events: int, *, seconds: float = 0.0) -> None:
    telemetry.stepped(Step("transactions", events + 1, events, [Rejection(0, Reason.NOT_JSON, "no")], 0, seconds, 0))
    scores = [("static", np.full(events, 0.25)), ("online", np.full(events, 0.75))]
    letters = [Letter("transactions", 0, 7, "not_json", "no")]
    refused = [Rejection(0, Reason.NOT_JSON, "no")]
    telemetry.sent(Tally(PLACE, events, refused, written=[1], scores=scores, letters=letters), 0.0)
    telemetry.published()


def test_what_is_shown_is_what_is_counted() -> None:
    telemetry = Telemetry()
    view = View(telemetry.registry)
    _counted(telemetry, 40)
    told = view.look(100.0)
    assert told["totals"]["headrace_predictions_total"] == {"": 40}
    assert told["totals"]["headrace_events_consumed_total"] == {"transactions": 41}
    assert told["totals"]["headrace_dead_letters_total"]["not_json"] == 1
    for name, numbers in told["totals"].items():
        counted = telemetry.registry.numbers(name)
        assert numbers == {" ".join(labels): value for labels, value in counted.items()}, name
    assert json.loads(page._json(told))["totals"] == told["totals"]


def test_rates_and_shares_are_over_the_last_seconds_whatever_was_before() -> None:
    telemetry = Telemetry()
    view = View(telemetry.registry)
    _counted(telemetry, 1_000_000, seconds=900.0)
    assert view.look(0.0)["rates"]["headrace_predictions_total"] == {}, "one look has no before"
    for second in range(1, 11):
        _counted(telemetry, 30, seconds=0.25)
        told = view.look(float(second))
    assert told["rates"]["headrace_predictions_total"] == {"": pytest.approx(30.0)}
    assert told["rates"]["headrace_dead_letters_total"] == {"not_json": pytest.approx(1.0)}
    assert told["busy"]["score"] == pytest.approx(0.25)


def test_a_rate_never_goes_below_nothing_and_a_clock_that_stands_still_gives_none() -> None:
    telemetry = Telemetry()
    view = View(telemetry.registry)
    view.look(5.0)
    _counted(telemetry, 30)
    assert view.look(5.0)["rates"]["headrace_predictions_total"] == {}


def test_scores_are_told_since_the_start_and_lately() -> None:
    telemetry = Telemetry()
    view = View(telemetry.registry)
    view.look(0.0)
    _counted(telemetry, 32)
    view.look(1.0)
    for second in range(2, 80):
        told = view.look(float(second))
    static = told["scores"]["models"]["static"]
    assert (sum(static["all"]), sum(static["lately"])) == (32, 0)
    bounds = told["scores"]["bounds"]
    assert static["all"][bounds.index(0.3)] == 32
    assert told["scores"]["models"]["online"]["all"][bounds.index(0.8)] == 32


def test_samples_and_history_are_bounded_however_long_a_worker_runs() -> None:
    view = View(Telemetry().registry)
    for second in range(2_000):
        view.look(float(second))
    assert len(view._samples) <= 77
    assert len(view.history) == 300
    assert view.history[-1]["at"] - view.history[0]["at"] == 2 * 299


@pytest.mark.parametrize("share", [0.01, 0.5, 0.99])
def test_a_quantile_lies_in_the_bin_of_the_value_that_counting_finds(share: float) -> None:
    generator = np.random.default_rng(7)
    bounds = (1.0, 2.0, 5.0, 10.0)
    for _ in range(50):
        values = np.sort(generator.integers(1, 10, generator.integers(1, 20)).astype(float))
        counts = np.bincount(np.searchsorted(bounds, values), minlength=5)
        oracle = values[int(np.ceil(share * len(values))) - 1]
        found = quantile(bounds, counts.tolist(), share)
        assert found is not None
        at = int(np.searchsorted(bounds, oracle))
        assert (bounds[at - 1] if at else 0.0) <= found <= bounds[at]


def test_partitions_are_told_in_order_with_their_lag_and_what_is_left_to_recover() -> None:
    telemetry = Telemetry()
    telemetry.look_at_partitions({("t", 10): 0, ("t", 2): 7}, {("t", 2): 95.0}, stalled=0, buffered=0, now=100.0)
    telemetry.registry.replace("headrace_state_recovery_remaining_records", {("10",): 42.0})
    told = View(telemetry.registry).look(100.0)
    assert [(one["partition"], one["lag"], one["lag_seconds"], one["recovering"]) for one in told["partitions"]] == [
        (2, 7.0, 5.0, None),
        (10, 0.0, 0.0, 42.0),
    ]
    assert told["lag"] == {"records": 7.0, "seconds": 5.0}


def test_the_last_predictions_and_dead_letters_are_those_that_were_published_and_no_more_than_a_dozen() -> None:
    telemetry = Telemetry()
    for number in range(40):
        telemetry.sent(Tally(PLACE, 1, newest=number, letters=[Letter("t", 0, number, "not_json", "no")]), 0.0)
    assert not telemetry.predictions, "nobody has them yet"
    telemetry.published()
    assert [one for _, one in telemetry.predictions] == list(range(28, 40))
    assert [letter.offset for _, letter in telemetry.letters] == list(range(28, 40))
    telemetry.sent(Tally(PLACE, 1, newest=99), 0.0)
    telemetry.dropped()
    telemetry.published()
    assert [one for _, one in telemetry.predictions][-1] == 39, "what an abort threw away nobody has"


# What others say.


def _alert(identity: str = "a1", **changes: Any) -> Alert:
    values: dict[str, Any] = {"id": identity, "at": 1.0, "kind": "drift", "state": AlertState.RAISED, "text": "moved"}
    return Alert(**{**values, **changes})


def test_open_alerts_are_the_last_word_on_each_the_most_severe_first() -> None:
    alerts = Alerts()
    for one in (
        _alert("low", severity=Severity.LOW),
        _alert("gone"),
        _alert("high", severity=Severity.HIGH),
        _alert("low", severity=Severity.LOW, state=AlertState.WORSE, text="moved on"),
        _alert("gone", state=AlertState.CLEARED),
    ):
        alerts.take(one)
    assert [(one["id"], one["text"]) for one in alerts.open()] == [("high", "moved"), ("low", "moved on")]
    assert [alerts.is_open(one) for one in ("high", "gone", "never")] == [True, False, False]


def test_an_alert_that_is_raised_anew_after_it_was_cleared_was_seen_by_nobody() -> None:
    alerts = Alerts()
    alerts.take(_alert())
    alerts.acknowledged(Acknowledgement(id="a1", at=2.0, by="ada"))
    alerts.take(_alert(state=AlertState.CLEARED))
    alerts.take(_alert())
    assert alerts.open()[0]["acknowledged"] is None


def test_an_alert_is_seen_where_somebody_said_so_or_where_it_says_so_itself() -> None:
    alerts = Alerts()
    alerts.take(_alert(state=AlertState.ACKNOWLEDGED, at=3.0))
    assert alerts.open()[0]["acknowledged"] == {"at": 3.0, "by": "", "note": ""}
    alerts.acknowledged(Acknowledgement(id="a1", at=2.0, by="ada", note="new shop"))
    assert alerts.open()[0]["acknowledged"] == {"at": 2.0, "by": "ada", "note": "new shop"}


def test_drift_is_the_newest_evidence_of_each_series_and_slice() -> None:
    alerts = Alerts()
    shown = Evidence(bins=["a", "b"], reference=[0.5, 0.5], current=[0.9, 0.1], distances={"psi": 0.3})
    alerts.take(_alert("1", series="amount", evidence=shown))
    alerts.take(_alert("2", series="amount", at=9.0, evidence=shown, state=AlertState.CLEARED))
    alerts.take(_alert("3", series="amount", slice="m7", evidence=shown))
    alerts.take(_alert("4", series="without"))
    assert [(one["series"], one["slice"], one["at"]) for one in alerts.drift()] == [
        ("amount", "m7", 1.0),
        ("amount", "", 9.0),
    ]


def test_what_is_kept_of_alerts_is_bounded() -> None:
    alerts = Alerts()
    shown = Evidence(bins=["a"], reference=[1.0], current=[1.0])
    for number in range(board.ACKNOWLEDGED_COUNT_MAX + 9):
        alerts.take(_alert(f"{number}", series=f"{number}", evidence=shown))
        alerts.acknowledged(Acknowledgement(id=f"{number}", at=1.0))
    assert len(alerts.open()) == board.OPEN_COUNT_MAX
    assert len(alerts.drift()) == board.SERIES_COUNT_MAX
    assert len(alerts._seen) == board.ACKNOWLEDGED_COUNT_MAX


def test_a_group_that_the_broker_does_not_tell_of_says_why_and_forgets_what_it_was() -> None:
    group = Group()
    group.take(1.0, [Member("host-0", "/h", ())], [Standing("t", 0, 5, 9)])
    assert group.told()["partitions"][0]["rate"] is None, "one look has no before"
    group.missed("it is away")
    assert group.told() == {"known": False, "trouble": "it is away", "at": None, "members": [], "partitions": []}


def test_a_partition_that_nobody_has_and_one_without_an_offset_are_told_as_such() -> None:
    group = Group()
    group.take(1.0, [], [Standing("t", 0, None, 9)])
    (told,) = group.told()["partitions"]
    assert (told["worker"], told["committed"], told["lag"], told["rate"]) == ("", None, 9, None)


def test_what_a_worker_makes_again_is_told_while_it_says_so_and_of_its_own_partitions_alone() -> None:
    group = Group()
    members = [Member("a", "/h", (("t", 0), ("t", 1))), Member("b", "/h", (("t", 2),))]
    group.take(1.0, members, [Standing("t", number, 5, 9) for number in range(3)])

    def told(now: float) -> list[tuple[Any, Any]]:
        return [(one["recovering"], one["tells"]) for one in group.told(now)["partitions"]]

    assert told(0.0) == [(None, False)] * 3, "nobody has said anything"
    group.hear({"worker": "a", "recovering": [[1, 700], [2, 5]]}, now=10.0)
    for broken in (
        {},
        {"recovering": 7},
        {"recovering": [[1]]},
        {"recovering": []},
        {"worker": "b", "recovering": "x"},
        {"worker": "b", "recovering": [[float("inf"), 1]]},
    ):
        group.hear(broken, now=10.0)
    assert told(11.0) == [(None, True), (700, True), (None, False)], "what is not its own it does not tell of"
    assert told(10.0 + board.AGAIN_SECONDS_MAX) == [(None, False)] * 3, "it died over it"
    group.hear({"worker": "a", "recovering": []}, now=30.0)
    assert told(31.0 + board.AGAIN_SECONDS_MAX)[1] == (None, True)
    for number in range(board.WORKERS_COUNT_MAX + 9):
        group.hear({"worker": f"w{number}", "recovering": []}, now=31.0)
    assert len(group._heard) == board.WORKERS_COUNT_MAX


# To everybody at once.


@pytest.fixture
def spread() -> Iterator[Fan]:
    one = Fan()
    one.start()
    yield one
    one.close()
    assert not one.is_alive()


def _read(sock: socket.socket, until: bytes) -> bytes:
    got = b""
    sock.settimeout(20)
    while not got.endswith(until):
        more = sock.recv(1 << 16)
        assert more, f"closed after {got[-100:]!r}"
        got += more
    return got


def test_everybody_hears_the_head_what_was_first_and_then_every_message(spread: Fan) -> None:
    pairs = [socket.socketpair() for _ in range(20)]
    for theirs, _ in pairs:
        assert spread.listen(theirs, b"first\n")
    for _, ours in pairs:
        assert _read(ours, b"first\n").startswith(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n")
    for message in (b"one\n", b"two\n"):
        spread.say(message)
        for _, ours in pairs:
            assert _read(ours, message) == message
    assert spread.count == 20
    for _, ours in pairs:
        ours.close()


def test_whoever_is_slow_gets_whole_messages_and_the_newest_and_holds_nobody_up(spread: Fan) -> None:
    (theirs, slow), (others, quick) = socket.socketpair(), socket.socketpair()
    spread.listen(theirs, b"first\n")
    spread.listen(others, b"first\n")
    _read(quick, b"first\n")
    messages = [b"%03d" % number * 100_000 + b"\n" for number in range(30)]
    for message in messages:
        spread.say(message)
        assert _read(quick, b"\n").endswith(b"\n")
    spread.say(b"last\n")
    _read(quick, b"last\n")
    heard = _read(slow, b"last\n").split(b"first\n", 1)[1].splitlines(keepends=True)
    assert heard[-1] == b"last\n"
    assert len(heard) < len(messages)
    assert set(heard[:-1]) <= set(messages), "a part of a message was left out"
    slow.close()
    quick.close()


def test_whoever_has_gone_is_forgotten(spread: Fan) -> None:
    theirs, ours = socket.socketpair()
    spread.listen(theirs, b"first\n")
    _read(ours, b"first\n")
    ours.close()
    deadline = time.monotonic() + 20
    while spread.count:
        assert time.monotonic() < deadline
        spread.say(b"anybody?\n")
        time.sleep(0.01)


def test_one_more_than_may_listen_is_turned_away(spread: Fan) -> None:
    assert spread.count_max <= fan.LISTENERS_MAX
    spread.count_max = 1
    (theirs, ours), (others, more) = socket.socketpair(), socket.socketpair()
    assert spread.listen(theirs, b"")
    assert not spread.listen(others, b"")
    assert more.recv(10) == b""
    ours.close()
    more.close()


# Who may see it.


class Served:
    """A page by itself, on an event loop of its own."""

    def __init__(self, *, port: int = 0, **options: Any) -> None:
        self.telemetry = Telemetry()
        config = config_of(broker="127.0.0.1:9", group="g", instance="host-0", **options)
        health = Health(stall_red_ms=1_000, stall_exit_ms=2_000)
        self.page = Page(pipeline, config, self.telemetry, health, self._look)
        self.page._began = True  # there is no broker to read from
        self.loop = asyncio.new_event_loop()
        self.looks = 0
        self.port = port
        ready = threading.Event()
        self.thread = threading.Thread(target=self._run, args=(ready,), daemon=True)
        self.thread.start()
        assert ready.wait(20)

    async def _look(self) -> None:
        self.looks += 1

    def _run(self, ready: threading.Event) -> None:
        async def start() -> None:
            app = web.Application()
            self.page.add_routes(app.router)
            self.runner = web.AppRunner(app)
            await self.runner.setup()
            await web.TCPSite(self.runner, "127.0.0.1", self.port).start()
            self.port = self.runner.addresses[0][1]
            self.page._fan.start()
            ready.set()

        asyncio.set_event_loop(self.loop)
        self.loop.run_until_complete(start())
        self.beat = self.loop.create_task(self.page.beat())
        self.loop.run_forever()

    def close(self) -> None:
        async def end() -> None:
            self.beat.cancel()
            await asyncio.gather(self.beat, return_exceptions=True)
            await self.page.close()
            await self.runner.cleanup()
            self.loop.stop()

        asyncio.run_coroutine_threadsafe(end(), self.loop)
        self.thread.join(20)
        self.loop.close()

    def ask(
        self, path: str, *, method: str = "GET", body: str = "", headers: Mapping[str, str] | None = None
    ) -> SimpleNamespace:
        client = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        client.request(method, path, body or None, dict(headers or {}))
        answer = client.getresponse()
        told = SimpleNamespace(status=answer.status, headers=answer.headers, text=answer.read().decode())
        client.close()
        return told

    def button(self, identity: str, **headers: str) -> SimpleNamespace:
        """Do what the page's button does."""
        ours = {
            "Content-Type": "application/json",
            "Origin": f"http://127.0.0.1:{self.port}",
            page.GUARD: self.page._guard,
            **{name.replace("_", "-"): value for name, value in headers.items()},
        }
        body = json.dumps({"id": identity, "by": "ada", "note": "seen"})
        return self.ask("/page/acknowledge", method="POST", body=body, headers=ours)


@pytest.fixture
def served() -> Iterator[Served]:
    one = Served()
    yield one
    one.close()


@pytest.fixture
def guarded() -> Iterator[Served]:
    one = Served(web_token=TOKEN)
    yield one
    one.close()


PRIVATE = ("/", "/page/data", "/page/events")


def test_the_page_is_served_with_all_that_it_needs_and_asks_for_nothing_elsewhere(served: Served) -> None:
    first = served.ask("/")
    assert (first.status, first.headers["Content-Type"]) == (200, "text/html; charset=utf-8")
    size = len(first.text)
    for name, kind in {"/page.css": "text/css", "/page.js": "text/javascript"}.items():
        assert f'"{name}"' in first.text
        answer = served.ask(name)
        assert (answer.status, answer.headers["Content-Type"].split(";")[0]) == (200, kind)
        size += len(answer.text)
        assert "://" not in answer.text.replace("http://www.w3.org/2000/svg", "")
    data = served.ask("/page/data")
    assert size + len(data.text) < 200_000
    policy = first.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "frame-ancestors 'none'" in policy
    assert first.headers["Cache-Control"] == "no-store"
    assert "%GUARD%" not in first.text
    assert "%NAME%" not in first.text


def test_text_is_only_ever_set_as_text() -> None:
    script = (FOLDER / "page.js").read_text()
    for word in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "new Function", "srcdoc"):
        assert word not in script, word
    for name in ("page.html", "enter.html"):
        text = (FOLDER / name).read_text()
        assert "style=" not in text, "the policy allows none"
        assert "onclick" not in text


def test_data_are_the_counters_and_events_are_the_same_snapshots(served: Served) -> None:
    _counted(served.telemetry, 25)
    sock = socket.create_connection(("127.0.0.1", served.port), 20)
    sock.sendall(b"GET /page/events HTTP/1.1\r\nHost: localhost\r\n\r\n")
    head, _, body = _read(sock, b"\n\n").partition(b"\r\n\r\n")
    assert b"text/event-stream" in head
    number, _, rest = body.split(b"\n\n")[0].partition(b"\n")
    first = json.loads(rest.removeprefix(b"data: "))
    assert number == b"id: %d" % first["number"]
    assert first["history"]
    assert first["totals"]["headrace_predictions_total"] in ({"": 0}, {"": 25}), "as of a second ago or now"
    _counted(served.telemetry, 25)
    while True:
        _, _, rest = _read(sock, b"\n\n").rstrip(b"\n").rpartition(b"\n")
        second = json.loads(rest.removeprefix(b"data: "))
        if second["totals"]["headrace_predictions_total"] == {"": 50}:
            break
    assert "history" not in second, "it was told once"
    assert second["number"] > first["number"]
    assert second["worker"] == first["worker"]
    data = json.loads(served.ask("/page/data").text)
    assert data["totals"]["headrace_predictions_total"] == {"": 50}
    assert data["dead_letters"][0]["reason"] == "not_json"
    sock.close()


def test_whoever_calls_this_host_by_another_name_or_from_elsewhere_sees_nothing(served: Served) -> None:
    for path in PRIVATE:
        for headers in ({"Host": "evil.example"}, {"Host": "10.1.2.3:6066"}, {"X-Forwarded-For": "10.1.2.3"}):
            answer = served.ask(path, headers=headers)
            assert answer.status == 403, (path, headers)
            assert "transactions" not in answer.text
    for host in ("localhost", "127.0.0.1:80", "[::1]:80"):
        assert served.ask("/page/data", headers={"Host": host}).status == 200
    served.page._board.alerts.take(_alert())
    assert served.button("a1", Host="evil.example", Origin="http://evil.example").status == 403


def test_with_a_token_nobody_sees_anything_without_it(guarded: Served) -> None:
    wrong = (
        {},
        {"Authorization": "Bearer wrong"},
        {"Authorization": "Bearer "},
        {"Cookie": f"{page.COOKIE}="},
        {"Cookie": f"{page.COOKIE}={TOKEN}"},
    )
    for path in PRIVATE:
        for headers in wrong:
            answer = guarded.ask(path, headers=headers)
            assert answer.status == 401, (path, headers)
            assert "transactions" not in answer.text
            assert guarded.page._guard not in answer.text
    right = {"Authorization": f"Bearer {TOKEN}", "Host": "headrace.example"}
    assert guarded.ask("/page/data", headers=right).status == 200
    guarded.page._board.alerts.take(_alert())
    assert guarded.button("a1").status == 401


def test_whoever_enters_the_token_gets_a_cookie_that_is_not_the_token(guarded: Served) -> None:
    origin = {"Origin": f"http://127.0.0.1:{guarded.port}", "Content-Type": "application/x-www-form-urlencoded"}
    assert 'type="password"' in guarded.ask("/").text
    refused = guarded.ask("/page/enter", method="POST", body="token=wrong", headers=origin)
    assert (refused.status, refused.headers["Set-Cookie"]) == (401, None)
    elsewhere = {**origin, "Origin": "http://evil.example"}
    assert guarded.ask("/page/enter", method="POST", body=f"token={TOKEN}", headers=elsewhere).status == 403
    entered = guarded.ask("/page/enter", method="POST", body=f"token={TOKEN}", headers=origin)
    assert (entered.status, entered.headers["Location"]) == (303, "/")
    cookie = entered.headers["Set-Cookie"]
    assert TOKEN not in cookie
    assert "HttpOnly" in cookie
    assert "SameSite=Strict" in cookie
    assert guarded.ask("/", headers={"Cookie": cookie.split(";")[0]}).status == 200


def test_the_page_beyond_loopback_is_refused_without_a_token() -> None:
    def given(**values: str) -> dict[str, Given]:
        return {name: Given(value, "--set") for name, value in values.items()}

    with pytest.raises(BadConfig, match=r"web_host = 0\.0\.0\.0: the page would be open .* set web_token"):
        configure(given(web_host="0.0.0.0"))
    with pytest.raises(BadConfig, match="web_token has 5 characters; allowed are 16 or more"):
        configure(given(web_host="0.0.0.0", web_token="short"))
    for well in ({"web_token": TOKEN}, {"page": "false"}, {"web_port": "-1"}):
        configure(given(web_host="0.0.0.0", **well))
    assert configure(given(web_host="0.0.0.0", web_token=TOKEN)).shown()["web_token"] == "********"


# The button.


def test_only_the_pages_own_button_acknowledges(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[Any] = []

    def publish(config: Any, identity: str, *, by: str, note: str, stopped: Any) -> Acknowledgement:
        said.append((identity, by, note))
        return Acknowledgement(id=identity, at=5.0, by=by, note=note)

    monkeypatch.setattr(alerts_of, "publish", publish)
    served.page._board.alerts.take(_alert())
    here = f"http://127.0.0.1:{served.port}"
    for headers in (
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Sec_Fetch_Site": "cross-site"},
        {"Origin": f"{here}0"},
        {page.GUARD: "guessed"},
    ):
        assert served.button("a1", **headers).status == 403, headers
    assert served.button("a1", Content_Type="text/plain").status == 400
    assert served.button("another").status == 404
    right = {"Content-Type": "application/json", "Origin": here, page.GUARD: served.page._guard}
    for body in ("{", "{}", '{"id": 1}', '{"id": "a1", "more": 1}', json.dumps({"id": "a1", "by": "x" * 201})):
        assert served.ask("/page/acknowledge", method="POST", body=body, headers=right).status == 400, body
    assert served.ask("/page/acknowledge", headers=right).status == 405, "no address does anything"
    assert said == []
    answer = served.button("a1")
    assert (answer.status, json.loads(answer.text)["by"]) == (200, "ada")
    assert said == [("a1", "ada", "seen")]
    assert json.loads(served.ask("/page/data").text)["alerts"][0]["acknowledged"]["note"] == "seen"


def test_a_broker_that_does_not_take_it_is_told_and_the_alert_stays_unseen(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    def publish(*_: Any, **__: Any) -> Acknowledgement:
        raise BrokerNotAvailable("nobody is there; say it again")

    monkeypatch.setattr(alerts_of, "publish", publish)
    served.page._board.alerts.take(_alert())
    answer = served.button("a1")
    assert (answer.status, answer.text) == (503, "BROKER_NOT_AVAILABLE: nobody is there; say it again\n")
    assert served.page._board.alerts.open()[0]["acknowledged"] is None


def test_alerts_and_what_is_said_of_them_are_read_from_their_topics_and_nothing_else_is_believed() -> None:
    with EmbeddedBroker() as broker:
        config = config_of(broker=broker.address, group="g")
        for topic in (config.topic_alerts, config.topic_acknowledgements):
            broker.create(topic)
        client = confluent_kafka.Producer({"bootstrap.servers": broker.address, "log_level": 0})
        for value in (b"{", b"", b"\xff", b'{"id": 7}', msgspec.json.encode(_alert())):
            client.produce(config.topic_alerts, value, b"a1")
        assert client.flush(20) == 0
        one = board.Board(config, ("transactions",))
        one.start()
        deadline = time.monotonic() + 30
        while not one.alerts.is_open("a1"):
            assert time.monotonic() < deadline
            time.sleep(0.02)
        assert alerts_of.publish(config, "a1", by="ada", note="seen").by == "ada"
        while one.alerts.open()[0]["acknowledged"] is None:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        one.close()
        assert not one.is_alive()

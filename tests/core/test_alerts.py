"""``headrace alerts``: what it forwards, lists and acknowledges, on the embedded broker."""

import os
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import confluent_kafka
import msgspec
import pytest
from core.hooks import Hook, wait_until
from core.records import config_of

from headrace.schemas.acknowledgement import Acknowledgement
from headrace.schemas.alert import Alert, AlertState, Severity
from headrace.schemas.config import Config
from headrace.stream import alerts, cli, logs
from headrace.stream.broker import EmbeddedBroker
from headrace.stream.slice import Asking, Reader

TRACE = b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
FAST = {"alert_pause_max_ms": 100, "alert_networks": "127.0.0.1", "allow_insecure": "true", "group": "cards"}


@pytest.fixture(scope="module")
def broker() -> Iterator[EmbeddedBroker]:
    with EmbeddedBroker() as broker:
        yield broker


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    # It would leave a handler behind that writes to where this test was listened to.
    monkeypatch.setattr(logs, "set_up", lambda _level, **_: False)
    for name in os.environ:
        if name.startswith("HEADRACE_"):
            monkeypatch.delenv(name)


def _alert(identity: str, state: AlertState = AlertState.RAISED, **fields: Any) -> Alert:
    return Alert(**{"id": identity, "at": 1.0, "kind": "drift", "state": state, "text": "moved", **fields})


def _publish(broker: EmbeddedBroker, topic: str, *values: Alert | bytes, headers: Any = None) -> None:
    producer = confluent_kafka.Producer({"bootstrap.servers": broker.address, "enable.idempotence": True})
    for value in values:
        key, body = (value.id, msgspec.json.encode(value)) if isinstance(value, Alert) else ("?", value)
        producer.produce(topic, body, key, headers=headers)
    assert producer.flush(30) == 0


def _committed(broker: EmbeddedBroker, group: str, topic: str) -> int:
    asking = Asking(config_of(broker=broker.address))
    return sum(asking.committed(group, topic).values())


class Running:
    """The command at work, on a thread."""

    def __init__(self, config: Config) -> None:
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=alerts.forward, args=(config, self._stopping), daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        self._thread.join(60)
        assert not self._thread.is_alive()


def test_a_webhook_that_is_down_gets_everything_after_a_restart_too_and_the_other_nothing_twice(
    broker: EmbeddedBroker,
) -> None:
    with Hook(lambda _got, _place: 503) as down, Hook() as well:
        config = config_of(
            broker=broker.address,
            topic_alerts="alerts-down",
            alert_webhooks=down.url,
            alert_slack_webhooks=well.url,
            **FAST,
        )
        first = [_alert(f"a{place}", state, at=at) for at, state in enumerate(AlertState) for place in range(5)]
        _publish(broker, "alerts-down", *first, headers={"traceparent": TRACE})
        running = Running(config)
        wait_until(lambda: len(well.accepted) == len(first) and len(down.got) > 3)
        running.stop()
        assert not down.accepted
        # What is not done at one webhook is not committed, wherever the other is.
        assert _committed(broker, "cards-alerts", "alerts-down") < len(first)

        second = [_alert(f"b{place}") for place in range(5)]
        _publish(broker, "alerts-down", b"nonsense", *second, headers={"traceparent": TRACE + b"\r\nX-Odd: 1"})
        down.answer = lambda _got, _place: 200
        running = Running(config)
        everything = len(first) + len(second)
        wait_until(lambda: len(down.accepted) >= everything and len(well.accepted) >= everything)
        wait_until(lambda: _committed(broker, "cards-alerts", "alerts-down") == everything + 1)
        running.stop()
        for hook in (down, well):
            assert len(hook.keys) == len(set(hook.keys)) == everything
            for place in range(5):
                states = [key.split("/")[1] for key in hook.keys if key.startswith(f"a{place}/")]
                assert states == list(AlertState)
            # Whoever is called is in the trace of what raised the alert; what is no trace becomes no header.
            traces = {got.headers["Idempotency-Key"][0]: got.headers.get("traceparent") for got in hook.accepted}
            assert traces == {"a": TRACE.decode(), "b": None}
            assert not any("X-Odd" in got.headers for got in hook.accepted)


def _run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as ended:
        cli.main(arguments)
    assert isinstance(ended.value.code, int)
    told = capsys.readouterr()
    return ended.value.code, told.out, told.err


def _options(broker: EmbeddedBroker, topic: str) -> list[str]:
    given = {"topic_alerts": topic, "topic_acknowledgements": f"{topic}-seen"}
    return ["--broker", broker.address, *(word for name in given for word in ("--set", f"{name}={given[name]}"))]


@pytest.mark.parametrize("asked", [("ls",), ("--list",)])
def test_alerts_that_are_open_are_listed_the_most_severe_first(
    broker: EmbeddedBroker, capsys: pytest.CaptureFixture[str], asked: tuple[str, ...]
) -> None:
    if asked == ("ls",):
        _publish(
            broker,
            "alerts-ls",
            _alert("gone", severity=Severity.HIGH),
            _alert("mild", severity=Severity.LOW, series="amount", slice="merchant=m7"),
            _alert("worst", severity=Severity.LOW),
            _alert("worst", AlertState.WORSE, severity=Severity.HIGH, since=0.5, text="moved\n\x1b[31m far"),
            _alert("gone", AlertState.CLEARED),
            b"nonsense",
        )
    code, out, err = _run(capsys, "alerts", *asked, *_options(broker, "alerts-ls"))
    assert (code, err) == (0, "")
    assert out == (
        "HIGH  worse  worst  1970-01-01T00:00:00Z  moved??[31m far\n"
        "LOW  raised  mild  1970-01-01T00:00:01Z  amount[merchant=m7]  moved\n"
    )
    code, out, _ = _run(capsys, "alerts", *asked, "--json", *_options(broker, "alerts-ls"))
    assert [msgspec.json.decode(line, type=Alert).id for line in out.splitlines()] == ["worst", "mild"]


def test_where_no_alert_is_open_that_is_said(broker: EmbeddedBroker, capsys: pytest.CaptureFixture[str]) -> None:
    broker.create("alerts-none")
    assert _run(capsys, "alerts", "ls", *_options(broker, "alerts-none")) == (0, "no alert is open\n", "")
    assert _run(capsys, "alerts", "ls", "--json", *_options(broker, "alerts-none")) == (0, "", "")


def test_an_acknowledgement_is_published_under_the_id_of_its_alert(
    broker: EmbeddedBroker, capsys: pytest.CaptureFixture[str]
) -> None:
    _publish(broker, "alerts-ack", _alert("a7"))
    options = _options(broker, "alerts-ack")
    code, out, err = _run(capsys, "alerts", "ack", "a7", "--by", "ada", "--note", "a new merchant", *options)
    assert (code, out, err) == (0, "acknowledged: MEDIUM  raised  a7  1970-01-01T00:00:01Z  moved\n", "")
    config = config_of(broker=broker.address)
    found = []
    with closing(Reader(config)) as reader:
        for partition, log in Asking(config).logs("alerts-ack-seen").items():
            for messages in reader.read("alerts-ack-seen", partition, *log, count=10):
                found += messages
    (record,) = found
    assert record.key() == b"a7"
    one = msgspec.json.decode(record.value(), type=Acknowledgement)
    assert (one.id, one.by, one.note) == ("a7", "ada", "a new merchant")
    assert one.at > 1_700_000_000


def test_what_is_not_open_cannot_be_acknowledged(broker: EmbeddedBroker, capsys: pytest.CaptureFixture[str]) -> None:
    _publish(broker, "alerts-not", _alert("a7"), _alert("a8"), _alert("a8", AlertState.CLEARED))
    for identity in ("a8", "nobody"):
        code, out, err = _run(capsys, "alerts", "ack", identity, *_options(broker, "alerts-not"))
        assert (code, out) == (16, "")
        assert err == (f"ALERT_UNKNOWN: {identity}: no alert that is open on alerts-not has this id; open are a7\n")


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["ack"], "headrace alerts: ack and an ID belong together"),
        (["ls", "a7"], "headrace alerts: ack and an ID belong together"),
        (["ack", "a7", "--list"], "headrace alerts: --list or ack, not both"),
        (["ack", "a7", "--json"], "--json: only with ls"),
        (["--json"], "--json: only with ls"),
        (["ls", "--by", "ada"], "--by and --note: only with ack"),
        (["ls", "--note", "x"], "--by and --note: only with ack"),
        (["ack", "a7", "--by", "x" * 201], "--by: 201 characters; allowed are 200"),
        (["ack", "a7", "--note", "x" * 2_001], "--note: 2001 characters; allowed are 2000"),
        (["--group", "g"], "alert_webhooks and alert_slack_webhooks are empty: say where alerts are forwarded to"),
        (["--webhook", "https://a.example/x"], "group is empty: say the workers' group, or alert_group"),
        (
            ["--slack", "http://a.example/hunter2", "--group", "g"],
            "alert_slack_webhooks: http://a.example/****: alerts",
        ),
    ],
)
def test_what_cannot_be_asked_for_is_told(capsys: pytest.CaptureFixture[str], arguments: list[str], text: str) -> None:
    code, out, err = _run(capsys, "alerts", *arguments)
    assert (code, out) == (2, "")
    assert f"\n  {text}" in err
    assert "hunter2" not in err


def test_flags_name_webhooks_and_win_over_the_file(tmp_path: Path) -> None:
    (tmp_path / "headrace.toml").write_text('alert_webhooks = "https://file.example/"\ngroup = "cards"')
    parsed = cli._parser().parse_args(
        [
            "alerts",
            "--webhook",
            "https://a.example/",
            "--webhook",
            "https://b.example/",
            "--slack",
            "https://c.example/",
        ]
    )
    config = cli._options(parsed, {})
    assert config.alert_webhooks == "https://a.example/,https://b.example/"
    assert config.alert_slack_webhooks == "https://c.example/"
    assert config.alerts_group == "cards-alerts"
    assert config_of(group="cards", alert_group="own").alerts_group == "own"

"""What a worker has published, as a notebook sees it: frames that a slow recount agrees with, plots, a story."""

import subprocess
import sys
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import Any

import confluent_kafka
import matplotlib as mpl
import msgspec
import numpy as np
import pandas as pd
import pytest
from core.records import config_of
from core.test_monitor import _stream
from core.test_watch import _pipeline
from matplotlib import pyplot as plt

from headrace import Event, Label, Linear, Pipeline, field, notebook, per
from headrace.schemas.errors import BrokerNotAvailable, TopicMissing
from headrace.stream.broker import EmbeddedBroker
from headrace.stream.driver import Driver, _partition_of
from headrace.stream.slice import Asking

mpl.use("Agg")
AT = 1_767_225_600.0
PARTITIONS = 4  # the embedded broker's


class Payment(Event, topic="payments", key="card"):
    """What is scored here."""

    id: str
    at: float
    card: str
    amount: float
    note: str = ""


class Chargeback(Label, topic="chargebacks", of=Payment, within="1h", otherwise=0):
    """What becomes known of it."""

    id: str
    at: float
    card: str
    label: int


PAGE = Pipeline(
    name="payments",
    events=Payment,
    labels=Chargeback,
    features={"amount": field("amount"), "count": per("card").count("1h")},
    static=Linear({"amount": 0.1, "count": -0.1}),
)


class Published:
    """A broker on which lies what a worker has published of a few hundred payments, and of visits that drifted."""

    def __init__(self, broker: EmbeddedBroker) -> None:
        self.address = broker.address
        self.driver = Driver(PAGE, partitions=PARTITIONS, topic_slices="payments-slices")
        client = confluent_kafka.Producer({"bootstrap.servers": broker.address, "enable.idempotence": True})
        for number in range(300):
            payment = {
                "id": f"p{number}",
                "at": AT + 60 * number,
                "card": f"c{number % 7}",
                "amount": float(number % 11),
                "note": "<script>" if number == 7 else "",
            }
            self.driver.clock = payment["at"]
            self.driver.pipe(payment)
            client.produce(
                "payments",
                msgspec.json.encode(payment),
                payment["card"],
                partition=_number(payment),
                timestamp=int(1_000 * payment["at"]),
            )
            if number % 3 == 0:
                self.driver.label(payment, int(number % 11 > 5))
            if number % 30 == 0:
                self.driver.label(payment, 1)  # and it is revised, where it was another
            if number % 50 == 49:
                self.driver.advance(0)
        for topic in ("predictions", "outcomes"):
            self._publish(client, topic, self.driver.published(topic))
        client.produce("predictions", b"nonsense", "x")
        client.produce("predictions", b'{"id": "p1", "model": "another", "score": 0.5}', "x")
        client.produce("odd", b"no JSON", None, timestamp=1_000_000)

        self.watching = Driver(_pipeline(), partitions=1)
        events = [*_stream(200, seed=1, per_second=20), *_stream(100, seed=2, begin=200, per_second=20, depth=1.5)]
        self.watching.pipe_all(events)
        self._publish(client, "visits-slices", self.watching._published["visits-slices"])
        self._publish(client, "alerts", self.watching.published("alerts"))
        assert client.flush(30) == 0

    def _publish(self, client: Any, topic: str, outputs: Any) -> None:
        for at, one in enumerate(outputs):
            client.produce(topic, one.value, one.key, timestamp=int(1_000 * (AT + 60 * at)))


def _number(payment: Any) -> int:
    return _partition_of(str(payment["card"]).encode(), PARTITIONS)


@pytest.fixture(scope="module")
def published() -> Iterator[Published]:
    with EmbeddedBroker() as broker:
        yield Published(broker)


@pytest.fixture(autouse=True)
def _closed(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.delenv("HEADRACE_BROKER", raising=False)
    yield
    plt.close("all")


def test_the_newest_records_of_a_topic_are_a_frame_and_no_group_hears_of_it(published: Published) -> None:
    frame = notebook.tail("payments", 10, broker=published.address)
    assert list(frame.columns[:5]) == ["id", "at", "card", "amount", "note"]
    assert list(frame["id"]) == [f"p{number}" for number in range(290, 300)] or len(set(frame["id"])) == 10
    assert frame["kafka.written"].is_monotonic_increasing
    assert frame["kafka.written"].dt.tz is not None
    newest = frame.groupby("kafka.partition")["kafka.offset"].max()
    logs = Asking(config_of(broker=published.address)).logs("payments")
    assert all(logs[number].end == offset + 1 for number, offset in newest.items())
    assert len(notebook.tail("payments", 10_000, broker=published.address)) == 300, "of fewer all"
    odd = notebook.tail("odd", broker=published.address)
    assert (odd["value"][0], odd["kafka.key"][0]) == (b"no JSON", None)
    assert odd["kafka.written"][0] == pd.Timestamp(1_000_000, unit="ms", tz="UTC")
    with pytest.raises(TopicMissing, match="nowhere"):
        notebook.tail("nowhere", broker=published.address)
    with pytest.raises(ValueError, match="n = 0: allowed are 1 and more"):
        notebook.tail("odd", 0, broker=published.address)


def test_predictions_have_what_became_known_last_of_their_events(published: Published) -> None:
    frame = notebook.predictions(PAGE, broker=published.address)
    want: dict[str, Any] = {}
    for one in published.driver.outcomes:
        want[one["id"]] = one
    made = {one["id"]: one for one in published.driver.predictions}
    assert len(frame) == len(made) == 300
    for at, row in frame.iterrows():
        assert row["score"] == made[row["id"]]["score"]
        assert np.isnan(row["online"])
        assert at == pd.Timestamp(made[row["id"]]["at"], unit="s", tz="UTC")
        known = want.get(row["id"])
        assert (known is None) == pd.isna(row["label"])
        if known is not None:
            assert (row["label"], row["by"]) == (known["label"], known["by"])
            assert row["known_at"] == pd.Timestamp(known["at"], unit="s", tz="UTC")
    assert set(frame["by"].dropna()) == {"label", "timeout", "revision"}
    newest = notebook.predictions(PAGE, broker=published.address, n=20)
    assert list(newest["id"]) == list(frame["id"][-20:])
    assert newest["label"].equals(frame["label"][-20:])
    some = notebook.predictions(PAGE, broker=published.address, since="earliest", until="5")
    assert set(some["kafka.offset"]) == set(range(5))
    with pytest.raises(ValueError, match="n = 1 and since or until"):
        notebook.predictions(PAGE, n=1, since="earliest")


def test_scores_quality_and_drift_are_plotted_as_they_are(published: Published) -> None:
    frame = notebook.predictions(PAGE, broker=published.address)
    axes = notebook.plot_scores(frame)
    _, names = axes.get_legend_handles_labels()
    assert set(names) == {"static, label 0", "static, label 1", "score, label 0", "score, label 1"}

    axes = notebook.plot_quality(frame, by="1h")
    lines = {line.get_label(): line for line in axes.get_lines()}
    assert (set(lines), axes.get_ylabel()) == ({"static", "score"}, "log_loss")
    known = [one for one in frame.to_dict("records") if not pd.isna(one["label"])]
    loss = [
        np.mean([-np.log(one["score"] if one["label"] else 1 - one["score"]) for one in some])
        for _, some in groupby(sorted(known, key=lambda one: one["at"]), key=lambda one: one["at"] // 3_600)
    ]
    assert lines["score"].get_ydata() == pytest.approx(loss)
    with pytest.raises(ValueError, match="measure = 'loss': allowed are log_loss, accuracy, mae"):
        notebook.plot_quality(frame, measure="loss")
    with pytest.raises(ValueError, match="nothing became known of any"):
        notebook.plot_quality(frame[frame["label"].isna()])

    axes = notebook.plot_drift(_pipeline(), broker=published.address, most=2)
    assert axes.get_lines()[0].get_label() == "depth", "what moved most is first"
    assert len(axes.get_lines()) == 2
    assert len(axes.patches) == len({one["id"] for one in published.watching.alerts}) > 0
    assert "1 alerts" in axes.get_title()


def test_a_story_is_shown_as_tables_in_which_what_an_event_says_is_text(published: Published) -> None:
    told = notebook.explain(PAGE, "p7", broker=published.address)
    made = {one["id"]: one for one in published.driver.predictions}
    assert told.story.score == made["p7"]["score"]
    assert told.story.same_bits is True
    assert repr(told) == told.story.told()
    page = told._repr_html_()
    assert "&lt;script&gt;" in page
    assert "<script" not in page
    for title in ("The event", "Features", "Scores", "What became known"):
        assert f"<h5>{title}</h5>" in page
    assert "computed again it is the same, bit for bit" in page


CELLS = """
import sys
assert "pandas" not in sys.modules and "matplotlib" not in sys.modules
from headrace.notebook import *
assert "pandas" not in sys.modules and "matplotlib" not in sys.modules
frame = tail("predictions", n=5)
assert len(frame) == 5
sys.modules["pandas"] = None
try:
    tail("predictions", n=5)
except ImportError as error:
    print(error)
sys.modules["matplotlib"] = None
try:
    plot_scores(frame)
except ImportError as error:
    print(error)
"""


def test_the_extra_is_named_where_it_lacks_and_the_broker_may_be_the_environments(
    published: Published, tmp_path: Path
) -> None:
    environment = {"HEADRACE_BROKER": published.address, "PATH": "/usr/bin", "HOME": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", CELLS], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert [line.split(" needs ")[1].split(",")[0] for line in done.stdout.splitlines()] == ["pandas", "matplotlib"]
    assert done.stdout.count("pip install 'headrace[notebook]'") == 2


def test_a_broker_that_is_away_is_said_and_not_waited_for_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("headrace.stream.slice.ANSWER_SECONDS_MAX", 0.5)
    with pytest.raises(BrokerNotAvailable, match=r"127\.0\.0\.1:9"):
        notebook.tail("payments", broker="127.0.0.1:9")

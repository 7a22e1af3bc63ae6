"""A report says what a slow recount of the events says, whatever its alerts contain, and needs nothing but itself."""

import json
import math
import os
import random
import re
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import confluent_kafka
import msgspec
import numpy as np
import orjson
import pytest
from core.test_monitor import _monitor, _said, _stream
from core.test_watch import DATA, Visit, _pipeline

from headrace.models import snapshot
from headrace.models.bins import Binner, Bins
from headrace.models.reference import Reference
from headrace.models.watch import Counted, Watch
from headrace.schemas.alert import Alert, AlertState, Evidence, Severity
from headrace.schemas.codec import encode
from headrace.schemas.quality import QualityReport
from headrace.stream import cli, logs
from headrace.stream.broker import EmbeddedBroker
from headrace.stream.report import POINTS_MAX, Alerts, Period, Qualities, Report, Series, Slices, make
from headrace.stream.report_page import page

PIPELINE = _pipeline()
assert PIPELINE.watch is not None
WATCH = PIPELINE.watch
CHANGED = {"depth": 1.0, "missing": 0.05, "kinds": 5}


@cache
def _events() -> tuple[Visit, ...]:
    return (
        *_stream(400, seed=1, per_second=30),
        *_stream(150, seed=2, per_second=30, begin=400, **CHANGED),
        *_stream(200, seed=3, per_second=30, begin=550, together=0.6),
    )


@cache
def _slices() -> tuple[dict[str, Any], ...]:
    return tuple(_said(list(_events()), partitions=3))


def _packed(said: dict[str, Any], watch: Watch = WATCH) -> bytes:
    return zlib.compress(snapshot.encode({"of": watch.fingerprint, **said}))


def _report(
    said: Sequence[dict[str, Any]] = (),
    *,
    period: Period | None = None,
    alerts: Sequence[Alert | bytes] = (),
    reports: Sequence[QualityReport] = (),
    pipeline: Any = PIPELINE,
) -> Report:
    period = period or Period()
    slices = Slices(pipeline.watch, period)
    for one in said or _slices():
        slices.take(_packed(one, pipeline.watch))
    told, judged = Alerts(pipeline.name), Qualities(pipeline.name, period)
    for alert in alerts:
        told.take(alert if isinstance(alert, bytes) else encode(alert))
    for report in reports:
        judged.take(encode(report))
    return make(pipeline, slices, told, judged)


def _one(report: Report, name: str) -> Series:
    return next(one for one in report.series if one.name == name)


def _alert(identity: str = "a1", state: AlertState = AlertState.RAISED, at: float = 420.0, **fields: Any) -> Alert:
    return Alert(**{"id": identity, "at": at, "kind": "drift", "state": state, "text": "depth moved up", **fields})


class Seen(HTMLParser):
    """What a browser would find in a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: Counter[str] = Counter()
        self.attributes: list[tuple[str, str, str]] = []
        self.text: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        self.attributes += [(tag, name, value or "") for name, value in attrs]

    def handle_data(self, data: str) -> None:
        self.text.append(data)

    def all(self, name: str) -> list[str]:
        return [value for _, given, value in self.attributes if given == name]


# The numbers.


def test_what_is_told_of_a_series_is_what_a_recount_of_the_events_finds() -> None:
    report, events = _report(), _events()
    assert (report.events, report.partitions, report.begin, report.end) == (len(events), [0, 1, 2], 0.0, 750.0)
    assert report.step == 10.0
    assert report.volume == [300] * 75
    for name, values in (
        ("depth", [math.nan if one.depth is None else one.depth for one in events]),
        ("kind", [float(one.kind) for one in events]),
    ):
        bins, usual = WATCH.binner.series[WATCH.places[name]], WATCH.reference.of(WATCH.places[name])
        each = [[0] * bins.count for _ in report.points]
        for event, value in zip(events, values, strict=True):
            each[int(event.at // 10)][int(bins.bin(np.array([value]))[0])] += 1
        one = _one(report, name)
        assert one.current == [sum(row[place] for row in each) for place in range(bins.count)]
        assert one.reference == usual.tolist()
        assert one.missing == [pytest.approx(row[-1] / 300, abs=1e-6) for row in each]
        outside = [sum(row[place] for place in bins.outside) / 300 for row in each]
        assert one.new == pytest.approx(outside, abs=1e-6)
        psi = []
        for row in each:
            before = [(count + 0.5) / (sum(usual.tolist()) + 0.5 * len(row)) for count in usual.tolist()]
            now = [(count + 0.5) / (300 + 0.5 * len(row)) for count in row]
            psi.append(sum((n - b) * math.log(n / b) for n, b in zip(now, before, strict=True)))
        assert one.over_time["psi"] == pytest.approx(psi, abs=1e-5)
        assert one.furthest_at == report.points[psi.index(max(psi))]
        assert one.furthest == each[psi.index(max(psi))]
        assert 400 <= one.furthest_at < 550
        assert 0 < one.moved < max(psi)


def test_the_page_shows_these_numbers() -> None:
    report = _report(alerts=[_alert(pipeline="visits", severity=Severity.HIGH)])
    seen = Seen(page(report))
    told = [one.strip() for one in seen.text if one.strip()]
    events = _events()
    assert told[told.index("events") + 1] == f"{len(events):,}"
    kinds = Counter(one.kind for one in events)
    begin = told.index("kind", told.index("Every series", told.index("What moved", 20)) + 1)
    for kind in range(4):
        place = told.index(str(kind), told.index("bin", begin))
        assert told[place + 2] == f"{100 * kinds[kind] / len(events):.1f}".removesuffix(".0") + "%"
    missing = sum(one.depth is None for one in events) / len(events)
    assert f"0% → {100 * missing:.1f}%" in told
    assert told.count("1 high") == 1


def test_series_come_in_the_order_in_which_they_moved() -> None:
    report = _report()
    moved = [one.moved for one in report.series]
    assert moved == sorted(moved, reverse=True)
    # What was not touched has not moved, and where nothing changed nothing has.
    assert _one(_report(_said(_stream(600, seed=5, per_second=30))), "depth").moved == 0.0
    calm = _report(_said(_stream(600, seed=6, per_second=30)))
    assert [one.name for one in calm.series if one.moved] == []
    assert calm.relations == []


def test_the_order_of_records_changes_nothing() -> None:
    mixed = list(_slices())
    random.Random(1).shuffle(mixed)
    assert _report(mixed) == _report()


def test_points_become_wider_until_a_plot_can_show_them_and_add_up_to_the_same() -> None:
    one = Counted.load(_slices()[0]["slice"])
    for numbers, step in (
        (range(200), 10.0),
        (range(201), 20.0),
        (range(0, 20_000, 21), 1_800.0),
        ([3, 10**7], 691_200.0),
    ):
        said = [{"partition": 0, "slice": one._replace(number=number).dump()} for number in numbers]
        report = _report(said)
        assert len(report.points) <= POINTS_MAX
        assert report.step == step
        assert sum(report.volume) == report.events == one.events * len(said)
        assert np.diff(report.points) == pytest.approx(report.step)
        assert _one(report, "kind").current == [len(said) * count for count in _kinds(one)]
        for at, events in zip(report.points, report.volume, strict=True):
            inside = sum(at <= 10.0 * number < at + report.step for number in numbers)
            assert events == inside * one.events


def _kinds(one: Counted) -> list[int]:
    place = WATCH.places["kind"]
    counts: list[int] = one.counts[WATCH.binner.begins[place] : WATCH.binner.begins[place + 1]].tolist()
    return counts


def test_a_period_has_the_slices_that_begin_in_it() -> None:
    report = _report(period=Period(400.0, 550.0))
    assert (report.begin, report.end, report.events) == (400.0, 550.0, 150 * 30)
    assert report.points[0] == 400.0
    assert len(report.points) == 15


def test_what_the_worker_makes_itself_is_compared_with_how_it_was_at_first() -> None:
    slices = sorted(_slices(), key=lambda one: one["slice"][0])
    early = [Counted.load(one["slice"]).own for one in slices if one["slice"][0] < 30]
    report = _report(period=Period(400.0))
    one = _one(report, "score")
    begin, end = WATCH.event_binner.begins[:2]
    assert one.reference == sum(early)[begin:end].tolist()
    assert one.compared_with.endswith("1970-01-01 00:00:00 to 1970-01-01 00:05:00")
    assert one.moved > 0
    assert report.notes == []
    assert any("learned within this period" in note for note in _report().notes)
    few = _report([one for one in slices if one["slice"][0] < 20])
    assert _one(few, "score").distances == {}
    assert any("not known yet" in note for note in few.notes)
    assert "not compared with anything yet" in page(few)


def test_a_relation_that_changed_is_told_with_its_correlations() -> None:
    report = _report()
    (pair,) = report.relations
    assert (pair.first, pair.second) == ("depth", "kind")
    assert 550 <= pair.furthest_at < 750
    begin = pair.furthest_at
    ranks = []
    for event in _events():
        if begin <= event.at < begin + report.step:
            values = {"depth": math.nan if event.depth is None else event.depth, "kind": float(event.kind)}
            row = []
            for name, value in values.items():
                place = WATCH.places[name]
                score = WATCH.reference.scores[place][0]
                row.append(round(8 * float(score[int(WATCH.binner.series[place].bin(np.array([value]))[0])])))
            ranks.append(row)
    assert pair.furthest == pytest.approx(np.corrcoef(np.array(ranks).T)[0, 1], abs=1e-5)
    assert abs(pair.usual) < 0.05 < abs(pair.furthest) - 0.3
    assert "depth and kind" in Seen(page(report)).text


def test_a_part_of_the_stream_that_moved_is_told_with_what_moved_in_it() -> None:
    shifted = [
        Visit(one.id, one.at, one.user, None if one.depth is None else one.depth + 2 * (one.user == "u3"), one.kind)
        for one in _stream(200, seed=2, begin=600)
    ]
    report = _report(_said([*_stream(600, seed=1), *shifted]))
    first = report.groups[0]
    assert (first.name, {one.name for one in first.moved}) == ("user=u3", {"depth", "static"})
    assert all(600 <= one.at < 800 for one in first.moved)
    assert not any(one.moved for one in report.groups[1:])
    assert {one.name: one.events for one in report.groups}["user=u3"] == sum(
        one.user == "u3" for one in [*_stream(600, seed=1), *shifted]
    )


# What was said.


def test_an_alert_is_told_with_its_life_and_what_showed_it() -> None:
    monitor = _monitor()
    said = _said([*_stream(600, seed=1), *_stream(300, seed=2, begin=600, depth=1.0), *_stream(800, seed=3, begin=900)])
    alerts = [alert for one in said for alert in monitor.step([one])]
    raised = alerts[0]
    alerts.insert(
        1, msgspec.structs.replace(raised, state=AlertState.ACKNOWLEDGED, text=f"{raised.text} (acknowledged by ann)")
    )
    alerts += [_alert("other", pipeline="another"), _alert("late", at=1e6), _alert("past", at=-100.0)]
    alerts.append(_alert("past", AlertState.CLEARED, at=-50.0))
    report = _report(said, alerts=[*alerts, b"nonsense"])
    (told,) = report.told
    assert (told.id, told.text, told.life[-1].state) == (raised.id, raised.text, AlertState.CLEARED)
    assert [one.state for one in told.life[:2]] == [AlertState.RAISED, AlertState.ACKNOWLEDGED]
    assert told.cleared == alerts[-5].at
    worst = max((one for one in alerts if one.id == raised.id), key=lambda one: one.severity.rank)
    assert told.severity == worst.severity
    assert told.explained_by == worst.explained_by
    assert told.evidence.bins == raised.evidence.bins
    assert told.evidence.distances["psi"] > 0.5, "not that of the end, when it was as usual again"
    assert report.alerts == {"high": 1, "medium": 0, "low": 0}
    assert "records on the topic of alerts that cannot be read, and are left out: 1" in report.notes
    seen = Seen(page(report))
    assert "#alert-0" in seen.all("href")
    for word in ("raised", "acknowledged", "cleared", "estimated accuracy"):
        assert word in seen.text
    assert any(text.endswith("): by ann") for text in seen.text)


def _quality(model: str, partition: int | None, at: float, count: float, loss: float | None) -> QualityReport:
    numbers = {"count": count, "log_loss": loss, "accuracy": 0.5}
    return QualityReport(
        pipeline="visits", version="1", partition=partition, model=model, kind="binary", at=at, window=60.0,
        overall=numbers, recent=numbers,
    )  # fmt: skip


def test_quality_is_the_mean_of_the_newest_reports_of_all_partitions_by_their_labels() -> None:
    reports = [
        _quality("static", 0, 5.0, 10.0, 0.2),
        _quality("static", 1, 5.0, 30.0, 0.6),
        _quality("static", 0, 25.0, 10.0, 1.0),
        _quality("combined", 0, 5.0, 0.0, None),
        msgspec.structs.replace(_quality("static", 0, 5.0, 1e6, 9.0), pipeline="another"),
    ]
    report = _report(reports=reports)
    combined, static = report.quality
    assert (combined.model, static.model, static.labels) == ("combined", "static", 40.0)
    assert static.over_time["log_loss"][:4] == [pytest.approx(0.5), None, pytest.approx(0.7), None]
    assert static.newest["log_loss"] == pytest.approx(0.7)
    assert "log_loss" not in combined.newest
    text = page(report)
    assert '<td class="n">0.7</td>' in text
    # Where somebody has put the partitions together, that is what counts.
    whole = _report(reports=[*reports, _quality("static", None, 15.0, 40.0, 0.4)])
    assert whole.quality[-1].newest["log_loss"] == 0.4


def test_of_many_reports_the_newest_of_each_point_in_time_are_kept() -> None:
    # Two a second, and each says when it was: what is told of a point is what was said at its end.
    reports = [_quality("static", 0, at / 2, 10.0, at / 2) for at in range(1_500)]
    (static,) = _report(reports=reports).quality
    assert static.over_time["log_loss"] == [pytest.approx(at + 9.5, abs=1.0) for at in range(0, 750, 10)]
    # What was said before the period is what is known of a partition of which nothing is said in it.
    (static,) = _report(reports=[*reports, _quality("static", 1, 5.0, 10.0, 0.0)], period=Period(400.0, 450.0)).quality
    assert static.over_time["log_loss"] == [pytest.approx((at + 9.5) / 2, abs=1.0) for at in range(400, 450, 10)]


# The page.

NASTY = "<script>alert(1)</script><img src=x onerror=alert(2)>\" onload='x' &lt; \x00\x1b[31m\n</style></svg>"


def _nasty() -> Report:
    evidence = Evidence(
        bins=[NASTY, "missing"], reference=[1.0, 0.0], current=[0.5, 0.5], distances={NASTY: 1.0, "psi": 0.5}
    )
    fields = {"text": NASTY, "series": NASTY, "slice": NASTY, "kind": NASTY, "explained_by": [NASTY], "action": NASTY}
    alert = _alert(NASTY, effect={NASTY: 1.0}, evidence=evidence, **fields)
    report = _report(alerts=[alert, msgspec.structs.replace(alert, state=AlertState.WORSE, text=f"{NASTY} x")],
        reports=[_quality(NASTY, 0, 5.0, 1.0, 0.5)],
    )  # fmt: skip
    report.pipeline = report.version = NASTY
    report.notes.append(NASTY)
    for one in (*report.series, *report.groups):
        one.name = NASTY
    report.series[0].bins = [NASTY] * len(report.series[0].bins)
    report.relations[0].first = NASTY
    return report


def test_whatever_an_alert_says_is_text() -> None:
    plain, nasty = Seen(page(_report(alerts=[_alert()]))), Seen(page(_nasty()))
    assert "script" not in nasty.tags
    assert "img" not in nasty.tags
    assert {name for _, name, _ in nasty.attributes} <= {name for _, name, _ in plain.attributes}
    assert not [name for _, name, _ in nasty.attributes if name.startswith("on")]
    assert nasty.tags["style"] == 1
    shown = "".join(nasty.text)
    assert shown.count("<script>alert(1)</script>") > 20
    assert "\x00" not in shown
    assert "\x1b" not in shown


@pytest.mark.parametrize("nasty", [False, True])
def test_no_request_leaves_the_page_and_every_link_leads_somewhere(nasty: bool) -> None:
    text = page(_nasty() if nasty else _report(alerts=[_alert()]))
    assert not re.search(r"https?:|//\w|url\(|@import|srcset|<link(?! rel=\"icon\" href=\"data:,\")", text)
    seen = Seen(text)
    assert not seen.all("src")
    assert "default-src 'none'" in seen.all("content")[0]
    ids = seen.all("id")
    assert len(ids) == len(set(ids))
    links = [one for one in seen.all("href") if one != "data:,"]
    assert links
    assert {one.removeprefix("#") for one in links} <= set(ids)


def test_every_picture_has_a_title_and_every_table_heads() -> None:
    text = page(_report(alerts=[_alert()], reports=[_quality("static", 0, 5.0, 1.0, 0.5)]))
    pictures = re.findall(r"<svg[^>]*>(.{7})", text)
    assert len(pictures) > 20
    assert set(pictures) == {"<title>"}
    assert text.count("<svg") == text.count('role="img"')
    for table in re.findall(r"<table>.*?</table>", text, flags=re.DOTALL):
        assert 'scope="col"' in table


def _luminance(colour: str) -> float:
    digits = colour[1:] if len(colour) == 7 else "".join(2 * one for one in colour[1:])
    parts = [int(digits[at : at + 2], 16) / 255 for at in (0, 2, 4)]
    red, green, blue = (one / 12.92 if one <= 0.04045 else ((one + 0.055) / 1.055) ** 2.4 for one in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_can_be_read_in_both_schemes(scheme: str) -> None:
    """WCAG 2.2: 4.5 for text, 3 for what is drawn."""
    style = page(_report()).partition("<style>")[2]
    block = style.partition("dark)" if scheme == "dark" else "<style>")[2] or style
    colours = dict(re.findall(r"--(\w+):(#\w+)", block.partition("}")[0]))
    assert len(colours) > 15
    for ground in ("bg", "card"):
        for name in set(colours) - {"bg", "card", "line"}:
            light, dark = sorted((_luminance(colours[name]), _luminance(colours[ground])), reverse=True)
            drawn = name in ("ref", "cur", "new") or re.fullmatch(r"m\d", name)
            contrast = (light + 0.05) / (dark + 0.05)
            assert contrast >= (3.0 if drawn else 4.5), f"{name} on {ground}: {contrast:.2f}"


def _wide() -> tuple[Any, list[dict[str, Any]]]:
    """Make a day of slices of fifty features that all moved."""
    rng = np.random.default_rng(4)
    binner = Binner([*(Bins.of_values(f"feature_number_{n}", rng.normal(size=2_000) * 10**n) for n in range(-25, 25))])
    usual = np.full((30, binner.total), 400)
    for begin, one in zip(binner.begins[:-1].tolist(), binner.series, strict=True):
        usual[:, [begin + place for place in [*one.outside, one.missing]]] = 0
    watch = Watch(Reference.learn(binner, usual), every="10s")

    class Wide:
        name, version = "wide", "1"

    Wide.watch = watch  # type: ignore[attr-defined]
    said = []
    for number in range(0, 8_640, 43):
        counts, own, labels = (rng.poisson(40, one.total) for one in (binner, watch.event_binner, watch.label_binner))
        empty = np.zeros((len(watch.related), len(watch.related)))
        slice_ = Counted(number, int(counts[: binner.series[0].count].sum()), counts, own, labels, empty, {})
        said.append({"partition": 0, "slice": slice_.dump()})
    return Wide, said


def test_a_day_of_fifty_features_is_less_than_a_megabyte() -> None:
    rng, (pipeline, said) = np.random.default_rng(1), _wide()
    evidence = Evidence(bins=[f"{n}.12345 to {n}.23456" for n in range(23)], reference=[0.04] * 23, current=[0.04] * 23)
    alerts = [_alert(f"a{n}", at=400.0 * n, evidence=evidence, pipeline="wide") for n in range(200)]
    reports = [
        msgspec.structs.replace(_quality(model, 0, float(at), 10.0, 0.5 + rng.random()), pipeline="wide")
        for model in ("static", "online", "combined", "majority", "last_class")
        for at in range(0, 86_400, 300)
    ]
    report = _report(said, pipeline=pipeline, alerts=alerts, reports=reports)
    assert len(report.series) == 50 + 4 + 5
    assert len(report.told) == 200
    assert 100 < len(report.points) <= POINTS_MAX
    assert {len(one.over_time["psi"]) for one in report.series} == {len(report.points)}
    assert all(one.moved > 0 for one in report.series if one.kind == "feature")
    assert len(page(report).encode()) < 1_000_000


# The command.

PAGE = """
from headrace import Drift, Event, Linear, Pipeline, field

class Visit(Event, topic="visits", key="user"):
    id: str
    at: float
    user: str
    depth: float | None = None
    kind: int = 0

pipeline = Pipeline(
    name="visits",
    events=Visit,
    features={"depth": field("depth"), "kind": field("kind")},
    static=Linear({"depth": 0.1, "kind": 0.2}),
    watch=Drift("reference.json", slices=["user"]),
)
"""


@pytest.fixture(scope="module")
def broker() -> Iterator[EmbeddedBroker]:
    with EmbeddedBroker() as broker:
        yield broker


@pytest.fixture
def _alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(logs, "set_up", lambda _level, **_: False)
    for name in os.environ:
        if name.startswith("HEADRACE_"):
            monkeypatch.delenv(name)
    Path("visits.py").write_text(PAGE)
    Path("reference.json").write_bytes(orjson.dumps(DATA))


@pytest.mark.usefixtures("_alone")
def test_the_command_writes_what_is_on_the_topics(broker: EmbeddedBroker, capfd: pytest.CaptureFixture[str]) -> None:
    def ends(*more: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as ended:
            cli.main(["drift", "report", "visits.py", "--broker", broker.address, *more])
        assert isinstance(ended.value.code, int)
        return ended.value.code, *capfd.readouterr()

    code, _, err = ends()
    assert code == 4
    assert "there is no topic visits-slices, or it may not be seen; a worker whose page says watch=Drift(...)" in err

    producer = confluent_kafka.Producer({"bootstrap.servers": broker.address, "enable.idempotence": True})
    other = {"of": "another", "partition": 0, "slice": _slices()[0]["slice"]}
    idle: dict[str, Any] = {"partition": 1, "idle": True}
    producer.produce("visits-slices", _packed({**other, "slice": [10**6, *other["slice"][1:]]}), partition=0)
    producer.produce("visits-slices", _packed(idle), partition=0)
    producer.produce("visits-slices", b"nonsense", partition=0)
    for one in _slices():
        producer.produce("visits-slices", _packed(one), partition=0)
    for alert in (_alert(pipeline="visits"), _alert(state=AlertState.CLEARED, at=500.0, pipeline="visits")):
        producer.produce("alerts", encode(alert), alert.id)
    producer.produce("quality", encode(_quality("static", 0, 405.0, 3.0, 0.25)))
    assert producer.flush(30) == 0

    code, out, err = ends("--from", "@1970-01-01T00:06:40", "--to", "@1970-01-01T00:09:10", "-o", "report.html")
    assert (code, out) == (0, ""), err
    assert err.startswith("1970-01-01 00:06:40 to 1970-01-01 00:09:10 UTC: 4,500 events, alerts: 1 medium; ")
    assert "note: records on the topic of slices that cannot be read, and are left out: 1\n" in err
    written = Path("report.html").read_text()
    assert Seen(written).text.count("4,500") == 1
    assert ends("-o", "report.html")[0] == 8
    assert Path("report.html").read_text() == written, "nothing is replaced unasked"

    code, out, _ = ends("--json")
    told = json.loads(out)
    assert code == 0
    assert told["events"] == len(_events())
    assert told["told"][0]["life"][-1]["state"] == "cleared"
    assert told["quality"][0]["newest"]["log_loss"] == 0.25
    assert msgspec.convert(told, Report, strict=False).series == _report().series

    code, _, err = ends("--from", "@2026-01-01")
    assert code == 13
    assert "--from 2026-01-01 00:00:00: no slice is in between; visits-slices has those of 1970-01-01 00:00:00" in err
    code, _, err = ends("--from", "41", "--to", "committed")
    assert code == 2
    assert "--from 41: a report is of a time of the events" in err
    assert "--to committed: " in err
    Path("visits.py").write_text(PAGE.replace('watch=Drift("reference.json", slices=["user"]),', ""))
    code, _, err = ends()
    assert code == 2
    assert "visits watches nothing" in err
    Path("visits.py").write_text(PAGE.replace(', slices=["user"]', ""))
    code, _, err = ends("-o", "other.html")
    assert code == 18
    assert "slices in this period are of another reference than the page's" in err
    assert not Path("other.html").exists()

"""River's detectors follow errors where a page asks for them, and what they find is told as theirs."""

from typing import Any

import numpy as np
import pytest
from core.test_actions import PARTS, Judged, _clicks, _drive
from river import drift, linear_model

from headrace import Pipeline
from headrace.models import snapshot
from headrace.models.detectors import CALM_COUNT, Following
from headrace.models.laws import LAWS, Steps
from headrace.models.pipeline import together
from headrace.schemas.errors import BadPipeline
from headrace.stream.driver import Driver

KINDS: dict[str, Any] = {
    "ADWIN": drift.ADWIN(),
    "PageHinkley": drift.PageHinkley(threshold=10.0),
    "KSWIN": drift.KSWIN(seed=1),
    "DDM": drift.binary.DDM(),
    "EDDM": drift.binary.EDDM(),
    "HDDMA": drift.binary.HDDMA(),
}
EVERY = {"error": KINDS["ADWIN"], "error_static": KINDS["DDM"], "error_online": KINDS["KSWIN"]}


def _page(detectors: Any, **other: Any) -> Pipeline:
    return Pipeline(name="clicks", detectors=detectors, **{**PARTS, **other})


def _found(detector: Any, *, flipped: bool) -> list[tuple[str, float]]:
    page = _page({"error_static": detector})
    state, alerts = page.fresh(), []
    for seconds, seed, turned in ((20, 1, False), (10, 2, flipped), (20, 3, False)):
        clicks, verdicts = _clicks(seconds, seed=seed, begin=20 * (seed == 2) + 30 * (seed == 3), flipped=turned)
        alerts += page.step(clicks, state).alerts
        alerts += page.learn(verdicts, state).alerts
    assert {one.kind for one in alerts} <= {"detector"}
    return [(one.state.value, one.at) for one in alerts]


@pytest.mark.parametrize("name", ["ADWIN", "DDM"])
def test_a_detector_finds_that_errors_grew_and_is_calm_when_it_finds_nothing_more(name: str) -> None:
    found = _found(KINDS[name], flipped=True)
    assert next(at for state, at in found if state == "raised") == pytest.approx(21.0, abs=2.0)
    assert [state for state, _ in found[:2]] == ["raised", "cleared"]


@pytest.mark.parametrize("name", KINDS)
def test_every_detector_goes_on_as_a_loop_of_rivers_own_wherever_it_was_cut_and_moved(name: str) -> None:
    detector, rng = KINDS[name], np.random.default_rng(3)
    errors = np.concatenate([rng.random(400) * 0.4, 0.3 + rng.random(400) * 0.7, rng.random(1_200) * 0.4])
    wrong = (errors > 0.5).astype(np.float64)
    plain, want = detector.clone(), []
    for error, mistake in zip(errors.tolist(), wrong.tolist(), strict=True):
        plain.update(bool(mistake) if name in ("DDM", "EDDM", "HDDMA") else error)
        want.append(plain.drift_detected)
    one, found, begin = Following("error", detector), [], 0
    while begin < len(errors):
        some = slice(begin, begin := begin + int(rng.integers(1, 300)))
        found += one.step(errors[some], wrong[some], np.arange(len(errors), dtype=np.float64)[some])
        moved = Following("error", detector)
        moved.load(snapshot.decode(snapshot.encode(one.dump())))
        one = moved
    times = np.flatnonzero(want)
    first = [at for at, before in zip(times, [-2 * CALM_COUNT, *times[:-1]], strict=True) if at - before > CALM_COUNT]
    assert [finding.at for finding in found if finding.raised] == first


def test_a_finding_is_told_by_its_partition_as_the_detectors_own() -> None:
    driver = Driver(_page({"error_static": drift.ADWIN()}))
    _drive(driver, *_clicks(10, seed=1))
    _drive(driver, *_clicks(5, seed=2, begin=10, flipped=True), crashes=[12])
    (alert,) = driver.alerts
    assert (alert["id"], alert["kind"], alert["slice"]) == (
        "clicks-detector-error_static-1-0",
        "detector",
        "partition=0",
    )
    assert alert["text"] == (
        "ADWIN says that error_static has changed; how often that is wrong is the detector's own: it is not among the "
        "promised false alarms"
    )
    assert alert["effect"]["error_static"] > alert["effect"]["error_static_before"]


@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.__name__)
def test_a_page_with_detectors_keeps_the_laws(law: Any) -> None:
    law(_page(EVERY), 1)


@pytest.mark.parametrize("own", [{}, {"labels": "verdict", "events": Judged}], ids=["a topic", "with the events"])
def test_findings_are_the_same_wherever_a_batch_is_cut_and_after_a_move(own: Any) -> None:
    page = _page(EVERY, **own)
    items: list[Any] = []
    for seed, flipped in ((1, False), (2, True)):
        clicks, verdicts = _clicks(6, seed=seed, begin=6 * (seed - 1), flipped=flipped)
        for begin in range(0, 600, 50):
            some = list(zip(clicks, verdicts, strict=True))[begin : begin + 50]
            if own:
                items += [("events", Judged(a.id, a.at, a.user, a.a, a.b, b.label)) for a, b in some]
            else:
                items += [("events", click) for click, _ in some] + [("labels", verdict) for _, verdict in some]
    lived, again = page.fresh(), page.fresh()
    want = Steps(items).play(page, lived)
    assert {(one.kind, one.state.value) for one in want.alerts} == {("detector", "raised")}
    parts, state = [], page.fresh()
    for part in (items[:333], items[333:905], items[905:]):
        parts.append(Steps(part).play(page, state))
        again.take(snapshot.decode(snapshot.encode(parts[-1].change)))
        moved = page.fresh()
        moved.load(snapshot.decode(snapshot.encode(state.dump())))
        state = moved
    assert together(parts).alerts == want.alerts
    kept = snapshot.encode(lived.dump())
    assert snapshot.encode(state.dump()) == snapshot.encode(again.dump()) == kept


def test_a_detector_with_other_parameters_begins_anew_and_the_others_go_on() -> None:
    state = _page(EVERY).fresh()
    clicks, verdicts = _clicks(5, seed=1)
    _page(EVERY).step(clicks, state)
    _page(EVERY).learn(verdicts, state)
    other = _page({**EVERY, "error": drift.ADWIN(delta=0.5)}).fresh()
    other.load(snapshot.decode(snapshot.encode(state.dump())))
    mine, before = (one.learning.detecting.dump() for one in (other, state))  # type: ignore[union-attr]
    assert snapshot.encode(mine["error_static"]) == snapshot.encode(before["error_static"])
    assert [one["error"][1][4][1] for one in (mine, before)] == [0, 500]  # errors since the last finding


def test_what_cannot_follow_errors_is_refused_by_name() -> None:
    with pytest.raises(BadPipeline) as told:
        _page({"score": drift.ADWIN(), "error": linear_model.LogisticRegression(), "error_static": drift.KSWIN()})
    said = "\n".join(told.value.problems)
    assert "detectors['score']: allowed are error, error_static, error_online" in said
    assert "expected a detector of river.drift, such as drift.ADWIN()" in said
    assert "detectors['error_static']: seed=None draws other numbers in every process; give it a seed" in said
    with pytest.raises(BadPipeline, match="follows whether scores were wrong, and here they are numbers"):
        _page({"error": drift.binary.DDM()}, online=linear_model.LinearRegression())
    with pytest.raises(BadPipeline, match="errors are known by labels, and there are none"):
        _page({"error": drift.ADWIN()}, labels=None, online=None)

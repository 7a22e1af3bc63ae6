"""Which feature is the first reason for scores is watched like any other series."""

from typing import Any

import numpy as np
import pytest
from core.test_monitor import _stream
from core.test_watch import DATA, FEATURES, STATIC, Visit

from headrace import Pipeline
from headrace.models.monitor import Monitor
from headrace.models.usual import watch_of
from headrace.models.watch import Counted
from headrace.schemas.alert import AlertState
from headrace.schemas.errors import BadPipeline


def _page(reasons: int = 1, **options: Any) -> Pipeline:
    watch = watch_of(DATA, every="2s", reasons=True, **options)
    codes = {"kind": "R7"} if reasons else None
    return Pipeline(
        name="visits", events=Visit, features=FEATURES, static=STATIC, watch=watch, reasons=reasons, codes=codes
    )


PAGE = _page()


def _slices(events: list[Visit]) -> tuple[list[Counted], list[Any]]:
    state = PAGE.fresh()
    effects = PAGE.step(events, state)
    return [*effects.slices, *PAGE.tick(state, wall=1e12, event=0.0).slices], effects.predictions


def _reasons(slice_: Counted) -> np.ndarray:
    assert PAGE.watch is not None
    binner = PAGE.watch.event_binner
    return slice_.own[binner.begins[len(binner.series) - 1] :]


def test_first_reasons_are_counted_as_predictions_tell_them() -> None:
    slices, predictions = _slices(_stream(20, seed=1, missing=0.1))
    told = [one.reasons[0].code for one in predictions]
    assert PAGE.watch is not None
    assert PAGE.watch.event_binner.series[-1].names == ["depth", "kind", "other", "missing"]
    known = [told.count("depth"), told.count("R7"), 0, 2_000 - len(told)]  # the last have no score
    assert sum(_reasons(one) for one in slices).tolist() == known
    assert min(known[:2]) > 50 < known[3]


def test_other_reasons_are_an_alert_that_says_which_feature_has_gained() -> None:
    """Flow: slices as usual, then the same with the two features changed about in the counts of first reasons."""
    slices, _ = _slices(_stream(300, seed=2))
    said = []
    for number, one in enumerate(slices):
        if number >= 100:
            own = one.own.copy()
            places = slice(len(own) - len(_reasons(one)), len(own) - len(_reasons(one)) + 2)
            own[places] = own[places][::-1]
            one = one._replace(own=own)  # noqa: PLW2901
        said.append({"partition": 0, "partitions": 1, "slice": one.dump()})
    assert PAGE.watch is not None
    alert = Monitor(PAGE.watch, name="visits", version="1").step(said)[0]
    assert (alert.state, alert.kind, alert.series) == (AlertState.RAISED, "score", "reason")
    assert alert.text.startswith("the first reason for scores is another than before: depth for ")
    assert 200 < alert.at < 230


def test_reasons_that_nobody_tells_cannot_be_watched() -> None:
    with pytest.raises(BadPipeline, match="watch: reasons: the pipeline tells none"):
        _page(reasons=0)

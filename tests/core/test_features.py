"""Features of one event say what their docstrings say, and refuse what makes no sense."""

import math
from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace import Event, code, cyclic, hashed, one_hot
from headrace.models import features
from headrace.models.features import Columns, Feature


class Visit(Event, topic="visits", key="user"):
    """Fields of every type that a category may have."""

    id: str
    at: float
    user: str
    page: str | None = None
    shop: int | None = None
    share: float | None = None
    mixed: int | str | None = None
    raw: bytes | None = None
    paid: bool | None = None


def _column(feature: Feature, field: str, values: list[Any]) -> list[float]:
    events = [Visit(str(at), 0.0, "u", **{field: value}) for at, value in enumerate(values)]
    return feature.column("it", Columns(events)).tolist()


def test_the_bucket_of_a_value_never_changes() -> None:
    golden: dict[str, tuple[list[Any], list[float]]] = {
        "page": (["", "FR", "DE", "/cart?id=7", "Zürich"], [906, 78, 223, 118, 625]),
        "shop": ([0, 1, 2, 1000, -1], [535, 141, 75, 938, 98]),
        "share": ([0.0, 0.5, 1e-09, -2.25], [535, 309, 348, 148]),
        "mixed": ([7, "7", 9007199254740993], [862, 697, 686]),
        "raw": ([b"", b"\x00\xff"], [970, 666]),
        "paid": ([False, True], [535, 141]),
    }
    for field, (values, want) in golden.items():
        assert _column(hashed(field, buckets=1_000), field, values) == want, field


def test_a_whole_number_has_the_bucket_that_it_has_as_any_other_number() -> None:
    feature = [hashed(field, buckets=2**31) for field in ("shop", "share", "mixed")]
    made = [_column(one, one.fields[0], [0, 1, 7, -3, 10**9]) for one in feature]
    assert made[0] == made[1] == made[2]
    assert _column(feature[2], "mixed", ["7"]) != made[2][2:3]


@pytest.mark.parametrize("buckets", [2, 10, 64, 1_000])
def test_values_spread_over_all_buckets_alike(buckets: int) -> None:
    for field, values in {"page": [f"/{at}" for at in range(20_000)], "shop": list(range(20_000))}.items():
        counts = Counter(_column(hashed(field, buckets=buckets), field, values))
        assert set(counts) == set(map(float, range(buckets)))
        want = len(values) / buckets
        surprise = sum((count - want) ** 2 for count in counts.values()) / want
        assert abs(surprise - (buckets - 1)) < 5 * math.sqrt(2 * buckets)  # chi squared, within five of its deviations


@pytest.mark.parametrize("buckets", [1, 0, -5, 2**31 + 1])
def test_a_number_of_buckets_that_is_none_is_refused(buckets: int) -> None:
    told = rf"hashed\('page', buckets={buckets}\): allowed are 2 to 2147483648 buckets"
    with pytest.raises(ValueError, match=told):
        hashed("page", buckets=buckets)


def test_a_missing_value_has_a_number_of_its_own_in_every_encoding() -> None:
    assert _column(hashed("page", buckets=10), "page", [None]) == [-1]
    assert _column(hashed("shop", buckets=10, missing=10), "shop", [None]) == [10]
    assert _column(code("page", ["a"]), "page", [None]) == [-2]
    assert _column(code("shop", [1], missing=math.nan), "shop", [1, 2])[:1] == [0]
    assert [_column(one, "page", [None]) for one in one_hot("page", ["a", "b"]).values()] == [[0], [0]]


def test_a_code_is_the_place_in_the_list() -> None:
    assert _column(code("page", ["FR", "DE"]), "page", ["DE", "FR", "fr", None]) == [1, 0, -1, -2]
    assert _column(code("shop", [30, 10, 20]), "shop", [10, 20, 30, 40, None]) == [1, 2, 0, -1, -2]
    assert _column(code("mixed", [1, "1"], unknown=9), "mixed", ["1", 1, 2, "2"]) == [1, 0, 9, 9]
    assert _column(code("paid", [False, True]), "paid", [True, False, None]) == [1, 0, -2]
    assert _column(code("raw", [b"x"]), "raw", [b"x", b"y"]) == [0, -1]


def test_one_hot_makes_a_feature_of_each_value() -> None:
    made = {name: _column(one, "page", ["FR", "DE", "US", None]) for name, one in one_hot("page", ["FR", "DE"]).items()}
    assert made == {"page=FR": [1, 0, 0, 0], "page=DE": [0, 1, 0, 0]}
    made = {name: _column(one, "shop", [7, 8, None]) for name, one in one_hot("shop", [7]).items()}
    assert made == {"shop=7": [1, 0, 0]}
    assert one_hot("page", ["FR"])["page=FR"].origin == "one_hot('page', ['FR'])['page=FR']"


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ([], "allowed is a list of values, and at least one"),
        ("FR", "allowed is a list of values, and at least one"),
        (["FR", "DE", "FR"], "'FR' is named twice, and each value has one place"),
        ([1, True], "1 is named twice, and each value has one place"),
        (["FR", None], "None is no value, it is what a missing one is"),
    ],
)
def test_a_list_of_values_that_is_none_is_refused(values: Any, told: str) -> None:
    for make in (code, one_hot):
        with pytest.raises(ValueError, match=told):
            make("page", values)


def test_two_values_of_one_name_are_refused() -> None:
    with pytest.raises(ValueError, match="two features would have one name, there are mixed=1"):
        one_hot("mixed", [1, "1"])


def test_cyclic_goes_round_once_in_its_period() -> None:
    midnight = 1_700_006_400.0  # 2023-11-15, a Wednesday
    hours = np.arange(0, 49, 6)
    events = [Visit(str(hour), midnight + 3_600.0 * hour, "u") for hour in hours]
    made = {name: one.column(name, Columns(events)) for name, one in cyclic("at", "1d").items()}
    assert made["sin(at, 1d)"] == pytest.approx(np.sin(hours / 24 * 2 * np.pi), abs=1e-9)
    assert made["cos(at, 1d)"] == pytest.approx(np.cos(hours / 24 * 2 * np.pi), abs=1e-9)
    week = cyclic("at", "1w")
    assert list(week) == ["sin(at, 1w)", "cos(at, 1w)"]
    angle = np.arctan2(*(one.column("w", Columns(events[:1])) for one in week.values()))
    assert angle % (2 * np.pi) == pytest.approx(6 / 7 * 2 * np.pi)  # six days after a Thursday


def test_a_period_that_is_no_span_is_refused() -> None:
    with pytest.raises(ValueError, match="'daily' is no span of time"):
        cyclic("at", "daily")


NUMBERS = ("at", "shop", "share", "paid")
_whole = st.integers(-(2**70), 2**70)


@given(
    st.lists(
        st.tuples(
            st.floats() | _whole | st.booleans(),
            st.none() | _whole,
            st.none() | st.floats(),
            st.none() | st.booleans(),
        ),
        min_size=1,
        max_size=20,
    )
)
def test_columns_that_are_built_together_are_those_that_are_built_alone(rows: list[tuple[Any, ...]]) -> None:
    events = [Visit(str(at), user="u", **dict(zip(NUMBERS, row, strict=True))) for at, row in enumerate(rows)]
    alone, together = Columns(events), Columns(events, together=NUMBERS)
    for name in NUMBERS:
        assert together[name].tobytes() == alone[name].tobytes(), name
        assert not together[name].flags.writeable


def test_a_field_that_is_no_number_takes_no_other_with_it() -> None:
    huge = [Visit("v1", 0.5, "u", shop=10**400), Visit("v2", 1.5, "u", shop=1)]
    columns = Columns(huge, together=NUMBERS)
    assert columns["at"].tolist() == [0.5, 1.5]
    with pytest.raises(OverflowError):
        columns["shop"]


@pytest.mark.parametrize(
    ("events", "names", "shape"),
    [([], ("at",), (1, 1)), ([1.0], ("real", "imag"), (1, 1)), ((1.0,), ("real",), (1, 1)), ([1.0], ["real"], (1, 1))],
)
def test_what_does_not_fit_together_is_an_error_and_no_crash(events: Any, names: Any, shape: tuple[int, int]) -> None:
    with pytest.raises((TypeError, ValueError)):
        features._kernel.numbers(events, names, np.empty(shape))

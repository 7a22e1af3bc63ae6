"""How two scores become one: equal to a slow loop, whatever the cuts, and following whoever is right."""

import itertools
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from river import linear_model

from headrace.models import snapshot
from headrace.models.combine import (
    Combination,
    by_recent_loss,
    online_only,
    stacked,
    static_only,
    until_proven,
)
from headrace.models.learners import learner_of
from headrace.models.mixer import Mixer

COUNT = 240
KINDS = ("binary", "regression", "multiclass")


class RowByRow:
    """A River model as the learner of a stacker, for tests: whatever it has learned is in its weights."""

    def __init__(self, model: Any) -> None:
        self._model = model.clone()

    def predict(self, columns: Mapping[str, np.ndarray]) -> np.ndarray:
        if isinstance(self._model, linear_model.LogisticRegression):
            return np.array([self._model.predict_proba_one(row)[True] for row in self._rows(columns)])
        return np.array([self._model.predict_one(row) for row in self._rows(columns)])

    def learn(self, columns: Mapping[str, np.ndarray], labels: np.ndarray) -> None:
        for row, label in zip(self._rows(columns), labels.tolist(), strict=True):
            self._model.learn_one(row, label)

    def _rows(self, columns: Mapping[str, np.ndarray]) -> list[dict[str, float]]:
        values = zip(*[column.tolist() for column in columns.values()], strict=True)
        return [dict(zip(columns, one, strict=True)) for one in values]

    def dump(self) -> Any:
        weights = self._model.weights
        return {"intercept": self._model.intercept, "weights": {name: weights[name] for name in sorted(weights)}}

    def load(self, data: Any) -> None:
        self._model.intercept = data["intercept"]
        self._model._weights.update(data["weights"])


def _stacker(kind: str) -> Combination:
    return stacked(linear_model.LogisticRegression() if kind == "binary" else linear_model.LinearRegression(), least=20)


COMBINATIONS: dict[str, Combination] = {
    "by_recent_loss": by_recent_loss,
    "by_recent_loss, quick": by_recent_loss(half_life=7, floor=0.2),
    "by_recent_loss, per shop": by_recent_loss(half_life=20, per="shop", groups_max=3),
    "until_proven": until_proven(margin=0.01, least=30, half_life=50),
    "static_only": static_only,
    "online_only": online_only,
}
CASES = [(name, kind) for name in COMBINATIONS for kind in KINDS] + [("stacked", kind) for kind in KINDS[:2]]


def _fresh(name: str, kind: str) -> Mixer:
    combination = _stacker(kind) if name == "stacked" else COMBINATIONS[name]
    return combination.fresh(kind, learner_of=RowByRow)  # type: ignore[arg-type]


class Rows:
    """Scores of two models of which each is sometimes missing, labels of which some are, and groups."""

    def __init__(self, kind: str, seed: int = 1, count: int = COUNT) -> None:
        rng = np.random.default_rng(seed)
        self.kind = kind
        self.labels: Any = rng.integers(0, 2, count).astype(float)
        self.static: Any = np.where(rng.random(count) < 0.05, np.nan, rng.beta(1 + self.labels, 2))
        # The learner is bad at first.
        better = np.minimum(np.arange(count) / count * 4, 3.0)
        self.online: Any = np.where(rng.random(count) < 0.05, np.nan, rng.beta(1 + better * self.labels, 2 + better))
        if kind == "regression":
            self.labels = 100.0 * self.labels + rng.normal(size=count)
            self.static, self.online = 100.0 * self.static, 100.0 * self.online
            self.online[count // 2] = 1e30
        if kind == "multiclass":
            names = np.array(["no", "yes"], object)
            self.labels = names[self.labels.astype(int)]
            self.static = {"no": 1.0 - self.static, "yes": self.static}
            self.online = {"yes": self.online / 2, "perhaps": self.online / 2, "no": 1.0 - self.online}
        else:
            self.labels[rng.random(count) < 0.05] = np.nan
        self.groups = rng.choice(["a", "b", "c", "d", None], count).tolist()  # type: ignore[arg-type]
        self.at = 1e9 + np.arange(float(count))

    def part(self, begin: int, end: int) -> tuple[Any, ...]:
        columns = (self.static, self.online, self.labels, self.groups, self.at)
        return tuple(
            {name: one[begin:end] for name, one in column.items()} if isinstance(column, dict) else column[begin:end]
            for column in columns
        )

    def scores(self, begin: int = 0, end: int = COUNT) -> tuple[Any, ...]:
        static, online, _, groups, _ = self.part(begin, end)
        return static, online, groups


def _learned(mixer: Mixer, rows: Rows, cuts: list[int], begin: int = 0) -> Mixer:
    bounds = [begin, *[cut for cut in cuts if cut > begin], COUNT]
    for one, other in itertools.pairwise(bounds):
        mixer.learn(*rows.part(one, other))
    return mixer


def _bytes(mixer: Mixer) -> bytes:
    return snapshot.encode(mixer.dump())


def _same(mine: Any, theirs: Any) -> None:
    assert isinstance(mine, dict) == isinstance(theirs, dict)
    if isinstance(mine, dict):
        assert list(mine) == list(theirs)
        for name in mine:
            np.testing.assert_array_equal(mine[name], theirs[name])
    else:
        np.testing.assert_array_equal(mine, theirs)


# Laws


@pytest.mark.parametrize(("name", "kind"), CASES)
@pytest.mark.parametrize("number", range(3))
def test_where_a_batch_is_cut_never_shows(name: str, kind: str, number: int) -> None:
    rows = Rows(kind, number)
    cuts = sorted(set(np.random.default_rng(number).integers(1, COUNT, 6).tolist()))
    whole = _learned(_fresh(name, kind), rows, [])
    for parts in (cuts, list(range(1, COUNT))):
        cut = _learned(_fresh(name, kind), rows, parts)
        assert _bytes(cut) == _bytes(whole)
    together = whole.combined(*rows.scores())
    for at in range(0, COUNT, 7):
        scores, weights = whole.combined(*rows.scores(at, at + 1))
        for mine, theirs in ((scores, together[0]), (weights, together[1])):
            _same(
                mine,
                {one: column[at : at + 1] for one, column in theirs.items()}
                if isinstance(theirs, dict)
                else theirs[at : at + 1],
            )


@pytest.mark.parametrize(("name", "kind"), CASES)
def test_a_restored_snapshot_goes_on_alike(name: str, kind: str) -> None:
    rows = Rows(kind)
    stayed = _fresh(name, kind)
    stayed.learn(*rows.part(0, 100))
    moved = _fresh(name, kind)
    moved.load(snapshot.decode(_bytes(stayed)))
    assert moved.fingerprint == stayed.fingerprint
    for one in (stayed, moved):
        _learned(one, rows, [130], begin=100)
    assert _bytes(moved) == _bytes(stayed)
    assert moved.report() == stayed.report()
    for mine, theirs in zip(moved.combined(*rows.scores()), stayed.combined(*rows.scores()), strict=True):
        _same(mine, theirs)


@pytest.mark.parametrize(("name", "kind"), CASES)
def test_combining_changes_nothing_and_inputs_are_left_alone(name: str, kind: str) -> None:
    rows, asked, quiet = Rows(kind), _fresh(name, kind), _fresh(name, kind)
    before = snapshot.encode([repr(one) for one in rows.part(0, COUNT)])
    for begin in range(0, COUNT, 40):
        asked.combined(*rows.scores())
        asked.report()
        asked.learn(*rows.part(begin, begin + 40))
        quiet.learn(*rows.part(begin, begin + 40))
        assert _bytes(asked) == _bytes(quiet)
    assert snapshot.encode([repr(one) for one in rows.part(0, COUNT)]) == before


@pytest.mark.parametrize(("name", "kind"), CASES)
def test_nothing_to_combine_is_no_end(name: str, kind: str) -> None:
    mixer = _fresh(name, kind)
    mixer.learn(*Rows(kind).part(0, 0))
    scores, weights = mixer.combined(*Rows(kind).scores(0, 0))
    assert len(weights) == 0
    assert not any(map(len, scores.values())) if isinstance(scores, dict) else len(scores) == 0


def test_other_settings_have_another_fingerprint() -> None:
    made = [one.fresh(kind).fingerprint for one in COMBINATIONS.values() for kind in KINDS]  # type: ignore[arg-type]
    assert len(set(made)) == len(made)


# Against slow loops


def _loss(rows: Rows, of: str, at: int) -> float:
    """The loss of one row as its definition has it, or NaN."""
    scores, label = getattr(rows, of), rows.labels[at]
    if rows.kind == "multiclass":
        values = [column[at] for column in scores.values()]
        return math.nan if np.isnan(values).all() else -math.log(min(max(scores[label][at], 1e-6), 1 - 1e-6))
    score = scores[at]
    if rows.kind == "regression":
        return (score - label) ** 2
    if math.isnan(score) or math.isnan(label):
        return math.nan
    p = min(max(score, 1e-6), 1 - 1e-6)
    return -math.log(p if label else 1 - p)


def _faded(history: list[float], half_life: float) -> float:
    return math.fsum(value * 0.5 ** ((len(history) - 1 - at) / half_life) for at, value in enumerate(history))


def _losses_so_far(rows: Rows, half_life: float) -> list[tuple[int, float, float]]:
    """The rows that both models have a score for, with both losses, none of them absurd."""
    made: list[tuple[int, float, float]] = []
    for at in range(COUNT):
        x, y = _loss(rows, "static", at), _loss(rows, "online", at)
        if math.isnan(x) or math.isnan(y):
            continue
        if rows.kind == "regression" and made:
            sums = _faded([a for _, a, _ in made], half_life) + _faded([b for _, _, b in made], half_life)
            most = 100 * sums / _faded([1.0] * len(made), half_life)
            x, y = min(x, most), min(y, most)
        made.append((at, x, y))
    return made


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["by_recent_loss, quick", "by_recent_loss, per shop"])
def test_weights_are_those_of_a_slow_loop(name: str, kind: str) -> None:
    combination: Any = COMBINATIONS[name]
    half_life, floor, per = combination.half_life, combination.floor, combination.per
    rows = Rows(kind)
    histories: dict[Any, list[tuple[float, float]]] = {}
    overall: list[tuple[float, float]] = []
    for at, x, y in _losses_so_far(rows, half_life):
        if per:
            group = rows.groups[at]
            mine = histories.pop(group, list(overall))
            histories[group] = [*mine, (x, y)]
            if len(histories) > combination.groups_max:
                del histories[next(iter(histories))]
        overall.append((x, y))
    mixer = _learned(_fresh(name, kind), rows, [50, 51])
    _, weights = mixer.combined(*rows.scores())
    for at in range(COUNT):
        history = histories.get(rows.groups[at], overall) if per else overall
        s, o = (_faded([pair[which] for pair in history], half_life) for which in (0, 1))
        n, h = _faded([1.0] * len(history), half_life), 3.0 * 0.5 ** (len(history) / half_life)
        ahead = n * (s - o) / (s + o) if kind == "regression" else s - o
        want = min(max(1 / (1 + math.exp(h - ahead)), floor), 1 - floor)
        values = [_score_of(one, at) for one in (rows.static, rows.online)]
        want = 0.0 if math.isnan(values[1]) else 1.0 if math.isnan(values[0]) else want
        assert weights[at] == pytest.approx(want, abs=1e-9), at


def _score_of(scores: Any, at: int) -> float:
    return next(iter(scores.values()))[at] if isinstance(scores, dict) else scores[at]


def _up_and_down(kind: str) -> Rows:
    """Rows where the learner is bad, then good, then bad again."""
    rows, rng = Rows(kind), np.random.default_rng(9)
    good = (np.arange(COUNT) > 50) & (np.arange(COUNT) < 130)
    if kind == "regression":
        rows.online = np.where(good, rows.labels + rng.normal(0, 1.0, COUNT), rows.labels + rng.normal(0, 90.0, COUNT))
        return rows
    right = 0.5 + np.where(good, 0.4, -0.4) * rng.random(COUNT) ** 0.2
    if kind == "multiclass":
        rows.online["yes"] = np.where(rows.labels == "yes", right, 1.0 - right)
        rows.online["no"] = 1.0 - rows.online["yes"]
    else:
        rows.online = np.where(rows.labels == 1.0, right, 1.0 - right)
    return rows


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("margin", [0.0, 0.05])
def test_what_is_proven_is_what_a_slow_loop_says(kind: str, margin: float) -> None:
    rows, half_life, least = _up_and_down(kind), 20.0, 20
    made = until_proven(margin=margin, least=least, half_life=half_life)
    proven, changed, since, turns = False, 0, None, 0
    pairs: list[tuple[float, float]] = []
    for number, (at, x, y) in enumerate(_losses_so_far(rows, half_life), start=1):
        pairs.append((x, y))
        if number - changed < least:
            continue
        n = _faded([1.0] * number, half_life)
        squares = math.fsum(0.25 ** ((number - 1 - one) / half_life) for one in range(number))
        mean = _faded([a - b for a, b in pairs], half_life) / n
        variance = _faded([(a - b) ** 2 for a, b in pairs], half_life) / n - mean**2
        error = math.sqrt(variance * squares) / n
        static = _faded([a for a, _ in pairs], half_life) / n
        if (mean + 3 * error < 0) if proven else (mean - 3 * error > margin * static):
            proven, changed, since, turns = not proven, number, rows.at[at], turns + 1
    told = _learned(made.fresh(kind), rows, [99]).report()  # type: ignore[arg-type]
    assert (told["proven"], told["since_label"], told["since"]) == (float(proven), changed, since)
    assert turns == 2, "it was proven, and sent back"


# What they are for


def _world(count: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Truth, a good score and a bad one."""
    rng = np.random.default_rng(seed)
    logit = rng.normal(-1.0, 2.0, count)
    labels = (rng.random(count) < 1 / (1 + np.exp(-logit))).astype(float)
    good, bad = (1 / (1 + np.exp(-logit - rng.normal(0, noise, count))) for noise in (0.3, 3.0))
    return labels, good, bad


def _brier(scores: np.ndarray, labels: np.ndarray) -> float:
    return float(np.mean((scores - labels) ** 2))


@pytest.mark.parametrize("name", ["by_recent_loss", "until_proven", "stacked"])
@pytest.mark.parametrize("kind", ["binary", "regression"])
def test_weights_follow_when_the_static_model_goes_bad(name: str, kind: str) -> None:
    labels, good, bad = _world(8_000, 3)
    rng = np.random.default_rng(3)
    half = np.arange(8_000) < 4_000
    static, online = np.where(half, good, bad), np.clip(good + rng.normal(0, 0.15, 8_000), 0.01, 0.99)
    fast: dict[str, Combination] = {
        "by_recent_loss": by_recent_loss(half_life=200),
        "until_proven": until_proven(half_life=200),
        "stacked": _stacker(kind),
    }
    mixer = fast[name].fresh(kind, learner_of=RowByRow)  # type: ignore[arg-type]
    scores, weights = np.empty((2, 8_000))
    for begin in range(0, 8_000, 100):
        part = slice(begin, begin + 100)
        scores[part], weights[part] = mixer.combined(static[part], online[part])
        mixer.learn(static[part], online[part], labels[part], at=np.arange(8_000.0)[part])
    second = ~half
    if name != "stacked":
        assert weights[2_000:4_000].max() <= 0.1
        assert weights[6_000:].min() >= 0.9
        assert _brier(scores[half], labels[half]) <= _brier(static[half], labels[half]) + 0.002
    assert _brier(scores[second], labels[second]) < 0.8 * _brier(static[second], labels[second])
    if name == "until_proven":
        assert 4_000 < (mixer.report()["since"] or 0) < 6_000


def test_two_models_that_are_equally_good_do_not_take_turns() -> None:
    turns = 0
    for seed in range(10):
        rng = np.random.default_rng(seed)
        logit = rng.normal(-3.0, 1.5, 20_000)
        labels = (rng.random(20_000) < 1 / (1 + np.exp(-logit))).astype(float)
        static, online = (1 / (1 + np.exp(-logit - rng.normal(0, 0.5, 20_000))) for _ in range(2))
        mixer, before = until_proven.fresh("binary"), 0.0
        for begin in range(0, 20_000, 50):
            mixer.learn(*[one[begin : begin + 50] for one in (static, online, labels)])
            now = mixer.report()["proven"] or 0.0
            turns, before = turns + (now != before), now
    assert turns == 0


def test_groups_go_their_own_way() -> None:
    mixer = by_recent_loss(half_life=50, per="country").fresh("binary")
    labels, good, bad = _world(2_000, 4)
    groups = ["FR" if at % 2 else "DE" for at in range(2_000)]
    french = np.array([one == "FR" for one in groups])
    mixer.learn(np.where(french, good, bad), np.where(french, bad, good), labels, groups)
    _, weights = mixer.combined(np.full(3, 0.2), np.full(3, 0.4), ["FR", "DE", "IT"])
    assert weights[0] == pytest.approx(0.05, abs=0.05)
    assert weights[1] == pytest.approx(0.95, abs=0.05)
    assert weights[2] == mixer.report()["weight"], "of a country that had no label, all labels speak"


def test_groups_are_bounded_and_the_one_that_was_quiet_leaves() -> None:
    mixer = by_recent_loss(per="card", groups_max=3).fresh("binary")
    half = np.full(6, 0.5)
    mixer.learn(half, half, np.ones(6), ["a", "b", "c", "a", "d", "e"])
    assert mixer.dump()["groups"] == ["a", "d", "e"]
    assert mixer.report()["groups"] == 3


def test_one_absurd_label_does_not_decide() -> None:
    rng = np.random.default_rng(6)
    labels = rng.normal(size=2_000)
    static, online = labels + rng.normal(0, 2.0, 2_000), labels + rng.normal(0, 0.5, 2_000)
    for combination in (by_recent_loss, until_proven):
        mixer = combination.fresh("regression")
        mixer.learn(static, online, labels)
        for absurd in (1e9, -1e200, math.inf):
            mixer.learn(np.array([0.0]), np.array([1.0 if absurd > 0 else absurd]), np.array([absurd]))
            assert (mixer.report()["weight"] or 0.0) > 0.9


# What is missing


@pytest.mark.parametrize(("name", "kind"), CASES)
def test_where_one_model_has_no_score_the_other_one_counts_alone(name: str, kind: str) -> None:
    rows = Rows(kind)
    for mixer in (_fresh(name, kind), _learned(_fresh(name, kind), rows, [])):
        scores, weights = mixer.combined(*rows.scores())
        for at in range(COUNT):
            static, online = _score_of(rows.static, at), _score_of(rows.online, at)
            if not (math.isnan(static) or math.isnan(online)):
                continue
            if math.isnan(static) and math.isnan(online):
                assert math.isnan(_score_of(scores, at))
                assert weights[at] == 0
            else:
                alone = rows.online if math.isnan(static) else rows.static
                assert weights[at] == float(math.isnan(static))
                for one in alone if isinstance(alone, dict) else [None]:
                    mine, theirs = (scores, alone) if one is None else (scores[one], alone[one])
                    assert mine[at] == theirs[at]


@pytest.mark.parametrize(("name", "kind"), CASES)
def test_a_learner_that_has_learned_nothing_has_no_weight(name: str, kind: str) -> None:
    rows = Rows(kind)
    _, weights = _fresh(name, kind).combined(*rows.scores())
    there = ~np.isnan([_score_of(rows.static, at) for at in range(COUNT)])
    assert not weights[there].any()


def test_an_anomaly_detector_learns_without_labels() -> None:
    scores, weights = online_only.fresh("anomaly").combined(np.array([0.1, np.nan]), np.array([0.7, 0.8]))
    assert (scores.tolist(), weights.tolist()) == ([0.7, 0.8], [1.0, 1.0])


def test_classes_may_come_as_a_dictionary_per_row() -> None:
    rows = Rows("multiclass")
    listed = [
        {name: column[at] for name, column in rows.online.items() if not math.isnan(column[at])} for at in range(COUNT)
    ]
    one = _learned(_fresh("by_recent_loss", "multiclass"), rows, [])
    other = _fresh("by_recent_loss", "multiclass")
    other.learn(rows.static, listed, rows.labels.tolist())
    assert _bytes(other) == _bytes(one)
    for mine, theirs in zip(other.combined(rows.static, listed), one.combined(rows.static, rows.online), strict=True):
        _same(mine, theirs)
    nothing = online_only.fresh("multiclass").combined([{}, {}], [{}, {"a": 1.0}])
    assert nothing[1].tolist() == [0.0, 1.0]


@pytest.mark.parametrize("logits", [True, False])
def test_a_stacker_reads_both_scores(logits: bool) -> None:
    seen: list[dict[str, list[float]]] = []

    class Spy(RowByRow):
        def learn(self, columns: Mapping[str, np.ndarray], labels: np.ndarray) -> None:
            seen.append({name: column.tolist() for name, column in columns.items()})

    mixer = stacked(linear_model.LogisticRegression(), logits=logits).fresh("binary", learner_of=Spy)
    mixer.learn(np.array([0.5, np.nan, 0.0]), np.array([0.25, 0.5, 1.0]), np.array([0.0, 1.0, 1.0]))
    edge = math.log(1e-6 / (1 - 1e-6))
    want = {"static": [0.0, edge], "online": [math.log(1 / 3), -edge]}
    assert list(seen[0]) == ["static", "online"]
    for name, column in (want if logits else {"static": [0.5, 0.0], "online": [0.25, 1.0]}).items():
        assert seen[0][name] == pytest.approx(column)


# What is refused


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda: by_recent_loss(half_life=0), "half_life = 0: allowed are positive numbers; it is counted in labels"),
        (lambda: by_recent_loss(floor=0.6), "floor = 0.6: allowed are 0 to 0.5"),
        (lambda: by_recent_loss(groups_max=0), "groups_max = 0: there is one group at the least"),
        (lambda: until_proven(margin=1.0), "margin = 1.0: allowed are 0 to 1"),
        (lambda: until_proven(least=1), "least = 1: nothing is proven by fewer than 2 labels"),
        (lambda: by_recent_loss.fresh("anomaly"), "combine=by_recent_loss: an anomaly score has no loss"),
        (lambda: until_proven.fresh("anomaly"), "combine=until_proven: an anomaly score has no loss"),
        (lambda: _stacker("x").fresh("multiclass", learner_of=RowByRow), "and a multiclass model has no such one"),
    ],
)
def test_what_cannot_be_is_refused(make: Any, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        make()


@pytest.mark.parametrize(
    "combination",
    [static_only, online_only, by_recent_loss(half_life=20), by_recent_loss(half_life=20, per="country"),
     until_proven(least=20, half_life=20), stacked(linear_model.LogisticRegression())],
    ids=str,
)  # fmt: skip
def test_rows_whose_truth_comes_with_them_are_scored_before_it_is_taken_in(combination):
    rng = np.random.default_rng(1)
    static, online = rng.random((2, 300))
    static[rng.random(300) < 0.1] = np.nan
    labels = np.where(rng.random(300) < 0.2, np.nan, (online > 0.4).astype(float))
    groups = [f"g{one}" for one in rng.integers(3, size=300)]
    at = np.arange(300.0)
    slow, fast = combination.fresh("binary", learner_of=learner_of), combination.fresh("binary", learner_of=learner_of)
    want = []
    for row in range(300):
        some = slice(row, row + 1)
        want.append(slow.combined(static[some], online[some], groups[some])[0][0])
        if not np.isnan(labels[row]):
            slow.learn(static[some], online[some], labels[some], groups[some], at[some])
    got = [fast.followed(*(column[some] for column in (static, online, labels)), groups[some], at[some])[0]
           for some in (slice(0, 7), slice(7, 290), slice(290, 300))]  # fmt: skip
    assert np.concatenate(got).tobytes() == np.array(want).tobytes()
    assert snapshot.encode(fast.dump()) == snapshot.encode(slow.dump())

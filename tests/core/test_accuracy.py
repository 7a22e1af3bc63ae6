"""What is learned is as good as it can be, and no better: on streams of which that is known from elsewhere.

It is known of STAGGER and LED by how they are made, of labels that are flipped by arithmetic, and of Phishing because
River publishes it. ``python tests/core/test_accuracy.py`` writes the table in docs/quality.md anew.
"""

import itertools
import math
import re
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from river import datasets, linear_model, naive_bayes, optim, preprocessing, tree
from river.datasets import synth

from headrace import Event, Label, Pipeline, feature, field, one_hot
from headrace.testing import Driver

PAGE = Path(__file__).resolve().parents[2] / "docs/quality.md"
DEVIATIONS = 3.0  # of a binomial: what chance alone exceeds once in 400 times

# STAGGER: one of three rules decides, and nothing else does.

SIZES, COLORS, SHAPES = ("small", "medium", "large"), ("red", "green", "blue"), ("square", "circle", "triangle")
RULES = ("small and red", "green or circular", "medium or large")
WARM_UP, THINGS = 200, 2_000


class Thing(Event, topic="things", key="id"):
    id: str
    at: float
    size: str
    color: str
    shape: str
    truth: int


THING = {**one_hot("size", SIZES), **one_hot("color", COLORS), **one_hot("shape", SHAPES)}
OF_THINGS = {
    "logistic regression": linear_model.LogisticRegression(optim.SGD(0.5)),
    "naive Bayes": naive_bayes.BernoulliNB(),
}


def _things(rule: int) -> list[Thing]:
    rows = itertools.islice(synth.STAGGER(classification_function=rule, seed=1), THINGS)
    return [
        Thing(str(at), float(at), SIZES[x["size"]], COLORS[x["color"]], SHAPES[x["shape"]], truth)
        for at, (x, truth) in enumerate(rows)
    ]


@cache
def _on_stagger(name: str, rule: int) -> float:
    """Return the accuracy after the warm-up."""
    pipeline = Pipeline(name="stagger", events=Thing, labels="truth", features=THING, online=OF_THINGS[name])
    driver, things = Driver(pipeline), _things(rule)
    driver.pipe_all(things)
    said = [made["score"] > 0.5 for made in driver.predictions]
    return float(np.mean([one == bool(thing.truth) for one, thing in zip(said, things, strict=True)][WARM_UP:]))


@pytest.mark.parametrize("rule", range(len(RULES)), ids=RULES)
@pytest.mark.parametrize("name", OF_THINGS)
def test_a_rule_without_noise_is_learned_without_an_error(name, rule):
    assert _on_stagger(name, rule) == 1.0


# LED: ten digits, each of whose seven segments is wrong one time in ten.

DIGITS, NOISE = 4_000, 0.1
SEGMENTS = synth.LED._ORIGINAL_INSTANCES
# River inverts a segment where a number from 0 to 1, plus 0.01, is not above what it is told: told 0.1, 9 times in 100.
TOLD = NOISE + 0.01


def _chances(row) -> list[float]:
    """Return how likely each digit shows this, all digits being equally frequent."""
    return [math.prod(1 - NOISE if a == b else NOISE for a, b in zip(row, digit, strict=True)) for digit in SEGMENTS]


def _bayes_ceiling() -> float:
    return sum(max(_chances(row)) / len(SEGMENTS) for row in itertools.product((0, 1), repeat=7))


class Display(Event, topic="displays", key="id"):
    id: int
    at: float
    segments: list[int]
    digit: int


@cache
def _on_led() -> tuple[float, float]:
    """Return how often a pipeline is right, and how often Bayes' rule, which knows the noise, is on the same rows."""
    rows = list(itertools.islice(synth.LED(seed=1, noise_percentage=TOLD), DIGITS))
    displays = [Display(at, float(at), list(x.values()), digit) for at, (x, digit) in enumerate(rows)]
    pipeline = Pipeline(
        name="digits",
        events=Display,
        labels="digit",
        features={f"segment_{at}": _segment(at) for at in range(7)},
        online=naive_bayes.BernoulliNB(),
        kind="multiclass",
    )
    driver = Driver(pipeline)
    driver.pipe_all(displays)
    digits = np.array([one.digit for one in displays])
    said = np.array([-1 if one["predicted"] is None else one["predicted"] for one in driver.predictions])
    best = [int(np.argmax(_chances(one.segments))) for one in displays]
    report = driver.quality["online"]["overall"]
    assert report["count"] == DIGITS - 1, "nobody has named a digit before the first"
    assert report["accuracy"] == np.mean((said == digits)[1:])
    return report["accuracy"], float(np.mean(best == digits))


def _segment(at: int):
    @feature
    def lit(segments):
        return [one[at] for one in segments]

    return lit


def test_digits_with_one_segment_in_ten_inverted_are_read_as_well_as_can_be_and_no_better():
    ceiling = _bayes_ceiling()
    assert abs(ceiling - 0.74) < 0.0001, "as the literature has it"
    accuracy, best = _on_led()
    chance = DEVIATIONS * math.sqrt(ceiling * (1 - ceiling) / DIGITS)
    assert abs(best - ceiling) < chance
    assert best - 0.015 < accuracy < best + 0.005, "Bayes' rule on the same rows"
    assert ceiling - 0.015 - chance < accuracy < ceiling + chance


def test_the_noise_of_the_digits_is_what_it_is_said_to_be():
    rows = itertools.islice(synth.LED(seed=1, noise_percentage=TOLD), DIGITS)
    inverted = np.mean([a != b for x, digit in rows for a, b in zip(x.values(), SEGMENTS[digit], strict=True)])
    assert abs(inverted - NOISE) < DEVIATIONS * math.sqrt(NOISE * (1 - NOISE) / DIGITS / 7)


# Phishing: what River publishes of it, with labels at once, late, and flipped.

PUBLISHED = {"logistic regression": 0.8872, "naive Bayes": 0.8847, "Hoeffding tree": 0.8799}
PUBLISHED_LAST_CLASS, NEIGHBOURHOOD = 0.5156, 0.005
MODELS = {
    "logistic regression": preprocessing.StandardScaler() | linear_model.LogisticRegression(optim.SGD(0.005)),
    "naive Bayes": naive_bayes.GaussianNB(),
    "Hoeffding tree": tree.HoeffdingTreeClassifier(),
}
ROWS = list(datasets.Phishing())
NAMES = tuple(ROWS[0][0])
DELAYS, RISE = (0, 10, 100, 500), 0.002
FLIPPED = (0.1, 0.3, 0.5)


class Site(Event, topic="sites", key="key"):
    id: int
    at: float
    key: str
    empty_server_form_handler: float
    popup_window: float
    https: float
    request_from_other_domain: float
    anchor_from_other_domain: float
    is_popular: float
    long_url: float
    age_of_domain: float
    ip_in_url: float


class Report(Label, topic="reports", of=Site, within="1d"):
    id: int
    at: float
    key: str
    label: bool


SITES = [Site(at, float(at), "s", **row) for at, (row, _) in enumerate(ROWS)]
TRUTHS = np.array([truth for _, truth in ROWS])


class Played(NamedTuple):
    """What a learner said of each site, and how good the pipeline says that it was."""

    scores: list[float]
    accuracy: float
    last_class: float


@cache
def _on_phishing(name: str, delay: int = 0, flipped: float = 0.0) -> Played:
    """Score every site, and tell its label when so many others have been scored; the last ones come at the end."""
    features = {name: field(name) for name in NAMES}
    pipeline = Pipeline(name="phishing", events=Site, labels=Report, features=features, online=MODELS[name])
    state, scores, told = pipeline.fresh(), [], 0
    flips = np.random.default_rng(1).random(len(SITES)) < flipped
    reports = [
        Report(site.id, site.at + delay, "s", bool(label)) for site, label in zip(SITES, TRUTHS ^ flips, strict=True)
    ]
    block = _block(delay)
    for begin in range(0, len(SITES), block):
        scores += [made.score for made in pipeline.step(SITES[begin : begin + block], state).predictions]
        due = max(begin + block - delay, 0)
        pipeline.learn(reports[told:due], state)
        told = due
    pipeline.learn(reports[told:], state)
    online, last_class = (state.learning.judges[judge].report()["overall"] for judge in ("online", "last_class"))
    assert online["count"] == len(SITES)
    return Played(scores, online["accuracy"], last_class["accuracy"])


def _block(delay: int) -> int:
    """Return how many sites are scored at once: one where labels come at once, else so few that it makes no odds."""
    return 10 if delay else 1


def _after_flips(right: float, flipped: float) -> float:
    return right * (1 - flipped) + (1 - right) * flipped


def _right(played: Played) -> float:
    """Return how often a learner is right about what is true, whatever it was told."""
    return float(np.mean((np.array(played.scores) > 0.5) == TRUTHS))


@pytest.mark.parametrize("name", MODELS)
def test_phishing_is_learned_as_well_as_river_publishes_it(name):
    played = _on_phishing(name)
    assert abs(played.accuracy - PUBLISHED[name]) < NEIGHBOURHOOD
    assert abs(played.last_class - PUBLISHED_LAST_CLASS) < NEIGHBOURHOOD


@pytest.mark.parametrize("delay", DELAYS)
def test_labels_that_come_late_teach_what_river_learns_when_it_is_told_as_late(delay):
    played, model = _on_phishing("logistic regression", delay), MODELS["logistic regression"].clone()
    learned = 0
    for at, score in enumerate(played.scores):
        begin = at - at % _block(delay)
        while learned < begin - delay:
            model.learn_one(*ROWS[learned])
            learned += 1
        assert score == model.predict_proba_one(ROWS[at][0]).get(True, 0.5)


@pytest.mark.parametrize("name", MODELS)
def test_the_later_labels_come_the_less_is_right(name):
    curve = [_on_phishing(name, delay).accuracy for delay in DELAYS]
    for sooner, later in itertools.pairwise(curve):
        assert later < sooner + RISE, curve
    assert curve[-1] < curve[0] - 0.05


@pytest.mark.parametrize("flipped", FLIPPED)
def test_labels_that_are_flipped_cost_as_much_as_arithmetic_says(flipped):
    played = _on_phishing("logistic regression", 10, flipped)
    chance = DEVIATIONS * math.sqrt(flipped * (1 - flipped) / len(SITES))
    assert abs(played.accuracy - _after_flips(_right(played), flipped)) < chance


def _table() -> str:
    """Return what docs/quality.md shows."""
    lines = ["| Stream | Learner | Accuracy | What it has to be |", "| --- | --- | --- | --- |"]
    for name in OF_THINGS:
        told = ", ".join(f"{_on_stagger(name, rule):.4f}" for rule in range(len(RULES)))
        must = f"1 after {WARM_UP} events: nothing but the rule decides"
        lines.append(f"| STAGGER, each of its three rules | {name} | {told} | {must} |")
    accuracy, best = _on_led()
    must = f"{_bayes_ceiling():.4f} at best; on these rows Bayes' rule, which knows the noise, has {best:.4f}"
    lines.append(f"| LED, one segment in ten inverted | naive Bayes | {accuracy:.4f} | {must} |")
    for name, published in PUBLISHED.items():
        lines.append(f"| Phishing | {name} | {_on_phishing(name).accuracy:.4f} | {published:.4f} as published |")
    last_class = _on_phishing("logistic regression").last_class
    lines.append(f"| Phishing | the last class | {last_class:.4f} | {PUBLISHED_LAST_CLASS:.4f} as published |")
    for delay in DELAYS[1:]:
        told = ", ".join(f"{_on_phishing(name, delay).accuracy:.4f}" for name in MODELS)
        lines.append(f"| Phishing, labels {delay} events late | the same three | {told} | no more than with fewer |")
    for flipped in FLIPPED:
        played = _on_phishing("logistic regression", 10, flipped)
        right = _right(played)
        must = f"{_after_flips(right, flipped):.4f}, as {right:.4f} is true of what it says"
        flips = f"Phishing, labels 10 events late, {flipped:.0%} of them flipped"
        lines.append(f"| {flips} | logistic regression | {played.accuracy:.4f} | {must} |")
    return "\n".join(lines) + "\n"


def _written(text: str) -> str:
    """Return the page with the table as it is measured now."""
    begin, end = "<!-- accuracy -->\n", "<!-- end of accuracy -->\n"
    before, _, rest = text.partition(begin)
    _, _, after = rest.partition(end)
    assert after, f"{PAGE.name} needs the marks {begin.strip()} and {end.strip()}, once"
    return before + begin + _table() + end + after


def test_the_table_on_the_page_is_what_is_measured():
    # The third digit, so that another processor's last bit does not count.
    text = PAGE.read_text()
    numbers = re.compile(r"\d\.\d{4}")
    for shown, measured in zip(text.splitlines(), _written(text).splitlines(), strict=True):
        assert numbers.sub("", shown) == numbers.sub("", measured), "run: python tests/core/test_accuracy.py"
        for one, other in zip(numbers.findall(shown), numbers.findall(measured), strict=True):
            assert abs(float(one) - float(other)) < 0.002, "run: python tests/core/test_accuracy.py"


if __name__ == "__main__":
    PAGE.write_text(_written(PAGE.read_text()))

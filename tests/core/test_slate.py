"""Pages that explore: what is drawn has the chances that are logged, and what is logged judges other policies."""

import itertools

import numpy as np
import pytest

from headrace.models.hashes import draws
from headrace.models.slate import NOBODY, EpsilonGreedy, PlackettLuce, draw, estimate, propensity_of

POLICIES = [EpsilonGreedy(0.0), EpsilonGreedy(0.3), EpsilonGreedy(1.0), PlackettLuce(), PlackettLuce(0.1)]
SCORES = [0.2, 0.5, 0.4, 0.1]
PINNED = [[0.05495715859, 0.077549613382], [0.048123937973, 0.83786689292], [0.883310808214, 0.431527997049]]
PAGES = list(itertools.permutations(range(4), 3))


def _same(one, other) -> bool:
    return all(np.array_equal(*pair, equal_nan=True) for pair in zip(one, other, strict=True))


def _alone(policy, page, scores) -> list[float]:
    """Return the propensities of one page, one slot after the other: slow and obvious."""
    left, made = list(range(len(scores))), []
    for place in page:
        if isinstance(policy, EpsilonGreedy):
            best = max(left, key=lambda one: scores[one])
            made.append(policy.epsilon / len(left) + (1 - policy.epsilon) * (place == best))
        else:
            weights = {one: np.exp(scores[one] / policy.temperature) for one in left}
            made.append(weights[place] / sum(weights.values()))
        left.remove(place)
    return made


@pytest.mark.parametrize("policy", POLICIES, ids=str)
def test_the_propensities_of_all_pages_add_up_to_one_and_are_those_of_the_recount(policy):
    scores = np.tile(SCORES, (len(PAGES), 1))
    propensity = propensity_of(np.array(PAGES), scores, policy)
    assert np.isclose(propensity.prod(axis=1).sum(), 1.0)
    possible = propensity.prod(axis=1) > 0.0
    for row, page in zip(propensity[possible], itertools.compress(PAGES, possible), strict=True):
        assert np.allclose(row, _alone(policy, page, SCORES))
    by_first = [propensity[[page[0] == first for page in PAGES], 0] for first in range(4)]
    assert np.isclose(sum(one[0] for one in by_first), 1.0)


@pytest.mark.parametrize("policy", POLICIES, ids=str)
def test_pages_come_as_often_as_their_propensity_says(policy):
    count = 20_000
    log = draw(range(count), np.tile(SCORES, (count, 1)), 3, policy, seed=5)
    chances = propensity_of(np.array(PAGES), np.tile(SCORES, (len(PAGES), 1)), policy).prod(axis=1)
    shown, counts = np.unique(log.places, axis=0, return_counts=True)
    often = dict(zip(map(tuple, shown.tolist()), counts.tolist(), strict=True))
    assert set(often) <= {page for page, chance in zip(PAGES, chances, strict=True) if chance > 0}
    for page, chance in zip(PAGES, chances.tolist(), strict=True):
        deviation = (count * chance * (1 - min(chance, 1.0))) ** 0.5
        assert abs(often.get(page, 0) - count * chance) <= 4.5 * deviation + 1e-6
    assert np.array_equal(log.propensity, propensity_of(log.places, np.tile(SCORES, (count, 1)), policy))
    best = [[1, 2, 0]] * count
    assert np.array_equal(log.explored[:, 0], log.places[:, 0] != np.array(best)[:, 0])


@pytest.mark.parametrize("policy", POLICIES, ids=str)
def test_a_page_hangs_on_seed_and_request_alone(policy):
    rng = np.random.default_rng(1)
    ids, scores = [f"r{at}" for at in range(500)], rng.random((500, 6))
    whole = draw(ids, scores, 4, policy, seed=3)
    cut = [draw(ids[begin:end], scores[begin:end], 4, policy, seed=3) for begin, end in ((0, 1), (1, 77), (77, 500))]
    assert _same(whole, [np.concatenate(one) for one in zip(*cut, strict=True)])
    assert np.array_equal(draw(ids, scores, 2, policy, seed=3).places, whole.places[:, :2])
    if policy != EpsilonGreedy(0.0):
        assert not np.array_equal(draw(ids, scores, 4, policy, seed=4).places, whole.places)
        assert not np.array_equal(draw([f"{one}x" for one in ids], scores, 4, policy, seed=3).places, whole.places)


def test_numbers_that_are_drawn_are_those_of_every_release_and_spread_evenly():
    ids = np.array(["r1", "r2", 7], object)
    assert draws(ids, 2, seed=7).round(12).tolist() == PINNED, "pages of old requests would be others"
    many = draws(np.arange(20_000).astype(object), 3, seed=1)
    assert ((many >= 0.0) & (many < 1.0)).all()
    counts = np.array([np.histogram(column, bins=20, range=(0, 1))[0] for column in many.T])
    assert np.all(np.abs(counts - 1_000) < 4.5 * 1_000**0.5)
    other = draws(np.arange(20_000).astype(object), 3, seed=2)
    columns = np.corrcoef(np.column_stack([many, other, np.roll(many, 1, axis=0)]).T)
    assert np.abs(columns - np.eye(len(columns))).max() < 4.5 / 20_000**0.5


def test_drawing_leaves_scores_and_numpys_own_randomness_alone():
    scores = np.random.default_rng(1).random((10, 3))
    kept = scores.copy()
    before = np.random.get_state()[1].copy()  # noqa: NPY002 - the global one is what must not be touched
    draw(range(10), scores, 2, PlackettLuce())
    assert np.array_equal(scores, kept)
    assert np.array_equal(np.random.get_state()[1], before)  # noqa: NPY002


def test_where_candidates_run_out_a_slot_stays_empty_and_candidates_that_are_none_are_never_shown():
    nan = np.nan
    log = draw("abc", [[0.1, nan, 0.3], [nan, nan, nan], [0.2, 0.2, 0.2]], 3, EpsilonGreedy(0.5), seed=2)
    assert set(log.places[0, :2].tolist()) == {0, 2}
    assert log.places[0, 2] == NOBODY
    assert log.places[1].tolist() == [NOBODY] * 3
    assert np.isnan(log.propensity[1]).all()
    assert sorted(log.places[2].tolist()) == [0, 1, 2]
    assert np.isclose(log.propensity[0, 1], 1.0)
    assert estimate(np.ones((3, 3)), log.propensity, log.propensity).ips == pytest.approx(5 / 3)


def test_an_estimate_of_the_policy_that_was_logged_is_its_mean():
    log = draw(range(200), np.tile(SCORES, (200, 1)), 3, EpsilonGreedy(0.4))
    rewards = np.random.default_rng(1).random((200, 3))
    told = estimate(rewards, log.propensity, log.propensity)
    assert told.ips == pytest.approx(rewards.sum(axis=1).mean())
    assert told.snips == pytest.approx(told.ips)
    assert told.ips_error == pytest.approx(told.snips_error)
    assert told.effective == pytest.approx(200)


@pytest.mark.parametrize("wanted", [EpsilonGreedy(0.0), EpsilonGreedy(1.0), PlackettLuce(0.2)], ids=str)
def test_estimates_lie_about_the_truth_as_their_errors_say(wanted):
    clicks = np.array([[0.3, 0.1, 0.2, 0.5], [0.2, 0.1, 0.1, 0.3], [0.1, 0.0, 0.1, 0.2]])  # of each slot and item
    truth = sum(
        np.prod(_alone(wanted, page, SCORES)) * sum(clicks[slot, place] for slot, place in enumerate(page))
        for page in PAGES
    )
    count, off = 1_000, []
    for seed in range(100):
        scores = np.tile(SCORES, (count, 1))
        log = draw(range(count), scores, 3, EpsilonGreedy(0.5), seed=seed)
        chances = clicks[np.arange(3), log.places]
        clicked = np.random.default_rng(seed).random(chances.shape) < chances
        told = estimate(clicked, log.propensity, propensity_of(log.places, scores, wanted))
        off.append([(told.ips - truth) / told.ips_error, (told.snips - truth) / told.snips_error])
    mean, spread = np.mean(off, axis=0), np.std(off, axis=0)
    assert np.all(np.abs(mean) < 0.35), "3.5 standard errors of a mean of a hundred"
    assert np.all((spread > 0.75) & (spread < 1.3))


@pytest.mark.parametrize(
    ("ask", "told"),
    [
        (lambda: EpsilonGreedy(1.5), "epsilon = 1.5: allowed are 0 to 1"),
        (lambda: PlackettLuce(0.0), "temperature = 0.0: allowed are positive numbers; greedy is EpsilonGreedy"),
        (lambda: draw(["a"], [[1.0], [2.0]], 1, EpsilonGreedy()), "1 requests, and scores of 2"),
        (lambda: draw(["a"], [[1.0]], 0, EpsilonGreedy()), "slots = 0: a page has one at the least"),
        (lambda: draw(["a"], [1.0], 1, EpsilonGreedy()), "scores have 1 dimensions"),
        (
            lambda: draw(["a"], [[1.0, np.inf]], 1, EpsilonGreedy()),
            r"scores\[0, 1\] is inf: allowed are numbers, and NaN",
        ),
        (lambda: estimate([[1.0]], [[0.0]], [[1.0]]), "had a propensity above 0 and up to 1"),
    ],
)
def test_what_cannot_be_is_refused(ask, told):
    with pytest.raises(ValueError, match=told):
        ask()

"""How well scores put the ones before the zeros, from histograms that add up."""

from collections.abc import Mapping

import numpy as np

from headrace.models.memory import Floats, Ints

# Bins of probabilities: 128 for each halving of p, and of 1 - p, down to 1 / 8,192, from there 16 down to 2**-61. They
# are cut from the bits of the float, so every machine cuts alike. One half has a bin of its own.
_FINE, _COARSE = 45, 48  # bits of a float below the 7 and the 4 that tell bins apart
_FINE_FROM = int(np.float64(2.0**-13).view(np.int64))
_COARSE_FROM = int(np.float64(2.0**-61).view(np.int64))
_COARSE_BINS = (_FINE_FROM - _COARSE_FROM) >> _COARSE
_HALF = _COARSE_BINS + ((int(np.float64(0.5).view(np.int64)) - _FINE_FROM) >> _FINE)
PROBABILITY_BINS = 2 * _HALF + 1

# Bins of any number: the same between zero and one, and 64 for each doubling beyond, from 2**-20 or one to 2**20.
_WIDE = 46
_TINY_FROM = int(np.float64(2.0**-20).view(np.int64))
_ONE_FROM = int(np.float64(1.0).view(np.int64))
_UP_TO = int(np.float64(2.0**20).view(np.int64)) - 1
_BELOW_BINS = ((_UP_TO - _TINY_FROM) >> _WIDE) + 1
NUMBER_BINS = _BELOW_BINS + PROBABILITY_BINS + ((_UP_TO - _ONE_FROM) >> _WIDE) + 1


def probability_bins(scores: Floats) -> Ints:
    """Return the bin of each probability; a larger one is never in a lower bin.

    >>> probability_bins(np.array([0.0, 1e-30, 0.25, 0.5, 0.75, 1.0]))
    array([   0,    0, 2176, 2304, 2432, 4608])
    """
    bits = (np.minimum(scores, 1.0 - scores) + 0.0).view(np.int64)  # there is a zero whose first bit is set
    fine = ((bits - _FINE_FROM) >> _FINE) + _COARSE_BINS
    coarse = np.maximum((bits - _COARSE_FROM) >> _COARSE, 0)
    bins = np.where(bits >= _FINE_FROM, fine, coarse)
    made: Ints = np.where(scores > 0.5, 2 * _HALF - bins, bins)
    return made


def number_bins(scores: Floats) -> Ints:
    """Return the bin of each number; a larger one is never in a lower bin."""
    bins = probability_bins(np.clip(scores, 0.0, 1.0)) + _BELOW_BINS
    outside = (scores < 0.0) | (scores > 1.0)
    if outside.any():
        bits = np.minimum(np.abs(scores).view(np.int64), _UP_TO)
        below = _BELOW_BINS - 1 - (np.maximum(bits - _TINY_FROM, 0) >> _WIDE)
        beyond = _BELOW_BINS + PROBABILITY_BINS + ((bits - _ONE_FROM) >> _WIDE)
        bins = np.where(outside, np.where(scores < 0.0, below, beyond), bins)
    return bins


def ranked(zeros: Floats, ones: Floats, k: float) -> Mapping[str, float | None]:
    """Return the areas under both curves and the precision at k, each with how far it may be from the exact one.

    Scores in one bin are taken for equal. In which order they really are is unknown, and the error is what the worst
    and the best order could make of it; it is computed from the histogram itself.

    >>> ranked(np.array([2.0, 1.0, 0.0]), np.array([0.0, 0.0, 1.0]), 1)["roc_auc"]
    1.0
    """
    tp, fp = np.cumsum(ones[::-1]), np.cumsum(zeros[::-1])
    positives, negatives = float(tp[-1]), float(fp[-1])
    used = (ones + zeros)[::-1] > 0.0
    tp, fp, p, n = tp[used], fp[used], ones[::-1][used], zeros[::-1][used]
    roc = roc_error = pr = pr_error = None
    if positives and negatives:
        roc = float((n * (tp - p / 2)).sum()) / (positives * negatives)
        roc_error = float((p * n).sum()) / 2 / (positives * negatives)
    if positives:
        # Whatever the order in a bin, the precision at a one of it is at most that after all its ones and no zero,
        # and at least that after all its zeros and as many ones as have come.
        hit = p > 0.0
        there, ones_so_far, zeros_so_far = p[hit], tp[hit], fp[hit]
        made = there * ones_so_far / (ones_so_far + zeros_so_far)
        most = there * ones_so_far / (ones_so_far + zeros_so_far - n[hit])
        others = ones_so_far - there + zeros_so_far
        with np.errstate(divide="ignore", invalid="ignore"):
            least = np.where(others > 0.0, there - zeros_so_far * np.log1p(there / others), there)
        pr = float(made.sum()) / positives
        pr_error = max(float((most - made).sum()), float((made - least).sum())) / positives
    return {
        "roc_auc": roc,
        "roc_auc_error": roc_error,
        "pr_auc": pr,
        "pr_auc_error": pr_error,
        **_at_k(tp, fp, p, n, k),
    }


def _at_k(tp: Floats, fp: Floats, p: Floats, n: Floats, k: float) -> dict[str, float | None]:
    place = int(np.searchsorted(tp + fp, k))
    if place == len(tp):
        return {"precision_at_k": None, "precision_at_k_error": None}  # there are no k labels
    before = float(tp[place] - p[place])
    missing = k - before - float(fp[place] - n[place])
    here, others = float(p[place]), float(n[place])
    share = missing * here / (here + others)
    error = max(min(here, missing) - share, share - max(missing - others, 0.0))
    return {"precision_at_k": (before + share) / k, "precision_at_k_error": error / k}

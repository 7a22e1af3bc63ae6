"""How far two distributions are from each other, from their shares of the same bins."""

from collections.abc import Callable

import numpy as np

from headrace.models.memory import Array, Floats

Distance = Callable[[Floats, Floats], float]

VALUES_MIN = 50  # of fewer a distance says nothing


def shares(counts: Array) -> Floats:
    """Return the share of each bin; half a count is added to each, because an empty one would be infinitely far.

    >>> shares(np.array([0, 1])).tolist()
    [0.25, 0.75]
    """
    made: Floats = (counts + 0.5) / (counts.sum() + 0.5 * len(counts))
    return made


def psi(reference: Floats, current: Floats) -> float:
    """Population stability index: below 0.1 hardly anything moved, above 0.25 much did.

    >>> round(psi(np.array([0.5, 0.5]), np.array([0.25, 0.75])), 3)
    0.275

    References
    ----------
    Siddiqi, N. (2006). Credit Risk Scorecards, ch. 8. Wiley.
    """
    return float(((current - reference) * np.log(current / reference)).sum())


def jensen_shannon(reference: Floats, current: Floats) -> float:
    """Jensen-Shannon distance, with the logarithm to base two: from 0 to 1.

    >>> round(jensen_shannon(np.array([0.5, 0.5]), np.array([0.25, 0.75])), 3)
    0.221
    """
    middle = (reference + current) / 2
    both = (reference * np.log2(reference / middle) + current * np.log2(current / middle)).sum()
    return float(np.sqrt(max(0.0, both / 2)))


def kolmogorov_smirnov(reference: Floats, current: Floats) -> float:
    """Largest difference of the cumulated shares, as far as the bins can tell: it may be larger between their edges.

    >>> kolmogorov_smirnov(np.array([0.5, 0.25, 0.25]), np.array([0.25, 0.5, 0.25]))
    0.25
    """
    return float(np.abs(np.cumsum(current - reference)).max())


def wasserstein(reference: Floats, current: Floats) -> float:
    """Wasserstein distance of the ranks: by how much, on the average, a value has moved among those of the reference.

    It is between 0 and 1 whatever the unit: 0.5 is what moving everything from the middle to an end would give.

    >>> round(wasserstein(np.array([0.5, 0.5]), np.array([0.0, 1.0])), 3)
    0.25
    """
    widths = (reference[:-1] + reference[1:]) / 2  # from the middle of a bin to that of the next, in ranks
    return float((np.abs(np.cumsum(current - reference))[:-1] * widths).sum())


def chi_square(reference: Floats, current: Floats) -> float:
    """Chi-square divergence of the shares: times the count it is Pearson's statistic.

    >>> round(chi_square(np.array([0.5, 0.5]), np.array([0.25, 0.75])), 3)
    0.25
    """
    return float(((current - reference) ** 2 / reference).sum())


DISTANCES: dict[str, Distance] = {
    "psi": psi,
    "jensen_shannon": jensen_shannon,
    "ks": kolmogorov_smirnov,
    "wasserstein": wasserstein,
    "chi_square": chi_square,
}


def distances(reference: Array, current: Array) -> dict[str, float]:
    """Return every distance between two rows of counts.

    >>> {name: round(one, 2) for name, one in distances(np.array([50, 50, 0]), np.array([30, 30, 40])).items()}
    {'psi': 1.93, 'jensen_shannon': 0.47, 'ks': 0.39, 'wasserstein': 0.2, 'chi_square': 31.68}
    """
    before, now = shares(reference), shares(current)
    return {name: measure(before, now) for name, measure in DISTANCES.items()}

"""How sure a rate is."""

from scipy import stats


def rate(count: int, events: int, confidence: float = 0.95) -> tuple[float, float]:
    """Return the exact interval of a rate per event, from so many alarms that come one by one (Garwood).

    >>> [round(1e6 * bound, 2) for bound in rate(10, 1_000_000)]
    [4.8, 18.39]
    """
    tail = (1 - confidence) / 2
    low = stats.chi2.ppf(tail, 2 * count) / 2 if count else 0.0
    return float(low / events), float(stats.chi2.ppf(1 - tail, 2 * count + 2) / 2 / events)


def share(count: int, runs: int, confidence: float = 0.95) -> tuple[float, float]:
    """Return the exact interval of a share (Clopper and Pearson).

    >>> [round(bound, 3) for bound in share(29, 30)]
    [0.828, 0.999]
    """
    tail = (1 - confidence) / 2
    low = stats.beta.ppf(tail, count, runs - count + 1) if count else 0.0
    high = stats.beta.ppf(1 - tail, count + 1, runs - count) if count < runs else 1.0
    return float(low), float(high)

"""Made-up card payments with a seed, and what later turns out to be true of them.

    python examples/fraud/generator.py --days 30 --seed 1 -o transactions.jsonl --labels labels.jsonl

Follows the description of the transaction simulator in the Fraud Detection Handbook. Customers and terminals
(merchants) lie anywhere on a square of 100 by 100 units. A customer has a mean amount and a number of payments a
day, and pays at terminals within five units of home, around noon more often than at night. Three things make a
payment fraudulent; if several do, the last of them is its scenario:

1. its amount is above 220;
2. two terminals a day are compromised: every payment there is fraudulent, on that day and the 27 after it;
3. three customers a day lose their card's number: on that day and the 13 after it a third of their payments is
   somebody else's, with five times the amount.

A day depends on the seed and its own number, on nothing else: a short run is the beginning of a long one, any day
can be had without those before it, and no more than one day is in memory.

From ``--change-day`` on the world is another one (``way="small"``). Whoever has a stolen card pays a small round amount
at a terminal anywhere on the square, and an amount above 220 means nothing any more. Who lives where, whose card is
stolen and which terminals are compromised stays as it was.

In the Handbook's 183 days, with its 5,000 customers and 10,000 terminals, three seeds gave 0.846 %, 0.831 % and
0.835 % of frauds; the Handbook has 0.84 %. The first of them:

    $ python examples/fraud/generator.py --days 183 --seed 1 -o /dev/null
    1,763,831 payments, 14,926 fraudulent (0.85%): amount 942, terminal 9,207, card 4,777

A run begins with nobody compromised, so the share rises during its first 28 days.

References
----------
Le Borgne, Siblini, Lebichot, Bontempi (2022). Reproducible Machine Learning for Credit Card Fraud Detection -
Practical Handbook, section 3.2. Université Libre de Bruxelles.
"""

import argparse
import math
import os
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from copy import copy
from heapq import merge
from itertools import tee
from typing import Any, BinaryIO, NamedTuple

import numpy as np
import orjson

STARTED_AT = 1_767_225_600.0  # the first of January 2026, UTC
DAY_SECONDS = 86_400

SIDE = 100.0  # of the square, in units
RADIUS = 5.0  # in units: how far from home a customer pays
UNIT_KM = 5.0
CENTRE = (48.8566, 2.3522)  # the middle of the square is Paris
DEGREE_KM = 111.195
# A place is in the country of the nearest of these; there is no sea.
CITIES = (
    ("FR", 48.86, 2.35),
    ("FR", 50.63, 3.06),
    ("FR", 50.95, 1.86),
    ("FR", 49.92, 1.08),
    ("FR", 49.49, 0.11),
    ("FR", 49.18, -0.37),
    ("FR", 49.26, 4.03),
    ("FR", 49.77, 4.72),
    ("FR", 47.39, 0.69),
    ("FR", 47.32, 5.04),
    ("BE", 50.85, 4.35),
    ("BE", 50.45, 3.95),
    ("BE", 51.05, 3.72),
    ("BE", 50.47, 4.87),
    ("GB", 50.82, -0.14),
    ("GB", 50.86, 0.57),
)

NOON_SECONDS, SPREAD_SECONDS = DAY_SECONDS / 2, 20_000.0
AMOUNT_MAX = 220.0  # above it: scenario 1
COMPROMISED_DAYS = 28
LEAKED_DAYS, STOLEN_SHARE, STOLEN_TIMES = 14, 1 / 3, 5.0
SMALL_AMOUNTS = tuple(range(10, 100, 10))
SCENARIOS = ("genuine", "amount", "terminal", "card")
WAYS = ("large", "small")  # of those who have a stolen card
LABEL_DELAY_SECONDS = 7.0 * DAY_SECONDS

# What a day's numbers are drawn for: each has a stream of its own, so that one never moves another.
_PEOPLE, _PAYMENTS, _COMPROMISED, _LEAKED, _STOLEN = range(5)


class Day(NamedTuple):
    """The payments of one day in the order of their time, a column for each thing that is known of them."""

    world: "World"
    number: int
    at: np.ndarray  # seconds
    customer: np.ndarray
    terminal: np.ndarray
    amount: np.ndarray
    scenario: np.ndarray  # 0 is genuine; else a number that SCENARIOS names

    def transactions(self) -> Iterator[dict[str, Any]]:
        """Yield the payments as the topic ``transactions`` has them, whose key is the card."""
        cards, merchants, places = self.world.cards, self.world.merchants, self.world.places
        columns = (self.at, self.customer, self.terminal, self.amount)
        rows = zip(*(column.tolist() for column in columns), strict=True)
        for place, (at, customer, terminal, amount) in enumerate(rows):
            lat, lon, country = places[terminal]
            yield {
                "id": f"t-{self.number}-{place}",
                "at": at,
                "card": cards[customer],
                "merchant": merchants[terminal],
                "amount": amount,
                "lat": lat,
                "lon": lon,
                "country": country,
            }

    def labels(self, delay_seconds: float = LABEL_DELAY_SECONDS) -> Iterator[dict[str, Any]]:
        """Yield a label for each payment as the topic ``labels`` has them; ``at`` is when the label becomes known."""
        cards = self.world.cards
        known = np.round(self.at + delay_seconds, 3)
        rows = zip(known.tolist(), self.customer.tolist(), (self.scenario > 0).tolist(), strict=True)
        for place, (at, customer, fraudulent) in enumerate(rows):
            yield {"id": f"t-{self.number}-{place}", "card": cards[customer], "at": at, "label": int(fraudulent)}


class World:
    """Who pays where: customers and terminals, which stay the same from day to day.

    >>> world = World(seed=1, customers=100, terminals=300)
    >>> len(world.day(0).at) == len(list(world.day(0).labels())) > 0
    True
    >>> sorted(next(world.day(3).transactions()))
    ['amount', 'at', 'card', 'country', 'id', 'lat', 'lon', 'merchant']
    """

    def __init__(
        self,
        seed: int = 1,
        customers: int = 5_000,
        terminals: int = 10_000,
        *,
        started_at: float = STARTED_AT,
        compromised_a_day: int = 2,
        leaked_a_day: int = 3,
        way: str = "large",
    ) -> None:
        assert way in WAYS
        self.seed = seed
        self.way = way
        self.started_at = started_at
        self.compromised_a_day = min(compromised_a_day, terminals)
        self.leaked_a_day = min(leaked_a_day, customers)
        rng = np.random.default_rng([seed, _PEOPLE])
        self.homes = rng.uniform(0, SIDE, (customers, 2))
        self.mean_amounts = rng.uniform(5, 100, customers)
        self.payments_a_day = rng.uniform(0, 4, customers)
        self.sites = rng.uniform(0, SIDE, (terminals, 2))
        # Of each customer: how many terminals are near, and where in ``_near`` they begin.
        self._near, self._counts = _within(RADIUS, self.homes, self.sites)
        self._begins = np.cumsum(self._counts) - self._counts
        self.cards = [f"c-{number}" for number in range(customers)]
        self.merchants = [f"m-{number}" for number in range(terminals)]
        self.places = _on_earth(self.sites)

    def day(self, number: int) -> Day:
        """Return the payments of a day; the first one is 0."""
        rng = np.random.default_rng([self.seed, _PAYMENTS, number])
        customer = np.repeat(np.arange(len(self.homes)), rng.poisson(self.payments_a_day))
        count = len(customer)
        second = rng.normal(NOON_SECONDS, SPREAD_SECONDS, count)
        mean = self.mean_amounts[customer]
        amount = rng.normal(mean, mean / 2)
        amount = np.where(amount < 0, rng.uniform(0, 2 * mean), amount)
        place = (rng.random(count) * self._counts[customer]).astype(np.int64)
        stolen = rng.random(count) < STOLEN_SHARE
        # What is drawn for before or after the day does not take place, nor does what is far from every terminal.
        happens = (second >= 0) & (second < DAY_SECONDS) & (self._counts[customer] > 0)
        ms = (second[happens] * 1_000).astype(np.int64)
        order = np.argsort(ms, kind="stable")
        chosen = np.flatnonzero(happens)[order]
        customer = customer[chosen]
        terminal = self._near[self._begins[customer] + place[chosen]]
        amount = np.maximum(np.round(amount[chosen], 2), 0.01)
        stolen = stolen[chosen] & np.isin(customer, self.leaked(number))
        scenario = np.zeros(len(amount), np.int8)
        if self.way == "large":
            scenario[amount > AMOUNT_MAX] = 1
            amount[stolen] = np.round(STOLEN_TIMES * amount[stolen], 2)
        else:
            rng = np.random.default_rng([self.seed, _STOLEN, number])
            amount[stolen] = rng.choice(SMALL_AMOUNTS, len(amount))[stolen]
            terminal[stolen] = rng.integers(len(self.sites), size=len(amount))[stolen]
        scenario[np.isin(terminal, self.compromised(number))] = 2
        scenario[stolen] = 3
        midnight_ms = round(self.started_at * 1_000) + number * DAY_SECONDS * 1_000
        return Day(self, number, (midnight_ms + ms[order]) / 1_000, customer, terminal, amount, scenario)

    def compromised(self, number: int) -> np.ndarray:
        """Return the terminals at which every payment of this day is fraudulent."""
        return self._drawn(_COMPROMISED, self.compromised_a_day, len(self.sites), number, COMPROMISED_DAYS)

    def leaked(self, number: int) -> np.ndarray:
        """Return the customers a third of whose payments of this day is somebody else's."""
        return self._drawn(_LEAKED, self.leaked_a_day, len(self.homes), number, LEAKED_DAYS)

    def _drawn(self, stream: int, count: int, among: int, number: int, days: int) -> np.ndarray:
        """Return who was drawn on this day or on one of those before it that still matter."""
        drawn = [
            np.random.default_rng([self.seed, stream, day]).choice(among, count, replace=False)
            for day in range(max(0, number - days + 1), number + 1)
        ]
        return np.unique(np.concatenate(drawn))


def simulate(
    seed: int = 1,
    customers: int = 5_000,
    terminals: int = 10_000,
    *,
    days: int = 30,
    change_day: int | None = None,
    **settings: Any,
) -> Iterator[Day]:
    """Yield day after day, each made when it is asked for; ``settings`` are those of the world.

    >>> [day.world.way for day in simulate(customers=100, terminals=300, days=3, change_day=2)]
    ['large', 'large', 'small']
    """
    world = World(seed, customers, terminals, **settings)
    if change_day is None:
        return map(world.day, range(days))
    changed = copy(world)
    changed.way = "small"
    return ((world if number < change_day else changed).day(number) for number in range(days))


def as_they_come(
    days: Iterable[Day], delay_seconds: float = LABEL_DELAY_SECONDS
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield payments and labels in the order of their times, each with its topic.

    >>> days = simulate(customers=5, days=3)
    >>> [topic for topic, _ in as_they_come(days, delay_seconds=0.5)][:4]
    ['transactions', 'labels', 'transactions', 'labels']
    """
    ones, others = tee(days)
    payments = (("transactions", one) for day in ones for one in day.transactions())
    labels = (("labels", one) for day in others for one in day.labels(delay_seconds))
    return merge(payments, labels, key=lambda told: told[1]["at"])


def _within(radius: float, homes: np.ndarray, sites: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the numbers of the sites near the first home, near the second and so on, and how many each has."""
    from_left = np.argsort(sites[:, 0], kind="stable")
    left = sites[from_left, 0]
    found: list[np.ndarray] = []
    for home in homes:
        begin, end = np.searchsorted(left, (home[0] - radius, home[0] + radius))
        strip = from_left[begin:end]
        away = sites[strip] - home
        found.append(strip[(away * away).sum(axis=1) < radius * radius])
    return np.concatenate([np.empty(0, np.int64), *found]), np.array([len(one) for one in found], np.int64)


def _on_earth(sites: np.ndarray) -> list[tuple[float, float, str]]:
    """Return latitude, longitude and country of each place on the square."""
    km = (sites - SIDE / 2) * UNIT_KM
    stretch = np.cos(np.radians(CENTRE[0]))
    lat = np.round(CENTRE[0] + km[:, 1] / DEGREE_KM, 4)
    lon = np.round(CENTRE[1] + km[:, 0] / (DEGREE_KM * stretch), 4)
    away = [(lat - city_lat) ** 2 + ((lon - city_lon) * stretch) ** 2 for _, city_lat, city_lon in CITIES]
    countries = [CITIES[nearest][0] for nearest in np.argmin(away, axis=0).tolist()]
    return list(zip(lat.tolist(), lon.tolist(), countries, strict=True))


def main(arguments: list[str] | None = None) -> int:
    """Write payments and their labels, a line of JSON each; say on stderr how many there are."""
    parser = argparse.ArgumentParser(description="Made-up card payments, and later what was true of them, as JSON.")
    parser.add_argument("--days", type=int, default=30)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--customers", type=int, default=5_000)
    parser.add_argument("--terminals", type=int, default=10_000)
    parser.add_argument("--started-at", type=float, default=STARTED_AT, metavar="SECONDS", help="when day 0 begins")
    parser.add_argument("--change-day", type=int, metavar="N", help="the first day of another way of stealing")
    parser.add_argument("--label-delay-days", type=float, default=7.0, metavar="DAYS", help="from payment to label")
    parser.add_argument("-o", "--output", default="-", metavar="FILE", help="the payments; - is stdout, the default")
    parser.add_argument("--labels", metavar="FILE", help="the labels; - is stdout; left out unless given")
    parser.add_argument("--keys", action="store_true", help="begin each line with the card and a tab, as Kafka's key")
    given = parser.parse_args(arguments)
    for name in ("days", "customers", "terminals"):
        if getattr(given, name) < 1:
            parser.error(f"--{name} {getattr(given, name)}: must be 1 or more")
    for name in ("seed", "started_at", "label_delay_days"):
        if not 0 <= getattr(given, name) < math.inf:
            parser.error(f"--{name.replace('_', '-')} {getattr(given, name):g}: must be 0 or more")
    if given.labels is not None and given.labels == given.output:
        parser.error(f"-o and --labels are both {given.output}: payments and labels are different topics")
    days = simulate(
        given.seed,
        given.customers,
        given.terminals,
        days=given.days,
        change_day=given.change_day,
        started_at=given.started_at,
    )
    counts: Counter[int] = Counter()
    with ExitStack() as files:
        payments = _opened(given.output, files)
        labels = None if given.labels is None else _opened(given.labels, files)
        for day in days:
            payments.writelines(_lines(day.transactions(), keys=given.keys))
            if labels is not None:
                labels.writelines(_lines(day.labels(given.label_delay_days * DAY_SECONDS), keys=given.keys))
            counts.update(day.scenario.tolist())
        sys.stdout.flush()
    sys.stderr.write(_told(counts))
    return 0


def _opened(name: str, files: ExitStack) -> BinaryIO:
    return sys.stdout.buffer if name == "-" else files.enter_context(open(name, "wb"))  # noqa: PTH123


def _lines(records: Iterable[dict[str, Any]], *, keys: bool) -> Iterator[bytes]:
    for one in records:
        line = orjson.dumps(one, option=orjson.OPT_APPEND_NEWLINE)
        yield one["card"].encode() + b"\t" + line if keys else line


def _told(counts: Counter[int]) -> str:
    total = counts.total()
    frauds = total - counts[0]
    each = ", ".join(f"{name} {counts[number]:,}" for number, name in enumerate(SCENARIOS) if number)
    return f"{total:,} payments, {frauds:,} fraudulent ({frauds / max(total, 1):.2%}): {each}\n"


if __name__ == "__main__":
    try:
        sys.exit(main())
    except BrokenPipeError:  # whoever read has read enough, as `head` has
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)

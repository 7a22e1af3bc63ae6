"""Made-up impressions of recommended items with a seed, and the clicks on them.

    python examples/ctr/generator.py --hours 24 --seed 1 -o impressions.jsonl --clicks clicks.jsonl

A site publishes items, each in a category, and takes them down after two days. Users come for visits, more by day than
by night; a visit has some pages, a page five slots, one item in each. What is shown follows what a user likes, how good
an item is and how new. Whether it is clicked on follows the same, and besides:

- the slot: whatever is further down is looked at less often;
- the mood: what appeals to everybody moves from hour to hour;
- the user: some click more than others, and whoever has clicked on one page is likelier to on the next.

An item that is minutes old has been seen by nobody, and there are always some (cold start). Most clicks come within
minutes; of twenty, one comes so late that the half hour in which it counts is often over.

From ``--change-hour`` on the world is another one (``season="other"``): what appealed to everybody bores them, and the
page lies on its side, where the fifth slot is nearly as good as the first. Users, items and what they are shown stay.

An hour depends on the seed and its own number, on nothing else: a short run is the beginning of a long one, any hour
can be had without those before it, and no more than two are in memory.
"""

import argparse
import math
import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from copy import copy
from heapq import merge
from itertools import tee
from operator import itemgetter
from typing import Any, BinaryIO, NamedTuple

import numpy as np
import orjson

STARTED_AT = 1_767_225_600.0  # the first of January 2026, UTC
HOUR_SECONDS = 3_600
CATEGORIES = ("culture", "economy", "health", "politics", "science", "sports", "travel", "weather")
SEASONS = ("usual", "other")

SLOTS = 5
VISITS_AN_HOUR, PAGES_MEAN, PAGE_SECONDS = 0.5, 2.5, 40.0
ITEMS_AN_HOUR, ITEM_HOURS = 6, 48
BIAS, FRESH_HOURS, ENGAGED = -3.4, 12.0, 0.8
SLOT_WEIGHTS = {"usual": -0.9, "other": -0.1}  # of the slot's logarithm
DELAY_SECONDS, SLOW_SHARE, SLOW_SECONDS = 90.0, 0.05, 3_600.0

# What an hour's numbers are drawn for: each has a stream of its own, so that one never moves another.
_PEOPLE, _ITEMS, _VISITS, _CHOICES, _CLICKS, _REQUESTS = range(6)


class Hour(NamedTuple):
    """The impressions of one hour in the order of their time, a column for each thing that is known of them."""

    world: "World"
    number: int
    at: np.ndarray  # seconds
    user: np.ndarray
    item: np.ndarray  # its number since the beginning
    slot: np.ndarray
    engaged: np.ndarray
    clicked_at: np.ndarray  # NaN where nobody clicked

    def impressions(self) -> Iterator[dict[str, Any]]:
        """Yield the impressions as the topic ``impressions`` has them, whose key is the user."""
        world = self.world
        published, category = world.published(self.item), world.category(self.item)
        columns = (self.at, self.user, self.item, category, self.slot, published, self.engaged)
        rows = zip(*(column.tolist() for column in columns), strict=True)
        for place, (at, user, item, category_of, slot, published_at, engaged) in enumerate(rows):
            yield {
                "id": f"i-{self.number}-{place}",
                "at": at,
                "user": f"u-{user}",
                "item": f"a-{item}",
                "category": CATEGORIES[category_of],
                "slot": slot,
                "published": published_at,
                "engaged": int(engaged),
            }

    def clicks(self) -> Iterator[dict[str, Any]]:
        """Yield the clicks as the topic ``clicks`` has them, in the order of their times."""
        places = np.flatnonzero(~np.isnan(self.clicked_at))
        for place in places[np.argsort(self.clicked_at[places], kind="stable")].tolist():
            one = {"id": f"i-{self.number}-{place}", "user": f"u-{self.user[place]}"}
            yield {**one, "at": float(self.clicked_at[place]), "clicked": 1}


class Requests(NamedTuple):
    """The first pages of an hour's visits before anything is shown on them, each with items that may be."""

    world: "World"
    number: int
    at: np.ndarray
    user: np.ndarray
    item: np.ndarray  # of each request a row of candidates, no two alike

    def candidates(self) -> Iterator[dict[str, Any]]:
        """Yield the candidates as the topic ``candidates`` has them, those of a request behind each other."""
        flat = self.item.ravel()
        published, category = (of(flat).reshape(self.item.shape) for of in (self.world.published, self.world.category))
        for place, (at, user) in enumerate(zip(self.at.tolist(), self.user.tolist(), strict=True)):
            request = f"r-{self.number}-{place}"
            each = zip(*(column[place].tolist() for column in (self.item, category, published)), strict=True)
            for nth, (item, category_of, published_at) in enumerate(each):
                yield {
                    "id": f"{request}-{nth}",
                    "at": at,
                    "user": f"u-{user}",
                    "request": request,
                    "item": f"a-{item}",
                    "category": CATEGORIES[category_of],
                    "published": published_at,
                }

    def click_chances(self, item: np.ndarray, slot: Any) -> np.ndarray:
        """Return how likely a click is on each of the items, in these slots: what no model ever sees."""
        odds = self.world._odds(self.number, self.user, item, np.asarray(slot), self.at)  # noqa: SLF001 - our own world
        made: np.ndarray = 1 / (1 + np.exp(-odds))
        return made


class World:
    """Who likes what, and what there is to like.

    >>> hour = World(seed=1, users=100).hour(30)
    >>> len(hour.at) % SLOTS, hour.slot[:6].tolist()
    (0, [1, 2, 3, 4, 5, 1])
    >>> sorted(next(hour.impressions()))
    ['at', 'category', 'engaged', 'id', 'item', 'published', 'slot', 'user']
    """

    def __init__(
        self, seed: int = 1, users: int = 1_000, *, started_at: float = STARTED_AT, season: str = "usual"
    ) -> None:
        assert season in SEASONS
        self.seed = seed
        self.started_at = started_at
        self.season = season
        rng = np.random.default_rng([seed, _PEOPLE])
        self.tastes = rng.normal(0, 0.8, (users, len(CATEGORIES)))
        self.eagerness = rng.normal(0, 0.5, users)
        self.visits_an_hour = rng.gamma(2.0, VISITS_AN_HOUR / 2, users)
        self.appeal = rng.permutation(np.linspace(-0.9, 0.9, len(CATEGORIES)))
        self._drift = rng.uniform(0, 2 * math.pi, len(CATEGORIES)), rng.uniform(20, 90, len(CATEGORIES))

    def hour(self, number: int) -> Hour:
        """Return the impressions of an hour; the first one is 0."""
        rng = np.random.default_rng([self.seed, _VISITS, number])
        busy = 1 - 0.7 * math.cos((number % 24 - 3) / 24 * 2 * math.pi)
        visitor = np.repeat(np.arange(len(self.tastes)), rng.poisson(self.visits_an_hour * busy))
        begin = rng.uniform(0, HOUR_SECONDS, len(visitor))
        pages = rng.geometric(1 / PAGES_MEAN, len(visitor))
        visit = np.repeat(np.arange(len(visitor)), pages)
        nth = np.arange(len(visit)) - np.repeat(np.cumsum(pages) - pages, pages)
        second = begin[visit] + nth * rng.uniform(0.5, 1.5, len(visit)) * PAGE_SECONDS
        # Of a visit that is longer than its hour the rest does not take place.
        happens = second < HOUR_SECONDS
        visit, nth, second = visit[happens], nth[happens], second[happens]
        user = visitor[visit]
        item = self._shown(number, user)
        slot = np.arange(1, SLOTS + 1)
        ms = (second * 1_000).astype(np.int64)
        midnight_ms = round(self.started_at * 1_000) + number * HOUR_SECONDS * 1_000
        at = (midnight_ms + ms) / 1_000
        odds = self._odds(number, user, item, slot, at)
        engaged, clicked = self._clicked(number, odds, visit, nth)
        order = np.argsort(ms, kind="stable")
        rng = np.random.default_rng([self.seed, _CLICKS, number, 1])
        delay = rng.exponential(DELAY_SECONDS, odds.shape)
        slow = rng.random(odds.shape) < SLOW_SHARE
        delay[slow] = rng.uniform(0, SLOW_SECONDS, odds.shape)[slow]
        clicked_at = np.where(clicked, np.round(at[:, None] + delay, 3), np.nan)
        flat = [column[order].ravel() for column in (item, np.broadcast_to(slot, item.shape), clicked_at)]
        each = [np.repeat(column[order], SLOTS) for column in (at, user, engaged)]
        return Hour(self, number, each[0], each[1], flat[0], flat[1], each[2], flat[2])

    def requests(self, number: int, candidates: int = 8) -> Requests:
        """Return who asks for a page in an hour, and some items of which any may be shown."""
        rng = np.random.default_rng([self.seed, _REQUESTS, number])
        user = np.repeat(np.arange(len(self.tastes)), rng.poisson(self.visits_an_hour))
        user = rng.permutation(user)
        begin = self.started_at + number * HOUR_SECONDS
        at = np.round(begin + np.sort(rng.uniform(0, HOUR_SECONDS - 1, len(user))), 3)
        there = self._there(number)[0]
        chosen = np.argsort(rng.random((len(user), len(there))), axis=1)[:, :candidates]
        return Requests(self, number, at, user, there[chosen])

    def category(self, item: np.ndarray) -> np.ndarray:
        """Return the number of each item's category."""
        hours = np.unique(item // ITEMS_AN_HOUR)
        drawn = {hour: self._made(hour)[0] for hour in hours.tolist()}
        return np.array([drawn[one // ITEMS_AN_HOUR][one % ITEMS_AN_HOUR] for one in item.tolist()], np.int64)

    def published(self, item: np.ndarray) -> np.ndarray:
        """Return when each item was published; those of an hour are there when it begins."""
        return self.started_at + (item // ITEMS_AN_HOUR - ITEM_HOURS) * float(HOUR_SECONDS)

    def _made(self, hour: int) -> tuple[np.ndarray, np.ndarray]:
        """Return category and quality of the items that were published in an hour, counted from two days before."""
        rng = np.random.default_rng([self.seed, _ITEMS, hour])
        return rng.integers(len(CATEGORIES), size=ITEMS_AN_HOUR), rng.normal(0, 0.5, ITEMS_AN_HOUR)

    def _there(self, number: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return the items that are there in an hour, with their categories and qualities."""
        hours = range(number + 1, number + ITEM_HOURS + 1)
        category, quality = (np.concatenate(one) for one in zip(*map(self._made, hours), strict=True))
        return np.arange(hours.start * ITEMS_AN_HOUR, hours.stop * ITEMS_AN_HOUR), category, quality

    def _shown(self, number: int, user: np.ndarray) -> np.ndarray:
        """Choose what is shown on each page, the same item twice on none: what the user likes, good or new."""
        item, category, quality = self._there(number)
        rng = np.random.default_rng([self.seed, _CHOICES, number])
        fresh = np.exp(-((number + ITEM_HOURS) - item // ITEMS_AN_HOUR) / FRESH_HOURS)
        wish = self.tastes[user][:, category] + quality + fresh
        # The largest of numbers that are noisy in this way are a draw by the exponentials of the numbers.
        wish = wish + rng.gumbel(size=wish.shape)
        chosen = np.argpartition(-wish, SLOTS, axis=1)[:, :SLOTS]
        return item[np.take_along_axis(chosen, np.argsort(rng.random(chosen.shape), axis=1), axis=1)]

    def _odds(self, number: int, user: np.ndarray, item: np.ndarray, slot: np.ndarray, at: np.ndarray) -> np.ndarray:
        """Return the logarithm of the odds of a click on each slot of each page."""
        there, categories, qualities = self._there(number)
        category, quality = categories[item - there[0]], qualities[item - there[0]]
        phase, hours = self._drift
        appeal = self.appeal + 0.3 * np.sin(phase + number * 2 * math.pi / hours)
        appeal = appeal if self.season == "usual" else -appeal
        age = (at[:, None] - self.published(item)) / HOUR_SECONDS
        likes = 0.6 * np.take_along_axis(self.tastes[user], category, axis=1) + quality + appeal[category]
        looks = SLOT_WEIGHTS[self.season] * np.log(slot) + self.eagerness[user][:, None]
        made: np.ndarray = BIAS + likes + looks + 0.7 * np.exp(-age / FRESH_HOURS)
        return made

    def _clicked(
        self, number: int, odds: np.ndarray, visit: np.ndarray, nth: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Say of each page whether there was a click on the one before, and of each slot whether there is one."""
        drawn = np.random.default_rng([self.seed, _CLICKS, number]).logistic(size=odds.shape)
        engaged = np.zeros(len(odds), bool)
        clicked = np.zeros(odds.shape, bool)
        for page in range(int(nth.max(initial=-1)) + 1):
            here = np.flatnonzero(nth == page)
            if page:
                # Pages of a visit lie behind each other.
                engaged[here] = clicked[here - 1].any(axis=1) & (visit[here - 1] == visit[here])
            clicked[here] = drawn[here] < odds[here] + ENGAGED * engaged[here][:, None]
        return engaged, clicked


def simulate(
    seed: int = 1, users: int = 1_000, *, hours: int = 24, change_hour: int | None = None, **settings: Any
) -> Iterator[Hour]:
    """Yield hour after hour, each made when it is asked for; ``settings`` are those of the world.

    >>> [hour.world.season for hour in simulate(users=100, hours=3, change_hour=2)]
    ['usual', 'usual', 'other']
    """
    world = World(seed, users, **settings)
    if change_hour is None:
        return map(world.hour, range(hours))
    changed = copy(world)
    changed.season = "other"
    return ((world if number < change_hour else changed).hour(number) for number in range(hours))


def as_they_come(hours: Iterable[Hour]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield impressions and clicks in the order of their times, each with its topic.

    >>> told = list(as_they_come(simulate(users=50, hours=3)))
    >>> times = [one["at"] for _, one in told]
    >>> times == sorted(times), {topic for topic, _ in told} == {"impressions", "clicks"}
    (True, True)
    """
    ones, others = tee(hours)
    shown = (("impressions", one) for hour in ones for one in hour.impressions())
    clicks = (("clicks", one) for one in _clicks(others))
    return merge(shown, clicks, key=_time)


def _time(told: tuple[str, dict[str, Any]]) -> float:
    at: float = told[1]["at"]
    return at


def _clicks(hours: Iterable[Hour]) -> Iterator[dict[str, Any]]:
    """Yield the clicks on the impressions of all hours: those of one hour come in it and in the next two."""
    waiting: list[dict[str, Any]] = []
    for hour in hours:
        begin = hour.world.started_at + hour.number * HOUR_SECONDS
        yield from (one for one in waiting if one["at"] < begin)
        left = (one for one in waiting if one["at"] >= begin)
        waiting = sorted([*left, *hour.clicks()], key=itemgetter("at"))
    yield from waiting


def main(arguments: list[str] | None = None) -> int:
    """Write impressions and clicks, a line of JSON each; say on stderr how many there are."""
    parser = argparse.ArgumentParser(description="Made-up impressions, and the clicks on them, as JSON.")
    parser.add_argument("--hours", type=int, default=24)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--users", type=int, default=1_000)
    parser.add_argument("--change-hour", type=int, metavar="N", help="the first hour of another season")
    parser.add_argument("-o", "--output", default="-", metavar="FILE", help="where impressions go (default: stdout)")
    parser.add_argument("--clicks", metavar="FILE", help="where clicks go; without it, nowhere")
    parser.add_argument("--keys", action="store_true", help="before each line the user and a tab")
    given = parser.parse_args(arguments)
    for name in ("hours", "users"):
        if getattr(given, name) < 1:
            parser.error(f"--{name} {getattr(given, name)}: must be 1 or more")
    if given.seed < 0:
        parser.error(f"--seed {given.seed}: must be 0 or more")
    if given.clicks is not None and given.clicks == given.output:
        parser.error(f"-o and --clicks are both {given.output}: impressions and clicks are different topics")
    count = clicked = 0
    with ExitStack() as files:
        shown = _opened(given.output, files)
        clicks = None if given.clicks is None else _opened(given.clicks, files)
        hours = simulate(given.seed, given.users, hours=given.hours, change_hour=given.change_hour)

        def written() -> Iterator[Hour]:
            nonlocal count, clicked
            for hour in hours:
                shown.writelines(_lines(hour.impressions(), keys=given.keys))
                count += len(hour.at)
                clicked += int(np.count_nonzero(~np.isnan(hour.clicked_at)))
                yield hour

        for line in _lines(_clicks(written()), keys=given.keys):
            if clicks is not None:
                clicks.write(line)
        sys.stdout.flush()
    sys.stderr.write(f"{count:,} impressions, {clicked:,} clicked on ({clicked / max(count, 1):.2%})\n")
    return 0


def _opened(name: str, files: ExitStack) -> BinaryIO:
    return sys.stdout.buffer if name == "-" else files.enter_context(open(name, "wb"))  # noqa: PTH123


def _lines(records: Iterable[dict[str, Any]], *, keys: bool) -> Iterator[bytes]:
    for one in records:
        line = orjson.dumps(one, option=orjson.OPT_APPEND_NEWLINE)
        yield one["user"].encode() + b"\t" + line if keys else line


if __name__ == "__main__":
    try:
        sys.exit(main())
    except BrokenPipeError:  # whoever read has read enough, as `head` has
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)

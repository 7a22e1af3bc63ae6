"""What the watch of the fraud example tells of years in which nothing changes, its learner and its labels included.

    python benchmarks/stationary.py                five worlds of six years: a quarter of an hour; needs no broker

A world is the example's own, begun some days later each time: the same people, and other payments. Ends with 1 if there
are more alerts than the example promises (``false_alarms`` of its page).
"""

import argparse
import itertools
import sys
from concurrent.futures import ProcessPoolExecutor

from headrace.examples.fraud import generator
from headrace.examples.fraud.pipeline import pipeline

from headrace.stream.driver import Driver

APART_DAYS = 7_000  # from the first day of a world to that of the next
PEOPLE = {"customers": 300, "terminals": 600, "compromised_a_day": 0, "leaked_a_day": 1}  # as the demo has them


def alerts(world: int, days: int) -> list[dict]:
    """Return what is raised in a world."""
    people = generator.World(**PEOPLE)
    driver = Driver(pipeline, partitions=4)
    begin = world * APART_DAYS
    records = generator.as_they_come(map(people.day, itertools.count(begin)))
    for day, some in itertools.groupby(records, key=lambda one: one[1]["at"] // generator.DAY_SECONDS):
        if day - people.started_at // generator.DAY_SECONDS >= begin + days:
            break
        made = [driver._record(record, record["card"], topic=topic) for topic, record in some]  # noqa: SLF001
        driver.pipe_all(sorted(made, key=lambda one: (one.partition, one.topic != pipeline.wire.topic)))
    return [one for one in driver.alerts if one["state"] == "raised"]


def main() -> None:
    """Look at each world, and count."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--worlds", type=int, default=5)
    parser.add_argument("--days", type=int, default=2_200, help="of each (default 2200)")
    parser.add_argument("--jobs", type=int, default=2, help="at a time (default 2)")
    options = parser.parse_args()
    count = 0
    with ProcessPoolExecutor(options.jobs) as pool:
        told = pool.map(alerts, range(options.worlds), itertools.repeat(options.days))
        for world, raised in enumerate(told):
            count += len(raised)
            print(
                f"world {world}: {len(raised)} raised", *(f"    {one['text']}" for one in raised), sep="\n", flush=True
            )
    years = options.worlds * options.days / 365
    promised = years / (pipeline.watch.slices_per_alarm * pipeline.watch.every_s / generator.DAY_SECONDS / 365)
    print(f"{count} alerts in {years:.1f} years in which nothing changed; {promised:.1f} are promised at the most")
    sys.exit(0 if count <= promised else 1)


if __name__ == "__main__":
    main()

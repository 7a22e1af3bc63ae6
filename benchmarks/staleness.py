"""How far behind a shared learner is: workers under a steady load on the real broker, and what they report.

Two thirds of the events get a label within two seconds, most others time out after fifteen; each is a lesson. Reports
of the first ten seconds, when the workers begin, are left out.

    python benchmarks/staleness.py --rate 500 --interval 500 --workers 3
"""

import argparse
import json
import os
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from aiokafka import TopicPartition
from faults import reader
from faults.labeller import Labeller
from faults.stage import PARTITIONS, Stage

from headrace.stream.broker import RealBroker

LEARNING = Path(reader.__file__).with_name("learning.py")
WARM_SECONDS = 10.0


def measure(*, rate: int, interval: int, count: int, seconds: float) -> list[dict[str, float]]:
    """Return what was reported while so many workers scored so many events a second."""
    with (
        tempfile.TemporaryDirectory() as folder,
        RealBroker() as real,
        Stage(real.address, Path(folder), seed=1) as stage,
    ):
        quality = stage.create(f"quality-{stage.topic}", 1)
        stage.create(f"{stage.topic}-labels", PARTITIONS)
        settings = {
            "pipeline": LEARNING,
            "env": {"FAULTS_LEARNER": "shared"},
            "topic_outcomes": stage.create(f"outcomes-{stage.topic}", 3),
            "topic_quality": quality,
            "learner_interval_ms": interval,
        }
        workers = [stage.worker(f"worker-{number}", **settings).start() for number in range(count)]
        for worker in workers:
            worker.wait_until_ready()
        labeller = Labeller(stage.address, stage.topic, PARTITIONS, seed=1)
        labeller.start()
        generator = stage.generator()
        generator.start(10**9, rate=rate)
        warm = time.time() + WARM_SECONDS
        time.sleep(WARM_SECONDS + seconds)
        found = reader.records(stage.address, {TopicPartition(quality, 0): 0}, isolation="read_committed")
        generator.stop()
        labeller.stop()
        said = [json.loads(one.value) for one in found if one.timestamp / 1_000 > warm]
        return [one["recent"] for one in said if one["model"] == "shared" and one["recent"]["lessons"]]


def main() -> None:
    """Measure, and say what came of it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rate", type=int, default=500, help="events per second")
    parser.add_argument("--interval", type=int, default=500, help="learner_interval_ms")
    parser.add_argument("--workers", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=30.0)
    asked = parser.parse_args()
    reports = measure(rate=asked.rate, interval=asked.interval, count=asked.workers, seconds=asked.seconds)
    assert reports, "nothing was learned"
    lessons = sum(one["lessons"] for one in reports)
    mean = {
        name: sum(one["lessons"] * one[name] for one in reports) / lessons
        for name in ("behind_lessons", "behind_seconds")
    }
    print(
        f"{asked.workers} workers, {asked.rate} events/s, told every {asked.interval} ms; load {os.getloadavg()[0]:.1f}"
    )
    print(
        f"{lessons:,.0f} lessons, behind by {mean['behind_lessons']:.1f} and {mean['behind_seconds']:.2f} s in the mean"
    )
    most = [max(one[name] for one in reports) for name in ("behind_lessons_max", "behind_seconds_max")]
    print(f"and by {most[0]:.0f} and {most[1]:.2f} s at most")


if __name__ == "__main__":
    main()

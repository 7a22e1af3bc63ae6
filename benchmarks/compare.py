"""The same job, done by everybody, side by side, on one real broker; then windows.py and batch.py (``make bench``).

    python benchmarks/compare.py                  everything: about an hour and three quarters
    python benchmarks/compare.py --job learning   only the job that remembers and learns
    python benchmarks/compare.py --quick          the bare loop and Headrace: a few minutes
    python benchmarks/compare.py --contestants bare,headrace-alo --throughput-only --rounds 5
    python benchmarks/compare.py --others-only    only windows.py and batch.py, in the same record and table

Prints a table, and leaves compare.json, compare.svg and everybody's logs in benchmarks/out.
README.md says how to read them.
"""

import argparse
import json
import shutil
import signal
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

import batch
import contest
import contestants
import environments
import jobs
import plot
import process
import report
import windows
from headrace.models.kernels import compiled
from headrace.schemas.errors import BrokerNotAvailable
from headrace.stream.broker import KAFKA_VERSION, RealBroker
from topics import Topics

OTHERS = {"windows": windows, "files": batch}  # with tables and goals of their own
SHORT_SHARE = 20  # slow contestants get one event in this many
SHORT_COUNT_MIN = 10_000
# As Kafka has it: a new group waits for its members. Else the first takes all, and hands a part over in mid-run.
BROKER = {"group.initial.rebalance.delay.ms": "3000"}
WARM_UP_COUNT = 300_000
WARM_UP_ROUNDS = 2


def main():
    options = _parse()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _interrupt)
    out = Path(options.out).resolve()
    shutil.rmtree(out / "logs", ignore_errors=True)
    (out / "logs").mkdir(parents=True)
    record = {
        "format": 1,
        "started_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "settings": {name: value for name, value in vars(options).items() if name != "out"},
        "machine": process.machine(),
        "broker": f"Apache Kafka {KAFKA_VERSION}, one node, one process, on loopback",
        "versions": {},
        "kernel": compiled(),  # or River itself learns
        "contestants": {
            name: {
                "title": contestants.BY_NAME[name].title,
                "job": contestants.BY_NAME[name].job.name,
                "throughput": [],
                "latency": [],
                "not_run": None,
            }
            for name in options.contestants
        },
        "complete": False,
    }
    try:
        pythons = _install(record)
        with RealBroker(properties=BROKER) as broker:
            topics = Topics(broker.address)
            arena = contest.Arena(broker.address, broker.pid, topics, out, options.seed, options.contest_seconds_max)
            try:
                _warm_up(arena, pythons, options)
                if not options.latency_only:
                    for job in jobs.BY_NAME.values():
                        _throughput(arena, record, pythons, options, job)
                if not options.throughput_only:
                    _latency(arena, record, pythons, options)
                if options.others:
                    record["windows"] = windows.measure(arena, rounds=options.rounds, seed=options.seed)
            finally:
                process.stop_all()  # before the broker, which would keep them waiting
                topics.close()
        if options.others:
            record["files"] = batch.measure(rounds=options.rounds, seed=options.seed)
        record["complete"] = True
    except BrokerNotAvailable as error:
        sys.exit(f"{error.code}: {error}")
    except KeyboardInterrupt:
        print("\ninterrupted: what was measured so far follows", flush=True)
    finally:
        process.stop_all()
    others = {name: part for name, part in OTHERS.items() if name in record}
    record["summary"] = report.summary(record)
    record["summary"]["goals"] = [goal for name, part in others.items() for goal in part.goals(record[name])]
    (out / "compare.json").write_text(json.dumps(record, indent=1) + "\n")
    (out / "compare.svg").write_text(plot.svg(record))
    print(report.table(record))
    for name, part in others.items():
        print("\n".join(part.lines(record[name])))
    print("\n".join(report.goal_lines(record["summary"]["goals"])))
    print(f"\nrecord: {out / 'compare.json'}\nplot:   {out / 'compare.svg'}")
    sys.exit(0 if record["complete"] else 130)


def _parse():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = ",".join(contestants.BY_NAME)
    parser.add_argument("--job", choices=jobs.BY_NAME, help="only this one (default: each of them)")
    parser.add_argument("--contestants", metavar="A,B", help=f"who takes part (default: {names})")
    parser.add_argument("--events", type=int, help="events in the input topic for throughput (default 1000000)")
    parser.add_argument("--rounds", type=int, help="measurements of each kind for everybody (default 3)")
    parser.add_argument("--seconds", type=float, help="measured seconds of each latency run (default 30)")
    parser.add_argument("--rate", type=float, default=1_000, help="events per second for latency (default 1000)")
    parser.add_argument("--seed", type=int, default=7, help="of the events (default 7)")
    parser.add_argument("--quick", action="store_true", help="only the bare loop and Headrace, smaller and shorter")
    only = parser.add_mutually_exclusive_group()
    only.add_argument("--throughput-only", action="store_true")
    only.add_argument("--latency-only", action="store_true")
    only.add_argument("--others-only", action="store_true", help="only windows.py and batch.py")
    parser.add_argument(
        "--contest-seconds-max",
        type=float,
        default=300,
        help="a throughput run ends here at the latest (default 300)",
    )
    parser.add_argument("--out", default=str(contestants.HERE / "out"), help="folder for the results")
    options = parser.parse_args()
    narrowed = options.quick or options.job or options.contestants or options.throughput_only or options.latency_only
    options.others = options.others_only or not narrowed
    if options.others_only:
        options.contestants = ""
    usual = [
        name
        for name in (contestants.QUICK if options.quick else contestants.BY_NAME)
        if options.job in (None, contestants.BY_NAME[name].job.name)
    ]
    normal = (",".join(usual), 300_000, 2, 5.0) if options.quick else (",".join(usual), 1_000_000, 3, 30.0)
    for name, value in zip(("contestants", "events", "rounds", "seconds"), normal, strict=True):
        if getattr(options, name) is None:
            setattr(options, name, value)
    options.contestants = [name for name in options.contestants.split(",") if name]
    if unknown := [name for name in options.contestants if name not in contestants.BY_NAME]:
        parser.error(f"--contestants: {', '.join(unknown)}: allowed are {names}")
    limits = {"events": (10_000, 5_000_000), "rounds": (1, 50), "seconds": (1, 600), "rate": (1, 20_000)}
    for name, (least, most) in limits.items():
        if not least <= getattr(options, name) <= most:
            parser.error(f"--{name} = {getattr(options, name)}: allowed {least} to {most}")
    return options


def _install(record):
    """Return the interpreter of each contestant that can run here; say of the others why not."""
    pythons = {}
    for name, row in record["contestants"].items():
        peer = contestants.BY_NAME[name].peer
        try:
            pythons[name] = environments.python_of(peer)
        except environments.NotInstalled as reason:
            row["not_run"] = str(reason)
            print(f"{name}: not run: {reason}", flush=True)
            continue
        if (peer or "headrace") not in record["versions"]:
            record["versions"][peer or "headrace"] = environments.versions(peer, pythons[name])
    return pythons


def _warm_up(arena, pythons, options):
    """Run one contestant of each guarantee without measuring.

    A broker that has just started compiles its own code for a minute, and whoever came first would pay for it.
    """
    first = {}
    for name in pythons:
        if not contestants.BY_NAME[name].slow:
            first.setdefault(contestants.BY_NAME[name].guarantee, name)
    for job in dict.fromkeys(contestants.BY_NAME[name].job for name in first.values()):
        sent = job.make(min(WARM_UP_COUNT, options.events), options.seed + 2)
        arena.topics.create(contestants.INPUT)
        arena.topics.fill(contestants.INPUT, sent)
        for name in WARM_UP_ROUNDS * [name for name in first.values() if contestants.BY_NAME[name].job is job]:
            print(f"warm-up {name}, not measured", flush=True)
            contest.throughput(arena, contestants.BY_NAME[name], pythons[name], sent)
        arena.topics.drop(contestants.INPUT)
    if not options.throughput_only:
        for name in first.values():
            contest.latency(arena, contestants.BY_NAME[name], pythons[name], options.rate, contest.WARM_UP_SECONDS)
        arena.topics.drop(contestants.INPUT)


def _throughput(arena, record, pythons, options, job):
    here = [name for name, row in record["contestants"].items() if row["job"] == job.name]
    if not here:
        return
    sent = job.make(options.events, options.seed)
    short = sent.first(max(SHORT_COUNT_MIN, options.events // SHORT_SHARE))
    for topic, part in ((contestants.INPUT, sent), (contestants.SHORT_INPUT, short)):
        arena.topics.create(topic)
        arena.topics.fill(topic, part)
    for name, contestant, row in _turns(record, pythons, options.rounds, here):
        part = short if contestant.slow else sent
        result = contest.throughput(arena, contestant, pythons[name], part)
        _keep(row, "throughput", result)
        print(f"throughput {name}: {result['rate'] or 0:,.0f}/s{report.remark(result)}", flush=True)
    arena.topics.drop(contestants.INPUT, contestants.SHORT_INPUT)


def _latency(arena, record, pythons, options):
    for name, contestant, row in _turns(record, pythons, options.rounds, record["contestants"]):
        result = contest.latency(arena, contestant, pythons[name], options.rate, options.seconds)
        _keep(row, "latency", result)
        shown = ", ".join(f"{mark} {result.get(f'{mark}_ms')} ms" for mark in report.PERCENTILES)
        print(f"latency {name}: {shown}{report.remark(result)}", flush=True)


def _turns(record, pythons, rounds, names):
    """Yield contestants round by round, each round starting with another one of them."""
    names = [name for name in names if name in pythons]
    for number in range(rounds):
        start = number % max(1, len(names))
        for name in names[start:] + names[:start]:
            row = record["contestants"][name]
            if row["not_run"] is None:
                yield name, contestants.BY_NAME[name], row


def _keep(row, kind, result):
    row[kind].append({"at": round(time.time(), 1), **result})
    if result["problem"] and not result["verdict"]["distinct"]:
        row["not_run"] = result["problem"]  # nothing came out, and nothing would come out the next time


def _interrupt(_number, _frame):
    # Once: a second signal would interrupt the cleaning up, which ends by itself.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    raise KeyboardInterrupt


if __name__ == "__main__":
    main()

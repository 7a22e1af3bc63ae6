"""Who notices that a world has changed, how soon, and at what price, when all have the same rate of false alarms.

    python benchmarks/detectors.py                          everything: an hour and a half, two contestants at a time
    python benchmarks/detectors.py --quick                  the cheap ones in one world: a few minutes
    python benchmarks/detectors.py --stationary             Headrace's promise against 100 million stationary events
    python benchmarks/detectors.py --only always-fire,river-ddm --worlds mixed
    python benchmarks/detectors.py --report                 table and picture again, from the lines of the last run

The lines of what was measured are in benchmarks/out/drift.jsonl, the tables in drift.md, the picture in drift.svg.
"""

import argparse
import json
import os
import subprocess
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import contestants as peers
import environments
import process
from drift import contestants, picture, protocol, tables, worlds

FULL = protocol.Form()
QUICK = protocol.Form(
    rate=5e-5, reference=10_000, lead=10_000, horizon=10_000, stretch=50_000, tuning=100_000, quiet=200_000, seeds=3,
    steps=7, priced=30_000,
)  # fmt: skip
CHEAP = (
    "headrace-promised", "headrace", "river-adwin", "river-page-hinkley", "river-ddm", "alibi-5000", "always-fire",
)  # fmt: skip
STATIONARY_RATE = 1e-6


class Run:
    """What was measured so far: every line is in the file as soon as it is known."""

    def __init__(self, path: Path):
        self.lines: list[dict] = []
        self.not_run: dict[str, str] = {}
        self._lock, self._file = threading.Lock(), path.open("w", encoding="utf-8")

    def add(self, line):
        with self._lock:
            self.lines.append(line)
            self._file.write(json.dumps(line) + "\n")
            self._file.flush()

    def leave_out(self, entry, reason):
        self.not_run[entry.name] = reason
        self.add({"what": "not run", "contestant": entry.name, "world": "", "reason": reason})
        print(f"{entry.name}: not run: {reason}", flush=True)


def main():
    options = _parse()
    out = Path(options.out)
    (out / "logs").mkdir(parents=True, exist_ok=True)
    stem = out / ("drift-stationary" if options.stationary else "drift")
    if not options.report:
        _measure(options, stem.with_suffix(".jsonl"), out)
    lines = [json.loads(line) for line in stem.with_suffix(".jsonl").read_text(encoding="utf-8").splitlines()]
    told = _told(lines)
    stem.with_suffix(".md").write_text(told, encoding="utf-8")
    print(told)
    if not options.stationary:
        stem.with_suffix(".svg").write_text(picture.svg(lines), encoding="utf-8")


def _told(lines):
    run = lines[0]
    machine = run["machine"]
    head = f"{run['started_at']}, {machine['cpu']}, {machine['cores']} cores, load {machine['load_average_at_start']}"
    not_run = {line["contestant"]: line["reason"] for line in lines if line["what"] == "not run"}
    if not run["stationary"]:
        return f"# Drift detection\n\n{head}\n\n{tables.contest(lines, run['form'], not_run)}"
    missing = "".join(f"{name}: not run: {reason}\n" for name, reason in not_run.items())
    return f"# False alarms on stationary streams\n\n{head}\n\n{tables.stationary(lines)}{missing}"


def _measure(options, path, out):
    form = QUICK if options.quick else FULL
    chosen = {name: value for name in ("rate", "seeds") if (value := getattr(options, name)) is not None}
    run = Run(path)
    asked = {"form": {**vars(form), **chosen}, "worlds": options.worlds}
    if options.stationary:
        asked["form"]["rate"] = options.rate or STATIONARY_RATE
        asked |= {"seeds": options.seeds or 20, "events": options.events, "knob": options.knob}
    started = datetime.now(UTC).isoformat(timespec="seconds")
    kept = {"form": asked["form"], "stationary": options.stationary, "machine": process.machine()}
    run.add({"what": "run", "contestant": "", "world": "", "started_at": started, **kept})
    ready = {}
    for entry in map(contestants.BY_NAME.get, options.only):
        try:
            if reason := entry.missing():
                run.leave_out(entry, reason)
            else:
                ready[entry] = environments.python_of(entry.peer)
                versions = environments.versions(entry.peer, ready[entry])
                run.add({"what": "versions", "contestant": entry.name, "world": "", "versions": versions})
        except environments.NotInstalled as reason:
            run.leave_out(entry, str(reason))
    what = "stationary" if options.stationary else "contest"
    with ThreadPoolExecutor(options.jobs) as pool:
        works = [
            pool.submit(_one, run, entry, python, what, asked, out, options.minutes_max)
            for entry, python in ready.items()
        ]
    for work in works:
        work.result()  # or what went wrong
    if options.stationary:
        return
    # Alone, one after the other: what an event costs depends on who else works.
    for entry, python in ready.items():
        tuned = [line for line in run.lines if line["what"] == "tuned" and line["contestant"] == entry.name]
        if knobs := {line["world"]: line["knob"] for line in tuned if line["knob"] is not None}:
            _one(run, entry, python, "cost", {**asked, "knobs": knobs}, out, options.minutes_max)


def _one(run, entry, python, what, asked, out, minutes_max):
    """Run one contestant in a process of its own, and keep what it says."""
    log = out / "logs" / f"drift-{entry.name}-{what}.log"
    command = [python, "-m", "drift.one", entry.name, what, json.dumps(asked)]
    alone = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    with log.open("w", encoding="utf-8") as errors:
        child = subprocess.Popen(
            command, cwd=peers.HERE, stdout=subprocess.PIPE, stderr=errors, text=True, encoding="utf-8", env=alone
        )
        late = threading.Timer(minutes_max * 60, child.kill)
        late.start()
        for line in child.stdout:
            try:
                told = json.loads(line)
            except json.JSONDecodeError:
                continue  # a library that prints
            run.add(told)
            if told["what"] != "change":
                print(line, end="", flush=True)
        ended_late = not late.is_alive()
        late.cancel()
        if child.wait():
            said = log.read_text(encoding="utf-8").strip().splitlines()
            reason = f"it took more than {minutes_max:g} minutes" if ended_late else (said or ["it ended early"])[-1]
            run.leave_out(entry, f"{what}: {reason}")


def _parse():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="smaller, at five times the rate")
    parser.add_argument("--stationary", action="store_true", help="nothing changes: false alarms against the promise")
    parser.add_argument("--report", action="store_true", help="measure nothing: tell of the last run again")
    parser.add_argument("--only", metavar="A,B", help=f"who takes part (default: {','.join(contestants.BY_NAME)})")
    parser.add_argument("--worlds", metavar="A,B", help=f"of {','.join(worlds.BY_NAME)}")
    parser.add_argument("--rate", type=float, help="of false alarms per event (1e-5; quick 5e-5; stationary 1e-6)")
    parser.add_argument("--seeds", type=int, help="streams with each change (30; quick 3), or stationary ones (20)")
    parser.add_argument("--events", type=int, default=1_000_000, help="of each stationary stream (default 1000000)")
    parser.add_argument("--knob", type=float, help="stationary: of a contestant that promises nothing")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="contestants at a time")
    parser.add_argument("--minutes-max", type=float, default=120.0, help="for one contestant (default 120)")
    parser.add_argument("--out", default=str(peers.HERE / "out"))
    options = parser.parse_args()
    usual = ("headrace-promised",) if options.stationary else CHEAP if options.quick else contestants.BY_NAME
    options.only = _listed(parser, options.only, usual, contestants.BY_NAME)
    usual = worlds.PROVED if options.stationary else worlds.CONTESTED[:1] if options.quick else worlds.CONTESTED
    options.worlds = _listed(parser, options.worlds, usual, worlds.BY_NAME)
    if not options.stationary and not options.report:
        able = {kind for change in FULL.changes for kind in [protocol.every_change.BY_NAME[change].kind]} - {
            worlds.ERROR
        }
        for name in options.worlds:
            if missing := able - set(worlds.BY_NAME[name].kinds.values()):
                parser.error(f"world {name} has no {', '.join(sorted(missing))}: the changes need them")
    return options


def _listed(parser, said, usual, known):
    names = said.split(",") if said else list(usual)
    if unknown := [name for name in names if name not in known]:
        parser.error(f"unknown: {', '.join(unknown)}; known are {', '.join(known)}")
    return names


if __name__ == "__main__":
    main()

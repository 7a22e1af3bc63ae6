"""One contestant, in a process of its own: a line of JSON for each thing that was measured.

    python -m drift.one NAME WHAT FORM, in the folder benchmarks

``WHAT`` is ``contest``, ``cost`` or ``stationary``; ``FORM`` is JSON: see ``asked`` below.
"""

import json
import sys
from dataclasses import asdict

from drift import protocol, worlds
from drift.contestants import BY_NAME


def say(what, entry, world, **more):
    print(json.dumps({"what": what, "contestant": entry.name, "world": world.name, **more}), flush=True)


def contest(entry, asked):
    """Tune it, count its false alarms on other runs, and let the world change."""
    form = protocol.Form(**asked["form"]).scaled(entry.share)
    for name in asked["worlds"]:
        world = worlds.BY_NAME[name]
        tuned = protocol.Tuned(form.rate, 0, 0, 0) if entry.promised else protocol.tune(entry.make, world, form)
        say("tuned", entry, world, **asdict(tuned))
        if tuned.knob is None:
            continue
        alarms = protocol.false_alarms(entry.make, tuned.knob, world, form, form.quiet, protocol.QUIET)
        say("quiet", entry, world, events=form.quiet, alarms=alarms)
        for seed in range(1, form.seeds + 1):
            for outcome in protocol.changed(entry.make, tuned.knob, world, form, seed):
                say("change", entry, world, **asdict(outcome))


def cost(entry, asked):
    """Measure what an event costs, with the knobs that were found."""
    form = protocol.Form(**asked["form"]).scaled(entry.share)
    for name, knob in asked["knobs"].items():
        world = worlds.BY_NAME[name]
        say("cost", entry, world, **protocol.cost(entry.make, knob, world, form))


def stationary(entry, asked):
    """Count all alarms of long stationary runs, against a promise."""
    form = protocol.Form(**asked["form"])
    knob = form.rate if entry.promised else asked["knob"]
    for name in asked["worlds"]:
        world = worlds.BY_NAME[name]
        for seed in range(1, asked["seeds"] + 1):
            alarms = protocol.stationary(entry.make, knob, world, form, asked["events"], seed)
            say("stationary", entry, world, seed=seed, events=asked["events"], alarms=alarms, promised=form.rate)


if __name__ == "__main__":
    {"contest": contest, "cost": cost, "stationary": stationary}[sys.argv[2]](
        BY_NAME[sys.argv[1]], json.loads(sys.argv[3])
    )

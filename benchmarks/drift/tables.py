"""From lines of JSON to what a person reads: Markdown."""

from statistics import median

from drift import changes, contestants, intervals, worlds

ENDLESS = float("inf")


def judged(lines: list[dict], world: str, name: str) -> dict | None:
    """Return all that is known of a contestant in a world; none, where it did not get as far as a change."""
    mine = [line for line in lines if line["world"] == world and line["contestant"] == name]
    last = {line["what"]: line for line in mine}
    outcomes = [line for line in mine if line["what"] == "change"]
    if "quiet" not in last or not outcomes:
        return None
    entry = contestants.BY_NAME[name]
    by_change = {
        change.name: _of([line for line in outcomes if line["change"] == change.name])
        for change in changes.CHANGES
        if (change.of_errors or not entry.errors_only) and any(line["change"] == change.name for line in outcomes)
    }
    return {
        "tuned": last["tuned"],
        "quiet": last["quiet"],
        "cost": last.get("cost"),
        "by_change": by_change,
        "all": _of([line for line in outcomes if line["change"] in by_change]),
    }


def _of(outcomes):
    """A miss counts as an endless delay; of a run, what alarmed before the change is a false positive."""
    found = sum(line["delay"] is not None for line in outcomes)
    false = sum(line["false_alarms"] for line in outcomes)
    delay = median([ENDLESS if line["delay"] is None else line["delay"] for line in outcomes])
    return {
        "runs": len(outcomes),
        "found": found,
        "share": found / len(outcomes),
        "delay": delay,
        "f1": 2 * found / (found + len(outcomes) + false),
        "false": false,
    }


def contest(lines: list[dict], form: dict, not_run: dict[str, str]) -> str:
    """Return the tables of the contest, world by world."""
    parts = []
    for world in worlds.WORLDS:
        rows = {entry.name: judged(lines, world.name, entry.name) for entry in contestants.ENTRIES}
        if not any(rows.values()):
            continue
        parts += [f"## World `{world.name}`: {world.title}", *_overall(rows, lines, world, form, not_run)]
        shown = {name: row for name, row in rows.items() if row}
        parts += [*_by_change(shown, form, "Detected within the horizon, and median delay in events", _found_cell)]
        parts += [*_by_change(shown, form, "F1", lambda one: f"{one['f1']:.2f}")]
    notes = [f"- {entry.title}: {entry.note}." for entry in contestants.ENTRIES if entry.note]
    return "\n".join([*parts, *notes, ""])


def _overall(rows, lines, world, form, not_run):
    made = [
        "",
        f"Everybody is tuned to {form['rate']:g} false alarms per event ({form['rate'] * 1e6:g} in a million). A miss "
        "counts as an endless delay. The bounds are exact, of 95 %.",
        "",
        "| contestant | knob | false alarms per million (bounds) | stationary events | detected | median delay | F1 "
        "| us per event | state KiB | process MiB |",
        "|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for entry in contestants.ENTRIES:
        row = rows[entry.name]
        if row is None:
            made.append(f"| {entry.title} | {_absent(entry, lines, world, not_run)} |" + " |" * 8)
            continue
        quiet, one, cost = row["quiet"], row["all"], row["cost"]
        low, high = (1e6 * bound for bound in intervals.rate(quiet["alarms"], quiet["events"]))
        priced = (
            f"{cost['us_per_event']:,.1f} | {cost['state_kib']:,.0f} | {cost['process_mib']:,.0f}"
            if cost
            else "- | - | -"
        )
        made.append(
            f"| {entry.title} | {row['tuned']['knob']:.4g} "
            f"| {quiet['alarms'] / quiet['events'] * 1e6:.1f} ({low:.1f} to {high:.1f}) | {quiet['events']:,} "
            f"| {one['share']:.0%} | {_delay(one['delay'])} | {one['f1']:.2f} | {priced} |"
        )
    return made


def _absent(entry, lines, world, not_run):
    tuned = [
        line
        for line in lines
        if line["what"] == "tuned" and line["contestant"] == entry.name and line["world"] == world.name
    ]
    if entry.name not in not_run and tuned and tuned[-1]["knob"] is None:
        return "cannot be tuned to that rate: with its least sensitive knob there are still more"
    return f"not run: {not_run.get(entry.name, 'it was not asked')}"


def _by_change(shown, form, title, cell):
    titles = [contestants.BY_NAME[name].title for name in shown]
    made = ["", title + ":", "", "| change | " + " | ".join(titles) + " |", "|---|" + "--:|" * len(titles)]
    for name in form["changes"]:
        cells = [cell(row["by_change"][name]) if name in row["by_change"] else "-" for row in shown.values()]
        made.append(f"| `{name}`: {changes.BY_NAME[name].title} | " + " | ".join(cells) + " |")
    return [*made, ""]


def _found_cell(one):
    return f"{one['share']:.0%} · {_delay(one['delay'])}"


def _delay(delay):
    return "endless" if delay == ENDLESS else f"{delay:,.0f}"


def stationary(lines: list[dict]) -> str:
    """Return the table of false alarms against what was promised."""
    made = [
        "| contestant | world | runs | stationary events | alarms | per million (bounds) | promised per million | |",
        "|---|---|--:|--:|--:|--:|--:|---|",
    ]
    for entry in contestants.ENTRIES:
        mine = [line for line in lines if line["what"] == "stationary" and line["contestant"] == entry.name]
        for world in [*worlds.WORLDS, None]:
            runs = [line for line in mine if world is None or line["world"] == world.name]
            if not runs:
                continue
            events, alarms = sum(run["events"] for run in runs), sum(run["alarms"] for run in runs)
            low, high = (1e6 * bound for bound in intervals.rate(alarms, events))
            promised = 1e6 * runs[0]["promised"]
            per_million = f"{alarms / events * 1e6:.2f} ({low:.2f} to {high:.2f})"
            made.append(
                f"| {entry.title} | {world.name if world else 'all of them'} | {len(runs)} | {events:,} | {alarms:,} "
                f"| {per_million} | {promised:g} | {kept(low, high, promised)} |"
            )
    return "\n".join([*made, ""])


def kept(low: float, high: float, promised: float) -> str:
    """Return what the bounds of a rate say of a promise.

    >>> kept(0.0, 0.5, 1.0), kept(0.5, 2.0, 1.0), kept(2.0, 3.0, 1.0)
    ('kept', 'not refuted', 'BROKEN')
    """
    return "kept" if high <= promised else "not refuted" if low <= promised else "BROKEN"

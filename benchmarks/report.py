"""From measurements to a table, and to the ratios that are asked for."""

from statistics import median

import jobs

PERCENTILES = ("p50", "p99", "p99.9")
FLAWS = ("missing", "doubled", "unknown", "wrong", "unreadable", "reordered")
NEIGHBOURS_PERCENT_MAX = 10
# Throughput of the first over the second, and what Headrace aims for where it aims for something.
RATIOS = (
    ("headrace-alo", "faust", 20.0),
    ("headrace-alo", "quix-alo", 2.0),
    ("headrace-alo", "bytewax", 1.3),
    ("headrace-alo", "pathway", None),
    ("headrace-alo", "bare", 0.95),
    ("headrace-eo", "bare", 0.9),
    ("headrace-eo", "quix-eo", None),
    ("headrace-eo", "headrace-alo", None),
    ("headrace-learning-eo", "streams-learning", 1.2),
    ("headrace-learning-eo", "streams-tuned-learning", 1.0),
    ("headrace-two-learning-eo", "streams-tuned-learning", 1.0),
    ("headrace-learning-eo", "quix-learning-eo", 2.0),
    ("headrace-learning-eo", "bytewax-learning", 1.5),
    ("headrace-learning-eo", "flink-learning", 3.0),
    ("headrace-learning-eo", "faust-learning", 18.0),
    ("headrace-learning-eo", "bare-learning", 0.9),
    ("headrace-learning-eo", "bare-learning", 1.5),
)
EO_P50_MS_MAX = 15.0
EO_P99_MS_MAX = 50.0  # or three times at-least-once, whichever is more
LEARNING_P99_RATIO_MAX = 3.0  # of the stateless job with the same promise


def summary(record):
    """Return medians with the spread around them, ratios, and the goals with whether they were met."""
    rows = {name: _row(row) for name, row in record["contestants"].items()}
    ratios = [_ratio(record, rows, *ratio) for ratio in RATIOS if ratio[0] in rows and ratio[1] in rows]
    ratios = [ratio for ratio in ratios if ratio]
    return {"contestants": rows, "throughput_ratios": ratios, "latency_goals": _latency_goals(record, rows)}


def table(record):
    """Return what a person reads."""
    rows, lines = record["summary"]["contestants"], []
    titles = {name: record["contestants"][name]["title"] for name in rows}
    for job in jobs.BY_NAME.values():
        here = {name: row for name, row in rows.items() if record["contestants"][name]["job"] == job.name}
        lines += _throughput_lines(here, titles, job) + _latency_lines(here, titles, job)
    for name, row in record["contestants"].items():
        if row["not_run"]:
            lines.append(f"{titles[name]:42}not run: {row['not_run']}")
    lines += _goal_lines(record["summary"], titles)
    if busy := _busy_rounds(record):
        lines += [
            "",
            f"{busy} measurements had neighbours on more than {NEIGHBOURS_PERCENT_MAX} % of the machine.",
        ]
    if not record["kernel"]:
        lines += ["", "The kernel was not compiled: in Headrace's pipelines River itself learned."]
    if not record["complete"]:
        lines += ["", "This run was interrupted."]
    return "\n".join(lines)


def goal(what, value, least=None, *, most=None):
    """Return a value beside what is aimed for: at least, or at the most."""
    met = value >= least if most is None else value <= most
    return {"what": what, "value": round(value, 3), "least": least, "most": most, "met": met}


def goal_lines(goals):
    """Return what a person reads of some goals."""
    made = ["", "Goals"] if goals else []
    for one in goals:
        bound = f"at least {one['least']:,}" if one["most"] is None else f"at most {one['most']:,}"
        made.append(f"  {one['what']:66}{one['value']:>12,}  {bound}: {'met' if one['met'] else 'MISSED'}")
    return made


def remark(result):
    """Return what was odd about one measurement, or nothing."""
    parts = []
    if not result["verdict"]["clean"]:
        parts.append(outputs([result]))
    if result["problem"]:
        parts.append(result["problem"])
    if (result.get("neighbours_percent") or 0) > NEIGHBOURS_PERCENT_MAX:
        parts.append(f"neighbours used {result['neighbours_percent']:.0f} % of the machine")
    return f" ({'; '.join(parts)})" if parts else ""


def _throughput_lines(rows, titles, job):
    found = {name: row["throughput"] for name, row in rows.items() if row["throughput"]}
    if not found:
        return []
    lines = [
        "",
        f"Throughput at saturation, events/s; {job.title}",
        f"{'':42}{'median':>10}{'min':>10}{'max':>10}{'CPU us':>9}{'MiB':>7}  outputs",
    ]
    for name, got in found.items():
        rate = got["rate"]
        lines.append(
            f"{titles[name]:42}{rate['median']:>10,.0f}{rate['min']:>10,.0f}{rate['max']:>10,.0f}"
            f"{got['cpu_us_per_event']:>9}{got['memory_mib']:>7}  {got['outputs']}"
        )
    return lines


def _latency_lines(rows, titles, job):
    found = {name: row["latency"] for name, row in rows.items() if row["latency"]}
    if not found:
        return []
    lines = [
        "",
        f"Latency, ms from the intended send to readable (read_committed), median of the rounds; {job.title}",
        f"{'':42}{'p50':>10}{'p99':>10}{'p99.9':>10}{'p99 from .. to':>22}  outputs",
    ]
    for name, got in found.items():
        cells = "".join(f"{_ms(got[mark]['median']):>10}" for mark in PERCENTILES)
        spread = f"{_ms(got['p99']['min'])} .. {_ms(got['p99']['max'])}"
        lines.append(f"{titles[name]:42}{cells}{spread:>22}  {got['outputs']}")
    return lines


def _row(row):
    throughput = [result for result in row["throughput"] if result["rate"]]
    latency = [result for result in row["latency"] if "p50_ms" in result]
    return {
        "throughput": {
            "rate": _spread([result["rate"] for result in throughput]),
            "cpu_us_per_event": round(median(result["cpu_us_per_event"] for result in throughput), 1),
            "memory_mib": max(result["memory_mib"] for result in throughput),
            "outputs": outputs(throughput),
        }
        if throughput
        else None,
        "latency": {
            **{mark: _spread([result[f"{mark}_ms"] for result in latency]) for mark in PERCENTILES},
            "outputs": outputs(latency),
        }
        if latency
        else None,
    }


def _spread(values):
    """Return median, least and greatest; None stands for endless, and is greater than all."""
    ordered = sorted(float("inf") if value is None else value for value in values)
    marks = {"median": median(ordered), "min": ordered[0], "max": ordered[-1]}
    return {name: None if value == float("inf") else round(value, 3) for name, value in marks.items()}


def outputs(results):
    flaws = {flaw: sum(result["verdict"][flaw] for result in results) for flaw in FLAWS}
    found = [f"{count} {flaw}" for flaw, count in flaws.items() if count]
    return ", ".join(found) if found else "each once, right"


def _ratio(record, rows, first, second, goal):
    if not (rows[first]["throughput"] and rows[second]["throughput"]):
        return None
    value = rows[first]["throughput"]["rate"]["median"] / rows[second]["throughput"]["rate"]["median"]
    pairs = zip(record["contestants"][first]["throughput"], record["contestants"][second]["throughput"], strict=False)
    return {
        "of": first,
        "to": second,
        "ratio": round(value, 3),
        "by_round": [round(a["rate"] / b["rate"], 3) for a, b in pairs if a["rate"] and b["rate"]],
        "goal": goal,
        "met": None if goal is None else value >= goal,
    }


def _latency_goals(record, rows):
    """Return each latency goal: the value must stay below the bound."""
    medians = {
        name: {mark: _endless(row["latency"][mark]["median"]) for mark in PERCENTILES}
        for name, row in rows.items()
        if row["latency"]
    }
    alo, eo, learning = map(medians.get, ("headrace-alo", "headrace-eo", "headrace-learning-eo"))
    goals = []
    if alo:
        goals += [
            ("headrace-alo p99", alo["p99"], f"p99 of {name}", other["p99"])
            for name, other in medians.items()
            if not name.startswith("headrace") and record["contestants"][name]["job"] == jobs.STATELESS.name
        ]
    if eo:
        goals.append(("headrace-eo p50", eo["p50"], "the goal", EO_P50_MS_MAX))
        bound = max(EO_P99_MS_MAX, 3 * alo["p99"]) if alo else EO_P99_MS_MAX
        goals.append(("headrace-eo p99", eo["p99"], "the goal", bound))
    if eo and learning:
        bound = LEARNING_P99_RATIO_MAX * eo["p99"]
        goals.append(("headrace-learning-eo p99", learning["p99"], "three times headrace-eo", bound))
    return [
        {"what": what, "ms": _finite(ms), "below": below, "bound_ms": _finite(bound), "met": ms < bound}
        for what, ms, below, bound in goals
    ]


def _goal_lines(summary_, titles):
    lines = []
    if summary_["throughput_ratios"]:
        lines += ["", "Throughput, ratio of the medians"]
        for ratio in summary_["throughput_ratios"]:
            goal = "" if ratio["goal"] is None else f"  goal {ratio['goal']:g}: {'met' if ratio['met'] else 'MISSED'}"
            pair = f"{titles[ratio['of']]} / {titles[ratio['to']]}"
            rounds = ", ".join(f"{value:.2f}" for value in ratio["by_round"])
            lines.append(f"  {pair:58}{ratio['ratio']:>7.2f}{goal:20}  by round: {rounds}")
    if summary_["latency_goals"]:
        lines += ["", "Latency goals"]
        for goal in summary_["latency_goals"]:
            text = f"{goal['what']} {_ms(goal['ms'])} ms, below {goal['below']} {_ms(goal['bound_ms'])} ms"
            lines.append(f"  {text:70} {'met' if goal['met'] else 'MISSED'}")
    return lines


def _busy_rounds(record):
    return sum(
        (result.get("neighbours_percent") or 0) > NEIGHBOURS_PERCENT_MAX
        for row in record["contestants"].values()
        for result in (*row["throughput"], *row["latency"])
    )


def _ms(value):
    return "endless" if value is None else f"{value:.1f}"


def _endless(value):
    return float("inf") if value is None else value


def _finite(value):
    return None if value == float("inf") else value

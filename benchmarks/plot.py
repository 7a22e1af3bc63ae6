"""The record as one picture: bars for throughput, marks on a logarithmic scale for latency."""

from math import log10

import jobs
from report import PERCENTILES
from shapes import line, text

WIDTH, LEFT, RIGHT, ROW, TOP = 900, 230, 110, 30, 60
COLOURS = {"headrace": "#1f6f8b", "peer": "#b8b8b8"}
MARKS = {"p50": "#1b9e77", "p99": "#d95f02", "p99.9": "#7570b3"}


def svg(record):
    """Return the picture; contestants without a measurement are left out."""
    rows = record["summary"]["contestants"]
    titles = {name: record["contestants"][name]["title"] for name in rows}
    parts, top = [], 0
    for job in jobs.BY_NAME.values():
        here = {name: row for name, row in rows.items() if record["contestants"][name]["job"] == job.name}
        for draw, kind in ((_throughput, "throughput"), (_latency, "latency")):
            shown = {name: row[kind] for name, row in here.items() if row[kind]}
            if shown:
                parts += draw(shown, titles, top, job)
                top += TOP + ROW * len(shown) + 40
    machine = f"{record['machine']['cpu']}, {record['machine']['cores']} cores"
    foot = f"{record['started_at']} · {machine} · {record['broker']}"
    parts.append(text(10, top + 20, foot, size=11, colour="#666"))
    height = top + 36
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" font-family="sans-serif">\n'
        f'<rect width="{WIDTH}" height="{height}" fill="#fff"/>\n' + "\n".join(parts) + "\n</svg>\n"
    )


def _throughput(shown, titles, top, job):
    title = f"Events per second at saturation, median, least to greatest; {job.title}"
    parts = [text(10, top + 30, title, size=15)]
    most = max(row["rate"]["max"] for row in shown.values())
    scale = (WIDTH - LEFT - RIGHT) / most
    for number, (name, row) in enumerate(shown.items()):
        y = top + TOP + ROW * number
        rate = row["rate"]
        colour = COLOURS["headrace" if name.startswith("headrace") else "peer"]
        middle = y + ROW / 2 - 4
        parts += [
            text(LEFT - 8, y + 15, titles[name], anchor="end"),
            _bar(LEFT, y, rate["median"] * scale, colour),
            line(LEFT + rate["min"] * scale, middle, LEFT + rate["max"] * scale, middle),
            text(LEFT + rate["max"] * scale + 6, y + 15, f"{rate['median']:,.0f}"),
        ]
    return parts


def _latency(shown, titles, top, job):
    values = [row[mark]["median"] for row in shown.values() for mark in PERCENTILES if row[mark]["median"]]
    title = f"Milliseconds from intended send to readable, logarithmic; {job.title}"
    parts = [text(10, top + 30, title, size=15)]
    if not values:
        return parts
    low, high = log10(min(values)) - 0.1, log10(max(values)) + 0.1

    def x(value):
        return LEFT + (log10(value) - low) / (high - low) * (WIDTH - LEFT - RIGHT)

    bottom = top + TOP + ROW * len(shown)
    for power in range(int(low) - 1, int(high) + 2):
        if low <= power <= high:
            parts.append(line(x(10**power), top + TOP - 6, x(10**power), bottom, colour="#ddd"))
            parts.append(text(x(10**power), bottom + 14, f"{10**power:g}", anchor="middle", colour="#666"))
    for number, mark in enumerate(PERCENTILES):
        parts.append(_dot(LEFT + 90 * number, top + 45, MARKS[mark]))
        parts.append(text(LEFT + 90 * number + 10, top + 49, mark))
    for number, (name, row) in enumerate(shown.items()):
        y = top + TOP + ROW * number + ROW / 2 - 4
        parts.append(text(LEFT - 8, y + 4, titles[name], anchor="end"))
        values = {mark: row[mark]["median"] for mark in PERCENTILES}
        parts += [_dot(x(value), y, MARKS[mark]) for mark, value in values.items() if value]
    return parts


def _bar(x, y, width, colour):
    return f'<rect x="{x}" y="{y}" width="{width:.1f}" height="{ROW - 8}" fill="{colour}"/>'


def _dot(x, y, colour):
    return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="5" fill="{colour}"/>'

"""The contest as one picture: who saw which change how often and when, and what the rate of false alarms was."""

from math import log10

from drift import contestants, intervals, tables, worlds
from shapes import line, text

WIDTH, LEFT, RIGHT, ROW, TOP = 1180, 230, 20, 26, 96
RATES = 210  # the width of the part with the rates
HEADRACE, PEER = "#1f6f8b", "#555"


def svg(lines):
    """Return the picture; whoever got nowhere is left out."""
    run = next(one for one in lines if one["what"] == "run")
    parts, top = [], 0
    for world in worlds.WORLDS:
        rows = {entry: tables.judged(lines, world.name, entry.name) for entry in contestants.ENTRIES}
        rows = {entry: row for entry, row in rows.items() if row}
        if rows:
            parts += _world(world, rows, run["form"], top)
            top += TOP + ROW * len(rows) + 40
    foot = f"{run['started_at']} · {run['machine']['cpu']}, {run['machine']['cores']} cores"
    parts.append(text(10, top + 14, foot, size=11, colour="#666"))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {top + 30}" font-family="sans-serif">\n'
        f'<rect width="{WIDTH}" height="{top + 30}" fill="#fff"/>\n' + "\n".join(parts) + "\n</svg>\n"
    )


def _world(world, rows, form, top):
    names = form["changes"]
    wide = (WIDTH - LEFT - RIGHT - RATES) / len(names)
    title = f"Detected within {form['horizon']:,} events, and the median delay; {world.title}"
    parts = [text(10, top + 26, title, size=15)]
    for number, name in enumerate(names):
        # Two heights, so that long names do not run into each other.
        parts.append(text(LEFT + wide * (number + 0.5), top + 58 + 18 * (number % 2), name, size=11, anchor="middle"))
    for number, (entry, row) in enumerate(rows.items()):
        y = top + TOP + ROW * number
        colour = HEADRACE if entry.name.startswith("headrace") else PEER
        parts.append(text(LEFT - 8, y + 16, entry.title, anchor="end", colour=colour))
        for place, name in enumerate(names):
            if one := row["by_change"].get(name):
                parts += _cell(LEFT + wide * place, y, wide, one)
    return parts + _rates(rows, form, top)


def _cell(x, y, wide, one):
    # From white to the colour of Headrace: the share that was detected.
    red, green, blue = (round(255 - (255 - full) * one["share"]) for full in (0x1F, 0x8B, 0x6F))
    said = f"{one['share']:.0%}" if one["delay"] == tables.ENDLESS else f"{one['delay']:,.0f}"
    return [
        f'<rect x="{x + 1:.1f}" y="{y + 1}" width="{wide - 2:.1f}" height="{ROW - 2}" '
        f'fill="#{red:02x}{green:02x}{blue:02x}"><title>{_pointed(one)}</title></rect>',
        text(x + wide / 2, y + 17, said, size=11, anchor="middle", colour="#fff" if one["share"] > 0.6 else "#222"),
    ]


def _pointed(one):
    """Return what a cell says to who points at it."""
    return f"{one['found']} of {one['runs']} runs, {one['false']} false alarms before the change"


def _rates(rows, form, top):
    left, wide = WIDTH - RIGHT - RATES + 30, RATES - 40
    asked = log10(form["rate"])
    low, high = asked - 1.5, asked + 1.5

    def x(rate):
        return left + (min(max(log10(rate), low), high) - low) / (high - low) * wide if rate else left

    bottom = top + TOP + ROW * len(rows)
    parts = [
        text(left + wide / 2, top + 58, "false alarms per event", size=11, anchor="middle"),
        line(x(form["rate"]), top + TOP - 8, x(form["rate"]), bottom, colour="#d95f02"),
        text(x(form["rate"]), bottom + 14, f"{form['rate']:g}, asked for", size=11, anchor="middle", colour="#d95f02"),
    ]
    for number, row in enumerate(rows.values()):
        y, quiet = top + TOP + ROW * number + ROW / 2, row["quiet"]
        least, most = intervals.rate(quiet["alarms"], quiet["events"])
        parts.append(line(x(least), y, x(most), y))
        if quiet["alarms"]:
            parts.append(f'<circle cx="{x(quiet["alarms"] / quiet["events"]):.1f}" cy="{y}" r="4" fill="#222"/>')
    return parts

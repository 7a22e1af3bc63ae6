"""What a terminal shows of a group that runs: from the snapshots of its workers' pages to lines that fit."""

import time
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from headrace.stream.follower import Sighting
from headrace.stream.terminal import painted

UNASKED = "nobody has asked the broker yet"  # as the board says it of a group
BARS = "▁▂▃▄▅▆▇█"
CURVE_COUNT = 60  # points of the curve: two minutes
MEASURES = ("log_loss", "roc_auc", "pr_auc", "accuracy", "rmse", "mae", "r2")
MODELS = ("static", "online", "combined")
SEVERE = {"critical": "fail", "high": "fail", "medium": "warn"}
WIDTH_MIN = 40
BEHIND_SECONDS = 5.0  # from which on a lag is worth a colour

Line = list[tuple[str, str]]  # texts, each with its paint, or "" for none


class Section(NamedTuple):
    """A part of the frame: its name and what else its first line says, its rows, and how many have to be shown."""

    name: str
    width: int  # of the name
    title: Line
    rows: list[Line]
    least: int

    def heading(self, shown: int) -> Line:
        """Return the first line, which says how many rows there are where some are not shown."""
        every = len(self.rows)
        name = f"{self.name} {shown}/{every}" if shown < every else self.name
        return [(f"{name:{self.width}}", "bold"), *self.title]


def clean(text: object) -> str:
    r"""Return a text that moves no cursor: whatever is in an event may be in what is shown of it.

    >>> clean("c-7\x1b[2Jx\n")
    'c-7·[2Jx·'
    """
    return "".join(one if one.isprintable() else "·" for one in str(text))


def wide(text: str) -> int:
    """Return how many columns a text takes.

    >>> wide("card"), wide("カード"), wide("e\u0301")
    (4, 6, 1)
    """
    if text.isascii():
        return len(text)
    return sum(
        0 if unicodedata.category(one) in {"Mn", "Me"} else 2 if unicodedata.east_asian_width(one) in "WF" else 1
        for one in text
    )


def clipped(text: str, width: int) -> str:
    """Return as much of a text as fits, and say so where something is left out.

    >>> clipped("transactions", 12), clipped("transactions", 6), clipped("カード", 4)
    ('transactions', 'trans…', 'カ…')
    """
    if wide(text) <= width:
        return text
    kept, taken = "", 0
    for one in text:
        taken += wide(one)
        if taken > width - 1:
            break
        kept += one
    return f"{kept}…" if width > 0 else ""


def cell(text: object, width: int, *, right: bool = False) -> str:
    """Return a text as wide as a column."""
    said = clipped(clean(text), width)
    room = " " * (width - wide(said))
    return room + said if right else said + room


def drawn(line: Line, width: int, *, colour: bool) -> str:
    """Return a line as the terminal gets it, no wider than it is."""
    made, left = "", width
    for text, paint in line:
        some = clipped(text, left)
        left -= wide(some)
        made += painted(some, paint, colour=colour) if paint and some else some
    return made if colour else made.rstrip()


def summary(sightings: Sequence[Sighting], now: float) -> dict[str, Any]:
    """Return what the pages of some workers say of their group, as plain data.

    What a worker counts is added up, or of latencies the slowest is told; what the broker or a topic says of the whole
    group is taken from the page that said it last. Workers whose page nobody named are known from the broker alone.
    """
    seen = [one for one in sightings if one.snapshot is not None]
    told = [one.snapshot for one in seen if one.snapshot is not None]
    silent = [{"url": one.url, "seconds": round(one.heard, 1), "why": one.trouble} for one in sightings if one.trouble]
    if not told:
        return {"at": now, "workers": [], "silent": silent}
    newest = max(told, key=lambda one: one["at"])
    # Alerts are of the events' time, which need not be ours: of a past that is scored again, or of made-up events.
    moment = max((each["at"] for one in told for each in one["predictions"]), default=now)
    group = max((one["group"] for one in told), key=lambda one: (one["known"], one["at"] or 0.0))
    who = newest["worker"]
    inputs = [name for name in (who["topics"]["events"], who["topics"]["labels"]) if name]
    partitions = _partitions(told, group, inputs)
    judged = next((one for one in told if one["quality"]), None)
    return {
        "at": now,
        "pipeline": who["pipeline"],
        "version": who["version"],
        "kind": who["kind"],
        "group": who["group"],
        "guarantee": who["guarantee"],
        "inputs": inputs,
        "per_second": {name: round(_total(told, "rates", *where), 1) for name, where in _counters(inputs).items()},
        "total": {name: round(_total(told, "totals", *where)) for name, where in _counters(inputs).items()},
        "latency_ms": {
            name: _milliseconds(max((one["latency"][name] or 0.0 for one in told), default=0.0), told)
            for name in ("p50", "p99")
        },
        "lag": {
            "records": round(sum(one["lag"] or 0 for one in partitions)),
            "seconds": round(max((one["lag"]["seconds"] for one in told), default=0.0), 2),
        },
        "awaiting_labels": round(sum(one["waiting"]["events"] for one in told)),
        "busy": {stage: round(max(one["busy"][stage] for one in told), 3) for stage in newest["busy"]},
        "workers": _workers(seen, group, partitions, inputs[0]),
        "partitions": partitions,
        "group_trouble": "" if group["known"] else group["trouble"],
        "quality_of": judged["worker"]["instance"] if judged else "",
        "quality": _quality(judged["quality"]) if judged else {},
        "alerts": [{**one, "age_seconds": round(max(0.0, moment - one["since"]), 1)} for one in newest["alerts"]],
        "drift": [
            {name: one[name] for name in ("series", "slice", "state", "severity", "distances")}
            | {"age_seconds": round(max(0.0, moment - one["at"]), 1)}
            for one in newest["drift"]
        ],
        "dead_letters": {
            "reasons": _reasons(told),
            "newest": sorted((one for each in told for one in each["dead_letters"]), key=lambda one: -one["at"]),
        },
        "predictions": sorted((one for each in told for one in each["predictions"]), key=lambda one: -one["published"]),
        "silent": silent,
    }


def _counters(inputs: Sequence[str]) -> dict[str, tuple[str, str | None]]:
    return {
        "events": ("headrace_events_consumed_total", inputs[0]),
        "predictions": ("headrace_predictions_total", None),
        "labels": ("headrace_labels_total", "label"),
        "dead_letters": ("headrace_dead_letters_total", None),
    }


def _total(told: Iterable[Mapping[str, Any]], what: str, name: str, label: str | None) -> float:
    every = [one[what].get(name, {}) for one in told]
    return float(sum(sum(one.values()) if label is None else one.get(label, 0) for one in every))


def _milliseconds(seconds: float, told: Iterable[Mapping[str, Any]]) -> float | None:
    return round(seconds * 1_000, 2) if any(one["latency"]["count"] for one in told) else None


def _quality(told: Mapping[str, Mapping[str, Mapping[str, float]]]) -> dict[str, dict[str, float]]:
    return {
        model: {
            name: windows.get("recent", windows.get("overall", 0.0))
            for name in MEASURES
            if (windows := told[model].get(name))
        }
        for model in MODELS
        if model in told
    }


def _reasons(told: Iterable[Mapping[str, Any]]) -> dict[str, int]:
    many: dict[str, int] = {}
    for one in told:
        for reason, count in one["totals"].get("headrace_dead_letters_total", {}).items():
            if count:
                many[reason] = many.get(reason, 0) + round(count)
    return dict(sorted(many.items(), key=lambda one: -one[1]))


def _partitions(
    told: Sequence[Mapping[str, Any]], group: Mapping[str, Any], inputs: Sequence[str]
) -> list[dict[str, Any]]:
    """Return how every input partition stands: as the broker says, or where it does not, as its worker does."""
    own = {
        (one["topic"], one["partition"]): {**one, "worker": each["worker"]["instance"]}
        for each in told
        for one in each["partitions"]
        if one["topic"] in inputs
    }
    known = {(one["topic"], one["partition"]): one for one in group["partitions"]}
    return [
        {
            "topic": place[0],
            "partition": place[1],
            "worker": (known.get(place) or own[place])["worker"],
            "lag": (known.get(place) or own[place])["lag"],
            "lag_seconds": own[place]["lag_seconds"] if place in own else None,
            "per_second": known[place]["rate"] if place in known else None,
            "recovering": (own if place in own else known)[place].get("recovering"),
        }
        for place in sorted(known or own, key=lambda one: (inputs.index(one[0]) if one[0] in inputs else 9, one))
    ]


def _workers(
    seen: Sequence[Sighting], group: Mapping[str, Any], partitions: Sequence[Mapping[str, Any]], events: str
) -> list[dict[str, Any]]:
    pages = {one.snapshot["worker"]["instance"]: one for one in seen if one.snapshot is not None}
    hosts = {one["name"]: one["host"] for one in group["members"]}
    made: list[dict[str, Any]] = []
    for name in dict.fromkeys([*hosts, *pages]):
        page = pages.get(name)
        told = page.snapshot if page is not None else None
        own = [one for one in partitions if one["worker"] == name]
        rates = [one["per_second"] for one in own if one["topic"] == events and one["per_second"] is not None]
        made.append(
            {
                "name": name,
                "host": told["worker"]["host"] if told else hosts[name],
                "url": page.url if page is not None else None,
                "state": _state(page),
                "per_second": _total([told], "rates", "headrace_predictions_total", None) if told else sum(rates),
                "latency_ms": {one: _milliseconds(told["latency"][one] or 0.0, [told]) for one in ("p50", "p99")}
                if told
                else None,
                "partitions": [f"{one['topic']}:{one['partition']}" for one in own],
                "lag": sum(one["lag"] or 0 for one in own),
                "up_seconds": round(told["at"] - told["worker"]["since"]) if told else None,
            }
        )
    return made


def _state(page: Sighting | None) -> str:
    """Return how a worker is: what its page says, or that it says nothing, or that nobody asked it."""
    if page is None or page.snapshot is None:
        return "in the group"
    if page.trouble:
        return "silent"
    health = page.snapshot["health"]
    return str(health["live"] if health["live"] != "live" else health["ready"])


# From plain data to lines.


def frame(
    told: Mapping[str, Any], history: Sequence[Mapping[str, Any]], width: int, height: int | None, *, colour: bool
) -> list[str]:
    """Return the lines that show this, none wider than ``width`` and no more than ``height``; None shows all."""
    width = max(width, WIDTH_MIN)
    head = _head(told, width)
    if not told["workers"]:
        return [drawn(line, width, colour=colour) for line in head][:height]
    head += _tiles(told, history, width)
    sections = [_qualities(told), _who(told, width), _where(told, width), _alarms(told), _letters(told), _last(told)]
    left = None if height is None else height - len(head) - sum(1 + one.least for one in sections)
    shown = _shared_out(sections, left)
    spare = None if left is None else left - sum(shown) + sum(one.least for one in sections)
    gaps = spare is None or spare >= len(sections)
    lines = list(head)
    for section, many in zip(sections, shown, strict=True):
        lines += [[("", "")]] * gaps + [section.heading(many), *section.rows[:many]]
    return [drawn(line, width, colour=colour) for line in lines][:height]


def _shared_out(sections: Sequence[Section], left: int | None) -> list[int]:
    """Return how many rows each section shows: what it has to, and then one after the other as far as there is room.

    >>> rows = [[("", "")]] * 5
    >>> five, two = Section("", 0, [], rows, 1), Section("", 0, [], rows[:2], 1)
    >>> _shared_out([five, two], 3), _shared_out([five], None)
    ([3, 2], [5])
    """
    if left is None:
        return [len(one.rows) for one in sections]
    shown = [min(one.least, len(one.rows)) for one in sections]
    left += sum(one.least for one in sections) - sum(shown)
    while left > 0 and any(many < len(one.rows) for many, one in zip(shown, sections, strict=True)):
        for place, one in enumerate(sections):
            if left > 0 and shown[place] < len(one.rows):
                shown[place] += 1
                left -= 1
    return shown


def _head(told: Mapping[str, Any], width: int) -> list[Line]:
    clock = time.strftime("%H:%M:%S", time.localtime(told["at"]))
    if told["workers"]:
        up = max((one["up_seconds"] or 0 for one in told["workers"]), default=0)
        what = f"{told['pipeline']} {told['version']}, group {told['group']}, {told['guarantee']}, up {span(up)}"
    else:
        what = "no worker answers yet"
    room = width - len("headrace top  ") - len(clock) - 2
    head: list[Line] = [[("headrace top", "bold"), (f"  {cell(what, room)}  {clock}", "")]]
    for one in told["silent"]:
        text = f"  silent for {span(one['seconds'])}, looking again every second: {one['url']} ({one['why']})"
        head.append([(clean(text), "warn")])
    return head


def _tiles(told: Mapping[str, Any], history: Sequence[Mapping[str, Any]], width: int) -> list[Line]:
    rate, total, latency, lag = told["per_second"], told["total"], told["latency_ms"], told["lag"]
    busy = told["busy"]
    most = sorted(busy.items(), key=lambda one: -one[1])[:2]
    stages = ", ".join(f"{name} {share:.0%}" for name, share in most if share >= 0.005)
    right = [
        ("latency", f"p50 {_ms(latency['p50'])}  p99 {_ms(latency['p99'])}", ""),
        (
            "lag",
            f"{number(lag['records'])} records, {lag['seconds']:.1f} s",
            "warn" if lag["seconds"] >= BEHIND_SECONDS else "",
        ),
        ("busy", stages or "idle", ""),
        ("waiting", f"{number(told['awaiting_labels'])} for labels", ""),
    ]
    lines: list[Line] = []
    for name, (title, text, paint) in zip(("predictions", "events", "labels", "dead_letters"), right, strict=True):
        bad = "fail" if name == "dead_letters" and rate[name] else ""
        lines.append(
            [
                (f"{name.replace('_', ' '):13}", "faint"),
                (f"{number(rate[name]):>8} /s {number(total[name]):>13}", bad),
                (f"   {title:8} ", "faint"),
                (text, paint),
            ]
        )
    points = [one["rate"] for one in history][-min(CURVE_COUNT, width - 20) :]
    if len(points) > 1:
        lines.append([(f"{'rate':13}", "faint"), (curve(points), "ok")])
    return lines


def _qualities(told: Mapping[str, Any]) -> Section:
    quality = told["quality"]
    names = [name for name in MEASURES if any(name in one for one in quality.values())][:5]
    columns = "".join(cell(name.replace("_", " "), 11, right=True) for name in names)
    title: Line = [(columns or "no labels yet", "faint")]
    if names and sum(1 for one in told["workers"] if one["url"]) > 1:  # it is told of a worker, and not of the group
        title.append((f"   of {clean(told['quality_of'])}", "faint"))
    rows: list[Line] = [
        [(f"  {model:11}", ""), ("".join(f"{one[name]:11.4f}" if name in one else " " * 11 for name in names), "")]
        for model, one in quality.items()
    ]
    return Section("QUALITY", 13, title, rows if names else [], len(MODELS))


def _who(told: Mapping[str, Any], width: int) -> Section:
    room = 13 + max(0, width - 80)
    title: Line = [(f"{'state':12} {'partitions':{room}} {'rate':>10} {'lag':>8} {'p99':>9}", "faint")]
    rows: list[Line] = []
    for one in told["workers"]:
        paint = {"ready": "ok", "in the group": "faint"}.get(one["state"], "warn")
        p99 = _ms(one["latency_ms"]["p99"]) if one["latency_ms"] else ""
        numbers = f"{number(one['per_second']) + ' /s':>10} {number(one['lag']):>8} {p99:>9}"
        rows.append(
            [
                (f"  {cell(one['name'], 19)} ", ""),
                (cell(one["state"], 12), paint),
                (f" {cell(places(one['partitions'], told['inputs']), room)} {numbers}", ""),
            ]
        )
    return Section("WORKERS", 22, title, rows, 1)


def _where(told: Mapping[str, Any], width: int) -> Section:
    by_number: dict[int, dict[str, Mapping[str, Any]]] = {}
    for one in told["partitions"]:
        by_number.setdefault(one["partition"], {})[one["topic"]] = one
    room = 16 + max(0, (width - 80) // 3)
    topics = "".join(cell(topic, room, right=True) for topic in told["inputs"])
    rows: list[Line] = []
    for place, some in sorted(by_number.items()):
        workers = ", ".join(dict.fromkeys(one["worker"] or "nobody" for one in some.values()))
        lags = "".join(
            cell(number(some[topic]["lag"]) if topic in some else "", room, right=True) for topic in told["inputs"]
        )
        behind = max((one["lag_seconds"] or 0.0 for one in some.values()), default=0.0)
        left = max((one["recovering"] or 0 for one in some.values()), default=0)
        tail = f"   {left:,.0f} to recover" if left else f"   {behind:.1f} s" if behind >= 0.05 else ""
        slow = "warn" if left or behind >= BEHIND_SECONDS or "nobody" in workers else ""
        rows.append([(f"  {place:<6}{cell(workers, 18)} ", ""), (lags + tail, slow)])
    return Section("PARTITIONS", 27, [(f"{topics}   behind", "faint")], rows, 2)


def _alarms(told: Mapping[str, Any]) -> Section:
    rows: list[Line] = []
    opened = {(one["series"], one["slice"]) for one in told["alerts"]}
    for one in told["alerts"]:
        seen = one["acknowledged"]
        where = f", {one['slice']}" if one["slice"] else ""
        rows.append(
            [
                (f"  {cell(one['severity'], 11)}", SEVERE.get(one["severity"], "")),
                (f"{span(one['age_seconds']):>7}  ", "faint"),
                (f"seen by {clean(seen['by'] or 'somebody')}: " if seen else "", "faint"),
                (clean(f"{one['text']}{where}"), ""),
            ]
        )
    for one in told["drift"]:
        if (one["series"], one["slice"]) not in opened:
            far = ", ".join(f"{name} {value:.3f}" for name, value in one["distances"].items())
            where = f", {one['slice']}" if one["slice"] else ""
            text = clean(f"{one['series']}{where}: {far}")
            rows.append([(f"  {cell(one['state'], 11)}{span(one['age_seconds']):>7}  {text}", "faint")])
    many = len(told["alerts"])
    return Section("ALERTS", 13, [(f"{many} open" if many else "none is open", "fail" if many else "faint")], rows, 1)


def _letters(told: Mapping[str, Any]) -> Section:
    letters = told["dead_letters"]
    said = ", ".join(f"{clean(reason)} {many:,}" for reason, many in letters["reasons"].items())
    rows: list[Line] = [
        [
            (f"  {span(told['at'] - one['at']):>7} ago  ", "faint"),
            (clean(f"{one['topic']}[{one['partition']}] offset {one['offset']}: {one['message']}"), ""),
        ]
        for one in letters["newest"]
    ]
    return Section("DEAD LETTERS", 17, [(said or "none", "" if said else "faint")], rows, 1)


def _last(told: Mapping[str, Any]) -> Section:
    title: Line = [(f"{'key':16}{'score':>9}{'static':>9}{'online':>9}", "faint")]
    rows: list[Line] = []
    for one in told["predictions"]:
        scores = "".join(cell(_score(one[name]), 9, right=True) for name in ("score", "static", "online"))
        flags = f"  {clean(' '.join(one['flags']))}" if one["flags"] else ""
        rows.append([(f"  {cell(one['id'], 24)} {cell(one['key'], 16)}", ""), (scores, ""), (flags, "warn")])
    return Section("PREDICTIONS", 27, title, rows, 1)


def places(partitions: Sequence[str], inputs: Sequence[str]) -> str:
    """Return partitions as a person writes them; those of the labels go along with those of the events.

    >>> places(["cards:0", "cards:1", "cards:2", "cards:5", "labels:0"], ["cards", "labels"]), places([], ["cards"])
    ('0-2, 5', 'none')
    """
    numbers = sorted(
        {int(number) for topic, _, number in (one.rpartition(":") for one in partitions) if topic in inputs}
    )
    runs: list[list[int]] = []
    for one in numbers:
        if runs and one == runs[-1][-1] + 1:
            runs[-1].append(one)
        else:
            runs.append([one])
    return ", ".join(f"{one[0]}-{one[-1]}" if len(one) > 1 else str(one[0]) for one in runs) or "none"


def curve(values: Sequence[float]) -> str:
    """Return values as a line of bars, from none at all to the greatest of them.

    >>> curve([0, 1, 2, 4, 8]), curve([0, 0])
    ('▁▁▂▄█', '▁▁')
    """
    top = max(values) or 1.0
    return "".join(BARS[min(len(BARS) - 1, int(value / top * (len(BARS) - 1)))] for value in values)


def number(value: float | None) -> str:
    """Return a number with as many digits as say something.

    >>> number(2001.4), number(0.25), number(0), number(None)
    ('2,001', '0.2', '0', '')
    """
    if value is None:
        return ""
    return f"{value:.1f}" if 0 < value < 10 and value != int(value) else f"{value:,.0f}"


def span(seconds: float) -> str:
    """Return how long that is, in one unit.

    >>> [span(one) for one in (0.4, 59, 61, 7_300, 200_000)]
    ['0 s', '59 s', '1 min', '2 h', '2 d']
    """
    seconds = max(0.0, seconds)
    for unit, size in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= size:
            return f"{seconds // size:.0f} {unit}"
    return f"{seconds:.0f} s"


def _ms(value: float | None) -> str:
    if value is None:
        return "none"
    return f"{value:.1f} ms" if value < 100 else f"{value:,.0f} ms" if value < 10_000 else f"{value / 1_000:,.1f} s"


def _score(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"

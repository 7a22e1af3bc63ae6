"""A report as one page of HTML that needs nothing else: no script, no font, no picture, and no request leaves it."""

import html
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from headrace.models.monitor import BAD_PSI, WORSE_PSI
from headrace.schemas.alert import AlertState, Evidence
from headrace.stream.forwarding import printable
from headrace.stream.report import Group, Judged, Line, Relation, Report, Series, Told, severest, when

EVIDENCE_MAX = 30  # alerts of which both histograms are shown, the most severe: of hundreds nobody looks at them
NUMBERS_MAX = 4  # of alerts beside a series
OPEN_MAX = 12  # series that are unfolded
SPARK_HEIGHT = 40
BAR_HEIGHT = 99
LANES = 5  # of the numbers of alerts above the timeline
LANE_SHARE = 0.06  # of the width that a number takes, on a telephone too
BARS = 12  # below it, one for each alert that is open
DISTANCES = {
    "psi": "PSI",
    "jensen_shannon": "Jensen-Shannon",
    "ks": "Kolmogorov-Smirnov",
    "wasserstein": "Wasserstein",
    "chi_square": "chi-square",
}
# Nothing may be fetched, whatever an alert says.
POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"


def page(report: Report) -> str:
    """Return the page."""
    title = f"Drift of {report.pipeline}"
    parts = [
        "<!doctype html>",
        '<html lang="en"><head><meta charset="utf-8">',
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        '<meta name="color-scheme" content="light dark"><link rel="icon" href="data:,">',
        f"<title>{_text(title)}, {_span(report.begin, report.end)}</title>",
        f"<style>{_STYLE}</style></head><body>",
        *_head(report, title),
        "<main>",
        *_timeline(report),
        *_alerts(report),
        *_overview(report),
        *_groups(report.groups, report),
        *_relations(report.relations),
        *_qualities(report.quality, report),
        *_details(report),
        "</main>",
        f"<footer>All times are those of the events, in UTC. A point in time is {_duration(report.step)}; slices of "
        f"{_duration(report.every)} were put together for it. A distance is of what was counted in it, and of fewer "
        "than 50 values there is none.</footer></body></html>",
    ]
    return "\n".join(parts) + "\n"


# Words and numbers.


def _text(value: object) -> str:
    return html.escape(printable(str(value)))


def _number(value: float | None, *, sign: bool = False) -> str:
    """Return a number as people read it.

    >>> [_number(one) for one in (1234567.0, 0.12345, 0.0, 1e-9, None)]
    ['1,234,567', '0.123', '0', '1e-09', '-']
    """
    if value is None:
        return "-"
    plus = "+" if sign else ""
    if abs(value) >= 1_000:
        return f"{value:{plus},.0f}"
    return f"{value:{plus}.3g}"


def _percent(share: float | None) -> str:
    """Return a share as people read it; one that is small is not nothing.

    >>> [_percent(one) for one in (0.0, 0.0001, 0.1234, 1.0, None)]
    ['0%', '<0.1%', '12.3%', '100%', '-']
    """
    if share is None:
        return "-"
    if 0 < share < 0.0005:
        return "<0.1%"
    return f"{100 * share:.1f}".removesuffix(".0") + "%"


def _share(share: float | None) -> str:
    return html.escape(_percent(share))


def _duration(seconds: float) -> str:
    """Return how long it was.

    >>> [_duration(one) for one in (10.0, 90.0, 5_400.0, 3 * 86_400.0)]
    ['10 s', '1.5 min', '1.5 h', '3 d']
    """
    for length, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= length:
            return f"{round(seconds / length, 1):g} {unit}"
    return f"{seconds:g} s"


def _time(at: float, *, short: bool = False) -> str:
    told = when(at)
    return f"<time>{_text(told[5:16] if short and len(told) == 19 else told)}</time>"


def _span(begin: float, end: float) -> str:
    return f"{_text(when(begin))} to {_text(when(end))}"


def _slug(place: int) -> str:
    return f"series-{place}"


def _verdict(one: Series) -> tuple[str, str]:
    """Return how far a series moved, as a class and in a word."""
    if not one.distances or one.furthest_at is None:
        return "none", "not compared"
    if not one.moved:
        return "calm", "as usual"
    psi = one.furthest_distances["psi"]
    return ("much", "much") if psi >= WORSE_PSI else ("some", "some") if psi >= BAD_PSI else ("little", "little")


def _chip(kind: str, text: str) -> str:
    return f'<span class="chip {kind}">{_text(text)}</span>'


# The parts of the page.


def _head(report: Report, title: str) -> Iterator[str]:
    moved = sum(one.moved > 0 for one in report.series)
    compared = sum(bool(one.distances) for one in report.series)
    alerts = " ".join(_chip(f"sev-{name}", f"{count} {name}") for name, count in report.alerts.items() if count)
    tiles = [
        ("events", _number(report.events), f"in {report.slices:,} slices"),
        ("partitions", _number(len(report.partitions)), _ranges(report.partitions)),
        ("alerts", _number(sum(report.alerts.values())), alerts or "none was open"),
        ("series that moved", f"{moved} of {compared}", "further than chance would take them"),
    ]
    yield f"<header><h1>{_text(title)}</h1>"
    yield f"<p>version {_text(report.version) or 'unknown'} · {_time(report.begin)} to {_time(report.end)} UTC, "
    yield f"{_duration(report.end - report.begin)}</p>"
    yield '<dl class="tiles">'
    for name, value, more in tiles:
        yield f"<div><dt>{name}</dt><dd><b>{value}</b><span>{more}</span></dd></div>"
    yield "</dl>"
    if report.notes:
        yield '<ul class="notes">'
        yield from (f"<li>{_text(note)}</li>" for note in report.notes)
        yield "</ul>"
    places = [
        ("timeline", "Timeline", True),
        ("alerts", "Alerts", True),
        ("moved", "What moved", True),
        ("groups", "Parts of the stream", bool(report.groups)),
        ("relations", "Relations", bool(report.relations)),
        ("quality", "Quality", bool(report.quality)),
        ("details", "Every series", True),
    ]
    yield '<nav aria-label="Parts of this page">'
    yield from (f'<a href="#{place}">{name}</a>' for place, name, there in places if there)
    yield "</nav></header>"


def _ranges(numbers: Sequence[int]) -> str:
    """Return whole numbers in short.

    >>> _ranges([0, 1, 2, 5])
    '0 to 2, 5'
    """
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return ", ".join(f"{first}" if first == last else f"{first} to {last}" for first, last in runs)


class _Axis(NamedTuple):
    """Where a time is on the page, as a share of the width."""

    begin: float
    length: float

    def at(self, time: float) -> float:
        return min(1.0, max(0.0, (time - self.begin) / self.length))


def _axis(report: Report) -> _Axis:
    return _Axis(report.points[0], len(report.points) * report.step)


def _timeline(report: Report) -> Iterator[str]:
    axis, most, count = _axis(report), max(report.volume), len(report.points)
    yield '<section id="timeline"><h2>Timeline</h2><figure>'
    rows = [-1.0] * LANES  # of numbers: where the last one ends
    bars = [-1.0] * BARS
    marks, lines, spans = [], [], []
    shown = {one.id for one in severest(report.told, EVIDENCE_MAX)}
    for place, one in enumerate(report.told):
        begin = axis.at(one.life[0].at)
        end = 1.0 if one.cleared is None else axis.at(one.cleared)
        kind, told = f"sev-{one.severity.value}", f"<title>{place + 1}. {_text(one.text)}</title>"
        at = f"{begin * count:.1f}"
        lines.append(f'<path class="begin {kind}" d="M{at} 0V100">{told}</path>')
        bar = next((bar for bar, last in enumerate(bars) if begin >= last), None)
        if bar is not None:
            bars[bar] = max(end, begin + 0.005) + 0.002
            ends = f"{max(end, begin + 0.005) * count:.1f}"
            spans.append(f'<path class="bar {kind}" d="M{at} {8 * bar + 1}H{ends}v6H{at}z">{told}</path>')
        row = next((row for row, last in enumerate(rows) if begin >= last), None)
        if row is not None and one.id in shown:
            rows[row] = begin + LANE_SHARE
            side = "right:" + f"{100 * (1 - begin):.1f}%" if begin > 0.9 else "left:" + f"{100 * begin:.1f}%"
            marks.append(
                f'<a class="mark {kind}{" left" if begin > 0.9 else ""}" style="{side};top:{1.5 * row:.1f}em" '
                f'href="#alert-{place}" title="{_text(one.text)}">{place + 1}</a>'
            )
    if marks:
        yield f'<div class="marks" style="height:{1.5 * sum(last >= 0 for last in rows):.1f}em">{"".join(marks)}</div>'
    steps = "".join(f"V{round(100 - 96 * one / max(1, most), 1):g}h1" for one in report.volume)
    alerts = f"{len(report.told)} alerts are marked" if report.told else "no alert was open"
    yield (
        f'<svg class="timeline" viewBox="0 0 {count} 100" preserveAspectRatio="none" role="img">'
        f"<title>Events in every {_duration(report.step)}</title>"
        f"<desc>{_number(min(report.volume))} at the least and {_number(most)} at the most; {alerts}.</desc>"
        f'<path class="volume" d="M0 100{steps}V100z"/>{"".join(lines)}</svg>'
    )
    if spans:
        used = sum(last >= 0 for last in bars)
        yield (
            f'<svg class="bars-of" style="height:{8 * used}px" viewBox="0 0 {count} {8 * used}" '
            f'preserveAspectRatio="none" role="img"><title>When alerts were open</title>{"".join(spans)}</svg>'
        )
    yield _scale(report)
    yield (
        f"<figcaption>Events in every {_duration(report.step)}: {_number(min(report.volume))} at the least, "
        f"{_number(most)} at the most. The bars below say when alerts were open.</figcaption></figure></section>"
    )


def _scale(report: Report) -> str:
    axis = _axis(report)
    shares = (0.0, 0.25, 0.5, 0.75, 1.0)
    return (
        '<div class="scale">'
        + "".join(_time(axis.begin + share * axis.length, short=axis.length >= 1_200) for share in shares)
        + "</div>"
    )


def _alerts(report: Report) -> Iterator[str]:
    yield '<section id="alerts"><h2>Alerts</h2>'
    if not report.told:
        yield "<p>None was open in this period.</p>"
    shown = {one.id for one in severest(report.told, EVIDENCE_MAX)}
    for place, one in enumerate(report.told):
        yield from _alert(place, one, with_evidence=one.id in shown, report=report)
    yield "</section>"


def _alert(place: int, one: Told, *, with_evidence: bool, report: Report) -> Iterator[str]:
    where = " · ".join(_text(part) for part in (one.kind, one.series, one.slice) if part)
    yield f'<article class="card alert sev-{one.severity.value}" id="alert-{place}">'
    yield f"<h3>{_chip(f'sev-{one.severity.value}', one.severity.value)} {place + 1}. {_text(one.text)}</h3>"
    length = "" if one.cleared is None else f", over after {_duration(max(0.0, one.cleared - one.since))}"
    state = "open at the end of the period" if one.cleared is None or one.cleared > report.end else "over"
    yield f'<p class="muted">{where} · since {_time(one.since)}{length} · {state} · <code>{_text(one.id)}</code></p>'
    yield '<div class="two"><div>'
    yield '<ol class="life">'
    last = one.text
    for said in one.life:
        news = said.text.removeprefix(one.text).strip()
        if said.state == AlertState.ACKNOWLEDGED:
            news = news.removeprefix("(acknowledged ").removesuffix(")")
        more = f": {_text(news)}" if news and said.state != AlertState.RAISED and said.text != last else ""
        last = said.text
        yield f"<li>{_time(said.at)} <b>{said.state.value}</b> ({said.severity.value}){more}</li>"
    yield "</ol>"
    if one.explained_by:
        yield "<p>With it moved: " + ", ".join(f"<b>{_text(name)}</b>" for name in one.explained_by) + ".</p>"
    if one.effect:
        yield "<dl class='pairs'>"
        yield from (f"<div><dt>{name}</dt><dd>{value}</dd></div>" for name, value in _effects(one.effect))
        yield "</dl>"
    if one.action:
        yield f"<p>What could be done: {_text(one.action)}.</p>"
    yield "</div><div>"
    if with_evidence and one.evidence.bins:
        yield from _evidence(one.evidence, one.series)
    elif one.evidence.distances:
        yield _distances_line(one.evidence.distances)
    yield "</div></div></article>"


def _effects(effect: dict[str, float]) -> Iterator[tuple[str, str]]:
    for name, value in effect.items():
        if name.endswith("_before") and name.removesuffix("_before") in effect:
            continue
        before = effect.get(f"{name}_before")
        told = _number(value) if before is None else f"{_number(before)} → <b>{_number(value)}</b>"
        yield _text(name.replace("_", " ")), told


def _distances_line(measured: dict[str, float]) -> str:
    told = ", ".join(f"{_text(DISTANCES.get(name, name))} {_number(value)}" for name, value in measured.items())
    return f'<p class="muted">{told}</p>'


def _evidence(evidence: Evidence, series: str) -> Iterator[str]:
    before, now, names = evidence.reference, evidence.current, evidence.bins
    count = min(len(before), len(now), len(names))
    outside = _outside(names[:count])
    yield "<figure>"
    yield _bars(
        f"{series}: shares of the reference and of what came",
        before[:count],
        now[:count],
        outside,
        names=names[:count],
    )
    yield _ends(names[:count])
    yield (
        f"<figcaption>{_LEGEND} of {evidence.reference_count:,} and {evidence.current_count:,} values</figcaption>"
        "</figure>"
    )
    yield _distances_line(evidence.distances)


_LEGEND = (
    '<span class="key ref"></span>reference <span class="key cur"></span>what came '
    '<span class="key new"></span>new or missing,'
)
_BELOW = re.compile(r"below |above |other$|missing$")


def _outside(names: Sequence[str]) -> list[int]:
    """Return the places of what is new or missing, by their names."""
    return [place for place, name in enumerate(names) if _BELOW.match(name)]


def _bars(
    title: str, before: Sequence[float], now: Sequence[float], outside: Sequence[int], *, names: Sequence[str] = (),
    most: float = 0.0,
) -> str:  # fmt: skip
    """Return two histograms side by side, bin by bin, as a picture."""
    highest = most or max([*before, *now, 1e-9])
    tall, least = BAR_HEIGHT - 2, 0 if names else 1  # what is seldom is seen, where nothing was added to counts

    def path(shares: Sequence[float], shift: int, chosen: Iterable[int]) -> str:
        made = []
        for place in chosen:
            height = round(tall * min(1.0, shares[place] / highest))
            if shares[place] > 0:
                height = max(height, least)
                made.append(f"M{10 * place + shift} {BAR_HEIGHT}v-{height}h4V{BAR_HEIGHT}")
        return "".join(made)

    far = set(outside)
    inner = [place for place in range(len(now)) if place not in far]
    drawn = (
        f'<path class="ref" d="{path(before, 1, range(len(before)))}"/>'
        f'<path class="cur" d="{path(now, 5, inner)}"/><path class="new" d="{path(now, 5, sorted(far))}"/>'
    )
    told = "".join(
        f'<path class="hit" d="M{10 * place} 0h10v{BAR_HEIGHT}h-10"><title>{_text(name)}: '
        f"{_share(before[place]) if before else 'unknown'} before, {_share(now[place])} now</title></path>"
        for place, name in enumerate(names)
    )
    return (
        f'<svg class="bars" viewBox="0 0 {10 * max(1, len(now))} {BAR_HEIGHT}" preserveAspectRatio="none" role="img">'
        f"<title>{_text(title)}</title>{drawn}{told}</svg>"
    )


def _ends(names: Sequence[str]) -> str:
    """Return what is written below a histogram: its first bin and its last, and that of what is missing."""
    inner = [name for name in names if name != "missing"] or list(names)
    return f'<div class="ends"><span>{_text(inner[0])}</span><span>{_text(inner[-1])} | missing</span></div>'


def _overview(report: Report) -> Iterator[str]:
    yield '<section id="moved"><h2>What moved</h2>'
    yield (
        "<p>Every series, the one that moved furthest first: by how much its PSI, at its furthest, is beyond what "
        f"chance would give. Below {BAD_PSI} hardly anything moved, above {WORSE_PSI} much did.</p>"
    )
    yield '<div class="scroll" role="region" aria-label="Every series" tabindex="0"><table>'
    heads = {
        "series": "",
        "moved": "",
        "PSI at its furthest": "n",
        "when": "more",
        "PSI over time": "wide",
        "of the period": "n more",
        "missing": "n more",
        "new": "n more",
    }
    told = "".join(f'<th scope="col" class="{kind}">{name}</th>' for name, kind in heads.items())
    yield f"<thead><tr>{told}</tr></thead><tbody>"
    axis = _axis(report)
    for place, one in enumerate(report.series):
        kind, word = _verdict(one)
        psi = one.furthest_distances.get("psi")
        line = one.over_time.get("psi", [])
        told = _spark(f"PSI of {one.name} over time", line, _open_spans(one.name, report, axis)) if line else ""
        at = "-" if one.furthest_at is None or not one.moved else _time(one.furthest_at, short=True)
        yield (
            f'<tr><th scope="row"><a href="#{_slug(place)}">{_text(one.name)}</a> <small>{one.kind}</small></th>'
            f'<td>{_chip(kind, word)} {_alerts_on(one.name, report)}</td><td class="n">{_number(psi)}</td>'
            f'<td class="more">{at}</td><td class="wide">{told}</td>'
            f'<td class="n more">{_number(one.distances.get("psi"))}</td>'
            f'<td class="n more">{_was_and_is(one, [len(one.bins) - 1])}</td>'
            f'<td class="n more">{_was_and_is(one, one.outside)}</td></tr>'
        )
    yield "</tbody></table></div></section>"


def _alerts_on(series: str, report: Report) -> str:
    """Return the numbers of a series' own alerts."""
    mine = [place for place, one in enumerate(report.told) if one.series == series][:NUMBERS_MAX]
    if not mine:
        return ""
    return "<small>alert " + ", ".join(f'<a href="#alert-{place}">{place + 1}</a>' for place in mine) + "</small>"


def _was_and_is(one: Series, places: Sequence[int]) -> str:
    before, now = one.share(one.reference, places), one.share(one.current, places)
    if not before and not now:
        return _share(now)
    return f"{_share(before)} → {_share(now)}"


def _open_spans(series: str, report: Report, axis: _Axis) -> str:
    """Return when an alert of a series was open, as the shape of a picture as wide as there are points."""
    made = []
    count = len(report.points)
    for one in report.told:
        if one.series == series and not one.slice:
            begin = axis.at(one.life[0].at) * count
            end = (1.0 if one.cleared is None else axis.at(one.cleared)) * count
            made.append(f"M{begin:.1f} 0H{max(end, begin + 0.5):.1f}V{SPARK_HEIGHT}H{begin:.1f}z")
    return f'<path class="span" d="{"".join(made)}"/>' if made else ""


def _spark(title: str, line: Line, behind: str = "", *, low: float = 0.0, high: float | None = None) -> str:
    """Return a line over time as a picture: from the least to the most, zero among them."""
    known = [value for value in line if value is not None]
    top = max([*known, 1e-12]) if high is None else high
    told = f"{_number(min(known))} to {_number(max(known))}" if known else "no values"
    return (
        f'<svg class="spark" viewBox="0 0 {len(line)} {SPARK_HEIGHT}" preserveAspectRatio="none" role="img">'
        f'<title>{_text(title)}: {told}</title>{behind}<path class="line" d="{_path(line, low, top)}"/></svg>'
    )


def _path(line: Line, low: float, high: float) -> str:
    """Return the shape of a line, in whole steps, each from where the last one ended; where nothing is known it ends.

    >>> _path([0.0, 1.0, None, 0.5], 0.0, 1.0)
    'M0.5 38l1-36m2 18h0'
    """
    made: list[str] = []
    at, last = 0, 0
    drawing = False
    for place, value in enumerate(line):
        if value is None:
            drawing = False
            continue
        height = SPARK_HEIGHT - 2 - round((SPARK_HEIGHT - 4) * (value - low) / ((high - low) or 1.0))
        if not made:
            made.append(f"M{place + 0.5:g} {height}")
        elif drawing:
            step = f"1{height - last}" if height < last else f"1 {height - last}"
            made.append(f"l{step}" if made[-1][0] in "Mmh" else f" {step}")
        else:
            made.append(f"m{place - at} {height - last}" if height >= last else f"m{place - at}{height - last}")
        alone = (place + 1 == len(line) or line[place + 1] is None) and not drawing
        if alone:
            made.append("h0")  # a point alone is a line without a length
        drawing = True
        at, last = place, height
    return "".join(made)


def _groups(groups: Sequence[Group], report: Report) -> Iterator[str]:
    if not groups:
        return
    yield '<section id="groups"><h2>Parts of the stream</h2>'
    yield (
        "<p>Values that are watched on their own, compared each with its own past; what moved furthest in them.</p>"
        '<div class="scroll" role="region" aria-label="Parts of the stream" tabindex="0"><table><thead><tr>'
        '<th scope="col">part</th><th scope="col" class="n">events</th><th scope="col" class="n">share</th>'
        '<th scope="col">what moved, with its PSI and when</th></tr></thead><tbody>'
    )
    for one in groups:
        told = "; ".join(
            f"<b>{_text(each.name)}</b> {_number(each.psi)} ({_time(each.at, short=True)})" for each in one.moved
        )
        yield (
            f'<tr><th scope="row">{_text(one.name)}</th><td class="n">{one.events:,}</td>'
            f'<td class="n">{_share(one.events / max(1, report.events))}</td>'
            f"<td>{told or 'nothing'}</td></tr>"
        )
    yield "</tbody></table></div></section>"


def _relations(relations: Sequence[Relation]) -> Iterator[str]:
    if not relations:
        return
    yield '<section id="relations"><h2>Relations that changed</h2>'
    yield (
        "<p>Pairs of features that went together otherwise than in the reference: correlations of their ranks.</p>"
        '<div class="scroll" role="region" aria-label="Relations that changed" tabindex="0"><table><thead><tr>'
        '<th scope="col">pair</th><th scope="col" class="n">usual</th><th scope="col" class="n">at its furthest</th>'
        '<th scope="col">when</th><th scope="col" class="n">of the period</th><th scope="col" class="wide">over time, '
        "-1 to 1</th></tr></thead><tbody>"
    )
    for one in relations:
        name = f"{one.first} and {one.second}"
        yield (
            f'<tr><th scope="row">{_text(name)}</th><td class="n">{_number(one.usual, sign=True)}</td>'
            f'<td class="n">{_number(one.furthest, sign=True)}</td><td>{_time(one.furthest_at, short=True)}</td>'
            f'<td class="n">{_number(one.current, sign=True)}</td><td class="wide">'
            f"{_spark(f'Correlation of {name} over time', one.over_time, low=-1.0, high=1.0)}</td></tr>"
        )
    yield "</tbody></table></div></section>"


def _qualities(quality: Sequence[Judged], report: Report) -> Iterator[str]:
    if not quality:
        return
    yield '<section id="quality"><h2>Quality</h2>'
    window = _duration(quality[0].window)
    yield (
        f"<p>How good each model was, as reported, in the {window} before; of several partitions it is the mean by "
        "labels.</p>"
    )
    yield '<ul class="legend">'
    for place, one in enumerate(quality):
        yield f'<li><span class="key m{place % 6}"></span>{_text(one.model)}, {_number(one.labels)} labels</li>'
    yield '</ul><div class="plots">'
    names = list(dict.fromkeys(name for one in quality for name in one.over_time))
    for name in names:
        lines = [(place, one, one.over_time[name]) for place, one in enumerate(quality) if name in one.over_time]
        known = [value for _, _, line in lines for value in line if value is not None]
        low, high = min(known), max(known)
        if low == high:
            low, high = low - 0.5, high + 0.5
        told = "; ".join(f"{one.model} {_number(_last(line))} at the end" for _, one, line in lines)
        drawn = "".join(
            f'<path class="line m{place % 6}" d="{_path(_joined(line), low, high)}"/>' for place, _, line in lines
        )
        yield (
            f"<figure><figcaption><b>{_text(name.replace('_', ' '))}</b> <span>{_number(min(known))} to "
            f"{_number(max(known))}</span></figcaption>"
            f'<svg class="plot" viewBox="0 0 {len(report.points)} {SPARK_HEIGHT}" preserveAspectRatio="none" '
            f'role="img"><title>{_text(name.replace("_", " "))} over time</title><desc>{_text(told)}</desc>'
            f"{drawn}</svg></figure>"
        )
    yield "</div>"
    yield '<div class="scroll" role="region" aria-label="Quality as last reported" tabindex="0"><table>'
    yield '<thead><tr><th scope="col">as last reported</th>'
    yield "".join(f'<th scope="col" class="n">{_text(one.model)}</th>' for one in quality) + "</tr></thead><tbody>"
    every = list(dict.fromkeys(name for one in quality for name in one.newest if not name.endswith("_error")))
    for name in every + (["calibration_error"] if any("calibration_error" in one.newest for one in quality) else []):
        cells = "".join(f'<td class="n">{_number(one.newest.get(name))}</td>' for one in quality)
        yield f'<tr><th scope="row">{_text(name.replace("_", " "))}</th>{cells}</tr>'
    yield "</tbody></table></div></section>"


def _last(line: Line) -> float | None:
    return next((value for value in reversed(line) if value is not None), None)


def _joined(line: Line) -> Line:
    """Return a line that goes on from one report to the next: in between it is as good as it was."""
    made: Line = []
    for value in line:
        made.append(value if value is not None or not made else made[-1])
    last = next((place for place, value in reversed(list(enumerate(line))) if value is not None), -1)
    return [value if place <= last else None for place, value in enumerate(made)]


def _details(report: Report) -> Iterator[str]:
    yield '<section id="details"><h2>Every series</h2>'
    yield (
        f'<p class="legend">{_LEGEND} in shares of the values. Bins hold equal shares of the reference, where it has '
        "many values. Shaded is when an alert on the series was open.</p>"
    )
    axis = _axis(report)
    for place, one in enumerate(report.series):
        yield from _detail(place, one, report, axis)
    yield "</section>"


def _detail(place: int, one: Series, report: Report, axis: _Axis) -> Iterator[str]:
    kind, word = _verdict(one)
    unfolded = " open" if one.moved and place < OPEN_MAX else ""
    psi = one.furthest_distances.get("psi")
    yield (
        f'<details class="card" id="{_slug(place)}"{unfolded}><summary><b>{_text(one.name)}</b> '
        f"<small>{one.kind}</small> {_chip(kind, word)}"
        f"{'' if psi is None else f' <small>PSI {_number(psi)}</small>'}</summary>"
    )
    said = f"compared with {_text(one.compared_with)}" if one.compared_with else "not compared with anything yet"
    yield f'<p class="muted">{sum(one.current):,} values, {said}</p><div class="two"><div>'
    yield from _histograms(one)
    yield "</div><div>"
    behind = _open_spans(one.name, report, axis)
    if one.over_time:
        yield '<div class="sparks">'
        for name, told in DISTANCES.items():
            line = one.over_time.get(name, [])
            whole, far = one.distances.get(name), one.furthest_distances.get(name)
            yield (
                f"<figure{' class=first' if name == 'psi' else ''}><figcaption><b>{told}</b> <span>"
                f"{_number(far)} at its furthest, {_number(whole)} of the period</span></figcaption>"
                f"{_spark(f'{told} of {one.name} over time', line, behind)}</figure>"
            )
    else:
        yield '<div class="sparks">'
    missing = [len(one.bins) - 1]
    for told, line, places in (("missing", one.missing, missing), ("new", one.new, one.outside)):
        if any(line):
            yield (
                f"<figure><figcaption><b>{told}</b> <span>{_was_and_is(one, places)}, at the most "
                f"{_share(max(value or 0.0 for value in line))}</span></figcaption>"
                f"{_spark(f'Share of {told} values of {one.name} over time', line, behind)}</figure>"
            )
    yield f"</div>{_scale(report)}</div></div></details>"


def _shares(counts: Sequence[int]) -> list[float]:
    total = sum(counts)
    return [count / total if total else 0.0 for count in counts]


def _histograms(one: Series) -> Iterator[str]:
    before, whole, far = _shares(one.reference), _shares(one.current), _shares(one.furthest)
    most = max([*before, *whole, *far, 1e-9])
    outside = [*one.outside, len(one.bins) - 1]
    shown = [("the whole period", whole)]
    if one.moved and one.furthest_at is not None:
        shown.append((f"at its furthest, {when(one.furthest_at)[5:16]}", far))
    for told, now in shown:
        yield f"<figure><figcaption><b>{_text(told)}</b></figcaption>"
        yield _bars(f"{one.name}: shares of the reference, and {told}", before, now, outside, most=most)
        yield f"{_ends(one.bins)}</figure>"
    yield "<details class=numbers><summary>numbers</summary><table><thead><tr>"
    yield '<th scope="col">bin</th><th scope="col" class="n">reference</th>'
    yield "".join(f'<th scope="col" class="n">{_text(told)}</th>' for told, _ in shown) + "</tr></thead><tbody>"
    for place, name in enumerate(one.bins):
        cells = "".join(f"<td>{_share(now[place])}" for _, now in shown)
        yield f"<tr><th scope=row>{_text(name)}<td>{_share(before[place] if before else None)}{cells}"
    yield "</tbody></table></details>"


_STYLE = """
:root{color-scheme:light dark;--bg:#fff;--card:#f7f9fb;--fg:#17202b;--muted:#566170;--line:#d5dce4;--ref:#848f9c;
--cur:#1f6feb;--new:#b54708;--link:#0b57b0;--high:#b42318;--medium:#9a5b00;--low:#2f5f97;--calm:#3d6b4a;
--m0:#1f6feb;--m1:#b54708;--m2:#2e7d46;--m3:#8a3ffc;--m4:#566170;--m5:#b42318}
@media (prefers-color-scheme:dark){:root{--bg:#11161c;--card:#181f27;--fg:#e5eaf0;--muted:#9ba8b6;--line:#2d3742;
--ref:#66727f;--cur:#64a8ff;--new:#f0a04b;--link:#8abaff;--high:#ff8b80;--medium:#e8b04d;--low:#8ab8ee;--calm:#86c79a;
--m0:#64a8ff;--m1:#f0a04b;--m2:#6fce8e;--m3:#c09bff;--m4:#9ba8b6;--m5:#ff8b80}}
*{box-sizing:border-box}
body{margin:0 auto;max-width:72rem;padding:1.25rem;background:var(--bg);color:var(--fg);
font:15px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue",Arial,sans-serif}
h1{font-size:1.6rem;margin:0;overflow-wrap:anywhere}h2{font-size:1.2rem;margin:2.2rem 0 .5rem}
h3{font-size:1rem;margin:0 0 .25rem;overflow-wrap:anywhere}
p{margin:.3rem 0}a{color:var(--link)}code{font-size:.85em;overflow-wrap:anywhere}
small,.muted,figcaption,footer,.ends,.scale{color:var(--muted);font-size:.82rem}
b{font-weight:600}figure{margin:0 0 .6rem;min-width:0}figcaption b{color:var(--fg)}time{white-space:nowrap}
nav{display:flex;flex-wrap:wrap;gap:.3rem 1rem;margin-top:.8rem}
.tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(9.5rem,1fr));gap:.7rem;margin:1rem 0 .6rem}
.tiles div{background:var(--card);border:1px solid var(--line);border-radius:8px;padding:.6rem .8rem}
dt{color:var(--muted);font-size:.82rem}dd{margin:0}.tiles b{display:block;font-size:1.45rem;line-height:1.25}
.tiles span{font-size:.82rem}.tiles dd>span{color:var(--muted)}
.notes{border-left:3px solid var(--medium);margin:.8rem 0;padding:.1rem 0 .1rem 1.6rem}
.chip{display:inline-block;border:1px solid currentColor;border-radius:99px;padding:0 .5rem;font-size:.78rem;
font-weight:600;line-height:1.4;white-space:nowrap}
.chip.sev-high,.chip.much{color:var(--high)}.chip.sev-medium,.chip.some{color:var(--medium)}
.chip.sev-low,.chip.little{color:var(--low)}.chip.calm{color:var(--calm)}.chip.none{color:var(--muted)}
.card{background:var(--card);border:1px solid var(--line);border-radius:8px;padding:.7rem .9rem;margin:.6rem 0}
.alert{border-left-width:4px}.alert.sev-high{border-left-color:var(--high)}
.alert.sev-medium{border-left-color:var(--medium)}.alert.sev-low{border-left-color:var(--low)}
.two{display:grid;grid-template-columns:1fr 1fr;gap:.4rem 1.8rem}.two>div{min-width:0}
.life{margin:.3rem 0;padding-left:1.1rem}.pairs{display:flex;flex-wrap:wrap;gap:.2rem 1.4rem;margin:.4rem 0}
svg{display:block;width:100%;overflow:hidden}
.timeline{height:8rem;border-bottom:1px solid var(--muted)}.bars{height:5.2rem;border-bottom:1px solid var(--muted)}
.spark{height:2.2rem;border-bottom:1px solid var(--line)}.first .spark{height:4.2rem}
.plot{height:7rem;border-bottom:1px solid var(--line)}
.volume{fill:var(--cur);fill-opacity:.45}.ref{fill:var(--ref)}.cur{fill:var(--cur)}.new{fill:var(--new)}
.hit{fill:transparent}.hit:hover{fill:var(--fg);fill-opacity:.08}
.line{fill:none;stroke:var(--cur);stroke-width:1.5;stroke-linejoin:round;stroke-linecap:round;
vector-effect:non-scaling-stroke}
.span{fill:var(--medium);fill-opacity:.16}.bars-of{margin-top:3px}
.bar.sev-high{fill:var(--high)}.bar.sev-medium{fill:var(--medium)}.bar.sev-low{fill:var(--low)}
.begin{stroke-width:1.5;vector-effect:non-scaling-stroke}.begin.sev-high{stroke:var(--high)}
.begin.sev-medium{stroke:var(--medium)}.begin.sev-low{stroke:var(--low)}
.m0{stroke:var(--m0)}.m1{stroke:var(--m1)}.m2{stroke:var(--m2)}.m3{stroke:var(--m3);stroke-dasharray:6 3}
.m4{stroke:var(--m4);stroke-dasharray:2 3}.m5{stroke:var(--m5);stroke-dasharray:8 3 2 3}
.key{display:inline-block;width:.75em;height:.75em;border-radius:2px;margin:0 .35em 0 .5em}
.key.ref{background:var(--ref)}
.key.cur,.key.m0{background:var(--cur)}.key.new{background:var(--new)}.key.m1{background:var(--m1)}
.key.m2{background:var(--m2)}.key.m3{background:var(--m3)}.key.m4{background:var(--m4)}.key.m5{background:var(--m5)}
ul.legend{list-style:none;display:flex;flex-wrap:wrap;gap:.1rem .8rem;padding:0;margin:.4rem 0}
.plots{display:grid;grid-template-columns:repeat(auto-fit,minmax(15rem,1fr));gap:.6rem 1.6rem}
.sparks{display:grid;grid-template-columns:1fr 1fr;gap:.2rem 1.2rem}.sparks .first{grid-column:1/-1}
.marks{position:relative;margin-bottom:2px}
.mark{position:absolute;transform:translateX(-1px);font-size:.75rem;font-weight:700;line-height:1.4;
padding:0 .3em;text-decoration:none;background:var(--bg);border-left:2px solid currentColor}
.mark.left{border-left:0;border-right:2px solid currentColor;transform:translateX(1px)}
.mark.sev-high{color:var(--high)}.mark.sev-medium{color:var(--medium)}.mark.sev-low{color:var(--low)}
.scale,.ends{display:flex;justify-content:space-between;gap:.6rem}.ends span{overflow-wrap:anywhere}
.two .scale time:nth-child(even){display:none}.scroll{overflow-x:auto}
table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums}
th,td{text-align:left;padding:.28rem .7rem .28rem 0;border-bottom:1px solid var(--line);vertical-align:middle}
thead th,thead .n{color:var(--muted);white-space:normal;font-size:.8rem;font-weight:500;vertical-align:bottom}
tbody th{font-weight:600;overflow-wrap:break-word;max-width:16rem}td small{white-space:nowrap}
.n,.numbers td{text-align:right;white-space:nowrap}
.wide{width:30%;min-width:9rem}summary{cursor:pointer}summary .chip{margin:0 .3rem}
.numbers{font-size:.82rem}.numbers table{max-width:34rem}.numbers th{font-weight:400}
.numbers td,.numbers tbody th{padding:.05rem .7rem .05rem 0}
footer{margin-top:2.5rem;border-top:1px solid var(--line);padding-top:.6rem}
:target{outline:2px solid var(--link);outline-offset:2px}a:focus-visible,summary:focus-visible,.scroll:focus-visible{
outline:2px solid var(--link);outline-offset:2px}
@media (max-width:44rem){body{padding:.8rem;font-size:14px}.two,.sparks{grid-template-columns:1fr}.more{display:none}
.scale time:nth-child(even){display:none}.timeline{height:6rem}.wide{min-width:6rem}}
@media print{:root{color-scheme:light;--bg:#fff;--card:#fff;--fg:#000;--muted:#444;--line:#bbb;--ref:#848f9c;
--cur:#1f6feb;--new:#b54708;--link:#000;--high:#b42318;--medium:#9a5b00;--low:#2f5f97;--calm:#3d6b4a}
*{-webkit-print-color-adjust:exact;print-color-adjust:exact}body{max-width:none;padding:0;font-size:11px}nav{display:none}
.card,figure,tr{break-inside:avoid}h2,h3,summary{break-after:avoid}.scroll{overflow:visible}
details.card::details-content{content-visibility:visible;display:block;height:auto}}
"""

// The live page: one snapshot a second comes in, and what changed is drawn. Text is always set as text.
"use strict";

const KEPT_SECONDS = 600;
const GAP_SECONDS = 15; // a longer hole in the history is shown as one
const SVG = "http://www.w3.org/2000/svg";
const guard = document.querySelector("meta[name=headrace-guard]").content;
const $ = (id) => document.getElementById(id);
const narrow = matchMedia("(max-width: 42rem)");

let run = null; // of the worker that we see
let newest = null;
let history = [];
let measure = "";
let looked = ""; // at which of the series that are watched; at none in particular: the one that moved furthest
const drawn = new Map(); // what was drawn last, by place: what did not change is left alone, and keeps its focus

// Elements.

function fill(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes || {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name === "on") for (const [event, call] of Object.entries(value)) node.addEventListener(event, call);
    else node.setAttribute(name, value === true ? "" : value);
  }
  for (const child of children.flat(Infinity)) {
    if (child !== null && child !== undefined && child !== false) node.append(child);
  }
  return node;
}
const el = (tag, attributes, ...children) => fill(document.createElement(tag), attributes, children);
const svg = (tag, attributes, ...children) => fill(document.createElementNS(SVG, tag), attributes, children);

function changed(place, value) {
  const now = JSON.stringify(value);
  if (drawn.get(place) === now) return false;
  drawn.set(place, now);
  return true;
}
const show = (node, yes) => { node.hidden = !yes; };

// Words.

const isNumber = (value) => typeof value === "number" && Number.isFinite(value);
const whole = (value) => (isNumber(value) ? Math.round(value).toLocaleString("en") : "–");
function rate(value) {
  if (!isNumber(value)) return "–";
  return value >= 100 ? whole(value) : value.toLocaleString("en", { maximumFractionDigits: value < 10 ? 2 : 1 });
}
function seconds(value) {
  if (!isNumber(value)) return "–";
  if (value === 0) return "0";
  if (value < 0.001) return `${(value * 1000).toFixed(2)} ms`;
  if (value < 1) return `${(value * 1000).toFixed(value < 0.0995 ? 1 : 0)} ms`;
  if (value < 120) return `${value.toFixed(value < 10 ? 2 : 0)} s`;
  if (value < 7200) return `${Math.round(value / 60)} min`;
  return value < 172800 ? `${(value / 3600).toFixed(1)} h` : `${(value / 86400).toFixed(1)} days`;
}
function figure(value) {
  if (!isNumber(value)) return "–";
  const size = Math.abs(value);
  return size !== 0 && (size < 0.0005 || size >= 1e6) ? value.toExponential(2) : String(+value.toFixed(size < 10 ? 4 : 2));
}
const percent = (value) => (isNumber(value) ? `${(100 * value).toFixed(value < 0.0995 ? 1 : 0)} %` : "–");
function when(value) {
  if (!isNumber(value)) return "–";
  const date = new Date(value * 1000);
  if (Number.isNaN(date.getTime())) return figure(value);
  const text = date.toISOString();
  return `${text.slice(0, 10)} ${text.slice(11, 19)}`;
}
const clock = (value) => new Date(value * 1000).toTimeString().slice(0, 8);
const said = (value) => (value === null || value === undefined ? "–" : isNumber(value) ? figure(value) : typeof value === "object" ? JSON.stringify(value) : String(value));
const busy = (told) => ["decode", "score", "encode", "send"].reduce((all, one) => all + told.busy[one], 0);
const sum = (numbers) => Object.values(numbers || {}).reduce((all, one) => all + one, 0);
const colour = (model) => (["static", "online", "combined"].includes(model) ? `c-${model}` : "c-other");
const dash = (model) => ({ static: "", online: "dashed", combined: "" })[model] ?? "dotted";

// Tiles.

function drawTiles(told) {
  const totals = told.totals;
  const events = told.worker.topics.events;
  const tiles = [
    ["predictions-rate", "Predictions a second", rate(sum(told.rates.headrace_predictions_total)), [["predictions_total", sum(totals.headrace_predictions_total), " in all"]]],
    ["events-rate", "Events in a second", rate(told.rates.headrace_events_consumed_total[events] || 0), [["events_total", totals.headrace_events_consumed_total[events] || 0, " in all"]]],
    ["p50", "Latency p50", seconds(told.latency.p50), [`p99 ${seconds(told.latency.p99)}`]],
    ["lag", "Lag, records", whole(told.lag.records), [`oldest ${seconds(told.lag.seconds)}`]],
    ["letters", "Dead letters", whole(sum(totals.headrace_dead_letters_total)), [`${rate(sum(told.rates.headrace_dead_letters_total))} a second`]],
    ["busy-share", "Busy", percent(busy(told)), ["of the time in steps"]],
  ];
  const node = $("tiles");
  if (!node.children.length) {
    for (const [id, name] of tiles) {
      node.append(el("div", { class: "tile" }, el("div", { class: "name" }, name), el("div", { class: "value", id: `n-${id}` }), el("div", { class: "more", id: `m-${id}` })));
    }
  }
  for (const [id, , value, more] of tiles) {
    $(`n-${id}`).textContent = value;
    const parts = more.map((one) => (Array.isArray(one) ? [el("span", { "data-number": one[0] }, whole(one[1])), one[2]] : one));
    $(`m-${id}`).replaceChildren(...parts.flat());
  }
}

// The graph.

const WIDE = {
  size: [960, 274],
  places: { events: [0, 40], features: [190, 40], static: [380, 0], online: [380, 84], combine: [570, 40], predictions: [800, 40], letters: [800, 128], labels: [0, 212], learner: [380, 212], drift: [570, 212], alerts: [800, 212] },
  frame: [178, -16, 558, 176],
  lines: { letters: "M736 130C770 130 760 159 795 159", watch: "M270 160V170Q270 184 284 184H636Q650 184 650 194V207" },
};
const SLIM = {
  size: [360, 618],
  places: { events: [0, 0], labels: [200, 0], features: [0, 120], static: [0, 216], online: [200, 216], learner: [200, 120], combine: [100, 316], predictions: [0, 440], letters: [200, 440], drift: [0, 556], alerts: [200, 556] },
  frame: [-6, 108, 372, 288],
  lines: { letters: "M290 396V435", watch: "M180 396V520Q180 530 170 530H90Q80 530 80 538V551" },
};
const BOX = [160, 62];
const EDGES = [
  ["events", "features"], ["features", "static"], ["features", "online"], ["static", "combine"], ["online", "combine"],
  ["combine", "predictions"], ["features", "letters", "letters"], ["labels", "learner"], ["learner", "online"],
  ["features", "drift", "watch"], ["drift", "alerts"],
];

function nodesOf(told) {
  const { worker, rates, totals } = told;
  const topics = worker.topics;
  const quality = (model) => {
    const of = told.quality[model];
    const first = of && (of.log_loss ? ["log loss", of.log_loss] : of.rmse ? ["RMSE", of.rmse] : of.accuracy ? ["accuracy", of.accuracy] : of.roc_auc ? ["AUC", of.roc_auc] : null);
    return first ? `${first[0]} ${figure(first[1].recent ?? first[1].overall)}` : "";
  };
  const short = (text) => (text.length > 24 ? `${text.slice(0, 23)}…` : text);
  return {
    events: { title: topics.events, big: `${rate(rates.headrace_events_consumed_total[topics.events] || 0)}/s`, sub: `lag ${whole(told.lag.records)}`, kind: "topic" },
    features: { title: "features", big: `${worker.features}`, sub: "columns of a step" },
    static: { title: "static model", big: worker.static ? short(worker.static) : "none", sub: told.breakers ? "failed too often: fallback" : quality("static"), off: !worker.static, bad: told.breakers > 0 },
    online: { title: "online model", big: worker.online ? short(worker.online.split(" | ").pop()) : "none", sub: quality("online"), off: !worker.online },
    combine: { title: "combine", big: worker.combines ? quality("combined") || "both" : "one model", sub: "", off: !worker.combines },
    predictions: { title: topics.predictions, big: `${rate(sum(rates.headrace_predictions_total))}/s`, sub: `p50 ${seconds(told.latency.p50)}, p99 ${seconds(told.latency.p99)}`, kind: "topic" },
    letters: { title: topics.dead_letters, big: `${rate(sum(rates.headrace_dead_letters_total))}/s`, sub: `${whole(sum(totals.headrace_dead_letters_total))} in all`, kind: "topic" },
    labels: { title: topics.labels || "labels", big: topics.labels ? `${rate(rates.headrace_events_consumed_total[topics.labels] || 0)}/s` : worker.learns ? "with events" : "none", sub: topics.labels ? `${whole(told.waiting.events)} events wait` : "", kind: "topic", off: !worker.learns },
    learner: { title: "learner", big: `${rate(sum(rates.headrace_learner_taught_total))}/s`, sub: `${whole(sum(totals.headrace_learner_taught_total))} taught`, off: !worker.learns },
    drift: { title: "drift", big: `${whole(told.watched.count)} series`, sub: told.watched.known ? told.watched.warms_up ? "warming up" : `${whole(told.watched.moved)} moved` : "" },
    alerts: { title: topics.alerts, big: `${told.alerts.length} open`, sub: `${whole(sum(totals.headrace_alerts_total))} said here`, kind: "topic", bad: told.alerts.some((one) => !one.acknowledged) },
  };
}

function path(from, to) {
  const [w, h] = BOX;
  const [ax, ay] = [from[0] + w / 2, from[1] + h / 2];
  const [bx, by] = [to[0] + w / 2, to[1] + h / 2];
  if (Math.abs(bx - ax) >= w) {
    const [sx, tx] = bx > ax ? [from[0] + w, to[0] - 5] : [from[0], to[0] + w + 5];
    const middle = (sx + tx) / 2;
    return `M${sx} ${ay}C${middle} ${ay} ${middle} ${by} ${tx} ${by}`;
  }
  const [sy, ty] = by > ay ? [from[1] + h, to[1] - 5] : [from[1], to[1] + h + 5];
  const middle = (sy + ty) / 2;
  return `M${ax} ${sy}C${ax} ${middle} ${bx} ${middle} ${bx} ${ty}`;
}

function drawGraph(told) {
  const nodes = nodesOf(told);
  const layout = narrow.matches ? SLIM : WIDE;
  const rates = told.rates;
  const flows = {
    letters: sum(rates.headrace_dead_letters_total) > 0, watch: false,
    labels: sum(rates.headrace_labels_total) > 0, learner: sum(rates.headrace_learner_taught_total) > 0, drift: false,
  };
  const flowing = ([from, , name]) => flows[name ?? from] ?? sum(rates.headrace_predictions_total) > 0;
  if (!changed("graph", [nodes, narrow.matches, EDGES.map(flowing)])) return;
  const words = Object.values(nodes).filter((one) => !one.off).map((one) => `${one.title}: ${one.big}${one.sub ? `, ${one.sub}` : ""}`);
  const drawing = svg("svg", { viewBox: `-8 -22 ${layout.size[0] + 16} ${layout.size[1] + 30}`, role: "img", "aria-label": `The pipeline. ${words.join(". ")}.` },
    svg("defs", null, svg("marker", { id: "tip", viewBox: "0 0 8 8", refX: 4, refY: 4, markerWidth: 6, markerHeight: 6, orient: "auto" }, svg("path", { d: "M0 0 8 4 0 8z", class: "tip" }))),
    svg("rect", { x: layout.frame[0], y: layout.frame[1], width: layout.frame[2], height: layout.frame[3], rx: 10, class: "frame" }));
  for (const edge of EDGES) {
    if (nodes[edge[0]].off || nodes[edge[1]].off) continue;
    drawing.append(svg("path", { d: layout.lines[edge[2]] || path(layout.places[edge[0]], layout.places[edge[1]]), class: flowing(edge) ? "edge flow" : "edge", "marker-end": "url(#tip)" }));
  }
  for (const [name, node] of Object.entries(nodes)) {
    const [x, y] = layout.places[name];
    const text = (dy, kind, words) => svg("text", { x: x + 10, y: y + dy, class: kind }, words.length > 26 ? `${words.slice(0, 25)}…` : words);
    drawing.append(svg("rect", { x, y, width: BOX[0], height: BOX[1], rx: 8, class: ["node", node.kind, node.off && "off", node.bad && "bad"].filter(Boolean).join(" ") }));
    drawing.append(text(17, node.off ? "soft" : "soft title", node.title), text(36, node.big.length > 17 ? "title" : "big", node.big), text(53, "soft", node.sub));
  }
  $("graph").replaceChildren(drawing);
}

function drawBusy(told) {
  const names = { decode: "decoding", score: "features, models and learning", encode: "encoding", send: "sending", commit: "committing, beside the rest" };
  $("busy").replaceChildren(el("span", null, "Share of the time:"), ...Object.entries(names).map(([stage, name]) => el("span", null, `${name} `, el("b", null, percent(told.busy[stage])))));
}

// Curves.

function ticks(low, high, count) {
  const span = high - low || 1;
  const rough = span / count;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((one) => one * power).find((one) => one >= rough);
  const found = [];
  for (let at = Math.ceil(low / step) * step; at <= high + step / 1e6; at += step) found.push(Math.abs(at) < step / 1e6 ? 0 : at);
  return found;
}

function drawCurves(node, series, { format, zero, height = 150 }) {
  const width = Math.max(260, node.clientWidth);
  const points = series.flatMap((one) => one.points.filter(([, value]) => isNumber(value)));
  const marks = { left: 58, right: 8, top: 8, bottom: 20 };
  const now = newest.at;
  const begin = Math.min(now - 60, ...history.map((one) => one.at));
  let low = zero ? 0 : Math.min(...points.map(([, value]) => value));
  let high = Math.max(...points.map(([, value]) => value));
  if (!points.length) [low, high] = [0, 1];
  const margin = (high - low || Math.abs(high) || 1) * 0.08;
  high += margin;
  if (!zero) low -= margin;
  const x = (at) => marks.left + ((at - begin) / (now - begin)) * (width - marks.left - marks.right);
  const y = (value) => marks.top + (1 - (value - low) / (high - low)) * (height - marks.top - marks.bottom);
  const words = series.map((one) => `${one.name} ${format(one.points.at(-1)?.[1])}`).join(", ");
  const drawing = svg("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": `Over the last ${seconds(now - begin)}; now ${words}` });
  for (const value of ticks(low, high, 3)) {
    drawing.append(svg("line", { x1: marks.left, x2: width - marks.right, y1: y(value), y2: y(value), class: "grid" }), svg("text", { x: marks.left - 6, y: y(value) + 4, "text-anchor": "end", class: "soft" }, format(value)));
  }
  drawing.append(svg("text", { x: marks.left, y: height - 4, class: "soft" }, clock(begin)), svg("text", { x: width - marks.right, y: height - 4, "text-anchor": "end", class: "soft" }, clock(now)));
  for (const one of series) {
    let d = "";
    let last = null;
    for (const [at, value] of one.points) {
      if (!isNumber(value)) { last = null; continue; }
      d += `${last === null || at - last > GAP_SECONDS ? "M" : "L"}${x(at).toFixed(1)} ${y(value).toFixed(1)}`;
      last = at;
    }
    if (d) drawing.append(svg("g", { class: one.colour }, svg("path", { d, class: `line ${one.dash || ""}` })));
  }
  const legend = series.length > 1 ? el("ul", { class: "legend" }, series.map((one) => el("li", { class: `${one.colour} ${one.dash || ""}` }, el("span", null, `${one.name} ${format(one.points.at(-1)?.[1])}`)))) : null;
  node.replaceChildren(drawing, ...(legend ? [legend] : []));
}

function drawHistory() {
  drawCurves($("rate"), [{ name: "predictions", colour: "c-static", points: history.map((one) => [one.at, one.rate]) }], { format: rate, zero: true });
  drawCurves($("latency"), [
    { name: "p50", colour: "c-static", points: history.map((one) => [one.at, one.p50]) },
    { name: "p99", colour: "c-online", dash: "dashed", points: history.map((one) => [one.at, one.p99]) },
  ], { format: seconds, zero: true });
}

const order = (model) => ["static", "online", "combined"].indexOf(model) + 1 || 9;
const measured = (told) => [...new Set(Object.values(told.quality).flatMap((one) => Object.keys(one)))];

function drawQuality(told) {
  const models = Object.keys(told.quality).sort((a, b) => order(a) - order(b));
  const kept = new Set(history.flatMap((one) => Object.values(one.quality).flatMap((of) => Object.keys(of))));
  const names = measured(told).filter((name) => kept.has(name));
  show($("no-quality"), !models.length);
  show($("measure").parentElement, names.length > 0);
  show($("quality"), names.length > 0);
  if (!names.includes(measure)) measure = names.includes("log_loss") ? "log_loss" : names[0] || "";
  if (changed("measures", names)) $("measure").replaceChildren(...names.map((name) => el("option", { value: name, selected: name === measure }, name.replaceAll("_", " "))));
  if (names.length) {
    // A baseline that is far off would flatten the curves that matter: it is in the table.
    const lines = models.filter((model) => order(model) < 9);
    drawCurves($("quality"), lines.map((model) => ({ name: model, colour: colour(model), dash: dash(model), points: history.map((one) => [one.at, one.quality[model]?.[measure]]) })), { format: figure, zero: false, height: 200 });
  }
  const columns = ["count", "log_loss", "roc_auc", "pr_auc", "brier", "calibration_error", "accuracy", "macro_f1", "mae", "rmse", "r2"].filter((name) => measured(told).includes(name));
  table("quality-table", ["Model", ...columns.map((name) => [name.replaceAll("_", " ")])], models.map((model) => [model, ...columns.map((name) => [figure(told.quality[model][name]?.recent)])]));
}

// Distributions.

function bars(label, groups, names, format) {
  const [width, height, bottom] = [300, 110, 18];
  const count = names.length;
  const most = Math.max(1e-9, ...groups.flatMap((one) => one.shares));
  const step = (width - 4) / count;
  const wide = Math.max(1, (step - 2) / groups.length);
  const drawing = svg("svg", { viewBox: `0 0 ${width} ${height + bottom}`, role: "img", "aria-label": label });
  drawing.append(svg("line", { x1: 0, x2: width, y1: height, y2: height, class: "grid" }));
  groups.forEach((group, at) => group.shares.forEach((share, bin) => {
    const tall = (share / most) * (height - 6);
    const bar = svg("rect", { x: 2 + bin * step + at * wide, y: height - tall, width: Math.max(0.5, wide - 0.5), height: tall, class: group.past ? "past" : "bar" }, svg("title", null, `${names[bin]}: ${group.name} ${percent(share)}`));
    drawing.append(svg("g", { class: group.colour }, bar));
  }));
  const shown = count <= 4 ? names.map((_, bin) => bin) : [0, Math.floor(count / 2), count - 1];
  for (const bin of shown) {
    const anchor = bin === 0 ? "start" : bin === count - 1 ? "end" : "middle";
    const x = bin === 0 ? 2 : bin === count - 1 ? width - 2 : 2 + (bin + 0.5) * step;
    drawing.append(svg("text", { x, y: height + 14, "text-anchor": anchor, class: "soft" }, brief(format(names[bin]), Math.floor(40 / shown.length))));
  }
  return drawing;
}
const shares = (counts) => { const all = counts.reduce((a, b) => a + b, 0) || 1; return counts.map((one) => one / all); };
const brief = (text, most) => (text.length > most ? `${text.slice(0, most - 1)}…` : text);

function drawScores(told) {
  const models = Object.entries(told.scores.models).sort(([a], [b]) => order(a) - order(b));
  show($("no-scores"), !models.length);
  if (!changed("scores", told.scores)) return;
  const bounds = told.scores.bounds;
  const names = [...bounds.map((bound) => `≤ ${figure(bound)}`), `> ${figure(bounds.at(-1))}`];
  $("scores").replaceChildren(...models.map(([model, counts]) => {
    const keep = counts.all.at(-1) ? names.length : names.length - 1; // nothing is above a probability of one
    const cut = (some) => shares(some.slice(0, keep));
    const many = counts.lately.reduce((a, b) => a + b, 0);
    const label = `Scores of ${model}: ${whole(many)} lately`;
    return el("figure", null, el("h3", null, model),
      bars(label, [{ name: "since the start", shares: cut(counts.all), past: true }, { name: "lately", shares: cut(counts.lately), colour: colour(model) }], names.slice(0, keep), (text) => text.replace("≤ ", "")),
      el("ul", { class: "legend" }, el("li", { class: "box c-past" }, el("span", null, "since the start")), el("li", { class: `box ${colour(model)}` }, el("span", null, `last ${told.scores.seconds} s`))));
  }));
}

function drawDrift(told) {
  show($("no-drift"), !told.drift.length);
  if (!changed("drift", told.drift)) return;
  $("drift").replaceChildren(...told.drift.map((one) => {
    const name = one.slice ? `${one.series} [${one.slice}]` : one.series;
    const far = Object.entries(one.distances).map(([kind, value]) => `${kind} ${figure(value)}`).join(", ");
    return el("figure", null, el("h3", null, name),
      bars(`${name}: ${far}`, [{ name: "reference", shares: one.reference, past: true }, { name: "now", shares: one.current, colour: "c-online" }], one.bins, (text) => text),
      el("ul", { class: "legend" }, el("li", { class: "box c-past" }, el("span", null, `reference, ${whole(one.reference_count)}`)), el("li", { class: "box c-online" }, el("span", null, `now, ${whole(one.current_count)}`))),
      el("figcaption", null, `${one.state} ${when(one.at)}${far ? ` · ${far}` : ""}`));
  }));
}

// What is watched.

function mini(one) {
  const [width, height] = [120, 26];
  const most = Math.max(1e-9, ...one.reference, ...one.current);
  const step = width / one.bins.length;
  const drawing = svg("svg", { viewBox: `0 0 ${width} ${height}`, class: "mini", "aria-hidden": "true", preserveAspectRatio: "none" });
  const draw = (some, from, part, kind, group) => { // one path for all bars, because there are many series
    const d = some.map((share, bin) => `M${((bin + from) * step).toFixed(1)} ${height}v${(-(share / most) * height).toFixed(1)}h${(part * step).toFixed(1)}V${height}z`).join("");
    drawing.append(svg("g", { class: group }, svg("path", { d, class: kind })));
  };
  draw(one.reference, 0.05, 0.9, "past", "");
  draw(one.current, 0.3, 0.4, "bar", "c-online");
  return el("td", null, drawing);
}
function state(one, warmsUp) {
  if (one.psi === null) return one.reference.length ? "too few values" : "learning";
  if (one.psi <= one.chance) return "as usual";
  return warmsUp ? "not warm yet" : el("td", { class: "moved" }, "moved");
}

function drawWatched(told) {
  const { watched } = told;
  const all = watched.series;
  show($("no-watched"), !watched.known);
  $("no-watched").textContent = watched.known ? "" : `Nothing to compare: ${watched.trouble}.`;
  $("watched-what").textContent = watched.known ? `now: ${watched.slices} slices, ${whole(watched.events)} events, until ${when(watched.end)} UTC` : "";
  const notes = [
    watched.warms_up ? "The watch warms up: features do not remember yet what they are going to, so distances say little." : "",
    watched.count > all.length ? `The ${all.length} that are furthest of ${whole(watched.count)}.` : "",
  ].filter(Boolean).join(" ");
  $("watched-note").textContent = notes;
  show($("watched-note"), !!notes);
  show($("watched-pick").parentElement, all.length > 0);
  const picked = all.find((one) => one.series === looked) || all[0];
  if (changed("watched-names", [all.map((one) => one.series), looked])) {
    $("watched-pick").replaceChildren(...[["", "what moved furthest"], ...all.map((one) => [one.series, one.series])].map(([value, name]) => el("option", { value, selected: value === looked }, name)));
  }
  if (changed("watched-rows", [all, watched.warms_up])) {
    drawn.delete("watched"); // bars have no text to tell that they changed
    table("watched", ["Series", "Usual and now", "State", ["PSI"], ["by chance"], ["Jensen-Shannon"], ["Values"], "Kind"], all.map((one) => [
      one.series, mini(one), state(one, watched.warms_up), [figure(one.psi)], [figure(one.chance)], [figure(one.jensen_shannon)], [whole(one.current_count)], one.kind,
    ]));
  }
  if (!changed("watched-one", picked ?? null)) return;
  const groups = picked ? [...(picked.reference.length ? [{ name: "usual", shares: picked.reference, past: true }] : []), { name: "now", shares: picked.current, colour: "c-online" }] : [];
  $("watched-one").replaceChildren(...(picked ? [el("figure", null, el("h3", null, picked.series),
    bars(`${picked.series}: PSI ${figure(picked.psi)}; the shares are in the table below`, groups, picked.bins, (text) => text),
    el("ul", { class: "legend" }, el("li", { class: "box c-past" }, el("span", null, `usual, ${whole(picked.reference_count)}`)), el("li", { class: "box c-online" }, el("span", null, `now, ${whole(picked.current_count)}`))))] : []));
  table("watched-bins", ["Value", ["Usual"], ["Now"]], picked ? picked.bins.map((bin, at) => [bin, [percent(picked.reference[at])], [percent(picked.current[at])]]) : []);
}

// Tables.

const cell = (tag, one) => (Array.isArray(one) ? el(tag, { class: "n", scope: tag === "th" ? "col" : null }, one[0]) : one instanceof Node && one.tagName === "TD" ? one : el(tag, { scope: tag === "th" ? "col" : null }, one));

function table(id, head, rows) {
  show($(id).parentElement, rows.length > 0);
  if (!changed(id, [head, rows.map((row) => row.map((one) => (one instanceof Node ? one.textContent : one)))])) return;
  $(id).replaceChildren(el("thead", null, el("tr", null, head.map((one) => cell("th", one)))), el("tbody", null, rows.map((row) => el("tr", null, row.map((one) => cell("td", one))))));
}

function drawWorkers(told) {
  const { group, worker } = told;
  $("group-name").textContent = `group ${worker.group}`;
  $("group-trouble").textContent = group.trouble ? `This worker alone: ${group.trouble}.` : "";
  show($("group-trouble"), !!group.trouble);
  const own = new Map(told.partitions.map((one) => [`${one.topic} ${one.partition}`, one]));
  const all = group.known
    ? group.partitions.map((one) => ({ ...one, ...own.get(`${one.topic} ${one.partition}`), worker: one.worker || "nobody" }))
    : told.partitions.map((one) => ({ ...one, worker: worker.instance }));
  const members = group.known ? group.members : [{ name: worker.instance, host: worker.host, partitions: told.partitions.length }];
  const of = (name) => all.filter((one) => one.worker === name);
  const total = (some, field) => some.reduce((sofar, one) => sofar + (one[field] || 0), 0);
  table("workers", ["Worker", "Host", ["Partitions"], ["Lag"], ["Records a second"], "State"], members.map((one) => {
    const mine = one.name === worker.instance;
    const speed = group.known ? total(of(one.name), "rate") : sum(told.rates.headrace_events_consumed_total);
    return [mine ? `${one.name} (this one)` : one.name, one.host, [whole(one.partitions)], [whole(total(of(one.name), "lag"))], [rate(speed)], mine ? told.health.ready : "in the group"];
  }));
  table("partitions", ["Partition", "Worker", ["Lag"], ["Oldest"], ["Records a second"], ["Keys"], "Memory"], all.map((one) => {
    const mine = own.has(`${one.topic} ${one.partition}`);
    const again = isNumber(one.recovering) ? (one.recovering ? `${whole(one.recovering)} changes to go` : "is made again") : "";
    const memory = again || (mine || one.tells ? "complete" : "told on its worker's page");
    return [`${one.topic}[${one.partition}]`, one.worker, [whole(one.lag)], [mine ? seconds(one.lag_seconds) : "–"], [rate(one.rate)], [whole(one.keys)], memory];
  }));
}

function drawModels(told) {
  const { worker } = told;
  const rows = [["pipeline", worker.pipeline, worker.version, when(worker.since)]];
  if (worker.static) rows.push(["static", worker.static, worker.version, when(worker.since)]);
  if (worker.online) rows.push(["online", worker.online, `${whole(sum(told.totals.headrace_learner_taught_total))} taught here`, when(worker.since)]);
  table("models", ["Role", "Model", "Version", "In use here since (UTC)"], rows);
}

function drawPredictions(told) {
  const reasons = told.predictions.some((one) => one.reasons.length);
  show($("no-predictions"), !told.predictions.length);
  const why = (one) => el("td", { class: "long" }, one.reasons.slice(0, 4).map((each) => `${each.code} ${each.contribution >= 0 ? "+" : "−"}${figure(Math.abs(each.contribution))}`).join(", ") || "–");
  table("predictions", ["Event", "Key", "Time of the event (UTC)", ["Score"], ["Static"], ["Online"], "Flags", ...(reasons ? ["Reasons"] : [])], told.predictions.map((one) => [
    one.id, one.key, when(one.at), [said(one.score)], [said(one.static)], [said(one.online)],
    el("td", null, one.flags.length ? one.flags.map((flag) => el("span", { class: "flag" }, flag.replaceAll("_", " "))) : "–"), ...(reasons ? [why(one)] : []),
  ]));
}

function drawLetters(told) {
  const counts = Object.entries(told.totals.headrace_dead_letters_total).filter(([, many]) => many > 0).sort((a, b) => b[1] - a[1]);
  const all = counts.reduce((sofar, [, many]) => sofar + many, 0);
  $("letter-count").textContent = all ? `${whole(all)} in this worker, by reason` : "";
  show($("no-letters"), !all);
  if (changed("reasons", counts)) {
    $("reasons").replaceChildren(...counts.map(([reason, many]) => el("li", null, el("span", null, reason.replaceAll("_", " ")), el("span", { class: "n", "data-reason": reason }, whole(many)), el("meter", { value: many / all, "aria-label": `share of ${reason}` }))));
  }
  table("letters", ["Record", "Reason", "What was said", "When (UTC)"], told.dead_letters.map((one) => [`${one.topic}[${one.partition}] @ ${one.offset}`, one.reason.replaceAll("_", " "), el("td", { class: "long" }, one.message), when(one.at)]));
}

// Alerts.

function alertItem(one) {
  const meta = [one.kind, one.slice ? `${one.series} [${one.slice}]` : one.series, `since ${when(one.since)} UTC`, one.explained_by.length ? `with ${one.explained_by.join(", ")}` : "", one.action].filter(Boolean).join(" · ");
  const seen = one.acknowledged;
  const told = seen ? `Acknowledged${seen.by ? ` by ${seen.by}` : ""} ${when(seen.at)} UTC${seen.note ? `: ${seen.note}` : ""}` : "";
  return el("li", { class: one.severity, "data-alert": one.id },
    el("div", null, el("p", null, el("span", { class: "severity" }, one.severity), ` ${one.state} · `, one.text), el("p", { class: "meta" }, meta), seen ? el("p", { class: "meta seen" }, told) : null),
    seen ? null : el("div", null, el("button", { type: "button", on: { click: () => openDialog(one) }, "aria-label": `Acknowledge ${one.text}` }, "Acknowledge")));
}

function drawAlerts(told) {
  const open = told.alerts;
  show($("no-alerts"), !open.length);
  const unseen = open.filter((one) => !one.acknowledged).length;
  $("alert-count").textContent = open.length ? `${open.length}, ${unseen} not acknowledged` : "";
  document.title = `${unseen ? `(${unseen}) ` : ""}${told.worker.pipeline} · Headrace`;
  const list = $("alerts");
  const there = new Map([...list.children].map((node) => [node.dataset.alert, node]));
  for (const gone of [...there.keys()].filter((id) => !open.some((one) => one.id === id))) { there.get(gone).remove(); drawn.delete(`alert ${gone}`); }
  open.forEach((one, at) => {
    let node = there.get(one.id);
    if (changed(`alert ${one.id}`, one) || !node) { const made = alertItem(one); if (node?.isConnected) node.replaceWith(made); node = made; }
    if (list.children[at] !== node) list.insertBefore(node, list.children[at] || null);
  });
}

let asked = null;
function openDialog(one) {
  asked = one;
  $("dialog-text").textContent = one.text;
  $("dialog-trouble").textContent = "";
  $("note").value = "";
  $("send").disabled = false;
  $("dialog").showModal();
}
$("cancel").addEventListener("click", () => $("dialog").close());
$("form").addEventListener("submit", async (event) => {
  event.preventDefault();
  $("send").disabled = true;
  try {
    const answer = await fetch("/page/acknowledge", {
      method: "POST", credentials: "same-origin", headers: { "Content-Type": "application/json", "X-Headrace-Page": guard },
      body: JSON.stringify({ id: asked.id, by: $("by").value, note: $("note").value }),
    });
    if (!answer.ok) throw new Error((await answer.text()).trim());
    const seen = await answer.json();
    if (newest) { newest.alerts = newest.alerts.map((one) => (one.id === seen.id ? { ...one, acknowledged: seen } : one)); drawAlerts(newest); }
    $("dialog").close();
    $("main").focus();
    tell("Acknowledged.");
  } catch (error) {
    $("dialog-trouble").textContent = error instanceof TypeError ? "The worker does not answer. Nothing was published; try again." : error.message;
  }
  $("send").disabled = false;
});
function tell(text) { $("said").textContent = text; setTimeout(() => { $("said").textContent = ""; }, 4000); }

// All of it.

function drawHead(told) {
  const { worker, health } = told;
  $("what").textContent = `${worker.instance} on ${worker.host} · ${worker.guarantee} · version ${worker.version} · since ${when(worker.since)} UTC`;
  const states = [[health.ready, health.ready === "ready"], [health.live, health.live === "live"]];
  if (changed("states", states)) $("states").replaceChildren(...states.map(([word, good]) => el("li", { class: `state ${good ? "good" : "bad"}` }, word)));
  const trouble = [...health.missing, ...(health.still.length ? [`${health.still.join(", ")} stand still`] : [])];
  setTrouble(trouble.length ? `Not ready: ${trouble.join("; ")}.` : "");
  $("footer").textContent = `Headrace ${worker.headrace}. Counters are since this worker started; rates are over 5 s, latencies over 15 s. ${told.listeners} ${told.listeners === 1 ? "page listens" : "pages listen"}.`;
}
function setTrouble(text) { if (changed("trouble", text)) { $("trouble").textContent = text; show($("trouble"), !!text); } }

function draw(told) {
  for (const part of [drawHead, drawTiles, drawGraph, drawBusy, drawAlerts, drawHistory, drawQuality, drawScores, drawWatched, drawDrift, drawWorkers, drawModels, drawPredictions, drawLetters]) part(told);
  document.body.dataset.number = told.number;
}

function take(told) {
  if (run !== null && run !== told.worker.run) { location.reload(); return; } // another worker: its button has another guard
  run = told.worker.run;
  told.watched ??= newest?.watched; // it is told when it is new, and now and then
  newest = told;
  if (told.history) history = told.history;
  if (!history.length || history.at(-1).at < told.point.at) history.push(told.point);
  history = history.filter((one) => one.at > told.at - KEPT_SECONDS);
  if (!document.hidden) requestAnimationFrame(() => draw(newest));
}

let source = null;
function listen() {
  source = new EventSource("/page/events");
  source.addEventListener("message", (event) => take(JSON.parse(event.data)));
  source.addEventListener("error", () => {
    drawn.delete("states");
    $("states").replaceChildren(el("li", { class: "state bad" }, "not connected"));
    setTrouble("The worker does not answer; what is shown is as it was. Trying again.");
    if (source.readyState === EventSource.CLOSED) { source.close(); setTimeout(listen, 3000); }
  });
}
$("measure").addEventListener("change", (event) => { measure = event.target.value; if (newest) drawQuality(newest); });
$("watched-pick").addEventListener("change", (event) => { looked = event.target.value; if (newest) drawWatched(newest); });
document.addEventListener("visibilitychange", () => { if (!document.hidden && newest) draw(newest); });
addEventListener("resize", () => { if (newest) requestAnimationFrame(() => draw(newest)); });
listen();

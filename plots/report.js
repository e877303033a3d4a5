// Draws the figures of the page's JSON as SVG: hover shows a point's values, a legend's button
// hides its series in every panel of the figure.
"use strict";

const SIZE = { width: 410, height: 300, left: 72, right: 26, bottom: 40, head: 24, strip: 12 };
const CELL = { width: 44, height: 24, left: 52, head: 24, bottom: 38 };
const DASHES = ["", "7 4", "2 3", "8 3 2 3"];
const NEEDS_WIDTH = 38; // of "590 GiB" beside its mark
const STRIPE = 3; // how much wider a curve is under the one that it equals
const STATUS = { out_of_memory: "✕ out of memory", skipped: "– skipped", error: "! error" };
const SATURATED = 32; // the speed-up at which a cell's colour is deepest
const SLOWER = [84, 39, 136], EVEN = [247, 247, 247], FASTER = [179, 88, 6];

function svg(name, attributes, ...children) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(...children);
  return element;
}

function text(x, y, anchor, content, attributes = {}) {
  return svg("text", { x, y, "text-anchor": anchor, ...attributes }, content);
}

function html(name, properties, ...children) {
  const element = Object.assign(document.createElement(name), properties);
  element.append(...children);
  return element;
}

// Regular shapes by matplotlib's codes: corners, turn in degrees, and a star's inner radius.
const SHAPES = {
  s: [4, 45], D: [4, 0], d: [4, 0], "^": [3, -90], v: [3, 90], "<": [3, 180], ">": [3, 0],
  p: [5, -90], h: [6, -90], H: [6, 0], 8: [8, 22.5],
  "*": [5, -90, 0.45], P: [4, 0, 0.45], X: [4, 45, 0.45],
};

function marker_path(code, radius) {
  if (!(code in SHAPES)) { // a circle
    const half = `a${radius},${radius} 0 1,0`;
    return `M${-radius},0${half} ${2 * radius},0${half} ${-2 * radius},0`;
  }
  const [count, turn, inner] = SHAPES[code];
  const steps = inner ? 2 * count : count;
  const narrow = code === "d" ? 0.6 : 1;
  const corners = Array.from({ length: steps }, (_, i) => {
    const angle = (turn + (i * 360) / steps) * (Math.PI / 180);
    const reach = radius * 1.2 * (inner && i % 2 ? inner : 1);
    const x = narrow * reach * Math.cos(angle), y = reach * Math.sin(angle);
    return `${x.toFixed(2)},${y.toFixed(2)}`;
  });
  return `M${corners.join("L")}Z`;
}

function marker(entry, x, y) {
  return svg("path", {
    d: marker_path(entry.marker, entry.implementation === "based" ? 4.5 : 3.8),
    transform: `translate(${x.toFixed(1)},${y.toFixed(1)})`,
    fill: entry.origin ? "#fff" : entry.colour,
    stroke: entry.origin ? entry.colour : "#fff",
    "stroke-width": entry.origin ? 1.3 : 0.6,
  });
}

function position(scale, from, to) {
  const warp = scale.log ? Math.log : (value) => value;
  const low = warp(scale.low), high = warp(scale.high);
  return (value) => from + ((warp(value) - low) / (high - low)) * (to - from);
}

// One series may have a published namesake: what a button hides is a label with its origin.
const key_of = (entry) => (entry.origin ? `${entry.label}: ${entry.origin}` : entry.label);

const tip = document.getElementById("tip");

function hover(element, content) {
  element.dataset.tip = content;
  element.addEventListener("pointerenter", (event) => {
    tip.textContent = content;
    tip.hidden = false;
    const rightmost = document.documentElement.clientWidth - tip.offsetWidth - 8;
    tip.style.left = `${Math.max(Math.min(event.pageX + 14, rightmost), 4)}px`;
    tip.style.top = `${event.pageY + 14}px`;
  });
  element.addEventListener("pointerleave", () => { tip.hidden = true; });
  return element;
}

function axis_labels(figure, left, right, top, bottom, below) {
  const middle = (top + bottom) / 2;
  return [
    text((left + right) / 2, bottom + below, "middle", figure.x.label, { class: "axis" }),
    svg("text", { class: "axis", "text-anchor": "middle",
      transform: `translate(11,${middle}) rotate(-90)` }, figure.y.label),
  ];
}

function canvas(figure, panel, width, height) {
  const label = `${figure.title}, ${panel.title}`;
  return svg("svg",
    { width, height, viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": label });
}

function line_panel(figure, panel) {
  const absent = [...new Set(panel.marks.map((mark) => mark.label))];
  const top = SIZE.head + SIZE.strip * absent.length;
  const bottom = top + SIZE.height - SIZE.head - SIZE.bottom;
  const left = SIZE.left, right = SIZE.width - SIZE.right;
  const { x: xs, y: ys } = figure.scales;
  const x = position(xs, left, right), y = position(ys, bottom, top);

  const root = canvas(figure, panel, SIZE.width, bottom + SIZE.bottom);
  root.append(text(left, 14, "start", panel.title, { class: "title" }));
  xs.ticks.forEach((tick, i) => root.append(
    svg("line", { class: "grid", x1: x(tick), x2: x(tick), y1: top, y2: bottom }),
    text(x(tick), bottom + 14, "middle", xs.texts[i])));
  ys.ticks.forEach((tick, i) => root.append(
    svg("line", { class: "grid", x1: left, x2: right, y1: y(tick), y2: y(tick) }),
    text(left - 6, y(tick) + 4, "end", ys.texts[i])));
  root.append(svg("path", { class: "frame", d: `M${left},${top}V${bottom}H${right}` }),
    ...axis_labels(figure, left, right, top, bottom, 32));

  const path = (curve) => "M" + curve.x.map(
    (value, i) => `${x(value).toFixed(1)},${y(curve.y[i]).toFixed(1)}`).join("L");
  for (const guide of panel.guides) {
    root.append(hover(svg("path", { class: "guide", d: path(guide) }), guide.label));
  }
  // The last drawn lies on top: ours over the others', `based` over all.
  const upwards = (a, b) => !a.origin - !b.origin || b.order - a.order;
  for (const series of [...panel.series].sort(upwards)) {
    root.append(curve(series, path(series), x, y));
  }
  absent.forEach((label, line) => {
    const marks = panel.marks.filter((mark) => mark.label === label);
    root.append(strip(figure, marks, top - SIZE.strip * (absent.length - line - 0.5), x));
  });
  return root;
}

function curve(series, path, x, y) {
  const group = svg("g", { class: "series", "data-key": key_of(series) });
  if (series.line && series.x.length > 1) {
    group.append(svg("path", {
      d: path, fill: "none", stroke: series.colour,
      "stroke-width": series.origin ? 1 : series.width + STRIPE * series.under,
      "stroke-dasharray": series.origin ? "1.5 3" : DASHES[series.dash % DASHES.length],
    }));
  }
  series.x.forEach((value, i) => {
    const point = marker(series, x(value), y(series.y[i]));
    point.classList.add("point");
    group.append(hover(point, series.hover[i]));
  });
  return group;
}

// One series' missing results, on a line above the panel.
function strip(figure, marks, y, x) {
  const left = SIZE.left, width = SIZE.width - SIZE.right - SIZE.left;
  const group = svg("g", { class: "absent", "data-key": marks[0].label },
    svg("rect", { class: "strip", x: left, y: y - 5, width, height: 10 }),
    marker(marks[0], left - 9, y));
  marks.forEach((mark, i) => {
    const [glyph, ...status] = STATUS[mark.status];
    const needs = mark.text && `needs ${mark.text}`;
    const told = [mark.label, `${figure.x.label} = ${mark.x}`, status.join("").trim(), needs,
      mark.reason];
    const sign = text(x(mark.x), y + 4, "middle", glyph, { class: "mark", fill: mark.colour });
    group.append(hover(sign, told.filter(Boolean).join("\n")));
    const room = i + 1 < marks.length ? x(marks[i + 1].x) - x(mark.x) : width;
    if (i === 0 && mark.text && room > NEEDS_WIDTH) {
      group.append(text(x(mark.x) + 7, y + 3, "start", mark.text, { class: "needs" }));
    }
  });
  return group;
}

function shade(value) {
  const depth = Math.max(-1, Math.min(1, Math.log(value) / Math.log(SATURATED)));
  const end = depth < 0 ? SLOWER : FASTER;
  const colour = EVEN.map((even, i) => Math.round(even + (end[i] - even) * Math.abs(depth)));
  return { fill: `rgb(${colour})`, ink: Math.abs(depth) > 0.55 ? "#fff" : "#222" };
}

function heat_panel(figure, panel) {
  const right = CELL.left + CELL.width * panel.columns.length;
  const bottom = CELL.head + CELL.height * panel.rows.length;
  const width = Math.max(right + 8, CELL.left + 7.8 * panel.title.length);
  const root = canvas(figure, panel, width, bottom + CELL.bottom);
  root.append(text(CELL.left, 14, "start", panel.title, { class: "title" }),
    ...axis_labels(figure, CELL.left, right, CELL.head, bottom, 30));
  panel.columns.forEach((_, i) => root.append(
    text(CELL.left + CELL.width * (i + 0.5), bottom + 14, "middle", panel.column_texts[i])));
  panel.rows.forEach((n, row) => {
    const y = bottom - CELL.height * (row + 1);
    root.append(text(CELL.left - 6, y + 16, "end", panel.row_texts[row]));
    panel.columns.forEach((b, column) => {
      const x = CELL.left + CELL.width * column;
      const value = panel.values[row][column], said = panel.texts[row][column];
      const look = value === null ? { fill: "#fff", ink: "#666" } : shade(value);
      const told = value === null ? said || "not measured"
        : `${value.toPrecision(3)} ${figure.value_label}`;
      root.append(hover(svg("g", { class: "cell" },
        svg("rect", { x, y, width: CELL.width - 1, height: CELL.height - 1, fill: look.fill }),
        text(x + CELL.width / 2, y + 16, "middle", said, { fill: look.ink })),
        `${panel.title}\nB=${b} N=${n}: ${told}`));
    });
  });
  return root;
}

function legend(figure, panels) {
  const entries = new Map();
  for (const entry of figure.panels.flatMap((panel) => [...panel.series, ...panel.marks])) {
    if (!entries.has(key_of(entry))) entries.set(key_of(entry), entry);
  }
  const box = html("div", { className: "legend" });
  const in_order = ([, a], [, b]) => !!a.origin - !!b.origin || a.order - b.order;
  for (const [key, entry] of [...entries].sort(in_order)) {
    const sign = svg("svg", { width: 14, height: 12 }, marker(entry, 7, 6));
    const button = html("button", { type: "button", ariaPressed: "true" }, sign, key);
    button.dataset.key = key;
    button.addEventListener("click", () => {
      const shown = button.ariaPressed !== "true";
      button.ariaPressed = String(shown);
      for (const group of panels.querySelectorAll("[data-key]")) {
        if (group.dataset.key === key) group.classList.toggle("hidden", !shown);
      }
    });
    box.append(button);
  }
  const notes = figure.panels.flatMap((panel) => [
    ...panel.guides.map((guide) => `╌╌ ${guide.label}`),
    ...panel.marks.map((mark) => STATUS[mark.status]),
  ]);
  for (const note of new Set(notes)) {
    box.append(html("span", { className: "note" }, note));
  }
  return box;
}

for (const figure of JSON.parse(document.getElementById("figures").textContent)) {
  const panels = html("div", { className: "panels" });
  const draw = figure.kind === "lines" ? line_panel : heat_panel;
  panels.append(...figure.panels.map((panel) => draw(figure, panel)));
  const place = document.getElementById(figure.id);
  place.append(html("h3", {}, figure.title));
  if (figure.kind === "lines") place.append(legend(figure, panels));
  place.append(panels, html("figcaption", {}, figure.caption));
}

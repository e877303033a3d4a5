// The page: every figure drawn by Vega, its series shown, hidden and isolated, and the tables sorted
// and filtered.
"use strict";

const FIGURES = JSON.parse(document.getElementById("figures").textContent);

function element(parent, name, properties = {}) {
  return parent.appendChild(Object.assign(document.createElement(name), properties));
}

async function draw(place) {
  const { spec, entries } = FIGURES[place.id];
  const chart = element(place, "div", { className: "chart" });
  const { view } = await vegaEmbed(chart, spec, { actions: false, renderer: "svg" });
  const first = entries.filter((entry) => entry.shown).map((entry) => entry.key);
  const every = entries.map((entry) => entry.key);
  let shown = first;

  const legend = element(place, "div", { className: "legend" });
  const buttons = entries.map((entry) => {
    const chip = element(legend, "span", { className: "chip" });
    const name = element(chip, "button", { className: "name", textContent: entry.label });
    name.style.setProperty("--colour", entry.colour);
    name.title = `${entry.key}: show or hide it`;
    name.onclick = () =>
      show(shown.includes(entry.key) ? shown.filter((k) => k !== entry.key) : [...shown, entry.key]);
    const only = element(chip, "button", { className: "only", textContent: "only" });
    only.title = "hide all others";
    only.onclick = () => show([entry.key]);
    return name;
  });
  for (const [text, keys] of [["as at first", first], ["all", every]]) {
    element(legend, "button", { textContent: text, onclick: () => show(keys) });
  }
  // A click on a mark isolates its series, and a second one brings the others back.
  view.addEventListener("click", (event, item) => {
    const key = item?.datum?.key;
    if (every.includes(key)) show(shown.length === 1 && shown[0] === key ? first : [key]);
  });

  function show(keys) {
    shown = keys;
    view.signal("shown", keys);
    view.signal("crowded", keys.some((key) => !first.includes(key)));
    view.resize().run(); // more names may need more room
    mark();
  }
  function mark() {
    buttons.forEach((button, i) => button.setAttribute("aria-pressed", shown.includes(every[i])));
  }
  mark();
  place.dataset.drawn = "yes";
}

function sortable(table) {
  const body = table.tBodies[0];
  [...table.tHead.rows[0].cells].forEach((heading, column) => {
    let down = false;
    heading.onclick = () => {
      const value = (row) => {
        const cell = row.cells[column];
        return "value" in cell.dataset ? Number(cell.dataset.value) : cell.textContent;
      };
      const rows = [...body.rows].sort((one, other) => {
        const [a, b] = [value(one), value(other)];
        if (typeof a === "number" && typeof b === "number") return a - b;
        if (typeof a !== typeof b) return typeof a === "number" ? -1 : 1; // without one: last
        return a.localeCompare(b);
      });
      body.append(...(down ? rows.reverse() : rows));
      down = !down;
    };
  });
  const filter = document.createElement("input");
  filter.type = "search";
  filter.placeholder = "rows that have all these words";
  filter.oninput = () => {
    const words = filter.value.toLowerCase().split(/\s+/);
    for (const row of body.rows) {
      const text = row.textContent.toLowerCase();
      row.hidden = !words.every((word) => text.includes(word));
    }
  };
  table.before(filter);
}

document.querySelectorAll("table.sortable").forEach(sortable);
const drawn = Promise.all([...document.querySelectorAll("figure")].map(draw));

// Charts of bars, one for each day. They are drawn as wide as they are shown, so that their texts keep their size.

import { draw, make } from "../common/dom.js";
import { day, number, t } from "../common/texts.js";
import { table, row, lead, cell } from "./parts.js";

const HEIGHT = 220;
const SPACE = { left: 64, right: 8, top: 12, bottom: 28 };
let count = 0;

/** A round number that is not below `most`: 1, 2 or 5 times a power of ten. */
export function ceiling(most) {
  if (most <= 0) return 1;
  const power = 10 ** Math.floor(Math.log10(most));
  return [1, 2, 5, 10].map((times) => times * power).find((value) => value >= most);
}

/** The values that have a line: none between two whole numbers where only those are counted. */
export const ticks = (top, isCount) => [0, top / 2, top].filter((value) => !isCount || Number.isInteger(value));

/** A chart with its numbers as a table. `days` are dates of the API, `series` `{ name, label, values }` with a value per day, on top of each
 *  other; `format` writes a value, `short` one at the axis; `isCount` says that values are whole. It follows its width until `signal` is
 *  aborted. */
export function chart({ title, summary, days, series, format, short = number, isCount = false, signal }) {
  const id = `chart-${++count}`;
  const place = make("div", { class: "chart" });
  const image = (width) => picture({ id, title, summary, days, series, format, short, isCount, width });
  let drawn = 0;
  const watcher = new ResizeObserver(
    ([
      {
        contentRect: { width },
      },
    ]) => {
      if (Math.abs(width - drawn) < 1 || width < 1) return;
      place.classList.toggle("drawing", drawn === 0);
      place.replaceChildren(image((drawn = width)));
    },
  );
  watcher.observe(place);
  signal.addEventListener("abort", () => watcher.disconnect());
  return make(
    "div",
    {},
    make("h3", {}, title),
    make("p", {}, summary),
    place,
    series.length > 1 && legend(series),
    numbers(title, days, series, format),
  );
}

function picture({ id, title, summary, days, series, format, short, isCount, width }) {
  const sums = days.map((_, at) => series.reduce((sum, { values }) => sum + values[at], 0));
  const top = ceiling(Math.max(...sums, 0));
  const y = (value) => SPACE.top + (HEIGHT - SPACE.top - SPACE.bottom) * (1 - value / top);
  const step = (width - SPACE.left - SPACE.right) / days.length;
  const bars = days.map((date, at) => bar({ date, at, step, series, y, format }));
  return draw(
    "svg",
    { viewBox: `0 0 ${width} ${HEIGHT}`, width, height: HEIGHT, role: "img", "aria-labelledby": `${id}-title ${id}-desc` },
    draw("title", { id: `${id}-title` }, title),
    draw("desc", { id: `${id}-desc` }, summary),
    ticks(top, isCount).map((value) => line(value, y(value), width, short)),
    bars,
    dates(days, step),
  );
}

const line = (value, y, width, short) => [
  draw("line", { class: "rule", x1: SPACE.left, x2: width - SPACE.right, y1: y, y2: y }),
  draw("text", { x: SPACE.left - 8, y: y + 4, "text-anchor": "end" }, short(value)),
];

function bar({ date, at, step, series, y, format }) {
  let below = 0;
  const x = SPACE.left + at * step + step * 0.12;
  return draw(
    "g",
    { class: "bar" },
    series.map(({ name, label, values }) => {
      const from = below;
      below += values[at];
      if (!values[at]) return null;
      return draw(
        "rect",
        { class: "piece", "data-series": name, x, width: Math.max(step * 0.76, 0.5), y: y(below), height: Math.max(y(from) - y(below), 1) },
        draw("title", {}, `${day(date)}: ${label} ${format(values[at])}`),
      );
    }),
  );
}

/** As many dates as have room. */
function dates(days, step) {
  const every = Math.max(1, Math.ceil(80 / step));
  return days.map((date, at) =>
    at % every
      ? null
      : draw(
          "text",
          { x: SPACE.left + (at + 0.5) * step, y: HEIGHT - 8, "text-anchor": "middle" },
          day(date, { day: "numeric", month: "short" }),
        ),
  );
}

const legend = (series) =>
  make(
    "ul",
    { class: "legend" },
    series.map(({ name, label }) => make("li", {}, make("span", { class: "swatch", "data-series": name, "aria-hidden": "true" }), label)),
  );

function numbers(title, days, series, format) {
  const columns = [t("admin.chart.day"), ...series.map(({ label }) => ({ text: label, class: "number" }))];
  const all = days.map((date, at) => row(lead(day(date)), ...series.map(({ values }) => cell({ class: "number" }, format(values[at])))));
  return make("details", {}, make("summary", {}, t("admin.chart.numbers")), table(title, columns, all.reverse()));
}

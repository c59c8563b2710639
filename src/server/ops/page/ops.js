// Asks the process once a second how it is, and shows it.

import { by, draw, keyed, make, row, say } from "./dom.js";
import { STATES, judge, troubles } from "./health.js";
import { drawMap } from "./map.js";
import { Samples, clock, duration, keyOf, number, perSecond, percent } from "./numbers.js";
import { showRequests, startFinding } from "./requests.js";
import { showHour, showTables } from "./tables.js";

const INTERVAL = 1000, HIDDEN = 5000, PATIENCE = 3000;
const COLUMNS = ["Call", "State", "Rate", "Errors", "p99", "In flight", "Breaker", "Two minutes"];
const samples = new Samples();
let paused = false;

/** Each arrow of `state` with what became of it, its state and its texts. */
function judged(state) {
  return state.arrows.map((arrow) => {
    const now = samples.of(arrow);
    const verdict = judge(arrow, now, state.missing, state.neighbours);
    const name = `${arrow.from.join(", ")} → ${arrow.to}${arrow.what === "keys" ? " (keys)" : ""}`;
    const numbers = now ? [perSecond(now.rate), now.calls ? percent(now.share) : "–", duration(now.p99)] : ["–", "–", "–"];
    const { sign, word } = STATES[verdict.state], [rate, ...others] = numbers;
    const label = verdict.state === "down" ? [`${sign} ${word}`, ""]
      : now?.calls ? [`${sign} ${rate}`, others.filter((text) => text !== "–").join(" · ")] : [];
    return { arrow, name, now, numbers, label, ...verdict };
  });
}

/** The rates of two minutes as a line; the number beside it says the same of now. */
function sparkline(rates) {
  const most = Math.max(...rates, 1), points = rates.map((rate, at) => `${100 - (rates.length - 1 - at) * (100 / 120)},${19 - (rate / most) * 18}`);
  return draw("svg", { class: "spark", viewBox: "0 0 100 20", preserveAspectRatio: "none", "aria-hidden": "true" },
    draw("polyline", { points: points.join(" ") }));
}

function showArrows(arrows) {
  keyed(by("arrows"), arrows, ({ arrow }) => keyOf(arrow), () => row(COLUMNS), (line, { arrow, name, numbers, state, why }) => {
    const { sign, word } = STATES[state], callee = arrow.callee;
    line.className = state;
    const texts = [name, why ? `${sign} ${word}: ${why}` : `${sign} ${word}`, ...numbers,
      callee ? `${callee.inFlight} of ${callee.concurrency}` : "–", callee ? callee.breaker : "–"];
    texts.forEach((text, at) => say(line.children[at], text));
    line.children[7].replaceChildren(sparkline(samples.rates(arrow)));
  });
}

/** One line that says whether all is well, and where it is not. */
function showVerdict(found) {
  const worst = found[0]?.state ?? "ok", rank = STATES[worst].rank;
  const word = rank >= 3 ? `${STATES[worst].sign} Not well` : rank === 2 ? "◐ Well, but look" : "● All is well";
  by("verdict").dataset.state = worst;
  say(by("word"), word);
  keyed(by("troubles"), found, (_, at) => `${at}`, () => make("li"), (item, { state, text }) => {
    say(item, `${STATES[state].sign} ${text}`);
  });
  document.title = `${word} – shop`;
  const colour = rank >= 3 ? "%23b3261e" : rank === 2 ? "%23b26a00" : "%230b6e4f";
  const shape = rank >= 3 ? "M2 2 14 14M14 2 2 14" : "M8 3v10M3 8h10";
  by("icon").href = `data:image/svg+xml,<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 16 16'><path d='${shape}' stroke='${colour}' stroke-width='4'/></svg>`;
}

function show(state) {
  samples.add(state);
  const growth = (name) => samples.growth(name), arrows = judged(state);
  const here = state.roles.filter((role) => role.isHere).map((role) => role.name);
  say(by("process"), `${here.join(", ")} · version ${state.version}`);
  say(by("feed"), `${state.time.slice(11, 19)} UTC`);
  showVerdict(troubles(state, arrows, growth));
  drawMap(state, arrows);
  showArrows(arrows);
  showRequests(state.traces);
  showHour(state);
  showTables(state, growth);
}

/** Asks once. */
async function look() {
  try {
    const answer = await fetch("ops/state", { cache: "no-store", signal: AbortSignal.timeout(PATIENCE) });
    if (!answer.ok) throw new Error(`it answers ${answer.status}`);
    const state = await answer.json();
    if (!paused) show(state);
  } catch (error) {
    showVerdict([{ state: "down", text: `this process does not answer (${error.message}); what is below is old` }]);
  }
}

/** Asks again and again; while the tab is in the background, now and then, for its title and its icon. */
async function run() {
  for (let asked = -Infinity; ;) {
    const began = performance.now();
    if (!paused && began - asked >= (document.hidden ? HIDDEN : INTERVAL)) {
      asked = began;
      await look();
    }
    await new Promise((resolve) => setTimeout(resolve, Math.max(100, INTERVAL - (performance.now() - began))));
  }
}

/** Nobody knows how the process is while the page is paused. */
function showPause() {
  by("verdict").dataset.state = "idle";
  say(by("word"), `○ Paused at ${clock(new Date())} UTC`);
  document.title = "○ Paused – shop";
}

by("pause").addEventListener("click", () => {
  paused = !paused;
  by("pause").setAttribute("aria-pressed", `${paused}`);
  if (paused) showPause();
});
run();
startFinding();

// Pools, caches, the outbox, the process, and the last hour.

import { by, draw, keyed, make, row, say } from "./dom.js";
import { bytes, clock, duration, number, percent } from "./numbers.js";

/** Writes `rows` of texts into the table body `id`; the first text of a row is its key. */
function fill(id, columns, rows) {
  keyed(by(id), rows, ([name]) => name, () => row(columns), (line, texts) => {
    texts.forEach((text, at) => say(line.children[at], text));
  });
}

export function showTables(state, growth) {
  fill("pool-rows", ["Store", "In use", "Waiting", "Timeouts"], state.pools.map(({ name, used, max, waiting, timeouts }) =>
    [name, `${used} of ${max}`, `${waiting}`, `${timeouts}`]));
  fill("cache-rows", ["Cache", "Hits", "Reads"], state.caches.map(({ name, hits, stale, misses }) => {
    const reads = hits + stale + misses;
    return [name, reads ? percent((hits + stale) / reads) : "–", number(reads)];
  }));
  fill("outbox-rows", ["Role", "Waiting", "Oldest"], state.outbox.map(({ role, depth, ageSeconds }) =>
    [role, `${depth}`, depth ? duration(ageSeconds) : "–"]));
  const { process } = state, cpu = growth("cpuSeconds");
  fill("process-rows", ["", ""], [
    ["Requests in flight", number(process.activeRequests)],
    ["CPU", cpu.seconds ? `${number((cpu.by / cpu.seconds) * 100)} % of a core` : "–"],
    ["Memory", bytes(process.residentBytes)],
    ["Open files", `${number(process.openFiles)} of ${number(process.mostFiles)}`],
    ["Up for", duration(Date.parse(state.time) / 1000 - process.startedSeconds)],
    ["Background tasks", number(process.tasks)],
    ["Panics of requests and tasks", `${process.requestPanics} and ${process.taskPanics}`],
    ["Log lines dropped", number(process.droppedLines)],
    ["Dead letters", number(process.deadLetters)],
  ]);
}

/** How high a state stands in the strip: what is worse is higher. */
const HEIGHTS = { ready: 6, degraded: 13, starting: 20, draining: 20 };

/** The strip of the last hour, and what was wrong in words. */
export function showHour({ history, time }) {
  const now = Date.parse(time) / 1000;
  const bars = history.map(({ from, until, status }) => {
    const x = Math.max(0, 3600 - (now - from)), end = Math.min(3600, 3600 - (now - until));
    const height = HEIGHTS[status];
    return draw("rect", { x, y: 20 - height, width: Math.max(8, end - x), height, class: status });
  });
  by("strip").replaceChildren(...bars);
  const at = (seconds) => clock(new Date(seconds * 1000));
  const incidents = history.filter((span) => span.status !== "ready");
  const lasted = (is) => history.filter(is).reduce((sum, { from, until }) => sum + until - from, 0);
  const whole = history.length ? now - history[0].from : 0;
  const parts = [["degraded", lasted(({ status }) => status === "degraded")],
    ["not ready", lasted(({ status }) => status === "starting" || status === "draining")],
    ["not known", Math.max(0, whole - lasted(() => true))]].filter(([name, seconds]) => seconds > (name === "not known" ? 30 : 0));
  const told = parts.map(([name, seconds]) => `${name} for ${duration(seconds)}`).join(", ");
  const text = told ? `${told[0].toUpperCase()}${told.slice(1)} of the last ${duration(whole)}.` : `Ready for all of the last ${duration(whole)}.`;
  say(by("ready"), text);
  by("strip").setAttribute("aria-label", text);
  keyed(by("incidents"), incidents.reverse(), (span) => `${span.from}`, () => make("li"), (item, span) => {
    say(item, `${at(span.from)} to ${at(span.until)} UTC: ${span.status}${span.missing.length ? `, missing ${span.missing.join(", ")}` : ""}`);
  });
}

// Slow and failed requests: a list, the course of each as a waterfall, and its lines of the log.

import { by, draw, keyed, make, say } from "./dom.js";
import { clock, duration } from "./numbers.js";

/** Attributes that the name of a span or the head of its trace says already. */
const SAID = ["http.request.method", "http.route", "url.scheme", "shop.request_id", "service.peer.name", "db.operation.name", "messaging.operation.name"];

/** What is known of the request with `id`: null if nothing is. */
async function ask(id) {
  const answer = await fetch(`ops/requests/${encodeURIComponent(id)}`, { cache: "no-store" });
  if (answer.status === 404) return null;
  if (!answer.ok) throw new Error(`the process answers ${answer.status}`);
  return answer.json();
}

/** How deep each span is below those that it is a part of. */
function depths(spans) {
  const found = new Map();
  for (const { id, parent } of spans) found.set(id, found.has(parent) ? found.get(parent) + 1 : 0);
  return found;
}

function bar({ startMs, durationMs, error }, whole) {
  const left = (startMs / whole) * 100, width = Math.max(0.6, (durationMs / whole) * 100);
  return draw("svg", { class: "bar", viewBox: "0 0 100 10", preserveAspectRatio: "none", "aria-hidden": "true" },
    draw("rect", { x: 0, y: 4.5, width: 100, height: 1, class: "rail" }),
    draw("rect", { x: Math.min(left, 99.4), y: 1, width, height: 8, class: error ? "bad" : "good" }));
}

/** The spans of a trace as a table, with a bar from the beginning to the end of each. */
function waterfall({ spans, durationMs, droppedSpans }) {
  const deep = depths(spans), whole = Math.max(durationMs, ...spans.map((span) => span.startMs + span.durationMs), 0.001);
  const rows = spans.map((span) => {
    const name = make("th", { scope: "row", role: "rowheader", class: `deep-${Math.min(deep.get(span.id), 8)}` }, span.name);
    const more = span.attributes.filter(([key]) => !SAID.includes(key)).map(([key, value]) => `${key}=${value}`).join(" ");
    name.append(make("span", { class: "soft" }, ` ${span.role} ${span.kind}`));
    if (more) name.append(make("span", { class: "more soft" }, more));
    if (span.error) name.append(make("span", { class: "more wrong" }, `✕ ${span.error}`));
    const cell = (attributes, content) => make("td", { role: "cell", ...attributes }, content);
    return make("tr", { role: "row" }, name, cell({ "data-label": "Start" }, duration(span.startMs / 1000)),
      cell({ "data-label": "Took" }, duration(span.durationMs / 1000)), cell({ class: "course" }, bar(span, whole)));
  });
  const head = make("tr", { role: "row" }, ["Span", "Start", "Took", "Course"].map((name) => make("th", { scope: "col", role: "columnheader" }, name)));
  const table = make("table", { class: "waterfall", role: "table" }, make("caption", {}, `Waterfall of ${spans.length} spans in this process`),
    make("thead", { role: "rowgroup" }, head), make("tbody", { role: "rowgroup" }, rows));
  return [table, droppedSpans ? make("p", { class: "soft" }, `${droppedSpans} more spans had no place`) : null];
}

/** All that is known of a request. */
function course(known) {
  const parts = [];
  const { trace, lines } = known;
  if (trace) {
    parts.push(make("p", { class: "ids soft" }, "request ", make("code", {}, trace.requestId), " trace ", make("code", {}, trace.traceId)),
      waterfall(trace));
  } else parts.push(make("p", { class: "soft" }, "There is no waterfall of it: it was neither slow nor failed, or nobody looked and traces.always is off."));
  if (lines.length) {
    parts.push(make("h4", {}, "Log"),
      make("pre", { tabindex: "0", role: "region", "aria-label": "Lines of the log" }, lines.map((line) => `${readable(line)}\n`)));
  } else parts.push(make("p", { class: "soft" }, "The log has no lines of it, or no longer."));
  return parts.flat().filter(Boolean);
}

/** A line of JSON as a person reads it: time, level, role, message and what else there is. */
function readable(line) {
  try {
    const { time, level, role, message, requestId, traceId, spanId, ...more } = JSON.parse(line);
    const rest = Object.entries(more).map(([key, value]) => `${key}=${typeof value === "string" ? value : JSON.stringify(value)}`);
    return [time?.slice(11, 23), level?.toUpperCase().padEnd(5), role ?? "", message, ...rest].join(" ");
  } catch {
    return line;
  }
}

function item(trace) {
  const state = trace.failed ? "failing" : "slow";
  const summary = make("summary", {},
    make("span", { class: `sign ${state}` }, trace.failed ? "✕ failed" : "◷ slow"), make("code", {}, trace.inner ?? trace.name),
    make("span", {}, trace.status ? `${trace.status}` : "no answer"), make("span", {}, duration(trace.durationMs / 1000)),
    make("span", { class: "soft" }, `${trace.role} ${trace.name}, at ${clock(new Date(trace.startedAt))} UTC`));
  const body = make("div", { class: "body" });
  const details = make("details", { class: "request" }, summary, body);
  details.addEventListener("toggle", async () => {
    if (!details.open || body.childElementCount) return;
    try {
      const known = await ask(trace.traceId);
      body.replaceChildren(...(known ? course(known) : [make("p", {}, "It is no longer kept.")]));
    } catch (error) {
      say(body, `The process does not answer: ${error.message}`);
    }
  });
  return details;
}

/** Shows the list; what is open stays open. */
export function showRequests(traces) {
  by("none").hidden = traces.length > 0;
  keyed(by("traces"), traces, ({ traceId, startedAt, name }) => `${traceId} ${startedAt} ${name}`, item);
}

async function find(id) {
  const found = by("found");
  try {
    const known = await ask(id);
    const head = make("h3", { tabindex: "-1" }, known?.trace ? `${known.trace.name} got ${known.trace.status || "no answer"}` : `Request ${id}`);
    found.replaceChildren(make("article", {}, head,
      known ? course(known) : make("p", {}, "Nothing is kept of it in this process: neither a trace nor a line of the log.")));
    head.focus();
  } catch (error) {
    say(found, `The process does not answer: ${error.message}`);
  }
}

/** Finds the request that the form or the address names: `/ops#request=ID` can be sent to a colleague. */
export function startFinding() {
  const named = () => {
    const text = location.hash.match(/^#request=(.+)$/)?.[1] ?? "";
    try {
      return decodeURIComponent(text);
    } catch {
      // Somebody has written it by hand.
      return text;
    }
  };
  const follow = () => {
    const id = named();
    if (!id) return;
    by("id").value = id;
    find(id);
  };
  by("find").addEventListener("submit", (event) => {
    event.preventDefault();
    const id = by("id").value.trim();
    if (!id) return;
    if (id === named()) find(id);
    else location.hash = `request=${encodeURIComponent(id)}`;
  });
  addEventListener("hashchange", follow);
  follow();
}

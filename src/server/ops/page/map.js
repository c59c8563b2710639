// Draws the calls between places.

import { by, draw } from "./dom.js";
import { STATES } from "./health.js";

const COLUMNS = { clients: 62, gateway: 260, middle: 500, events: 650, product: 760, end: 1012 };
const WIDE = 1100, ROW = 96, TOP = 44, HALF = { role: 56, end: 82 }, TALL = 22;

/** Where on the way to them arrows say something, where others are near. */
const SPOTS = { events: 0.84, payments: 0.7 };

/** Where everything is: roles in the order of their calls, and what they keep things in at the right. */
function places(state, arrows) {
  const found = new Map();
  const put = (name, x, line, kind, note = "") => found.set(name, { name, x, y: TOP + line * ROW, kind, note });
  const known = new Map(state.roles.map((role) => [role.name, role]));
  const note = ({ isHere, addresses }) => (isHere ? "here" : short(addresses.map((url) => url.replace(/^https?:\/\//, "").replace(/\/$/, "")).join(", ")));
  put("clients", COLUMNS.clients, 1, "role", "");
  const columns = { gateway: ["gateway", 1], user: ["middle", 0], product: ["product", 1], order: ["middle", 2] };
  for (const [name, role] of known) put(name, COLUMNS[columns[name]?.[0] ?? "middle"], columns[name]?.[1] ?? 3, "role", note(role));
  // Where no line to it crosses a role.
  if (arrows.some(({ arrow }) => arrow.to === "events")) put("events", COLUMNS.events, 3, "role", state.events);
  const ends = [...new Set(arrows.map(({ arrow }) => arrow.to))].filter((name) => !found.has(name));
  const rank = (name) => ["user", "product", "gateway", "order", "payments"].indexOf(name.split(".")[0]);
  const order = (name) => (rank(name) < 0 ? 9 : rank(name));
  const systems = new Map(state.pools.map((pool) => [pool.name, pool.system]));
  ends.sort((one, other) => order(one) - order(other));
  const gap = Math.min(1, 3 / Math.max(1, ends.length - 1));
  ends.forEach((name, at) => put(name, COLUMNS.end, at * gap, "end", systems.get(name) ?? (name === "payments" ? state.payments : "upstream")));
  return found;
}

/** Where the line from `start` towards `end` leaves the box of `start`. */
function edge(start, end) {
  const [dx, dy] = [end.x - start.x, end.y - start.y];
  const [width, height] = [HALF[start.kind] + 4, TALL + 4];
  const scale = Math.min(dx ? width / Math.abs(dx) : Infinity, dy ? height / Math.abs(dy) : Infinity);
  return { x: start.x + dx * scale, y: start.y + dy * scale };
}

const short = (text) => (text.length > 22 ? `${text.slice(0, 21)}…` : text);

/** What an arrow says of itself, above the line and below. */
function tag([above, below], { x, y }, state) {
  const width = Math.max(above.length, below.length) * 6 + 6;
  return draw("g", { class: `tag ${state}` }, draw("rect", { x: x - width / 2, y: y - 16, width, height: 32, rx: 4 }),
    draw("text", { x, y: below ? y - 4 : y + 4 }, above), draw("text", { x, y: y + 11 }, below));
}

function line(start, end, { state, label }, at, shift) {
  const [a, b] = [edge(start, end), edge(end, start)];
  const length = Math.hypot(b.x - a.x, b.y - a.y) || 1;
  const [ux, uy] = [(b.x - a.x) / length, (b.y - a.y) / length];
  for (const point of [a, b]) Object.assign(point, { x: point.x - uy * shift, y: point.y + ux * shift });
  const head = [[b.x, b.y], [b.x - ux * 9 - uy * 4, b.y - uy * 9 + ux * 4], [b.x - ux * 9 + uy * 4, b.y - uy * 9 - ux * 4]];
  const group = draw("g", { class: `arrow ${state}` },
    draw("line", { x1: a.x, y1: a.y, x2: b.x - ux * 7, y2: b.y - uy * 7 }),
    draw("polygon", { points: head.map((point) => point.join(",")).join(" ") }));
  const middle = { x: a.x + (b.x - a.x) * at, y: a.y + (b.y - a.y) * at };
  return { group, tag: label.length ? tag(label, middle, state) : null };
}

/** Draws the `arrows`, which are judged and have a label. */
export function drawMap(state, arrows) {
  const at = places(state, arrows), map = by("map");
  const height = Math.max(...[...at.values()].map((place) => place.y)) + TOP;
  map.setAttribute("viewBox", `0 0 ${WIDE} ${height}`);
  const lines = arrows.flatMap((judged) => {
    const { arrow } = judged, end = at.get(arrow.to);
    return arrow.from.filter((from) => at.has(from)).map((from, number) => {
      const start = at.get(from);
      // Labels of lines that cross do not lie on each other.
      const where = SPOTS[arrow.to] ?? (Math.abs(end.x - start.x) > 260 || start.x === end.x ? 0.3 : 0.5);
      const label = number || arrow.what === "keys" ? [] : judged.label;
      return line(start, end, { ...judged, label }, where, arrow.what === "keys" ? 10 : 0);
    });
  });
  const worst = (name) => arrows.filter(({ arrow, state }) => arrow.to === name && state === "down").length > 0;
  const boxes = [...at.values()].map(({ name, x, y, kind, note }) => {
    const state = worst(name) ? "down" : "ok", half = HALF[kind];
    return draw("g", { class: `place ${kind} ${state}` },
      draw("rect", { x: x - half, y: y - TALL, width: 2 * half, height: 2 * TALL, rx: kind === "end" ? 14 : 6 }),
      draw("text", { x, y: note ? y - 2 : y + 4 }, state === "down" ? `${STATES.down.sign} ${name}` : name),
      note ? draw("text", { x, y: y + 13, class: "note" }, note) : null);
  });
  // Nothing hides what an arrow says.
  map.replaceChildren(...lines.map(({ group }) => group), ...boxes, ...lines.map(({ tag }) => tag).filter(Boolean));
}

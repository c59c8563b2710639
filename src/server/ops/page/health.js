// What is well and what is not.

/** The share of errors from which calls count as failing, and the age of an event that should have gone. */
const FAILING = 0.05, OLD = 60;

/** How bad a state is; each has a sign of its own, so that none is told by its colour alone. */
export const STATES = {
  idle: { rank: 0, sign: "○", word: "idle" },
  ok: { rank: 1, sign: "●", word: "well" },
  strained: { rank: 2, sign: "◐", word: "strained" },
  failing: { rank: 3, sign: "▲", word: "failing" },
  down: { rank: 4, sign: "✕", word: "down" },
};

/** The state of the calls of `arrow`, and why. `now` is what became of them in the last seconds; `neighbours` are roles elsewhere,
 *  as they say themselves. */
export function judge(arrow, now, missing, neighbours = []) {
  const there = neighbours.find(({ role }) => role === arrow.to), ill = there && there.status !== "ready";
  const lacks = there?.missing.length ? `, missing ${there.missing.join(", ")}` : "";
  const gone = arrow.checks.find((name) => missing.includes(name));
  const { breaker = "closed", ejected = [], waiting = 0 } = arrow.callee ?? {};
  if (gone) return { state: "down", why: `${gone} is missing` };
  if (there?.status === "away") return { state: "down", why: "it does not answer" };
  if (breaker === "open") return { state: "down", why: "its breaker is open" };
  if (now?.errors && now.share >= FAILING) return { state: "failing", why: `${now.errors} of ${now.calls} calls failed` };
  if (ill) return { state: there.status === "starting" ? "down" : "strained", why: `it is ${there.status}${lacks}` };
  if (breaker === "half-open") return { state: "strained", why: "its breaker tries again" };
  if (ejected.length) return { state: "strained", why: `left out: ${ejected.join(", ")}` };
  if (waiting) return { state: "strained", why: `${waiting} calls wait for a place` };
  if (now?.errors) return { state: "strained", why: `${now.errors} of ${now.calls} calls failed` };
  return { state: now?.calls ? "ok" : "idle", why: "" };
}

/** What is wrong in the whole process, the worst first: each with a state and a text. `arrows` are judged. */
export function troubles(state, arrows, growth) {
  const found = arrows.filter(({ state }) => STATES[state].rank > 1)
    .map(({ name, state, why }) => ({ state, text: `${name}: ${why}` }));
  const told = arrows.flatMap(({ arrow }) => arrow.checks);
  const note = (state, text) => found.push({ state, text });
  for (const name of state.missing.filter((name) => !told.includes(name))) note("down", `${name} is missing`);
  if (state.status === "starting") note("down", "the process is starting");
  if (state.status === "draining") note("strained", "the process is stopping");
  for (const thread of state.stuck) note("down", `thread ${thread} is stuck`);
  for (const { name, used, max, waiting } of state.pools) {
    if (waiting && used >= max) note("strained", `${name}: all ${max} connections are in use, ${waiting} calls wait`);
  }
  for (const { role, depth, ageSeconds } of state.outbox) {
    if (ageSeconds > OLD) note("strained", `outbox of ${role}: ${depth} events wait, the oldest for ${Math.round(ageSeconds)} s`);
  }
  const grown = { requestPanics: "requests panicked", taskPanics: "tasks panicked", droppedLines: "log lines were dropped", deadLetters: "events became dead letters" };
  for (const [name, text] of Object.entries(grown)) {
    if (growth(name).by > 0) note("failing", `${growth(name).by} ${text}`);
  }
  return found.sort((one, other) => STATES[other.state].rank - STATES[one.state].rank);
}

// What the page makes of counters: `node numbers.mjs`, without a browser.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";

/** A module of the page that imports no other: Node takes files that end in `.js` for something else. */
function load(name) {
  const text = readFileSync(new URL(`../../src/server/ops/page/${name}`, import.meta.url), "utf8");
  return import(`data:text/javascript,${encodeURIComponent(text)}`);
}

const { judge, troubles } = await load("health.js");
const { Samples, duration, quantile } = await load("numbers.js");

const bounds = [0.1, 1, 10];
const arrow = { from: ["gateway"], to: "product", what: "requests", checks: ["peers.product"] };
const process = { startedSeconds: 1, requestPanics: 0, taskPanics: 0, droppedLines: 0, deadLetters: 0 };
const state = (millis, calls, errors, buckets, started = 1) => ({ millis, process: { ...process, startedSeconds: started },
  arrows: [{ ...arrow, tally: { calls, errors, bounds, buckets } }] });

// A quantile lies evenly within its bucket, as Prometheus estimates it; there is none without calls, and none beyond the bounds.
assert.equal(quantile(0.5, [0, 10, 0, 0], bounds), 0.55);
assert.equal(quantile(0.99, [100, 0, 0, 0], bounds), 0.099);
assert.equal(quantile(0.99, [0, 0, 0, 0], bounds), null);
assert.equal(duration(quantile(0.99, [1, 0, 0, 9], bounds)), "> 10 s");

// Rates are about the last ten seconds, and begin anew with the process.
const samples = new Samples();
samples.add(state(0, 1000, 900, [1000, 0, 0, 0]));
assert.equal(samples.of(arrow), null);
for (let second = 1; second <= 20; second++) samples.add(state(second * 1000, 1000 + 10 * second, 900 + second, [1000 + 10 * second, 0, 0, 0]));
const now = samples.of(arrow);
assert.deepEqual([now.calls, now.errors, now.rate, now.share], [100, 10, 10, 0.1]);
assert.deepEqual(samples.rates(arrow), Array(20).fill(10));
samples.add(state(20_500, 3, 0, [3, 0, 0, 0], 2));
assert.equal(samples.of(arrow), null);
samples.add(state(21_500, 5, 0, [5, 0, 0, 0], 2));
assert.equal(samples.of(arrow).rate, 2);

// What happened while the page was paused is not what happened in the last ten seconds.
samples.add(state(621_500, 9000, 0, [9000, 0, 0, 0], 2));
assert.equal(samples.of(arrow), null);
samples.add(state(622_500, 9010, 10, [9010, 0, 0, 0], 2));
assert.equal(samples.of(arrow).share, 1);

// An arrow is down when its end is missing or its breaker is open, failing from one error in twenty, and else well or idle.
const callee = (breaker, more = {}) => ({ ...arrow, callee: { breaker, ejected: [], waiting: 0, ...more } });
const calls = (calls, errors) => ({ calls, errors, share: errors / calls });
const told = (...parts) => judge(...parts).state;
assert.equal(told(callee("closed"), calls(20, 0), ["peers.product"]), "down");
assert.equal(told(callee("open"), null, []), "down");
assert.equal(told(callee("closed"), calls(20, 1), []), "failing");
assert.equal(told(callee("closed"), calls(100, 1), []), "strained");
assert.equal(told(callee("half-open"), calls(20, 0), []), "strained");
assert.equal(told(callee("closed", { ejected: ["http://b"] }), calls(20, 0), []), "strained");
assert.equal(told(callee("closed"), calls(20, 0), []), "ok");
assert.equal(told(callee("closed"), null, []), "idle");
for (const [status, state] of [["away", "down"], ["starting", "down"], ["degraded", "strained"], ["draining", "strained"], ["ready", "ok"]]) {
  assert.equal(told(callee("closed"), calls(20, 0), [], [{ role: "product", status, missing: [] }]), state, status);
}

// What no arrow tells is told beside them, the worst first.
const whole = { missing: ["auth.keys", "peers.product"], status: "draining", stuck: ["worker-1"], pools: [{ name: "user.database", used: 4, max: 4, waiting: 2 }],
  outbox: [{ role: "order", depth: 7, ageSeconds: 61 }] };
const found = troubles(whole, [{ arrow, name: "gateway → product", state: "down", why: "gone" }], (name) => ({ by: name === "taskPanics" ? 1 : 0 }));
assert.deepEqual(found.map(({ state }) => state), ["down", "down", "down", "failing", "strained", "strained", "strained"]);
for (const part of ["gateway → product: gone", "auth.keys is missing", "worker-1 is stuck", "1 tasks panicked", "all 4 connections", "7 events wait"]) {
  assert(found.some(({ text }) => text.includes(part)), part);
}
assert(!found.some(({ text }) => text.includes("peers.product is missing")));

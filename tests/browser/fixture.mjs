// States of a shop that nobody runs, the same each time: what the pictures of the page show.

const BOUNDS = [0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 10];
const NOW = Date.parse("2026-03-14T02:41:07Z") / 1000;
const TRACE = "4bf92f3577b34da6a3ce929d0e0e4736";

/** An arrow after `seconds` of `rate` calls a second, most of which take up to the bound number `usual`. */
function arrow(seconds, from, to, rate, usual, more = {}) {
  const { what = "requests", breaker, failed = 0, checks = [] } = more;
  // A wave, so that the charts show one.
  const calls = Math.round(rate * (seconds + 4 * Math.sin(seconds / 9)));
  const buckets = BOUNDS.concat(0).map((_, at) => (at === usual ? Math.round(calls * 0.97) : at === usual + 2 ? calls - Math.round(calls * 0.97) : 0));
  const callee = breaker && { breaker, inFlight: Math.round(rate / 40), concurrency: 1024, waiting: 0, ejected: [], retries: 0, refused: 0 };
  return { from, to, what, tally: { calls, errors: Math.round(calls * failed), ...(what === "events" ? { bounds: [], buckets: [] } : { bounds: BOUNDS, buckets }) }, callee: callee ?? null, checks };
}

/** What `ops/state` says `seconds` after the page was opened. */
export function state(seconds) {
  const closed = { breaker: "closed" }, at = (...parts) => arrow(seconds, ...parts);
  const now = NOW + seconds;
  return {
    time: new Date(now * 1000).toISOString(), millis: seconds * 1000, version: "0.1.0", status: "degraded", missing: ["product.cache"], neighbours: [],
    history: [{ from: now - 3600, until: now - 2400, status: "ready", missing: [] },
      { from: now - 2400, until: now - 2280, status: "degraded", missing: ["order.database"] },
      { from: now - 2280, until: now - 90, status: "ready", missing: [] },
      { from: now - 90, until: now, status: "degraded", missing: ["product.cache"] }],
    stuck: [], events: "rabbitmq", payments: "stripe",
    roles: ["gateway", "user", "product", "order"].map((name) => ({ name, isHere: true, isEntrance: name === "gateway", addresses: [] })),
    arrows: [at(["clients"], "gateway", 412, 5, { failed: 0.012 }), at(["gateway"], "user", 38, 7, closed), at(["gateway"], "product", 341, 5, closed),
      at(["gateway"], "order", 21, 8, { ...closed, failed: 0.18 }), at(["user", "order"], "product", 44, 4, closed), at(["user"], "order", 0, 4, closed),
      at(["order"], "order.database", 96, 4, { what: "store" }), at(["product"], "product.cache", 388, 2, { what: "store", checks: ["product.cache"] }),
      at(["product"], "product.database", 290, 4, { what: "store" }), at(["user"], "user.database", 71, 4, { what: "store" }),
      at(["user", "order"], "events", 12, 0, { what: "events" }), at(["order"], "payments", 9, 13, { what: "payments", failed: 0.41 })],
    pools: [["order.database", "postgresql", 6], ["product.cache", "redis", 0], ["product.database", "mongodb", 11], ["user.database", "postgresql", 3]]
      .map(([name, system, used]) => ({ name, system, used, max: 16, waiting: 0, timeouts: 0 })),
    caches: [{ name: "gateway", hits: 182_340 + 80 * seconds, stale: 210, misses: 9_120 }, { name: "product", hits: 96_512, stale: 1_024, misses: 14_880 + 300 * seconds }],
    outbox: [{ role: "order", depth: 3, ageSeconds: 1 }, { role: "user", depth: 0, ageSeconds: 0 }],
    process: { cpuSeconds: 4_210 + seconds * 0.34, residentBytes: 61_400_000, openFiles: 212, mostFiles: 20_000, startedSeconds: NOW - 190_000,
      activeRequests: 17, tasks: 46, taskPanics: 0, requestPanics: 0, droppedLines: 0, deadLetters: 2 },
    traces: [trace("POST /orders/{id}/pay", 503, 10_021.4, 4, TRACE), trace("POST /orders/{id}/pay", 503, 10_014.9, 19, "90c86731addef4b03a89ba03430e67f8"),
      trace("GET /products", 200, 1_204.2, 61, "e0c189ff5b42cf34fba973271010a5af")],
  };
}

function trace(inner, status, durationMs, ago, traceId) {
  const name = inner.startsWith("POST") ? "POST orders" : "GET products";
  return { traceId, requestId: `checkout-${ago}`, name, inner, role: "gateway", startedAt: new Date((NOW - ago) * 1000).toISOString(), durationMs, status, failed: status >= 500 };
}

/** What `ops/requests/{id}` says of the first of them. */
export function request() {
  const span = (id, parent, role, kind, name, startMs, durationMs, error = "", attributes = []) => ({ id, parent, role, kind, name, startMs, durationMs, error, attributes });
  const spans = [span("1", null, "gateway", "server", "POST orders", 0, 10_021.4, "503", [["url.path", "/orders/0198c0de-41/pay"]]),
    span("2", "1", "gateway", "client", "POST order", 0.2, 10_020.9, "503"),
    span("3", "2", "order", "server", "POST /orders/{id}/pay", 0.4, 10_020.3, "503"),
    span("4", "3", "order", "client", "order.find", 0.6, 1.4, "", [["db.system.name", "postgresql"]]),
    span("5", "3", "order", "client", "order.begin", 2.1, 2.2, "", [["db.system.name", "postgresql"]]),
    span("6", "3", "order", "client", "POST product", 4.4, 3.1),
    span("7", "6", "product", "server", "POST /internal/reservations/{id}/commit", 4.6, 2.8),
    span("8", "7", "product", "client", "product.commit", 4.9, 2.3, "", [["db.system.name", "mongodb"]]),
    span("9", "3", "order", "client", "payments.confirm", 7.8, 10_000.2, "away", [["service.peer.name", "stripe"]])];
  const line = (time, level, role, message, more) => JSON.stringify({ time: `2026-03-14T02:${time}Z`, level, message, role, requestId: "checkout-4", ...more });
  const lines = [line("41:13.021", "error", "order", "no answer from the payment provider: timeout", {}),
    line("41:13.022", "warn", "order", "slow request: POST /orders/{id}/pay took 10020.3 ms", { target: "slow", storesMs: 5.9, peersMs: 10003.3, queuesMs: 0, restMs: 11.1 }),
    line("41:13.023", "info", "gateway", "POST /orders/0198c0de-41/pay", { method: "POST", route: "orders", status: 503, durationMs: 10021.4 })];
  return { trace: { ...state(0).traces[0], spans, droppedSpans: 0 }, lines };
}

// Rates and percentiles of counters that only grow.

/** How many seconds a rate is about, and how many samples are kept for the charts. */
const SECONDS = 10, KEPT = 121, GAP = 8000;

/** The last answers. */
export class Samples {
  #kept = [];

  /** Takes an answer; one of a process that has started anew begins from nothing. */
  add(state) {
    const last = this.#kept.at(-1);
    const began = state.process.startedSeconds;
    if (last?.millis === state.millis) return;
    // After a pause, the last ten seconds are not known.
    if (last && (state.millis < last.millis || state.millis - last.millis > GAP || began !== last.began)) this.#kept = [];
    const tallies = new Map(state.arrows.filter((arrow) => arrow.tally).map((arrow) => [keyOf(arrow), arrow.tally]));
    this.#kept.push({ millis: state.millis, began, tallies, process: state.process });
    if (this.#kept.length > KEPT) this.#kept.shift();
  }

  /** The first sample of the last ten seconds, and the last one. */
  #ends() {
    const last = this.#kept.at(-1);
    const from = this.#kept.findLast((sample) => last.millis - sample.millis >= SECONDS * 1000) ?? this.#kept[0];
    return [from, last];
  }

  /** What became of the calls of `arrow` in the last ten seconds; null as long as nobody can know. */
  of(arrow) {
    const [from, last] = this.#ends();
    const key = keyOf(arrow), before = from.tallies.get(key), now = last.tallies.get(key);
    if (!now || !before || from === last) return null;
    const seconds = (last.millis - from.millis) / 1000;
    const calls = now.calls - before.calls, errors = now.errors - before.errors;
    const buckets = now.buckets.map((count, at) => count - (before.buckets[at] ?? 0));
    return { calls, errors, rate: calls / seconds, share: calls ? errors / calls : 0, p99: quantile(0.99, buckets, now.bounds) };
  }

  /** By how much a number of the process has grown in the last ten seconds, and in how many. */
  growth(name) {
    const [from, last] = this.#ends();
    return { by: last.process[name] - from.process[name], seconds: (last.millis - from.millis) / 1000 };
  }

  /** Calls a second between one sample and the next, the oldest first. */
  rates(arrow) {
    const key = keyOf(arrow);
    return this.#kept.slice(1).map((sample, at) => {
      const before = this.#kept[at], seconds = (sample.millis - before.millis) / 1000;
      const calls = (sample.tallies.get(key)?.calls ?? 0) - (before.tallies.get(key)?.calls ?? 0);
      return seconds > 0 ? Math.max(0, calls) / seconds : 0;
    });
  }
}

/** What an arrow is known by. */
export const keyOf = (arrow) => `${arrow.from.join("+")}>${arrow.to}:${arrow.what}`;

/** The quantile `q` in seconds, as Prometheus estimates it: evenly within a bucket. Infinity beyond the last bound. */
export function quantile(q, buckets, bounds) {
  const all = buckets.reduce((sum, count) => sum + count, 0);
  if (!all) return null;
  let below = 0;
  for (const [at, count] of buckets.entries()) {
    if (below + count >= q * all) {
      if (at >= bounds.length) return Infinity;
      const start = at ? bounds[at - 1] : 0;
      return start + (bounds[at] - start) * ((q * all - below) / count);
    }
    below += count;
  }
  return Infinity;
}

export const number = (value) => value.toLocaleString("en", { maximumFractionDigits: value < 10 ? 1 : 0 });

export const perSecond = (rate) => `${number(rate)}/s`;

export const percent = (share) => `${number(share * 100)} %`;

export function duration(seconds, longest = 10) {
  if (seconds === null) return "–";
  if (seconds === Infinity) return `> ${longest} s`;
  if (seconds < 0.001) return `${(seconds * 1000).toFixed(1)} ms`;
  if (seconds < 1) return `${number(seconds * 1000)} ms`;
  if (seconds < 120) return `${number(seconds)} s`;
  return seconds < 7200 ? `${Math.round(seconds / 60)} min` : `${number(seconds / 3600)} h`;
}

export function bytes(count) {
  return count < 1e9 ? `${number(count / 1e6)} MB` : `${number(count / 1e9)} GB`;
}

/** The time of day, in UTC. */
export const clock = (time) => time.toISOString().slice(11, 19);

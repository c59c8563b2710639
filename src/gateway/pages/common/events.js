// Follows the shop's stream of events (server-sent events, WHATWG HTML, section 9.2). `EventSource` cannot send a token, so
// the stream is read by fetch.

import { open } from "./api.js";

/** The pauses before it is tried again, in milliseconds: doubled from the first to the longest, and random within a half. */
const FIRST = 1000;
const LONGEST = 30_000;
/** The shop sends something every 15 seconds; a stream that is silent for longer than this is dead. */
const SILENCE = 40_000;

/** The fields of the blocks that `text` has; what is not a whole block yet comes back as `rest`. */
export function parse(text) {
  const blocks = text.replaceAll("\r\n", "\n").split("\n\n");
  const rest = blocks.pop();
  return { rest, blocks: blocks.map(block) };
}

function block(text) {
  const fields = { data: [] };
  for (const line of text.split("\n")) {
    const [, name, value] = /^([^:]*):? ?(.*)$/s.exec(line);
    if (name === "data") fields.data.push(value);
    else if (["id", "event", "retry"].includes(name)) fields[name] = value;
  }
  return { ...fields, data: fields.data.join("\n") };
}

/** Reads `body` until it ends or is silent for too long. */
async function read(body, take) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    let timer;
    const silence = new Promise((_, fail) => (timer = setTimeout(() => fail(new Error("silent")), SILENCE)));
    try {
      const { value, done } = await Promise.race([reader.read(), silence]);
      if (done) return;
      const found = parse(rest + value);
      rest = found.rest;
      found.blocks.forEach(take);
    } catch (error) {
      reader.cancel().catch(() => {});
      throw error;
    } finally {
      clearTimeout(timer);
    }
  }
}

/** Waits, but no longer than until the browser is online again. */
function pause(milliseconds, signal) {
  return new Promise((resolve) => {
    const timer = setTimeout(done, milliseconds);
    function done() {
      clearTimeout(timer);
      removeEventListener("online", done);
      signal.removeEventListener("abort", done);
      resolve();
    }
    addEventListener("online", done);
    signal.addEventListener("abort", done);
  });
}

/** Waits until the page is looked at. Hidden pages leave their stream: a browser has six connections to a shop without HTTP/2, for
 *  all of its tabs. */
function seen(signal) {
  return new Promise((resolve) => {
    const look = () => {
      if (document.hidden && !signal.aborted) return;
      document.removeEventListener("visibilitychange", look);
      resolve();
    };
    document.addEventListener("visibilitychange", look);
    signal.addEventListener("abort", look);
    look();
  });
}

/** A signal that is aborted with `signal`, and when the page is hidden; `done` lets go of it. */
function whileSeen(signal) {
  const stop = new AbortController();
  const look = () => document.hidden && stop.abort();
  document.addEventListener("visibilitychange", look);
  return { signal: AbortSignal.any([signal, stop.signal]), done: () => document.removeEventListener("visibilitychange", look) };
}

/** Calls `heard(event)` with each CloudEvent from now on, while the page is looked at, until `signal` is aborted or the session has ended.
 *  What happened meanwhile comes when it is looked at again. `changed(isLive, isMissing)` tells whether the stream is there; `isMissing` is
 *  true where events may have been missed, because none had come before it broke off. */
export async function follow({ signal, heard, changed = () => {} }) {
  let last = null;
  let failures = 0;
  const take = ({ id, data }) => {
    failures = 0;
    if (id) last = id;
    if (data) heard(JSON.parse(data));
  };
  while (!signal.aborted) {
    await seen(signal);
    const here = whileSeen(signal);
    let after = 0;
    try {
      const headers = { accept: "text/event-stream", ...(last && { "last-event-id": last }) };
      const answer = await open("GET", "/events", { headers, signal: here.signal });
      changed(true, last === null);
      await read(answer.body, take);
    } catch (error) {
      if (signal.aborted || error.status === 401) return;
      if (here.signal.aborted) continue;
      after = (error.retryAfter ?? 0) * 1000;
    } finally {
      here.done();
    }
    if (signal.aborted) return;
    changed(false, last === null);
    const longest = Math.min(FIRST * 2 ** failures++, LONGEST);
    await pause(Math.max(after, longest * (0.5 + Math.random() / 2)), signal);
  }
}

// Asks the shop's API. Every request of the pages but those of session.js goes through here.

import { Problem, ROOT, problem, send } from "./http.js";
import * as session from "./session.js";

function address(path, query) {
  const url = new URL(path.replace(/^\//, ""), ROOT);
  for (const [key, value] of Object.entries(query)) {
    if (value != null && value !== "") url.searchParams.set(key, value);
  }
  return url;
}

/** The path and query of the next page of a list, if there is one (RFC 8288). */
function next(answer) {
  const link = /<([^>]*)>;\s*rel="next"/.exec(answer.headers.get("link") ?? "");
  if (!link) return null;
  const url = new URL(link[1], ROOT);
  // The address may be the role's own; what counts is its query.
  return Object.fromEntries(url.searchParams);
}

/** The answer of the API as it is, of any status below 400.
 *  `signed: false` sends no token, also if there is one.
 *  Throws a [Problem], or what aborted `signal`. */
export async function open(method, path, { query = {}, body, headers = {}, signal, signed = true } = {}) {
  const url = address(path, query);
  const token = signed ? await session.token() : null;
  let answer = await send(method, url, { body, headers, signal, token });
  if (answer.status === 401 && token) {
    const renewed = await session.renew(token);
    if (renewed) answer = await send(method, url, { body, headers, signal, token: renewed });
  }
  if (!answer.ok) throw await problem(answer);
  return answer;
}

/** Asks the API: `ask("PATCH", "/products/1", { body: { price: 2 }, headers: { "if-match": etag } })`. Gives
 *  `{ status, data, etag, next, headers }`, where `next` is the query of the list's next page, or null. */
export async function ask(method, path, options) {
  const answer = await open(method, path, options);
  const text = await answer.text().catch((error) => {
    // The connection broke while the answer came.
    throw options?.signal?.aborted ? error : new Problem(0);
  });
  const { status, headers } = answer;
  return { status, headers, data: text ? JSON.parse(text) : null, etag: headers.get("etag"), next: next(answer) };
}

export const get = (path, query = {}, signal = undefined) => ask("GET", path, { query, signal });
export const post = (path, body, options = {}) => ask("POST", path, { body, ...options });

// Saves an answer of the API as a file. A link cannot: it would not carry the token.

import { open } from "../common/api.js";
import { make } from "../common/dom.js";
import { Problem } from "../common/http.js";

/** All of `body`, piece by piece. */
async function read(body, got, signal) {
  const reader = body.getReader();
  const pieces = [];
  let bytes = 0;
  try {
    for (let { done, value } = await reader.read(); !done; { done, value } = await reader.read()) {
      pieces.push(value);
      got((bytes += value.length));
    }
  } catch (error) {
    // The connection broke while the answer came.
    throw signal.aborted ? error : new Problem(0);
  }
  return pieces;
}

/** Asks for `path` as `type` and gives it to the browser as the file `name`. All of it is in memory until then. `got(bytes)` is called while it
 *  comes. */
export async function download(path, type, name, got, signal) {
  const answer = await open("GET", path, { headers: { accept: type }, signal });
  const pieces = await read(answer.body, got, signal);
  const url = URL.createObjectURL(new Blob(pieces, { type }));
  make("a", { href: url, download: name }).click();
  // The browser has begun to read it by then.
  setTimeout(() => URL.revokeObjectURL(url), 60_000);
}

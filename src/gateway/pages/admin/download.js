// Saves an answer of the API as a file. A link cannot: it would not carry the token.

import { open } from "../common/api.js";
import { make } from "../common/dom.js";

/** Asks for `path` as `type` and gives it to the browser as the file `name`. All of it is in memory until then. `got(bytes)` is called while it
 *  comes. */
export async function download(path, type, name, got, signal) {
  const answer = await open("GET", path, { headers: { accept: type }, signal });
  const reader = answer.body.getReader();
  const pieces = [];
  let bytes = 0;
  for (let { done, value } = await reader.read(); !done; { done, value } = await reader.read()) {
    pieces.push(value);
    got((bytes += value.length));
  }
  const url = URL.createObjectURL(new Blob(pieces, { type }));
  make("a", { href: url, download: name }).click();
  // The browser has begun to read it by then.
  setTimeout(() => URL.revokeObjectURL(url), 60_000);
}

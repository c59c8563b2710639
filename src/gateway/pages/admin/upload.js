// Sends a file and tells how much of it has gone, which fetch() cannot.

import { Problem, ROOT } from "../common/http.js";
import { renew, token } from "../common/session.js";

/** The JSON of an answer, or null: a proxy may answer with a page of its own. */
function json(request) {
  try {
    return JSON.parse(request.responseText);
  } catch {
    return null;
  }
}

function problem(request, part) {
  const seconds = Number(request.getResponseHeader("retry-after"));
  const found = new Problem(request.status, json(request) ?? {}, seconds > 0 ? seconds : null);
  return Object.assign(found, { part });
}

function send({ path, file, type, sent, signal }, access) {
  return new Promise((done, fail) => {
    const request = new XMLHttpRequest();
    request.open("POST", new URL(path, ROOT));
    request.setRequestHeader("content-type", type);
    if (access) request.setRequestHeader("authorization", `Bearer ${access}`);
    request.upload.onprogress = ({ loaded }) => sent(loaded);
    request.upload.onload = () => sent(file.size);
    request.onload = () => {
      if (request.status >= 400) return fail(problem(request, path.split("/")[0]));
      const answer = json(request);
      answer ? done(answer) : fail(new Problem(0));
    };
    request.onerror = () => fail(new Problem(0));
    request.onabort = () => fail(signal.reason);
    signal.addEventListener("abort", () => request.abort());
    request.send(file);
  });
}

/** What `promise` gives, unless `signal` is aborted before. */
const until = (signal, promise) =>
  new Promise((done, fail) => {
    signal.throwIfAborted();
    signal.addEventListener("abort", () => fail(signal.reason));
    promise.then(done, fail);
  });

/** Sends `file` to `path` with POST. `sent(bytes)` is called while it goes. Gives the answer's JSON; throws a Problem, or an AbortError once
 *  `signal` is aborted. */
export async function upload(path, file, type, sent, signal) {
  const what = { path, file, type, sent, signal };
  const access = await until(signal, token());
  try {
    return await send(what, access);
  } catch (error) {
    const renewed = error.status === 401 && access ? await until(signal, renew(access)) : null;
    if (!renewed) throw error;
    return send(what, renewed);
  }
}

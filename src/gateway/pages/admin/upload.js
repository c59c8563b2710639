// Sends a file and tells how much of it has gone, which fetch() cannot.

import { Problem, ROOT } from "../common/http.js";
import { renew, token } from "../common/session.js";

function problem(request) {
  let body = {};
  try {
    body = JSON.parse(request.responseText);
  } catch {
    // A proxy may answer with a page of its own.
  }
  const seconds = Number(request.getResponseHeader("retry-after"));
  return new Problem(request.status, body, seconds > 0 ? seconds : null);
}

function send(url, file, type, access, sent, signal) {
  return new Promise((done, fail) => {
    const request = new XMLHttpRequest();
    request.open("POST", url);
    request.setRequestHeader("content-type", type);
    if (access) request.setRequestHeader("authorization", `Bearer ${access}`);
    request.upload.onprogress = ({ loaded }) => sent(loaded);
    request.upload.onload = () => sent(file.size);
    request.onload = () => (request.status < 400 ? done(JSON.parse(request.responseText)) : fail(problem(request)));
    request.onerror = () => fail(new Problem(0));
    request.onabort = () => fail(new DOMException("the upload was cancelled", "AbortError"));
    signal.addEventListener("abort", () => request.abort());
    request.send(file);
  });
}

/** Sends `file` to `path` with POST. `sent(bytes)` is called while it goes. Gives the answer's JSON; throws a Problem, or an AbortError. */
export async function upload(path, file, type, sent, signal) {
  const url = new URL(path, ROOT);
  const access = await token();
  try {
    return await send(url, file, type, access, sent, signal);
  } catch (error) {
    const renewed = error.status === 401 && access ? await renew(access) : null;
    if (!renewed) throw error;
    return send(url, file, type, renewed, sent, signal);
  }
}

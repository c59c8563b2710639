// Requests to the shop, without regard to who asks.

/** Where the shop is: the pages may be below a path of a proxy. */
export const ROOT = new URL("../../../../", import.meta.url);

/** What went wrong with a request: the API's problem (RFC 9457), or that there was no answer (`status` 0). */
export class Problem extends Error {
  constructor(status, body = {}, retryAfter = null) {
    super(body.detail ?? body.title ?? "no answer");
    this.status = status;
    this.type = body.type ?? "about:blank";
    this.detail = body.detail ?? "";
    this.errors = body.errors ?? [];
    this.items = body.items ?? [];
    this.requestId = body.requestId ?? null;
    /** The part of the shop that was asked: the first step of the path, as in `orders`. */
    this.part = null;
    /** In how many seconds it may be tried again. */
    this.retryAfter = retryAfter;
  }

  /** Whether the browser or the shop is away, and the same request may work later. */
  get isAway() {
    return [0, 502, 503, 504].includes(this.status);
  }
}

/** The problem that an answer tells of. */
export async function problem(answer) {
  const body = await answer.json().catch(() => ({}));
  const seconds = Number(answer.headers.get("retry-after"));
  const found = new Problem(answer.status, body, Number.isFinite(seconds) && seconds > 0 ? seconds : null);
  found.part = answer.url.slice(ROOT.href.length).split(/[/?]/)[0];
  return found;
}

/** Sends a request, with a body of JSON or a file. Throws a [Problem] if there is no answer. */
export async function send(method, url, { body, headers, signal, token }) {
  const all = new Headers(headers);
  if (token) all.set("authorization", `Bearer ${token}`);
  const isJson = body !== undefined && !(body instanceof Blob);
  if (isJson && !all.has("content-type")) all.set("content-type", "application/json");
  try {
    return await fetch(url, { method, headers: all, signal, body: isJson ? JSON.stringify(body) : body });
  } catch (error) {
    if (signal?.aborted) throw error;
    throw new Problem(0);
  }
}

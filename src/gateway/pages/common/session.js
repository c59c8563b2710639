// Who is signed in. The access token stays in memory, shared by the tabs of a browser; the refresh token is in a cookie that no
// script sees (/auth/session).

import { alone } from "./alone.js";
import { Problem, ROOT, problem, send } from "./http.js";
import { local, named } from "./storage.js";

/** Remembers only that somebody was signed in here, so that a guest's first page asks for nothing. */
const HINT = "shop.signed-in";
/** Tokens are renewed this long before they end, in milliseconds, but not before two thirds of their time are over. */
const MARGIN = 30_000;
/** How long the shop may take to answer, in milliseconds. */
const TIMEOUT = 15_000;
/** How long a new tab waits for the token of another, in milliseconds. Only where browsers do not keep the cookie, without TLS: else the
 *  shop gives it one as soon. */
const PATIENCE = globalThis.isSecureContext ? 0 : 300;
/** The same of a tab that knows of nobody: it may not see yet what another has just stored. */
const GRACE = 100;

/** The token: its `value`, the `user` whose it is, and when it is to be renewed and `ends`, in milliseconds of this browser's clock. */
let current = null;
let account = null;
/** Whose token was here last, also after the end of that session. */
let last = null;
/** Whether this tab's session is over: what is remembered may be of another tab. */
let isOver = false;
let renewing = null;
let asking = null;
/** Counts who signs in and out: what was asked for before is late. */
let turn = 0;

const listeners = new Set();
const tabs = new BroadcastChannel(named("shop.session"));

tabs.onmessage = ({ data }) => {
  if (data.ask) return isFresh() && tabs.postMessage({ answer: current });
  if (data.answer) return void (current ?? hold(data.answer));
  if (data.token) return take(data.token);
  // The tab that could not renew its token may be one whose cookie was not kept.
  if (data.reason === "ended" && current?.ends > Date.now()) return local.set(HINT, "yes");
  leave(data.reason, false);
};

/** Calls `listener(reason)` when somebody signs in (`reason` is undefined), signs out ("left"), the session has ended ("ended"), or
 *  another account has signed in in another tab ("other"),
 *  perhaps after one of those. */
export const listen = (listener) => listeners.add(listener);

function tell(reason) {
  for (const listener of listeners) listener(reason);
}

/** Whether somebody is, or was when this browser last looked. */
export const isSignedIn = () => current !== null || (!isOver && local.get(HINT) !== null);

/** The id of the account that is signed in, or null for a guest and as long as there is no token. */
export const user = () => current?.user ?? null;

const isFresh = () => current !== null && Date.now() < current.renewal;

/** Whose token it is (RFC 7519, section 4.1.2). */
function subject(token) {
  const [, claims] = token.split(".");
  return JSON.parse(atob(claims.replaceAll("-", "+").replaceAll("_", "/"))).sub;
}

/** Has `token` from now on; returns whether it is another account's than the last one. */
function hold(token) {
  const isOther = last !== null && last !== token.user;
  current = token;
  last = token.user;
  isOver = false;
  return isOther;
}

/** Takes a token of another tab. */
function take(token) {
  const before = user();
  const isOther = hold(token);
  if (before === token.user) return;
  turn++;
  account = null;
  tell(isOther ? "other" : undefined);
}

function keep({ accessToken, expiresIn }) {
  const ends = Date.now() + expiresIn * 1000;
  const renewal = ends - Math.min(MARGIN, (expiresIn * 1000) / 3);
  const isOther = hold({ value: accessToken, user: subject(accessToken), ends, renewal });
  local.set(HINT, "yes");
  tabs.postMessage({ token: current });
  return { isOther };
}

function leave(reason, isHere = true) {
  const was = isSignedIn();
  turn++;
  current = account = null;
  isOver = true;
  local.remove(HINT);
  if (isHere) tabs.postMessage({ token: null, reason });
  if (was || !isHere) tell(reason);
}

async function call(method, path, body) {
  const signal = AbortSignal.timeout(TIMEOUT);
  const lost = (error) => {
    throw signal.aborted ? new Problem(0) : error;
  };
  const answer = await send(method, new URL(path, ROOT), { body, signal }).catch(lost);
  if (!answer.ok) throw await problem(answer);
  return answer.status === 204 ? null : answer.json().catch(() => lost(new Problem(0)));
}

/** A token that is valid for a while, or null for a guest. While the shop cannot renew it, it is used to its end. */
export async function token() {
  if (isFresh()) return current.value;
  if (!isSignedIn()) return null;
  try {
    return await renew(current?.value);
  } catch (error) {
    if (error.isAway && current?.ends > Date.now()) return current.value;
    throw error;
  }
}

/** A token other than `old`, or null where the session has ended. Tabs and callers that ask at once share one renewal.
 *  Throws an `AbortError` when another account has signed in meanwhile: what was to be asked for the one is not asked for the other. */
export async function renew(old) {
  const asker = user();
  renewing ??= alone(() => another(old)).finally(() => (renewing = null));
  const token = await renewing;
  if (asker && token && user() !== asker) throw new DOMException("another account has signed in", "AbortError");
  return token;
}

async function another(old) {
  if (!current && isSignedIn() && PATIENCE) await ask(PATIENCE);
  // Another tab may have renewed it while this one waited; or somebody has signed out.
  if (isFresh() && current.value !== old) return current.value;
  if (!isSignedIn()) return null;
  const before = turn;
  const isLate = () => turn !== before;
  try {
    const answer = await call("POST", "auth/session/renew");
    if (isLate()) return current?.value ?? null;
    return renewed(answer);
  } catch (error) {
    if (isLate()) return current?.value ?? null;
    if (error.status !== 401) throw error;
    leave("ended");
    return null;
  }
}

function renewed(answer) {
  const { isOther } = keep(answer);
  if (isOther) {
    account = null;
    tell("other");
  }
  return current.value;
}

/** Asks the other tabs for their token, and waits no longer than `patience`. */
function ask(patience) {
  tabs.postMessage({ ask: true });
  return new Promise((resolve) => {
    const end = Date.now() + patience;
    const timer = setInterval(() => {
      if (!current && Date.now() < end) return;
      clearInterval(timer);
      resolve();
    }, 10);
  });
}

/** Signs in; throws a Problem: 401 for a wrong password, 403 for a disabled account, 422, 429. */
export async function signIn(email, password) {
  await alone(async () => {
    const answer = await call("POST", "auth/session", { email, password });
    turn++;
    keep(answer);
    account = null;
  });
  tell();
}

/** Takes the token that the API gave for this session, as after another password. */
export function replace(answer) {
  keep(answer);
}

/** Ends this session. */
export const signOut = () =>
  alone(async () => {
    await call("DELETE", "auth/session");
    leave("left");
  });

/** Forgets the session, which the API has ended already. */
export const forget = (reason) =>
  alone(async () => {
    await call("DELETE", "auth/session").catch(() => {});
    leave(reason);
  });

/** Whether somebody is signed in, also by what the other tabs know. */
export async function isAnybody() {
  if (!isSignedIn() && last === null) await (asking ??= ask(GRACE));
  return isSignedIn();
}

/** The account that is signed in, from the API once per page, or null. */
export async function who(get) {
  if (!(await isAnybody())) return null;
  const asked = (account ??= get("/auth/me").then((answer) => answer.data));
  try {
    return await asked;
  } catch (error) {
    if (account === asked) account = null;
    if (error.status === 401) return null;
    throw error;
  }
}

/** Asks for the account anew the next time: it has changed. */
export const changed = () => (account = null);

// Who is signed in. The access token stays in memory, shared by the tabs of a browser; the refresh token is in a cookie that no
// script sees (/auth/session).

import { ROOT, problem, send } from "./http.js";

/** Remembers only that somebody was signed in here, so that a guest's first page asks for nothing. */
const HINT = "shop.signed-in";
/** Tokens are renewed this long before they end, in milliseconds. */
const MARGIN = 30_000;

let current = null;
let account = null;
let renewing = null;

const listeners = new Set();
const tabs = new BroadcastChannel("shop.session");

tabs.onmessage = ({ data }) => {
  if (data.token) {
    const isAnother = !current;
    current = data.token;
    if (isAnother) tell();
  } else leave(data.reason, false);
};

/** Calls `listener(reason)` when somebody signs in (`reason` is undefined), signs out ("left"), or the session has ended ("ended"). */
export const listen = (listener) => listeners.add(listener);

function tell(reason) {
  for (const listener of listeners) listener(reason);
}

/** Whether somebody is, or was when this browser last looked. */
export const isSignedIn = () => current !== null || localStorage.getItem(HINT) !== null;

function keep({ accessToken, expiresIn }) {
  current = { value: accessToken, ends: Date.now() + expiresIn * 1000 };
  localStorage.setItem(HINT, "yes");
  tabs.postMessage({ token: current });
  return current.value;
}

function leave(reason, isHere = true) {
  const was = isSignedIn();
  current = account = null;
  localStorage.removeItem(HINT);
  if (isHere) tabs.postMessage({ token: null, reason });
  if (was || !isHere) tell(reason);
}

async function call(method, path, body) {
  const answer = await send(method, new URL(path, ROOT), { body });
  if (!answer.ok) throw await problem(answer);
  return answer.status === 204 ? null : answer.json();
}

/** A token that is valid for a while, or null for a guest. */
export async function token() {
  if (current && current.ends - Date.now() > MARGIN) return current.value;
  return isSignedIn() ? renew(current?.value) : null;
}

/** A token other than `old`, or null where the session has ended. Tabs and callers that ask at once share one renewal. */
export function renew(old) {
  const alone = navigator.locks ? (act) => navigator.locks.request("shop.session", act) : (act) => act();
  renewing ??= alone(async () => {
    // Another tab may have renewed it while this one waited for the lock.
    if (current && current.value !== old && current.ends - Date.now() > MARGIN) return current.value;
    try {
      return keep(await call("POST", "auth/session/renew"));
    } catch (error) {
      if (error.status !== 401) throw error;
      leave("ended");
      return null;
    }
  }).finally(() => (renewing = null));
  return renewing;
}

/** Signs in; throws a Problem: 401 for a wrong password, 403 for a disabled account, 422, 429. */
export async function signIn(email, password) {
  keep(await call("POST", "auth/session", { email, password }));
  account = null;
  tell();
}

/** Takes the token that the API gave for this session, as after another password. */
export const replace = keep;

/** Ends this session. */
export async function signOut() {
  await call("DELETE", "auth/session");
  leave("left");
}

/** Forgets the session, which the API has ended already. */
export async function forget(reason) {
  await call("DELETE", "auth/session").catch(() => {});
  leave(reason);
}

/** The account that is signed in, from the API once per page, or null. */
export async function who(get) {
  if (!isSignedIn()) return null;
  account ??= get("/auth/me").then((answer) => answer.data);
  try {
    return await account;
  } catch (error) {
    account = null;
    if (error.status === 401) return null;
    throw error;
  }
}

/** Asks for the account anew the next time: it has changed. */
export const changed = () => (account = null);

// Places an order once, whatever becomes of the answer.

import { post } from "../common/api.js";
import { local, recall } from "../common/storage.js";

const KEY = "shop.placing";
const isOpen = document.documentElement.dataset.mode === "open";

/** What was asked for and not answered yet: kept also when the page is closed. */
const pending = (user) => recall(local, `${KEY}.${user}`);

/** A key that nobody else has: 128 random bits. Pages that come without TLS have no `randomUUID`. */
const newKey = () => Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");

function keep(user, request) {
  local.set(`${KEY}.${user}`, JSON.stringify(request));
  return request;
}

export const forget = (user) => local.remove(`${KEY}.${user}`);

/** Whether the shop has said what became of a request. Of the others it may yet have made an order. */
const isAnswered = ({ status, type }) => [400, 403, 404, 413, 415, 422].includes(status) || type === "/problems/out-of-stock";

/** How often a request is sent again while the shop says that the same one is under way, as from another tab. */
const TRIES = 5;

async function send(user, { key, body }, tries = TRIES) {
  try {
    const { data } = await post("/orders", isOpen ? { ...body, userId: user } : body, { headers: { "idempotency-key": key } });
    forget(user);
    return data;
  } catch (error) {
    if (isAnswered(error)) forget(user);
    else if (error.status === 409 && error.retryAfter && tries) {
      await new Promise((resolve) => setTimeout(resolve, error.retryAfter * 1000));
      return send(user, { key, body }, tries - 1);
    }
    throw error;
  }
}

/** Places the order `body` of customer `user`: `{ order, isEarlier }`. The same order with the same content has the same
 *  `Idempotency-Key` until it is answered. If the answer to another one was lost, that one is asked for first: it may have
 *  been placed, and is the result then.
 *  Throws a Problem, as for `/problems/out-of-stock` with its `items`. */
export async function place(user, body) {
  const before = pending(user);
  const isSame = before && JSON.stringify(before.body) === JSON.stringify(body);
  if (before && !isSame) {
    try {
      return { order: await send(user, before), isEarlier: true };
    } catch (error) {
      if (!isAnswered(error)) throw error;
    }
  }
  const request = isSame ? before : keep(user, { key: newKey(), body });
  return { order: await send(user, request), isEarlier: false };
}

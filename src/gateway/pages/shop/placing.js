// Places an order once, whatever becomes of the answer.

import { post } from "../common/api.js";
import { local, newKey, recall } from "../common/storage.js";
import { patient } from "./patient.js";

const KEY = "shop.placing";
const isOpen = document.documentElement.dataset.mode === "open";

/** How long the shop knows a key, in milliseconds (`order.idempotency_ttl`). */
const KEPT = 24 * 3_600_000;

/** What was sent with one `key` since `time` and not answered yet, the latest last: kept also when the page is closed. */
function pending(user) {
  const found = recall(local, `${KEY}.${user}`);
  const isKnown = found?.bodies && Date.now() - found.time < KEPT;
  return isKnown ? found : { key: newKey(), bodies: [], time: Date.now() };
}

function keep(user, request) {
  if (request.bodies.length) local.set(`${KEY}.${user}`, JSON.stringify(request));
  else forget(user);
}

export const forget = (user) => local.remove(`${KEY}.${user}`);

/** Whether the shop has said that it makes no order of a request. */
const isRefused = ({ status, type }) => [400, 403, 404, 413, 415, 422].includes(status) || type === "/problems/out-of-stock";

/** Whether the shop has not looked at a request. It may have had the same one before. */
const isUnread = ({ status }) => [401, 429].includes(status);

/** Whether the shop knows the key by another body. */
const isOther = ({ status, errors }) => status === 422 && errors.length === 0;

async function send(user, key, body) {
  const whole = isOpen ? { ...body, userId: user } : body;
  const { data } = await patient(() => post("/orders", whole, { headers: { "idempotency-key": key } }));
  forget(user);
  return data;
}

/** Places the order `body` of customer `user`: `{ order, isEarlier }`. Until there is an answer, what is sent has the same
 *  `Idempotency-Key`, also after the customer has changed it: of all that is sent with it the shop makes one order. `isEarlier` says that
 *  it is what was sent before, whose answer was lost.
 *  Throws a Problem, as for `/problems/out-of-stock` with its `items`. */
export async function place(user, body) {
  const request = pending(user);
  const text = JSON.stringify(body);
  const earlier = request.bodies.filter((one) => JSON.stringify(one) !== text);
  const isFirst = earlier.length === request.bodies.length;
  keep(user, { ...request, bodies: [...earlier, body] });
  try {
    return { order: await send(user, request.key, body), isEarlier: false };
  } catch (error) {
    if (isOther(error) && earlier.length) return placeAfter(user, request.key, earlier, body);
    if (isRefused(error) || (isUnread(error) && isFirst)) keep(user, { ...request, bodies: earlier });
    throw error;
  }
}

/** The shop knows `key` by one of the `earlier` bodies: that is the order, unless the shop refused it. */
async function placeAfter(user, key, earlier, body) {
  for (const one of [...earlier].reverse()) {
    try {
      return { order: await send(user, key, one), isEarlier: true };
    } catch (error) {
      if (!isRefused(error)) throw error;
    }
  }
  forget(user);
  return place(user, body);
}

// Where signing in leads, and what follows it.

import { get } from "../common/api.js";
import * as session from "../common/session.js";
import { belongTo } from "./cart.js";

/** The page of the shop to come back to. */
export function wanted(query) {
  const next = query.get("next") ?? "/";
  return next.startsWith("/") ? next : "/";
}

/** Gives the guest's cart to who has signed in, before the next page reads it. */
export async function arrive() {
  const account = await session.who(get);
  if (account) belongTo(account.id);
}

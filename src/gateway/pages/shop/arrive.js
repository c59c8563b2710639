// What follows signing in.

import { get } from "../common/api.js";
import * as session from "../common/session.js";
import { belongTo } from "./cart.js";

/** Gives the guest's cart to who has signed in, before the next page reads it. */
export async function arrive() {
  const account = await session.who(get);
  if (account) belongTo(account.id);
}

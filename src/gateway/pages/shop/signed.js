// Pages that are about a customer.

import { get } from "../common/api.js";
import { go, here } from "../common/router.js";
import * as session from "../common/session.js";
import { belongTo, owner } from "./cart.js";

/** Leads to the catalogue from the page of an account that is over, unless somebody has gone elsewhere meanwhile. */
export async function home() {
  if (/^\/(account|sign-in)/.test(here())) await go("/", { replace: true });
}

/** The account that is signed in. A guest is led to sign in and back; then it is null. While the user role is away, all that is
 *  known of the account may be its `id`. `signal` is that of the page: one that was left leads nowhere. */
export async function customer(signal) {
  const account = await session.who(get).catch((error) => {
    if (error.isAway && owner()) return { id: owner() };
    throw error;
  });
  if (account) belongTo(account.id);
  else if (!signal.aborted) await go(`/sign-in?next=${encodeURIComponent(here())}`, { replace: true });
  return account;
}

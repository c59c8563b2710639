// Where signing in leads.

/** The page of the shop to come back to. */
export function wanted(query) {
  const next = query.get("next") ?? "/";
  return next.startsWith("/") ? next : "/";
}

// Begins the shop: its pages, the cart's count, and what is said when a session ends.

import { by, make } from "../common/dom.js";
import { announce, trouble, watch } from "../common/notices.js";
import { here, href, render, start } from "../common/router.js";
import * as session from "../common/session.js";
import { tab } from "../common/storage.js";
import { number, speak, t } from "../common/texts.js";
import * as cart from "./cart.js";

const ROUTES = [
  ["/", () => import("./catalogue.js")],
  ["/products/:id", () => import("./product.js")],
  ["/cart", () => import("./cart-page.js")],
  ["/checkout", () => import("./checkout.js")],
  ["/orders", () => import("./orders.js")],
  ["/orders/:id", () => import("./order.js")],
  ["/account", () => import("./account.js")],
  ["/sign-in", () => import("./sign-in.js")],
  ["/register", () => import("./register.js")],
];
/** Pages that are about somebody. */
const PERSONAL = /^\/(orders|account|checkout)/;
/** Those that are drawn anew when the session ends. The form of the checkout stays: it is not lost then. */
const ENDING = /^\/(orders|account)/;

function count() {
  const pieces = cart.pieces();
  by("cart-count").hidden = pieces === 0;
  by("cart-count").textContent = number(pieces);
  by("cart-link").setAttribute("aria-label", pieces ? t("shop.cart.link", { count: pieces }) : t("shop.nav.cart"));
}

/** Gives the cart to who has signed in, and tells who has been signed out. */
function changed(reason) {
  by("ended").hidden = reason !== "ended";
  // What was typed at the checkout is for who comes back, but not for who comes next.
  if (reason === "left") tab.clear();
  cart.belongTo(session.user());
  if (reason === "other") announce(t("shop.other"));
  else if (reason) by("sign-in-again").setAttribute("href", `${href("/sign-in")}?next=${encodeURIComponent(here())}`);
  if (reason && (reason === "ended" ? ENDING : PERSONAL).test(here())) render();
}

// Most people begin with the catalogue: its module comes while the texts do.
if (/\/shop\/?$/.test(location.pathname)) import("./catalogue.js").catch(() => {}); // It is told when it is needed.
history.scrollRestoration = "manual";
await speak();
watch();
cart.listen(count);
session.listen(changed);
if (cart.owner()) session.isAnybody().then((is) => is || cart.belongTo(null));
count();
start({ routes: ROUTES, missing: () => import("./missing.js"), trouble: failed, title: "shop.name" });

/** A page that could not be shown, and a way on. */
function failed(error, again) {
  const signIn = make(
    "a",
    { class: "button", href: `${href("/sign-in")}?${new URLSearchParams({ next: here() })}` },
    t("shop.signIn.title"),
  );
  return [
    make("h1", {}, t("common.trouble")),
    trouble(error, [401, 404].includes(error.status) ? null : again),
    make("p", { class: "actions" }, error.status === 401 && signIn, make("a", { class: "button", href: href("/") }, t("shop.toCatalogue"))),
  ];
}

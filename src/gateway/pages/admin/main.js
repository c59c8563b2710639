// The administration: its pages, each of which is loaded when it is asked for.

import { by } from "../common/dom.js";
import { watch } from "../common/notices.js";
import { start } from "../common/router.js";
import { speak } from "../common/texts.js";
import { guarded, keep } from "./gate.js";
import { problemPage } from "./parts.js";

const routes = [
  ["/", () => import("./overview.js")],
  ["/products", () => import("./products.js")],
  ["/products/new", () => import("./product-new.js")],
  ["/products/:id", () => import("./product.js")],
  ["/import", () => import("./import.js")],
  ["/orders", () => import("./orders.js")],
  ["/orders/:id", () => import("./order.js")],
  ["/users", () => import("./users.js")],
  ["/webhooks", () => import("./webhooks.js")],
  ["/webhooks/:id", () => import("./webhook.js")],
  ["/dead-letters", () => import("./letters.js")],
];

await speak();
watch();
keep(by("account"), document.querySelector("body > header nav"));
start({
  routes: routes.map(([path, load]) => [path, guarded(load)]),
  missing: guarded(() => import("./missing.js")),
  trouble: problemPage,
  title: "admin.name",
});

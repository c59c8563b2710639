// The moves of an order from one state to the next.

import { post } from "../common/api.js";
import { make } from "../common/dom.js";
import { field } from "../common/forms.js";
import { announce, trouble } from "../common/notices.js";
import { money, t } from "../common/texts.js";
import { ask } from "./dialog.js";
import { action, worded } from "./parts.js";
import { badge } from "./states.js";
import { orderPath } from "./orders.js";

/** The state of the order with buttons for its moves. `refresh()` shows the order anew. */
export function moves(order, refresh) {
  const place = make("div");
  const state = make("p", { class: "state", tabindex: "-1" }, t("admin.orders.state"), ": ", badge(order.status));
  const move = (name, body) => step(order, name, body);
  const done = async (name) => {
    announce(t(`admin.orders.did.${name}`));
    await refresh();
    // The button that was pressed may be gone.
    document.querySelector("main .state")?.focus();
  };
  const buttons = {
    fulfil: action(
      t("admin.orders.do.fulfil"),
      () =>
        move("fulfil").then(
          () => done("fulfil"),
          (error) => refused(error, refresh),
        ),
      place,
      { class: "primary" },
    ),
    cancel: action(t("admin.orders.do.cancel"), () => sure(order, "cancel", [], () => move("cancel"), done, refresh), place, {
      class: "danger",
    }),
    refund: action(
      t("admin.orders.do.refund"),
      () => sure(order, "refund", [restock()], (values) => move("refund", { restock: "restock" in values }), done, refresh),
      place,
      { class: "danger" },
    ),
  };
  const possible = { placed: ["cancel"], paid: ["fulfil", "refund"], fulfilled: ["refund"] }[order.status] ?? [];
  return make(
    "section",
    { class: "card", "aria-label": t("admin.orders.state") },
    state,
    place,
    possible.length
      ? make(
          "p",
          { class: "actions" },
          possible.map((name) => buttons[name]),
        )
      : make("p", { class: "soft" }, t("admin.orders.over")),
  );
}

const restock = () => field("restock", t("admin.orders.restock"), { type: "checkbox", value: true, hint: t("admin.orders.restockHint") });

/** Asks first. Where another has moved the order meanwhile, it is shown as it is. */
async function sure(order, name, fields, act, done, refresh) {
  let conflict = null;
  const isDone = await ask({
    title: t(`admin.orders.do.${name}`),
    say: t(`admin.orders.do.${name}`),
    fields,
    text: make("p", {}, t(`admin.orders.sure.${name}`, { total: money(order.total, order.currency) })),
    act: (values) =>
      act(values).catch((error) => {
        if (error.status !== 409) throw clear(error);
        conflict = error;
      }),
  });
  if (!isDone) return;
  if (conflict) return refused(conflict, refresh);
  await done(name);
}

const step = async (order, name, body) => (await post(`${orderPath(order.id)}/${name}`, body)).data;

/** A provider that refuses is no part of the shop that is away. */
const clear = (error) => (error.status === 502 ? worded(error, t("admin.orders.provider", { detail: error.detail })) : error);

/** Shows the order as it is now, and says why the move was not made. */
async function refused(error, refresh) {
  if (error.status !== 409) throw clear(error);
  await refresh();
  const box = trouble(worded(error, t("admin.orders.moved")));
  document.querySelector("main .state").after(box);
  box.focus();
}

// The webhooks, and a form for another one.

import { get, post } from "../common/api.js";
import { make, own } from "../common/dom.js";
import { field, form } from "../common/forms.js";
import { announce } from "../common/notices.js";
import { href } from "../common/router.js";
import { t, time } from "../common/texts.js";
import { cell, lead, link, row, table, worded } from "./parts.js";
import { secret } from "./secret.js";

export const webhookPath = (id) => `/webhooks/${encodeURIComponent(id)}`;

/** What can be sent, as src/order names it. */
const EVENTS = [
  "shop.order.placed",
  "shop.order.paid",
  "shop.order.fulfilled",
  "shop.order.cancelled",
  "shop.order.expired",
  "shop.order.refunded",
  "shop.user.erased",
];

export default async function webhooks({ signal, show }) {
  const { data } = await get("/webhooks", {}, signal);
  const title = t("admin.webhooks.title");
  const shown = make("div");
  const draw = (found) => shown.replaceChildren(list(found));
  draw(data);
  const refresh = async () => draw((await get("/webhooks", {}, signal)).data);
  show(
    title,
    make("h1", {}, title),
    make("p", {}, t("admin.webhooks.text")),
    shown,
    make("section", { class: "card" }, make("h2", {}, t("admin.webhooks.new")), creator(refresh)),
  );
}

function list(found) {
  if (!found.length) return make("p", {}, t("admin.webhooks.none"));
  return table(
    t("admin.webhooks.title"),
    [t("admin.webhooks.url"), t("admin.webhooks.description"), t("admin.webhooks.state"), t("admin.webhooks.since")],
    found.map((one) =>
      row(
        lead(link(webhookPath(one.id), make("bdi", {}, one.url))),
        own(one.description ?? "–"),
        cell({}, t(one.enabled ? "admin.webhooks.on" : "admin.webhooks.off")),
        cell({}, time(one.createdAt, { dateStyle: "medium" })),
      ),
    ),
  );
}

function creator(refresh) {
  const boxes = EVENTS.map((name) =>
    make("label", { class: "option" }, make("input", { type: "checkbox", name: "event", value: name }), make("code", {}, name)),
  );
  const events = make(
    "fieldset",
    { "data-field": "events" },
    make("legend", {}, t("admin.webhooks.events")),
    make("p", { class: "hint" }, t("admin.webhooks.eventsHint")),
    make("div", { class: "options" }, boxes),
    make("p", { class: "error" }),
  );
  const place = make("div");
  const whole = form({
    fields: [
      field("url", t("admin.webhooks.url"), {
        type: "url",
        required: true,
        dir: "ltr",
        hint: t("admin.webhooks.urlHint"),
        autocomplete: "off",
      }),
      field("description", t("admin.webhooks.description"), { dir: "auto", autocomplete: "off" }),
      events,
    ],
    say: t("admin.webhooks.make"),
    submit: async ({ url, description }) => {
      const chosen = new FormData(whole).getAll("event");
      const body = { url: url.trim(), ...(description && { description }), ...(chosen.length && { events: chosen }) };
      const { data } = await post("/webhooks", body).catch((error) => {
        throw error.status === 409 ? worded(error, t("admin.webhooks.many")) : error;
      });
      whole.reset();
      place.replaceChildren(secret(data.secret, make("a", { href: href(webhookPath(data.id)) }, t("admin.webhooks.open"))));
      announce(t("admin.webhooks.made"));
      place.querySelector("input").focus();
      await refresh();
    },
  });
  return [place, whole];
}

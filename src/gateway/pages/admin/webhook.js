// A webhook: how it goes, and what was sent.

import { ask as send, get, post } from "../common/api.js";
import { make, own } from "../common/dom.js";
import { announce } from "../common/notices.js";
import { go } from "../common/router.js";
import { has, number, t, time } from "../common/texts.js";
import { ask } from "./dialog.js";
import { action, cell, drawn, lead, link, row, section, table } from "./parts.js";
import { secret } from "./secret.js";
import { webhookPath } from "./webhooks.js";

export default async function webhook({ params, signal, show }) {
  const path = webhookPath(params.id);
  const { data } = await get(path, {}, signal);
  /** What goes wrong, and how a test went; apart from a secret, which only another may replace, as it is shown once. */
  const place = make("div");
  const kept = make("div");
  const head = make("div");
  const deliveries = section(
    t("admin.webhooks.deliveries"),
    async () => (await get(`${path}/deliveries`, {}, signal)).data,
    (found) => sent(found, () => deliveries.refresh()),
  );
  const draw = (fresh) => head.replaceChildren(facts(fresh), buttons(fresh, { place, kept }, path, draw, deliveries));
  draw(data);
  await drawn(deliveries);
  const title = t("admin.webhooks.webhook");
  show(
    title,
    make("p", {}, link("/webhooks", t("admin.webhooks.back"))),
    make("h1", {}, title),
    kept,
    place,
    make("section", { class: "card" }, head),
    deliveries,
  );
}

function facts(data) {
  const line = (name, value) => [make("dt", {}, name), make("dd", {}, value)];
  const events = data.events?.length
    ? make(
        "ul",
        { class: "bare" },
        data.events.map((name) => make("li", {}, make("code", {}, name))),
      )
    : t("admin.webhooks.all");
  return make(
    "dl",
    {},
    line(t("admin.webhooks.url"), make("bdi", {}, data.url)),
    line(t("admin.webhooks.description"), own(data.description ?? "–")),
    line(t("admin.webhooks.events"), events),
    line(t("admin.webhooks.state"), t(data.enabled ? "admin.webhooks.on" : "admin.webhooks.off")),
    line(t("admin.webhooks.since"), time(data.createdAt)),
  );
}

function buttons(data, { place, kept }, path, draw, deliveries) {
  const test = async () => {
    const { data: result } = await post(`${path}/test`);
    place.replaceChildren(outcome(result));
    await deliveries.refresh();
  };
  const enable = async () => {
    draw((await post(`${path}/enable`)).data);
    announce(t("admin.webhooks.enabled"));
    document.querySelector('main [data-act="test"]').focus();
  };
  const rotate = async () => {
    let fresh;
    const isDone = await ask({
      title: t("admin.webhooks.rotate"),
      text: make("p", {}, t("admin.webhooks.rotateText")),
      say: t("admin.webhooks.rotate"),
      act: async () => (fresh = (await post(`${path}/rotate`)).data),
    });
    if (!isDone) return;
    kept.replaceChildren(secret(fresh.secret));
    kept.querySelector("input").focus();
  };
  const remove = async () => {
    const isDone = await ask({
      title: t("admin.webhooks.delete"),
      text: make("p", {}, t("admin.webhooks.deleteText")),
      say: t("admin.webhooks.delete"),
      act: () => send("DELETE", path),
    });
    if (!isDone) return;
    announce(t("admin.webhooks.deleted"));
    go("/webhooks");
  };
  return make(
    "p",
    { class: "actions" },
    action(t("admin.webhooks.test"), test, place, { class: "primary", "data-act": "test" }),
    !data.enabled && action(t("admin.webhooks.enable"), enable, place),
    action(t("admin.webhooks.rotate"), rotate, place),
    action(t("admin.webhooks.delete"), remove, place, { class: "danger" }),
  );
}

/** How the test went. What the receiver said is in the words of the shop's API. */
function outcome({ delivered, httpStatus, error }) {
  if (delivered) return make("p", { class: "degraded good", role: "status" }, t("admin.webhooks.testGood", { status: httpStatus ?? "" }));
  return make(
    "div",
    { class: "trouble", role: "alert", "data-kind": "test" },
    make("p", { class: "what" }, t("admin.webhooks.testBad")),
    error && make("p", { lang: "en" }, error),
    httpStatus && make("p", {}, t("admin.webhooks.testStatus", { status: String(httpStatus) })),
  );
}

/** What the event is about; the page of an order that is there still. */
function about({ type, subject }) {
  const code = make("code", {}, subject);
  return type.startsWith("shop.order.") ? link(`/orders/${encodeURIComponent(subject)}`, code) : code;
}

function sent(found, refresh) {
  const again = action(t("admin.overview.refresh"), refresh, make("div"));
  if (!found.length) return [make("p", {}, t("admin.webhooks.nothing")), make("p", {}, again)];
  const columns = ["type", "subject", "state", "attempts", "answer", "next"].map((name) => t(`admin.webhooks.column.${name}`));
  const state = (one) => (has(`admin.webhooks.delivery.${one.status}`) ? t(`admin.webhooks.delivery.${one.status}`) : one.status);
  const when = (one) => ((one.nextAttemptAt ?? one.finishedAt) ? time(one.nextAttemptAt ?? one.finishedAt) : "–");
  return [
    make("p", {}, again),
    table(
      t("admin.webhooks.deliveries"),
      columns,
      found.map((one) =>
        row(
          lead(make("code", {}, one.type)),
          cell({}, about(one)),
          cell({}, state(one)),
          cell({ class: "number" }, number(one.attempts)),
          cell({ lang: "en" }, own([one.httpStatus, one.error].filter(Boolean).join(" ") || "–")),
          cell({}, when(one)),
        ),
      ),
    ),
  ];
}

// Events that a consumer could not take.

import { ask as send, get, post } from "../common/api.js";
import { make, own } from "../common/dom.js";
import { announce } from "../common/notices.js";
import { go } from "../common/router.js";
import { number, t, time } from "../common/texts.js";
import { ask } from "./dialog.js";
import { action, pager, worded } from "./parts.js";

const path = (letter) => `/events/dead-letters/${encodeURIComponent(letter.id)}`;

export default async function letters({ query, signal, show }) {
  const here = { cursor: query.get("cursor") };
  const page = await get("/events/dead-letters", { ...here, limit: 20 }, signal);
  const title = t("admin.letters.title");
  const heading = make("h1", { tabindex: "-1" }, title);
  const none = make("p", { hidden: page.data.length > 0 }, t("admin.letters.none"));
  const list = make("ul", { class: "letters" });
  const gone = (item) => {
    item.remove();
    // Others may be on another page of the list.
    if (!list.childElementCount && (page.next || here.cursor)) return go("/dead-letters", { replace: true });
    none.hidden = list.childElementCount > 0;
    heading.focus();
  };
  list.append(...page.data.map((letter) => item(letter, gone)));
  show(title, heading, make("p", {}, t("admin.letters.text")), none, list, pager("/dead-letters", here, page.next));
}

function item(letter, gone) {
  const place = make("div");
  const state = make("p", { class: "soft", hidden: !letter.redriven, role: "status" }, t("admin.letters.redriven"));
  const whole = make(
    "li",
    { class: "card" },
    make("h2", {}, make("code", {}, letter.type ?? t("admin.letters.noEvent"))),
    facts(letter),
    state,
    message(letter),
    place,
  );
  const redrive = async () => {
    await post(`${path(letter)}/redrive`).catch((error) => {
      throw error.status === 409 ? worded(error, t("admin.letters.nobody")) : error;
    });
    state.hidden = false;
    announce(t("admin.letters.did"));
  };
  const drop = async () => {
    const isDone = await ask({
      title: t("admin.letters.drop"),
      text: make("p", {}, t("admin.letters.dropText")),
      say: t("admin.letters.drop"),
      act: () => send("DELETE", path(letter)),
    });
    if (!isDone) return;
    announce(t("admin.letters.dropped"));
    gone(whole);
  };
  whole.append(
    make(
      "p",
      { class: "actions" },
      action(t("admin.letters.redrive"), redrive, place),
      action(t("admin.letters.drop"), drop, place, { class: "danger" }),
    ),
  );
  return whole;
}

function facts(letter) {
  const line = (name, value) => [make("dt", {}, name), make("dd", {}, value)];
  return make(
    "dl",
    {},
    line(t("admin.letters.consumer"), make("code", {}, letter.consumer)),
    letter.subject && line(t("admin.letters.subject"), make("code", {}, letter.subject)),
    line(t("admin.letters.reason"), make("span", { lang: "en" }, own(letter.reason))),
    line(t("admin.letters.attempts"), number(letter.attempts)),
    line(t("admin.letters.at"), time(letter.createdAt)),
  );
}

const message = ({ message }) =>
  make(
    "details",
    {},
    make("summary", {}, t("admin.letters.message")),
    make(
      "pre",
      { tabindex: "0", role: "region", "aria-label": t("admin.letters.message"), dir: "ltr" },
      typeof message === "string" ? message : JSON.stringify(message, null, 2),
    ),
  );

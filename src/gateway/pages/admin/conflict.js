// Two people changed the same product: what is stored now beside what was typed, and a choice for each field.

import { make } from "../common/dom.js";
import { button } from "../common/forms.js";
import { money, t } from "../common/texts.js";
import { FIELDS } from "./draft.js";
import { same } from "./same.js";

const shown = (name, value) => {
  if (same(value, "") || same(value, []) || same(value, {})) return make("i", {}, t("admin.conflict.empty"));
  if (name === "price") return money(value);
  if (Array.isArray(value))
    return make(
      "ul",
      {},
      value.map((one) => make("li", {}, make("bdi", {}, one))),
    );
  if (typeof value === "object")
    return make(
      "ul",
      {},
      Object.entries(value).map(([key, one]) =>
        make("li", {}, make("bdi", {}, `${key}: ${typeof one === "string" ? one : JSON.stringify(one)}`)),
      ),
    );
  return make("bdi", { class: "lines" }, value);
};

function choice(name, mine, theirs, isMine) {
  const words = (value) => make("span", { class: "shown" }, shown(name, value));
  const option = (value, text, content, checked) =>
    make(
      "label",
      { class: "choice" },
      make("input", { type: "radio", name: `conflict-${name}`, value, checked }),
      make("span", {}, make("b", {}, text), content),
    );
  const typed = words(mine);
  const element = make(
    "fieldset",
    { class: "side-by-side", "data-conflict": name },
    make("legend", {}, t(`admin.products.field.${name}`)),
    option("theirs", t("admin.conflict.stored"), words(theirs), !isMine),
    option("mine", t("admin.conflict.mine"), typed, isMine),
  );
  const pick = (value) => (element.querySelector(`input[value="${value}"]`).checked = true);
  /** Shows what was typed after the box was there; it is what is to be, unless another choice follows. */
  const follow = (now) => {
    if (same(now, mine)) return;
    mine = now;
    typed.replaceChildren(shown(name, now));
    pick("mine");
  };
  return { element, pick, follow, isMine: () => element.querySelector("input:checked").value === "mine" };
}

/** A box that asks, for each field in which `mine` and `theirs` differ, which is to be. At first mine is chosen where I have changed it since
 *  `base`, and theirs elsewhere. `finish()` is called by its button. Gives `{ element, choose, follow }`: `choose(now)` is the draft to
 *  save, where `now` is what the form says then, and `follow(now)` is to be called when something is typed. */
export function conflict({ base, mine, theirs, finish }) {
  const fields = FIELDS.filter((name) => !same(mine[name], theirs[name]));
  const choices = new Map(fields.map((name) => [name, choice(name, mine[name], theirs[name], !same(mine[name], base[name]))]));
  const all = (value) => choices.forEach(({ pick }) => pick(value));
  const isTheirs = (name) => choices.has(name) && !choices.get(name).isMine();
  const choose = (now) => Object.fromEntries(FIELDS.map((name) => [name, isTheirs(name) ? theirs[name] : now[name]]));
  const heading = make("h2", { tabindex: "-1" }, t("admin.conflict.title"));
  const element = make(
    "section",
    { class: "trouble", "data-kind": "412", "aria-label": t("admin.conflict.title") },
    heading,
    make("p", { role: "alert" }, t("admin.conflict.text")),
    choices.size > 1 &&
      make(
        "p",
        { class: "actions" },
        button(t("admin.conflict.allMine"), () => all("mine")),
        button(t("admin.conflict.allTheirs"), () => all("theirs")),
      ),
    [...choices.values()].map(({ element }) => element),
    make("p", { class: "actions" }, button(t("admin.conflict.save"), finish, { class: "primary" })),
  );
  return { element, choose, follow: (now) => choices.forEach(({ follow }, name) => follow(now[name])) };
}

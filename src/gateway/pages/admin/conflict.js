// Two people changed the same product: what is stored now beside what was typed, and a choice for each field.

import { make } from "../common/dom.js";
import { button } from "../common/forms.js";
import { money, t } from "../common/texts.js";
import { FIELDS, same } from "./draft.js";

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
  const option = (value, text, content, checked) =>
    make(
      "label",
      { class: "choice" },
      make("input", { type: "radio", name: `conflict-${name}`, value, checked }),
      make("span", {}, make("b", {}, text), make("span", { class: "shown" }, content)),
    );
  return make(
    "fieldset",
    { class: "side-by-side", "data-conflict": name },
    make("legend", {}, t(`admin.products.field.${name}`)),
    option("theirs", t("admin.conflict.stored"), shown(name, theirs), !isMine),
    option("mine", t("admin.conflict.mine"), shown(name, mine), isMine),
  );
}

/** A box that asks, for each field in which `mine` and `theirs` differ, which is to be. At first mine is chosen where I have changed it since
 *  `base`, and theirs elsewhere. `save(draft)` is called with what was chosen, `discard()` where nothing of mine is to stay. */
export function conflict({ base, mine, theirs, save, discard }) {
  const fields = FIELDS.filter((name) => !same(mine[name], theirs[name]));
  const choices = fields.map((name) => choice(name, mine[name], theirs[name], !same(mine[name], base[name])));
  const all = (value) => {
    for (const one of choices) one.querySelector(`input[value="${value}"]`).checked = true;
  };
  const chosen = () =>
    Object.fromEntries(
      FIELDS.map((name) => {
        const at = fields.indexOf(name);
        const isMine = at >= 0 && choices[at].querySelector("input:checked").value === "mine";
        return [name, isMine ? mine[name] : theirs[name]];
      }),
    );
  const finish = () => {
    const draft = chosen();
    return same(draft, theirs) ? discard(theirs) : save(draft);
  };
  const heading = make("h2", { tabindex: "-1" }, t("admin.conflict.title"));
  return make(
    "section",
    { class: "trouble", "data-kind": "412", "aria-label": t("admin.conflict.title") },
    heading,
    make("p", { role: "alert" }, t("admin.conflict.text")),
    choices.length > 1 &&
      make(
        "p",
        { class: "actions" },
        button(t("admin.conflict.allMine"), () => all("mine")),
        button(t("admin.conflict.allTheirs"), () => all("theirs")),
      ),
    choices,
    make("p", { class: "actions" }, button(t("admin.conflict.save"), finish, { class: "primary" })),
  );
}

// Lists of rows in a form, which grow, shrink and change their order by buttons.

import { make } from "../common/dom.js";
import { button } from "../common/forms.js";
import { announce } from "../common/notices.js";
import { t } from "../common/texts.js";

/** A group of rows under the field `name`. `create(value)` gives `{ element, read }` of a row, where `read()` gives its value;
 *  `add` is the text of the button that adds `fresh`; `isOrdered` says whether rows can be moved. */
export function rows(name, label, values, { create, add, fresh, hint, isOrdered = false }) {
  const list = make("ol", { class: "rows" });
  const state = new Map();
  const error = make("p", { class: "error", id: `rows-${name}-error` });
  const adder = button(add, () => {
    append(fresh);
    list.lastElementChild.querySelector("input").focus();
  });
  function append(value) {
    const made = create(value);
    const item = make("li", {}, made.element);
    const tools = make("span", { class: "actions tools" }, isOrdered && [mover(item, -1), mover(item, 1)], button(t("admin.rows.remove"), () => remove(item)));
    item.append(tools);
    state.set(item, made);
    list.append(item);
  }
  function mover(item, by) {
    return button(t(by < 0 ? "admin.rows.up" : "admin.rows.down"), (event) => {
      const next = by < 0 ? item.previousElementSibling : item.nextElementSibling;
      if (!next) return;
      by < 0 ? next.before(item) : next.after(item);
      event.target.focus();
      announce(t("admin.rows.moved", { at: [...list.children].indexOf(item) + 1 }));
    });
  }
  function remove(item) {
    const next = item.nextElementSibling ?? item.previousElementSibling;
    item.remove();
    state.delete(item);
    (next?.querySelector("input") ?? adder).focus();
  }
  const write = (fresh) => {
    list.replaceChildren();
    state.clear();
    fresh.forEach(append);
  };
  write(values);
  const element = make("fieldset", { "data-field": name }, make("legend", {}, label), hint && make("p", { class: "hint" }, hint), list, make("p", {}, adder), error);
  return { element, read: () => [...list.children].map((item) => state.get(item).read()), write };
}

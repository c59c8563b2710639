// Lists of rows in a form, which grow, shrink and change their order by buttons.

import { make } from "../common/dom.js";
import { button } from "../common/forms.js";
import { announce } from "../common/notices.js";
import { t } from "../common/texts.js";

/** A group of rows under a field's name. */
export class Rows {
  #create;
  #isOrdered;
  #adder;
  #list = make("ol", { class: "rows" });
  #made = new Map();

  /** `create(value)` gives `{ element, read }` of a row, where `read()` gives its value; `add` is the text of the button that adds
   *  `fresh`; `isOrdered` says whether rows can be moved. */
  constructor(name, label, values, { create, add, fresh, hint, isOrdered = false }) {
    this.#create = create;
    this.#isOrdered = isOrdered;
    this.#adder = button(add, () => this.#append(fresh).querySelector("input").focus());
    this.write(values);
    const note = hint && make("p", { class: "hint" }, hint);
    const error = make("p", { class: "error", id: `rows-${name}-error` });
    const content = [make("legend", {}, label), note, this.#list, make("p", {}, this.#adder), error];
    this.element = make("fieldset", { "data-field": name }, content);
  }

  /** The values of the rows, in their order. */
  read() {
    return [...this.#list.children].map((item) => this.#made.get(item).read());
  }

  /** Shows `values` instead of what is there. */
  write(values) {
    this.#list.replaceChildren();
    this.#made.clear();
    for (const value of values) this.#append(value);
  }

  #append(value) {
    const made = this.#create(value);
    const item = make("li", {}, made.element);
    const movers = this.#isOrdered && [this.#mover(item, -1), this.#mover(item, 1)];
    item.append(
      make(
        "span",
        { class: "actions tools" },
        movers,
        button(t("admin.rows.remove"), () => this.#remove(item)),
      ),
    );
    this.#made.set(item, made);
    this.#list.append(item);
    return item;
  }

  #mover(item, by) {
    return button(t(by < 0 ? "admin.rows.up" : "admin.rows.down"), (event) => {
      const next = by < 0 ? item.previousElementSibling : item.nextElementSibling;
      if (!next) return;
      by < 0 ? next.before(item) : next.after(item);
      event.target.focus();
      announce(t("admin.rows.moved", { at: [...this.#list.children].indexOf(item) + 1 }));
    });
  }

  #remove(item) {
    const next = item.nextElementSibling ?? item.previousElementSibling;
    item.remove();
    this.#made.delete(item);
    (next?.querySelector("input") ?? this.#adder).focus();
  }
}

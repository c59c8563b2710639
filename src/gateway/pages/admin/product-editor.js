// The form of a product that is there. It saves over the version that it has shown; a newer one is laid beside it.

import { ask, get } from "../common/api.js";
import { make } from "../common/dom.js";
import { announce } from "../common/notices.js";
import { t } from "../common/texts.js";
import { conflict } from "./conflict.js";
import { changes, draftOf, same } from "./draft.js";
import { productPath } from "./price.js";
import { productForm } from "./product-form.js";
import { watchOver } from "./unsaved.js";

export class ProductEditor {
  #path;
  #etag;
  #base;
  #form;
  #place = make("div");
  #box = null;
  #renamed;
  #saved;

  /** `stored` is the API's answer; `renamed(product)` is called when another version is there. */
  constructor(stored, categories, signal, renamed) {
    this.#path = productPath(stored.data.id);
    this.#etag = stored.etag;
    this.#base = draftOf(stored.data);
    this.#renamed = renamed;
    this.#form = productForm(this.#base, categories, { say: t("admin.save"), save: (draft) => this.#save(draft) });
    this.#saved = watchOver(this.#form.element, signal);
    // Rows are moved and removed by buttons.
    for (const event of ["input", "click"]) this.#form.element.addEventListener(event, () => this.#follow());
  }

  get elements() {
    return [this.#place, this.#form.element];
  }

  /** There is nothing to save any more. */
  forget() {
    this.#saved();
  }

  async #save(draft) {
    const body = changes(this.#base, draft);
    if (!Object.keys(body).length && !this.#place.hasChildNodes()) return announce(t("admin.products.unchanged"));
    try {
      const answer = await ask("PATCH", this.#path, { body, headers: { "if-match": this.#etag } });
      this.#accept(answer);
      announce(t("admin.products.saved", { name: answer.data.name }));
    } catch (error) {
      if (error.status !== 412) throw error;
      const fresh = await get(this.#path);
      if (!same(draftOf(fresh.data), this.#base)) return this.#compare(draft, fresh);
      // Only what the form does not have is another, as whether it is in stock.
      this.#etag = fresh.etag;
      await this.#save(draft);
    }
  }

  /** From now on, the form is about this version. */
  #accept({ etag, data }) {
    this.#etag = etag;
    this.#base = draftOf(data);
    this.#box = null;
    this.#place.replaceChildren();
    this.#renamed(data);
    this.#saved();
  }

  #compare(mine, answer) {
    const theirs = draftOf(answer.data);
    this.#box = conflict({ base: this.#base, mine, theirs, finish: (choose) => this.#settle(choose, theirs, answer) });
    this.#place.replaceChildren(this.#box.element);
    this.#box.element.querySelector("h2").focus();
  }

  /** Saves what was chosen over their version. */
  #settle(choose, theirs, answer) {
    const whole = this.#form.element;
    const now = this.#read();
    // The form says what is wrong in it.
    if (!now) return whole.requestSubmit();
    const chosen = choose(now);
    this.#form.write(theirs);
    this.#accept(answer);
    this.#form.write(chosen);
    whole.querySelector("[name=name]").focus();
    same(chosen, theirs) ? announce(t("admin.conflict.taken")) : whole.requestSubmit();
  }

  /** What the form says, or null while something in it is wrong. */
  #read() {
    try {
      return this.#form.read();
    } catch {
      return null;
    }
  }

  #follow() {
    const now = this.#box && this.#read();
    if (now) this.#box.follow(now);
  }
}

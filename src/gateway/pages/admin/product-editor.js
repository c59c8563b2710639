// The form of a product that is there. It saves over the version that it has shown; a newer one is laid beside it.

import { ask, get } from "../common/api.js";
import { make } from "../common/dom.js";
import { announce } from "../common/notices.js";
import { t } from "../common/texts.js";
import { conflict } from "./conflict.js";
import { changes, draftOf, patched } from "./draft.js";
import { productPath } from "./price.js";
import { productForm } from "./product-form.js";
import { same } from "./same.js";
import { watchOver } from "./unsaved.js";
import { Wrong } from "./wrong.js";

export class ProductEditor {
  #path;
  #etag;
  #base;
  #form;
  #place = make("div");
  #box = null;
  #renamed;
  #watch;

  /** `stored` is the API's answer; `renamed(product)` is called when another version is there. */
  constructor(stored, categories, signal, renamed) {
    this.#path = productPath(stored.data.id);
    this.#etag = stored.etag;
    this.#base = draftOf(stored.data);
    this.#renamed = renamed;
    this.#form = productForm(this.#base, categories, { say: t("admin.save"), save: (draft) => this.#submit(draft) });
    this.#watch = watchOver(this.#form.element, signal);
    // Rows are moved and removed by buttons.
    for (const event of ["input", "click"]) this.#form.element.addEventListener(event, () => this.#follow());
  }

  get elements() {
    return [this.#place, this.#form.element];
  }

  /** While the box of a conflict is there, to save is to save what is chosen in it. */
  #submit(draft) {
    return this.#box ? this.#settle(draft) : this.#save(draft);
  }

  async #save(draft) {
    const typed = this.#watch.typed();
    const body = changes(this.#base, draft);
    if (!Object.keys(body).length) return announce(t("admin.products.unchanged"));
    this.#checkNulls(draft, body);
    try {
      const answer = await ask("PATCH", this.#path, { body, headers: { "if-match": this.#etag } });
      this.#accept(answer, typed);
      announce(t("admin.products.saved", { name: answer.data.name }));
    } catch (error) {
      if (error.status !== 412) throw error;
      const fresh = await get(this.#path);
      const theirs = draftOf(fresh.data);
      if (same(draft, theirs)) {
        // They have made the same change.
        this.#accept(fresh, typed);
        return announce(t("admin.conflict.taken"));
      }
      if (!same(theirs, this.#base)) return this.#compare(draft, theirs, fresh);
      // Only what the form does not have is another, as whether it is in stock.
      this.#etag = fresh.etag;
      await this.#save(draft);
    }
  }

  /** A merge patch removes what is null, so it cannot write one into an attribute. */
  #checkNulls(draft, body) {
    const stored = patched(this.#base.attributes, body.attributes ?? {});
    const key = Object.keys(draft.attributes).find((name) => !same(stored[name], draft.attributes[name]));
    if (key !== undefined) throw new Wrong("attributes", t("admin.products.attribute.null", { key }));
  }

  /** From now on, the form is about this version; what it said when that was saved is `typed`. */
  #accept({ etag, data }, typed) {
    this.#etag = etag;
    this.#base = draftOf(data);
    this.#box = null;
    this.#place.replaceChildren();
    this.#renamed(data);
    this.#watch.saved(typed);
  }

  #compare(mine, theirs, answer) {
    const box = conflict({ base: this.#base, mine, theirs, finish: () => this.#form.element.requestSubmit() });
    this.#box = { ...box, theirs, answer };
    this.#place.replaceChildren(box.element);
    box.element.querySelector("h2").focus();
    // Something may have been typed while the answers came.
    this.#follow();
  }

  /** Saves what was chosen over their version; `now` is what the form says. */
  async #settle(now) {
    const { choose, theirs, answer } = this.#box;
    const chosen = choose(now);
    // The button that was pressed goes with the box.
    const isInBox = this.#place.contains(document.activeElement);
    this.#form.write(theirs);
    this.#accept(answer);
    this.#form.write(chosen);
    if (isInBox) this.#form.element.querySelector("[name=name]").focus();
    if (same(chosen, theirs)) return announce(t("admin.conflict.taken"));
    await this.#save(chosen);
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

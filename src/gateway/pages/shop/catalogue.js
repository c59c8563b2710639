// The catalogue: search as you type, filters, and one page of products after the other.

import { ask } from "../common/api.js";
import { keyed, make, own, say } from "../common/dom.js";
import { degraded, trouble } from "../common/notices.js";
import { refine } from "../common/router.js";
import { t } from "../common/texts.js";
import { card } from "./cards.js";
import { addCategories, asked, filters, known } from "./filters.js";

const LIMIT = 20;
/** How many of the first cards load their pictures at once. */
const FIRST = 4;
/** What lists looked like when they were left, by address, the last few of them: for the way back. */
const left = new Map();
const KEPT = 5;

export default async function catalogue({ query, signal, show, back }) {
  const chosen = known(query);
  const list = new Listing(chosen, signal);
  const { form, categories } = filters(chosen, (values) => list.change({ ...values, tag: list.query.tag }), signal);
  addCategories(categories, signal);
  show(
    t("shop.catalogue"),
    make("h1", { class: "unseen" }, t("shop.catalogue")),
    make(
      "div",
      { class: "catalogue" },
      form,
      make("section", { "aria-label": t("shop.results") }, list.chip, list.status, list.notice, list.items, list.end),
    ),
  );
  const place = back && left.get(location.search);
  signal.addEventListener("abort", () => list.leave());
  if (place) list.restore(place);
  else await list.change(chosen);
}

/** Products that are found, and how to get more of them. */
class Listing {
  #asking = new AbortController();
  #products = [];
  #next = null;
  #isLoading = false;

  constructor(query, signal) {
    this.query = query;
    this.signal = signal;
    /** The address of what is listed. */
    this.address = location.search;
    this.items = make("ul", { class: "products" });
    this.status = make("p", { class: "soft", role: "status" });
    this.notice = make("div");
    this.chip = make("p", { class: "chip", hidden: true });
    this.more = make("button", { type: "button", onclick: () => this.load() }, t("shop.more"));
    this.end = make("p", { class: "end", hidden: true }, this.more);
    this.seen = new IntersectionObserver(([entry]) => entry.isIntersecting && this.load(), { rootMargin: "600px" });
    signal.addEventListener("abort", () => {
      this.seen.disconnect();
      this.#asking.abort();
    });
  }

  /** Looks for something else; what was being looked for is given up. */
  async change(query) {
    this.query = query;
    this.#asking.abort();
    this.#asking = new AbortController();
    refine(query);
    this.#showTag();
    this.#isLoading = false;
    await this.load(true);
  }

  /** The next page, or the first. */
  async load(isFirst = false) {
    if (this.#isLoading || (!isFirst && !this.#next)) return;
    const { signal } = this.#asking;
    const hadFocus = [this.end, this.notice].some((place) => place.contains(document.activeElement));
    const before = isFirst ? 0 : this.#products.length;
    this.#isLoading = true;
    this.items.setAttribute("aria-busy", "true");
    this.notice.replaceChildren();
    if (isFirst && !this.#products.length) say(this.status, t("common.loading"));
    try {
      const query = isFirst ? { ...asked(this.query), limit: LIMIT } : this.#next;
      const answer = await ask("GET", "/products", { query, signal, signed: false });
      this.#take(answer, isFirst);
      if (hadFocus) this.#refocus(before);
    } catch (error) {
      if (!signal.aborted) this.#fail(error, isFirst, hadFocus);
    } finally {
      if (!signal.aborted) this.#isLoading = false;
      if (!signal.aborted) this.items.removeAttribute("aria-busy");
    }
  }

  /** The button that had the focus may be gone: the first product that is new gets it. */
  #refocus(before) {
    const now = document.activeElement;
    if (now !== document.body && !(now === this.more && this.end.hidden)) return;
    (this.items.children[before] ?? this.items.lastElementChild)?.querySelector("a").focus();
  }

  #take({ data, next, headers }, isFirst) {
    const before = new Set(isFirst ? [] : this.#products.map(({ id }) => id));
    // A product that changes while somebody pages may come twice.
    this.#products = [...(isFirst ? [] : this.#products), ...data.filter(({ id }) => !before.has(id))];
    this.#next = next;
    if (isFirst) this.address = location.search;
    if (headers.get("x-cache") === "STALE") this.notice.replaceChildren(degraded(t("shop.stale")));
    this.#draw();
  }

  #draw() {
    const first = new Set(this.#products.slice(0, FIRST));
    keyed(
      this.items,
      this.#products,
      ({ id, updatedAt }) => `${id} ${updatedAt}`,
      (product) => card(product, { isFirst: first.has(product) }),
    );
    this.end.hidden = !this.#next;
    // It is told anew where the end is, which may still be on the screen.
    this.seen.unobserve(this.end);
    this.seen.observe(this.end);
    const count = this.#products.length;
    say(this.status, count === 0 ? t("shop.nothing") : t(this.#next ? "shop.foundMore" : "shop.found", { count }));
  }

  /** What is there already stays, but where the shop refuses what it is asked for: then it is no answer to that. */
  #fail(error, isFirst, hadFocus) {
    if (isFirst && error.status === 422) {
      [this.#products, this.#next] = [[], null];
      this.#draw();
      const isShort = error.errors?.every(({ field, detail }) => field === "q" && !detail.includes("at most"));
      if (isShort) return say(this.status, t("shop.shortWords"));
    }
    if (isFirst && !this.#products.length) say(this.status, "");
    this.end.hidden = true;
    const box = trouble(error, () => this.load(isFirst));
    this.notice.replaceChildren(box);
    if (hadFocus) box.focus();
  }

  #showTag() {
    const { tag } = this.query;
    this.chip.hidden = !tag;
    if (!tag) return;
    const remove = () => {
      this.change({ ...this.query, tag: "" });
      document.querySelector("[name=q]").focus();
    };
    this.chip.replaceChildren(
      make(
        "button",
        { type: "button", "aria-label": t("shop.removeTag", { tag }), onclick: remove },
        own(tag),
        make("span", { "aria-hidden": "true" }, " ✕"),
      ),
    );
  }

  leave() {
    if (!this.#products.length) return;
    const focused = document.activeElement?.closest?.(".product")?.dataset.key;
    left.delete(this.address);
    left.set(this.address, { products: this.#products, next: this.#next, y: scrollY, focused });
    if (left.size > KEPT) left.delete(left.keys().next().value);
  }

  /** As it was when it was left. */
  restore({ products, next, y, focused }) {
    [this.#products, this.#next] = [products, next];
    this.#showTag();
    this.#draw();
    const link = [...this.items.children].find((item) => item.dataset.key === focused)?.querySelector("a");
    link?.focus({ preventScroll: true });
    scrollTo(0, y);
  }
}

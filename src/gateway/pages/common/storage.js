// What a page keeps in the browser. Where a browser keeps nothing (its owner forbids it, or it is full), it is kept until the page is
// closed. The names carry the path of the shop, so that two shops on one host do not mix.

import { ROOT } from "./http.js";

/** The name of something of this shop, for storages, channels and locks. */
export const named = (name) => `${ROOT.pathname}${name}`;

/** A key that nobody else has: 128 random bits. Pages that come without TLS have no `randomUUID`. */
export const newKey = () => Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");

class Storage {
  #kind;
  /** What the browser did not take. */
  #rest = new Map();

  constructor(kind) {
    this.#kind = kind;
  }

  /** What `act` gives for the browser's storage, or undefined where there is none. */
  #try(act) {
    try {
      return act(globalThis[this.#kind]);
    } catch {
      return undefined;
    }
  }

  /** The text at `name`, or null. */
  get(name) {
    return this.#rest.get(name) ?? this.#try((storage) => storage.getItem(named(name))) ?? null;
  }

  set(name, text) {
    this.#rest.set(name, text);
    this.#try((storage) => {
      storage.setItem(named(name), text);
      this.#rest.delete(name);
    });
  }

  remove(name) {
    this.#rest.delete(name);
    this.#try((storage) => storage.removeItem(named(name)));
  }

  /** Removes what the pages of this shop have put there. */
  clear() {
    this.#rest.clear();
    const names = this.#try((storage) => Object.keys(storage)) ?? [];
    for (const name of names) if (name.startsWith(named("shop."))) this.#try((storage) => storage.removeItem(name));
  }
}

/** For all tabs, until it is removed; and for this tab alone. */
export const local = new Storage("localStorage");
export const tab = new Storage("sessionStorage");

/** What is at `name` of `storage` as JSON; null where there is nothing, or something else. */
export function recall(storage, name) {
  try {
    return JSON.parse(storage.get(name));
  } catch {
    return null;
  }
}

// One thing at a time, in all tabs of the shop.

import { named } from "./storage.js";

let queue = Promise.resolve();

/** Runs `act` when no other is run: by all tabs where the browser has locks, else by this one. Gives what it gives. */
export function alone(act) {
  queue = queue.catch(() => {}).then(async () => {
    let isRun = false;
    const run = () => {
      isRun = true;
      return act();
    };
    try {
      if (navigator.locks) return await navigator.locks.request(named("shop.session"), run);
    } catch (error) {
      // Where a page may keep nothing, it has no locks either.
      if (isRun || error.name !== "SecurityError") throw error;
    }
    return run();
  });
  return queue;
}

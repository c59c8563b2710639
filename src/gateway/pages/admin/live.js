// Pages that follow what happens in the shop.

import { make, say } from "../common/dom.js";
import { follow } from "../common/events.js";
import { t } from "../common/texts.js";

/** A page is drawn anew at most this often, in milliseconds, however much happens. */
const PAUSE = 1000;

/** Runs `act` at once, and again after the pause if it was called meanwhile. */
function calmly(act) {
  let isWaiting = false;
  let isMore = false;
  return async function run() {
    isMore = true;
    if (isWaiting) return;
    isWaiting = true;
    while (isMore) {
      isMore = false;
      await act();
      await new Promise((done) => setTimeout(done, PAUSE));
    }
    isWaiting = false;
  };
}

/** Follows events until `signal` is aborted: `heard(event)` gets each, and says whether the page is to be drawn anew by `refresh()`, as
 *  it is also where events were missed. Gives a line that says whether the page is live. */
export function live({ signal, heard, refresh }) {
  const line = make("p", { class: "live soft" }, t("admin.live.off"));
  const again = calmly(() => (signal.aborted ? null : Promise.resolve(refresh()).catch(() => {})));
  let isFollowing = false;
  const changed = (isLive, isMissing) => {
    say(line, t(isLive ? "admin.live.on" : "admin.live.off"));
    line.dataset.live = isLive;
    // What happened between the page's own requests and the stream came by neither.
    if (isLive && isMissing) again();
  };
  const begin = async () => {
    if (isFollowing) return;
    isFollowing = true;
    await follow({ signal, heard: (event) => heard(event) && again(), changed });
    // The session is over; gate.js says when somebody is signed in again.
    isFollowing = false;
    if (!signal.aborted) changed(false);
  };
  document.addEventListener("resumed", begin, { signal });
  begin();
  return line;
}

/** The state that an event of an order leads to, or null. */
export const stateOf = (event) => /^shop\.order\.(\w+)$/.exec(event.type)?.[1] ?? null;

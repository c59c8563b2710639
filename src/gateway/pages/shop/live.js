// What happens to orders, as it happens.

import { make, say } from "../common/dom.js";
import { follow } from "../common/events.js";
import { t } from "../common/texts.js";

/** Calls `heard(order)` with each order that changes, and `refresh` when some changes may have been missed, as those between the page's
 *  first question and the stream's beginning; until `signal` is aborted. Gives a line that says whether the page is live. */
export function live({ signal, heard, refresh }) {
  const line = make("p", { class: "soft live", role: "status" });
  let wasAway = false;
  follow({
    signal,
    heard: ({ type, data }) => type.startsWith("shop.order.") && heard(data),
    changed: (isLive, isMissing) => {
      line.dataset.live = isLive ? "yes" : "no";
      say(line, isLive ? (wasAway ? t("shop.live.again") : "") : t("shop.live.away"));
      if (isLive && isMissing) refresh();
      wasAway ||= !isLive;
    },
  });
  return line;
}

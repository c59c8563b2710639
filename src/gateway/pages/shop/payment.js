// Pays an order, with the time that is left for it.

import { post } from "../common/api.js";
import { make, say } from "../common/dom.js";
import { explain, form } from "../common/forms.js";
import { announce, trouble } from "../common/notices.js";
import { money, t } from "../common/texts.js";
import { patient } from "./patient.js";

const stripe = document.documentElement.dataset.stripe;
/** The methods of the sandbox that people choose from; see the order role's README. */
const METHODS = ["ok", "declined"];

/** A section that pays `order`. `take(order)` gets what it is then, `refresh()` asks for what became of it; the shop's clock is `ahead` of this
 *  browser's, in milliseconds. */
export function payment(order, { signal, ahead, take, refresh }) {
  const box = make(
    "section",
    { class: "card pay", "aria-labelledby": "pay" },
    make("h2", { id: "pay" }, t("shop.pay.title", { sum: money(order.total, order.currency) })),
    countdown(order, { signal, ahead, refresh }),
  );
  const path = `/orders/${encodeURIComponent(order.id)}/pay`;
  const pay = (paymentMethod) => patient(() => post(path, { paymentMethod }));
  const failed = (error, whole) => explainPayment(error, whole, refresh);
  // What costs nothing takes no card.
  if (stripe && order.total > 0) card(box, { pay, take, failed, signal });
  else box.append(sandbox(pay, take, failed));
  return box;
}

function sandbox(pay, take, failed) {
  const choice = (method, at) =>
    make(
      "div",
      { class: "choice" },
      make("input", { type: "radio", name: "method", id: `method-${method}`, value: method, checked: at === 0 }),
      make("label", { for: `method-${method}` }, t(`shop.pay.methods.${method}`)),
    );
  const submit = async ({ method }, whole) => {
    try {
      take((await pay(method)).data);
    } catch (error) {
      await failed(error, whole);
    }
  };
  return form({
    fields: [
      make(
        "fieldset",
        {},
        make("legend", {}, t("shop.pay.method")),
        METHODS.map(choice),
        make("p", { class: "hint" }, t("shop.pay.sandbox")),
      ),
    ],
    submit,
    say: t("shop.pay.go"),
  });
}

/** The provider's own card field, from a module that is loaded only where there is a provider. */
async function card(box, way) {
  const place = make("div");
  box.append(place);
  const again = async () => {
    try {
      const { cardForm } = await import("./stripe.js");
      place.replaceChildren(await cardForm(stripe, way));
    } catch (error) {
      if (!way.signal.aborted) place.replaceChildren(trouble(error, again));
    }
  };
  await again();
}

/** Says what a payment that failed means. What the order is by now is asked for where it cannot be paid any more. */
async function explainPayment(error, whole, refresh) {
  if (error.status === 402) return refuse(whole, t("shop.pay.refused"));
  if (error.type === "/problems/out-of-stock") return refuse(whole, t("shop.pay.short"));
  if (error.status !== 409) return explain(whole, error);
  refuse(whole, t("shop.pay.over"));
  await refresh();
}

export function refuse(whole, text) {
  const box = make("div", { class: "trouble", role: "alert", tabindex: "-1" }, make("p", {}, text));
  whole.querySelector(".notice").replaceChildren(box);
  box.focus();
}

/** How long the order can be paid; says so when a minute is left, and asks what it is when none is. */
function countdown({ expiresAt }, { signal, ahead, refresh }) {
  const line = make("p", { role: "timer" });
  const end = Date.parse(expiresAt) - ahead;
  let isWarned = false;
  const tick = () => {
    const left = Math.max(0, Math.ceil((end - Date.now()) / 1000));
    const clock = `${Math.floor(left / 60)}:${String(left % 60).padStart(2, "0")}`;
    say(line, left ? t("shop.pay.left", { clock }) : t("shop.pay.late"));
    if (left <= 60 && left > 0 && !isWarned) announce(t("shop.pay.minute"));
    isWarned ||= left <= 60;
    if (left) return;
    clearInterval(timer);
    // The shop notices within a second or two; the stream of events says it, or this does.
    setTimeout(() => !signal.aborted && line.isConnected && refresh().catch(() => {}), 3000);
  };
  const timer = setInterval(tick, 1000);
  signal.addEventListener("abort", () => clearInterval(timer));
  tick();
  return line;
}

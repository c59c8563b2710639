// Cards by Stripe: https://docs.stripe.com/js. Stripe.js comes from Stripe alone, as its rules say, and only where the shop is set up for it.

import { make } from "../common/dom.js";
import { form } from "../common/forms.js";
import { Problem } from "../common/http.js";
import { t } from "../common/texts.js";
import { refuse } from "./payment.js";

/** How often a bank may ask about one payment. */
const QUESTIONS = 3;

const SCRIPT = "https://js.stripe.com/v3/";

/** The only script of elsewhere that this page may load, where the browser asks for a policy (Trusted Types). */
function scriptAddress() {
  const policy = globalThis.trustedTypes?.createPolicy("stripe", {
    createScriptURL: (url) => {
      if (url !== SCRIPT) throw new TypeError(`no script of this page: ${url}`);
      return url;
    },
  });
  return policy?.createScriptURL(SCRIPT) ?? SCRIPT;
}

let loading = null;

function load() {
  loading ??= new Promise((resolve, reject) => {
    const script = document.createElement("script");
    script.src = scriptAddress();
    script.onload = () => resolve(globalThis.Stripe);
    script.onerror = () => {
      loading = null;
      reject(new Problem(0));
    };
    document.head.append(script);
  });
  return loading;
}

/** A form with a card field. `pay(paymentMethod)` asks the shop, `take(order)` gets the order, `failed(error, form)` tells of a Problem. */
export async function cardForm(key, { pay, take, failed }) {
  const stripe = (await load())(key);
  const place = make("div", { class: "card-field" });
  const card = stripe.elements().create("card");
  const submit = async (_, whole) => {
    try {
      const { error, paymentMethod } = await stripe.createPaymentMethod({ type: "card", card });
      if (error) return refuse(whole, error.message);
      await finish(stripe, paymentMethod.id, whole, { pay, take });
    } catch (error) {
      await failed(error, whole);
    }
  };
  const whole = form({ fields: [make("p", { class: "hint" }, t("shop.pay.card")), place], submit, say: t("shop.pay.go") });
  card.mount(place);
  return whole;
}

/** Pays by `method`. As long as the shop says so, the bank asks the customer; then the shop is asked with the same method: it finds what the
 *  bank has said. */
async function finish(stripe, method, whole, { pay, take }) {
  for (let at = 0; at < QUESTIONS; at++) {
    const { status, data } = await pay(method);
    if (status !== 202) return take(data);
    const { error, paymentIntent } = await stripe.handleNextAction({ clientSecret: data.clientSecret });
    if (error) return refuse(whole, error.message ?? t("shop.pay.refused"));
    // The customer has given up, or the bank has refused.
    if (["requires_payment_method", "canceled"].includes(paymentIntent.status)) break;
  }
  refuse(whole, t("shop.pay.refused"));
}

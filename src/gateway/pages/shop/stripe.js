// Cards by Stripe: https://docs.stripe.com/js. Stripe.js comes from Stripe alone, as its rules say, and only where the shop is set up for it.

import { post } from "../common/api.js";
import { make } from "../common/dom.js";
import { form } from "../common/forms.js";
import { Problem } from "../common/http.js";
import { t } from "../common/texts.js";
import { refuse } from "./payment.js";

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
export async function cardForm(key, { order, pay, take, failed }) {
  const stripe = (await load())(key);
  const place = make("div", { class: "card-field" });
  const card = stripe.elements().create("card");
  const submit = async (_, whole) => {
    try {
      const { error, paymentMethod } = await stripe.createPaymentMethod({ type: "card", card });
      if (error) return refuse(whole, error.message);
      const answer = await pay(paymentMethod.id);
      if (answer.status !== 202) return take(answer.data);
      await ask(stripe, answer.data.clientSecret, whole, { order, take });
    } catch (error) {
      await failed(error, whole);
    }
  };
  const whole = form({ fields: [make("p", { class: "hint" }, t("shop.pay.card")), place], submit, say: t("shop.pay.go") });
  card.mount(place);
  return whole;
}

/** Lets the bank ask the customer. Then the shop is asked to pay with the same method: it finds what the bank has said. */
async function ask(stripe, clientSecret, whole, { order, take }) {
  const { error, paymentIntent } = await stripe.handleNextAction({ clientSecret });
  if (error) return refuse(whole, error.message);
  const { data } = await post(`/orders/${encodeURIComponent(order.id)}/pay`, { paymentMethod: paymentIntent.payment_method });
  if (data.status) take(data);
}

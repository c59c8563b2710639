// Where an order goes and how the customer is reached.

import { make } from "../common/dom.js";
import { field } from "../common/forms.js";
import { local, recall, tab } from "../common/storage.js";
import { t } from "../common/texts.js";

/** The names of the texts in `contact` and `shipTo`, and what browsers call them (HTML, autofill). */
const CONTACT = { name: "name", email: "email", phone: "tel" };
const SHIP_TO = {
  name: "shipping name",
  street: "shipping street-address",
  postcode: "shipping postal-code",
  city: "shipping address-level2",
  region: "shipping address-level1",
  country: "shipping country-name",
};
const OPTIONAL = ["phone", "region"];
/** The most characters that the API takes in a text. */
const LONGEST = 500;

const KEY = "shop.delivery";
const stored = (id) => `${KEY}.${id}`;

/** What is typed stays in this tab while somebody signs in again; what is to be remembered stays in the browser. */
const typed = (id) => recall(tab, stored(id)) ?? recall(local, stored(id)) ?? {};

/** The fields, filled with what this browser knows of the customer. */
export function delivery(account) {
  const known = {
    "contact.name": account.username,
    "contact.email": account.email,
    "shipTo.name": account.username,
    ...typed(account.id),
  };
  const group = (part, names) =>
    make(
      "fieldset",
      {},
      make("legend", {}, t(`shop.delivery.${part}`)),
      Object.entries(names).map(([name, autocomplete]) =>
        field(`${part}.${name}`, t(`shop.delivery.${name}`), {
          autocomplete,
          value: known[`${part}.${name}`],
          maxlength: LONGEST,
          required: !OPTIONAL.includes(name),
          dir: "auto",
          type: { email: "email", phone: "tel" }[name] ?? "text",
        }),
      ),
    );
  const whole = make(
    "div",
    {},
    group("contact", CONTACT),
    group("shipTo", SHIP_TO),
    field("remember", t("shop.delivery.remember"), { type: "checkbox", value: Boolean(known.remember) }),
  );
  whole.addEventListener("input", () =>
    tab.set(stored(account.id), JSON.stringify(Object.fromEntries(new FormData(whole.closest("form"))))),
  );
  return whole;
}

/** Keeps what was typed in this browser if the customer wants it, and else nowhere: the order has it. */
export function remember(id, values) {
  tab.remove(stored(id));
  if (values.remember) local.set(stored(id), JSON.stringify(values));
  else local.remove(stored(id));
}

export function forget(id) {
  local.remove(stored(id));
  tab.remove(stored(id));
}

/** What the API takes: texts that are not empty. */
export function read(values) {
  const part = (name) => {
    const texts = Object.entries(values).map(([key, value]) => [key.split("."), value.trim?.()]);
    return Object.fromEntries(
      texts.filter(([[group, key], value]) => group === name && key && value).map(([[, key], value]) => [key, value]),
    );
  };
  return { contact: part("contact"), shipTo: part("shipTo") };
}

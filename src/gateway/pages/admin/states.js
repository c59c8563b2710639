// The states of an order, in the order in which it goes through them.

import { make } from "../common/dom.js";
import { has, t } from "../common/texts.js";

export const STATES = ["placed", "paid", "fulfilled", "cancelled", "expired", "refunded"];

/** States in which the shop has the money. */
export const SOLD = ["paid", "fulfilled"];

/** The name of a state; one that a later shop has added, as it is. */
export const stateName = (state) => (has(`admin.state.${state}`) ? t(`admin.state.${state}`) : state);

export const badge = (state) => make("span", { class: "badge", "data-state": state }, stateName(state));

// What narrows a list, kept in the address.

import { make } from "../common/dom.js";
import { field } from "../common/forms.js";
import { go } from "../common/router.js";
import { t } from "../common/texts.js";
import { withQuery } from "./parts.js";

/** The page of a list that `asking` gives. Where the API refuses what is looked for, that is its `problem`, and the list is empty: the form
 *  that can mend it has to be there. */
export const listed = (asking) =>
  asking.catch((problem) => {
    if (problem.status !== 422) throw problem;
    return { data: [], next: null, problem };
  });

/** A form that shows the list of `path` anew. `fields` are those of forms.js with their `name` and `label`. */
export function filters(path, label, fields) {
  const whole = make(
    "form",
    { class: "filters", role: "search", "aria-label": label, novalidate: true },
    fields.map(({ name, label, ...more }) => field(name, label, { required: true, ...more })),
    make("p", { class: "actions" }, make("button", { type: "submit" }, t("admin.show"))),
  );
  // They are not required: that only keeps the word "optional" off.
  for (const input of whole.elements) input.required = false;
  whole.addEventListener("submit", (event) => {
    event.preventDefault();
    go(withQuery(path, Object.fromEntries(new FormData(whole))));
  });
  return whole;
}

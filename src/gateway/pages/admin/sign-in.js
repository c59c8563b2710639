// The form by which an admin signs in.

import { field, form } from "../common/forms.js";
import { signIn } from "../common/session.js";
import { t } from "../common/texts.js";
import { Wrong, checked } from "./wrong.js";

/** The form. The listeners of session.js hear of its success. */
export function signInForm() {
  const fields = [
    field("email", t("admin.sign.email"), { type: "email", required: true, autocomplete: "username" }),
    field("password", t("admin.sign.password"), { type: "password", required: true, autocomplete: "current-password" }),
  ];
  const submit = ({ email, password }, whole) => checked(whole, () => signIn(email, password).catch(refuse));
  return form({ fields, say: t("admin.sign.in"), submit });
}

/** A wrong password and a disabled account are said at the field: the usual words for 401 and 403 would mislead. */
function refuse(error) {
  // A page of another origin gets 403, too.
  const isDisabled = error.status === 403 && error.detail.includes("disabled");
  if (error.status !== 401 && !isDisabled) throw error;
  throw new Wrong("password", t(error.status === 401 ? "admin.sign.wrong" : "admin.sign.disabled"));
}

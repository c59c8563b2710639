// An address that is no page.

import { make } from "../common/dom.js";
import { t } from "../common/texts.js";
import { link } from "./parts.js";

export default function missing({ show }) {
  show(t("admin.missing.title"), make("h1", {}, t("admin.missing.title")), make("p", {}, link("/", t("admin.overview.title"))));
}

// An address that the shop does not have.

import { make } from "../common/dom.js";
import { href } from "../common/router.js";
import { t } from "../common/texts.js";

export default function page({ show }) {
  show(
    t("shop.missing.title"),
    make("h1", {}, t("shop.missing.title")),
    make("p", {}, t("shop.missing.text"), " ", make("a", { href: href("/") }, t("shop.toCatalogue"))),
  );
}

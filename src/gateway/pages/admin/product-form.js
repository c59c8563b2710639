// The form of a product, for new ones and for those that are there.

import { make } from "../common/dom.js";
import { field, form } from "../common/forms.js";
import { t } from "../common/texts.js";
import { attributeList, imageList } from "./lists.js";
import { parsePrice, priceField } from "./price.js";
import { Wrong, checked } from "./wrong.js";

const label = (name) => t(`admin.products.field.${name}`);

function fieldsOf(draft, categories, lists, more) {
  const known = make(
    "datalist",
    { id: "categories" },
    categories.map(({ name }) => make("option", { value: name })),
  );
  return [
    field("name", label("name"), { value: draft.name, required: true, dir: "auto", autocomplete: "off" }),
    priceField(draft.price),
    field("description", label("description"), { value: draft.description, lines: 5, dir: "auto" }),
    field("category", label("category"), { value: draft.category, list: "categories", dir: "auto", autocomplete: "off" }),
    known,
    field("sku", label("sku"), { value: draft.sku, hint: t("admin.products.skuHint"), dir: "auto", autocomplete: "off" }),
    field("tags", label("tags"), { value: draft.tags.join("\n"), lines: 3, hint: t("admin.products.tagsHint"), dir: "auto" }),
    lists.images.element,
    lists.attributes.element,
    more,
  ];
}

/** A form with the fields of `draft`. `save(draft, values)` stores it; `more` are further fields. Gives `{ element, read, write }`, where
 *  `read()` is the draft as it stands there. */
export function productForm(draft, categories, { say, save, more = [] }) {
  const lists = { images: imageList(draft.images), attributes: attributeList(draft.attributes) };
  const submit = (values, whole) => checked(whole, async () => save(read(values), values).catch(taken));
  const element = form({ fields: fieldsOf(draft, categories, lists, more), say, submit, class: "product" });
  function read(values = Object.fromEntries(new FormData(element))) {
    const { name, description, category, sku } = values;
    const tags = values.tags
      .split("\n")
      .map((tag) => tag.trim())
      .filter(Boolean);
    return {
      name,
      price: parsePrice(values.price),
      description: description.replaceAll("\r\n", "\n"),
      category,
      sku,
      tags,
      images: lists.images.read(),
      attributes: lists.attributes.read(),
    };
  }
  function write(values) {
    for (const name of ["name", "price", "description", "category", "sku"]) element.elements[name].value = values[name];
    element.elements.tags.value = values.tags.join("\n");
    lists.images.write(values.images);
    lists.attributes.write(values.attributes);
  }
  return { element, read, write };
}

/** A SKU that another product has is said at its field. */
function taken(error) {
  if (error.status !== 409 || !error.detail.includes("SKU")) throw error;
  throw new Wrong("sku", t("admin.products.skuTaken"));
}

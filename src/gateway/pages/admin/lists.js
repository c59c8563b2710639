// The two lists of a product's form: its pictures and its attributes.

import { make, settled } from "../common/dom.js";
import { mayLoad } from "../common/pictures.js";
import { t } from "../common/texts.js";
import { picture } from "./pictures.js";
import { Rows } from "./rows.js";
import { Wrong } from "./wrong.js";

function imageRow(value) {
  const input = make("input", {
    // Not of the type "url": what the browser refuses has no name by which it could be told, and the API says what is wrong.
    type: "text",
    inputmode: "url",
    value,
    "aria-label": t("admin.products.image.url"),
    dir: "ltr",
    "aria-describedby": "rows-images-error",
  });
  const preview = make("span", { class: "preview" });
  const note = make("span", { class: "soft note" });
  const draw = () => {
    preview.replaceChildren(picture(input.value, "small-picture"));
    note.textContent = input.value && !mayLoad(input.value) ? t("admin.products.image.unseen") : "";
  };
  input.addEventListener("input", settled(400, draw));
  draw();
  return { element: [preview, input, note], read: () => input.value.trim() };
}

/** The pictures of a product, by their addresses. */
export function imageList(images) {
  const list = new Rows("images", t("admin.products.field.images"), images, {
    create: imageRow,
    add: t("admin.products.image.add"),
    fresh: "",
    hint: t("admin.products.image.hint"),
    isOrdered: true,
  });
  return { element: list.element, read: () => list.read().filter(Boolean), write: (fresh) => list.write(fresh) };
}

const isText = (value) => typeof value === "string";

function attributeRow([key, value]) {
  const called = "rows-attributes-error";
  const name = make("input", { value: key, "aria-label": t("admin.products.attribute.key"), dir: "auto", "aria-describedby": called });
  const text = make("input", {
    value: isText(value) ? value : JSON.stringify(value),
    "aria-label": t("admin.products.attribute.value"),
    dir: "auto",
    "aria-describedby": called,
  });
  const kind = make(
    "select",
    { "aria-label": t("admin.products.attribute.kind") },
    make("option", { value: "text", selected: isText(value) }, t("admin.products.attribute.text")),
    make("option", { value: "json", selected: !isText(value) }, t("admin.products.attribute.json")),
  );
  const read = () => [name.value, kind.value === "text" ? text.value : parse(text.value)];
  return { element: [name, kind, text], read };
}

function parse(text) {
  try {
    return JSON.parse(text, written);
  } catch (error) {
    throw error instanceof Wrong ? error : new Wrong("attributes", t("admin.products.attribute.wrong", { text }));
  }
}

/** A value of JSON as it can be written again: 1e400 is Infinity to a browser, which JSON does not have. */
function written(_, value) {
  if (value === Infinity || value === -Infinity) throw new Wrong("attributes", t("admin.products.attribute.large"));
  return value;
}

/** The attributes of a product: texts, or any JSON. */
export function attributeList(attributes) {
  const list = new Rows("attributes", t("admin.products.field.attributes"), Object.entries(attributes), {
    create: attributeRow,
    add: t("admin.products.attribute.add"),
    fresh: ["", ""],
  });
  const read = () => {
    const found = list.read().filter(([key, value]) => key !== "" || value !== "");
    const twice = found.find(([key], at) => found.findIndex(([other]) => other === key) !== at);
    if (twice) throw new Wrong("attributes", t("admin.products.attribute.twice", { key: twice[0] }));
    return Object.fromEntries(found);
  };
  return { element: list.element, read, write: (fresh) => list.write(Object.entries(fresh)) };
}

// Products from a file, and all of them into one.

import { make, say } from "../common/dom.js";
import { attempt, button, field, mark } from "../common/forms.js";
import { announce } from "../common/notices.js";
import { number, t } from "../common/texts.js";
import { download } from "./download.js";
import { link, row, table } from "./parts.js";
import { warn } from "./unsaved.js";
import { upload } from "./upload.js";

const TYPES = { csv: "text/csv", ndjson: "application/x-ndjson", jsonl: "application/x-ndjson" };

const typeOf = (name) => TYPES[name.toLowerCase().split(".").pop()];

const size = (bytes) => t("admin.import.size", { size: number(bytes / 1e6, { maximumFractionDigits: 1, minimumFractionDigits: 1 }) });

export default function importPage({ signal, show }) {
  const title = t("admin.import.title");
  show(
    title,
    make("p", {}, link("/products", t("admin.products.back"))),
    make("h1", {}, title),
    make("div", { class: "columns" }, importer(signal), exporter(signal)),
  );
}

function importer(signal) {
  const file = field("file", t("admin.import.file"), {
    type: "file",
    accept: ".csv,.ndjson,.jsonl",
    required: true,
    hint: t("admin.import.hint"),
  });
  const result = make("div");
  const submit = make("button", { type: "submit", class: "primary" }, t("admin.import.start"));
  const whole = make(
    "form",
    { novalidate: true, "aria-label": t("admin.import.title") },
    make("div", { class: "notice" }),
    file,
    make("p", { class: "actions" }, submit),
  );
  whole.addEventListener("submit", (event) => {
    event.preventDefault();
    attempt(whole, submit, async () => {
      const chosen = whole.elements.file.files[0];
      const type = typeOf(chosen.name);
      if (!type) {
        mark(whole, "file", t("admin.import.type"));
        return whole.elements.file.focus();
      }
      result.replaceChildren();
      result.replaceChildren(...(await send(chosen, type, whole, signal).catch((error) => broken(error, result))));
    });
  });
  return make("section", { class: "card" }, make("h2", {}, t("admin.import.from")), whole, result);
}

/** Sends the file below a bar that shows how far it is. Gives what came of it. */
async function send(file, type, whole, signal) {
  const own = new AbortController();
  const bar = make("progress", { max: file.size || 1, value: 0, "aria-label": t("admin.import.progress") });
  const word = make("p", { class: "soft" });
  const place = make(
    "div",
    { class: "transfer" },
    bar,
    word,
    button(t("admin.import.cancel"), () => own.abort(), { class: "cancel" }),
  );
  const sent = (bytes) => {
    bar.value = Math.min(bytes, file.size);
    say(
      word,
      bytes < file.size
        ? t("admin.import.sent", { sent: size(bytes), all: size(file.size) })
        : t("admin.import.waiting", { all: size(file.size) }),
    );
  };
  sent(0);
  whole.append(place);
  warn(() => place.isConnected, t("admin.import.leave"), AbortSignal.any([signal, own.signal]));
  try {
    return report(await upload("products/import", file, type, sent, AbortSignal.any([signal, own.signal])));
  } catch (error) {
    if (!own.signal.aborted || signal.aborted) throw error;
    announce(t("admin.import.cancelled"));
    return [make("p", {}, t("admin.import.cancelled"))];
  } finally {
    if (place.contains(document.activeElement)) whole.querySelector("[type=submit]").focus();
    place.remove();
    own.abort();
  }
}

/** An import that ends before its file does: the shop says which of its lines are there. */
function broken(error, result) {
  if (error.isAway && error.detail) result.replaceChildren(make("p", { lang: "en" }, error.detail));
  throw error;
}

/** What the shop made of the file. */
function report({ created, updated, failed, errors }) {
  announce(t("admin.import.done", { created, updated, failed }));
  const line = (name, count) => [make("dt", {}, t(`admin.import.count.${name}`)), make("dd", { "data-count": name }, number(count))];
  const list = errors.map(({ line, detail }) => row(make("td", { class: "number" }, number(line)), make("td", { lang: "en" }, detail)));
  return [
    make("h3", {}, t("admin.import.result")),
    make("dl", {}, line("created", created), line("updated", updated), line("failed", failed)),
    failed > errors.length && make("p", {}, t("admin.import.more", { shown: errors.length, count: failed })),
    errors.length > 0 &&
      table(t("admin.import.errors"), [{ text: t("admin.import.line"), class: "number" }, t("admin.import.problem")], list),
  ].filter(Boolean);
}

function exporter(signal) {
  const word = make("p", { class: "soft" });
  const whole = make("form", {}, make("div", { class: "notice" }));
  const one = (text, type, name) => {
    const start = button(text, () =>
      attempt(whole, start, async () => {
        await download("/products/export", type, name, (bytes) => say(word, t("admin.export.got", { size: size(bytes) })), signal);
        announce(t("admin.export.done", { name }));
      }),
    );
    return start;
  };
  whole.append(
    make(
      "p",
      { class: "actions" },
      one(t("admin.export.csv"), "text/csv", "products.csv"),
      one(t("admin.export.ndjson"), "application/x-ndjson", "products.ndjson"),
    ),
    word,
  );
  return make("section", { class: "card" }, make("h2", {}, t("admin.export.title")), make("p", {}, t("admin.export.text")), whole);
}

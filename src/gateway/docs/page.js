"use strict";
// Shows openapi.json, which is beside the page, wherever a proxy shows both. Every text goes in as text, so that nothing in the document can be more than that.

const METHODS = ["get", "post", "put", "patch", "delete"];
let api;

/** An element with `attributes` and `children`, which are elements or texts. */
function make(name, attributes = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(...children.flat(Infinity).filter((child) => child != null));
  return element;
}

/** Markdown as far as the document uses it: code, and links. */
function prose(text = "") {
  const parts = text.split(/(`[^`]+`|\[[^\]]+\]\([^)]+\))/).map((part) => {
    const link = part.match(/^\[([^\]]+)\]\((https?:[^)]+|#[^)]+)\)$/);
    if (link) return make("a", { href: link[2], rel: "noreferrer" }, link[1]);
    return part.startsWith("`") ? make("code", {}, part.slice(1, -1)) : part;
  });
  return make("p", {}, parts);
}

/** What a reference leads to, or the thing itself. */
function resolve(thing) {
  if (!thing || !thing.$ref) return thing;
  const parts = thing.$ref.slice(2).split("/").map((part) => part.replace(/~1/g, "/").replace(/~0/g, "~"));
  return resolve(parts.reduce((at, part) => at[part], api));
}

const nameOf = (thing) => thing.$ref && thing.$ref.split("/").pop();

/** A schema in a line: its type, or a link to where it is described. */
function kind(schema = {}) {
  const name = nameOf(schema);
  if (name) return [make("a", { href: `#schema-${name}` }, name)];
  if (schema.type === "array") return ["list of ", ...kind(schema.items)];
  if (schema.enum) return [schema.enum.map(String).join(" | ")];
  return [[schema.type || "any"].flat().join(" or ") + (schema.format ? ` (${schema.format})` : "")];
}

/** What else a value must be. */
function limits(schema) {
  const words = [];
  const say = (key, text) => { if (schema[key] !== undefined) words.push(`${text} ${schema[key]}`); };
  say("minLength", "at least"); say("maxLength", "at most");
  if (words.length) words.push("characters");
  say("minimum", "from"); say("maximum", "to");
  say("multipleOf", "in steps of"); say("minItems", "entries: at least"); say("default", "by default");
  const line = words.join(" ");
  const parts = line ? [make("span", { class: "soft" }, line)] : [];
  if (schema.pattern) parts.push(line ? " · " : "", make("code", { class: "soft" }, schema.pattern));
  return parts.length ? make("div", {}, parts) : null;
}

const row = (head, ...cells) => make("tr", {}, make("th", { scope: "row" }, head), make("td", {}, cells));
const starred = (name, required) => required ? [name, make("span", { class: "required", title: "required" }, " *")] : [name];

/** The properties of an object, those of all its parts included. */
function properties(schema) {
  schema = resolve(schema);
  const own = Object.entries(schema.properties || {}).map(([name, property]) =>
    ({ name, property, required: (schema.required || []).includes(name) }));
  return (schema.allOf || []).flatMap(properties).concat(own);
}

function shape(schema) {
  const rows = properties(schema).map(({ name, property, required }) =>
    row(starred(name, required), kind(property), property.$ref ? null : limits(property),
      property.description ? prose(property.description) : null));
  return rows.length ? make("table", {}, rows) : make("div", {}, kind(schema), schema.$ref ? null : limits(schema));
}

/** A value that the schema allows, for people to change. */
function example(schema) {
  schema = resolve(schema) || {};
  if (schema.example !== undefined) return schema.example;
  if (schema.examples) return schema.examples[0];
  if (schema.default !== undefined) return schema.default;
  if (schema.enum) return schema.enum[0];
  if (schema.type === "array") return [example(schema.items)];
  if (schema.type === "boolean") return false;
  if (schema.type === "integer" || schema.type === "number") return schema.minimum || 0;
  if (schema.type === "string") return "…";
  return Object.fromEntries(properties(schema).map(({ name, property }) => [name, example(property)]));
}

function curl(method, path, operation) {
  const target = path.replace(/{(\w+)}/g, (hole, name) => {
    const parameter = (operation.parameters || []).find((one) => one.in === "path" && one.name === name) || {};
    return parameter.example || hole;
  });
  const quote = (text) => `'${text.replace(/'/g, "'\\''")}'`;
  const words = ["curl -i" + (method === "get" ? "" : ` -X ${method.toUpperCase()}`)];
  words.push(quote(location.origin + target));
  if (needsToken(operation)) words.push(`-H "authorization: Bearer $TOKEN"`);
  const content = operation.requestBody && Object.entries(operation.requestBody.content)[0];
  if (content) {
    words.push(`-H 'content-type: ${content[0]}'`, `-d ${quote(JSON.stringify(example(content[1].schema)))}`);
  }
  return words.join(" \\\n  ");
}

const needsToken = ({ security = [] }) => security.length > 0 && security.every((one) => "token" in one);
function who(operation) {
  if ((operation.security || []).some((one) => "session" in one)) return "browsers, by cookie";
  if (!needsToken(operation)) return "anybody";
  return (operation["x-roles"] || []).includes("admin") ? "admins" : "signed in";
}

function response([status, reference]) {
  const response = resolve(reference);
  const headers = Object.keys(response.headers || {}).filter((name) => name !== "X-Request-Id");
  const contents = reference.$ref ? [] : Object.entries(response.content || {});
  const list = headers.flatMap((name, at) => [at ? ", " : "", make("code", {
    title: resolve(response.headers[name]).description || "" }, name)]);
  return row(status, prose(response.description),
    contents.map(([type, content]) => make("div", {}, kind(content.schema), make("span", { class: "soft" }, ` · ${type}`))),
    headers.length ? make("div", { class: "soft" }, "with ", list) : null);
}

function operationCard(method, path, operation) {
  const head = make("summary", {}, make("span", { class: `method ${method}` }, method.toUpperCase()),
    make("span", { class: "path" }, path), make("span", {}, operation.summary || ""),
    make("span", { class: "who" }, who(operation)));
  const body = [operation.description ? prose(operation.description) : null];
  if ((operation.parameters || []).length) {
    body.push(make("h4", {}, "Parameters"), make("table", {}, operation.parameters.map((one) =>
      row(starred(one.name, one.required), make("span", { class: "soft" }, `${one.in} · `), kind(one.schema),
        limits(one.schema), prose(one.description)))));
  }
  if (operation.requestBody) {
    const contents = Object.entries(operation.requestBody.content);
    const types = contents.map(([type]) => type).join(" or ");
    body.push(make("h4", {}, "Body"), make("p", { class: "soft" }, kind(contents[0][1].schema), ` · ${types}`),
      shape(contents[0][1].schema));
  }
  body.push(make("h4", {}, "Example"), make("pre", {}, curl(method, path, operation)));
  // What is special to the request stands before what any request may come to.
  const answers = Object.entries(operation.responses);
  const common = ([, answer]) => answer.$ref;
  const shared = answers.filter(common).flatMap(([status, answer], at) =>
    [at ? " · " : "", make("a", { href: `#problem-${nameOf(answer)}` }, `${status} ${resolve(answer).description}`)]);
  body.push(make("h4", {}, "Answers"), make("table", {}, answers.filter((one) => !common(one)).map(response)),
    make("p", { class: "soft" }, "or a problem: ", shared));
  return make("details", { id: operation.operationId }, head, make("div", { class: "body" }, body));
}

function schemaCard(name, schema) {
  const head = make("summary", {}, make("span", { class: "path" }, name), make("span", { class: "soft" },
    (schema.description || "").split("\n\n")[0]));
  return make("details", { id: `schema-${name}` }, head, make("div", { class: "body" }, shape(schema)));
}

function show() {
  const main = document.getElementById("api"), contents = document.getElementById("contents");
  document.title = `${api.info.title} API`;
  main.replaceChildren(make("h1", {}, `${api.info.title} API`),
    make("p", { class: "soft" }, `version ${api.info.version} · `, make("a", { href: "openapi.json" }, "openapi.json"),
      ` (OpenAPI ${api.openapi})`), prose(api.info.description));
  contents.replaceChildren();
  for (const tag of api.tags || []) {
    main.append(make("h2", { id: `tag-${tag.name}` }, tag.name), prose(tag.description));
    contents.append(make("h3", {}, tag.name));
    for (const [path, item] of Object.entries(api.paths)) {
      for (const method of METHODS.filter((name) => item[name] && item[name].tags.includes(tag.name))) {
        main.append(operationCard(method, path, item[method]));
        contents.append(make("a", { href: `#${item[method].operationId}` },
          make("span", { class: `method ${method}` }, method.toUpperCase()), make("span", {}, path)));
      }
    }
  }
  main.append(make("h2", { id: "problems" }, "problems"), make("table", {}, Object.entries(api.components.responses)
    .map(([name, problem]) => [name, problem, Object.keys(problem.headers).filter((one) => one !== "X-Request-Id")])
    .map(([name, problem, headers]) => {
      const line = row(name, problem.description, headers.length ? [", with ", make("code", {}, headers.join(", "))] : null);
      line.id = `problem-${name}`;
      return line;
    })));
  main.append(make("h2", { id: "schemas" }, "schemas"),
    ...Object.entries(api.components.schemas).map(([name, schema]) => schemaCard(name, schema)));
  contents.append(make("h3", {}, "more"), make("a", { href: "#problems" }, "Problems"), make("a", { href: "#schemas" }, "Schemas"));
  reveal();
}

/** Opens what the address names. */
function reveal() {
  const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
  if (!target) return;
  if (target.tagName === "DETAILS") target.open = true;
  target.scrollIntoView();
}

addEventListener("hashchange", reveal);
fetch("openapi.json")
  .then((answer) => answer.ok ? answer.json() : Promise.reject(new Error(`status ${answer.status}`)))
  .then((document) => { api = document; show(); })
  .catch((error) => { document.getElementById("api").textContent = `openapi.json cannot be shown: ${error.message}`; });

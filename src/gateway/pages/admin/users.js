// The accounts, what they may do, and their sessions.

import { ask as send, get } from "../common/api.js";
import { make, own } from "../common/dom.js";
import { announce, trouble } from "../common/notices.js";
import { render } from "../common/router.js";
import { changed, who } from "../common/session.js";
import { parts, t, time } from "../common/texts.js";
import { ask } from "./dialog.js";
import { filters, listed } from "./filters.js";
import { action, cell, lead, pager, row, table, worded } from "./parts.js";

const ROLES = ["admin", "customer"];
const path = (user) => `/auth/users/${encodeURIComponent(user.id)}`;

export default async function users({ query, signal, show }) {
  const here = Object.fromEntries(["email", "role", "disabled", "cursor"].map((key) => [key, query.get(key)]));
  here.email = here.email?.trim();
  const [page, me] = await Promise.all([listed(get("/auth/users", { ...here, limit: 25 }, signal)), who(get)]);
  const title = t("admin.users.title");
  const place = make("div");
  const found = page.problem ? trouble(page.problem) : list(page.data, me, place, signal);
  show(title, make("h1", {}, title), search(here), place, found, pager("/users", here, page.next));
}

const search = (here) =>
  filters("/users", t("admin.users.search"), [
    { name: "email", label: t("admin.users.email"), value: here.email, type: "email" },
    {
      name: "role",
      label: t("admin.users.role"),
      value: here.role,
      options: [["", t("admin.users.anyRole")], ...ROLES.map((role) => [role, t(`admin.users.roles.${role}`)])],
    },
    {
      name: "disabled",
      label: t("admin.users.state"),
      value: here.disabled,
      options: [
        ["", t("admin.users.anyState")],
        ["false", t("admin.users.enabled")],
        ["true", t("admin.users.disabled")],
      ],
    },
  ]);

function list(found, me, place, signal) {
  if (!found.length) return make("p", {}, t("admin.users.none"));
  const columns = [
    t("admin.users.name"),
    t("admin.users.email"),
    t("admin.users.role"),
    t("admin.users.state"),
    t("admin.users.since"),
    t("admin.actions"),
  ];
  const rows = found.map(() => make("tr"));
  const draw = (user, at) =>
    rows[at].replaceChildren(
      ...line(user, me, place, (fresh, name) => {
        if (signal.aborted) return;
        draw(fresh, at);
        rows[at].querySelector(`[data-act="${name}"]`)?.focus();
      }),
    );
  found.forEach(draw);
  return table(t("admin.users.title"), columns, rows);
}

function line(user, me, place, redraw) {
  const isAdmin = user.roles.includes("admin");
  const roles = user.roles.map((role) => (ROLES.includes(role) ? t(`admin.users.roles.${role}`) : role)).join(", ");
  const act = (name, change) =>
    action(t(`admin.users.do.${name}`), () => move(user, name, change, (fresh) => redraw(fresh, opposite[name] ?? name)), place, {
      "data-act": name,
      "aria-label": t(`admin.users.label.${name}`, { name: user.username }),
    });
  return [
    lead(own(user.username), user.id === me?.id ? ` (${t("admin.users.you")})` : ""),
    cell({}, make("bdi", {}, user.email)),
    cell({}, roles),
    cell({}, t(user.disabled ? "admin.users.disabled" : "admin.users.enabled")),
    cell({}, time(user.createdAt, { dateStyle: "medium" })),
    cell(
      {},
      make(
        "div",
        { class: "actions" },
        isAdmin
          ? act("demote", { roles: user.roles.filter((role) => role !== "admin") })
          : act("promote", { roles: [...user.roles, "admin"] }),
        user.disabled ? act("enable", { disabled: false }) : act("disable", { disabled: true }),
        act("end", null),
      ),
    ),
  ];
}

const opposite = { demote: "promote", promote: "demote", enable: "disable", disable: "enable" };

async function move(user, name, change, redraw) {
  let fresh = user;
  const isDone = await ask({
    title: t(`admin.users.do.${name}`),
    say: t(`admin.users.do.${name}`),
    text: make("p", {}, parts(`admin.users.sure.${name}`, { name: own(user.username) })),
    act: async () => {
      try {
        if (change) fresh = (await send("PATCH", path(user), { body: change })).data;
        else await send("DELETE", `${path(user)}/sessions`);
      } catch (error) {
        throw error.status === 409 ? worded(error, t("admin.users.last")) : error;
      }
    },
  });
  if (!isDone) return;
  announce(t(`admin.users.did.${name}`, { name: user.username }));
  await settle(fresh, () => redraw(fresh));
}

/** Who has changed the own account may no longer be an admin. */
async function settle(user, redraw) {
  const me = await who(get);
  if (me?.id !== user.id) return redraw();
  changed();
  await render();
}

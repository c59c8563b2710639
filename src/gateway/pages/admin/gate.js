// Lets admins in: others are asked to sign in where they are, and are then where they wanted to be.

import { get } from "../common/api.js";
import { by, make, own } from "../common/dom.js";
import { button } from "../common/forms.js";
import { announce } from "../common/notices.js";
import { isGuarded, leaving, mayLeave, render } from "../common/router.js";
import { forget, listen, signOut, who } from "../common/session.js";
import { parts, t } from "../common/texts.js";
import { shopLink, signInPage } from "./parts.js";
import { signInForm } from "./sign-in.js";

let bar, nav, dialog;
/** The admin whose pages these are, until somebody else signs in. */
let admin = null;
let isLeaving = false;

/** Draws who is signed in into `place`, and watches over the session. */
export function keep(place, navigation) {
  bar = place;
  nav = navigation;
  listen((reason) => (["left", "ended"].includes(reason) ? left() : entered(reason)));
}

/** The route of a page for admins alone. `load` gives its module. */
export const guarded = (load) => async () => {
  const [page, account] = await Promise.all([load(), who(get)]);
  draw(account);
  if (!account) return { default: ({ show }) => show(t("admin.sign.title"), signInPage()) };
  return isAdmin(account) ? page : { default: strangerPage };
};

const isAdmin = (account) => account.roles.includes("admin");

function draw(account) {
  admin = account && isAdmin(account) ? account : null;
  nav.classList.toggle("away", !admin);
  bar.replaceChildren(...(account ? [own(account.username), " ", button(t("admin.sign.out"), leave, { class: "plain" })] : []));
}

async function leave() {
  if (!(await mayLeave())) return;
  isLeaving = true;
  try {
    await signOut();
  } catch (error) {
    announce(t("admin.sign.stays"));
    console.warn(error);
  } finally {
    isLeaving = false;
  }
}

/** The session is over. What somebody has typed stays where it is, below a dialog. */
function left() {
  // A page that is being loaded may be past its question who is there: it would show a form that nobody can save.
  const isLoading = by("main").getAttribute("aria-busy") === "true" && !isGuarded();
  if (isLeaving || !admin || isLoading) {
    draw(null);
    render();
  } else if (!dialog) askAgain();
}

/** Asks for an admin's sign-in above the page, also where it is `stranger` who is signed in now. */
function askAgain(stranger = null) {
  const before = dialog?.before ?? document.activeElement;
  close();
  const title = make("h2", { id: "ended" }, t(stranger ? "admin.stranger.title" : "admin.sign.ended"));
  const who = stranger && make("p", {}, parts("admin.stranger.text", { name: own(stranger.username) }));
  const cancel = button(t("admin.sign.leave"), () => {
    close();
    draw(null);
    render();
  });
  const text = make("p", {}, t("admin.sign.kept"));
  dialog = make("dialog", { "aria-labelledby": "ended" }, title, who, text, signInForm(), make("p", {}, cancel));
  dialog.before = before;
  leaving().addEventListener("abort", close);
  dialog.addEventListener("cancel", (event) => event.preventDefault());
  document.body.append(dialog);
  dialog.showModal();
}

function close() {
  dialog?.close();
  dialog?.remove();
  dialog = null;
}

/** The page is an admin's again, as it was. */
function resume() {
  const before = dialog?.before;
  close();
  retry();
  if (before?.isConnected && before !== document.body) before.focus();
  document.dispatchEvent(new Event("resumed"));
}

/** Loads what could not be loaded meanwhile. What could not be saved waits for its button. */
function retry() {
  for (const box of document.querySelectorAll(':is(main, dialog) .trouble[data-kind="401"]')) {
    const again = box.querySelector("button");
    again ? again.click() : box.remove();
  }
}

/** Somebody is signed in, here or in another tab; where `reason` is "other", instead of the admin whose page this is. */
async function entered(reason) {
  const before = admin;
  // While the shop does not answer, it is taken to be the same person: what was typed must not go.
  const account = await who(get).catch(() => before);
  if (!before || (!dialog && reason !== "other")) return render();
  // That session is over again: the dialog stays.
  if (!account) return;
  if (!isAdmin(account)) return askAgain(account);
  resume();
  draw(account);
  announce(account.id === before.id ? t("admin.sign.again") : t("admin.sign.other", { name: account.username }));
}

/** For somebody who is signed in and is no admin. */
async function strangerPage({ show }) {
  const account = await who(get);
  const title = t("admin.stranger.title");
  if (!account) return show(t("admin.sign.title"), signInPage());
  const another = button(t("admin.stranger.another"), forgetMe, { class: "primary" });
  show(
    title,
    make("h1", {}, title),
    make("p", {}, parts("admin.stranger.text", { name: own(account.username) })),
    make("p", { class: "actions" }, another, shopLink()),
  );
}

async function forgetMe() {
  isLeaving = true;
  await forget("left");
  isLeaving = false;
}

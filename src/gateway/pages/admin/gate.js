// Lets admins in: others are asked to sign in where they are, and are then where they wanted to be.

import { get } from "../common/api.js";
import { by, make, own } from "../common/dom.js";
import { button } from "../common/forms.js";
import { announce } from "../common/notices.js";
import { leaving, mayLeave, render } from "../common/router.js";
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
  listen((reason) => (reason ? left() : entered()));
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
  nav.hidden = !admin;
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
  // A page that is being loaded will see by itself that nobody is signed in.
  if (!isLeaving && by("main").getAttribute("aria-busy") === "true") return;
  if (isLeaving || !admin) {
    draw(null);
    render();
  } else if (!dialog) askAgain();
}

function askAgain() {
  const before = document.activeElement;
  const page = leaving();
  const title = make("h2", { id: "ended" }, t("admin.sign.ended"));
  const cancel = button(t("admin.sign.leave"), () => close(null));
  dialog = make("dialog", { "aria-labelledby": "ended" }, title, make("p", {}, t("admin.sign.kept")), signInForm(), make("p", {}, cancel));
  const end = () => {
    dialog?.close();
    dialog?.remove();
    dialog = null;
  };
  const close = (account) => {
    end();
    if (!account) {
      draw(null);
      return render();
    }
    retry();
    if (before?.isConnected && before !== document.body) before.focus();
  };
  dialog.resume = close;
  page.addEventListener("abort", end);
  dialog.addEventListener("cancel", (event) => event.preventDefault());
  document.body.append(dialog);
  dialog.showModal();
}

/** Loads what could not be loaded meanwhile. What could not be saved waits for its button. */
function retry() {
  for (const box of document.querySelectorAll(':is(main, dialog) .trouble[data-kind="401"]')) {
    const again = box.querySelector("button");
    again ? again.click() : box.remove();
  }
}

/** Somebody is signed in, here or in another tab. */
async function entered() {
  const before = admin;
  const isInterrupted = Boolean(dialog);
  // While the shop does not answer, it is taken to be the same person: what was typed must not go.
  const account = await who(get).catch(() => before);
  dialog?.resume(account);
  if (!isInterrupted || !account || !isAdmin(account)) return render();
  draw(account);
  document.dispatchEvent(new Event("resumed"));
  announce(t("admin.sign.again"));
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

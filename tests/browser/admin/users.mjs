// Accounts: found, promoted, disabled, and signed out.

import { client, customer, expect, headed, press, said, signIn, signedIn, withPages, PASSWORD } from "./support.mjs";

export async function users(gateway, email, password) {
  const api = await signedIn(gateway, email, password);
  const one = await customer(gateway, "Switch");
  const account = async () => (await api("GET", `/auth/users?email=${encodeURIComponent(one.email)}`)).data[0];
  await withPages("users", gateway, async (open) => {
    const page = await open("/admin/users");
    await signIn(page, email, password);
    await headed(page, "Users");
    await page.locator("main [name=email]").fill("a".repeat(300));
    await press(page.locator("main form"), "Show");
    await page.locator("main .trouble").waitFor();
    await find(page, one.email);
    const row = page.locator("tbody tr", { hasText: one.email });
    const decide = async (name) => {
      await row.getByRole("button", { name: `${name}: Switch` }).click();
      await press(page.locator("dialog"), name);
    };
    await decide("Make admin");
    await said(page, "Switch is an admin.");
    expect((await account()).roles.includes("admin"), "the role is stored");
    expect(
      await row.getByRole("button", { name: "Remove admin role: Switch" }).evaluate((button) => button === document.activeElement),
      "the focus is at the way back",
    );
    await decide("Remove admin role");
    await said(page, "Switch is no admin any more.");
    await decide("Disable");
    await said(page, "Switch is disabled.");
    expect(
      (await client(gateway)("POST", "/auth/login", { email: one.email, password: PASSWORD })).status === 403,
      "Switch cannot sign in",
    );
    await decide("Enable");
    await said(page, "Switch is enabled.");
    await endsSessions(open, page, one, decide);
    await lastAdmin(page, api, email);
  });
}

async function find(page, email) {
  await page.locator("main [name=email]").fill(email);
  await press(page.locator("main form"), "Show");
  await page.waitForURL(/email=/);
  await headed(page, "Users");
  await page.locator("tbody tr", { hasText: email }).waitFor();
}

/** Whose sessions end is asked to sign in again. */
async function endsSessions(open, page, one, decide) {
  const other = await open("/admin/");
  await signIn(other, one.email, PASSWORD);
  await headed(other, "This is for admins");
  await decide("End sessions");
  await said(page, "The sessions of Switch have ended.");
  await other.reload();
  await headed(other, "Sign in");
}

/** Nobody locks everybody out. */
async function lastAdmin(page, api, email) {
  const { data } = await api("GET", "/auth/users?role=admin&limit=100");
  expect(data.length === 1, `this part wants a shop with one admin, not ${data.length}`);
  await page.getByRole("link", { name: "Users" }).click();
  await headed(page, "Users");
  await find(page, email);
  const row = page.locator("tbody tr", { hasText: email });
  expect((await row.innerText()).includes("(you)"), "the own account is marked");
  await row.getByRole("button", { name: /^Disable/ }).click();
  await press(page.locator("dialog"), "Disable");
  await page.locator("dialog .trouble", { hasText: "This is the last enabled admin." }).waitFor();
  await press(page.locator("dialog"), "Cancel");
}

// `app demo`, for what needs a shop with something in it.

import { spawn } from "node:child_process";
import { createInterface } from "node:readline";

/** Starts the demo of `program` without load; gives its process, the shop's address, and the accounts by what they are: `admin`, `customer`. */
export async function startDemo(program) {
  const demo = spawn(program, ["demo", "--no-load"], { stdio: ["ignore", "pipe", "inherit"] });
  const told = [];
  for await (const line of createInterface({ input: demo.stdout })) {
    told.push(line);
    if (line.startsWith("Ctrl-C")) break;
  }
  const shop = told.join("\n").match(/http:\S+(?=\/shop)/)[0];
  const account = (what) => {
    const [, email, password] = told.find((line) => line.startsWith(what) && line.includes("@")).match(/(\S+@\S+)\s+password (.+)$/);
    return { email, password };
  };
  return { demo, shop, admin: account("admin"), customer: account("customer") };
}

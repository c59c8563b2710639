// The shop in a browser: `node shop.mjs PART GATEWAY …`. The parts that need products take an admin's e-mail address and password
// behind the gateway's address.

import * as answers from "./shop-answers.mjs";
import * as broken from "./shop-broken.mjs";
import * as changes from "./shop-changes.mjs";
import * as looks from "./shop-looks.mjs";
import * as paying from "./shop-paying.mjs";
import * as sessions from "./shop-sessions.mjs";
import * as shopping from "./shop-shopping.mjs";
import * as tabs from "./shop-tabs.mjs";

const parts = { ...shopping, ...paying, ...looks, ...sessions, ...answers, ...broken, ...changes, ...tabs };
const [name, ...rest] = process.argv.slice(2);
if (!parts[name]) throw new Error(`the parts are ${Object.keys(parts).join(", ")}`);
await parts[name](...rest);

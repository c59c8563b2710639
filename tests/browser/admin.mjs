// The administration in a browser: `node admin.mjs PART GATEWAY_URL ADMIN_EMAIL ADMIN_PASSWORD`, where the parts are those below. The shop
// must be in enforced mode. A part that fails leaves pictures and traces in target/browser/failures.

import { accessible } from "./admin/accessible.mjs";
import { broken } from "./admin/broken.mjs";
import { edits } from "./admin/edits.mjs";
import { imports } from "./admin/imports.mjs";
import { keyboard } from "./admin/keyboard.mjs";
import { leaving } from "./admin/leaving.mjs";
import { letters } from "./admin/letters.mjs";
import { markup } from "./admin/markup.mjs";
import { refunds } from "./admin/refunds.mjs";
import { ended, others, stranger } from "./admin/sessions.mjs";
import { users } from "./admin/users.mjs";
import { webhooks } from "./admin/webhooks.mjs";

const tests = { edits, imports, refunds, users, webhooks, letters, leaving, keyboard, markup, accessible, stranger, ended, others, broken };
const [name, gateway, ...rest] = process.argv.slice(2);
if (!tests[name]) throw new Error(`the parts are ${Object.keys(tests).join(", ")}`);
await tests[name](gateway, ...rest);

// What a shop's page does, with a client that is made of the document: `node walk.js URL EMAIL ADMIN`.
import createClient from "openapi-fetch";
import type { components, paths } from "./api.js";

declare const process: { argv: string[] };
const [, , baseUrl = "", email = "", admin = ""] = process.argv;
const password = "follow the white rabbit";
const anybody = createClient<paths>({ baseUrl });

const bearer = (token: string) =>
  createClient<paths>({ baseUrl, headers: { authorization: `Bearer ${token}` } });

/** What came, which must be what was asked for. */
function good<T>(answer: { data?: T; response: Response }): NonNullable<T> {
  if (!answer.response.ok || answer.data === undefined || answer.data === null) {
    throw new Error(`${answer.response.status} ${answer.response.url}`);
  }
  return answer.data;
}

function equal(one: unknown, other: unknown) {
  if (one !== other) throw new Error(`${one} is not ${other}`);
}

async function pages(): Promise<components["schemas"]["Product"][]> {
  const all: components["schemas"]["Product"][] = [];
  for (let cursor: string | undefined; ; ) {
    const query = cursor === undefined ? { limit: 2 } : { limit: 2, cursor };
    const answer = await anybody.GET("/products", { params: { query } });
    all.push(...good(answer));
    cursor = /cursor=([^>&]+)>; rel="next"/.exec(answer.response.headers.get("link") ?? "")?.[1];
    if (cursor === undefined) return all;
    if (all.length > 1000) throw new Error("a page leads on for ever");
  }
}

let productId = "";
for (const name of ["Lamp", "Chair", "Table", "Kettle", "Rug"]) {
  productId = good(await bearer(admin).POST("/products", { body: { name, price: 49.99 } })).id;
}
const user = good(await anybody.POST("/auth/register", { body: { username: "Neo", email, password } }));
const tokens = good(await anybody.POST("/auth/login", { body: { email, password } }));
const me = good(await bearer(tokens.accessToken).GET("/auth/me"));
equal(me.id, user.id);
equal(me.roles.join(), "customer");
const names = (await pages()).map((product) => product.name);
if (names.length < 5 || new Set(names).size < 5) throw new Error(names.join());
const renewed = good(await anybody.POST("/auth/refresh", { body: { refreshToken: tokens.refreshToken } }));
const page = await anybody.POST("/auth/session", { body: { email, password } });
good(page);
const cookie = page.response.headers.get("set-cookie")?.split(";")[0] ?? "";
equal(good(await anybody.POST("/auth/session/renew", { headers: { cookie } })).tokenType, "Bearer");
const neo = bearer(renewed.accessToken);
const patched = good(await neo.PATCH("/auth/me", { body: { username: "Thomas" } }));
equal(patched.username, "Thomas");
const header = { "Idempotency-Key": email };
const body = { items: [{ productId, quantity: 2 }], shipTo: { city: "Zion" } };
const placed = good(await neo.POST("/orders", { params: { header }, body }));
equal(placed.total, 99.98);
const path = { id: placed.id };
const paid = await neo.POST("/orders/{id}/pay", { params: { path }, body: { paymentMethod: "ok" } });
equal(paid.response.status, 200);
const orders = good(await neo.GET("/orders", { params: { query: { status: "paid" } } }));
equal(orders.map((order) => order.id).join(), placed.id);
const { error, response } = await neo.GET("/products/{id}", { params: { path: { id: "0".repeat(24) } } });
equal(response.status, 404);
equal(error?.type, "/problems/not-found");
const out = await anybody.POST("/auth/logout", { body: { refreshToken: renewed.refreshToken } });
equal(out.response.status, 204);
const again = await anybody.POST("/auth/refresh", { body: { refreshToken: renewed.refreshToken } });
equal(again.response.status, 401);

"""Whose token schemathesis sends; run.py says whose there are, in the environment."""

import json
import os
import re
import urllib.request
import uuid

import schemathesis

# What ends the tokens of whoever does it, who therefore is somebody new each time.
LAST = ["eraseMe", "logOutEverywhere", "changePassword"]

# What nobody sees beyond the basic plane, as src/middleware/patterns.rs lists it: the shop knows, and no pattern that every
# engine reads can say so.
UNSEEN = re.compile("[\U00016FE4\U0001BCA0-\U0001BCA3\U0001D159\U0001D173-\U0001D17A\U000E0000-\U000E0FFF]")


def seen(value):
    """The same value, with something that can be seen where the document takes what cannot for it."""
    if isinstance(value, str):
        return UNSEEN.sub("x", value)
    if isinstance(value, list):
        return [seen(part) for part in value]
    if isinstance(value, dict):
        return {seen(key): seen(part) for key, part in value.items()}
    return value


def post(path, body, **headers):
    headers |= {"content-type": "application/json"}
    request = urllib.request.Request(os.environ["SHOP"] + path, json.dumps(body).encode(), headers)
    with urllib.request.urlopen(request) as answer:
        return json.load(answer)


def log_in(email, password):
    return post("/auth/login", {"email": email, "password": password})["accessToken"]


def register():
    """The login of a new customer, and the id."""
    login = {"email": f"{uuid.uuid4().hex}@example.com", "password": "follow the white rabbit"}
    return login, post("/auth/register", {"username": "Guest"} | login)["id"]


def new_customer():
    return log_in(*register()[0].values())


# What an order has to have gone through before this can be done to it.
BEFORE = {"payOrder": [], "cancelOrder": [], "fulfilOrder": ["pay"], "refundOrder": ["pay"]}
PRODUCT = os.environ["PRODUCT"]


def new_order(steps):
    """The id of an order of whoever asks."""
    token = {"authorization": f"Bearer {TOKEN}"}
    wanted = {"items": [{"productId": PRODUCT, "quantity": 1}]}
    order = post("/orders", wanted, **token, **{"idempotency-key": uuid.uuid4().hex})["id"]
    for step in steps:
        post(f"/orders/{order}/{step}", {"paymentMethod": "ok"}, **token)
    return order


WEBHOOKS = ["showWebhook", "removeWebhook", "rotateWebhook", "enableWebhook", "testWebhook", "listDeliveries"]


def webhook(is_last):
    """The id of the first or the last webhook there is. What `.example` names has no address."""
    token = {"authorization": f"Bearer {TOKEN}"}
    request = urllib.request.Request(os.environ["SHOP"] + "/webhooks", headers=token)
    with urllib.request.urlopen(request) as answer:
        listed = json.load(answer)
    listed = listed or [post("/webhooks", {"url": "https://shop.example/events"}, **token)]
    return listed[-1 if is_last else 0]["id"]


class Bearer:
    def set(self, case, data, context):
        case.headers = case.headers or {}
        case.headers["Authorization"] = f"Bearer {data}"


# Whose rights the admin changes.
SOMEBODY = register()[1] if os.environ["WHO"] == "admin" else None

if os.environ["WHO"] != "nobody":
    TOKEN = os.environ.get("TOKEN") or new_customer()

    @schemathesis.auth(refresh_interval=None).skip_for(operation_id=LAST)
    class Somebody(Bearer):
        def get(self, case, context):
            return TOKEN

    @schemathesis.auth(refresh_interval=None).apply_to(operation_id=LAST)
    class SomebodyNew(Bearer):
        def get(self, case, context):
            return new_customer()


@schemathesis.hook
def after_call(context, case, response):
    # run.py looks at what was answered to whom.
    with open(os.environ["SEEN"], "a") as seen:
        kind = case.meta.generation.mode.value if case.meta else "given"
        seen.write(f"{case.operation.definition.raw['operationId']} {kind} {response.status_code}\n")


@schemathesis.hook
def before_call(context, case, kwargs):
    # Who takes the rights or the sessions from the admin ends the run.
    path = case.path_parameters or {}
    if case.operation.path.startswith("/auth/users/{id}") and path.get("id") == os.environ["ADMIN"]:
        path["id"] = str(uuid.uuid4())
    # What is ordered stays.
    if case.operation.path.startswith("/products/{id}") and path.get("id") == PRODUCT and case.method != "GET":
        path["id"] = uuid.uuid4().hex[:24]
    if os.environ["WHO"] != "nobody" and case.meta and case.meta.generation.mode.value == "positive":
        lead_there(case, path)
    body = seen(case.body)
    if body != case.body:
        case.body = body


def lead_there(case, path):
    """Makes the request one of a product, an order, a webhook or a user that is there."""
    operation = case.operation.definition.raw["operationId"]
    if operation in BEFORE:
        path["id"] = new_order(BEFORE[operation])
    if operation in ("showDashboard", "changeRights", "endSessions") and SOMEBODY:
        path["id"] = SOMEBODY
    if operation in WEBHOOKS and os.environ["WHO"] == "admin":
        path["id"] = webhook(operation == "removeWebhook")
    if operation == "placeOrder" and len(case.body["items"]) == 1:
        case.body = case.body | {"items": [case.body["items"][0] | {"productId": PRODUCT}]}


@schemathesis.serializer("application/x-ndjson", "text/csv")
def file(_, value):
    """A file of products, which is whatever is in it."""
    return value if isinstance(value, bytes) else str(value).encode()

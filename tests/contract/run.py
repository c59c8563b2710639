"""Holds the shop against its OpenAPI document: `make contract` runs this.

Linters find nothing in the document, and clients that are made of it do what people do. Then a shop of its own is asked by
nobody, by a customer and by an admin whatever schemathesis can think of; no answer may be a fault, or another than the
document says.
"""

import json
import os
import re
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

from openapi_spec_validator import OpenAPIV31SpecValidator

import clients

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
EMAIL = "trinity@example.com"
# Who asks, and what the run may take: examples for each operation, the phases, and at most so many seconds.
RUNS = [
    ("nobody", "5", "examples,coverage", 20),
    ("customer", "5", "examples,coverage", 25),
    ("admin", "20", "examples,coverage,fuzzing,stateful", 60),
]


# What the admins alone may do.
ADMINS = {
    "addProduct", "replaceProduct", "changeProduct", "removeProduct", "showStock", "changeStock", "listAccounts",
    "changeRights", "endSessions", "importProducts", "exportProducts", "listLowStock", "summarizeOrders", "fulfilOrder", "refundOrder",
    "listDeadLetters", "redriveDeadLetter", "dropDeadLetter",
    "registerWebhook", "listWebhooks", "showWebhook", "removeWebhook", "rotateWebhook", "enableWebhook", "testWebhook",
    "listDeliveries",
}
SUCCESS = {200, 201, 204, 304}
# Why a request that keeps to the document may be refused to who may make it: what no schema can say. It is not there, has
# changed, is taken, is no password to be had or the right one, or a domain that IDNA does not know; a price is above
# another, a search has no word, attributes are too large or too deep, a URL has no host, a stock would be below 0; an order
# is of no product, or of more pieces than there are, its key is another request's, its state does not allow it, or its card
# is none or declined; there are as many webhooks as there may be, or one would lead to no address of the world.
REASONS = {
    "listProducts": {422},
    "listLowStock": {422},
    "addProduct": {409, 422},
    "showProduct": {404},
    "showDashboard": {404},
    "replaceProduct": {404, 409, 412, 422},
    "changeProduct": {404, 409, 412, 422},
    "removeProduct": {404, 412},
    "showStock": {404},
    "changeStock": {404, 409, 422},
    "importProducts": {422},
    "placeOrder": {409, 422},
    "showOrder": {404},
    "payOrder": {402, 404, 409, 422},
    "cancelOrder": {404, 409},
    "fulfilOrder": {404, 409},
    "refundOrder": {404, 409},
    "redriveDeadLetter": {404},
    "dropDeadLetter": {404},
    "receivePaymentEvent": {400},
    "registerWebhook": {409, 422},
    "showWebhook": {404},
    "removeWebhook": {404},
    "rotateWebhook": {404},
    "enableWebhook": {404},
    "testWebhook": {404},
    "listDeliveries": {404},
    "changeRights": {404},
    "endSessions": {404},
    "register": {409, 422},
    "changeMe": {409, 422},
    "changePassword": {422},
    "eraseMe": {422},
    "listAccounts": {422},
    "logIn": {401},
    "refresh": {401},
    "signIn": {401},
    "renewSession": {401},
}
# Done by others: nobody can make up a refresh token, nor what a payment provider signs, nor an event that nobody can take;
# the document is what schemathesis begins with, and a stream of events has no end.
NEVER = {
    "refresh", "renewSession", "receivePaymentEvent", "showOpenApi", "listenToEvents", "redriveDeadLetter", "dropDeadLetter",
}
# Requests that keep to the document, so that a run that makes none finds something.
AT_LEAST = {"nobody": 60, "customer": 60, "admin": 400}


def environment():
    settings = {
        "AUTH__MODE": "enforced",
        "AUTH__ACCESS_TTL": "1h",
        "ORDER__PAYMENTS_WEBHOOK_SECRET": "whsec_contract",
        "ORDER__WEBHOOKS_TIMEOUT": "1s",
        "USER__LOGINS_PER_ACCOUNT": "0",
        "USER__LOGINS_PER_ADDRESS": "0",
    }
    for role in ["GATEWAY", "USER", "PRODUCT", "ORDER"]:
        settings[f"{role}__LISTEN"] = settings[f"{role}__MANAGEMENT"] = "127.0.0.1:0"
    return {f"APP__{key}": value for key, value in settings.items()} | {"RUST_LOG": "warn"}


class Shop:
    """The program, with everything in one process and its data in a folder of its own."""

    def __init__(self, program, folder):
        command = {"args": [program], "cwd": folder, "env": environment(), "text": True}
        self.folder = folder
        self.log = open(Path(folder) / "log", "w+")
        self.process = subprocess.Popen(**command, stdout=subprocess.PIPE, stderr=self.log)
        self.url = None
        for line in self.process.stdout:
            name, _, rest = line.partition(" ")
            if name == "gateway":
                self.url = rest.strip()
            if name == "ready":
                break
        else:
            sys.exit(f"the shop did not start: {self.said()}")
        command["args"] = [program, "user", "create", "--admin", "--username", "Trinity", "--email", EMAIL]
        made = subprocess.run(**command, check=True, capture_output=True).stdout
        self.admin = re.search(r"made the account (\S+)", made)[1]
        password = re.search(r"password: (\S+)", made)[1]
        self.token = self.post("/auth/login", {"email": EMAIL, "password": password})["accessToken"]
        # What is ordered.
        token = {"authorization": f"Bearer {self.token}"}
        self.product = self.post("/products", {"name": "Ordered", "price": 1}, **token)["id"]

    def post(self, path, body, **headers):
        headers |= {"content-type": "application/json"}
        request = urllib.request.Request(self.url + path, json.dumps(body).encode(), headers)
        with urllib.request.urlopen(request) as answer:
            return json.load(answer)

    def said(self):
        self.log.seek(0)
        return self.log.read()

    def stop(self):
        self.process.kill()
        self.process.wait()


def unexpected(who, seen, document):
    """What is wrong with how `who` was answered, of requests that keep to the document, and whether there were enough."""
    operations = [one for path in document["paths"].values() for one in path.values() if "operationId" in one]
    accepted = set()
    for operation, status in seen:
        body = next(one for one in operations if one["operationId"] == operation)
        schemes = body.get("security", [])
        is_secured = bool(schemes) and {} not in schemes
        if who == "nobody" and is_secured:
            wanted = {401}
        elif who == "customer" and operation in ADMINS:
            wanted = {403}
        else:
            wanted = SUCCESS | REASONS.get(operation, set())
        if status in SUCCESS:
            accepted.add(operation)
        if status not in wanted:
            yield f"{operation} answers {status} to {who}, and not {', '.join(map(str, sorted(wanted)))}"
    if len(seen) < AT_LEAST[who]:
        yield f"{who} made {len(seen)} requests that keep to the document, and not {AT_LEAST[who]}"
    if who == "admin":
        never = {one["operationId"] for one in operations} - accepted - NEVER
        yield from (f"{operation} was never done: what it answers then has not been looked at" for operation in sorted(never))


def schemathesis(shop, document, who, examples, phases, seconds):
    """How many requests it made, and how many of them keep to the document; what is wrong ends the run."""
    command = [
        Path(sys.executable).with_name("schemathesis"), "--config-file", HERE / "schemathesis.toml",
        "run", f"{shop.url}/openapi.json", "--max-examples", examples, "--phases", phases,
        "--max-time", str(seconds),
    ]
    notes = Path(shop.folder) / f"seen-{who}"
    known = {"WHO": who, "SHOP": shop.url, "ADMIN": shop.admin, "TOKEN": shop.token if who == "admin" else "",
             "PRODUCT": shop.product, "SEEN": str(notes)}
    env = os.environ | known | {"SCHEMATHESIS_HOOKS": "hooks", "PYTHONPATH": str(HERE)}
    # In the shop's folder, where it may leave what it likes.
    run = subprocess.run(command, env=env, cwd=shop.folder, capture_output=True, text=True, timeout=10 * seconds)
    seen = [line.split() for line in notes.read_text().splitlines()] if notes.exists() else []
    kept = [(operation, int(status)) for operation, mode, status in seen if mode == "positive"]
    wrong = sorted(set(unexpected(who, kept, document)))
    if run.returncode == 0 and not wrong:
        return len(seen), len(kept)
    said = "".join(line for line in shop.said().splitlines(True) if '"target":"audit"' not in line)
    found = "".join(f"{line}\n" for line in wrong)
    sys.exit(
        f"the shop said:\n{said}\nschemathesis said:\n{run.stderr}\n{run.stdout}\n{found}"
        f"what {who} is answered is not what the document says (schemathesis ended with {run.returncode})"
    )


def main():
    program = str(Path(sys.argv[1] if len(sys.argv) > 1 else ROOT / "target/debug/app").resolve())
    with tempfile.TemporaryDirectory() as folder:
        shop = Shop(program, folder)
        try:
            with urllib.request.urlopen(f"{shop.url}/openapi.json") as answer:
                document = json.load(answer)
            OpenAPIV31SpecValidator(document).validate()
            start = time.monotonic()
            clients.check(document, shop.url, shop.token)
            print(f"linters and clients found nothing in {time.monotonic() - start:.0f} s", flush=True)
            for who, *limits in RUNS:
                start = time.monotonic()
                seen, kept = schemathesis(shop, document, who, *limits)
                print(f"{who}: {seen} requests, {kept} by the document, in {time.monotonic() - start:.0f} s", flush=True)
        finally:
            shop.stop()


main()

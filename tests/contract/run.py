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
    ("admin", "20", "examples,coverage,fuzzing,stateful", 45),
]


def environment():
    settings = {
        "AUTH__MODE": "enforced",
        "AUTH__ACCESS_TTL": "1h",
        "USER__LOGINS_PER_ACCOUNT": "0",
        "USER__LOGINS_PER_ADDRESS": "0",
    }
    for role in ["GATEWAY", "USER", "PRODUCT"]:
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
        self.token = self.log_in(re.search(r"password: (\S+)", made)[1])

    def log_in(self, password):
        body = json.dumps({"email": EMAIL, "password": password}).encode()
        request = urllib.request.Request(f"{self.url}/auth/login", body, {"content-type": "application/json"})
        with urllib.request.urlopen(request) as answer:
            return json.load(answer)["accessToken"]

    def said(self):
        self.log.seek(0)
        return self.log.read()

    def stop(self):
        self.process.kill()
        self.process.wait()


def strangers(said, document):
    """The operations that knew nobody who asked, of those that a token makes a difference to."""
    told = re.search(r"^Authentication failed: (\d+) operation.*?^\N{ELECTRIC LIGHT BULB}", said, re.MULTILINE | re.DOTALL)
    if not told:
        return ["unreadable"] if "Authentication failed" in said else []
    named = re.findall(r"^  - ([A-Z]+) (\S+)$", told[0], re.MULTILINE)
    if len(named) != int(told[1]):
        return ["unreadable"]
    # A refresh token that somebody made up is refused, whoever asks.
    return [path for method, path in named if document["paths"][path][method.lower()].get("security")]


def schemathesis(shop, document, who, examples, phases, seconds):
    """What it says when all is well; when it is not, all of it is told and nothing follows it."""
    command = [
        Path(sys.executable).with_name("schemathesis"), "--config-file", HERE / "schemathesis.toml",
        "run", f"{shop.url}/openapi.json", "--max-examples", examples, "--phases", phases,
        "--max-time", str(seconds),
    ]
    known = {"WHO": who, "SHOP": shop.url, "ADMIN": shop.admin, "TOKEN": shop.token if who == "admin" else ""}
    env = os.environ | known | {"SCHEMATHESIS_HOOKS": "hooks", "PYTHONPATH": str(HERE)}
    # In the shop's folder, where it may leave what it likes.
    run = subprocess.run(command, env=env, cwd=shop.folder, capture_output=True, text=True)
    # An admin whom nobody knows would be asked for a token again and again, which is no disagreement.
    unknown_to = strangers(run.stdout, document) if who == "admin" else []
    if run.returncode == 0 and not unknown_to:
        return run.stdout
    said = "".join(line for line in shop.said().splitlines(True) if '"target":"audit"' not in line)
    unknown = f"the admin was not known to {', '.join(unknown_to)}\n" if unknown_to else ""
    sys.exit(
        f"the shop said:\n{said}\nschemathesis said:\n{run.stderr}\n{run.stdout}\n{unknown}"
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
                said = schemathesis(shop, document, who, *limits)
                cases = re.search(r"(\d+) generated", said)[1]
                print(f"{who}: {cases} requests and more in {time.monotonic() - start:.0f} s", flush=True)
        finally:
            shop.stop()


main()

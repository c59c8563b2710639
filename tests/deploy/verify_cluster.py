#!/usr/bin/env python3
"""Tries the deployment on the cluster that KUBECONFIG names: demo, base, and production, small enough for one node.

Usage: verify_cluster.py [--only STEP ...]     (`make verify-cluster`)

Each is applied in a namespace of its own, asked what the customer asks, and updated, drained and bereft of pods under
load; requests that were lost are counted. It takes kubectl, the image where the cluster finds it, and ten minutes at
most. A goal that is missed is printed, and ends the run with status 1. Namespaces are called shop-verify-…, and are gone
afterwards.
"""

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import kubectl as cluster
from customer import PASSWORD, Customer, five_requests
from kubectl import Kubectl
from lab import ROLES, ROOT, Failure, Report, chosen, secret_values
from lab import run as command

TRIAL = ROOT / "tests/deploy/trial"
CLIENT = "shop-verify-client"
# Seconds for all steps; to clean up is beyond that, and all of it within ten minutes.
SECONDS = 600 - cluster.CLEANING
# Seconds that a load goes on before and after what is done under it; a variable for the rehearsal in check.py.
MARGIN = float(os.environ.get("VERIFY_MARGIN", "3"))
EMAIL = "trinity@example.com"


class Load:
    """Requests from inside the cluster to a namespace's Service, until it is told to end."""

    def __init__(self, kubectl, namespace, paths, token):
        # Not the name: each request would look it up, and what DNS loses is not the shop's.
        address = kubectl("get", "service", "api-gateway", "-n", namespace, "--output", "jsonpath={.spec.clusterIP}")
        self.loops = len(paths) + 1
        # Not a pipe: once that were full, the load would stop.
        self.out = tempfile.TemporaryFile("w+")
        self.process = kubectl.start("exec", "--stdin", "-n", CLIENT, "deployment/client", "--", "bash",
                                     "/load/load.sh", address, "8000", *paths, stdout=self.out)
        self.process.stdin.write(f"{token or ''}\n")
        self.process.stdin.flush()
        self.asked, self.written, self.lost = 0, [], Counter()

    def end(self):
        """Waits for the last answers, and counts them."""
        try:
            _, complaint = self.process.communicate(timeout=60)
        except subprocess.TimeoutExpired:
            self.process.kill()
            _, complaint = self.process.communicate()
        self.out.seek(0)
        for line in self.out.read().splitlines():
            kind, _, rest = line.partition(" ")
            if kind == "asked":
                self.asked, self.loops = self.asked + int(rest), self.loops - 1
            elif kind == "wrote":
                self.written.append(rest)
            else:
                self.lost[rest] += 1
        if self.loops or not self.asked:
            raise Failure(f"the load did not end well, and nobody knows what was lost: {complaint.strip()[-300:]}")

    def measured(self):
        """In words."""
        lost = ", ".join(f"{count} x {what}" for what, count in self.lost.items())
        return f"{self.asked} requests, {self.lost.total()} lost" + (f": {lost}" if lost else "")


class Trial:
    """One of the deployments, in its namespace."""

    def __init__(self, kubectl, report, name, deployments):
        self.kubectl, self.report, self.name, self.deployments = kubectl, report, name, deployments
        self.namespace = f"shop-verify-{name}"
        self.paths, self.written, self.token = [], [], None

    def apply(self, *secret_steps):
        """Applies it, with what it needs before, and waits until it is there."""
        start = time.monotonic()
        self.kubectl.make_namespace(self.namespace)
        for step in secret_steps:
            step(self.kubectl, self.namespace)
        warnings = self.kubectl.apply(self.kubectl.rendered(TRIAL / self.name))
        self.report.check(not warnings, "applied without a warning", " ".join(warnings))
        self.kubectl.wait_for_rollouts(self.namespace)
        self.report.note(f"every pod is ready after {time.monotonic() - start:.0f} s")

    def ask(self):
        """The customer's five requests, by the way in that deploy/README.md names."""
        with self.kubectl.forwarded(self.namespace) as port:
            customer = Customer(port)
            if customer.wait("/products?limit=1") is None:
                raise Failure(f"{self.namespace}: no answer through kubectl port-forward")
            customer.token = self.token
            self.paths = five_requests(customer, self.report)

    def sign_in(self):
        """Makes the first admin, whose token is sent from now on."""
        self.kubectl("exec", "--stdin", "-n", self.namespace, "deployment/user", "--", "/app", "user", "create", "--admin",
                     "--username", "Trinity", "--email", EMAIL, "--password-stdin", input=PASSWORD + "\n")
        with self.kubectl.forwarded(self.namespace) as port:
            customer = Customer(port)
            customer.wait()
            refused = customer.ask("POST", "/products", {"name": "Nothing", "price": 1}).status
            self.report.check(refused == 401, "without a token it takes no products", refused)
            status = customer.sign_in(EMAIL)
            self.report.check(status == 200, "the first admin logs in", status)
            self.token = customer.token

    def under_load(self, what, action, is_goal):
        """Does it to each deployment in turn under load; that nothing is lost may be a goal, or only be counted."""
        load = Load(self.kubectl, self.namespace, ["/products", *self.paths], self.token)
        try:
            time.sleep(MARGIN)
            for name in self.deployments:
                action(name)
            time.sleep(MARGIN)
        finally:
            load.end()
        self.written += load.written
        self.report.check(not load.lost or not is_goal, what, load.measured(), "none lost" if is_goal else "no goal here")

    def roll(self, name):
        """As an update does it."""
        self.kubectl("rollout", "restart", f"deployment/{name}", "-n", self.namespace)
        self.kubectl.wait_for_rollouts(self.namespace, f"deployment/{name}")

    def evict(self, name):
        """As a node that is drained does it, pod after pod."""
        for pod in self.kubectl.pods(self.namespace, name):
            self.kubectl.evict(self.namespace, pod)
            self.kubectl.wait_until_gone(self.namespace, pod)
            self.kubectl.wait_for_rollouts(self.namespace, f"deployment/{name}")

    def delete(self, name):
        """Without asking the disruption budget."""
        pod = self.kubectl.pods(self.namespace, name)[0]
        self.kubectl("delete", "pod", pod, "-n", self.namespace, "--wait=false")
        self.kubectl.wait_until_gone(self.namespace, pod)
        self.kubectl.wait_for_rollouts(self.namespace, f"deployment/{name}")

    def look_back(self):
        """What was acknowledged is there."""
        with self.kubectl.forwarded(self.namespace) as port:
            customer = Customer(port)
            customer.wait("/products?limit=1")
            lost = [path for path in self.written if customer.ask("GET", path).status != 200]
        self.report.check(self.written and not lost, "every acknowledged write is there",
                          f"{len(self.written)} written, {len(lost)} lost")


def shop_secret(kubectl, namespace):
    """The Secret of passwords and keys, as `make env` writes them."""
    with tempfile.NamedTemporaryFile("w", suffix=".env") as file:
        file.writelines(f"{key}={value}\n" for key, value in secret_values().items())
        file.flush()
        kubectl("create", "secret", "generic", "shop", "-n", namespace, f"--from-env-file={file.name}")


def certificates(kubectl, namespace):
    """A certificate for each role, made by the program as src/tls/README.md says."""
    with tempfile.TemporaryDirectory() as folder:
        command([program(), "certs", "dev", "--out", folder], timeout=30)
        for role in ROLES:
            kubectl("create", "secret", "generic", f"{role}-tls", "-n", namespace, f"--from-file={folder}/{role}")


def payments_secret(kubectl, namespace):
    """The Secret of who takes payments; the run has nothing to pay."""
    with tempfile.TemporaryDirectory() as folder:
        for key in ("PAYMENTS_KEY", "PAYMENTS_WEBHOOK_SECRET"):
            Path(folder, key).write_text("none")
        kubectl("create", "secret", "generic", "payments", "-n", namespace, f"--from-file={folder}")


def program():
    """A build of the program for this machine: APP_BINARY, or what cargo has left, or leaves now."""
    if "APP_BINARY" in os.environ:
        return Path(os.environ["APP_BINARY"]).absolute()
    built = [ROOT / "target" / profile / "app" for profile in ("release", "debug")]
    if not any(path.exists() for path in built):
        command([os.environ.get("CARGO", "cargo"), "build", "--locked"], cwd=ROOT)
    return next(path for path in built if path.exists())


def check_demo(kubectl, report):
    report.step("deploy/overlays/demo")
    trial = Trial(kubectl, report, "demo", ["shop"])
    trial.apply()
    trial.ask()
    trial.under_load("its one pod is replaced (Recreate refuses for a second)", trial.roll, is_goal=False)
    trial.look_back()


def check_base(kubectl, report):
    report.step("deploy/k8s")
    trial = Trial(kubectl, report, "base", ROLES)
    trial.apply(shop_secret)
    trial.ask()
    trial.under_load("every role is rolled", trial.roll, is_goal=True)
    # There is one pod of each, and nothing promises that the next is ready before it has gone.
    trial.under_load("every role's pod is evicted", trial.evict, is_goal=False)
    trial.look_back()


def check_production(kubectl, report):
    report.step("deploy/overlays/production, as deploy/overlays/one-node")
    trial = Trial(kubectl, report, "production", ROLES)
    trial.apply(shop_secret, payments_secret, certificates)
    trial.sign_in()
    trial.ask()
    trial.under_load("every role is rolled", trial.roll, is_goal=True)
    trial.under_load("every pod is evicted", trial.evict, is_goal=True)
    trial.under_load("a pod of every role is deleted", trial.delete, is_goal=True)
    trial.look_back()


def missing(kubectl_program):
    """Why there is nothing to try it on, in one line."""
    if kubectl_program is None:
        return "this machine lacks kubectl; tests/deploy/tools.sh brings one"
    if not os.environ.get("KUBECONFIG"):
        return "there is no cluster: KUBECONFIG names the one that namespaces are made on, and it is not set"
    try:
        Kubectl(kubectl_program, 20)("get", "--raw", "/readyz", "--request-timeout=10s")
    except Failure as failure:
        return f"there is no cluster: {failure}"
    return None


def start_client(kubectl):
    """The pod that the load comes from."""
    kubectl.make_namespace(CLIENT)
    kubectl.apply(kubectl.rendered(TRIAL / "client"))
    kubectl.wait_for_rollouts(CLIENT, "deployment/client")


def explain(kubectl, report):
    """What the cluster says of pods that are not there."""
    for what in (("pods", "--output", "wide"), ("events", "--field-selector", "type=Warning")):
        try:
            found = kubectl("get", *what, "--all-namespaces", timeout=20)
        except Failure:
            continue
        for line in (line for line in found.splitlines()[-40:] if line.startswith("shop-verify-")):
            report.note(line)


def run(kubectl, report, steps):
    """All steps, on a cluster without leftovers, which it is again afterwards."""
    kubectl.remove_namespaces()
    try:
        start_client(kubectl)
        for step in steps:
            step(kubectl, report)
    except Failure as failure:
        report.check(False, str(failure))
        explain(kubectl, report)
    finally:
        kubectl.remove_namespaces()


def main():
    steps = {"demo": check_demo, "base": check_base, "production": check_production}
    wanted = chosen(__doc__.splitlines()[0], steps)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    if why := missing(cluster.find()):
        print(why, file=sys.stderr)
        return 1
    report = Report()
    try:
        # Before the clock runs.
        program()
        kubectl = Kubectl(cluster.find(), SECONDS)
        report.step(f"The cluster {kubectl('config', 'current-context')}")
        run(kubectl, report, wanted)
    except Failure as failure:
        report.check(False, str(failure))
    return report.conclude()


if __name__ == "__main__":
    sys.exit(main())

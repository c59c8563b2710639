"""A cluster as kubectl sees it, within a time that is set for the whole run."""

import json
import os
import re
import shutil
import subprocess
import time
from contextlib import contextmanager

from lab import KUBECTL, Failure

# What every namespace of a run is marked with; nothing else is ever removed.
MARK = "app.kubernetes.io/managed-by=shop-verify"
# The variable that names another image in place of one in the manifests, by the last part of its name; as for compose.
IMAGES = {"shop": "SHOP_IMAGE", "postgres": "POSTGRES_IMAGE", "mongo": "MONGO_IMAGE", "redis": "REDIS_IMAGE",
          "rabbitmq": "RABBITMQ_IMAGE"}
# Seconds to remove what the run has made, beyond the run's own.
CLEANING = 90


class Kubectl:
    """Runs kubectl; each call has at most what is left of the run's seconds."""

    def __init__(self, program, seconds):
        self.program, self.end = program, time.monotonic() + seconds

    def left(self):
        """Seconds until the run has to end."""
        return self.end - time.monotonic()

    def __call__(self, *arguments, **options):
        """What it prints."""
        return self.run(arguments, **options).stdout.strip()

    def run(self, arguments, input=None, timeout=None):
        """The call when it has ended; a failure says what it complains of."""
        command = [self.program, *map(str, arguments)]
        try:
            done = subprocess.run(command, input=input, capture_output=True, text=True,
                                  timeout=max(timeout or self.left(), 1))
        except subprocess.TimeoutExpired as error:
            raise Failure(f"kubectl {' '.join(command[1:])[:100]}: no end in time") from error
        if done.returncode:
            tail = " | ".join(done.stderr.strip().splitlines()[-3:])
            raise Failure(f"kubectl {' '.join(command[1:])[:100]}: {tail[-500:]}")
        return done

    def apply(self, text):
        """Applies manifests; gives what the cluster warns of."""
        done = self.run(["apply", "--filename", "-"], input=text)
        return [line for line in done.stderr.splitlines() if line.startswith("Warning:")]

    def items(self, *arguments):
        """The objects that `kubectl get` finds."""
        return json.loads(self("get", *arguments, "--output", "json"))["items"]

    def start(self, *arguments, stdout=subprocess.PIPE):
        """The same, going on."""
        return subprocess.Popen([self.program, *map(str, arguments)], stdin=subprocess.PIPE, stdout=stdout,
                                stderr=subprocess.PIPE, text=True)

    def rendered(self, folder):
        """What kustomize makes of a folder, with images that the environment names in place of the manifests'."""
        def chosen(found):
            name = found[2].rpartition("/")[2].partition("@")[0].partition(":")[0]
            return found[1] + (os.environ.get(IMAGES.get(name, "")) or found[2])

        return re.sub(r"(?m)^([ -]*image: )(\S+)$", chosen, self("kustomize", folder))

    def make_namespace(self, name):
        """One of ours; that somebody has one of the name already is a failure."""
        key, _, value = MARK.partition("=")
        labels = {key: value, "shop/ingress": "true"} if name.endswith("-client") else {key: value}
        self("create", "--save-config", "--filename", "-", input=json.dumps(
            {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}))

    def remove_namespaces(self):
        """Removes those of ours with all that is in them, and waits until they are gone."""
        names = self("get", "namespaces", "--selector", MARK, "--output", "name", timeout=10).split()
        if names:
            self("delete", *names, "--ignore-not-found", f"--timeout={CLEANING - 20}s", timeout=CLEANING - 10)

    def wait_for_rollouts(self, namespace, *workloads):
        """Until all pods of the workloads, all there are unless they are named, are new and ready."""
        for name in workloads or self("get", "deployments,statefulsets", "-n", namespace, "--output", "name").split():
            self("rollout", "status", name, "-n", namespace, f"--timeout={max(self.left(), 1):.0f}s")

    def pods(self, namespace, role):
        """The names of the role's pods, without those that are on their way out."""
        found = self.items("pods", "-n", namespace, "--selector", f"app.kubernetes.io/name={role}")
        return [pod["metadata"]["name"] for pod in found if "deletionTimestamp" not in pod["metadata"]]

    def wait_until_gone(self, namespace, pod):
        """Until the pod has ended; what waits for a rollout does not see yet that it will."""
        self("wait", "--for=delete", f"pod/{pod}", "-n", namespace, f"--timeout={max(self.left(), 1):.0f}s")

    def evict(self, namespace, pod):
        """Has the pod go as when its node is drained: not before its disruption budget allows it."""
        body = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": pod, "namespace": namespace}}
        while True:
            try:
                return self("create", "--raw", f"/api/v1/namespaces/{namespace}/pods/{pod}/eviction", "--filename", "-",
                            input=json.dumps(body))
            except Failure as failure:
                if "disruption budget" not in str(failure) or self.left() < 5:
                    raise
                time.sleep(1)

    @contextmanager
    def forwarded(self, namespace):
        """A port of this machine that leads to the gateway."""
        process = self.start("port-forward", "-n", namespace, "service/api-gateway", ":8000", "--address", "127.0.0.1")
        try:
            line = process.stdout.readline()
            found = re.match(r"Forwarding from 127\.0\.0\.1:(\d+) ", line)
            if not found:
                process.kill()
                raise Failure(f"kubectl port-forward: {line}{process.stderr.read()}".strip())
            yield int(found[1])
        finally:
            process.kill()
            process.wait()


def find():
    """The program: $KUBECTL, the machine's, or what tools.sh brought."""
    return os.environ.get("KUBECTL") or shutil.which("kubectl") or (str(KUBECTL) if KUBECTL.exists() else None)

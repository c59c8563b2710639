#!/usr/bin/env python3
"""Stands for kubectl and a cluster in the rehearsal of verify_cluster.py: what it is asked it writes down, and answers.

The shop behind each namespace is the program itself, all roles in one process; the load runs on this machine. It knows
the calls that verify_cluster.py makes, and no others. STUB_FOLDER is where its cluster is; STUB_LOSES names what loses
requests (NAMESPACE/DEPLOYMENT when it is rolled), STUB_AWAY says that there is no cluster.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import yaml

FOLDER = Path(os.environ["STUB_FOLDER"])
KUSTOMIZE = os.environ["STUB_KUSTOMIZE"]
APP = os.environ["APP_BINARY"]
LOAD = Path(__file__).resolve().parent / "trial/client/load.sh"


def fail(text):
    sys.exit(text)


def value(arguments, name):
    """That of an option."""
    for number, argument in enumerate(arguments):
        if argument == name:
            return arguments[number + 1]
        if argument.startswith(f"{name}="):
            return argument.partition("=")[2]
    return None


class Namespace:
    """One of the stub's cluster, kept in a file."""

    def __init__(self, name):
        self.name, self.file = name, FOLDER / f"{name}.json"
        if not self.file.exists():
            fail(f'Error from server (NotFound): namespaces "{name}" not found')
        self.facts = json.loads(self.file.read_text())

    def save(self):
        self.file.write_text(json.dumps(self.facts))

    @property
    def data(self):
        return FOLDER / f"{self.name}-data"

    def environment(self):
        """As its manifests have it; a shop on loopback is open unless it is said otherwise."""
        return {"APP__AUTH__MODE": self.facts["mode"], "APP__AUTH__OPEN_BEYOND_LOOPBACK": "true"}

    def run_shop(self):
        """Starts the program, which outlives this process, and waits for it."""
        self.data.mkdir(exist_ok=True)
        listen = ["--set", f"gateway.listen=127.0.0.1:{self.facts['port']}", "--set", "gateway.management=127.0.0.1:0"]
        process = subprocess.Popen([APP, *listen], cwd=self.data, env=self.environment(), start_new_session=True,
                                   stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.facts["pid"] = process.pid
        self.save()
        for _ in range(200):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.facts["port"])) == 0:
                    return
            time.sleep(0.05)
        fail("the shop did not start")

    def address(self):
        return f"192.0.2.{sum(self.name.encode()) % 250}"

    def stop_shop(self):
        if pid := self.facts.pop("pid", None):
            os.kill(pid, signal.SIGKILL)

    def containers(self):
        return [doc["spec"]["template"]["spec"]["containers"][0] for doc in self.deployments().values()]

    def deployments(self):
        return {doc["metadata"]["name"]: doc for doc in self.facts["docs"] if doc["kind"] == "Deployment"}


def create(arguments, text):
    if "secret" in arguments:
        source = next(argument.partition("=")[2] for argument in arguments if argument.startswith("--from-"))
        if not Path(source).exists():
            fail(f"error: {source}: no such file")
        namespace = Namespace(value(arguments, "-n"))
        namespace.facts["secrets"].append(arguments[arguments.index("generic") + 1])
        return namespace.save()
    body = json.loads(text)
    name = body["metadata"]["name"]
    if body["kind"] == "Eviction":
        if f"/namespaces/{body['metadata']['namespace']}/pods/{name}/eviction" not in value(arguments, "--raw"):
            fail("error: the body is of another pod than the path")
        return take_pod(Namespace(body["metadata"]["namespace"]), name, is_asked=True)
    file = FOLDER / f"{name}.json"
    if file.exists():
        fail(f'Error from server (AlreadyExists): namespaces "{name}" already exists')
    labels = [f"{key}={label}" for key, label in body["metadata"]["labels"].items()]
    return file.write_text(json.dumps({"labels": labels, "docs": [], "secrets": [], "gone": [], "refused": []}))


def take_pod(namespace, pod, is_asked):
    """The disruption budget allows the second one when it is asked again."""
    if is_asked and pod.endswith("-1") and pod not in namespace.facts["refused"]:
        namespace.facts["refused"].append(pod)
        namespace.save()
        fail("Error from server (TooManyRequests): Cannot evict pod as it would violate the pod's disruption budget.")
    namespace.facts["gone"].append(pod)
    return namespace.save()


def apply(_, text):
    docs = [doc for doc in yaml.safe_load_all(text) if doc]
    (name,) = {doc["metadata"]["namespace"] for doc in docs if doc["kind"] != "Namespace"}
    namespace = Namespace(name)
    namespace.facts |= {"docs": docs, "mode": "enforced" if "MODE: enforced" in text else "open"}
    if os.environ.get("STUB_WARNS") == name:
        print("Warning: would violate PodSecurity", file=sys.stderr)
    if any(container["image"].rpartition("/")[2].startswith("shop:") for container in namespace.containers()):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            namespace.facts["port"] = probe.getsockname()[1]
        namespace.run_shop()
    namespace.save()


def delete(arguments, _):
    if arguments[0] == "pod":
        return take_pod(Namespace(value(arguments, "-n")), arguments[1], is_asked=False)
    for name in (argument.partition("/")[2] for argument in arguments if argument.startswith("namespace/")):
        namespace = Namespace(name)
        namespace.stop_shop()
        namespace.file.unlink()
    return None


def get(arguments, _):
    if "--raw" in arguments:
        return print("ok")
    if arguments[0] == "namespaces":
        for file in FOLDER.glob("shop-verify-*.json"):
            if value(arguments, "--selector") in json.loads(file.read_text())["labels"]:
                print(f"namespace/{file.stem}")
        return None
    if arguments[0] == "service":
        return print(Namespace(value(arguments, "-n")).address())
    if arguments[0] == "deployments,statefulsets":
        for doc in Namespace(value(arguments, "-n")).facts["docs"]:
            if doc["kind"] in ("Deployment", "StatefulSet"):
                print(f"{doc['kind'].lower()}.apps/{doc['metadata']['name']}")
        return None
    if arguments[0] == "pods" and "--all-namespaces" not in arguments:
        namespace, name = Namespace(value(arguments, "-n")), value(arguments, "--selector").partition("=")[2]
        pods = [{"metadata": {"name": f"{name}-{number}"}}
                for number in range(namespace.deployments()[name]["spec"]["replicas"])]
        pods.append({"metadata": {"name": f"{name}-old", "deletionTimestamp": "now"}})
        return print(json.dumps({"items": pods}))
    return print("shop-verify-stub says nothing")


def rollout(arguments, _):
    namespace, name = Namespace(value(arguments, "-n")), arguments[1].partition("/")[2]
    if arguments[0] == "restart" and f"{namespace.name}/{name}" in os.environ.get("STUB_LOSES", ""):
        namespace.stop_shop()
        time.sleep(0.2)
        namespace.run_shop()
    if arguments[0] == "status" and name in os.environ.get("STUB_PENDING", "-"):
        fail("error: timed out waiting for the condition")


def at_address(address):
    """The namespace whose Service has it."""
    names = (file.stem for file in FOLDER.glob("shop-verify-*.json"))
    return next(found for found in map(Namespace, names) if found.address() == address)


def execute(arguments, text):
    command = arguments[arguments.index("--") + 1:]
    if command[0] == "bash":
        os.execvp("bash", ["bash", str(LOAD), "127.0.0.1", str(at_address(command[2]).facts["port"]), *command[4:]])
    namespace = Namespace(value(arguments, "-n"))
    subprocess.run([APP, *command[1:]], input=text, text=True, check=True, cwd=namespace.data,
                   env=namespace.environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def forward(arguments, _):
    port = Namespace(value(arguments, "-n")).facts["port"]
    print(f"Forwarding from 127.0.0.1:{port} -> 8000", flush=True)
    signal.pause()


def main():
    verb, *arguments = sys.argv[1:]
    with open(FOLDER / "calls", "a", encoding="utf-8") as calls:
        print(" ".join(sys.argv[1:]), file=calls)
    if verb == "kustomize":
        os.execv(KUSTOMIZE, [KUSTOMIZE, *sys.argv[1:]])
    if os.environ.get("STUB_AWAY"):
        fail("The connection to the server 127.0.0.1:6443 was refused - did you specify the right host or port?")
    known = {"create": create, "apply": apply, "delete": delete, "get": get, "rollout": rollout, "exec": execute,
             "port-forward": forward, "wait": lambda *_: None, "config": lambda *_: print("stub")}
    is_text = "-" in arguments or "--password-stdin" in arguments
    known[verb](arguments, sys.stdin.read() if is_text else "")


if __name__ == "__main__":
    main()

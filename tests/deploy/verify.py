#!/usr/bin/env python3
"""Builds the image and tries the deployment for real: alone, by compose, and by `podman kube play`.

Usage: verify.py [--only STEP ...]     (`make verify-deploy`, which installs what it needs)

Takes podman, root and Debian. What the machine lacks it says, and fails; a goal that is missed is printed, and ends
the run with status 1. Everything it makes is called shop-verify, and is gone afterwards but for images.
"""

import base64
import json
import os
import random
import re
import shutil
import signal
import socket
import ssl
import statistics
import subprocess
import sys
import tarfile
import time
from collections import Counter

from customer import (
    KINDS, PASSWORD, PATIENCE, Customer, Load, five_requests, hears, order_and_pay, place_and_pay, signed_in,
)
from images import build, exists, make, shop, stores
from lab import (
    KUBECTL, NAME, ROLES, ROOT, WORK, Failure, Report, chosen, clean, composer, inspect, missing, podman, prepare, run,
    secret_values,
)

HARDENED = ("--read-only", "--cap-drop=ALL", "--security-opt=no-new-privileges")
STORES = ("postgres", "mongo", "redis", "rabbitmq")
# Of the stack's private network.
SUBNET = "10.213.77"
SECRET = f"{NAME}-secret"
MEGABYTE = 1_000_000
# The image's user.
NOBODY = 65532


def main():
    steps = {"image": check_image, "alone": check_alone, "compose": check_compose, "tls": check_tls,
             "kube": check_kube}
    wanted = chosen(__doc__.splitlines()[0], steps)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    if lacks := list(missing()):
        print("\n".join(f"this machine lacks {what}" for what in lacks), file=sys.stderr)
        return 1
    report = Report()
    try:
        lock = prepare()
        clean()
        try:
            for step in wanted:
                step(report)
        finally:
            clean()
            lock.close()
    except Failure as failure:
        report.check(False, str(failure))
    return report.conclude()


# --- the image ---

def check_image(report):
    report.step("The image")
    start = time.monotonic()
    image, arguments = build(report)
    report.note(f"built in {time.monotonic() - start:.0f} s, what was cached included")
    facts = inspect(image, "image")
    size = facts["Size"] / MEGABYTE
    report.check(size <= 40, "size", f"{size:.1f} MB", "at most 40")
    config = facts["Config"]
    report.check(config["User"] == "65532:65532", "its user is nobody in particular", config["User"])
    labels = {f"org.opencontainers.image.{name}" for name in ("title", "description", "licenses", "version", "revision")}
    report.check(labels <= config["Labels"].keys(), "labels", ", ".join(sorted(config["Labels"])))
    check = facts.get("HealthCheck") or facts.get("Healthcheck") or config.get("Healthcheck") or {}
    report.check(check.get("Test", [])[-1:] == ["healthcheck"], "health check", check.get("Test"))
    files = contents(image)
    expected = {"app", "certs", "config", "data", "etc"}
    report.check({name.split("/")[0] for name in files} - {"dev", "proc", "run", "sys", ""} == expected,
                 "nothing but the program, its configuration, what it trusts, and folders for certificates and data", f"{len(files)} files")
    report.check(not any(name.endswith(("/sh", "/bash", "/busybox")) for name in files), "no shell")
    again = f"{shop()}-again"
    make(again, [*arguments, "--no-cache"])
    report.check(made_of(inspect(again, "image")) == made_of(facts), "a build from nothing gives the same layers and settings",
                 ", ".join(layer[7:19] for layer in facts["RootFS"]["Layers"]))
    podman("untag", again, again)


def made_of(facts):
    """What a container of the image gets. Its id is also of podman's history, which names the images between."""
    return facts["RootFS"]["Layers"], facts["Config"], facts["Created"]


def contents(image):
    """The files of the image, as a container has them."""
    archive = WORK / "contents.tar"
    podman("create", "--name", f"{NAME}-contents", image)
    podman("export", "--output", archive, f"{NAME}-contents")
    podman("rm", "--volumes", f"{NAME}-contents")
    with tarfile.open(archive) as tar:
        names = [member.name.strip("/") for member in tar.getmembers()]
    archive.unlink()
    return names


# --- all roles in one container ---

def check_alone(report):
    report.step("All roles in one container, read-only, without any capability")
    need_image()
    times = []
    for _ in range(5):
        seconds, port = start_alone()
        times.append(seconds)
        podman("rm", "--force", "--time", "0", "--volumes", f"{NAME}-alone")
    report.check(max(times) < PATIENCE and statistics.median(times) <= 1, "podman run to the first 200, median of 5",
                 f"{statistics.median(times):.2f} s", "at most 1")
    _, port = start_alone()
    customer = Customer(port)
    # In a container a shop is not open unless it is told to be.
    refused = [customer.ask("POST", "/products", {"name": "Nothing", "price": 1}).status, customer.register().status]
    report.check(refused == [401, 422], "without being told to be open it is not", refused)
    make_admin(f"{NAME}-alone", customer, report)
    written = five_requests(customer, report)
    order_and_pay(customer, report)
    signed_in(customer, report)
    healthy = subprocess.run(["podman", "healthcheck", "run", f"{NAME}-alone"], capture_output=True, check=False)
    report.check(healthy.returncode == 0, "podman healthcheck run")
    podman("kill", f"{NAME}-alone")
    podman("start", f"{NAME}-alone")
    customer.wait()
    kept = [customer.ask("GET", path).status for path in written]
    report.check(kept == [200, 200], "what was written, and the token, are good after SIGKILL and a start", kept)
    time.sleep(2)
    resident = memory(f"{NAME}-alone")
    report.note(f"resident at rest, all roles: {resident:.1f} MB")
    podman("rm", "--force", "--volumes", f"{NAME}-alone")


def make_admin(container, customer, report):
    """Makes an admin's account in a container that has the user role, and signs the customer in to it."""
    email = "trinity@example.com"
    podman("exec", "--interactive", container, "/app", "user", "create", "--admin", "--username", "Trinity",
           "--email", email, "--password-stdin", input=PASSWORD + "\n")
    status = customer.sign_in(email)
    report.check(status == 200, "the first admin is made in the container, and logs in", status)


def start_alone():
    """The seconds until it answers, and its port."""
    port, start = free_port(), time.monotonic()
    podman("run", "--detach", "--name", f"{NAME}-alone", *HARDENED, "--publish", f"127.0.0.1:{port}:8000", shop())
    if Customer(port).wait() is None:
        raise Failure(f"no answer: {logs(f'{NAME}-alone')}")
    return time.monotonic() - start, port


# --- compose ---

class Stack:
    """The services of deploy/compose.yaml, and of those that go `on_top` of it, under a name of their own."""

    def __init__(self, images, *on_top):
        self.port = free_port()
        settings = secret_values() | {"SHOP_IMAGE": shop(), "PORT": str(self.port)}
        settings |= {f"{store.upper()}_IMAGE": image for store, image in images.items()}
        self.env = WORK / "compose.env"
        self.env.write_text("".join(f"{key}={value}\n" for key, value in settings.items()))
        self.env.chmod(0o600)
        self.program = composer() / "podman-compose"
        file = WORK / "compose.json"
        file.write_text(json.dumps(with_addresses(parsed((ROOT / "deploy/compose.yaml").read_text())[0])))
        self.files = [argument for path in (file, *on_top) for argument in ("--file", path)]

    def compose(self, *arguments):
        return run([self.program, "--in-pod=false", "--project-name", NAME, "--env-file", self.env,
                    *self.files, *arguments], timeout=300)

    def container(self, service):
        names = podman("ps", "--all", "--filter", f"label=com.docker.compose.service={service}",
                       "--filter", f"label=com.docker.compose.project={NAME}", "--format", "{{.Names}}")
        if not names:
            raise Failure(f"compose has made no container of {service}")
        return names.splitlines()[0]


def with_addresses(compose):
    """The same with a fixed address for each service, in every container's /etc/hosts.

    The name server of podman 4 answers nobody for up to 20 seconds once a container is gone and the network has no
    other name server; the test is of the shop. `podman kube play`, below, goes by its names.
    """
    addresses = {service: f"{SUBNET}.{number}" for number, service in enumerate(compose["services"], 11)}
    compose["networks"]["private"]["ipam"] = {"config": [{"subnet": f"{SUBNET}.0/24"}]}
    for service, body in compose["services"].items():
        body["networks"] = {name: {} for name in body["networks"]} | {"private": {"ipv4_address": addresses[service]}}
        if len(body["networks"]) == 1:
            # Else its neighbours look for it, once it is back, at the hardware address that it had.
            body["mac_address"] = "02:73:68:6f:70:" + addresses[service].split(".")[-1]
        body["extra_hosts"] = [f"{name}:{address}" for name, address in addresses.items()]
    return compose


def check_compose(report):
    report.step("deploy/compose.yaml")
    report.note("with fixed addresses in /etc/hosts, for podman's name server hangs when a container is killed")
    need_image()
    stack = Stack(stores(report))
    order = random.sample(ROLES + STORES, len(ROLES + STORES))
    report.note(f"started in this order: {', '.join(order)}")
    stack.compose("up", "--no-start", "--no-build")
    for service in order:
        podman("start", stack.container(service))
    customer = Customer(stack.port)
    ready(stack, report, customer)
    five_requests(customer, report)
    order_and_pay(customer, report)
    check_hardening(stack, report)
    measure(stack, report)
    # Behind the measuring: a password that is hashed takes 19 MiB, which are given back by and by.
    make_admin(stack.container("user"), customer, report)
    signed_in(customer, report)
    break_each(stack, report)
    events_wait(stack, report)
    stack.compose("down", "--volumes")


def check_tls(report):
    report.step("deploy/compose.tls.yaml on top of it")
    need_image()
    stack = Stack(stores(report), ROOT / "deploy/compose.tls.yaml")
    stack.compose("up", "--no-start", "--no-build")
    certs = stack.container("certs")
    podman("start", certs)
    code = podman("wait", certs)
    report.check(code == "0", "certificates are made", code)
    for service in STORES + ROLES:
        podman("start", stack.container(service))
    authority = WORK / "ca.crt"
    podman("cp", f"{certs}:/certs/ca.crt", authority)
    tls = ssl.create_default_context(cafile=authority)
    customer = Customer(stack.port, tls)
    ready(stack, report, customer)
    five_requests(customer, report)
    order_and_pay(customer, report)
    in_the_clear = Customer(stack.port).ask("GET", "/").status
    report.check(in_the_clear == 0, "nothing is answered in the clear", in_the_clear)
    tls.set_alpn_protocols(["h2"])
    with socket.create_connection(("127.0.0.1", stack.port)) as tcp, tls.wrap_socket(tcp, server_hostname="localhost") as wrapped:
        protocol = wrapped.selected_alpn_protocol()
    report.check(protocol == "h2", "HTTP/2 is spoken", protocol)
    stack.compose("down", "--volumes")


def ready(stack, report, customer):
    """Waits until every role says that it has all it needs."""
    start = time.monotonic()
    for role in ROLES:
        while podman("exec", stack.container(role), "/app", "healthcheck", check=False, timeout=30) == "" and \
                time.monotonic() - start < PATIENCE:
            time.sleep(0.2)
    customer.wait("/products?limit=1")
    seconds = time.monotonic() - start
    if seconds >= PATIENCE:
        for service in ROLES + STORES:
            report.note(f"{service}: {logs(stack.container(service))[-300:]}")
    report.check(seconds < PATIENCE, "every role is ready", f"{seconds:.1f} s after the last was started")


def check_hardening(stack, report):
    published = {}
    for service in ROLES + STORES:
        facts = inspect(stack.container(service))
        host = facts["HostConfig"]
        published |= {service: ports for ports in [[b for b in (facts["NetworkSettings"]["Ports"] or {}).values() if b]] if ports}
        process = status(facts["State"]["Pid"])
        limits = host["Memory"] > 0 and host["PidsLimit"] > 0 and host["NanoCpus"] > 0
        nobody = process["Uid"].split()[0] != "0" and int(process["CapEff"], 16) == 0 and process["NoNewPrivs"] == "1"
        report.check(host["ReadonlyRootfs"] and nobody and limits, f"{service}: read-only, no root, no capabilities, limits",
                     f"uid {process['Uid'].split()[0]}, {host['Memory'] >> 20} MiB")
    report.check(list(published) == ["gateway"], "only the gateway's port is published", list(published))


def measure(stack, report):
    """Memory at rest and under load, and what the load costs."""
    time.sleep(3)
    rest = {role: memory(stack.container(role)) for role in ROLES}
    for role, megabytes in rest.items():
        report.check(megabytes <= 30, f"{role}: resident at rest", f"{megabytes:.1f} MB", "at most 30")
    report.check(sum(rest.values()) <= 100, "all roles at rest", f"{sum(rest.values()):.1f} MB", "at most 100")
    before = {role: cpu(stack.container(role)) for role in ROLES}
    seconds = 5
    out = run(["wrk", "--threads", "1", "--connections", "64", "--duration", f"{seconds}s",
               f"http://127.0.0.1:{stack.port}/products"])
    rate = next(line.split()[-1] for line in out.splitlines() if line.startswith("Requests/sec"))
    for role in ROLES:
        used = (cpu(stack.container(role)) - before[role]) / seconds
        report.note(f"{role} at {rate} requests/s: {used:.2f} CPUs, {memory(stack.container(role)):.1f} MB resident")


def break_each(stack, report):
    """Kills every container in turn under load."""
    # What must go on without it, by the clients of the load.
    unharmed = {"redis": KINDS, "rabbitmq": KINDS, "postgres": ("add", "list"), "mongo": ("register", "look"), "product": ("register", "look"),
                "user": ("add", "list", "order"), "order": ("register", "add", "list", "look"), "gateway": ()}
    # What must not: without the process nobody does it. What is in a cache is served on.
    harmed_without = {"redis": (), "rabbitmq": (), "postgres": ("register", "order"), "mongo": ("add", "order"), "product": ("add", "order"),
                      "user": ("register",), "order": ("order",), "gateway": KINDS}
    customer, written = Customer(stack.port), []
    for service in random.sample(ROLES + STORES, 6):
        load = Load(stack.port)
        time.sleep(1)
        name = stack.container(service)
        pid = inspect(name)["State"]["Pid"]
        podman("kill", name)
        time.sleep(1.5)
        gone = not is_running(pid)
        if inspect(name)["State"]["Status"] != "running":
            podman("start", name)
        start = time.monotonic()
        back = comes_back(customer)
        time.sleep(0.5)
        statuses = load.end()
        written += load.written
        fine = {200, 201, 502, 503, 504} | ({0} if service == "gateway" else set())
        wrong = {kind: sorted(set(seen) - fine) for kind, seen in statuses.items()}
        harmed = [kind for kind in unharmed[service] if any(s not in (200, 201) for s in statuses[kind])]
        report.check(back and not any(wrong.values()), f"{service} killed: everything works again",
                     f"{time.monotonic() - start:.1f} s later", "nothing but 5xx meanwhile")
        # A request may also wait until the process is back, and then succeed.
        missed = [kind for kind in harmed_without[service]
                  if all(s in (200, 201) for s in statuses[kind]) and load.longest[kind] < 1]
        report.check(gone and not missed, f"{service} killed: it was down, and what needs it noticed",
                     "" if gone else f"process {pid} runs on", ", ".join(missed))
        report.check(not harmed, f"{service} killed: what does not need it goes on",
                     ", ".join(f"{kind} {dict(Counter(seen))}" for kind, seen in statuses.items()))
    # podman's network loses a connection now and then: what was not answered is asked for again.
    answers = {path: customer.ask("GET", path).status or customer.ask("GET", path).status for path in written}
    lost = [f"{path} {status}" for path, status in answers.items() if status != 200]
    report.check(written and not lost, "every acknowledged write is there",
                 f"{len(written)} written, {len(lost)} lost {', '.join(lost[:5])}".rstrip())


def events_wait(stack, report):
    """Orders while the broker is gone: it is paid at once, and its event follows."""
    customer, broker = Customer(stack.port), stack.container("rabbitmq")
    podman("kill", broker)
    user, path, statuses = place_and_pay(customer)
    time.sleep(1)
    shown = customer.ask("GET", f"/auth/dashboard/{user}").json().get("recentOrders", [])
    report.check(statuses == [201, 200, 409] and shown == [], "without a broker an order is placed and paid, and its event waits",
                 [statuses, len(shown)])
    podman("start", broker)
    seconds = hears(customer, user, path)
    report.check(seconds < PATIENCE, "its event is taken once the broker is back", f"{seconds:.1f} s later")


def comes_back(customer):
    """Whether all kinds of requests work again within half a minute."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        user = customer.register()
        product = customer.ask("POST", "/products", {"name": "Back", "price": 1})
        both = (user.status, product.status) == (201, 201)
        if both and customer.order(product.json()["id"], user.json()["id"]).status == 201:
            page, dashboard = customer.ask("GET", "/products"), customer.ask("GET", user.headers["location"])
            if (page.status, dashboard.status) == (200, 200) and "degraded" not in dashboard.json():
                return True
        time.sleep(0.1)
    return False


# --- podman kube play ---

def check_kube(report):
    report.step("deploy/overlays/demo by podman kube play")
    need_image()
    port = free_port()
    play(report, documents(ROOT / "deploy/overlays/demo"), {"shop": port})
    customer = Customer(port)
    report.check(customer.wait() is not None, "it answers")
    five_requests(customer, report)
    order_and_pay(customer, report)
    make_admin(f"{NAME}-shop-app", customer, report)
    signed_in(customer, report)
    clean()
    report.step("deploy/k8s by podman kube play")
    images = stores(report)
    podman("network", "create", f"{NAME}-kube")
    secret = secret_values()
    data = {key: base64.b64encode(value.encode()).decode() for key, value in secret.items()}
    podman("secret", "create", SECRET, "-", input=json.dumps(data))
    report.note("put in place by hand: the Secret shop, which podman reads in a form of its own")
    try:
        port = free_port()
        play(report, documents(ROOT / "deploy/k8s"), {"gateway": port}, images, f"{NAME}-kube", secret)
        customer = Customer(port)
        report.check(customer.wait("/products?limit=1") is not None, "it answers")
        five_requests(customer, report)
        order_and_pay(customer, report)
        make_admin(f"{NAME}-user-app", customer, report)
        signed_in(customer, report)
    finally:
        clean()


def documents(folder):
    """What kustomize makes of a folder, one value an object."""
    text = run([KUBECTL, "kustomize", folder])
    return parsed(text)


def parsed(text):
    """The documents of a YAML text; read by podman-compose's parser."""
    script = "import json, sys, yaml; json.dump(list(yaml.safe_load_all(sys.stdin)), sys.stdout)"
    return json.loads(run([composer() / "python", "-c", script], input=text))


def play(report, objects, published, images=None, network=None, secret=None):
    """Plays what podman takes of the objects: each Deployment as a pod of the name that its Service has."""
    left = set()
    claims = {one["metadata"]["name"]: one for one in objects if one["kind"] == "PersistentVolumeClaim"}
    configured = [one for one in objects if one["kind"] == "ConfigMap"]
    for number, one in enumerate(objects):
        if one["kind"] == "Service":
            left.add("Services: pods find each other by names of their own, put into URLs")
        if one["kind"] != "Deployment":
            continue
        name, pod = one["metadata"]["name"], one["spec"]["template"]
        used = claim_volumes(pod["spec"], claims)
        if mount_secrets(pod["spec"], secret):
            left.add("volumes of Secrets: podman would mount the whole Secret; the files are put in by hand")
        prepare_pod(pod["spec"], (images or {}).get(name), left)
        for variable in pod["spec"]["containers"][0].get("env", []):
            if reference := variable.get("valueFrom", {}).get("secretKeyRef"):
                reference["name"] = SECRET
            for key, value in (secret or {}).items():
                if f"$({key})" in variable.get("value", ""):
                    left.add("$(NAME) in variables: put in by hand")
                    variable["value"] = variable["value"].replace(f"$({key})", value)
        # podman would publish every port that is named.
        ports = [{"containerPort": 8000, "hostPort": published[name], "hostIP": "127.0.0.1"}] if name in published else []
        pod["spec"]["containers"][0]["ports"] = ports
        whole = {"apiVersion": "v1", "kind": "Pod", "spec": pod["spec"],
                 "metadata": pod["metadata"] | {"name": f"{NAME}-{name}"}}
        path = WORK / f"kube-{number}.json"
        text = "\n---\n".join(json.dumps(document) for document in [*configured, *used, whole])
        # Pods have names of ours, and so have the hosts that they look for.
        path.write_text(re.sub(r"(@|//)(postgres|mongo|redis|rabbitmq|user|product|order):", rf"\1{NAME}-\2:", text))
        path.chmod(0o600)
        podman("kube", "play", *(["--network", network] if network else []), path)
        path.unlink()
    for what in sorted(left):
        report.note(f"left out, for podman does not have it: {what}")


def claim_volumes(spec, claims):
    """Gives the volumes that the pod claims names of ours, and the claims of them."""
    used = []
    for volume in spec.get("volumes", []):
        if wanted := volume.get("persistentVolumeClaim"):
            claim = claims[wanted["claimName"]]
            wanted["claimName"] = claim["metadata"]["name"] = f"{NAME}-{wanted['claimName']}"
            used.append(claim)
    return used


def mount_secrets(spec, values):
    """Puts the files of Secrets into folders that the pod mounts instead; whether there are any."""
    volumes = [volume for volume in spec.get("volumes", []) if "secret" in volume]
    for volume in volumes:
        folder = WORK / f"secret-{volume['name']}"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        for item in volume.pop("secret")["items"]:
            file = folder / item["path"]
            file.touch(mode=0o400)
            file.write_text(values[item["key"]])
            os.chown(file, NOBODY, NOBODY)
        volume["hostPath"] = {"path": str(folder), "type": "Directory"}
    return bool(volumes)


def prepare_pod(spec, image, left):
    """Takes out of a pod what podman would stumble over."""
    for container in spec["containers"]:
        for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
            if container.pop(probe, None):
                left.add("probes: podman would run them with a shell inside the container")
        container["image"] = image or (shop() if container["image"].startswith("shop:") else container["image"])
        container["imagePullPolicy"] = "Never"
        if "lifecycle" in container:
            container.pop("lifecycle")
            left.add("lifecycle hooks")
    if spec.get("securityContext", {}).pop("fsGroup", None):
        left.add("fsGroup: volumes belong to whom the image says")
    for container in spec["containers"]:
        for mount in container.get("volumeMounts", []):
            # A volume takes its owner from the folder in the image, but not through the link /var/run.
            mount["mountPath"] = mount["mountPath"].replace("/var/run/", "/run/")
    spec["securityContext"].pop("fsGroupChangePolicy", None)


# --- measuring ---

def need_image():
    if not exists(shop()):
        raise Failure("there is no image yet: run the step image first")


def logs(container):
    """The last words of a container."""
    return subprocess.run(["podman", "logs", "--tail", "3", container], stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          text=True, check=False).stdout


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def status(pid):
    """/proc/PID/status, by name."""
    with open(f"/proc/{pid}/status", encoding="utf-8") as lines:
        return {key: value.strip() for key, _, value in (line.partition(":") for line in lines)}


def is_running(pid):
    """Whether there is such a process, and it is not just waited for."""
    try:
        return status(pid)["State"][0] not in "ZX"
    except OSError:
        return False


def memory(container):
    """Resident, in MB."""
    return int(status(inspect(container)["State"]["Pid"])["VmRSS"].split()[0]) * 1024 / MEGABYTE


def cpu(container):
    """User and system time so far, in seconds."""
    with open(f"/proc/{inspect(container)['State']['Pid']}/stat", encoding="utf-8") as line:
        fields = line.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    sys.exit(main())

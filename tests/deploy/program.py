"""What the program itself says about the way a container runs it."""

import http.client
import os
import re
import shlex
import signal
import subprocess
import tempfile
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import NamedTuple
from urllib.parse import parse_qs, urlsplit

ROOT = Path(__file__).resolve().parents[2]
BINARY = Path(os.environ.get("APP_BINARY", ROOT / "target/debug/app")).absolute()
IMAGE = "shop"
ROLES = ("gateway", "user", "product", "order")
# The roles that a role asks; it does not start without their addresses. Open, the product and the order role would without
# that of the user role, and believe no token.
ASKS = {"gateway": ("user", "product", "order"), "user": ("product", "order"), "product": ("user",), "order": ("product", "user")}
# The role without whose address others start all the same; what they would ask it they answer without, or with 503.
OPTIONAL = "order"
STORES = {
    "gateway": ("gateway.limits_url",),
    "user": ("user.database_url", "user.limits_url", "events.url"),
    "product": ("product.database_url", "product.cache_url", "events.url"),
    "order": ("order.database_url", "events.url"),
}
# Where the images of the stores listen.
STORE_PORTS = {"postgres": 5432, "mongo": 27017, "redis": 6379, "rabbitmq": 5672}
DEFAULT_PORTS = {"http": 80, "https": 443, "postgres": 5432, "mongodb": 27017, "redis": 6379, "amqp": 5672}
# Seconds that a kube-proxy may take to forget a pod that goes: it looks about once a second, and 1 s lost one request in
# 6,000 when the gateway rolled, one in 1,000 beside a busy neighbour; 5 s none of 56,600.
FORGETTING = 5
# Seconds that the end takes beyond what the settings of the drain say.
ENDING = 2
UNITS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600}


class Container(NamedTuple):
    """A container as a manifest describes it, whatever kind of manifest that is."""

    where: str
    image: str
    args: list[str]
    env: dict[str, str]
    ports: set[int]
    # Where it may write, and keep what it wrote.
    volumes: list[str]
    # What Secrets put into it, by path.
    files: dict[str, str]
    # Where volumes are that it may only read.
    mounts: list[str]
    # Seconds between the order to stop and SIGTERM, and from the order to SIGKILL.
    pause: float
    patience: float

    @property
    def program(self) -> str:
        """The image's name, without where it is from and which one it is."""
        return self.image.rpartition("/")[2].partition("@")[0].partition(":")[0]

    @property
    def is_app(self) -> bool:
        """Whether it runs roles of this program, rather than a store, or the program for a moment."""
        return self.program == IMAGE and not self.is_once

    @property
    def is_once(self) -> bool:
        """Whether it runs this program for what it does and ends."""
        return self.program == IMAGE and self.args[:1] == ["certs"]


class Host(NamedTuple):
    """What a name in a URL leads to: containers by the port that is asked for."""

    name: str
    ports: dict[int, tuple[Container, int]]


class Arrow(NamedTuple):
    """A URL of a container's settings that leads to another container."""

    key: str
    url: str
    target: Container
    port: int


class Refused(AssertionError):
    """What a manifest says that does not hold."""


def secret_value(key: str) -> str:
    """Stands for the value of a Secret's key."""
    return f"dummy-{key.lower()}".ljust(32, "0")


def version() -> str:
    """The version that images carry."""
    return tomllib.loads((ROOT / "Cargo.toml").read_text())["package"]["version"]


def image_environment(containerfile: str) -> dict[str, str]:
    """What ENV in the last stage sets."""
    stage = re.split(r"(?mi)^FROM\s", containerfile.replace("\\\n", " "))[-1]
    words = (word for line in re.findall(r"(?mi)^ENV\s+(.*)$", stage) for word in shlex.split(line))
    return dict(word.split("=", 1) for word in words)


def seconds(text: str | int | float) -> float:
    """A duration as the program and compose write it: 1m 30s, 1m30s, 250ms."""
    parts = re.findall(r"([\d.]+)\s*(ms|s|m|h)", str(text))
    if not parts:
        raise Refused(f"{text!r} is no duration")
    return sum(float(number) * UNITS[unit] for number, unit in parts)


def settings(args: list[str], env: Mapping[str, str]) -> dict[str, str]:
    """Every setting that the program would run with; refused where one has no form that it could have, or a
    route leads nowhere. What the settings name, such as certificates, is in the container, and need not be here."""
    with tempfile.TemporaryDirectory() as folder:
        run = subprocess.run(
            [BINARY, *args, "check-config"],
            cwd=folder, env=dict(env), capture_output=True, text=True, timeout=30,
        )
    if run.returncode and (not run.stdout or "app: gateway.routes." in run.stderr):
        raise Refused(run.stderr.strip())
    lines = (re.fullmatch(r"(\S+) =(.*?)\s+# .*", line) for line in run.stdout.splitlines())
    return {line[1]: line[2].strip() for line in lines if line}


def roles(container: Container) -> list[str]:
    """The roles that its arguments name, the first one first; all of them without."""
    named: set[str] = set(filter(None, container.env.get("APP_ROLE", "").split(",")))
    args = iter(container.args)
    for arg in args:
        if arg == "--role" or arg.startswith("--role="):
            named |= set((arg.partition("=")[2] or next(args, "")).split(","))
    return [role for role in ROLES if role in named or not named]


def port_of(address: str) -> int:
    """The port of a listening address that others can reach, also where there is no IPv4."""
    host, _, port = address.rpartition(":")
    if host == "0.0.0.0":
        raise Refused(f"nobody reaches {address} over IPv6; [::] has both")
    if host != "[::]":
        raise Refused(f"nobody outside the container reaches {address}")
    return int(port)


class Truth(NamedTuple):
    """How the program runs in a container."""

    settings: dict[str, str]
    roles: list[str]
    listens: set[int]
    management: int

    @classmethod
    def of(cls, container: Container, image_env: Mapping[str, str]) -> "Truth":
        """Asks the program, with the image's environment below the container's."""
        found = settings(container.args, {**image_env, **container.env})
        here = roles(container)
        # All in one, the others are reached through the gateway alone.
        listening = here if len(here) < len(ROLES) else ["gateway"]
        return cls(
            found, here,
            {port_of(found[f"{role}.listen"]) for role in listening},
            port_of(found[f"{here[0]}.management"]),
        )

    @property
    def mode(self) -> str:
        """Whether it asks for tokens. auto is open on loopback alone, where nobody would reach it."""
        return "open" if self.settings["auth.mode"] == "open" else "enforced"

    @property
    def is_mutual(self) -> bool:
        """Whether it knows other roles by certificates."""
        return bool(self.settings["mtls.certificate"])

    def urls(self, container: Container) -> Iterator[tuple[str, str]]:
        """The settings that lead elsewhere; the peers among them have to."""
        for role in self.roles:
            for peer in (peer for peer in ASKS[role] if peer not in self.roles):
                url = self.settings[f"peers.{peer}"]
                if not url:
                    raise Refused(f"{role} is not told where {peer} is")
                yield f"peers.{peer}", url
            for key in STORES[role]:
                url = self.settings[key]
                if url.startswith("sqlite://"):
                    check_kept(url, url.removeprefix("sqlite://"), container.volumes)
                elif url != "memory://":
                    yield key, url

    def outside(self) -> int | None:
        """The port of who takes payments, outside of what a manifest describes; nobody in a sandbox."""
        url = urlsplit(self.settings["order.payments_url"])
        if "order" not in self.roles or url.scheme == "sandbox":
            return None
        if not self.settings["order.payments_key"]:
            raise Refused(f"order.payments_url is {url.geturl()}, and there is no order.payments_key")
        return url.port or DEFAULT_PORTS[url.scheme]

    def drain(self) -> float:
        """The most seconds between SIGTERM and the end."""
        keys = ("server.drain_delay", "server.drain_timeout")
        return sum(seconds(self.settings[key]) for key in keys)


def check_pool(truth: Truth) -> None:
    """A connection to a role elsewhere is given up unused before that role cuts it off; roles drain alike."""
    idle, delay = (seconds(truth.settings[key]) for key in ("transport.pool_idle", "server.drain_delay"))
    if idle >= delay:
        raise Refused(f"transport.pool_idle is {idle:g} s, and server.drain_delay {delay:g} s")


def check_drain(truth: Truth) -> None:
    """A pod that goes accepts until every node has forgotten it."""
    delay = seconds(truth.settings["server.drain_delay"])
    if delay < FORGETTING:
        raise Refused(f"server.drain_delay is {delay:g} s, and a Service needs {FORGETTING} s to forget it")


def check_kept(what: str, path: str, volumes: list[str]) -> None:
    """A file that the program writes is kept on a volume."""
    whole = PurePosixPath("/") / path
    if not any(whole.is_relative_to(volume) for volume in volumes):
        raise Refused(f"{what} is on no volume, and lost with the container")


def check_mode(container: Container, truth: Truth) -> None:
    """Who may do what is said, and it starts so."""
    if "APP__AUTH__MODE" not in container.env:
        raise Refused("APP__AUTH__MODE does not say who may do what")
    if truth.mode == "open" and truth.settings["auth.open_beyond_loopback"] != "true":
        raise Refused("does not start: it is open beyond loopback, and not said to be meant so")


def check_keys(container: Container, truth: Truth) -> None:
    """The user role signs with the Secret's keys, or with such as it keeps beside its accounts."""
    if "user" not in truth.roles:
        return
    path = truth.settings["user.signing_keys_path"]
    keys = container.env.get("APP__USER__SIGNING_KEYS") or container.files.get(str(PurePosixPath("/") / path))
    if keys and keys != secret_value("SIGNING_KEYS"):
        raise Refused("signs tokens with another secret than SIGNING_KEYS")
    if not keys and not truth.settings["user.database_url"].startswith("sqlite://"):
        raise Refused(f"has no key that signs tokens: no Secret is mounted as {path}")
    if not keys:
        check_kept(path, path, container.volumes)


def check_tls(container: Container, truth: Truth) -> None:
    """Certificates are where the settings say, and only roles that have one are asked over TLS, then always."""
    for key, name in (("mtls.certificate", "tls.crt"), ("mtls.key", "tls.key"), ("mtls.authority", "ca.crt"),
                      ("gateway.tls_certificate", "tls.crt"), ("gateway.tls_key", "tls.key")):
        path = PurePosixPath("/") / truth.settings[key]
        if not truth.settings[key]:
            continue
        if str(path) in container.files:
            if container.files[str(path)] != secret_value(name):
                raise Refused(f"{key} is another file of the Secret than {name}")
        elif not any(path.is_relative_to(mount) for mount in container.mounts):
            raise Refused(f"{key} is {path}, and nothing is mounted there")
    for key, url in truth.urls(container):
        if key.startswith("peers.") and url.startswith("https:") != truth.is_mutual:
            has = "a certificate" if truth.is_mutual else "no certificate"
            raise Refused(f"{key} is {url}, while the role has {has}")


def check_routes(truth: Truth) -> None:
    """What a route of the gateway limits is counted by all gateways together."""
    if "gateway" not in truth.roles:
        return
    for route in sorted({key.split(".")[2] for key in truth.settings if key.startswith("gateway.routes.")}):
        limited = truth.settings.get(f"gateway.routes.{route}.limits")
        if limited and len(truth.roles) < len(ROLES) and truth.settings["gateway.limits_url"] == "memory://":
            raise Refused(f"gateway.routes.{route}.limits are counted in each process by itself")


def check_events(truth: Truth) -> None:
    """Roles that run apart tell each other of events by a broker."""
    if len(truth.roles) < len(ROLES) and {*truth.roles} != {"gateway"} and truth.settings["events.url"] == "memory://":
        raise Refused("events.url is memory://, and roles elsewhere get no events")


def one_protocol(truths: Iterable[Truth]) -> None:
    """Roles that work together all know each other by certificates, or none does."""
    if len({truth.is_mutual for truth in truths}) > 1:
        raise Refused("some roles have certificates for each other, and some do not")


def arrows(container: Container, truth: Truth, hosts: Mapping[str, Host]) -> list[Arrow]:
    """Where its URLs lead."""
    found = []
    for key, shown in truth.urls(container):
        url = urlsplit(shown)
        host, port = url.hostname or "", url.port or DEFAULT_PORTS[url.scheme]
        if host not in hosts:
            raise Refused(f"{key} asks {host}, and nothing has that name")
        if port not in hosts[host].ports:
            raise Refused(f"{key} asks {host} at {port}, which answers at {sorted(hosts[host].ports)}")
        found.append(Arrow(key, shown, *hosts[host].ports[port]))
    return found


def check_login(container: Container, arrow: Arrow) -> None:
    """A store lets in whom the URL names. The program hides passwords, so its environment is asked."""
    name = {"user.database_url": "DATABASE_URL", "product.database_url": "MONGODB_URL",
            "product.cache_url": "REDIS_URL", "gateway.limits_url": "REDIS_URL",
            "user.limits_url": "REDIS_URL", "order.database_url": "DATABASE_URL", "events.url": "AMQP_URL"}.get(arrow.key)
    if name is None:
        return
    url, store = urlsplit(container.env[name]), arrow.target.env
    expected = {
        "postgres": ("POSTGRES_USER", "POSTGRES_PASSWORD", "POSTGRES_DB"),
        "mongodb": ("MONGO_INITDB_ROOT_USERNAME", "MONGO_INITDB_ROOT_PASSWORD", None),
        "redis": (None, "REDIS_PASSWORD", None),
        "amqp": ("RABBITMQ_DEFAULT_USER", "RABBITMQ_DEFAULT_PASS", None),
    }[url.scheme]
    for what, asked, key in zip(("user", "password", "database"),
                                (url.username, url.password, url.path.lstrip("/")), expected):
        if key and asked != store.get(key):
            raise Refused(f"{name} has another {what} than {key} of {arrow.target.where}")
    if url.scheme == "mongodb" and parse_qs(url.query).get("authSource") != ["admin"]:
        raise Refused(f"{name} lacks authSource=admin, where the image makes its user")


def one_mode(truths: Iterable[Truth]) -> str:
    """The mode of roles that work together."""
    modes = {truth.mode for truth in truths}
    if len(modes) != 1:
        raise Refused(f"the roles differ in auth.mode: {sorted(modes)}")
    return modes.pop()


def check(container: Container, truth: Truth, hosts: Mapping[str, Host]) -> list[Arrow]:
    """What holds of every container of the program, wherever it runs; returns where it leads."""
    tag = container.image.partition("@")[0].rpartition(":")[2]
    if tag != version():
        raise Refused(f"{container.image} is not version {version()}, which Cargo.toml says")
    extra = container.ports - truth.listens - {truth.management}
    if extra:
        raise Refused(f"nothing listens on {sorted(extra)}; {sorted(truth.listens)} and "
                      f"{truth.management} are there")
    needed = container.pause + truth.drain() + ENDING
    if needed >= container.patience:
        raise Refused(f"is killed after {container.patience:g} s, while stopping takes {needed:g} s")
    check_pool(truth)
    check_mode(container, truth)
    check_keys(container, truth)
    check_tls(container, truth)
    check_routes(truth)
    check_events(truth)
    found = arrows(container, truth, hosts)
    for arrow in found:
        check_login(container, arrow)
    return found


def management_answers(paths: list[str]) -> tuple[dict[str, int], int]:
    """Starts the program on embedded storage; returns what it answers, and how it ends on SIGTERM."""
    anywhere = ["--set", "gateway.listen=127.0.0.1:0", "--set", "gateway.management=127.0.0.1:0"]
    with tempfile.TemporaryDirectory() as folder, subprocess.Popen(
        [BINARY, *anywhere], cwd=folder, env={}, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
    ) as process:
        try:
            text = iter(process.stdout.readline, "")
            port = next(int(at[1]) for line in text if (at := re.search(r"management on \S+:(\d+)", line)))
            answers = {path: status(port, path) for path in paths}
            asked = subprocess.run([BINARY, "healthcheck", "--address", f"127.0.0.1:{port}"], env={},
                                   capture_output=True, timeout=30)
            answers["healthcheck"] = asked.returncode
            process.send_signal(signal.SIGTERM)
            return answers, process.wait(30)
        finally:
            process.kill()


def status(port: int, path: str) -> int:
    """The status of a GET."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("GET", path)
        return connection.getresponse().status
    finally:
        connection.close()

"""Compose files, and what does not hold in them."""

import functools
import re
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

import yaml

import program
from program import Container, Host, Refused

VARIABLE = re.compile(r"\$(?:(?P<escaped>\$)|\{(?P<name>\w+)(?:(?P<how>:?[-?])(?P<rest>[^}]*))?\})")
DEFAULT_PATIENCE = 10
# What a log file may grow to, as docker writes it, and how many of them there may be.
LOG_SIZE = re.compile(r"[1-9]\d?m")
LOG_FILES = re.compile(r"[1-9]")


def merged(base: Any, over: Any) -> Any:
    """What compose makes of a file and of one on top of it: mappings are merged, lists joined, the rest is replaced."""
    if isinstance(base, dict) and isinstance(over, dict):
        return base | {key: merged(base[key], value) if key in base else value for key, value in over.items()}
    return base + over if isinstance(base, list) and isinstance(over, list) else over


class Compose:
    """A compose file, and others on top of it, their variables filled in."""

    def __init__(self, name: str, texts: Sequence[str], secrets: Mapping[str, str],
                 settings: Mapping[str, str]) -> None:
        self.name = name
        self.secrets = secrets
        # What .env says of the variables that have a default.
        self.settings = settings
        # The variables without which it does not start.
        self.required: set[str] = set()
        whole = functools.reduce(merged, map(yaml.safe_load, texts))
        self.services: dict[str, Any] = self.filled(whole["services"])
        # The networks that lead nowhere.
        self.internal = {name for name, body in whole.get("networks", {}).items() if (body or {}).get("internal")}

    def filled(self, node: Any) -> Any:
        """The node with its variables replaced: defaults, and what stands for secrets."""
        if isinstance(node, dict):
            return {key: self.filled(value) for key, value in node.items()}
        if isinstance(node, list):
            return [self.filled(value) for value in node]
        return VARIABLE.sub(self.value, node) if isinstance(node, str) else node

    def value(self, found: re.Match[str]) -> str:
        """What a variable stands for."""
        if found["escaped"]:
            return "$"
        if found["how"] in ("-", ":-"):
            return self.settings.get(found["name"], found["rest"])
        if found["name"] not in self.secrets:
            raise Refused(f"{self.name}: deploy/.env.example lacks {found['name']}")
        self.required.add(found["name"])
        return self.secrets[found["name"]]

    def container(self, name: str) -> Container:
        """The container of a service."""
        service = self.services[name]
        command = service.get("command", [])
        return Container(
            where=f"{self.name}: service {name}",
            image=service["image"],
            args=shlex.split(command) if isinstance(command, str) else command,
            env=environment(service.get("environment", {})),
            ports={container_port(port) for port in service.get("ports", [])},
            volumes=[target for volume in service.get("volumes", []) for target in kept(volume)],
            files={},
            mounts=[target for volume in service.get("volumes", []) for target in read_only(volume)],
            pause=0,
            patience=program.seconds(service.get("stop_grace_period", f"{DEFAULT_PATIENCE}s")),
        )

    def hosts_of(self, asking: str, listening: Mapping[str, set[int]]) -> dict[str, Host]:
        """The services that another can reach, over a network that both have."""
        mine = networks(self.services[asking])
        near = [name for name in self.services if mine & networks(self.services[name])]
        return {name: Host(name, {port: (self.container(name), port) for port in listening[name]})
                for name in near}


def environment(entries: dict[str, Any] | list[str]) -> dict[str, str]:
    """A service's environment, in either of its two forms."""
    pairs = entries.items() if isinstance(entries, dict) else (e.split("=", 1) for e in entries)
    return {key: str(value) for key, value in pairs}


def container_port(port: str | int | dict[str, Any]) -> int:
    """The container's side of a published port."""
    return int(port["target"] if isinstance(port, dict) else str(port).split("/")[0].rpartition(":")[2])


def check_published(service: Mapping[str, Any], truth: program.Truth) -> None:
    """A shop that is open is published on this machine alone."""
    for port in service.get("ports", []):
        host = port.get("host_ip", "") if isinstance(port, dict) else str(port).rpartition(":")[0].rpartition(":")[0]
        if truth.mode == "open" and host != "127.0.0.1":
            raise Refused(f"it is open, and published as {port}")


def kept(volume: str | dict[str, Any]) -> list[str]:
    """Where a volume is mounted, if it can be written to."""
    if isinstance(volume, dict):
        return [] if volume.get("read_only") else [volume["target"]]
    _, target, *flags = volume.split(":")
    return [] if "ro" in flags else [target]


def read_only(volume: str | dict[str, Any]) -> list[str]:
    """Where a volume is mounted that can only be read."""
    target = volume["target"] if isinstance(volume, dict) else volume.split(":")[1]
    return [] if target in kept(volume) else [target]


def check_once(compose: Compose) -> None:
    """Where certificates are made, others find them: each role its own, and nobody the authority's key."""
    makers = {name: body for name, body in compose.services.items() if compose.container(name).is_once}
    made = {volume.split(":")[0]: target for body in makers.values()
            for volume in body["volumes"] for target in kept(volume)}
    for name in (name for name in compose.services if compose.container(name).is_app and made):
        body = compose.services[name]
        shown = {made[volume.split(":")[0]] for volume in body.get("volumes", []) if volume.split(":")[0] in made}
        if shown != {f"/certs/{name}"}:
            raise Refused(f"{compose.name}: service {name} sees {sorted(shown)} of the certificates")
        if {*body.get("depends_on", {})} != {*makers}:
            raise Refused(f"{compose.name}: service {name} does not wait for its certificate")


def check_logging(service: Mapping[str, Any]) -> None:
    """What the container writes is rotated, and takes tens of megabytes at most each time."""
    logging = service.get("logging", {})
    options = logging.get("options", {})
    # Other drivers do not take these options, or not both.
    if logging.get("driver") != "json-file" or not (
            LOG_SIZE.fullmatch(str(options.get("max-size", ""))) and LOG_FILES.fullmatch(str(options.get("max-file", "")))):
        raise Refused(f"its log is not rotated: {logging}")


def networks(service: Mapping[str, Any]) -> set[str]:
    """The networks of a service; the default one if it names none."""
    return set(service.get("networks", ["default"]))


def check_health(service: Mapping[str, Any], container: Container, truth: program.Truth,
                 image_env: Mapping[str, str]) -> None:
    """The health check asks the management port of this very process."""
    test = service.get("healthcheck", {}).get("test", [])
    if test[:2] != ["CMD", "/app"] or test[-1] != "healthcheck":
        raise Refused(f"its health check is {test}, not the program's own")
    asked = program.Truth.of(container._replace(args=test[2:-1]), image_env).management
    if asked != truth.management:
        raise Refused(f"its health check asks port {asked}; management is at {truth.management}")


def check(compose: Compose, image_env: Mapping[str, str]) -> str:
    """Everything that can be known without a container. Returns its mode, and raises what does not hold."""
    containers = {name: compose.container(name) for name in compose.services}
    truths, listening = {}, {}
    for name, container in containers.items():
        try:
            check_logging(compose.services[name])
            if container.is_app:
                truths[name] = program.Truth.of(container, image_env)
                listening[name] = truths[name].listens
            elif container.is_once:
                listening[name] = set()
            else:
                listening[name] = {program.STORE_PORTS[container.program]}
        except Refused as why:
            raise Refused(f"{container.where}: {why}") from why
    for name, truth in truths.items():
        try:
            program.check(containers[name], truth, compose.hosts_of(name, listening))
            check_health(compose.services[name], containers[name], truth, image_env)
            check_published(compose.services[name], truth)
            if truth.outside() and not networks(compose.services[name]) - compose.internal:
                raise Refused(f"none of its networks leads to {truth.settings['order.payments_url']}")
        except Refused as why:
            raise Refused(f"{containers[name].where}: {why}") from why
    check_once(compose)
    program.one_protocol(truths.values())
    return program.one_mode(truths.values())

"""Rendered Kubernetes manifests, and what does not hold in them."""

import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import yaml

import program
from program import Container, Host, Refused, Truth, secret_value

WORKLOADS = ("Deployment", "StatefulSet")
POLICED = {"Ingress", "Egress"}
Doc = dict[str, Any]


class Flow(NamedTuple):
    """Who may ask whom, at which port; what is no pod of the shop is None."""

    source: str | None
    target: str | None
    port: int


# The networks that are nobody's on the internet.
PRIVATE = {"10.0.0.0/8", "100.64.0.0/10", "169.254.0.0/16", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7", "fe80::/10"}


class Cluster:
    """The documents of one rendering."""

    def __init__(self, name: str, text: str) -> None:
        self.name = name
        self.docs: list[Doc] = [doc for doc in yaml.safe_load_all(text) if doc]

    def of_kind(self, *kinds: str) -> list[Doc]:
        """The documents of these kinds."""
        return [doc for doc in self.docs if doc["kind"] in kinds]

    def named(self, kind: str, name: str) -> Doc:
        """The document of that name."""
        for doc in self.of_kind(kind):
            if doc["metadata"]["name"] == name:
                return doc
        raise Refused(f"there is no {kind} {name}")

    def workloads(self) -> list[tuple[Doc, Container]]:
        """Each workload with its container; one a pod is all there is."""
        return [(doc, self.container(doc)) for doc in self.of_kind(*WORKLOADS)]

    def container(self, doc: Doc) -> Container:
        """The container of a workload."""
        pod = doc["spec"]["template"]["spec"]
        (body,) = pod["containers"]
        sleep = body.get("lifecycle", {}).get("preStop", {}).get("sleep", {})
        return Container(
            where=f"{self.name}: {doc['kind']} {doc['metadata']['name']}",
            image=body["image"],
            args=body.get("args", []),
            env=self.environment(body),
            ports=set(ports(doc).values()),
            volumes=claimed(doc, body),
            files={path: secret_value(key) for path, (_, key) in mounted(doc, body).items()},
            mounts=[],
            pause=sleep.get("seconds", 0),
            patience=pod.get("terminationGracePeriodSeconds", 30),
        )

    def environment(self, body: Doc) -> dict[str, str]:
        """Its environment, with a value of its own for each key of a Secret."""
        env: dict[str, str] = {}
        for source in body.get("envFrom", []):
            env |= self.named("ConfigMap", source["configMapRef"]["name"])["data"]
        for entry in body.get("env", []):
            if "valueFrom" in entry:
                env[entry["name"]] = secret_value(entry["valueFrom"]["secretKeyRef"]["key"])
            else:
                # What is not defined before stays as it is written, as in Kubernetes.
                env[entry["name"]] = re.sub(
                    r"\$\((\w+)\)", lambda found: env.get(found[1], found[0]), entry["value"])
        return env

    def secrets(self) -> set[tuple[str, str]]:
        """The Secrets' names and keys that pods ask for."""
        found = set()
        for doc in self.of_kind(*WORKLOADS):
            (body,) = doc["spec"]["template"]["spec"]["containers"]
            references = [entry["valueFrom"]["secretKeyRef"] for entry in body.get("env", []) if "valueFrom" in entry]
            found |= {(reference["name"], reference["key"]) for reference in references}
            found |= {*mounted(doc, body).values()}
        return found

    def selected(self, selector: Mapping[str, Any]) -> list[Doc]:
        """The workloads whose pods have these labels."""
        wanted = selector.get("matchLabels", {}).items()
        return [doc for doc in self.of_kind(*WORKLOADS)
                if wanted <= doc["spec"]["template"]["metadata"]["labels"].items()]

    def hosts(self) -> dict[str, Host]:
        """What each Service leads to."""
        return {doc["metadata"]["name"]: self.host(doc) for doc in self.of_kind("Service")}

    def host(self, service: Doc) -> Host:
        """What a Service leads to."""
        name = service["metadata"]["name"]
        found = self.selected({"matchLabels": service["spec"]["selector"]})
        if len(found) != 1:
            raise Refused(f"Service {name} leads to {len(found)} workloads")
        there = ports(found[0])
        leads = {}
        for port in service["spec"]["ports"]:
            wanted = port.get("targetPort", port["port"])
            number = there.get(wanted, wanted)
            if number not in there.values():
                raise Refused(f"Service {name} leads to port {wanted}, which its pods do not have")
            leads[port["port"]] = (self.container(found[0]), number)
        return Host(name, leads)


def ports(doc: Doc) -> dict[str, int]:
    """The container's ports by name."""
    (body,) = doc["spec"]["template"]["spec"]["containers"]
    return {port["name"]: port["containerPort"] for port in body["ports"]}


def claimed(doc: Doc, body: Doc) -> list[str]:
    """Where volumes are mounted that outlive the pod."""
    volumes = doc["spec"]["template"]["spec"].get("volumes", [])
    kept = {volume["name"] for volume in volumes if "persistentVolumeClaim" in volume}
    kept |= {claim["metadata"]["name"] for claim in doc["spec"].get("volumeClaimTemplates", [])}
    mounts = body.get("volumeMounts", [])
    return [mount["mountPath"] for mount in mounts if mount["name"] in kept and not mount.get("readOnly")]


def mounted(doc: Doc, body: Doc) -> dict[str, tuple[str, str]]:
    """The Secrets' names and keys that are files, by path."""
    volumes = {volume["name"]: volume["secret"] for volume in doc["spec"]["template"]["spec"].get("volumes", [])
               if "secret" in volume}
    found = {}
    for mount in (mount for mount in body.get("volumeMounts", []) if mount["name"] in volumes):
        secret = volumes[mount["name"]]
        if "subPath" in mount:
            raise Refused(f"{mount['mountPath']} is mounted by subPath, and stays as it is when the Secret changes")
        if "items" not in secret:
            raise Refused(f"{mount['mountPath']} has all of the Secret {secret['secretName']}")
        found |= {f"{mount['mountPath']}/{item['path']}": (secret["secretName"], item["key"])
                  for item in secret["items"]}
    return found


def check_way_in(cluster: Cluster, truth: Truth) -> None:
    """Nobody outside reaches a shop that is open, and one behind proxies knows them."""
    ingresses = cluster.of_kind("Ingress")
    if truth.mode == "open":
        services = [doc for doc in cluster.of_kind("Service") if doc["spec"].get("type", "ClusterIP") != "ClusterIP"]
        for doc in services + ingresses:
            raise Refused(f"{doc['kind']} {doc['metadata']['name']} leads into a shop that is open")
    if ingresses and "gateway" in truth.roles and not truth.settings["gateway.trusted_proxies"]:
        raise Refused("behind an Ingress it has no gateway.trusted_proxies: all clients would be one")


def check_probes(doc: Doc, truth: Truth) -> None:
    """The kubelet asks what the management port answers."""
    (body,) = doc["spec"]["template"]["spec"]["containers"]
    for probe, path in (("startup", "/livez"), ("liveness", "/livez"), ("readiness", "/readyz")):
        asked = body.get(f"{probe}Probe", {}).get("httpGet")
        if not asked or asked["path"] != path:
            raise Refused(f"the {probe} probe does not ask {path}")
        if ports(doc).get(asked["port"], asked["port"]) != truth.management:
            raise Refused(f"the {probe} probe asks port {asked['port']}; "
                          f"management is at {truth.management}")


def check_references(cluster: Cluster) -> None:
    """What names another document finds it."""
    for doc in cluster.of_kind("HorizontalPodAutoscaler"):
        cluster.named(doc["spec"]["scaleTargetRef"]["kind"], doc["spec"]["scaleTargetRef"]["name"])
    for doc in cluster.of_kind("PodDisruptionBudget", "NetworkPolicy"):
        selector = doc["spec"].get("selector", doc["spec"].get("podSelector"))
        if not cluster.selected(selector):
            raise Refused(f"{doc['kind']} {doc['metadata']['name']} selects nothing")
    for doc in cluster.of_kind("Ingress"):
        backends = [path["backend"]["service"] for rule in doc["spec"]["rules"]
                    for path in rule["http"]["paths"]]
        for backend in backends:
            offered = cluster.named("Service", backend["name"])["spec"]["ports"]
            if not any(backend["port"] in ({"name": port["name"]}, {"number": port["port"]})
                       for port in offered):
                raise Refused(f"Ingress {doc['metadata']['name']} asks for a port that is not offered")
    for doc, _ in cluster.workloads():
        pod = doc["spec"]["template"]["spec"]
        if pod.get("serviceAccountName"):
            cluster.named("ServiceAccount", pod["serviceAccountName"])
        for volume in pod.get("volumes", []):
            if "persistentVolumeClaim" in volume:
                cluster.named("PersistentVolumeClaim", volume["persistentVolumeClaim"]["claimName"])


def flows(cluster: Cluster, direction: str) -> set[Flow]:
    """What the NetworkPolicies of a direction let through between pods, and in from elsewhere."""
    mine, other = ("to", "egress") if direction == "Egress" else ("from", "ingress")
    found = set()
    for doc in cluster.of_kind("NetworkPolicy"):
        names = [there["metadata"]["name"] for there in cluster.selected(doc["spec"]["podSelector"])]
        for rule in doc["spec"].get(other, []):
            numbers = [port["port"] for port in rule["ports"]]
            for peer in rule[mine]:
                for pair in pairs(cluster, names, peer, direction):
                    found |= {Flow(*pair, number) for number in numbers}
    return found


def pairs(cluster: Cluster, names: list[str], peer: Doc,
          direction: str) -> Iterator[tuple[str | None, str | None]]:
    """Source and target of a rule; what leaves for another namespace is not of the shop."""
    if block := peer.get("ipBlock"):
        # By the addresses of its family alone, so that what is private is never reached.
        private = {network for network in PRIVATE if (":" in network) == (":" in block["cidr"])}
        if direction == "Ingress" or block["cidr"] not in ("0.0.0.0/0", "::/0") or {*block.get("except", [])} != private:
            raise Refused(f"a NetworkPolicy is open to other addresses than the internet's: {peer}")
        yield from ((name, None) for name in names)
        return
    if "namespaceSelector" in peer:
        labels = peer.get("namespaceSelector", {}).get("matchLabels")
        if not labels:
            raise Refused(f"a NetworkPolicy is open to every namespace: {peer}")
        if direction == "Egress" and (labels != {"kubernetes.io/metadata.name": "kube-system"}
                                      or peer.get("podSelector", {}).get("matchLabels") != {"k8s-app": "kube-dns"}):
            raise Refused(f"a NetworkPolicy lets out more than look-ups of names: {peer}")
        if direction == "Ingress":
            yield from ((None, name) for name in names)
        return
    others = [doc["metadata"]["name"] for doc in cluster.selected(peer["podSelector"])]
    if not others:
        raise Refused(f"a NetworkPolicy names pods that do not exist: {peer['podSelector']}")
    for name in names:
        yield from ((name, other) if direction == "Egress" else (other, name) for other in others)


def check_policies(cluster: Cluster, needed: set[Flow], outside: set[Flow], away: set[Flow]) -> None:
    """Exactly what is needed is let through, at both of its ends: between pods, in from elsewhere, and away."""
    denied = [doc["spec"] for doc in cluster.of_kind("NetworkPolicy") if doc["spec"]["podSelector"] == {}]
    if not any(POLICED <= set(spec["policyTypes"]) and not POLICED & set(map(str.title, spec))
               for spec in denied):
        raise Refused("nothing is denied by default")
    for direction, expected in (("Egress", needed | away), ("Ingress", needed | outside)):
        allowed = flows(cluster, direction)
        for flow in expected - allowed:
            raise Refused(f"{direction} does not let {flow} through")
        for flow in allowed - expected:
            raise Refused(f"{direction} lets {flow} through, which nobody needs")


def check(cluster: Cluster, image_env: Mapping[str, str]) -> str:
    """Everything that can be known without a cluster. Returns its mode, and raises what does not hold."""
    check_references(cluster)
    hosts = cluster.hosts()
    behind = {lead.where for host in hosts.values() for lead, _ in host.ports.values()}
    needed, outside, away, truths = set(), set(), set(), []
    for doc, container in cluster.workloads():
        name = doc["metadata"]["name"]
        try:
            if doc["spec"]["template"]["spec"].get("enableServiceLinks") is not False:
                raise Refused("enableServiceLinks is not false")
            if not container.is_app:
                if container.ports != {program.STORE_PORTS[container.program]}:
                    raise Refused(f"{container.image} does not listen on {sorted(container.ports)}")
                # The images of the other stores have them listen on every address by themselves.
                if container.program == "mongo" and "--ipv6" not in container.args:
                    raise Refused("mongod listens on IPv4 alone")
                continue
            truth = Truth.of(container, image_env)
            truths.append(truth)
            for arrow in program.check(container, truth, hosts):
                target = arrow.target.where.rpartition(" ")[2]
                needed.add(Flow(name, target, arrow.port))
            if port := truth.outside():
                away.add(Flow(name, None, port))
            if missing := (truth.listens | {truth.management}) - container.ports:
                raise Refused(f"it listens on {sorted(missing)}, which its ports do not say")
            if container.where in behind:
                program.check_drain(truth)
            check_probes(doc, truth)
            check_way_in(cluster, truth)
        except Refused as why:
            raise Refused(f"{container.where}: {why}") from why
        outside.add(Flow(None, name, truth.management))
        if "gateway" in truth.roles:
            outside |= {Flow(None, name, port) for port in truth.listens}
    if cluster.of_kind("NetworkPolicy"):
        check_policies(cluster, needed, outside, away)
    program.one_protocol(truths)
    return program.one_mode(truths)

"""Checks Containerfile and deploy/ without a cluster or a container, in a minute.

`make check-deploy` runs it. The formats are checked by tools that know them, which tools.sh brings; that they
say what is so, by the program itself: APP_BINARY, or target/debug/app. Every check is shown once to fail.
"""

import functools
import re
import shutil
import subprocess
import tempfile
import tomllib
import unittest
from pathlib import Path

import yaml

import cluster
import compose
import program
from cluster import Cluster
from compose import Compose
from observability_checks import Observability  # noqa: F401, the same
from program import ROOT, Refused
from rehearsal import VerifyCluster  # noqa: F401, unittest runs it with the others

HERE = Path(__file__).resolve().parent
TOOLS = ROOT / "target/deploy-tools/bin"
DEPLOY = ROOT / "deploy"
CONTAINERFILE = ROOT / "Containerfile"
BASE, DEMO, PRODUCTION = DEPLOY / "k8s", DEPLOY / "overlays/demo", DEPLOY / "overlays/production"
ONE_NODE = DEPLOY / "overlays/one-node"
OBSERVABILITY = DEPLOY / "observability"
FOLDERS = (BASE, DEMO, PRODUCTION, ONE_NODE)
COMPOSE = DEPLOY / "compose.yaml"
COMPOSE_ALL = DEPLOY / "compose.all.yaml"
COMPOSE_TLS = DEPLOY / "compose.tls.yaml"
COMPOSE_OBSERVABILITY = DEPLOY / "compose.observability.yaml"
# What verify_cluster.py applies.
TRIALS = tuple(HERE / "trial" / name for name in ("demo", "base", "production", "client"))
STANDINS = HERE / "standins"
# The oldest and the newest that the manifests are for.
KUBERNETES = ("1.30", "1.37")
# The names that are applied by hand, pair by pair.
NAMES = ("postgres", "mongo", "redis", "rabbitmq", "user", "product", "order", "gateway")
# The connections that PostgreSQL takes where it is not told otherwise, and those that it keeps for itself.
POSTGRES_CONNECTIONS, POSTGRES_RESERVED = 100, 3
# The Secret of who takes payments, of the operator's own.
PAYMENTS = {("payments", "PAYMENTS_KEY"), ("payments", "PAYMENTS_WEBHOOK_SECRET")}
SERVICES = {"postgres": 5432, "mongo": 27017, "redis": 6379, "rabbitmq": 5672, "user": 3001, "product": 3002,
            "order": 3003, "api-gateway": 8000}


def setUpModule() -> None:
    """Says first what all the others would stumble over."""
    for path, remedy in ((program.BINARY, "build it with cargo build, or set APP_BINARY"),
                         (TOOLS, "let tests/deploy/tools.sh bring the tools")):
        if not path.exists():
            raise FileNotFoundError(f"{path} is not there: {remedy}")


def run(tool: str, *args: str | Path) -> str:
    """Runs a tool; refused with all that it printed when it fails."""
    done = subprocess.run([TOOLS / tool, *args], capture_output=True, text=True, timeout=300)
    if done.returncode:
        raise Refused(f"{tool}:\n{done.stdout}{done.stderr}")
    return done.stdout


@functools.cache
def rendered(folder: Path) -> str:
    """What kustomize makes of a folder."""
    return run("kubectl", "kustomize", folder)


def loaded(folder: Path) -> Cluster:
    """A rendering, read anew, so that a test may break it."""
    return Cluster(str(folder.relative_to(ROOT)), rendered(folder))


def secret_keys() -> set[str]:
    """The keys that `make env` fills."""
    lines = (DEPLOY / ".env.example").read_text().splitlines()
    return {line.partition("=")[0] for line in lines if line.strip() and not line.startswith("#")}


def composed(path: Path, *over: Path, **settings: str) -> Compose:
    """A compose file, others on top of it, with stand-ins for its secrets, and what .env says besides."""
    secrets = {key: program.secret_value(key) for key in secret_keys()}
    texts = [file.read_text() for file in (path, *over)]
    return Compose(str(path.relative_to(ROOT)), texts, secrets, settings)


@functools.cache
def image_env() -> dict[str, str]:
    """The environment that the image sets."""
    return program.image_environment(CONTAINERFILE.read_text())


def role_image(folder: Path) -> str:
    """The image that every role runs. Refused when it is not the one that `images` of the kustomization say."""
    pods = [doc["spec"]["template"]["spec"] for doc in Cluster(folder.name, rendered(folder)).of_kind("Deployment")]
    found = {body["image"] for pod in pods for body in pod["containers"] if body["name"] == "app"}
    said = yaml.safe_load((folder / "kustomization.yaml").read_text()).get("images", [])
    wanted = {entry.get("newName", entry["name"])
              + "".join(sign + entry[key] for sign, key in ((":", "newTag"), ("@", "digest")) if key in entry)
              for entry in said} or found
    if len(found) != 1 or found != wanted:
        raise Refused(f"the roles run {sorted(found)}, and kustomization.yaml says {sorted(wanted)}")
    return found.pop()


def check_connections(found: Cluster) -> None:
    """Refused when the pods of the roles on PostgreSQL, and as many that end during a rollout, could use it up."""
    needed = 0
    for role in ("user", "order"):
        doc = found.named("Deployment", role)
        settings = program.Truth.of(found.container(doc), image_env()).settings
        (body,) = doc["spec"]["template"]["spec"]["containers"]
        size = int(settings[f"{role}.pool_size"])
        # Beside those of the worker threads: readiness, events in, and sessions and tokens that have ended, or as many orders
        # and as many webhooks at once as there are connections, and events for webhooks; and the log of events: their places,
        # the broker, what it asks for again, and what is old.
        beside = {"user": 4, "order": 3 + 2 * size}[role] + min(4, size)
        each = int(body["resources"]["limits"]["cpu"]) * size + beside
        needed += 2 * found.named("HorizontalPodAutoscaler", role)["spec"]["maxReplicas"] * each
    args = found.container(found.named("StatefulSet", "postgres")).args
    said = [int(arg.partition("=")[2]) for arg in args if arg.startswith("max_connections=")]
    there = (said or [POSTGRES_CONNECTIONS])[0] - POSTGRES_RESERVED
    if needed > there:
        raise Refused(f"{needed} connections are more than the {there} that PostgreSQL takes")


def cpu_requests(found: Cluster) -> tuple[int, int, int]:
    """The CPU that pods request, in thousandths: all of the roles, one more of each as in a rollout, and the stores."""
    roles = surge = stores = 0
    for doc in found.of_kind(*cluster.WORKLOADS):
        (body,) = doc["spec"]["template"]["spec"]["containers"]
        each = int(re.fullmatch(r"(\d+)m", body["resources"]["requests"]["cpu"])[1])
        if doc["metadata"]["labels"]["app.kubernetes.io/component"] == "role":
            roles, surge = roles + each * doc["spec"]["replicas"], surge + each
        else:
            stores += each * doc["spec"]["replicas"]
    return roles, surge, stores


def validate(paths: list[Path], version: str) -> None:
    """Refused when a manifest is not of that version's API, or says more than it knows."""
    run("kubernetes-validate", "--strict", "--quiet", "--no-warn", "-k", version, *paths)


def checkov(config: str, *paths: Path) -> None:
    """Refused when checkov finds fault, and when it finds nothing to look at."""
    files = [word for path in paths for word in ("-f", path)]
    printed = run("checkov", "--config-file", HERE / config, *files)
    if "Passed checks: 0," in printed:
        raise Refused(f"checkov looked at nothing:\n{printed}")


def checkov_image(text: str) -> None:
    """The Containerfile under the one name by which checkov knows such files."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "Dockerfile")
        path.write_text(text)
        checkov("checkov-image.yaml", path)


class Check(unittest.TestCase):
    """What the others share."""

    def written(self, text: str, name: str = "rendered.yaml") -> Path:
        """A file with this text, until the test ends."""
        folder = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, folder)
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
        return path


class Environment(Check):
    """deploy/.env, as `make env` writes it."""

    def make(self, folder: Path) -> dict[str, str]:
        """What the file says afterwards."""
        subprocess.run(["make", "--silent", "--file", ROOT / "Makefile", "env"], cwd=folder, check=True,
                       capture_output=True, timeout=30)
        lines = (folder / "deploy/.env").read_text().splitlines()
        return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))

    def folder(self, env: str | None) -> Path:
        """A folder where a file says so already, which others may read."""
        example = self.written((DEPLOY / ".env.example").read_text(), "deploy/.env.example")
        if env is not None:
            (example.parent / ".env").write_text(env)
            (example.parent / ".env").chmod(0o644)
        return example.parent.parent

    def assert_good(self, key: str, value: str) -> None:
        """A secret of the length that it has to have."""
        self.assertRegex(value, "^[0-9a-f]{64}$" if key == "SIGNING_KEYS" else "^[0-9a-f]{48}$")

    def test_each_secret_is_a_random_one_and_stays(self) -> None:
        folder = self.folder(None)
        made = self.make(folder)
        self.assertEqual({*made}, secret_keys())
        self.assertEqual(len({*made.values()}), len(made))
        for key, value in made.items():
            self.assert_good(key, value)
        self.assertEqual((folder / "deploy/.env").stat().st_mode & 0o777, 0o600)
        self.assertEqual(self.make(folder), made)

    def test_a_file_of_before_gets_what_it_lacks(self) -> None:
        made = self.make(self.folder("PORT=80\nREDIS_PASSWORD=mine"))
        self.assertEqual({*made}, secret_keys() | {"PORT"})
        self.assertEqual((made["PORT"], made["REDIS_PASSWORD"]), ("80", "mine"))

    def test_an_empty_secret_is_filled_in_where_it_stands(self) -> None:
        mine = {key: "mine" for key in secret_keys() - {"SIGNING_KEYS"}}
        for line in ("SIGNING_KEYS=", "SIGNING_KEYS=  ", 'SIGNING_KEYS=""', "SIGNING_KEYS=\r"):
            with self.subTest(line=line):
                before = [line, "# mine", *(f"{key}={value}" for key, value in mine.items())]
                folder = self.folder("\n".join(before))
                made = self.make(folder)
                self.assert_good("SIGNING_KEYS", made["SIGNING_KEYS"])
                self.assertEqual(made, {**mine, "SIGNING_KEYS": made["SIGNING_KEYS"]})
                after = (folder / "deploy/.env").read_text().splitlines()
                self.assertEqual(after, [f"SIGNING_KEYS={made['SIGNING_KEYS']}", *before[1:]])
                self.assertEqual(self.make(folder), made)

    def test_a_whole_file_stays_and_is_closed_to_others(self) -> None:
        text = "# mine\n\n" + "".join(f"{key}=a/b&c\n" for key in sorted(secret_keys()))
        folder = self.folder(text)
        self.make(folder)
        self.assertEqual((folder / "deploy/.env").read_text(), text)
        self.assertEqual((folder / "deploy/.env").stat().st_mode & 0o777, 0o600)


class Image(Check):
    """Containerfile."""

    def test_hadolint_has_nothing_to_say(self) -> None:
        run("hadolint", CONTAINERFILE)

    def test_hadolint_refuses_a_bad_one(self) -> None:
        with self.assertRaisesRegex(Refused, "DL3007"):
            run("hadolint", self.written("FROM debian:latest\n", "Containerfile"))

    def test_checkov_has_nothing_to_say(self) -> None:
        checkov_image(CONTAINERFILE.read_text())

    def test_checkov_refuses_a_bad_one(self) -> None:
        with self.assertRaisesRegex(Refused, "CKV_DOCKER_8"):
            checkov_image('FROM scratch\nUSER root\nENTRYPOINT ["/app"]\n')


    def test_the_layer_of_dependencies_has_the_build_script(self) -> None:
        """It is compiled from a stub of the sources; cargo wants the script that Cargo.toml names there, too."""
        script = tomllib.loads((ROOT / "Cargo.toml").read_text())["package"]["build"]
        stub, _, _ = CONTAINERFILE.read_text().partition("COPY src src")
        layer = stub[stub.rindex("COPY Cargo.toml"):]
        self.assertIn(f"mkdir -p {Path(script).parent} ", layer)
        self.assertIn(f" {script} ", layer)


class StandIns(Check):
    """Images that stand for those of the stores do as they do."""

    # Each tool says what it was called with; initdb makes what the script looks for.
    TOOL = """#!/bin/sh
echo "${0##*/}: $PGDATA" >> "$CALLS"
if [ "${0##*/}" = initdb ]; then mkdir -p "$PGDATA"; echo 17 > "$PGDATA/PG_VERSION"; fi
"""

    def start_postgres(self, folder: Path, data: Path) -> list[str]:
        """What a start of PostgreSQL's stand-in does."""
        for tool in ("initdb", "pg_ctl", "createdb", "postgres"):
            (folder / tool).write_text(self.TOOL)
            (folder / tool).chmod(0o755)
        calls = self.written("", "calls")
        env = {"PATH": f"{folder}:/usr/bin:/bin", "CALLS": str(calls), "PGDATA": str(data), "POSTGRES_USER": "shop",
               "POSTGRES_PASSWORD": "secret", "POSTGRES_DB": "shop"}
        subprocess.run(["sh", STANDINS / "postgres.sh"], env=env, check=True, timeout=30)
        return calls.read_text().splitlines()

    def test_postgres_keeps_its_data_where_it_is_told(self) -> None:
        folder = self.written("").parent
        data = folder / "a volume/pgdata"
        first, again = (self.start_postgres(folder, data) for _ in range(2))
        self.assertEqual(first, [f"{tool}: {data}" for tool in ("initdb", "pg_ctl", "createdb", "pg_ctl", "postgres")])
        self.assertEqual(again, [f"postgres: {data}"])
        self.assertTrue((data / "pg_hba.conf").exists())

    def test_postgres_is_stopped_by_what_does_not_wait_for_clients(self) -> None:
        stages = re.split(r"(?m)^FROM .* AS ", (STANDINS / "Containerfile").read_text())
        (stage,) = (stage for stage in stages if stage.startswith("postgres\n"))
        self.assertIn("\nSTOPSIGNAL SIGINT\n", stage)
        self.assertEqual(yaml.safe_load(COMPOSE.read_text())["services"]["postgres"]["stop_signal"], "SIGINT")


class Formats(Check):
    """The manifests as Kubernetes' and compose's schemas have them."""

    def test_each_file_of_the_base_is_valid(self) -> None:
        names = [f"{name}-{kind}.yaml" for name in NAMES for kind in ("deployment", "service")]
        for version in KUBERNETES:
            with self.subTest(version=version):
                validate([BASE / name for name in names], version)

    def test_each_rendering_is_valid(self) -> None:
        paths = [self.written(rendered(folder)) for folder in (*FOLDERS, OBSERVABILITY)]
        for version in KUBERNETES:
            with self.subTest(version=version):
                validate(paths, version)

    def test_each_rendering_of_the_trial_is_valid(self) -> None:
        paths = [self.written(rendered(folder)) for folder in TRIALS]
        for version in KUBERNETES:
            with self.subTest(version=version):
                validate(paths, version)

    def test_an_unknown_field_is_refused(self) -> None:
        path = self.written(rendered(DEMO).replace("replicas:", "replica:"))
        with self.assertRaisesRegex(Refused, "replica"):
            validate([path], KUBERNETES[1])

    def test_a_kustomization_of_nothing_is_refused(self) -> None:
        with self.assertRaisesRegex(Refused, "kustomization"):
            run("kubectl", "kustomize", HERE)

    def test_compose_files_are_valid(self) -> None:
        run("check-jsonschema", "--builtin-schema", "vendor.compose-spec", COMPOSE, COMPOSE_ALL, COMPOSE_TLS,
            COMPOSE_OBSERVABILITY)

    def test_an_unknown_field_of_compose_is_refused(self) -> None:
        path = self.written("services: {shop: {imago: shop}}")
        with self.assertRaisesRegex(Refused, "imago"):
            run("check-jsonschema", "--builtin-schema", "vendor.compose-spec", path)


class Hardening(Check):
    """What checkov asks of the manifests."""

    def test_the_base_and_the_demo_are_hardened(self) -> None:
        checkov("checkov-base.yaml", *(self.written(rendered(folder)) for folder in (BASE, DEMO)))

    def test_the_client_of_the_trial_is_hardened(self) -> None:
        checkov("checkov-client.yaml", self.written(rendered(HERE / "trial/client")))

    def test_production_is_hardened(self) -> None:
        checkov("checkov.yaml", *(self.written(rendered(folder)) for folder in (PRODUCTION, ONE_NODE)))

    def test_prometheus_and_grafana_are_hardened(self) -> None:
        checkov("checkov-observability.yaml", self.written(rendered(OBSERVABILITY)))

    def test_a_writable_root_is_refused(self) -> None:
        text = rendered(DEMO).replace("readOnlyRootFilesystem: true", "readOnlyRootFilesystem: false")
        with self.assertRaisesRegex(Refused, "CKV_K8S_22"):
            checkov("checkov-base.yaml", self.written(text))


class Program(Check):
    """What the manifests are held against is so."""

    def test_management_answers_what_probes_ask(self) -> None:
        answers, end = program.management_answers(["/livez", "/readyz", "/version", "/healthz", "/"])
        self.assertEqual(answers, {"/livez": 200, "/readyz": 200, "/version": 200, "/healthz": 404,
                                   "/": 404, "healthcheck": 0})
        self.assertEqual(end, 0, "SIGTERM ends it well")

    def test_a_role_refuses_to_start_without_those_it_asks(self) -> None:
        urls = {peer: {f"{peer.upper()}_URL": "http://127.0.0.1:1"} for peer in ("user", "product", "order")}
        for role, asked in program.ASKS.items():
            for missing in (peer for peer in asked if peer != program.OPTIONAL):
                env = {key: url for peer in asked if peer != missing for key, url in urls[peer].items()}
                done = subprocess.run([program.BINARY, "--role", role], env=env, capture_output=True,
                                      text=True, timeout=30)
                with self.subTest(role=role, missing=missing):
                    self.assertEqual(done.returncode, 1)
                    self.assertIn(f"peers.{missing}", done.stderr)

    def refuses(self, role: str, why: str, **env: str) -> None:
        """The role does not start with these variables, for that reason."""
        done = subprocess.run([program.BINARY, "--role", role], env=env, capture_output=True, text=True, timeout=30)
        self.assertEqual(done.returncode, 1)
        self.assertIn(why, done.stderr)

    def test_open_beyond_loopback_has_to_be_meant(self) -> None:
        self.refuses("product", "auth.open_beyond_loopback", APP__AUTH__MODE="open",
                     APP__PRODUCT__LISTEN="0.0.0.0:0", USER_URL="http://127.0.0.1:1")

    def test_the_user_role_on_a_server_makes_no_keys(self) -> None:
        self.refuses("user", "user.signing_keys_path", APP__AUTH__MODE="enforced", APP__USER__LISTEN="127.0.0.1:0",
                     APP__USER__MANAGEMENT="127.0.0.1:0", PRODUCT_URL="http://127.0.0.1:1",
                     DATABASE_URL="postgres://127.0.0.1:1/shop", APP__USER__SIGNING_KEYS_PATH="/nowhere/keys")

    def test_the_readme_lists_every_setting(self) -> None:
        text = (ROOT / "config/README.md").read_text().partition("\n## Every setting\n")[2]
        listed = {key for row in re.findall(r"(?m)^\| (`.*?) \|", text) for key in re.findall("`([^`]+)`", row)}
        # Keys below a name of the operator's, and those of one thing, are listed together.
        together = {key.partition("NAME")[0].removesuffix("…") for key in listed if "…" in key or "NAME" in key}
        found = program.settings([], {})
        self.assertGreater(len(found), 90)
        missing = {key for key in found if key not in listed and not key.startswith(tuple(together))}
        self.assertEqual(missing, set())
        self.assertEqual({key for key in listed - {*found} if "…" not in key and "NAME" not in key}, set())

    def test_an_unknown_setting_is_refused(self) -> None:
        with self.assertRaisesRegex(Refused, "no such setting"):
            program.settings([], {"APP__USER__POOL_SISE": "4"})


class Kubernetes(Check):
    """The manifests say what the program says."""

    def refuse(self, folder: Path, old: str, new: str, why: str) -> None:
        """The rendering of a folder with one thing changed is refused for that."""
        self.assertIn(old, rendered(folder), "the test has something to break")
        with self.assertRaisesRegex(Refused, why):
            cluster.check(Cluster("broken", rendered(folder).replace(old, new, 1)), image_env())

    def test_every_container_is_told_the_truth(self) -> None:
        for folder, roles, mode in ((BASE, 4, "open"), (DEMO, 1, "open"), (PRODUCTION, 4, "enforced"),
                                    (ONE_NODE, 4, "enforced")):
            with self.subTest(folder=folder.name):
                found = loaded(folder)
                self.assertEqual(sum(container.is_app for _, container in found.workloads()), roles)
                self.assertEqual(cluster.check(found, image_env()), mode)

    def test_the_trial_is_told_the_truth(self) -> None:
        for folder, like, mode in zip(TRIALS, (DEMO, BASE, ONE_NODE), ("open", "open", "enforced")):
            with self.subTest(folder=folder.name):
                found = loaded(folder)
                self.assertEqual(cluster.check(found, image_env()), mode)
                self.assertEqual([(doc["kind"], doc["metadata"]["name"]) for doc in found.docs if doc["kind"] != "Namespace"],
                                 [(doc["kind"], doc["metadata"]["name"]) for doc in loaded(like).docs
                                  if doc["kind"] != "Namespace"])
                self.assertEqual({doc["metadata"].get("namespace") for doc in found.docs if doc["kind"] != "Namespace"},
                                 {f"shop-verify-{folder.name}"})

    def test_services_have_the_names_that_clients_know(self) -> None:
        for folder in (BASE, PRODUCTION, ONE_NODE):
            hosts = loaded(folder).hosts()
            self.assertEqual({name: {*host.ports} for name, host in hosts.items()},
                             {name: {port} for name, port in SERVICES.items()})
        self.assertEqual([*loaded(DEMO).hosts()], ["api-gateway"])

    def test_each_pair_of_files_stands_alone(self) -> None:
        for name in NAMES:
            with self.subTest(name=name):
                text = "\n---\n".join((BASE / f"{name}-{kind}.yaml").read_text()
                                      for kind in ("deployment", "service"))
                pair = Cluster(name, text)
                cluster.check_references(pair)
                self.assertEqual(len(pair.workloads()), 1)
                self.assertEqual(len(pair.hosts()), 1)

    def test_secrets_are_those_of_make_env(self) -> None:
        expected = {("shop", key) for key in secret_keys()}
        self.assertEqual(loaded(BASE).secrets(), expected)
        certificates = {(f"{role}-tls", key) for role in program.ROLES for key in ("tls.crt", "tls.key", "ca.crt")}
        for folder in (PRODUCTION, ONE_NODE):
            self.assertEqual(loaded(folder).secrets(), expected | certificates | PAYMENTS)
        self.assertEqual(loaded(DEMO).secrets(), set())

    def test_production_has_what_it_promises(self) -> None:
        found = loaded(PRODUCTION)
        self.assertEqual({doc["metadata"]["name"] for doc in found.of_kind("StatefulSet")},
                         {"postgres", "mongo", "rabbitmq"})
        self.assertEqual(found.of_kind("PersistentVolumeClaim", "Secret"), [])
        for kind in ("HorizontalPodAutoscaler", "PodDisruptionBudget", "ServiceAccount"):
            self.assertEqual({doc["metadata"]["name"] for doc in found.of_kind(kind)}, {*program.ROLES})
        for role in program.ROLES:
            self.assertEqual(found.named("Deployment", role)["spec"]["replicas"], 3)
        namespaces = {doc["metadata"].get("namespace") for doc in found.docs if doc["kind"] != "Namespace"}
        self.assertEqual(namespaces, {"shop"})
        self.assertTrue(found.of_kind("NetworkPolicy"))

    def test_one_node_has_what_production_has_but_for_scaling(self) -> None:
        def documents(folder: Path) -> set[tuple[str, str]]:
            return {(doc["kind"], doc["metadata"]["name"]) for doc in loaded(folder).docs}

        scalers = {("HorizontalPodAutoscaler", role) for role in program.ROLES}
        self.assertEqual(documents(ONE_NODE), documents(PRODUCTION) - scalers)
        for role in program.ROLES:
            self.assertEqual(loaded(ONE_NODE).named("Deployment", role)["spec"]["replicas"], 2)

    def test_what_is_said_of_the_cpu_requested_is_so(self) -> None:
        roles, surge, stores = cpu_requests(loaded(PRODUCTION))
        self.assertEqual((roles, surge, stores), (3000, 1000, 350))
        readme = (DEPLOY / "README.md").read_text().replace("\n", " ")
        for text in (readme, (PRODUCTION / "role.yaml").read_text(), (ONE_NODE / "kustomization.yaml").read_text()):
            self.assertIn("3,000m", text)
        self.assertIn(f"{(roles + surge + stores) // 1000},{(roles + surge + stores) % 1000:03}m", readme)
        roles, surge, stores = cpu_requests(loaded(ONE_NODE))
        self.assertEqual((roles, surge, stores), (400, 200, 350))
        self.assertIn(f"{roles + surge + stores}m", readme)

    def test_the_user_role_leaves_postgresql_some_connections(self) -> None:
        check_connections(loaded(PRODUCTION))

    def test_more_connections_than_postgresql_takes_are_refused(self) -> None:
        for role in ("user", "order"):
            found = loaded(PRODUCTION)
            found.named("HorizontalPodAutoscaler", role)["spec"]["maxReplicas"] = 7
            with self.assertRaisesRegex(Refused, "connections are more than the 347"):
                check_connections(found)
        found = loaded(PRODUCTION)
        (body,) = found.named("StatefulSet", "postgres")["spec"]["template"]["spec"]["containers"]
        del body["args"]
        with self.assertRaisesRegex(Refused, "312 connections are more than the 97"):
            check_connections(found)

    def test_a_policy_that_is_too_wide_is_refused(self) -> None:
        self.refuse(PRODUCTION, 'shop/monitoring: "true"', "", "open to every namespace")
        self.refuse(PRODUCTION, "kubernetes.io/metadata.name: kube-system", "a: b", "lets out more")
        self.refuse(PRODUCTION, "        - 10.0.0.0/8\n", "", "other addresses than the internet's")

    def test_an_order_role_that_does_not_reach_who_takes_payments_is_refused(self) -> None:
        self.refuse(PRODUCTION, "    - port: 443\n", "    - port: 444\n", "Egress does not let .*'order', target=None, port=443")
        self.refuse(PRODUCTION, "PAYMENTS_URL: https://api.stripe.com", "PAYMENTS_URL: sandbox://",
                    "Egress lets .*'order', target=None, port=443")
        self.refuse(PRODUCTION, "name: APP__ORDER__PAYMENTS_KEY", "name: PAYMENTS_KEY", "there is no order.payments_key")

    def test_a_wrong_container_port_is_refused(self) -> None:
        self.refuse(BASE, "containerPort: 3001", "containerPort: 3003", "nothing listens on .3003")
        self.refuse(BASE, "containerPort: 6379", "containerPort: 6380", "does not listen on .6380")

    def test_a_wrong_target_port_is_refused(self) -> None:
        self.refuse(DEMO, "targetPort: http", "targetPort: https", "leads to port https")

    def test_an_unknown_environment_name_is_refused(self) -> None:
        self.refuse(BASE, "LOG_FORMAT: json", "APP__LOG__FORMATS: json", "no such setting")

    def test_a_wrong_peer_is_refused(self) -> None:
        self.refuse(BASE, "http://user:3001", "http://users:3001", "nothing has that name")
        self.refuse(BASE, "http://user:3001", "http://user:3002", "asks user at 3002")

    def test_a_missing_peer_is_refused(self) -> None:
        self.refuse(BASE, "  USER_URL: http://user:3001\n", "", "gateway is not told where user is")
        self.refuse(BASE, "LOG_FORMAT: json\n  USER_URL: http://user:3001\n", "LOG_FORMAT: json\n",
                    "product is not told where user is")

    def test_a_mode_that_is_not_said_is_refused(self) -> None:
        self.refuse(BASE, "  APP__AUTH__MODE: open\n", "", "does not say who may do what")
        self.refuse(DEMO, "APP__AUTH__MODE", "RUST_LOG", "does not say who may do what")

    def test_roles_of_two_minds_are_refused(self) -> None:
        self.refuse(BASE, "APP__AUTH__MODE: open", "APP__AUTH__MODE: enforced", "differ in auth.mode")

    def test_a_shop_that_is_open_by_mistake_is_refused(self) -> None:
        self.refuse(PRODUCTION, "APP__AUTH__MODE: enforced", "APP__AUTH__MODE: open", "not said to be meant so")
        self.refuse(BASE, 'OPEN_BEYOND_LOOPBACK: "true"', 'OPEN_BEYOND_LOOPBACK: "false"', "not said to be meant so")

    def test_a_way_into_an_open_shop_is_refused(self) -> None:
        self.refuse(DEMO, "type: ClusterIP", "type: NodePort", "Service api-gateway leads into a shop that is open")
        self.refuse(PRODUCTION, 'MODE: enforced\n  APP__AUTH__OPEN_BEYOND_LOOPBACK: "false"',
                    'MODE: open\n  APP__AUTH__OPEN_BEYOND_LOOPBACK: "true"', "Ingress api-gateway leads into")

    def test_an_ingress_that_is_not_trusted_is_refused(self) -> None:
        self.refuse(PRODUCTION, "TRUSTED_PROXIES: 10.0.0.0/8", 'TRUSTED_PROXIES: ""', "all clients would be one")

    def test_production_limits_clients(self) -> None:
        found = loaded(PRODUCTION)
        truth = program.Truth.of(found.container(found.named("Deployment", "gateway")), image_env())
        for route in ("auth", "products", "orders"):
            self.assertIn(" by address", truth.settings[f"gateway.routes.{route}.limits"])
        self.assertIn(" by user", truth.settings["gateway.routes.orders.limits"])
        self.assertEqual(truth.settings["gateway.limits_url"], "redis://:***@redis:6379")

    def test_limits_that_do_not_hold_are_refused(self) -> None:
        self.refuse(PRODUCTION, "120/1m by address", "120/m by address", "must be over whole seconds")
        self.refuse(PRODUCTION, "ROUTES__PRODUCTS__LIMITS", "ROUTES__PRODUCT__LIMITS",
                    "gateway.routes.product.upstream: there is no such route")
        self.refuse(PRODUCTION, "name: REDIS_URL", "name: CACHE_URL", "counted in each process by itself")

    def test_a_user_role_without_its_key_is_refused(self) -> None:
        self.refuse(BASE, "path: signing-keys", "path: keys", "no key that signs tokens")
        self.refuse(PRODUCTION, "mountPath: /keys", "mountPath: /key", "no key that signs tokens")
        self.refuse(BASE, "key: SIGNING_KEYS", "key: REDIS_PASSWORD", "another secret than SIGNING_KEYS")

    def test_keys_that_do_not_change_with_the_secret_are_refused(self) -> None:
        self.refuse(BASE, "mountPath: /keys", "mountPath: /keys\n          subPath: keys", "by subPath")

    def test_a_secret_that_is_mounted_whole_is_refused(self) -> None:
        self.refuse(BASE, "          items:\n          - key: SIGNING_KEYS\n            path: signing-keys\n", "",
                    "all of the Secret shop")

    def test_keys_on_no_volume_are_refused(self) -> None:
        self.refuse(DEMO, "name: APP__AUTH__MODE\n          value: open",
                    "name: APP__AUTH__MODE\n          value: open\n"
                    "        - name: APP__USER__SIGNING_KEYS_PATH\n          value: /tmp/keys",
                    "/tmp/keys is on no volume")

    def test_a_certificate_that_is_not_there_is_refused(self) -> None:
        self.refuse(PRODUCTION, "mountPath: /tls", "mountPath: /certs", "mtls.certificate is /tls/tls.crt, and nothing")
        self.refuse(PRODUCTION, "path: tls.key", "path: key", "mtls.key is /tls/tls.key, and nothing")
        self.refuse(PRODUCTION, "key: ca.crt", "key: tls.crt", "mtls.authority is another file of the Secret")

    def test_a_role_that_is_asked_in_the_clear_is_refused(self) -> None:
        self.refuse(PRODUCTION, "https://user:3001", "http://user:3001", "while the role has a certificate")
        self.refuse(BASE, "http://user:3001", "https://user:3001", "while the role has no certificate")

    def test_a_wrong_store_is_refused(self) -> None:
        self.refuse(BASE, "@mongo:27017", "@mongo:27018", "asks mongo at 27018")
        self.refuse(BASE, "postgres://shop:", "postgres://shopper:", "another user than POSTGRES_USER")
        self.refuse(BASE, "?authSource=admin", "", "lacks authSource")
        self.refuse(BASE, "amqp://shop:", "amqp://guest:", "another user than RABBITMQ_DEFAULT_USER")

    def test_roles_apart_without_a_broker_are_refused(self) -> None:
        self.refuse(BASE, "- name: AMQP_URL\n          value: amqp://shop:$(RABBITMQ_PASSWORD)@rabbitmq:5672",
                    "- name: AMQP_URL\n          value: memory://", "roles elsewhere get no events")

    def test_a_broker_is_reached_by_those_who_have_events_alone(self) -> None:
        found = loaded(PRODUCTION)
        reached = {(flow.source, flow.port) for flow in cluster.flows(found, "Ingress") if flow.target == "rabbitmq"}
        self.assertEqual(reached, {(role, 5672) for role in ("user", "product", "order")})

    def test_a_broker_knows_its_data_in_another_pod(self) -> None:
        for folder in (BASE, PRODUCTION, ONE_NODE):
            with self.subTest(folder=folder.name):
                (broker,) = (container for _, container in loaded(folder).workloads() if container.program == "rabbitmq")
                self.assertEqual(broker.env["RABBITMQ_NODENAME"], "rabbit@localhost")
                self.assertEqual(broker.volumes, ["/var/lib/rabbitmq"])

    def test_a_broker_knows_how_much_memory_it_has(self) -> None:
        for folder in (BASE, PRODUCTION, ONE_NODE):
            with self.subTest(folder=folder.name):
                (doc,) = (doc for doc, container in loaded(folder).workloads() if container.program == "rabbitmq")
                (body,) = doc["spec"]["template"]["spec"]["containers"]
                self.assertEqual(body["resources"]["limits"]["memory"], "1Gi")
                said = loaded(folder).container(doc).env["RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS"]
                self.assertIn(f"-rabbit total_memory_available_override_value {1 << 30} ", said)
        service = composed(COMPOSE).services["rabbitmq"]
        self.assertEqual(service["mem_limit"], "1g")
        self.assertEqual(service["environment"]["RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS"], said)

    def test_a_wrong_password_is_refused(self) -> None:
        self.refuse(BASE, "redis://:$(REDIS_PASSWORD)", "redis://:$(MONGO_PASSWORD)", "another password")

    def test_data_on_no_volume_is_refused(self) -> None:
        self.refuse(DEMO, "mountPath: /data", "mountPath: /date", "lost with the container")

    def test_a_wrong_probe_is_refused(self) -> None:
        self.refuse(DEMO, "path: /readyz", "path: /ready", "does not ask /readyz")
        self.refuse(DEMO, "port: management", "port: http", "management is at 9000")

    def test_an_end_that_comes_too_early_is_refused(self) -> None:
        self.refuse(PRODUCTION, "terminationGracePeriodSeconds: 45", "terminationGracePeriodSeconds: 42",
                    "stopping takes 42 s")
        self.refuse(BASE, "terminationGracePeriodSeconds: 45", "terminationGracePeriodSeconds: 37",
                    "stopping takes 37 s")

    def test_a_drain_that_a_service_outlasts_is_refused(self) -> None:
        for folder in (BASE, PRODUCTION, ONE_NODE):
            for role in program.ROLES:
                with self.subTest(folder=folder.name, role=role):
                    found = loaded(folder)
                    found.named("ConfigMap", self.configured(found, role))["data"]["APP__SERVER__DRAIN_DELAY"] = "4s"
                    with self.assertRaisesRegex(Refused, f"Deployment {role}: server.drain_delay is 4 s"):
                        cluster.check(found, image_env())
        self.refuse(DEMO, "name: APP__SERVER__DRAIN_DELAY", "name: APP__SERVER__DRAIN_TIMEOUT",
                    "server.drain_delay is 1 s, and a Service needs 5 s")

    def configured(self, found: Cluster, role: str) -> str:
        """The name of the ConfigMap that a role's pods have."""
        (body,) = found.named("Deployment", role)["spec"]["template"]["spec"]["containers"]
        return body["envFrom"][0]["configMapRef"]["name"]

    def test_connections_that_outlive_the_drain_are_refused(self) -> None:
        self.refuse(BASE, "LOG_FORMAT: json", "APP__TRANSPORT__POOL_IDLE: 5s", "pool_idle is 5 s, and .*drain_delay 5 s")

    def test_another_version_is_refused(self) -> None:
        self.refuse(DEMO, f"shop:{program.version()}", "shop:0.0.9", "is not version")

    def test_a_service_of_nothing_is_refused(self) -> None:
        self.refuse(DEMO, "  selector:\n    app.kubernetes.io/name: shop",
                    "  selector:\n    app.kubernetes.io/name: shopper", "leads to 0 workloads")

    def test_a_missing_reference_is_refused(self) -> None:
        self.refuse(DEMO, "claimName: shop-data", "claimName: data", "no PersistentVolumeClaim data")
        self.refuse(PRODUCTION, "serviceAccountName: user", "serviceAccountName: users", "no ServiceAccount")

    def test_service_links_are_refused(self) -> None:
        self.refuse(BASE, "enableServiceLinks: false", "enableServiceLinks: true", "enableServiceLinks")

    def test_a_policy_that_forbids_or_allows_too_much_is_refused(self) -> None:
        self.refuse(PRODUCTION, "    - port: 27017", "    - port: 27018", "(?s)does not let.*27017")
        self.refuse(PRODUCTION, "    - port: 9000", "    - port: 9001", "does not let .*9000")
        self.refuse(PRODUCTION, "name: product\n  namespace: shop\nspec:\n  egress:\n  - ports:\n    - port: 3001",
                    "name: product\n  namespace: shop\nspec:\n  egress:\n  - ports:\n    - port: 3003",
                    "Egress does not let .*'product', target='user', port=3001")
        self.refuse(PRODUCTION, "          app.kubernetes.io/name: product\n    ports:\n    - port: 3001",
                    "          app.kubernetes.io/name: redis\n    ports:\n    - port: 3001",
                    "Ingress does not let .*'product', target='user', port=3001")
        self.refuse(PRODUCTION, "          app.kubernetes.io/name: order\n    ports:\n    - port: 3002",
                    "          app.kubernetes.io/name: redis\n    ports:\n    - port: 3002",
                    "Ingress does not let .*'order', target='product', port=3002")
        self.refuse(PRODUCTION, "          app.kubernetes.io/name: gateway\n    ports:\n    - port: 6379",
                    "          app.kubernetes.io/name: user\n    ports:\n    - port: 6379",
                    "Ingress does not let .*'gateway', target='redis', port=6379")
        self.refuse(PRODUCTION, "          app.kubernetes.io/name: order\n    ports:\n    - port: 5672",
                    "          app.kubernetes.io/name: redis\n    ports:\n    - port: 5672",
                    "Ingress does not let .*'order', target='rabbitmq', port=5672")
        self.refuse(PRODUCTION, "    - port: 5672\n      protocol: TCP\n",
                    "    - port: 5672\n      protocol: TCP\n    - port: 15672\n      protocol: TCP\n",
                    "Egress lets .*target='rabbitmq', port=15672")
        self.refuse(PRODUCTION, "  podSelector: {}", "  podSelector: {matchLabels: {a: b}}", "selects nothing")

    def test_an_image_that_listens_on_loopback_is_refused(self) -> None:
        with self.assertRaisesRegex(Refused, "nobody outside the container reaches 127.0.0.1:8000"):
            cluster.check(loaded(DEMO), {})

    def test_an_address_of_ipv4_alone_is_refused(self) -> None:
        for key, value in image_env().items():
            with self.subTest(key=key):
                env = {**image_env(), key: value.replace("[::]", "0.0.0.0")}
                with self.assertRaisesRegex(Refused, "nobody reaches 0.0.0.0:.* over IPv6"):
                    cluster.check(loaded(BASE), env)
        self.refuse(DEMO, "name: APP__SERVER__DRAIN_DELAY\n          value: 5s",
                    "name: APP__GATEWAY__LISTEN\n          value: 0.0.0.0:8000", "nobody reaches 0.0.0.0:8000 over IPv6")

    def test_a_mongo_of_ipv4_alone_is_refused(self) -> None:
        self.refuse(BASE, "        - --ipv6\n", "", "mongod listens on IPv4 alone")


class Images(Check):
    """Which image the roles run, also in a copy of deploy/ that a test may break."""

    def setUp(self) -> None:
        self.folder = self.written("").parent
        shutil.copytree(DEPLOY, self.folder / "deploy", ignore=shutil.ignore_patterns(".env"))
        self.base, self.demo, self.production, self.one_node = (
            self.folder / path.relative_to(ROOT) for path in FOLDERS)

    def edit(self, path: Path, old: str, new: str) -> None:
        """Changes one thing in a file."""
        text, count = re.subn(old, new, path.read_text(), count=1)
        self.assertEqual(count, 1, "the test has something to break")
        path.write_text(text)

    def move_one(self) -> None:
        """Another image for one role, in the base's files."""
        self.edit(self.base / "user-deployment.yaml", r"image: \S+", "image: elsewhere.example/shop:0.0.9")

    def test_every_role_runs_what_its_kustomization_says(self) -> None:
        for folder in FOLDERS:
            with self.subTest(folder=folder.name):
                role_image(folder)

    def test_the_readme_puts_a_registry_everywhere(self) -> None:
        if "/" in role_image(BASE):
            self.skipTest("there is one already")
        (told,) = re.findall(r"(?m)^sed -i .*registry\.example(?:.*\\\n)*.*$", (DEPLOY / "README.md").read_text())
        subprocess.run(["sh", "-euc", told], cwd=self.folder, check=True, timeout=30)
        for folder in (self.base, self.demo, self.production, self.one_node):
            with self.subTest(folder=folder.name):
                self.assertEqual(role_image(folder), f"registry.example/shop:{program.version()}")

    def test_production_goes_by_its_own_word_alone(self) -> None:
        self.move_one()
        digest = f"sha256:{'0' * 64}"
        self.edit(self.production / "kustomization.yaml", "(?m)^    newTag:", f"    digest: {digest}\n    newTag:")
        self.assertRegex(role_image(self.production), f"shop:{program.version()}@{digest}$")

    def test_an_image_that_escapes_the_kustomization_is_refused(self) -> None:
        self.move_one()
        self.edit(self.production / "role.yaml", "(?m)^ +image: shop\n", "")
        with self.assertRaisesRegex(Refused, "the roles run .*elsewhere"):
            role_image(self.production)

    def test_roles_of_two_images_are_refused(self) -> None:
        self.move_one()
        with self.assertRaisesRegex(Refused, "the roles run .*elsewhere"):
            role_image(self.base)


class ComposeFiles(Check):
    """The compose files say what the program says."""

    def refuse(self, path: Path, old: str, new: str, why: str, *below: Path, **said: str) -> None:
        """The file with one thing changed, on top of others and with what .env says, is refused for that."""
        text = path.read_text()
        self.assertIn(old, text, "the test has something to break")
        secrets = {key: program.secret_value(key) for key in secret_keys()}
        texts = [*(file.read_text() for file in below), text.replace(old, new, 1)]
        with self.assertRaisesRegex(Refused, why):
            compose.check(Compose("broken", texts, secrets, said), image_env())

    def test_every_container_is_told_the_truth(self) -> None:
        for path, roles in ((COMPOSE, 4), (COMPOSE_ALL, 1)):
            with self.subTest(path=path.name):
                found = composed(path)
                apps = [name for name in found.services if found.container(name).is_app]
                self.assertEqual(len(apps), roles)
                self.assertEqual(compose.check(found, image_env()), "open")

    def test_certificates_on_top_are_told_the_truth(self) -> None:
        found = composed(COMPOSE, COMPOSE_TLS)
        self.assertEqual(compose.check(found, image_env()), "open")
        for role in program.ROLES:
            truth = program.Truth.of(found.container(role), image_env())
            self.assertTrue(truth.is_mutual)
            self.assertEqual(bool(truth.settings["gateway.tls_certificate"]), role == "gateway")

    def test_a_certificate_that_is_not_there_is_refused(self) -> None:
        self.refuse(COMPOSE_TLS, "user-tls:/tls:ro", "user-tls:/certs:ro", "nothing is mounted there", COMPOSE)
        self.refuse(COMPOSE_TLS, "user-tls:/tls:ro", "product-tls:/tls:ro", "user sees .'/certs/product'.", COMPOSE)
        self.refuse(COMPOSE_TLS, "user-tls:/tls:ro", "authority:/tls:ro", "user sees .'/certs'.", COMPOSE)
        self.refuse(COMPOSE_TLS, "  user:\n    depends_on: *after\n", "  user:\n", "does not wait", COMPOSE)

    def test_a_role_that_is_asked_in_the_clear_is_refused(self) -> None:
        self.refuse(COMPOSE_TLS, "https://user:3001", "http://user:3001", "while the role has a certificate", COMPOSE)

    def test_one_line_of_the_environment_file_closes_the_shop(self) -> None:
        for path in (COMPOSE, COMPOSE_ALL):
            with self.subTest(path=path.name):
                found = composed(path, AUTH_MODE="enforced", TRUSTED_PROXIES="192.0.2.1", BIND="0.0.0.0")
                self.assertEqual(compose.check(found, image_env()), "enforced")

    def test_secrets_are_those_of_make_env(self) -> None:
        self.assertEqual(composed(COMPOSE).required, secret_keys())
        self.assertEqual(composed(COMPOSE_ALL).required, set())

    def test_the_stores_are_those_of_kubernetes(self) -> None:
        images = {name: composed(COMPOSE).container(name).image for name in program.STORE_PORTS}
        for name, image in images.items():
            self.assertEqual(loaded(BASE).container(loaded(BASE).named("Deployment", name)).image, image)

    def test_a_wrong_peer_is_refused(self) -> None:
        self.refuse(COMPOSE, "http://user:3001", "http://user:3002", "asks user at 3002")

    def test_an_order_role_that_does_not_reach_who_takes_payments_is_refused(self) -> None:
        stripe = {"PAYMENTS_URL": "https://api.stripe.com", "PAYMENTS_KEY": "sk_test"}
        for path in (COMPOSE, COMPOSE_ALL):
            with self.subTest(path=path.name):
                compose.check(composed(path, **stripe), image_env())
                with self.assertRaisesRegex(Refused, "there is no order.payments_key"):
                    compose.check(composed(path, PAYMENTS_URL=stripe["PAYMENTS_URL"]), image_env())
        self.refuse(COMPOSE, "networks: [private, edge]", "networks: [private]",
                    "none of its networks leads to https://api.stripe.com", **stripe)

    def test_a_mode_that_is_not_said_is_refused(self) -> None:
        self.refuse(COMPOSE_ALL, "APP__AUTH__MODE: ", "RUST_LOG: ", "does not say who may do what")

    def test_roles_of_two_minds_are_refused(self) -> None:
        self.refuse(COMPOSE, "<<: *auth", 'APP__AUTH__MODE: enforced', "differ in auth.mode")

    def test_a_shop_that_is_open_by_mistake_is_refused(self) -> None:
        self.refuse(COMPOSE, 'LOOPBACK: "true"', 'LOOPBACK: "false"', "not said to be meant so")

    def test_an_open_shop_that_is_published_is_refused(self) -> None:
        for path in (COMPOSE, COMPOSE_ALL):
            self.refuse(path, "${BIND:-127.0.0.1}:", "", "is open, and published as")

    def test_a_user_role_without_its_key_is_refused(self) -> None:
        self.refuse(COMPOSE, "      APP__USER__SIGNING_KEYS: ${SIGNING_KEYS:?run make env}\n", "",
                    "no key that signs tokens")
        self.refuse(COMPOSE, "${SIGNING_KEYS:?", "${REDIS_PASSWORD:?", "another secret than SIGNING_KEYS")

    def test_limits_of_the_environment_file_hold(self) -> None:
        for path, name in ((COMPOSE, "gateway"), (COMPOSE_ALL, "shop")):
            with self.subTest(path=path.name):
                found = composed(path, AUTH_LIMITS="120/1m by address", PRODUCTS_LIMITS="100/1s by address, 9/1s by user")
                compose.check(found, image_env())
                settings = program.Truth.of(found.container(name), image_env()).settings
                self.assertEqual(settings["gateway.routes.auth.limits"], "120/1m by address")
                self.assertEqual(settings["gateway.routes.products.limits"], "100/1s by address, 9/1s by user")
                with self.assertRaisesRegex(Refused, "gateway.routes.auth.limits"):
                    compose.check(composed(path, AUTH_LIMITS="120 a minute"), image_env())

    def test_limits_that_each_gateway_counts_for_itself_are_refused(self) -> None:
        self.refuse(COMPOSE, "      REDIS_URL: redis://:${REDIS_PASSWORD:?run make env}@redis:6379\n"
                             "      APP__GATEWAY__ROUTES__AUTH__LIMITS: ${AUTH_LIMITS:-}",
                    "      APP__GATEWAY__ROUTES__AUTH__LIMITS: 1/1s by address", "counted in each process by itself")

    def test_what_the_example_offers_works(self) -> None:
        offered = dict(re.findall("(?m)^#([A-Z_]+)=(.+)$", (DEPLOY / ".env.example").read_text()))
        self.assertIn("AUTH_LIMITS", offered)
        for path in (COMPOSE, COMPOSE_ALL):
            with self.subTest(path=path.name):
                compose.check(composed(path, **offered), image_env())

    def test_data_on_no_volume_is_refused(self) -> None:
        self.refuse(COMPOSE_ALL, "data:/data", "data:/date", "lost with the container")

    def test_a_wrong_store_is_refused(self) -> None:
        self.refuse(COMPOSE, "@mongo:27017", "@mango:27017", "nothing has that name")

    def test_roles_apart_without_a_broker_are_refused(self) -> None:
        self.refuse(COMPOSE, "      AMQP_URL: amqp://shop:${RABBITMQ_PASSWORD:?run make env}@rabbitmq:5672\n", "",
                    "service user: events.url is memory://, and roles elsewhere get no events")
        self.refuse(COMPOSE, "AMQP_URL: amqp://shop:", "AMQP_URL: amqp://guest:", "another user than RABBITMQ_DEFAULT_USER")

    def test_a_wrong_port_is_refused(self) -> None:
        self.refuse(COMPOSE_ALL, ":8000\"", ":8001\"", "nothing listens on .8001")

    def test_an_unknown_secret_is_refused(self) -> None:
        self.refuse(COMPOSE, "${REDIS_PASSWORD:?", "${REDIS_SECRET:?", "lacks REDIS_SECRET")

    def test_an_end_that_comes_too_early_is_refused(self) -> None:
        self.refuse(COMPOSE_ALL, "    stop_grace_period", "    x-stop_grace_period", "is killed after 10 s")

    def test_a_log_that_grows_without_end_is_refused(self) -> None:
        for path in (COMPOSE, COMPOSE_ALL):
            with self.subTest(path=path.name):
                self.refuse(path, "{max-size: 10m, max-file: \"3\"}", "{max-size: 10m}", "its log is not rotated")
                self.refuse(path, "max-size: 10m", "max-size: 10g", "its log is not rotated")
                self.refuse(path, "driver: json-file", "driver: journald", "its log is not rotated")
        self.refuse(COMPOSE_TLS, "    logging:", "    x-logging:", "service certs: its log is not rotated", COMPOSE)

    def test_another_health_check_is_refused(self) -> None:
        self.refuse(COMPOSE_ALL, '"/app", "healthcheck"', '"curl", "localhost"', "not the program's own")


if __name__ == "__main__":
    unittest.main()

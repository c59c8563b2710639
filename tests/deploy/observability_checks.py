"""Checks deploy/observability: promtool's opinion, a test and a runbook for each alert, and files that lead to each other."""

import json
import re
import subprocess
import tempfile
import unittest
from pathlib import Path

import yaml

from program import ROOT, Refused

FOLDER = ROOT / "deploy/observability"
COMPOSE = ROOT / "deploy/compose.observability.yaml"
TESTS = ROOT / "tests/deploy/observability/alerts.yaml"


def promtool(*args: str | Path) -> str:
    """Runs promtool; refused with all that it printed when it fails."""
    done = subprocess.run(["promtool", *args], capture_output=True, text=True, timeout=300)
    if done.returncode:
        raise Refused(f"promtool:\n{done.stdout}{done.stderr}")
    return done.stdout + done.stderr


def alerts() -> list[dict]:
    """The alerts, as the file has them."""
    groups = yaml.safe_load((FOLDER / "rules/alerts.yaml").read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def without_runbook(page: str) -> list[str]:
    """The alerts whose runbook is no heading of `page`, or that the heading's text does not name."""
    sections = dict(re.findall(r"(?ms)^### (\w+)\n(.*?)(?=^##|\Z)", page))
    anchors = {name.lower(): name + text for name, text in sections.items()}
    return [alert["alert"] for alert in alerts()
            if alert["alert"] not in anchors.get(alert["annotations"]["runbook"].partition("#")[2], "")]


def untested(text: str) -> list[str]:
    """The alerts that no test of `text` expects to fire."""
    tests = yaml.safe_load(text)["tests"]
    samples = [sample["labels"] for test in tests for each in test["promql_expr_test"] for sample in each["exp_samples"]]
    return [alert["alert"] for alert in alerts() if not any(f'"{alert["alert"]}"' in labels for labels in samples)]


def kustomized(folder: Path) -> list[dict]:
    """What kustomize makes of a folder."""
    kubectl = ROOT / "target/deploy-tools/bin/kubectl"
    done = subprocess.run([kubectl, "kustomize", folder], capture_output=True, text=True, check=True, timeout=60)
    return list(yaml.safe_load_all(done.stdout))


def collector_port() -> int:
    """Where the collector takes traces, by its configuration."""
    config = yaml.safe_load((FOLDER / "collector.yaml").read_text())
    return int(config["receivers"]["otlp"]["protocols"]["http"]["endpoint"].rpartition(":")[2])


class Observability(unittest.TestCase):
    """What Prometheus and Grafana are given."""

    def test_promtool_accepts_the_configuration_and_the_rules(self) -> None:
        self.assertIn("SUCCESS", promtool("check", "config", "--lint-fatal", FOLDER / "prometheus.yaml"))

    def test_a_rule_that_is_none_is_refused(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "rules.yaml")
            path.write_text((FOLDER / "rules/alerts.yaml").read_text().replace("max by (role)", "max by role", 1))
            with self.assertRaisesRegex(Refused, "parse error"):
                promtool("check", "rules", path)

    def test_each_fault_fires_its_alert_and_no_other(self) -> None:
        self.assertIn("SUCCESS", promtool("test", "rules", TESTS))

    def test_an_alert_that_does_not_fire_is_found(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            rules = (FOLDER / "rules/alerts.yaml").read_text().replace("sqlite\"}) > 0", "sqlite\"}) > 9")
            Path(folder, "alerts.yaml").write_text(rules)
            tests = TESTS.read_text().replace("../../../deploy/observability/rules/alerts.yaml", f"{folder}/alerts.yaml")
            tests = tests.replace("../../../deploy", str(ROOT / "deploy"))
            Path(folder, "test.yaml").write_text(tests)
            with self.assertRaisesRegex(Refused, "ShopPoolFull"):
                promtool("test", "rules", Path(folder, "test.yaml"))

    def test_each_alert_has_a_test_a_severity_and_a_runbook(self) -> None:
        self.assertEqual(untested(TESTS.read_text()), [])
        page = (FOLDER / "README.md").read_text()
        self.assertEqual(without_runbook(page), [])
        self.assertEqual({alert["labels"]["severity"] for alert in alerts()}, {"page", "ticket"})
        self.assertEqual(without_runbook(page.replace("### ShopSlow\n", "### Slow\n")), ["ShopSlow", "ShopSlowly"])

    def test_each_dashboard_is_provisioned_and_asks_the_data_source_that_there_is(self) -> None:
        (source,) = yaml.safe_load((FOLDER / "grafana/datasources.yaml").read_text())["datasources"]
        boards = [json.loads(path.read_text()) for path in sorted((FOLDER / "dashboards").iterdir())]
        self.assertEqual([board["uid"] for board in boards], ["shop-business", "shop-overview", "shop-role"])
        for board in boards:
            panels = [panel for panel in board["panels"] if panel["type"] != "row"]
            self.assertEqual({panel["datasource"]["uid"] for panel in panels}, {source["uid"]})
            self.assertEqual(len({panel["id"] for panel in board["panels"]}), len(board["panels"]))

    def test_what_compose_mounts_is_there_and_where_the_configuration_looks(self) -> None:
        services = yaml.safe_load(COMPOSE.read_text())["services"]
        mounts = [mount.split(":") for service in services.values() for mount in service.get("volumes", [])]
        targets = {target: COMPOSE.parent / source for source, target, *mode in mounts if source.startswith(".")}
        for target, path in targets.items():
            self.assertTrue(path.exists(), path)
        (provider,) = yaml.safe_load((FOLDER / "grafana/dashboards.yaml").read_text())["providers"]
        self.assertEqual(targets[provider["options"]["path"]], COMPOSE.parent / "observability/dashboards")
        home = services["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
        self.assertTrue((targets[str(Path(home).parent)] / Path(home).name).exists())
        config = yaml.safe_load((FOLDER / "prometheus.yaml").read_text())
        self.assertEqual([targets["/etc/prometheus/rules"].joinpath(*Path(glob).parts[1:-1]) for glob in config["rule_files"]],
                         [COMPOSE.parent / "observability/rules"])

    def test_the_cluster_gets_the_same_rules_and_finds_every_role(self) -> None:
        docs = kustomized(FOLDER)
        places = {(doc["kind"], doc["metadata"].get("namespace")) for doc in docs}
        # The account of one namespace reads the pods of the other.
        self.assertEqual({place for place in places if place[1] != "shop-monitoring"},
                         {("Namespace", None), ("ClusterRole", None), ("RoleBinding", "shop")})
        (config,) = (doc["data"] for doc in docs if doc["kind"] == "ConfigMap" and "prometheus.yaml" in doc["data"])
        scrape = yaml.safe_load(config["prometheus.yaml"])
        (job,) = scrape["scrape_configs"]
        # Debian's promtool knows no clusters.
        self.assertEqual(job.pop("kubernetes_sd_configs"), [{"role": "pod", "namespaces": {"names": ["shop"]}}])
        with tempfile.TemporaryDirectory() as folder:
            for name, text in (config | {"prometheus.yaml": yaml.safe_dump(scrape)}).items():
                Path(folder, name).write_text(text)
            self.assertIn("2 rule files found", promtool("check", "config", Path(folder, "prometheus.yaml")))
        (wanted,) = (rule["regex"] for rule in job["relabel_configs"] if rule.get("action") == "keep")
        found = set()
        for path in sorted((ROOT / "deploy/k8s").glob("*-deployment.yaml")):
            for doc in yaml.safe_load_all(path.read_text()):
                if doc["kind"] not in ("Deployment", "StatefulSet"):
                    continue
                labels, pod = doc["spec"]["template"]["metadata"]["labels"], doc["spec"]["template"]["spec"]
                ports = [port.get("name") for body in pod["containers"] for port in body.get("ports", [])]
                component = labels["app.kubernetes.io/component"]
                if any(re.fullmatch(wanted, f"{component};{port}") for port in ports):
                    found.add(labels["app.kubernetes.io/name"])
        self.assertEqual(found, {"gateway", "user", "product", "order"})

    def test_every_role_of_the_compose_files_sends_traces_where_the_collector_listens(self) -> None:
        services = yaml.safe_load((ROOT / "deploy/compose.yaml").read_text())["services"]
        roles = {name for name, service in services.items() if service.get("command", [""])[0] == "--role"}
        over = yaml.safe_load(COMPOSE.read_text())["services"]
        url = f"http://collector:{collector_port()}"
        told = {name for name, service in over.items()
                if service.get("environment", {}).get("OTEL_EXPORTER_OTLP_ENDPOINT") == url}
        self.assertEqual(told, roles)
        self.assertIn("private", over["collector"]["networks"])
        for role in roles:
            self.assertIn("private", services[role]["networks"])

    def test_every_role_of_the_cluster_sends_traces_where_the_collector_listens_and_may(self) -> None:
        port = collector_port()
        (service,) = (doc for doc in kustomized(FOLDER) if (doc["kind"], doc["metadata"]["name"]) == ("Service", "collector"))
        self.assertEqual([each["port"] for each in service["spec"]["ports"]], [port])
        (config,) = (doc["data"] for doc in kustomized(FOLDER) if doc["kind"] == "ConfigMap" and "config.yaml" in doc["data"])
        self.assertEqual(config["config.yaml"], (FOLDER / "collector.yaml").read_text())
        (allowed,) = (doc["spec"] for doc in kustomized(FOLDER)
                      if (doc["kind"], doc["metadata"]["name"]) == ("NetworkPolicy", "collector"))
        (rule,) = allowed["ingress"]
        self.assertEqual([each["port"] for each in rule["ports"]], [port])
        with tempfile.TemporaryDirectory(dir=ROOT / "target") as folder:
            Path(folder, "kustomization.yaml").write_text(
                "resources: [../../deploy/overlays/production]\ncomponents: [../../deploy/components/traces]\n")
            docs = kustomized(Path(folder))
        namespace = service["metadata"]["namespace"]
        url = f"http://collector.{namespace}:{port}"
        told = [doc["data"].get("OTEL_EXPORTER_OTLP_ENDPOINT") for doc in docs if doc["kind"] == "ConfigMap"
                and doc["metadata"]["name"] in ("gateway", "user", "product", "order")]
        self.assertEqual(told, [url] * 4)
        (policy,) = (doc["spec"] for doc in docs if (doc["kind"], doc["metadata"]["name"]) == ("NetworkPolicy", "traces"))
        (rule,) = policy["egress"]
        self.assertEqual([each["port"] for each in rule["ports"]], [port])
        self.assertEqual(rule["to"][0]["podSelector"]["matchLabels"], service["spec"]["selector"])

    def test_prometheus_asks_every_role_of_the_compose_file(self) -> None:
        services = yaml.safe_load((ROOT / "deploy/compose.yaml").read_text())["services"]
        roles = {name for name, service in services.items() if service.get("command", [""])[0] == "--role"}
        (job,) = yaml.safe_load((FOLDER / "prometheus.yaml").read_text())["scrape_configs"]
        targets = {config["labels"]["process"]: config["targets"] for config in job["static_configs"]}
        self.assertEqual(targets, {role: [f"{role}:9000"] for role in roles})
        image = (ROOT / "Containerfile").read_text()
        for role in roles:
            self.assertIn(f"APP__{role.upper()}__MANAGEMENT=[::]:9000", image)

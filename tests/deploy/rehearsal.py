"""verify_cluster.py rehearsed on a stub of kubectl and a cluster, with the program itself behind it; check.py runs it."""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

import program

HERE = Path(__file__).resolve().parent
NAMESPACES = {f"shop-verify-{name}" for name in ("client", "demo", "base", "production")}


class VerifyCluster(unittest.TestCase):
    """What it does, what it counts, and that it leaves nothing."""

    def setUp(self) -> None:
        self.folder = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, self.folder)
        stub = self.folder / "kubectl"
        stub.write_text(f"#!/bin/sh\nexec '{sys.executable}' -B '{HERE / 'stub_kubectl.py'}' \"$@\"\n")
        stub.chmod(0o755)
        self.env = {
            "PATH": os.environ["PATH"], "KUBECTL": str(stub), "KUBECONFIG": "stub", "STUB_FOLDER": str(self.folder),
            "STUB_KUSTOMIZE": str(program.ROOT / "target/deploy-tools/bin/kubectl"), "APP_BINARY": str(program.BINARY),
            "VERIFY_MARGIN": "0.3",
        }

    def verify(self, *args: str, **env: str) -> tuple[int, str]:
        """How it ends, and all that it says."""
        done = subprocess.run([sys.executable, "-B", HERE / "verify_cluster.py", *args], env=self.env | env, text=True,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=120)
        return done.returncode, done.stdout

    def calls(self) -> list[str]:
        """What kubectl was asked, in order."""
        return (self.folder / "calls").read_text().splitlines()

    def left(self) -> set[str]:
        """The namespaces of the stub's cluster."""
        return {file.stem for file in self.folder.glob("*.json")}

    def test_it_goes_through_all_three_and_leaves_nothing(self) -> None:
        code, said = self.verify()
        self.assertEqual(code, 0, said)
        self.assertEqual(self.left(), set())
        calls = self.calls()
        for role in program.ROLES:
            for name in ("base", "production"):
                self.assertIn(f"rollout restart deployment/{role} -n shop-verify-{name}", calls)
            self.assertIn(f"delete pod {role}-0 -n shop-verify-production --wait=false", calls)
            for number in range(2):
                path = f"/namespaces/shop-verify-production/pods/{role}-{number}/eviction"
                # The disruption budget refuses the second pod once, and it is asked again.
                self.assertEqual(sum(path in call for call in calls), 1 + number, path)
            self.assertTrue(any(f"secret generic {role}-tls" in call for call in calls))
        self.assertIn("rollout restart deployment/shop -n shop-verify-demo", calls)
        self.assertFalse(any("-old" in call for call in calls), "a pod that goes already is left alone")
        self.assertEqual(said.count("every acknowledged write is there"), 3)
        for asked in re.findall(r"(\d+) requests, 0 lost", said):
            self.assertGreater(int(asked), 20)
        self.assertEqual(len(re.findall(r"\d+ requests, 0 lost", said)), 6, said)

    def test_requests_that_are_lost_fail_the_run(self) -> None:
        code, said = self.verify("--only", "base", STUB_LOSES="shop-verify-base/gateway")
        self.assertEqual(code, 1, said)
        self.assertRegex(said, r"NOT +every role is rolled +\d+ requests, [1-9]\d* lost: .*000 GET /products")
        self.assertIn("\n1 missed", said)
        self.assertEqual(self.left(), set())

    def test_the_demo_may_lose_some_while_it_is_replaced(self) -> None:
        code, said = self.verify("--only", "demo", STUB_LOSES="shop-verify-demo/shop")
        self.assertEqual(code, 0, said)
        self.assertRegex(said, r"ok +its one pod is replaced .* requests, [1-9]\d* lost")

    def test_a_warning_of_the_cluster_fails_the_run(self) -> None:
        code, said = self.verify("--only", "demo", STUB_WARNS="shop-verify-demo")
        self.assertEqual(code, 1, said)
        self.assertRegex(said, "NOT +applied without a warning +Warning: would violate PodSecurity")

    def test_told_to_end_it_leaves_nothing(self) -> None:
        with subprocess.Popen([sys.executable, "-B", HERE / "verify_cluster.py"], env=self.env, text=True,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as run:
            for line in run.stdout:
                if "every pod is ready" in line:
                    break
            self.assertTrue(self.left())
            run.terminate()
            run.stdout.read()
            self.assertEqual(run.wait(60), 143)
        self.assertEqual(self.left(), set())

    def test_pods_that_do_not_come_fail_the_run_and_it_cleans_up(self) -> None:
        code, said = self.verify("--only", "demo", STUB_PENDING="shop")
        self.assertEqual(code, 1, said)
        self.assertIn("timed out waiting", said)
        self.assertIn("shop-verify-stub says nothing", said)
        self.assertEqual(self.left(), set())

    def test_a_namespace_of_somebody_else_is_left_alone(self) -> None:
        theirs = self.folder / "shop-verify-demo.json"
        theirs.write_text(json.dumps({"labels": [], "docs": []}))
        code, said = self.verify("--only", "demo")
        self.assertEqual(code, 1, said)
        self.assertIn("already exists", said)
        self.assertEqual(self.left(), {"shop-verify-demo"})

    def test_leftovers_of_a_run_that_was_killed_are_removed_first(self) -> None:
        for name in NAMESPACES:
            facts = {"labels": ["app.kubernetes.io/managed-by=shop-verify"], "docs": []}
            (self.folder / f"{name}.json").write_text(json.dumps(facts))
        code, said = self.verify("--only", "demo")
        self.assertEqual(code, 0, said)
        self.assertEqual(self.left(), set())

    def test_without_a_cluster_it_says_so_and_fails(self) -> None:
        for env, why in (({"KUBECONFIG": ""}, "KUBECONFIG names the one"), ({"STUB_AWAY": "1"}, "was refused")):
            with self.subTest(why=why):
                code, said = self.verify(**env)
                self.assertEqual(code, 1)
                self.assertEqual(len(said.splitlines()), 1, said)
                self.assertRegex(said, f"^there is no cluster: .*{why}")
                self.assertEqual(self.left(), set())

    def test_images_of_the_environment_take_the_place_of_the_manifests(self) -> None:
        script = ("import sys; sys.path.insert(0, sys.argv[1]); from kubectl import Kubectl, find; "
                  "from verify_cluster import TRIAL; print(Kubectl(find(), 60).rendered(TRIAL / 'base'))")
        done = subprocess.run([sys.executable, "-B", "-c", script, HERE], capture_output=True, text=True, timeout=60,
                              check=True, env=self.env | {"SHOP_IMAGE": "registry.example/x:1", "REDIS_IMAGE": "r@sha256:0"})
        images = re.findall(r"(?m)^ +(?:- )?image: (\S+)$", done.stdout)
        self.assertEqual(images.count("registry.example/x:1"), 4)
        self.assertEqual(images.count("r@sha256:0"), 1)
        self.assertEqual(len(images), 8)

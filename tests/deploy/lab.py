"""What verify.py works with: podman, images to start from, a clean-up that touches nothing else, and a report. The report and
what goes before it are verify_cluster.py's, too."""

import argparse
import fcntl
import json
import os
import re
import secrets
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
WORK = ROOT / "target/deploy-verify"
ROLES = ("gateway", "user", "product", "order")
# The bytes of each secret that `make env` writes.
SECRETS = {"POSTGRES_PASSWORD": 24, "MONGO_PASSWORD": 24, "REDIS_PASSWORD": 24, "RABBITMQ_PASSWORD": 24,
           "INTERNAL_SECRET": 24, "SIGNING_KEYS": 32}
# Everything that is made here is called so; nothing else is ever removed.
NAME = "shop-verify"
# As for the quick checks, brought by tools.sh.
KUBECTL = ROOT / "target/deploy-tools/bin/kubectl"
LOCK = Path(f"/run/lock/{NAME}.lock")
OURS = re.compile(rf"^(pod_)?{NAME}[-_]")
COMPOSER = "podman-compose==1.6.0"

# For machines without systemd; a limit that the machine itself is below cannot be asked for.
SETTINGS = """[containers]
default_ulimits = ["nofile=20000:20000", "nproc=32768:32768"]
[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
runtime = "runc"
"""


class Failure(Exception):
    """Why the run cannot go on, in one line."""


class Report:
    """Prints each measured result with its goal, and counts those that are not met."""

    def __init__(self):
        self.missed = []

    def step(self, title):
        print(f"\n{title}", flush=True)

    def note(self, text):
        print(f"        {text}", flush=True)

    def check(self, met, what, measured="", goal=""):
        parts = [what, f"{measured}" if measured != "" else "", f"({goal})" if goal else ""]
        print("  ok    " if met else "  NOT   ", "  ".join(part for part in parts if part), sep="", flush=True)
        if not met:
            self.missed.append(what)


    def conclude(self):
        """Says how it went; gives the status to end with."""
        print(f"\n{len(self.missed)} missed" if self.missed else "\nall met")
        return 1 if self.missed else 0


def chosen(title, steps):
    """Those of `steps` that the command line names: all, but for `--only`."""
    parser = argparse.ArgumentParser(description=title)
    parser.add_argument("--only", nargs="+", choices=steps, default=list(steps), metavar="STEP", help=", ".join(steps))
    return [steps[name] for name in parser.parse_args().only]


def secret_values():
    """A password for each store and a key, as `make env` writes them."""
    return {key: secrets.token_hex(size) for key, size in SECRETS.items()}


def run(command, timeout=900, check=True, **options):
    """Runs a command and gives what it prints; says why when it fails."""
    command = [str(part) for part in command]
    done = subprocess.run(command, capture_output=True, text=True, timeout=timeout, **options)
    if check and done.returncode != 0:
        tail = " | ".join(done.stderr.strip().splitlines()[-3:])
        raise Failure(f"{' '.join(command)[:120]}: status {done.returncode}: {tail[-600:]}")
    return done.stdout.strip()


def podman(*arguments, **options):
    return run(["podman", *arguments], **options)


def inspect(name, kind="container"):
    return json.loads(podman(kind, "inspect", name))[0]


def prepare():
    """The work folder, podman's names for this process alone, and settings that fit the machine."""
    WORK.mkdir(parents=True, exist_ok=True)
    # The names are the machine's, whatever checkout a run is of: a second run would remove what the first one made.
    lock = open(LOCK, "w")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        lock.close()
        raise Failure(f"another run holds {LOCK}") from error
    if not Path("/run/systemd/system").exists() and "CONTAINERS_CONF" not in os.environ:
        (WORK / "containers.conf").write_text(SETTINGS)
        os.environ["CONTAINERS_CONF"] = str(WORK / "containers.conf")
    # podman-compose has no option for it, and health checks are lost in the other format.
    os.environ["BUILDAH_FORMAT"] = "docker"
    return lock


def missing():
    """One line for everything that the machine lacks."""
    if os.geteuid() != 0:
        yield "root: memory and capabilities of containers are read from outside them"
    programs = {"podman": "podman", "make": "make", "wrk": "wrk", "runc": "runc",
                "git": "git"}
    for program, package in programs.items():
        if shutil.which(program) is None:
            yield f"the program {program} (Debian's package {package})"
    if not KUBECTL.exists():
        yield f"{KUBECTL.relative_to(ROOT)}, which tests/deploy/tools.sh brings"
    for helper in ("netavark", "aardvark-dns"):
        if not any((Path(folder) / helper).exists() for folder in ("/usr/lib/podman", "/usr/libexec/podman")):
            yield f"podman's helper {helper} (Debian's package {helper})"
    try:
        import ensurepip  # noqa: F401
        import venv  # noqa: F401
    except ImportError:
        yield "Python's venv (Debian's package python3-venv)"


def clean():
    """Removes every container, pod, volume and network of ours, whatever state it is in."""
    podman("secret", "rm", f"{NAME}-secret", check=False, timeout=60)

    def ours(*listing):
        names = podman(*listing, check=False, timeout=60).splitlines()
        return [name for name in names if OURS.match(name)]

    for kind, listing, removal in (
        ("pod", ("pod", "ls", "--format", "{{.Name}}"), ("pod", "rm", "--force", "--time", "0")),
        ("container", ("ps", "--all", "--format", "{{.Names}}"), ("rm", "--force", "--volumes", "--time", "0")),
        ("volume", ("volume", "ls", "--format", "{{.Name}}"), ("volume", "rm", "--force")),
        ("network", ("network", "ls", "--format", "{{.Name}}"), ("network", "rm", "--force")),
    ):
        for name in ours(*listing):
            if kind == "pod":
                # A pod takes its containers along, but not their volumes without a name.
                members = podman("ps", "--all", "--filter", f"pod={name}", "--format", "{{.Names}}", check=False)
                inner = [member for member in members.splitlines() if OURS.match(member)]
                if inner:
                    podman("rm", "--force", "--volumes", "--time", "0", *inner, check=False)
            podman(*removal, name, check=False, timeout=120)


def composer():
    """The pinned podman-compose, in an environment of its own; its Python also reads YAML."""
    folder = WORK / "compose"
    if not (folder / "bin/podman-compose").exists():
        run([sys.executable, "-m", "venv", folder])
        run([folder / "bin/pip", "install", "--quiet", COMPOSER])
    return folder / "bin"

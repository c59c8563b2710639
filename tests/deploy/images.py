"""The images of the test: the shop's own, and what it is built from and runs beside.

Public images are used where they can be pulled. Elsewhere they are made from Debian's packages, the
toolchain of this machine, and SecantusDB for MongoDB; each says which it is.
"""

import os
import re
import shutil
import subprocess
import tomllib
from pathlib import Path

from lab import NAME, ROOT, WORK, Failure, podman, run

STANDINS = ROOT / "tests/deploy/standins"
# Speaks MongoDB's protocol; not MongoDB.
SECANTUS = "SecantusDB==0.7.0b3"
PUBLIC = {
    "rust": "docker.io/library/rust:1.95-slim-bookworm",
    "postgres": "docker.io/library/postgres:17-bookworm",
    "mongo": "docker.io/library/mongo:8.0-noble",
    "redis": "docker.io/library/redis:7.4-bookworm",
    "rabbitmq": "docker.io/library/rabbitmq:4.2",
}
# Seconds that a public image may take to come.
PULL_PATIENCE = 180
# Seconds for a build from nothing.
BUILD_PATIENCE = 3600

# The toolchain is a copy of this machine's, and the crates are those that cargo has fetched here.
RUST_STANDIN = """FROM {base}
RUN apt-get update -qq \\
    && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends gcc libc6-dev >/dev/null \\
    && rm -rf /var/lib/apt/lists/*
COPY bin/cargo bin/rustc /usr/local/bin/
COPY lib /usr/local/lib/
ENV CARGO_HOME=/usr/local/cargo CARGO_NET_OFFLINE=true
"""


def version():
    """That of the program, which the image has too."""
    return tomllib.loads((ROOT / "Cargo.toml").read_text())["package"]["version"]


def shop():
    return f"localhost/{NAME}/shop:{version()}"


def exists(image):
    return subprocess.run(["podman", "image", "exists", image], check=False).returncode == 0


def comes(reference):
    """Whether the public image is here, or can be pulled."""
    if exists(reference):
        return True
    try:
        podman("pull", "--quiet", reference, timeout=PULL_PATIENCE)
    except (Failure, subprocess.TimeoutExpired):
        return False
    return True


def build(report):
    """Builds the shop's image as `make image` does. Gives its name, and what builds of it have to be told."""
    arguments = []
    if comes(PUBLIC["rust"]):
        report.note(f"base: {PUBLIC['rust']}")
    else:
        base = rust(report)
        cargo = Path(os.environ.get("CARGO_HOME", Path.home() / ".cargo"))
        run(["cargo", "fetch", "--locked"], cwd=ROOT)
        arguments = ["--pull=never", "--build-arg", f"RUST_IMAGE={base}",
                     "--volume", f"{cargo}/registry:/usr/local/cargo/registry:ro"]
        report.note(f"base: a stand-in for {PUBLIC['rust']}, from Debian's packages and this machine's toolchain")
    make(shop(), arguments)
    return shop(), arguments


def make(image, arguments):
    run(["make", "--no-print-directory", "image", "BUILDER=podman", f"IMAGE={image}",
         f"IMAGE_ARGS={' '.join(arguments)}"], cwd=ROOT, timeout=BUILD_PATIENCE)


def stores(report):
    """The images of PostgreSQL, MongoDB, Redis and RabbitMQ, by the name of the service."""
    images, missing = {}, []
    for store in ("postgres", "mongo", "redis", "rabbitmq"):
        images[store] = PUBLIC[store]
        if not comes(PUBLIC[store]):
            images[store] = f"localhost/{NAME}/{store}:standin"
            missing.append(store)
    if missing:
        base = debian(report)
        wheels = fetch_wheels() if "mongo" in missing else WORK
    for store in missing:
        podman("build", "--pull=never", "--quiet", "--build-arg", f"BASE={base}", "--target", store,
               "--volume", f"{wheels}:/wheels:ro", "--tag", images[store], STANDINS)
        what = f"{SECANTUS}, which is not MongoDB" if store == "mongo" else "Debian's package"
        report.note(f"{store}: a stand-in for {PUBLIC[store]}: {what}")
    for store in images.keys() - missing:
        report.note(f"{store}: {PUBLIC[store]}")
    return images


def fetch_wheels():
    """Wheels for the Python of the Debian that the stand-ins are made of."""
    folder = WORK / "wheels"
    if not folder.exists():
        run(["python3", "-m", "pip", "download", "--quiet", "--dest", WORK / "wheels.new", "--only-binary", ":all:",
             "--python-version", "3.11", SECANTUS])
        (WORK / "wheels.new").rename(folder)
    return folder


def rust(report):
    release = re.search(r"release: (\S+)", run(["rustc", "-vV"]))[1]
    image = f"localhost/{NAME}/rust:{release}"
    if not exists(image):
        base = debian(report)
        report.note("making an image of this machine's toolchain")
        recipe = WORK / "Rust.Containerfile"
        recipe.write_text(RUST_STANDIN.format(base=base))
        podman("build", "--pull=never", "--quiet", "--ignorefile", "/dev/null", "--file", recipe, "--tag", image,
               run(["rustc", "--print", "sysroot"]))
    return image


def debian(report):
    """A small Debian, made from the packages of the mirror that this machine uses."""
    image = f"localhost/{NAME}/debian:bookworm"
    if not exists(image):
        if shutil.which("debootstrap") is None:
            raise Failure("the public images cannot be pulled, and others not be made without debootstrap")
        report.note("making a Debian image with debootstrap")
        folder, archive = WORK / "debian", WORK / "debian.tar"
        shutil.rmtree(folder, ignore_errors=True)
        run(["debootstrap", "--variant=minbase", "--include=ca-certificates", "bookworm", folder, *mirror()])
        run(["tar", "--directory", folder, "--create", "--file", archive, "."])
        podman("import", archive, image)
        archive.unlink()
        shutil.rmtree(folder)
    return image


def mirror():
    """Where this machine gets Debian's packages from, if that can be told."""
    sources = [*Path("/etc/apt/sources.list.d").glob("*.sources"), Path("/etc/apt/sources.list")]
    for text in (path.read_text() for path in sources if path.exists()):
        if found := re.search(r"^(?:URIs:|deb(?: \[[^]]*\])?)\s+(\S+/debian/?)(?:\s|$)", text, re.MULTILINE):
            return [found[1]]
    return []

"""Clients that are made of the document: they compile as strictly as can be, and do what people do with them."""

import json
import os
import shutil
import subprocess
import sys
import uuid
from pathlib import Path

HERE = Path(__file__).resolve().parent
# Where the Makefile has installed what it takes.
TOOLS = HERE.parents[1] / "target/contract"
PYTHON = TOOLS / "python"
NODE = TOOLS / "node"


def run(*command, cwd, **more):
    done = subprocess.run([str(part) for part in command], cwd=cwd, capture_output=True, text=True, **more)
    if done.returncode != 0:
        sys.exit(f"{' '.join(map(str, command))}:\n{done.stdout}\n{done.stderr}")
    return done.stdout


def node(name, *args):
    # Nobody is told that it ran, and no newer version is looked for.
    quiet = os.environ | {"REDOCLY_TELEMETRY": "off", "REDOCLY_SUPPRESS_UPDATE_NOTICE": "true"}
    return run(NODE / "node_modules/.bin" / name, *args, cwd=NODE, env=quiet)


def lint(document):
    """Neither of two linters finds anything in the document."""
    path = NODE / "openapi.json"
    path.write_text(json.dumps(document, indent=1))
    node("redocly", "lint", path, "--config", HERE / "redocly.yaml", "--format", "stylish")
    node("spectral", "lint", path, "--ruleset", HERE / "spectral.yaml", "--fail-severity", "hint")
    return path


def in_typescript(document, *who):
    for name in ["walk.ts", "tsconfig.json"]:
        shutil.copy(HERE / name, NODE)
    node("openapi-typescript", document, "--output", NODE / "api.ts")
    node("tsc", "--project", NODE)
    run("node", NODE / "out/walk.js", *who, cwd=NODE)


def without_the_unusual(document):
    """The document without what the Python generator cannot make code of: a second type of a body, and events."""
    known = json.loads(document.read_text())
    body = known["paths"]["/products/import"]["post"]["requestBody"]
    del body["content"]["text/csv"], known["paths"]["/events"]
    path = PYTHON / "openapi.json"
    path.write_text(json.dumps(known))
    return path


def in_python(document, *who):
    PYTHON.mkdir(exist_ok=True)
    config = PYTHON / "config.json"
    # As it was made: the tools that would make it prettier are not there.
    files = dict.fromkeys(["application/x-ndjson", "text/csv"], "application/octet-stream")
    config.write_text(json.dumps({"post_hooks": [], "content_type_overrides": files}))
    tools = Path(sys.executable).parent
    run(
        tools / "openapi-python-client", "generate", "--path", without_the_unusual(document), "--config", config, "--meta", "none",
        "--output-path", PYTHON / "shop_client", "--overwrite", "--fail-on-warning", cwd=PYTHON,
    )
    shutil.copy(HERE / "walk.py", PYTHON)
    run(tools / "mypy", "--strict", "walk.py", "shop_client", cwd=PYTHON)
    run(sys.executable, "-B", "walk.py", *who, cwd=PYTHON)


def check(document, url, admin):
    """Holds `document` against linters, and the clients that are made of it against the shop at `url`."""
    path = lint(document)
    for walk in [in_typescript, in_python]:
        walk(path, url, f"{uuid.uuid4().hex}@example.com", admin)

#!/opt/secantus/bin/python
"""Makes the root user on the first start, as the public image does, and runs SecantusDB with passwords on."""

import os
import subprocess
import time
from pathlib import Path

from pymongo import MongoClient
from pymongo.errors import PyMongoError

DATA = Path("/data/db")
SERVER = ["/opt/secantus/bin/secantusd-py", "--standalone", "--port", "27017", "--cache-size", "256M",
          "--storage-path", str(DATA / "store"), "--log-level", "WARNING"]


def make_root():
    """Adds the user while the server listens on loopback alone and asks for no password."""
    name, password = (os.environ[f"MONGO_INITDB_ROOT_{part}"] for part in ("USERNAME", "PASSWORD"))
    server = subprocess.Popen([*SERVER, "--host", "127.0.0.1"])
    for _ in range(300):
        try:
            MongoClient(serverSelectionTimeoutMS=200).admin.command("createUser", name, pwd=password, roles=["root"])
            break
        except PyMongoError:
            time.sleep(0.1)
    else:
        raise SystemExit("the server did not take its first user")
    server.terminate()
    server.wait()
    (DATA / "has-root").touch()


if not (DATA / "has-root").exists():
    make_root()
os.execv(SERVER[0], [*SERVER, "--auth", "--host", "0.0.0.0"])

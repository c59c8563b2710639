"""The servers that the shop is measured on; each is started on a folder and a port of its own."""

import os
import re
import shutil
import socket
import subprocess
from pathlib import Path
from typing import NamedTuple

from harness import CONNECTIONS, TARGET, Failure, find_program, free_port

# Speaks MongoDB's protocol, where there is no mongod; `make test` installs it.
STAND_IN = TARGET / "secantus/bin/secantusd-py"

# Connections of a worker to PostgreSQL, one of which is kept for reads: a few for each core do more than one for each client.
POOL = 17


class Programs(NamedTuple):
    """The paths of what is started; those of PostgreSQL and RabbitMQ are of the folders of their programs."""

    nginx: str
    haproxy: str
    redis: str
    postgres: Path
    mongodb: str
    rabbitmq: Path

    def describe_mongodb(self):
        """Which of the two it is: figures of the one say little about the other."""
        if self.mongodb == str(STAND_IN):
            return f"{STAND_IN.name}, a stand-in that speaks MongoDB's protocol"
        return "mongod"


def start_redis(bench):
    """Starts Redis, which keeps nothing on disk."""
    port = free_port()
    command = [bench.programs.redis, "--port", str(port), "--bind", "127.0.0.1",
               "--save", "", "--appendonly", "no"]
    return bench.start("redis", command, port, lambda: redis_commands(port), {})


def redis_url(redis):
    """Where app finds it."""
    return f"redis://127.0.0.1:{redis.port}"


def given_to(user, folder):
    """Gives a folder to the user of a server that refuses to be root's; returns the words by which root becomes that user."""
    if os.geteuid() != 0:
        return []
    shutil.chown(folder, user, user)
    return [find_program("setpriv", "util-linux"), "--reuid", user, "--regid", user, "--init-groups"]


def start_postgres(bench):
    """Starts PostgreSQL on a new cluster."""
    data, port = bench.folder / "postgres", free_port()
    data.mkdir(mode=0o700)
    become = given_to("postgres", data)
    programs = bench.programs.postgres
    initdb = [*become, programs / "initdb", "-D", data, "-U", "shop", "-A", "trust", "-E", "UTF8",
              "--locale=C", "--no-sync"]
    done = subprocess.run(initdb, cwd=bench.folder, env={}, capture_output=True, text=True)
    if done.returncode != 0:
        raise Failure(f"initdb: {done.stderr}")
    command = [*become, programs / "postgres", "-D", data, "-p", str(port), "-h", "127.0.0.1",
               "-k", "", "-c", "max_connections=200"]
    # It takes connections, and refuses them, before it is ready.
    ready = [programs / "pg_isready", "-q", "-h", "127.0.0.1", "-p", str(port)]
    return bench.start("postgres", command, port, lambda: subprocess.run(ready, check=True), {})


def postgres_url(postgres, database="postgres"):
    """Where app finds it."""
    return f"postgres://shop@127.0.0.1:{postgres.port}/{database}?sslmode=disable"


def create_database(bench, postgres, name):
    """Makes another database."""
    command = [bench.programs.postgres / "createdb", "-h", "127.0.0.1", "-p", str(postgres.port), "-U", "shop", name]
    subprocess.run(command, cwd=bench.folder, env={}, check=True)


def pgbench(bench, postgres, script, seconds, database="postgres"):
    """Transactions a second of the SQL in the file `script`, of as many clients as the shop has."""
    command = [bench.programs.postgres / "pgbench", "-n", "-M", "prepared", "-c", str(CONNECTIONS), "-T", str(seconds),
               "-f", script, "-h", "127.0.0.1", "-p", str(postgres.port), "-U", "shop", database]
    done = subprocess.run(command, cwd=bench.folder, capture_output=True, text=True, env={})
    rate = re.search(r"^tps = ([\d.]+)", done.stdout, re.MULTILINE)
    if done.returncode != 0 or not rate:
        raise Failure(f"pgbench: {done.stderr}")
    return float(rate[1])


def start_rabbitmq(bench):
    """Starts RabbitMQ, and the port mapper that it asks, which is no other node's."""
    data, port, mapper = bench.folder / "rabbitmq", free_port(), free_port()
    data.mkdir()
    (data / "plugins").write_text("[].")
    become = given_to("rabbitmq", data)
    bench.start("epmd", ["/usr/bin/epmd", "-address", "127.0.0.1", "-port", str(mapper)], mapper,
                lambda: socket.create_connection(("127.0.0.1", mapper), timeout=5).close(), {})
    settings = {
        "MNESIA_BASE": data / "mnesia", "LOG_BASE": data / "log", "ENABLED_PLUGINS_FILE": data / "plugins",
        "CONFIG_FILE": data / "none", "CONF_ENV_FILE": "/dev/null", "LOGS": "-", "NODENAME": f"bench-{port}@localhost",
        "NODE_IP_ADDRESS": "127.0.0.1", "NODE_PORT": port, "DIST_PORT": free_port()}
    environment = {f"RABBITMQ_{name}": str(value) for name, value in settings.items()} | {
        "HOME": str(data), "PATH": os.environ["PATH"], "ERL_EPMD_PORT": str(mapper), "ERL_EPMD_ADDRESS": "127.0.0.1",
        # Its shell script becomes the server.
        "RUNNING_UNDER_SYSTEMD": "true"}
    return bench.start("rabbitmq", [*become, bench.programs.rabbitmq / "rabbitmq-server"], port,
                       lambda: socket.create_connection(("127.0.0.1", port), timeout=5).close(), environment)


def rabbitmq_url(rabbitmq):
    """Where app finds it."""
    return f"amqp://127.0.0.1:{rabbitmq.port}"


def start_mongodb(bench):
    """Starts mongod, or what stands in for it."""
    data, port = bench.folder / "mongodb", free_port()
    data.mkdir()
    program = bench.programs.mongodb
    words = ["--host", "127.0.0.1", "--storage-path", data]
    if program != str(STAND_IN):
        words = ["--bind_ip", "127.0.0.1", "--dbpath", data]
    command = [program, "--port", str(port), *words]
    place = "127.0.0.1", port
    return bench.start("mongodb", command, port,
                       lambda: socket.create_connection(place, timeout=5).close(), {})


def mongodb_url(mongodb, database):
    """Where app finds it."""
    return f"mongodb://127.0.0.1:{mongodb.port}/{database}"


def redis_commands(port):
    """How often Redis was asked what so far, without what is asked to watch it."""
    with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
        connection.sendall(b"*2\r\n$4\r\nINFO\r\n$12\r\ncommandstats\r\n")
        answer = connection.makefile("rb")
        kind = answer.readline()
        if not kind.startswith(b"$"):
            raise Failure(f"Redis answered INFO with {kind!r}")
        text = answer.read(int(kind[1:])).decode()
    calls = re.findall(r"^cmdstat_([^:]+):calls=(\d+)", text, re.MULTILINE)
    return {name: int(number) for name, number in calls if name not in ("info", "ping")}


def find_postgres():
    """The folder of PostgreSQL's programs, which Debian keeps out of PATH; the newest it has."""
    found = Path("/usr/lib/postgresql").glob("*/bin/initdb")
    found = max(found, key=lambda path: float(path.parts[-3]), default=None)
    return (found or Path(find_program("initdb", "postgresql"))).parent


def find_mongodb():
    """The path of mongod, or of what stands in for it."""
    path = shutil.which("mongod") or str(STAND_IN)
    if not os.access(path, os.X_OK):
        raise Failure("mongod is not installed; make test installs what stands in for it")
    return path


def find_rabbitmq():
    """The folder of RabbitMQ's programs, of which Debian puts others into PATH, which want to be root's."""
    folder = Path("/usr/lib/rabbitmq/bin")
    if not (folder / "rabbitmq-server").exists():
        folder = Path(find_program("rabbitmq-server", "rabbitmq-server")).parent
    return folder

#!/usr/bin/env python3
"""Measures the release binary against its goals, and its gateway against nginx, in one run.

Usage: bench.py [--seconds N] [--rounds N]

Needs `cargo build --release` before, and the programs wrk and nginx. A goal that is not met is
printed as such and fails nothing; an error answer, a broken connection or a server that does not
start ends the run with status 1.

Every server has one worker and writes no access log. In each round every case goes through all
topologies in turn, so that noise of the machine hits all of them alike. CPU per request is what
separates them: requests/s also depends on what wrk leaves of the machine.
"""

import argparse
import http.client
import json
import os
import re
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

BINARY = Path(__file__).resolve().parents[2] / "target/release/app"
CONNECTIONS, STARTS, PRODUCTS = 64, 11, 20
WELCOME, LIST, DASHBOARD = "GET /", "GET /products", "GET /auth/dashboard/{id}"
# app closes no connection after so and so many requests, so nginx shall not either.
NO_END = "keepalive_requests 1000000000;"


class Failure(Exception):
    """Why the run cannot go on, in one line."""


class Server(NamedTuple):
    """A server process that answers; `start` is the milliseconds from exec to its first 200."""

    process: subprocess.Popen
    port: int
    start: float


class Topology(NamedTuple):
    """Processes that answer together: clients talk to `front`, whose CPU is also counted alone."""

    name: str
    port: int
    front: list[int]
    behind: list[int]
    paths: dict[str, str]


class Sample(NamedTuple):
    """One run of wrk: latencies in milliseconds, CPU in microseconds per request."""

    rate: float
    p50: float
    p99: float
    front: float
    all: float


class Bench:
    """A temporary folder and the servers started in it; leaving stops them and removes it."""

    def __init__(self):
        self.processes = {}
        self.temporary = tempfile.TemporaryDirectory(prefix="bench-")
        self.folder = Path(self.temporary.name)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for name in reversed(list(self.processes)):
            self.stop(name)
        self.temporary.cleanup()

    def stop(self, name):
        """Asks a server to stop; after 5 s makes it, and all that it started."""
        process = self.processes.pop(name)
        process.terminate()
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def check(self):
        """Every server must still run; that one has ended explains what else went wrong."""
        for name, process in self.processes.items():
            if process.poll() is not None:
                log = (self.folder / f"{name}.log").read_text()
                raise Failure(f"{name} ended by itself, status {process.returncode}: {log}")

    def start(self, name, command, port, probe, environment):
        """Starts a server and returns once `probe`, a port and a path, is answered 200.

        Its environment is this one and no other: a setting of the caller's shell must not count.
        It leads a session, so that what it starts can be stopped with it.
        """
        log = self.folder / f"{name}.log"
        with log.open("w") as errors:
            begin = time.perf_counter()
            process = subprocess.Popen(
                command, cwd=self.folder, env=environment, stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL, stderr=errors, start_new_session=True)
        self.processes[name] = process
        while True:
            try:
                fetch(*probe)
                return Server(process, port, (time.perf_counter() - begin) * 1e3)
            except (Failure, OSError, http.client.HTTPException) as error:
                self.check()
                if time.perf_counter() - begin > 15:
                    raise Failure(f"{name} does not start: {error}") from None
            time.sleep(0.001)

    def app(self, name, settings, role=None, probe="/readyz", **peers):
        """Starts app with one role, or all of them, on ports of its own."""
        listen, management = free_port(), free_port()
        first = role or "gateway"
        settings = settings | {f"{first}.listen": f"127.0.0.1:{listen}",
                               f"{first}.management": f"127.0.0.1:{management}"}
        command = [BINARY, *flags(settings), *(["--role", role] if role else [])]
        quiet = {"APP__SERVER__WORKERS": "1", "RUST_LOG": "warn", "LOG_FORMAT": "json"}
        probe = (management if probe == "/readyz" else listen), probe
        return self.start(name, command, listen, probe, quiet | peers)

    def embedded(self, name):
        """Settings of embedded stores in a folder of this name, with products in them."""
        settings = {f"{role}.database_url": f"sqlite://{self.folder}/{name}/{role}.db"
                    for role in ("user", "product")}
        command = [BINARY, *flags(settings), "seed", "--products", str(PRODUCTS)]
        subprocess.run(command, cwd=self.folder, env={}, stdout=subprocess.DEVNULL, check=True)
        return settings


def flags(settings):
    """The settings as the command line has them."""
    return [word for key, value in settings.items() for word in ("--set", f"{key}={value}")]


def free_port():
    """A port where nothing listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def fetch(port, path, payload=None):
    """GETs `path`, or POSTs a payload to it; returns headers and body of what must be a success."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        headers = {"Content-Type": "application/json"} if payload else {}
        connection.request("POST" if payload else "GET", path, payload, headers)
        response = connection.getresponse()
        body = response.read()
    finally:
        connection.close()
    if response.status not in (200, 201):
        raise Failure(f"{path} was answered {response.status}: {body.decode(errors='replace')}")
    return response.headers, body


def all_in_one(bench):
    """Every role in one process."""
    app = bench.app("all", bench.embedded("one"))
    return Topology("all in one", app.port, [app.process.pid], [], shop_paths(app))


def three_processes(bench):
    """A process for each role; they talk HTTP."""
    stores = bench.embedded("three")
    product = bench.app("product", stores, "product")
    to_product = {"PRODUCT_URL": f"http://127.0.0.1:{product.port}"}
    user = bench.app("user", stores, "user", **to_product)
    to_user = {"USER_URL": f"http://127.0.0.1:{user.port}"}
    gateway = bench.app("gateway", stores, "gateway", **to_product, **to_user)
    behind = [user.process.pid, product.process.pid]
    paths = shop_paths(gateway)
    return Topology("three processes", gateway.port, [gateway.process.pid], behind, paths)


# Another topology, on other stores for example, is one more function here.
SHOPS = (all_in_one, three_processes)


def shop_paths(gateway):
    """The paths of the cases behind `gateway`. The dashboard is that of a new account."""
    account = json.dumps({"username": "Bench", "email": "bench@example.com"})
    user = json.loads(fetch(gateway.port, "/auth/register", account)[1])
    return {WELCOME: "/", LIST: "/products", DASHBOARD: f"/auth/dashboard/{user['id']}"}


def cached_list(shop):
    """The bytes of the product list, once they come from the cache, as those under load shall."""
    fetch(shop.port, "/products")
    headers, body = fetch(shop.port, "/products")
    if headers["X-Cache"] != "HIT":
        raise Failure(f"{shop.name}: /products does not come from the cache")
    return body


def nginx_proxy(bench, nginx, body):
    """The yardstick: nginx with a rate limit, before an nginx that has the list as a file."""
    (bench.folder / "products").write_bytes(body)
    origin = start_nginx(bench, nginx, "origin", "", f"root {bench.folder}; sendfile on;")
    zone = f"""
        limit_req_zone $binary_remote_addr zone=clients:1m rate=1000000r/s;
        upstream origin {{ server 127.0.0.1:{origin.port}; keepalive {CONNECTIONS}; {NO_END} }}"""
    proxy = start_nginx(bench, nginx, "proxy", zone, """
        location / {
            limit_req zone=clients burst=100000 nodelay;
            proxy_pass http://origin;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
        }""")
    paths = {LIST: "/products"}
    return Topology("nginx, nginx", proxy.port, workers(proxy), workers(origin), paths)


def start_nginx(bench, nginx, name, http_lines, server_lines):
    """Starts nginx with one worker, which leaves no file outside the bench's folder."""
    prefix, port = bench.folder / name, free_port()
    prefix.mkdir()
    modules = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    paths = " ".join(f"{module}_temp_path {module};" for module in modules)
    # Root's workers would become a user who may not read the folder.
    user = "user root root;" if os.geteuid() == 0 else ""
    (prefix / "nginx.conf").write_text(f"""
        worker_processes 1; daemon off; pid nginx.pid; error_log stderr; {user}
        events {{ worker_connections 1024; }}
        http {{
            access_log off; default_type application/json; tcp_nodelay on; {NO_END} {paths}
            {http_lines}
            server {{ listen 127.0.0.1:{port}; {server_lines} }}
        }}""")
    command = [nginx, "-p", prefix, "-c", prefix / "nginx.conf"]
    return bench.start(name, command, port, (port, "/products"), {})


def workers(server):
    """The processes that do the work of an nginx."""
    pid = server.process.pid
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def measure_idle(bench):
    """Start times in milliseconds, on data that is there, and then the idle memory in MB."""
    stores = bench.embedded("idle")
    bench.app("idle", stores)
    starts = []
    for _ in range(STARTS):
        bench.stop("idle")
        app = bench.app("idle", stores, probe="/")
        starts.append(app.start)
    time.sleep(3)
    bench.check()
    status = Path(f"/proc/{app.process.pid}/status").read_text()
    bench.stop("idle")
    return starts, int(re.search(r"VmRSS:\s+(\d+) kB", status)[1]) * 1024 / 1e6


def cpu(pids):
    """Microseconds of user and system time that the processes have used, all threads."""
    ticks = 0
    for pid in pids:
        # Behind the name in brackets, which may have blanks: utime is field 14 of all, stime 15.
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks * 1e6 / os.sysconf("SC_CLK_TCK")


def wrk(url, seconds):
    """Runs wrk and returns its text. Errors may be fast, so any of them ends the run."""
    command = ["wrk", "-t1", f"-c{CONNECTIONS}", f"-d{seconds}s", "--latency", url]
    done = subprocess.run(command, capture_output=True, text=True)
    wrong = re.search(r"Non-2xx.*|Socket errors.*", done.stdout)
    if wrong or done.returncode != 0:
        raise Failure(f"wrk {url}: {wrong[0] if wrong else done.stderr}")
    return done.stdout


def measure(topology, case, seconds):
    """One case on one topology, after a second in which caches and pools of connections fill."""
    url = f"http://127.0.0.1:{topology.port}{topology.paths[case]}"
    wrk(url, 1)
    front, behind = cpu(topology.front), cpu(topology.behind)
    text = wrk(url, seconds)
    front, behind = cpu(topology.front) - front, cpu(topology.behind) - behind
    requests = int(re.search(r"(\d+) requests in", text)[1])
    rate = float(re.search(r"Requests/sec: +([\d.]+)", text)[1])
    units = {"us": 1e-3, "ms": 1, "s": 1e3, "m": 6e4}
    latency = re.findall(r"^ +(?:50|99)% +([\d.]+)([a-z]+)", text, re.MULTILINE)
    p50, p99 = (float(number) * units[unit] for number, unit in latency)
    return Sample(rate, p50, p99, front / requests, (front + behind) / requests)


def measure_load(topologies, rounds, seconds):
    """The samples of all rounds, by case and topology, in the order of their CPU per request."""
    pairs = [(case, topology) for case in (WELCOME, LIST, DASHBOARD)
             for topology in topologies if case in topology.paths]
    samples = {(case, topology.name): [] for case, topology in pairs}
    for number in range(rounds):
        for case, topology in pairs:
            if sys.stderr.isatty():
                line = f"round {number + 1} of {rounds}: {case}, {topology.name}"
                print(f"{line:60}", end="\r", file=sys.stderr, flush=True)
            samples[case, topology.name].append(measure(topology, case, seconds))
    return {key: sorted(taken, key=lambda sample: sample.front) for key, taken in samples.items()}


def table(title, head, rows, left=1):
    """Prints rows of text, the first `left` columns flush left and the others flush right."""
    widths = [max(map(len, column)) for column in zip(head, *rows)]
    print(f"\n{title}\n", flush=True)
    for row in (head, ["-" * width for width in widths], *rows):
        print("  ".join(f"{cell:{'<' if column < left else '>'}{width}}"
                        for column, (cell, width) in enumerate(zip(row, widths))))


def goal(name, value, unit, limit, digits=1):
    """A row with a figure beside its goal; they are compared before the figure is rounded."""
    verdict = "met" if value <= limit else "NOT met"
    return [name, f"{value:.{digits}f} {unit}", f"<= {limit:g} {unit}", verdict]


def print_idle(starts, memory):
    """What the program costs before anybody asks it for anything."""
    start = f"exec to first 200 on {WELCOME}, {{}} of {STARTS} starts"
    rows = [goal("binary size", BINARY.stat().st_size / 1e6, "MB", 30),
            goal(start.format("median"), statistics.median(starts), "ms", 100),
            goal(start.format("slowest"), max(starts), "ms", 100),
            goal("resident memory after 3 s idle", memory, "MB", 30)]
    title = "Footprint: every role in one process, on a data folder that exists"
    table(title, ["figure", "measured", "goal", "verdict"], rows)


def print_load(samples):
    """The load, each figure that of the median round, and its goals."""
    median = {key: taken[(len(taken) - 1) // 2] for key, taken in samples.items()}
    rows = [[*key, f"{middle.rate:.0f}", f"{middle.p50:.2f}", f"{middle.p99:.2f}",
             f"{middle.front:.2f}", f"{samples[key][0].front:.2f}-{samples[key][-1].front:.2f}",
             f"{middle.all:.2f}"] for key, middle in median.items()]
    head = ["case", "served by", "requests/s", "p50 ms", "p99 ms", "front us", "range", "all us"]
    title = "Load; CPU per request of the process in front, its range, and that of all processes"
    table(title, head, rows, left=2)
    one = median[LIST, "all in one"].front
    ratio = median[LIST, "three processes"].front / median[LIST, "nginx, nginx"].front
    rows = [goal(f"CPU per cached {LIST}, all in one", one, "us", 15, digits=2),
            goal(f"CPU per cached {LIST}, gateway / nginx as proxy", ratio, "x", 1, digits=3)]
    table("Goals of the load", ["figure", "measured", "goal", "verdict"], rows)


def find_program(name, package):
    """The path of a program; servers are often where only root looks for programs."""
    path = shutil.which(name, path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin")
    if path is None:
        raise Failure(f"{name} is not installed; on Debian: apt install {package}")
    return path


def run(rounds, seconds):
    """The whole run."""
    find_program("wrk", "wrk")
    nginx = find_program("nginx", "nginx-light")
    if not BINARY.is_file():
        raise Failure("target/release/app is missing; run cargo build --release")
    model = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    print(f"{os.cpu_count()} cores, {model[1] if model else 'model unknown'}; one worker a server")
    print(f"wrk: 1 thread, {CONNECTIONS} connections, {seconds} s a case; median of {rounds}")
    with Bench() as bench:
        print_idle(*measure_idle(bench))
        topologies = [start(bench) for start in SHOPS]
        lists = [cached_list(shop) for shop in topologies]
        if len(set(lists)) != 1:
            raise Failure("the topologies do not answer /products with the same bytes")
        topologies.append(nginx_proxy(bench, nginx, lists[0]))
        try:
            print_load(measure_load(topologies, rounds, seconds))
        except Failure:
            bench.check()
            raise


def main():
    """Reads the command line; a failure becomes one line and status 1."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=int, default=8, help="of load for each case (default: 8)")
    parser.add_argument("--rounds", type=int, default=3, help="through all cases (default: 3)")
    arguments = parser.parse_args()
    if min(arguments.seconds, arguments.rounds) < 1:
        parser.error("--seconds and --rounds must be at least 1")
    # So that whoever ends this process also ends its servers.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        run(arguments.rounds, arguments.seconds)
    except (Failure, subprocess.CalledProcessError) as failure:
        sys.exit(f"bench: {' '.join(str(failure).split())}")


if __name__ == "__main__":
    main()

"""What every section of the benchmark uses: servers, the load on them, and the tables of figures."""

import http.client
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

TARGET = Path(__file__).resolve().parents[2] / "target"
# Which one is measured, or trained.
BINARY = Path(os.environ.get("APP_BINARY", TARGET / "release/app")).resolve()
CONNECTIONS, PRODUCTS = 64, 20
# Where a program that `make train` has built writes what it counts.
COUNTS = {name: value for name, value in os.environ.items() if name == "LLVM_PROFILE_FILE"}
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
    redis: int | None = None


class Sample(NamedTuple):
    """One run of wrk: latencies in milliseconds, CPU in microseconds per request.

    The instructions are those per request of the processes in front, outside the kernel; none where
    they were not counted.
    """

    rate: float
    p50: float
    p99: float
    front: float
    all: float
    instructions: float | None = None


class Bench:
    """A temporary folder and the servers started in it; leaving stops them and removes it."""

    def __init__(self, programs):
        self.programs = programs
        self.processes = {}
        self.temporary = tempfile.TemporaryDirectory(prefix="bench-")
        self.folder = Path(self.temporary.name)
        # PostgreSQL runs as another user, who has to get to its folder in this one.
        self.folder.chmod(0o711)

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
        """Starts a server and returns once `probe` does not raise any more.

        Its environment is this one and no other: a setting of the caller's shell must not count.
        It leads a session, so that what it starts can be stopped with it.
        """
        log = self.folder / f"{name}.log"
        with log.open("w") as errors:
            begin = time.perf_counter()
            process = subprocess.Popen(
                command, cwd=self.folder, env=COUNTS | environment, stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL, stderr=errors, start_new_session=True)
        self.processes[name] = process
        while True:
            try:
                probe()
                return Server(process, port, (time.perf_counter() - begin) * 1e3)
            except (Failure, OSError, http.client.HTTPException,
                    subprocess.CalledProcessError) as error:
                self.check()
                if time.perf_counter() - begin > 15:
                    raise Failure(f"{name} does not start: {error}") from None
            time.sleep(0.001)

    def app(self, name, settings, role=None, probe="/readyz", management=None, **peers):
        """Starts app with one role, or all of them, on ports of its own.

        It has started when it answers `probe`, or without one when it accepts connections.
        """
        listen, management = free_port(), management or free_port()
        first = role or "gateway"
        settings = settings | {f"{first}.listen": f"127.0.0.1:{listen}",
                               f"{first}.management": f"127.0.0.1:{management}"}
        command = [BINARY, *flags(settings), *(["--role", role] if role else [])]
        quiet = {"APP__SERVER__WORKERS": "1", "RUST_LOG": "warn", "LOG_FORMAT": "json",
                 "APP__AUTH__MODE": "open"}
        place = (management if probe == "/readyz" else listen), probe

        def check():
            if probe:
                fetch(*place)
            else:
                socket.create_connection(("127.0.0.1", listen)).close()

        return self.start(name, command, listen, check, quiet | peers)

    def embedded(self, name):
        """Settings of embedded stores in a folder of this name, with products in them."""
        settings = {f"{role}.database_url": f"sqlite://{self.folder}/{name}/{role}.db"
                    for role in ("user", "product", "order")}
        self.seed(PRODUCTS, settings)
        return settings

    def seed(self, products, settings, **environment):
        """Puts the first products of the seed's catalogue into a store; returns the seconds."""
        command = [BINARY, *flags(settings), "seed", "--products", str(products)]
        begin = time.perf_counter()
        subprocess.run(command, cwd=self.folder, env=COUNTS | environment, stdout=subprocess.DEVNULL,
                       check=True)
        return time.perf_counter() - begin


def flags(settings):
    """The settings as the command line has them."""
    return [word for key, value in settings.items() for word in ("--set", f"{key}={value}")]


def free_port():
    """A port where nothing listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def exchange(port, path, payload=None, method=None, **headers):
    """GETs `path`, or POSTs a payload to it, or what `method` says; returns status, headers and body."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request(method or ("POST" if payload else "GET"), path, payload, headers)
        response = connection.getresponse()
        return response.status, response.headers, response.read()
    finally:
        connection.close()


def post_script(bench, name, body):
    """The options by which wrk POSTs `body` as JSON."""
    path = bench.folder / f"{name}.lua"
    path.write_text(f"""wrk.method, wrk.body = "POST", {json.dumps(json.dumps(body))}
        wrk.headers["Content-Type"] = "application/json" """)
    return "-s", str(path)


def fetch(port, path, payload=None):
    """The same, of what must be a success; returns its headers and body."""
    headers = {"Content-Type": "application/json"} if payload else {}
    status, headers, body = exchange(port, path, payload, **headers)
    if status not in (200, 201):
        raise Failure(f"{path} was answered {status}: {body.decode(errors='replace')}")
    return headers, body


def start_nginx(bench, nginx, name, http_lines, server_lines, probe="/products", probe_port=None,
                connections=1024):
    """Starts nginx with one worker, which leaves no file outside the bench's folder.

    It has started once it answers at the path `probe`, on a port that may be another than the one
    that it is given here.
    """
    prefix, port = bench.folder / name, free_port()
    prefix.mkdir()
    modules = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    paths = " ".join(f"{module}_temp_path {module};" for module in modules)
    # Root's workers would become a user who may not read the folder.
    user = "user root root;" if os.geteuid() == 0 else ""
    (prefix / "nginx.conf").write_text(f"""
        worker_processes 1; daemon off; pid nginx.pid; error_log stderr; {user}
        events {{ worker_connections {connections}; }}
        http {{
            access_log off; default_type application/json; tcp_nodelay on; {NO_END} {paths}
            {http_lines}
            server {{ listen 127.0.0.1:{port}; {server_lines} }}
        }}""")
    command = [nginx, "-p", prefix, "-c", prefix / "nginx.conf"]
    return bench.start(name, command, port, lambda: fetch(probe_port or port, probe), {})


def workers(server):
    """The processes that do the work of an nginx."""
    pid = server.process.pid
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def cpu(pids):
    """Microseconds of user and system time that the processes have used, all threads."""
    # The number of a process's clock, as clock_getcpuclockid(3) makes it: it counts nanoseconds,
    # where /proc counts ticks, too coarse for the few requests that a slow store answers.
    return sum(time.clock_gettime(~pid << 3 | 2) for pid in pids) * 1e6


def wrk(url, seconds, *options):
    """Runs wrk and returns its text. Errors may be fast, so any of them ends the run."""
    command = ["wrk", "-t1", f"-c{CONNECTIONS}", f"-d{seconds}s", "--latency", *options, url]
    done = subprocess.run(command, capture_output=True, text=True)
    wrong = re.search(r"Non-2xx.*|Socket errors.*", done.stdout)
    if wrong or done.returncode != 0:
        raise Failure(f"wrk {url}: {wrong[0] if wrong else done.stderr}")
    return done.stdout


class Instructions:
    """Counts what the processes execute outside the kernel, as far as perf and the machine can."""

    def __init__(self, pids):
        processes = ",".join(map(str, pids))
        command = ["perf", "stat", "-x", ",", "-e", "instructions:u", "-p", processes]
        # It sends where it cannot count another text than a number, and where there is none, none.
        self.perf = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                     stderr=subprocess.PIPE, text=True)
        # Until it is attached.
        time.sleep(0.3)

    def stop(self):
        """The number so far, or none."""
        self.perf.send_signal(signal.SIGINT)
        found = re.match(r"(\d+),", self.perf.communicate()[1])
        return int(found[1]) if found else None


def measure(topology, case, seconds, *options, instructions=False):
    """One case on one topology, after a second in which caches and pools of connections fill."""
    url = f"http://127.0.0.1:{topology.port}{topology.paths[case]}"
    wrk(url, 1, *options)
    counter = Instructions(topology.front) if instructions else None
    front, behind = cpu(topology.front), cpu(topology.behind)
    text = wrk(url, seconds, *options)
    front, behind = cpu(topology.front) - front, cpu(topology.behind) - behind
    executed = counter.stop() if counter else None
    requests = int(re.search(r"(\d+) requests in", text)[1])
    rate = float(re.search(r"Requests/sec: +([\d.]+)", text)[1])
    units = {"us": 1e-3, "ms": 1, "s": 1e3, "m": 6e4}
    latency = re.findall(r"^ +(?:50|99)% +([\d.]+)([a-z]+)", text, re.MULTILINE)
    p50, p99 = (float(number) * units[unit] for number, unit in latency)
    return Sample(rate, p50, p99, front / requests, (front + behind) / requests,
                  executed and executed / requests)


def counts_instructions():
    """Whether perf is there, and counts; many virtual machines do not let it."""
    return shutil.which("perf") is not None and Instructions([os.getpid()]).stop() is not None


def progress(line):
    """Says what is going on, where somebody looks."""
    if sys.stderr.isatty():
        print(f"{line:60}", end="\r", file=sys.stderr, flush=True)


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
    return [name, f"{value:.{digits}f} {unit}".strip(), f"<= {limit:g} {unit}".strip(), verdict]


def find_program(name, package):
    """The path of a program; servers are often where only root looks for programs."""
    path = shutil.which(name, path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin")
    if path is None:
        raise Failure(f"{name} is not installed; on Debian: apt install {package}")
    return path

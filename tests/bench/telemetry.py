"""What it costs to look inside: traces that are off, sampled at 1 % and at 100 %, a collector that is away, and scrapes.

All roles in one process, and cached lists. The collector takes what it gets and forgets it; its CPU time is not counted.
"""

import re
import statistics
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from harness import CONNECTIONS, Topology, exchange, fetch, free_port, goal, measure, progress, table, wrk

LIST = "/products"
# Microseconds of CPU that a request may take more.
SHARES = {"at 1 %": ("0.01", 2.0), "at 100 %": ("1", 10.0)}
# Seconds with no collector, and how many MB the process may grow in the later half of them.
ALONE, GROWTH = 60, 4
# Series of a process that is asked for its metrics, and milliseconds until it has answered.
SERIES, SCRAPE = 2_000, 5
SCRAPES = 50


class Sink(BaseHTTPRequestHandler):
    """Takes all spans."""

    protocol_version = "HTTP/1.1"

    def do_POST(self):
        """Reads the request and says that all is well."""
        self.rfile.read(int(self.headers["content-length"]))
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_):
        """Says nothing."""


def run(bench, rounds, seconds):
    """Measures all of it and prints it."""
    shares(bench, rounds, seconds)
    alone(bench)
    scrapes(bench)


def start(bench, name, **environment):
    """A shop with 20 products, whose management port is known."""
    management = free_port()
    app = bench.app(name, bench.embedded(name), management=management, **environment)
    return Topology(name, app.port, [app.process.pid], [], {LIST: LIST}), management


def shares(bench, rounds, seconds):
    """CPU time of a request with traces off and on, in the same run."""
    sink = ThreadingHTTPServer(("127.0.0.1", 0), Sink)
    threading.Thread(target=sink.serve_forever, daemon=True).start()
    endpoint = f"http://127.0.0.1:{sink.server_port}"
    shops = {"off": start(bench, "off")[0]}
    for name, (share, _) in SHARES.items():
        shops[name] = start(bench, name, OTEL_EXPORTER_OTLP_ENDPOINT=endpoint,
                            OTEL_TRACES_SAMPLER="parentbased_traceidratio", OTEL_TRACES_SAMPLER_ARG=share)[0]
    taken = {name: [] for name in shops}
    for number in range(rounds):
        progress(f"round {number + 1} of {rounds}: traces")
        for name, shop in shops.items():
            taken[name].append(measure(shop, LIST, seconds))
    off = [sample.front for sample in taken["off"]]
    rows = []
    for name, samples in taken.items():
        cost = statistics.median(sample.front for sample in samples)
        more = statistics.median(sample.front - other for sample, other in zip(samples, off))
        rate = statistics.median(sample.rate for sample in samples)
        limit = SHARES.get(name, (None, None))[1]
        verdict = "-" if limit is None else "met" if more <= limit else "not met"
        rows.append([name, f"{rate:.0f}", f"{cost:.2f}", f"{more:+.2f}", f"<= {limit}" if limit else "-", verdict])
    table(f"Traces, {LIST} from the cache, all in one process, {CONNECTIONS} connections",
          ["traces", "requests/s", "CPU us", "more than off", "goal", "verdict"], rows)
    sink.shutdown()


def anonymous(pid):
    """Memory that no file backs, in MB."""
    text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    return int(re.search(r"^Anonymous: +(\d+) kB", text, re.MULTILINE)[1]) / 1024


def value(text, name):
    """The sum of a metric's series, leaving out those of spans that went well."""
    lines = re.findall(rf"^{name}(\{{[^}}]*\}})? ([\d.e+]+)$", text, re.MULTILINE)
    return sum(float(number) for labels, number in lines if 'error_type=""' not in labels)


def alone(bench):
    """Memory and drops while the collector is away and all traces are sampled."""
    shop, management = start(bench, "alone", OTEL_EXPORTER_OTLP_ENDPOINT=f"http://127.0.0.1:{free_port()}",
                             OTEL_TRACES_SAMPLER="always_on")
    [pid] = shop.front
    url = f"http://127.0.0.1:{shop.port}{LIST}"
    progress(f"{ALONE} s without a collector")
    wrk(url, ALONE // 2)
    half = anonymous(pid)
    begun = time.perf_counter()
    text = wrk(url, ALONE // 2)
    grown = anonymous(pid) - half
    rate = float(re.search(r"Requests/sec: +([\d.]+)", text)[1])
    _, metrics = fetch(management, "/metrics")
    dropped = value(metrics.decode(), "otel_sdk_processor_span_processed_total")
    table(f"Without the collector, {ALONE} s",
          ["figure", "measured", "goal", "verdict"],
          [["requests/s", f"{rate:.0f}", "-", "-"],
           goal(f"growth in the last {time.perf_counter() - begun:.0f} s", max(grown, 0), "MB", GROWTH),
           ["spans that were dropped and counted", f"{dropped:.0f}", "> 0", "met" if dropped else "not met"]])


def scrapes(bench):
    """How long a scrape takes with many series."""
    shop, management = start(bench, "scrapes")
    methods = ["GET", "HEAD", "PUT", "PATCH", "DELETE"]
    paths = [f"/{first}/{second}" for first in ("products", "orders", "auth", "webhooks") for second in ("a", "b/c", "d/e/f")]
    for method in methods:
        for path in paths:
            exchange(shop.port, path, method=method)
    times, series = [], 0
    for _ in range(SCRAPES):
        begun = time.perf_counter()
        _, text = fetch(management, "/metrics")
        times.append((time.perf_counter() - begun) * 1e3)
        series = sum(not line.startswith(b"#") for line in text.splitlines())
    took = statistics.median(times)
    table("Scrapes", ["figure", "measured", "goal", "verdict"],
          [["series", f"{series:,}", f"about {SERIES:,}", "-"], goal("a scrape, median", took, "ms", SCRAPE)])

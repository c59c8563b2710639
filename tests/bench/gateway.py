"""The section `gateway`: app as nothing but a proxy, beside nginx and HAProxy that are set to do the same.

Each takes requests by one worker on kept connections, gives them an id, counts them by address
against a limit that none reaches, counts them for whoever watches, says to the upstream which way
they have come, and passes them on over kept connections to one nginx. What stays different: app
tells its clients the limit (`RateLimit`), and counts durations by route, method and status. HAProxy
counts requests by status, and nginx, as Debian has it, only all of them together (`stub_status`).
"""

import http.client
import json
import os
import re
import resource
import statistics
import time
from pathlib import Path
from typing import NamedTuple

from harness import (
    CONNECTIONS, NO_END, Failure, Topology, counts_instructions, exchange, fetch, free_port, goal, measure,
    progress, start_nginx, table, workers)

CASE, PATH, SEEN = "GET /bench/answer", "/bench/answer", "/bench/seen"
# What the upstream answers: 2 KB.
SIZE = 2048
EMPTY = json.dumps({"answer": ""})
ANSWER = json.dumps({"answer": "x" * (SIZE - len(EMPTY))})
# Connections that do nothing, and how many the proxies are set to take at once.
IDLE = 1000
CAPACITY = IDLE + 2 * CONNECTIONS
# What the upstream sees of a request, by the name of the header.
HEADERS = ("x-request-id", "x-forwarded-for", "x-forwarded-proto", "x-forwarded-host", "forwarded", "via")
STRANGER = "203.0.113.66"


class Limit(NamedTuple):
    """So many requests of an address in each unit of time, `s` or `m`, and as many at once."""

    number: int
    unit: str


# Never reached, and soon reached. The clients that app can tell apart by default are those of the others too.
WIDE, TIGHT = Limit(100_000, "s"), Limit(1, "m")
CLIENTS = 65_536


class Front(NamedTuple):
    """A proxy: its processes, its worker first, and where and in what words it tells what it has counted."""

    shop: Topology
    processes: list[int]
    metrics: tuple[int, str]
    counted: str

    def count(self):
        """How many requests it says to have answered."""
        text = fetch(*self.metrics)[1].decode()
        return sum(int(number) for number in re.findall(self.counted, text, re.MULTILINE))


def start_origin(bench):
    """What all of them lead to: nginx, which answers out of its memory, or says what it has seen."""
    seen = "".join(f"{name}: $http_{name.replace('-', '_')}\\n" for name in HEADERS)
    return start_nginx(bench, bench.programs.nginx, "upstream", "", f"""
        location = {PATH} {{ return 200 '{ANSWER}'; }}
        location = {SEEN} {{ return 200 '{seen}'; }}
        location / {{ return 404; }}""", probe=PATH)


def route_to(origin, **route):
    """The environment of app's gateway that has one more route, to a service."""
    url = f"http://127.0.0.1:{origin.port}"
    route = {"PREFIX": "/bench", "UPSTREAM": "bench"} | route
    settings = {f"APP__GATEWAY__ROUTES__BENCH__{key}": value for key, value in route.items()}
    return settings | {"PRODUCT_URL": url, "USER_URL": url, "APP__GATEWAY__UPSTREAMS__BENCH__URLS": url}


def start_app(bench, origin, name, limit, **environment):
    """app, one role of it, with one more route, and with more settings in its environment."""
    settings = route_to(origin, LIMITS=f"{limit.number}/1{limit.unit} by address")
    management = free_port()
    app = bench.app(name, {}, "gateway", management=management, **settings, **environment)
    counted = r'^http_server_request_duration_seconds_count\{[^}]*http_route="bench"[^}]*\} (\d+)'
    return front("app", app, [app.process.pid], (management, "/metrics"), counted)


def start_proxy(bench, origin, name, limit):
    """nginx; its master process does none of the work, but takes memory."""
    status, path = free_port(), "/status"
    around = f"""
        limit_req_zone $binary_remote_addr zone=clients:{CLIENTS * 128} rate={limit.number}r/{limit.unit};
        limit_req_status 429;
        upstream origin {{ server 127.0.0.1:{origin.port}; keepalive {CONNECTIONS}; {NO_END} }}
        server {{ listen 127.0.0.1:{status}; location = {path} {{ stub_status; }} }}"""
    proxy = start_nginx(bench, bench.programs.nginx, name, around, f"""
        location / {{
            limit_req zone=clients burst={limit.number} nodelay;
            proxy_pass http://origin;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_set_header X-Request-Id $request_id;
            proxy_set_header X-Forwarded-For $remote_addr;
            proxy_set_header X-Forwarded-Proto $scheme;
            proxy_set_header X-Forwarded-Host $http_host;
            proxy_set_header Forwarded 'for=$remote_addr;proto=$scheme;host="$http_host"';
            proxy_set_header Via "1.1 shop";
            add_header X-Request-Id $request_id always;
        }}""", probe=path, probe_port=status, connections=CAPACITY)
    counted = r"^server accepts handled requests\n \d+ \d+ (\d+)"
    return front("nginx", proxy, workers(proxy), (status, path), counted, [proxy.process.pid])


def start_haproxy(bench, origin, name, limit):
    """HAProxy, one process of one thread."""
    port, metrics = free_port(), (free_port(), "/metrics")
    configuration = bench.folder / f"{name}.cfg"
    configuration.write_text(f"""
global
    nbthread 1
    maxconn {CAPACITY}
defaults
    mode http
    timeout connect 5s
    timeout client 75s
    timeout server 30s
    timeout http-keep-alive 75s
    http-reuse always
frontend proxy
    bind 127.0.0.1:{port}
    stick-table type ip size {CLIENTS} expire 1{limit.unit} store http_req_rate(1{limit.unit})
    http-request track-sc0 src
    http-request deny deny_status 429 if {{ sc_http_req_rate(0) gt {limit.number} }}
    unique-id-format %[uuid()]
    unique-id-header X-Request-Id
    http-request del-header X-Forwarded-For
    option forwardfor
    http-request set-header X-Forwarded-Proto http
    http-request set-header X-Forwarded-Host %[req.hdr(host)]
    http-request set-header Forwarded for=%[src];proto=http;host=\\"%[req.hdr(host)]\\"
    http-request add-header Via "1.1 shop"
    http-response set-header X-Request-Id %[unique-id]
    default_backend origin
backend origin
    server origin 127.0.0.1:{origin.port}
frontend metrics
    bind 127.0.0.1:{metrics[0]}
    http-request use-service prometheus-exporter if {{ path {metrics[1]} }}
""")
    haproxy = bench.start(name, [bench.programs.haproxy, "-db", "-f", configuration], port,
                          lambda: fetch(*metrics), {})
    counted = r'^haproxy_frontend_http_requests_total\{proxy="proxy"\} (\d+)'
    return front("HAProxy", haproxy, [haproxy.process.pid], metrics, counted)


def front(name, server, pids, metrics, counted, idle=()):
    """A proxy whose work is done in `pids`; the processes `idle` belong to it as well."""
    shop = Topology(name, server.port, pids, [], {CASE: PATH})
    return Front(shop, [*pids, *idle], metrics, counted)


STARTS = {"app": start_app, "nginx": start_proxy, "haproxy": start_haproxy}


def check_limit(bench, origin):
    """Every proxy must refuse who asks too often, or it does not count either where it never refuses."""
    for name, start in STARTS.items():
        name = f"{name}-tight"
        proxy = start(bench, origin, name, TIGHT)
        # nginx takes what may come at once besides the one that is due.
        answers = [exchange(proxy.shop.port, PATH)[0] for _ in range(3)]
        if (answers[0], answers[-1]) != (200, 429):
            raise Failure(f"{name} answers {answers} where one request a minute is allowed")
        bench.stop(name)


def check(proxy):
    """It must pass on the whole answer, tell both sides the request's id, and count the request."""
    name, port, before = proxy.shop.name, proxy.shop.port, proxy.count()
    status, headers, body = exchange(port, PATH)
    if status != 200 or body != ANSWER.encode() or not headers["X-Request-Id"]:
        raise Failure(f"{name} answers {status}, {len(body)} bytes, {dict(headers)}")
    if name == "app" and not headers["RateLimit"]:
        raise Failure(f"app does not tell the limit: {dict(headers)}")
    status, headers, body = exchange(port, SEEN, **{"X-Forwarded-For": STRANGER})
    seen = dict(line.split(": ", 1) for line in body.decode().splitlines())
    origin = f"127.0.0.1:{port}"
    wanted = {"x-request-id": headers["X-Request-Id"], "x-forwarded-for": "127.0.0.1",
              "x-forwarded-proto": "http", "x-forwarded-host": origin,
              "forwarded": f'for=127.0.0.1;proto=http;host="{origin}"', "via": "1.1 shop"}
    if status != 200 or seen != wanted:
        raise Failure(f"{name} says to the upstream {seen}, not {wanted}")
    if proxy.count() < before + 2:
        raise Failure(f"{name} has counted {before} requests, and after two more {proxy.count()}")


def resident(pids):
    """The resident memory of a proxy in MB, with what its processes share counted once.

    That is all of the first process, and what the others have for themselves: memory that is shared
    with strangers, such as the code of libraries, counts in full, as if each proxy were alone.
    """
    first, *others = (Path(f"/proc/{pid}/smaps_rollup").read_text() for pid in pids)
    sizes = re.findall(r"^Rss: +(\d+) kB", first, re.MULTILINE)
    for text in others:
        sizes += re.findall(r"^Private_(?:Clean|Dirty): +(\d+) kB", text, re.MULTILINE)
    return sum(map(int, sizes)) * 1024 / 1e6


def measure_idle(proxy):
    """The resident memory before there are any clients, and with those that have asked once and stay."""
    progress(f"{IDLE} idle connections: {proxy.shop.name}")
    before = resident(proxy.processes)
    clients = [http.client.HTTPConnection("127.0.0.1", proxy.shop.port, timeout=5) for _ in range(IDLE)]
    try:
        for client in clients:
            client.request("GET", PATH)
            if len(client.getresponse().read()) != SIZE:
                raise Failure(f"{proxy.shop.name} does not pass on the whole answer")
        time.sleep(1)
        if any(client.sock is None for client in clients):
            raise Failure(f"{proxy.shop.name} closes connections that shall be kept")
        return before, resident(proxy.processes)
    finally:
        for client in clients:
            client.close()


def measure_load(proxies, rounds, seconds):
    """For each proxy the samples, round by round; who is first changes from round to round."""
    instructions = counts_instructions()
    samples = {proxy.shop.name: [] for proxy in proxies}
    for number in range(rounds):
        turn = number % len(proxies)
        for proxy in (*proxies[turn:], *proxies[:turn]):
            progress(f"round {number + 1} of {rounds}: {proxy.shop.name}")
            sample = measure(proxy.shop, CASE, seconds, instructions=instructions)
            samples[proxy.shop.name].append(sample)
    return samples


def print_load(samples):
    """Medians of all rounds, each figure for itself."""
    rows = []
    for name, taken in samples.items():
        rates, p50s, p99s, cpus, _, instructions = zip(*taken)
        middle = statistics.median
        executed = "-" if None in instructions else f"{middle(instructions):.0f}"
        rows.append([name, f"{middle(rates):.0f}", f"{middle(p50s):.2f}", f"{middle(p99s):.2f}",
                     f"{min(p99s):.2f}-{max(p99s):.2f}", f"{middle(cpus):.2f}",
                     f"{min(cpus):.2f}-{max(cpus):.2f}", executed])
    head = ["proxy", "requests/s", "p50 ms", "p99 ms", "range", "CPU us", "range", "instructions"]
    title = (f"Gateway: {CASE}, {SIZE} bytes from an nginx, with request id, limit by address and metrics; CPU\n"
             "per request of the proxy alone, and instructions outside the kernel where perf can count them")
    table(title, head, rows)


def print_idle(memory):
    """Resident memory of each proxy, and what the connections add to it."""
    rows = [[name, f"{before:.2f}", f"{after:.2f}", f"{after - before:.2f}",
             f"{(after - before) * 1e3 / IDLE:.2f}"] for name, (before, after) in memory.items()]
    title = (f"Resident memory of all processes of a proxy, before and after {IDLE} connections that have "
             "asked\nonce and stay idle; what processes of one proxy share counts once")
    table(title, ["proxy", "before MB", "after MB", "growth MB", "kB a connection"], rows)


def compared(samples, figure, other):
    """For each round, app's figure as a multiple of the other's; and the text of their range."""
    ratios = [getattr(own, figure) / getattr(theirs, figure)
              for own, theirs in zip(samples["app"], samples[other])]
    return statistics.median(ratios), f" ({min(ratios):.3f}-{max(ratios):.3f})"


def print_goals(samples, memory):
    """app beside nginx, for which there are goals, and beside HAProxy, for which there are none."""
    rows = []
    for title, figure, limit in (("CPU per request", "front", 1), ("p99", "p99", 1.2)):
        for other in ("nginx", "HAProxy"):
            ratio, extent = compared(samples, figure, other)
            rows.append(goal(f"{title}, app / {other}, median of rounds (range)", ratio, "x", limit, 3))
            rows[-1][1] += extent
    growth = {name: after - before for name, (before, after) in memory.items()}
    total = {name: after for name, (_, after) in memory.items()}
    for title, figures in (("growth by", growth), ("total with", total)):
        for other in ("nginx", "HAProxy"):
            name = f"memory, {title} {IDLE} idle connections, app / {other}"
            rows.append(goal(name, figures["app"] / figures[other], "x", 2, 3))
    # Goals are those beside nginx.
    rows = [[*row[:2], "-", "-"] if "/ HAProxy" in row[0] else row for row in rows]
    table("Goals of the gateway", ["figure", "measured", "goal", "verdict"], rows)


def run(bench, rounds, seconds):
    """Starts the proxies, checks that they do the same, and prints what it costs each of them."""
    # For both ends of the idle connections; servers that are started have the same limit.
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(most, 4 * CAPACITY), most))
    print(f"\nload average before the section: {os.getloadavg()[0]:.2f}")
    origin = start_origin(bench)
    check_limit(bench, origin)
    proxies = [start(bench, origin, name, WIDE) for name, start in STARTS.items()]
    for proxy in proxies:
        check(proxy)
    memory = {proxy.shop.name: measure_idle(proxy) for proxy in proxies}
    samples = measure_load(proxies, rounds, seconds)
    print_load(samples)
    print_idle(memory)
    print_goals(samples, memory)

#!/usr/bin/env -S python3 -B
"""Measures the release binary against its goals, and beside nginx and HAProxy, in one run.

Usage: bench.py [--seconds N] [--rounds N] [--only SECTION ...] [--million-on-mongodb]

Needs `make release` before, the programs wrk, nginx and HAProxy, and the servers of Redis,
PostgreSQL and MongoDB, which it starts on folders and ports of its own. APP_BINARY in the
environment names another program than target/release/app. A goal that is not
met is printed as such and fails nothing; an error answer, a broken connection or a server that does
not start ends the run with status 1.

Every server has one worker and writes no access log. In each round every case goes through all
topologies in turn, so that noise of the machine hits all of them alike. CPU per request is what
separates them: requests/s also depends on what wrk leaves of the machine.
"""

import argparse
import base64
import json
import os
import random
import re
import signal
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

import files
import finding
import gateway
import orders
import telemetry
import writes
from harness import (
    BINARY, CONNECTIONS, NO_END, PRODUCTS, Bench, Failure, Topology, exchange, fetch, find_program, goal, measure,
    post_script, progress, start_nginx, table, workers, wrk)
from servers import (
    STAND_IN, Programs, find_mongodb, find_postgres, find_rabbitmq, mongodb_url, postgres_url, redis_commands, redis_url,
    start_mongodb, start_postgres, start_redis)

# Verifies passwords and does nothing else.
ARGON2 = BINARY.parent / "examples/argon2"
STARTS = 11
WELCOME, LIST, DASHBOARD = "GET /", "GET /products", "GET /auth/dashboard/{id}"
PAGE = "GET /products?cursor=C"
SECTIONS = ("idle", "load", "gateway", "pages", "expiry", "identity", "writes", "orders", "telemetry", "files", "catalogue")
# Lists that are asked for to count what they cost Redis.
TRIPS = 1000
# Of the uncached pages. What app allows its store for an answer has to do for all of them in a row.
PAGE_CONNECTIONS, PAGE_CURSORS, STORE_PATIENCE = 16, 2000, 2.0
CATALOGUES, MILLION = (1_000, 100_000), 1_000_000
# Logins at once, and passwords that are verified at once for them.
LOGINS, HASHING_THREADS = 8, 1
PASSWORD = "follow the white rabbit"
# When the seed's first product was added; each further one was a second later.
SEED_EPOCH = 1_704_067_200


class Catalogue(NamedTuple):
    """A product process alone that caches nothing; seconds of its seeding, and of one page."""

    store: str
    size: int
    seeding: float
    page: float
    script: Path
    shop: Topology

    def takes_load(self):
        """Whether the store is fast enough that no request of the load runs out of time."""
        return self.page * PAGE_CONNECTIONS < STORE_PATIENCE


def all_in_one(bench):
    """Every role in one process."""
    app = bench.app("all", bench.embedded("one"))
    return Topology("all in one", app.port, [app.process.pid], [], shop_paths(app))


def three_processes(bench):
    """A process for each role that these requests need; they talk HTTP."""
    return apart(bench, "three processes", bench.embedded("three"), {}, {})


def polyglot(bench):
    """The same on servers: accounts in PostgreSQL, products in MongoDB, cached lists in Redis."""
    postgres, mongodb, redis = start_postgres(bench), start_mongodb(bench), start_redis(bench)
    products = {"MONGODB_URL": mongodb_url(mongodb, "shop")}
    bench.seed(PRODUCTS, {}, **products)
    shop = apart(bench, "three processes, servers", {},
                 products | {"REDIS_URL": redis_url(redis)}, {"DATABASE_URL": postgres_url(postgres)})
    return shop._replace(redis=redis.port)


def apart(bench, name, stores, to_products, to_accounts):
    """A process for each role but the order role, with settings and the environment that leads two to their stores."""
    product = bench.app(f"{name}: product", stores, "product", **to_products)
    to_product = {"PRODUCT_URL": f"http://127.0.0.1:{product.port}"}
    user = bench.app(f"{name}: user", stores, "user", **to_product, **to_accounts)
    to_user = {"USER_URL": f"http://127.0.0.1:{user.port}"}
    gateway = bench.app(f"{name}: gateway", stores, "gateway", **to_product, **to_user)
    behind = [user.process.pid, product.process.pid]
    return Topology(name, gateway.port, [gateway.process.pid], behind, shop_paths(gateway))


# Another topology, on other stores for example, is one more function here.
SHOPS = (all_in_one, three_processes, polyglot)


def redis_trips(shop):
    """Commands that reach Redis for each cached list, asked for one after the other."""
    cached_list(shop)
    before = sum(redis_commands(shop.redis).values())
    for _ in range(TRIPS):
        fetch(shop.port, "/products")
    return (sum(redis_commands(shop.redis).values()) - before) / TRIPS


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


def measure_load(topologies, rounds, seconds):
    """The samples of all rounds, by case and topology, in the order of their CPU per request."""
    pairs = [(case, topology) for case in (WELCOME, LIST, DASHBOARD)
             for topology in topologies if case in topology.paths]
    samples = {(case, topology.name): [] for case, topology in pairs}
    for number in range(rounds):
        for case, topology in pairs:
            progress(f"round {number + 1} of {rounds}: {case}, {topology.name}")
            samples[case, topology.name].append(measure(topology, case, seconds))
    return {key: sorted(taken, key=lambda sample: sample.front) for key, taken in samples.items()}


def cursors(size):
    """A Lua script for wrk that asks for pages from anywhere in the first `size` of the seed."""
    def encode(number):
        seconds = SEED_EPOCH + number
        place = (seconds * 1_000_000).to_bytes(8) + seconds.to_bytes(4) + b"seed"
        return base64.urlsafe_b64encode(place + number.to_bytes(4)).rstrip(b"=").decode()

    # The same in every run.
    chosen = random.Random(size).choices(range(size), k=PAGE_CURSORS)
    return f"""
        local cursors = {{{",".join(f'"{encode(number)}"' for number in chosen)}}}
        local requests = {{}}
        function init()
            for place, cursor in ipairs(cursors) do
                requests[place] = wrk.format("GET", "/products?limit=20&cursor=" .. cursor)
            end
        end
        function request() return requests[math.random(#requests)] end"""


def catalogue(bench, store, size, servers, **environment):
    """Seeds a store and starts a product process on it; `servers` are the store's own processes."""
    name = f"{store}-{size}"
    progress(f"seeding {size} products on {store}")
    settings = {}
    if not environment:
        settings["product.database_url"] = f"sqlite://{bench.folder}/{name}.db"
    seeding = bench.seed(size, settings, **environment)
    app = bench.app(name, settings, "product", APP__PRODUCT__CACHE_ENTRY_LIMIT="1", **environment)
    shop = Topology(name, app.port, [app.process.pid], servers, {PAGE: "/products"})
    script = bench.folder / f"{name}.lua"
    script.write_text(cursors(size))
    return Catalogue(store, size, seeding, page_time(shop), script, shop)


def page_time(shop):
    """Seconds for one page when nothing else is asked for, the second time; infinite if refused."""
    try:
        fetch(shop.port, "/products?limit=20")
        begin = time.perf_counter()
        headers, _ = fetch(shop.port, "/products?limit=20")
    except (Failure, TimeoutError):
        return float("inf")
    if headers["X-Cache"] != "MISS":
        raise Failure(f"{shop.name}: a page comes from the cache")
    return time.perf_counter() - begin


def measure_pages(bench, rounds, seconds, million_on_mongodb):
    """The catalogues, each with its samples in the order of their CPU per request."""
    mongodb = start_mongodb(bench)
    catalogues = [catalogue(bench, "SQLite", size, []) for size in (*CATALOGUES, MILLION)]
    for size in (*CATALOGUES, *([MILLION] if million_on_mongodb else [])):
        url = mongodb_url(mongodb, f"shop{size}")
        servers = [mongodb.process.pid]
        catalogues.append(catalogue(bench, "MongoDB", size, servers, MONGODB_URL=url))
    samples = [[] for _ in catalogues]
    for number in range(rounds):
        for place, taken in zip(catalogues, samples):
            if place.takes_load():
                progress(f"round {number + 1} of {rounds}: pages of {place.shop.name}")
                options = f"-c{PAGE_CONNECTIONS}", "-s", str(place.script)
                taken.append(measure(place.shop, PAGE, seconds, *options))
    return [(place, sorted(taken, key=lambda sample: sample.front))
            for place, taken in zip(catalogues, samples)]


def measure_expiry(bench, rounds, seconds):
    """For each round the samples of a cache that keeps the list and of one that asks every second.

    Beside each sample: how often the list was asked for again.
    """
    redis, mongodb = start_redis(bench), start_mongodb(bench)
    stores = {"MONGODB_URL": mongodb_url(mongodb, "shop"), "REDIS_URL": redis_url(redis)}
    bench.seed(PRODUCTS, {}, **stores)
    shops = []
    for ttl in ("60s", "1s"):
        app = bench.app(f"ttl-{ttl}", {}, "product", APP__PRODUCT__CACHE_TTL=ttl,
                        APP__PRODUCT__CACHE_PREFIX=f"ttl-{ttl}", **stores)
        shops.append(Topology(f"ttl {ttl}", app.port, [app.process.pid], [], {LIST: "/products"}))
        cached_list(shops[-1])
    taken = []
    for number in range(rounds):
        taken.append([])
        for shop in shops:
            progress(f"round {number + 1} of {rounds}: {shop.name}")
            # Whoever has asked the store gives back the lock that allowed it.
            before = redis_commands(redis.port).get("del", 0)
            sample = measure(shop, LIST, seconds)
            taken[-1].append((sample, redis_commands(redis.port).get("del", 0) - before))
    return taken


def customer(bench, name, mode):
    """Every role in one process, with an account; its port, process, and an access token."""
    app = bench.app(name, bench.embedded(name), APP__AUTH__MODE=mode, APP__USER__LOGINS_PER_ACCOUNT="0",
                    APP__USER__LOGINS_PER_ADDRESS="0", APP__USER__HASHING_THREADS=str(HASHING_THREADS))
    login = {"email": "bench@example.com", "password": PASSWORD}
    user = json.loads(fetch(app.port, "/auth/register", json.dumps({"username": "Bench"} | login))[1])
    token = json.loads(fetch(app.port, "/auth/login", json.dumps(login))[1])["accessToken"]
    paths = {LIST: "/products", DASHBOARD: f"/auth/dashboard/{user['id']}"}
    return Topology(name, app.port, [app.process.pid], [], paths), token


def must_verify(shop, token):
    """Fails unless a token that is not good is told from one that is: not to look is fast, and would be praised for it."""
    head, claims, signature = token.split(".")
    forged = ".".join([head, claims, ("B" if signature[0] == "A" else "A") + signature[1:]])
    for path in shop.paths.values():
        for wanted, sent in [(200, token), (401, forged)]:
            status, _, _ = exchange(shop.port, path, Authorization=f"Bearer {sent}")
            if status != wanted:
                raise Failure(f"{path} is answered {status}, not {wanted}: tokens are not verified, and so not measured")


def measure_identity(bench, rounds, seconds):
    """CPU of open and of verified requests, in turn; and logins beside passwords alone, in turn."""
    # One process, for two differ by more than what is looked for: open, it verifies tokens that are there.
    opened, token = customer(bench, "open", "open")
    must_verify(opened, token)
    enforced, _ = customer(bench, "enforced", "enforced")
    login = post_script(bench, "login", {"email": "bench@example.com", "password": PASSWORD})
    requests = {(case, kind): [] for case in (LIST, DASHBOARD) for kind in ("open", "verified")}
    logins, raw = [], []
    for number in range(rounds):
        for case in (LIST, DASHBOARD):
            progress(f"round {number + 1} of {rounds}: {case}, open and verified")
            kinds = {"open": (), "verified": ("-H", f"Authorization: Bearer {token}")}
            for kind in list(kinds)[::-1 if number % 2 else 1]:
                requests[case, kind].append(measure(opened, case, seconds, *kinds[kind]).front)
        progress(f"round {number + 1} of {rounds}: logins, and argon2 alone")
        url = f"http://127.0.0.1:{enforced.port}/auth/login"
        text = wrk(url, seconds, f"-c{LOGINS}", *login)
        logins.append(float(re.search(r"Requests/sec: +([\d.]+)", text)[1]))
        alone = subprocess.run([ARGON2, str(HASHING_THREADS), str(seconds)], check=True,
                               capture_output=True, text=True)
        raw.append(float(alone.stdout))
    return requests, logins, raw


def print_identity(requests, logins, raw):
    """What it costs to know who asks."""
    middle = {key: statistics.median(taken) for key, taken in requests.items()}
    rows = []
    for case in (LIST, DASHBOARD):
        pairs = zip(requests[case, "verified"], requests[case, "open"])
        more = [verified - opened for verified, opened in pairs]
        rows.append(goal(f"CPU of {case}, verified, more than {middle[case, 'open']:.2f} open",
                         statistics.median(more), "us", 2, digits=2))
        rows[-1][1] += f" ({min(more):.2f} to {max(more):.2f})"
    rate, alone = statistics.median(logins), statistics.median(raw)
    verdict = "met" if rate >= 0.9 * alone else "NOT met"
    rows.append([f"logins/s, beside {alone:.1f} by argon2 alone on {HASHING_THREADS} thread(s)",
                 f"{rate:.1f} ({rate / alone:.3f} x)", ">= 0.9 x", verdict])
    table("Identity: a token that was seen before, all in one; and logins",
          ["figure", "measured", "goal", "verdict"], rows)


def print_idle(starts, memory):
    """What the program costs before anybody asks it for anything."""
    start = f"exec to first 200 on {WELCOME}, {{}} of {STARTS} starts"
    rows = [goal("binary size", BINARY.stat().st_size / 1e6, "MB", 36),
            goal(start.format("median"), statistics.median(starts), "ms", 10),
            goal(start.format("slowest"), max(starts), "ms", 100),
            goal("resident memory after 3 s idle", memory, "MB", 16)]
    title = "Footprint: every role in one process, on a data folder that exists"
    table(title, ["figure", "measured", "goal", "verdict"], rows)


def print_load(samples, trips):
    """The load, each figure that of the median round, and its goals."""
    median = {key: taken[(len(taken) - 1) // 2] for key, taken in samples.items()}
    rows = [[*key, f"{middle.rate:.0f}", f"{middle.p50:.2f}", f"{middle.p99:.2f}",
             f"{middle.front:.2f}", f"{samples[key][0].front:.2f}-{samples[key][-1].front:.2f}",
             f"{middle.all:.2f}"] for key, middle in median.items()]
    head = ["case", "served by", "requests/s", "p50 ms", "p99 ms", "front us", "range", "all us"]
    title = ("Load; CPU per request of the process in front, its range, and that of all processes "
             "but databases")
    table(title, head, rows, left=2)
    one = median[LIST, "all in one"].front
    ratio = median[LIST, "three processes"].front / median[LIST, "nginx, nginx"].front
    rows = [goal(f"CPU per cached {LIST}, all in one", one, "us", 15, digits=2),
            goal(f"CPU per cached {LIST}, gateway / nginx as proxy", ratio, "x", 1, digits=3),
            goal(f"Redis commands per cached {LIST}, of {TRIPS}", trips, "", 1, digits=3)]
    table("Goals of the load", ["figure", "measured", "goal", "verdict"], rows)


def print_pages(catalogues, mongodb):
    """Pages from the store, the figures those of the median round, and what size does to them."""
    rows, cost = [], {}
    for place, taken in catalogues:
        figures = ["-"] * 6
        if taken:
            middle = taken[(len(taken) - 1) // 2]
            cost[place.store, place.size] = middle.front
            figures = [f"{middle.rate:.0f}", f"{middle.p50:.2f}", f"{middle.p99:.2f}",
                       f"{middle.front:.2f}", f"{taken[0].front:.2f}-{taken[-1].front:.2f}",
                       f"{middle.all:.2f}"]
        page = "refused" if place.page == float("inf") else f"{place.page * 1e3:.1f}"
        rows.append([place.store, f"{place.size:,}", f"{place.seeding:.1f}", page, *figures])
    head = ["store", "products", "seeding s", "one page ms", "requests/s", "p50 ms", "p99 ms",
            "app us", "range", "with server us"]
    title = (f"Uncached pages of 20 from random places, {PAGE_CONNECTIONS} connections; CPU per "
             f"request of app, its range, and with the store's server.\nMongoDB is {mongodb}; "
             f"{MILLION:,} products there only with --million-on-mongodb, as seeding takes long.\n"
             f"No load where one page takes over {STORE_PATIENCE / PAGE_CONNECTIONS * 1e3:.0f} ms: "
             f"requests would run into the {STORE_PATIENCE:g} s that app allows a store.")
    table(title, head, rows)
    rows = []
    for store in ("SQLite", "MongoDB"):
        large = max(place.size for place, _ in catalogues if place.store == store)
        name = f"CPU of app per page on {store}, of {large:,} / {CATALOGUES[0]:,} products"
        try:
            ratio = cost[store, large] / cost[store, CATALOGUES[0]]
            rows.append(goal(name, ratio, "x", 1.25, digits=3))
        except KeyError:
            rows.append([name, "-", "<= 1.25 x", "not measured"])
    table("Goals of the pages", ["figure", "measured", "goal", "verdict"], rows)


def print_expiry(taken, mongodb):
    """What callers notice while an answer is made anew; goals compare within a round."""
    rows = []
    for number, pair in enumerate(taken):
        for ttl, (sample, refreshes) in zip(("60 s", "1 s"), pair):
            rows.append([f"{number + 1}", ttl, f"{refreshes}", f"{sample.rate:.0f}",
                         f"{sample.p50:.2f}", f"{sample.p99:.2f}", f"{sample.front:.2f}"])
    head = ["round", "time to live", "refreshes", "requests/s", "p50 ms", "p99 ms", "app us"]
    title = f"Expiry: cached {LIST} of a product process on Redis and MongoDB ({mongodb})"
    table(title, head, rows, left=2)
    ratio = statistics.median(expiring.p99 / steady.p99 for (steady, _), (expiring, _) in taken)
    rows = [goal("p99 with a refresh every second / p99 without, median of rounds", ratio, "x", 3,
                 digits=2)]
    table("Goal of the expiry", ["figure", "measured", "goal", "verdict"], rows)


def find_programs():
    """All that is started besides app: what is missing shall be known before anything is."""
    find_program("wrk", "wrk")
    return Programs(find_program("nginx", "nginx-light"), find_program("haproxy", "haproxy"),
                    find_program("redis-server", "redis-server"), find_postgres(), find_mongodb(),
                    find_rabbitmq())


def run_idle(bench, _):
    """Start, size and memory."""
    print_idle(*measure_idle(bench))


def run_load(bench, arguments):
    """Every topology under load, and nginx."""
    topologies = [start(bench) for start in SHOPS]
    lists = [cached_list(shop) for shop in topologies]
    if len(set(lists)) != 1:
        raise Failure("the topologies do not answer /products with the same bytes")
    [trips] = [redis_trips(shop) for shop in topologies if shop.redis]
    topologies.append(nginx_proxy(bench, bench.programs.nginx, lists[0]))
    print_load(measure_load(topologies, arguments.rounds, arguments.seconds), trips)


def run_gateway(bench, arguments):
    """The gateway as a proxy, beside others."""
    gateway.run(bench, arguments.rounds, arguments.seconds)


def run_pages(bench, arguments):
    """What the size of a catalogue does to a page."""
    pages = measure_pages(bench, arguments.rounds, arguments.seconds, arguments.million_on_mongodb)
    print_pages(pages, bench.programs.describe_mongodb())


def run_expiry(bench, arguments):
    """What the end of a cached answer's time does to its callers."""
    taken = measure_expiry(bench, arguments.rounds, arguments.seconds)
    print_expiry(taken, bench.programs.describe_mongodb())


def run_identity(bench, arguments):
    """What it costs to know who asks, and to log in."""
    print_identity(*measure_identity(bench, arguments.rounds, arguments.seconds))


def run_writes(bench, arguments):
    """How many writes a second there can be."""
    writes.run(bench, arguments.rounds, arguments.seconds)


def run_orders(bench, arguments):
    """How many orders a second there can be."""
    orders.run(bench, arguments.rounds, arguments.seconds)


def run_telemetry(bench, arguments):
    """What it costs to look inside."""
    telemetry.run(bench, arguments.rounds, arguments.seconds)


def run_files(bench, arguments):
    """What a static file of the pages costs."""
    files.run(bench, arguments.rounds, arguments.seconds)


def run_catalogue(bench, arguments):
    """What pages and searches cost, and what the cache has of them."""
    mongodb = None
    if bench.programs.mongodb != str(STAND_IN):
        server = start_mongodb(bench)
        mongodb = lambda database: mongodb_url(server, database)
    finding.run(bench, arguments, mongodb)


def run(arguments):
    """The sections that were asked for, each with servers of its own."""
    programs = find_programs()
    if not BINARY.is_file():
        raise Failure(f"{BINARY} is missing; run make release")
    model = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    print(f"{os.cpu_count()} cores, {model[1] if model else 'model unknown'}; one worker a server")
    print(f"wrk: 1 thread, {CONNECTIONS} connections, {arguments.seconds} s a case; "
          f"median of {arguments.rounds}")
    print(f"MongoDB: {programs.describe_mongodb()}")
    runs = run_idle, run_load, run_gateway, run_pages, run_expiry, run_identity, run_writes, run_orders, run_telemetry, \
        run_files, run_catalogue
    measures = dict(zip(SECTIONS, runs))
    for section in SECTIONS:
        if section in arguments.only:
            with Bench(programs) as bench:
                try:
                    measures[section](bench, arguments)
                except Failure:
                    bench.check()
                    raise


def main():
    """Reads the command line; a failure becomes one line and status 1."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=int, default=6, help="of load for each case (default: 6)")
    parser.add_argument("--rounds", type=int, default=3, help="through all cases (default: 3)")
    parser.add_argument("--only", nargs="+", choices=SECTIONS, default=SECTIONS, metavar="SECTION",
                        help=f"of {', '.join(SECTIONS)} (default: all)")
    parser.add_argument("--million-on-mongodb", action="store_true",
                        help=f"also pages and searches of {MILLION:,} products on MongoDB")
    parser.add_argument("--sizes", type=int, nargs="+", default=finding.SIZES, metavar="PRODUCTS",
                        help="of the section catalogue")
    arguments = parser.parse_args()
    if min(arguments.seconds, arguments.rounds) < 1:
        parser.error("--seconds and --rounds must be at least 1")
    # So that whoever ends this process also ends its servers.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        run(arguments)
    except (Failure, subprocess.CalledProcessError) as failure:
        sys.exit(f"bench: {' '.join(str(failure).split())}")


if __name__ == "__main__":
    main()

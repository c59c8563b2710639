#!/usr/bin/env -S python3 -B
"""Does with the program what its users do, so that the compiler learns which of its code is run.

Usage: train.py     (`make train`, which builds a program that counts as it runs, and keeps the counts)

What is not run here gets no faster: everything that requests spend their time on belongs here, in the
proportions in which it matters.
"""

import http.client
import json
import signal
import ssl
import subprocess
import sys
import time

import bench as benchmark
import files
import gateway
import orders
from harness import (
    COUNTS, Bench, Failure, exchange, fetch, find_program, free_port, post_script, progress, wrk)

# Of load for each case, and rounds of what is done one after the other.
SECONDS, ROUNDS = 2, 200
# Seconds for which a program that has started is left alone: it does some things from time to time.
REST = 12
# What watches every process, from its start on: probes, and Prometheus, in either format.
WATCHED = (("/livez", {}), ("/readyz", {}), ("/metrics", {}),
           ("/metrics", {"Accept": "application/openmetrics-text;version=1.0.0;q=0.6,text/plain;version=0.0.4;q=0.5"}))
BROWSER = {
    "Accept": "application/json, text/html;q=0.9, */*;q=0.8",
    "Accept-Encoding": "gzip, deflate, br, zstd",
    "Accept-Language": "en-GB,en;q=0.7",
    "Cache-Control": "max-age=0",
    "Origin": "https://shop.example",
    "Referer": "https://shop.example/list",
    "User-Agent": "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0",
    "X-Request-Id": "0196f3c4d2a87b1e9c55",
}
AS_BROWSER = [word for name, value in BROWSER.items() for word in ("-H", f"{name}: {value}")]


def send(port, method, path, body=None, **headers):
    """Sends a request with JSON, of which any answer but a fault will do; returns the answer's content."""
    payload = None if body is None else json.dumps(body)
    kind = {"Content-Type": "application/json"} if payload else {}
    status, _, text = exchange(port, path, payload, method, **kind | headers)
    if status >= 500:
        raise Failure(f"{method} {path} was answered {status}: {text[:200]}")
    return text


def browse(shop):
    """What customers and the shop's owner ask for, one after the other."""
    for number in range(ROUNDS):
        progress(f"{shop.name}: round {number + 1} of {ROUNDS}")
        product = {"name": f"Lamp {number}", "price": 19.5, "category": "Lamps", "tags": ["lamp"], "stock": 3}
        made = json.loads(send(shop.port, "POST", "/products", product))
        place = f"/products/{made['id']}"
        send(shop.port, "GET", place)
        send(shop.port, "GET", place, **BROWSER)
        send(shop.port, "PUT", place, product | {"price": 21.0})
        send(shop.port, "GET", "/products?limit=5", **BROWSER)
        send(shop.port, "GET", f"/products?q=lamp+{number}")
        send(shop.port, "GET", "/products?category=Lamps&sort=price&limit=5")
        send(shop.port, "POST", "/products", {"name": ""})
        send(shop.port, "GET", "/nowhere")
        send(shop.port, "DELETE", place)


def starts(bench):
    """Starts of all roles, the first in a new folder, and of a gateway, alone, and watched and asked for something. What they
    have counted has names of its own: the linker puts together what they run, because it is in the memory of every process."""
    counts = {name: path.replace("%p", "start-%p") for name, path in COUNTS.items()}
    origin = gateway.start_origin(bench)
    route = gateway.route_to(origin)
    for role, settings, paths in ((None, {}, []), (None, {}, []), (None, {}, ["/", "/products"]),
                                  ("gateway", route, []), ("gateway", route, [gateway.PATH])):
        progress(f"a start of {role or 'all roles'}")
        management = free_port()
        app = bench.app("start", {}, role, probe=None, management=management, **settings, **counts)
        for path in paths:
            exchange(app.port, path)
        for path, headers in WATCHED if paths else ():
            exchange(management, path, **headers)
        time.sleep(REST)
        bench.stop("start")


def shops(bench):
    """Every topology, by the cases of the benchmark and by a browser's requests."""
    for start in benchmark.SHOPS:
        shop = start(bench)
        for path in shop.paths.values():
            progress(f"{shop.name}: {path}")
            wrk(f"http://127.0.0.1:{shop.port}{path}", SECONDS)
            wrk(f"http://127.0.0.1:{shop.port}{path}", SECONDS, *AS_BROWSER)
        browse(shop)


def customers(bench):
    """Requests with a token, and logins."""
    shop, token = benchmark.customer(bench, "customer", "enforced")
    for path in shop.paths.values():
        progress(f"with a token: {path}")
        wrk(f"http://127.0.0.1:{shop.port}{path}", SECONDS, "-H", f"Authorization: Bearer {token}")
    login = {"email": "bench@example.com", "password": benchmark.PASSWORD}
    for _ in range(5):
        fetch(shop.port, "/auth/login", json.dumps(login))


def pages(bench):
    """The documents and files of the storefront, as a browser asks for them first and again."""
    app = bench.app("pages", bench.embedded("pages"))
    style = files.style(app.port)
    for path in (style, "/shop"):
        progress(path)
        for options in ([], AS_BROWSER, ["-H", "Accept-Encoding: gzip, deflate, br, zstd"]):
            wrk(f"http://127.0.0.1:{app.port}{path}", SECONDS, *options)
        tag = fetch(app.port, path)[0]["etag"]
        wrk(f"http://127.0.0.1:{app.port}{path}", SECONDS, "-H", f"If-None-Match: {tag}")
    for number in range(ROUNDS):
        exchange(app.port, f"/shop/pictures/Lighting/Lamp%20{number}.svg")


def buyers(bench):
    """Orders under load; then one after the other with all that may happen to them, and their events."""
    app = bench.app("buyers", bench.embedded("buyers"))
    for pays in (False, True):
        progress("orders")
        wrk(f"http://127.0.0.1:{app.port}/orders", SECONDS, "-s", str(orders.place(bench, app, pays)))
    lamp = {"name": "Lamp", "price": 19.5, "stock": ROUNDS}
    product = json.loads(send(app.port, "POST", "/products", lamp))["id"]
    for number in range(ROUNDS):
        progress(f"{app.port}: order {number + 1} of {ROUNDS}")
        buy(app.port, product, f"00000000-0000-4000-9000-{number % 20:012x}", number)


def buy(port, product, user, number):
    """An order, what its owner looks at, and one of its ends."""
    wanted = {"userId": user, "items": [{"productId": product, "quantity": 1}],
              "contact": {"name": "Ada", "email": "ada@example.com"}}
    key = {"Idempotency-Key": f'"{number}"'}
    placed = json.loads(send(port, "POST", "/orders", wanted, **key))
    send(port, "POST", "/orders", wanted, **key)
    place = f"/orders/{placed['id']}"
    send(port, "GET", place)
    if number % 4:
        send(port, "POST", f"{place}/pay", {"paymentMethod": "declined" if number % 4 == 1 else "ok"})
    for end in ("cancel",) if number % 4 < 2 else ("fulfil", "refund"):
        send(port, "POST", f"{place}/{end}", {"restock": True} if end == "refund" else None)
    send(port, "GET", "/orders?limit=5", **BROWSER)


def proxy(bench, origin):
    """The gateway alone before a service that is none of ours, over HTTP/1.1."""
    app = gateway.start_app(bench, origin, "proxy", gateway.WIDE)
    url = f"http://127.0.0.1:{app.shop.port}{gateway.PATH}"
    for options in ([], AS_BROWSER, post_script(bench, "upload", {"text": "x" * 2000})):
        progress("as a proxy")
        # Most of what is done is the first case, as it is for who runs a gateway.
        wrk(url, SECONDS if options else 3 * SECONDS, *options)
    tight = gateway.start_app(bench, origin, "tight", gateway.TIGHT)
    for _ in range(ROUNDS):
        exchange(tight.shop.port, gateway.PATH)


def secured(bench, origin):
    """The same inside TLS, over either version of HTTP."""
    folder = bench.folder / "certs"
    subprocess.run([benchmark.BINARY, "certs", "dev", "--out", folder], cwd=bench.folder, env=COUNTS,
                   stdout=subprocess.DEVNULL, check=True)
    app = gateway.start_app(bench, origin, "secured", gateway.WIDE,
                            APP__GATEWAY__TLS_CERTIFICATE=str(folder / "gateway/tls.crt"),
                            APP__GATEWAY__TLS_KEY=str(folder / "gateway/tls.key")).shop
    place = f"https://127.0.0.1:{app.port}{gateway.PATH}"
    progress("inside TLS")
    wrk(place, SECONDS)
    load = ["h2load", f"--duration={SECONDS}", "--clients=8", "--max-concurrent-streams=8", place]
    subprocess.run(load, stdout=subprocess.DEVNULL, check=True)
    trust = ssl.create_default_context(cafile=folder / "gateway/ca.crt")
    for _ in range(ROUNDS):
        connection = http.client.HTTPSConnection("localhost", app.port, timeout=5, context=trust)
        connection.request("GET", gateway.PATH)
        connection.getresponse().read()
        connection.close()


def run():
    """All of it; each program writes what it has counted when it is stopped."""
    find_program("h2load", "nghttp2-client")
    programs = benchmark.find_programs()
    for part in (starts, shops, customers, buyers, pages):
        with Bench(programs) as bench:
            part(bench)
    with Bench(programs) as bench:
        origin = gateway.start_origin(bench)
        proxy(bench, origin)
        secured(bench, origin)


def main():
    """A failure becomes one line and status 1."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    if len(sys.argv) != 1:
        sys.exit(__doc__.split("\n\n")[1])
    try:
        run()
    except (Failure, subprocess.CalledProcessError) as failure:
        sys.exit(f"train: {' '.join(str(failure).split())}")


if __name__ == "__main__":
    main()

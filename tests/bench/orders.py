"""How many orders a second the shop places and pays; what an order costs among many; how soon its event is told, and what
listeners cost.

Embedded: all roles in one process on files, and every order on disk before it is acknowledged; beside it one connection
that commits an order's row by itself. On servers: accounts and orders in PostgreSQL, products in MongoDB or a file, events by
RabbitMQ; beside it pgbench with the statements that place an order.
"""

import json
import re
import socket
import sqlite3
import statistics
import subprocess
import threading
import time
import uuid
from datetime import datetime
from pathlib import Path

from harness import CONNECTIONS, TARGET, Failure, Topology, fetch, goal, measure, progress, table
from servers import (
    POOL, STAND_IN, create_database, mongodb_url, pgbench, postgres_url, rabbitmq_url, start_mongodb, start_postgres, start_rabbitmq)
from writes import commits

PLACE, PAY = "place", "place and pay"
# Orders a second, embedded; what the shop shall reach of pgbench; and milliseconds until an event is told, of 99 in 100.
GOAL, ON_POSTGRES, LAG = 2_000, 0.6, 100
# How many orders there are when an order is placed among many, and how much more CPU that may take.
MANY = 1_000_000
# Connections to a shop on what stands in for MongoDB.
FEW = 8
GROWTH = 1.2
# Streams that are open at once, and how many kB each may cost.
LISTENERS, KILOBYTES = 1_000, 10
# The packages of `lag.py`; `make bench` installs them.
PIKA = TARGET / "pika/bin/python"
BARE = "bare"
COLUMNS = "id, user_id, status, items, total, currency, created_at, day, expires_at, version, reservation, attempts"
ROW = "'placed', '[]', 100, 'EUR', '2026-01-01 00:00:00', '2026-01-01', '2027-01-01 00:00:00', 1, 0, 0"
INSERT = f"INSERT INTO order_orders ({COLUMNS}) VALUES (?, ?, {ROW})"


def run(bench, rounds, seconds):
    """Measures all of it and prints it."""
    embedded(bench, rounds, seconds)
    on_servers(bench, rounds, seconds)


def shop_of(app, name):
    """The shop of one process, by its orders."""
    return Topology(name, app.port, [app.process.pid], [], {PLACE: "/orders", PAY: "/orders"})


def middle(samples):
    """The sample of the median rate."""
    return sorted(samples, key=lambda sample: sample.rate)[(len(samples) - 1) // 2]


def row(case, sample, alone, wanted, verdict):
    """A row of the tables of rates; each order that is paid takes two requests."""
    orders = sample.rate / (2 if PAY in case else 1)
    return [case, f"{orders:.0f}", f"{sample.p50:.2f}", f"{sample.p99:.2f}", f"{sample.front:.1f}", alone, wanted, verdict]


def met(is_met, figure=""):
    """The verdict on a goal."""
    return f"{'met' if is_met else 'NOT met'}{figure}"


def embedded(bench, rounds, seconds):
    """Rates, lag and listeners on files; then rates among many orders."""
    app = bench.app("orders", bench.embedded("orders"))
    bench.app("bare orders", bench.embedded("bare-orders"))
    bench.stop("bare orders")
    shop = shop_of(app, "orders")
    scripts = {PLACE: place(bench, app), PAY: place(bench, app, pays=True)}
    samples, bare = {case: [] for case in scripts}, []
    for number in range(rounds):
        progress(f"round {number + 1} of {rounds}")
        bare.append(commits(bench.folder / "bare-orders" / "order.db", INSERT,
                            lambda: (str(uuid.uuid4()), str(uuid.uuid4())), seconds))
        for case, script in scripts.items():
            samples[case].append(measure(shop, case, seconds, "-s", str(script)))
    middles = {case: middle(taken) for case, taken in samples.items()}
    alone = f"{statistics.median(bare):.0f}"
    rows = [row(PLACE, middles[PLACE], alone, f">= {GOAL}", met(middles[PLACE].rate >= GOAL)),
            row(PAY, middles[PAY], alone, "-", "-")]
    lags = lag(shop, bench, app, middles[PLACE].rate, Stream(app.port), seconds)
    progress(f"adding {MANY:,} orders")
    fill(bench.folder / "orders" / "order.db")
    case = f"{PLACE}, among {MANY:,}"
    samples[case] = [measure(shop, PLACE, seconds, "-s", str(scripts[PLACE])) for _ in range(rounds)]
    growth = statistics.median(sample.front for sample in samples[case]) / middles[PLACE].front
    rows.append(row(case, middle(samples[case]), alone, f"CPU <= {GROWTH} x", met(growth <= GROWTH, f": {growth:.2f} x")))
    table(f"Orders on files, {CONNECTIONS} connections; latencies and CPU are of a request; alone: rows a second of one "
          "connection that commits each", ["case", "orders/s", "p50 ms", "p99 ms", "app us", "alone/s", "goal", "verdict"],
          rows)
    memory = listeners(bench)
    table("Events of orders on files", ["figure", "measured", "goal", "verdict"],
          [lag_row("server-sent", lags), goal(f"memory of each of {LISTENERS:,} listeners", memory, "kB", KILOBYTES)])


def on_servers(bench, rounds, seconds):
    """Rates and lag on PostgreSQL and RabbitMQ, with the catalogue in a file and in MongoDB. What stands in for MongoDB takes
    so long that fewer connections are enough."""
    postgres, rabbitmq, mongodb = start_postgres(bench), start_rabbitmq(bench), start_mongodb(bench)
    few = FEW if bench.programs.mongodb == str(STAND_IN) else CONNECTIONS
    file = {"product.database_url": f"sqlite://{bench.folder}/on-servers/product.db"}
    stores = {"catalogue in a file": (CONNECTIONS, file, {}),
              f"catalogue in MongoDB, {few} connections": (few, {}, {"MONGODB_URL": mongodb_url(mongodb, "orders")})}
    statements = bench.folder / "order.sql"
    insert = f"INSERT INTO order_orders ({COLUMNS}) VALUES (gen_random_uuid()::text, gen_random_uuid()::text, {ROW})"
    event = json.dumps({"pad": "x" * 560})
    record = f"INSERT INTO order_outbox (kind, event) VALUES ('shop.order.placed', '{event}')"
    statements.write_text(f"BEGIN;\n{insert};\n{record};\nCOMMIT;\n")
    # Tables as those of the shop, which publishes none of their events.
    create_database(bench, postgres, BARE)
    settings = {"product.database_url": f"sqlite://{bench.folder}/bare/product.db"}
    bench.app(BARE, settings, DATABASE_URL=postgres_url(postgres, BARE))
    bench.stop(BARE)
    rows, figures = [], []
    for name, (connections, settings, environment) in stores.items():
        settings |= {"order.pool_size": POOL}
        app = bench.app(name, settings, DATABASE_URL=postgres_url(postgres), AMQP_URL=rabbitmq_url(rabbitmq), **environment)
        shop = shop_of(app, name)
        samples, alone = {PLACE: [], PAY: []}, []
        for number in range(rounds):
            progress(f"round {number + 1} of {rounds}: {name}")
            alone.append(pgbench(bench, postgres, statements, seconds, BARE))
            for case in samples:
                script = str(place(bench, app, pays=case == PAY))
                samples[case].append(measure(shop, case, seconds, f"-c{connections}", "-s", script))
        middles = {case: middle(taken) for case, taken in samples.items()}
        bare = statistics.median(alone)
        share = statistics.median(sample.rate / other for sample, other in zip(samples[PLACE], alone))
        rows.append(row(f"{PLACE}, {name}", middles[PLACE], f"{bare:.0f}", f">= {ON_POSTGRES} x",
                        met(share >= ON_POSTGRES, f": {share:.2f} x")))
        rows.append(row(f"{PAY}, {name}", middles[PAY], f"{bare:.0f}", "-", "-"))
        lags = lag(shop, bench, app, middles[PLACE].rate, Queue(rabbitmq.port, seconds), seconds, connections)
        figures.append(lag_row(f"by RabbitMQ, {name}", lags))
        bench.stop(name)
    table(f"Orders on PostgreSQL and RabbitMQ, {CONNECTIONS} connections; latencies and CPU are of a request; alone: "
          f"pgbench; MongoDB is {bench.programs.describe_mongodb()}",
          ["case", "orders/s", "p50 ms", "p99 ms", "app us", "alone/s", "goal", "verdict"], rows)
    table("Events of orders on servers", ["figure", "measured", "goal", "verdict"], figures)


class Stream(threading.Thread):
    """Hears all events of a shop by server-sent events, and notes how long each took."""

    def __init__(self, port):
        super().__init__(daemon=True)
        self.lags, self.socket = [], listen(port)
        self.start()

    def run(self):
        """Until the stream ends."""
        for line in self.socket.makefile("rb"):
            if found := re.search(rb'"time":"([^"]+)"', line):
                happened = datetime.fromisoformat(found[1].decode())
                self.lags.append((time.time() - happened.timestamp()) * 1e3)

    def stop(self):
        """Ends it; returns milliseconds."""
        self.socket.shutdown(socket.SHUT_RDWR)
        self.join()
        return self.lags


class Queue:
    """Takes all events of a shop from RabbitMQ, and notes how long each took."""

    def __init__(self, port, seconds):
        # The load runs a second before it is measured.
        self.arguments = [PIKA, "-B", Path(__file__).with_name("lag.py"), str(port), str(seconds + 2)]
        self.process = None

    def start(self):
        """Returns when the queue is there."""
        self.process = subprocess.Popen(self.arguments, stdout=subprocess.PIPE, text=True)
        if self.process.stdout.readline() != "ready\n":
            raise Failure("lag.py did not start")

    def stop(self):
        """Waits for its end; returns milliseconds."""
        return json.loads(self.process.communicate()[0])


def lag(shop, bench, app, top, ear, seconds, connections=CONNECTIONS):
    """Milliseconds from when an order was placed until its event is heard, at half of the top rate."""
    progress(f"lag of events, {shop.name}")
    if isinstance(ear, Queue):
        ear.start()
    script = place(bench, app, pause=round(connections / (top / 2) * 1e3))
    sample = measure(shop, PLACE, seconds, f"-c{connections}", "-s", str(script))
    lags = ear.stop()
    if len(lags) < sample.rate * seconds / 2:
        raise Failure(f"{shop.name}: {len(lags)} events were heard of orders at {sample.rate:.0f}/s")
    return sample.rate, sorted(lags)


def lag_row(how, measured):
    """A row on how soon events are told."""
    rate, lags = measured
    name = f"until an event is told, {how}, of 99 in 100, at {rate:.0f} orders/s"
    return goal(name, lags[len(lags) * 99 // 100], "ms", LAG)


def listen(port):
    """Opens a stream of events; returns the socket once it has begun."""
    client = socket.create_connection(("127.0.0.1", port), timeout=20)
    client.sendall(b"GET /events HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept: text/event-stream\r\n\r\n")
    text = b""
    while b"retry:" not in text:
        if not (piece := client.recv(4096)):
            raise Failure(f"a stream of events ended with {text}")
        text += piece
    client.settimeout(None)
    return client


def listeners(bench):
    """The kB that each of many streams of events costs the process, in which the gateway and the order role are."""
    app = bench.app("listeners", bench.embedded("listeners"))
    status = Path(f"/proc/{app.process.pid}/status")
    def resident():
        return int(re.search(r"VmRSS:\s+(\d+) kB", status.read_text())[1])
    # What the first ones need is there for all.
    streams = [listen(app.port) for _ in range(20)]
    time.sleep(1)
    before = resident()
    streams += [listen(app.port) for _ in range(LISTENERS)]
    time.sleep(3)
    memory = (resident() - before) * 1.024 / LISTENERS
    for stream in streams:
        stream.close()
    bench.stop("listeners")
    return memory


def fill(path):
    """Adds many orders, each of another user, while the shop runs."""
    file = sqlite3.connect(path, timeout=60)
    for _ in range(MANY // 10_000):
        with file:
            file.executemany(INSERT, [(str(uuid.uuid4()), str(uuid.uuid4())) for _ in range(10_000)])
    file.close()


def place(bench, app, pays=False, pause=0):
    """A script by which wrk places orders of one product of many, and pays each of them if it `pays`; each connection pauses
    for so many milliseconds before a request."""
    lamps = [json.loads(fetch(app.port, "/products", json.dumps({"name": "Lamp", "price": 1, "stock": 10 ** 9}))[1])
             for _ in range(200)]
    ids = ", ".join(json.dumps(lamp["id"]) for lamp in lamps)
    script = bench.folder / ("pay.lua" if pays else f"place-{pause}.lua")
    # Any connection pays what another one has placed.
    script.write_text(f"""
        local ids, placed, number = {{{ids}}}, {{}}, {time.time_ns() % 2 ** 40}
        wrk.headers["Content-Type"] = "application/json"
        function request()
            local order = table.remove(placed)
            if order then
                return wrk.format("POST", "/orders/" .. order .. "/pay", nil, '{{"paymentMethod":"ok"}}')
            end
            number = number + 1
            local user = string.format("00000000-0000-4000-8000-%012x", number)
            local line = '{{"productId":"' .. ids[number % #ids + 1] .. '","quantity":1}}'
            return wrk.format("POST", nil, nil, '{{"userId":"' .. user .. '","items":[' .. line .. ']}}')
        end
        {"" if not pause else f"function delay() return {pause} end"}
        {"" if not pays else '''
        function response(status, headers, body)
            if status == 201 then table.insert(placed, body:match('"id":"([^"]+)"')) end
        end'''}""")
    return script

"""How many orders a second the shop places and pays, beside bare commits; and what an order costs among many.

Embedded: all roles in one process on files, and every order on disk before it is acknowledged. Beside it one connection
that commits an order's row by itself.
"""

import json
import sqlite3
import statistics
import time
import uuid

from harness import CONNECTIONS, Topology, fetch, measure, progress, table
from writes import commits

PLACE, PAY = "place", "place and pay"
# Orders a second, embedded.
GOAL = 2_000
# How many orders there are when an order is placed among many, and how much more CPU that may take.
MANY = 1_000_000
GROWTH = 1.2
INSERT = """INSERT INTO order_orders (id, user_id, status, items, total, currency, created_at, day, expires_at, version,
                                      reservation, attempts)
            VALUES (?, ?, 'placed', '[]', 100, 'EUR', '2026-01-01 00:00:00', '2026-01-01', '2027-01-01 00:00:00', 1, 0, 0)"""


def run(bench, rounds, seconds):
    """Measures both cases in turn and prints them."""
    app = bench.app("orders", bench.embedded("orders"))
    bench.app("bare orders", bench.embedded("bare-orders"))
    bench.stop("bare orders")
    shop = Topology("orders", app.port, [app.process.pid], [], {PLACE: "/orders", PAY: "/orders"})
    scripts = {PLACE: place(bench, app), PAY: place(bench, app, pays=True)}
    samples, bare = {case: [] for case in scripts}, []
    for number in range(rounds):
        progress(f"round {number + 1} of {rounds}")
        bare.append(commits(bench.folder / "bare-orders" / "order.db", INSERT,
                            lambda: (str(uuid.uuid4()), str(uuid.uuid4())), seconds))
        for case, script in scripts.items():
            samples[case].append(measure(shop, case, seconds, "-s", str(script)))
    rows = []
    for case, taken in samples.items():
        middle = sorted(taken, key=lambda sample: sample.rate)[(len(taken) - 1) // 2]
        # Each order that is paid takes two requests.
        orders = middle.rate / (2 if case == PAY else 1)
        goal = ["met" if orders >= GOAL else "NOT met", f">= {GOAL}"] if case == PLACE else ["-", "-"]
        rows.append([case, f"{orders:.0f}", f"{middle.p50:.2f}", f"{middle.p99:.2f}", f"{middle.front:.1f}",
                     *reversed(goal)])
    few = statistics.median(sample.front for sample in samples[PLACE])
    progress(f"adding {MANY:,} orders")
    fill(bench.folder / "orders" / "order.db")
    for _ in range(rounds):
        taken = measure(shop, PLACE, seconds, "-s", str(scripts[PLACE]))
        samples.setdefault(f"{PLACE}, among {MANY:,}", []).append(taken)
    taken = samples[f"{PLACE}, among {MANY:,}"]
    middle = sorted(taken, key=lambda sample: sample.rate)[(len(taken) - 1) // 2]
    growth = statistics.median(sample.front for sample in taken) / few
    rows.append([f"{PLACE}, among {MANY:,}", f"{middle.rate:.0f}", f"{middle.p50:.2f}", f"{middle.p99:.2f}",
                 f"{middle.front:.1f}", f"CPU <= {GROWTH} x",
                 f"{'met' if growth <= GROWTH else 'NOT met'}: {growth:.2f} x"])
    table(f"Orders on files, {CONNECTIONS} connections; latencies and CPU are of a request; one connection alone commits "
          f"{statistics.median(bare):.0f} rows a second",
          ["case", "orders/s", "p50 ms", "p99 ms", "app us", "goal", "verdict"], rows)


def fill(path):
    """Adds many orders, each of another user, while the shop runs."""
    file = sqlite3.connect(path, timeout=60)
    for _ in range(MANY // 10_000):
        with file:
            file.executemany(INSERT, [(str(uuid.uuid4()), str(uuid.uuid4())) for _ in range(10_000)])
    file.close()


def place(bench, app, pays=False):
    """A script by which wrk places orders of one product of many, and pays each of them if it `pays`."""
    lamps = [json.loads(fetch(app.port, "/products", json.dumps({"name": "Lamp", "price": 1, "stock": 10 ** 9}))[1])
             for _ in range(200)]
    ids = ", ".join(json.dumps(lamp["id"]) for lamp in lamps)
    script = bench.folder / ("pay.lua" if pays else "place.lua")
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
        {"" if not pays else '''
        function response(status, headers, body)
            if status == 201 then table.insert(placed, body:match('"id":"([^"]+)"')) end
        end'''}""")
    return script

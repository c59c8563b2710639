"""How many writes a second the shop acknowledges, beside the same statements without it.

On SQLite they are beside one connection that commits each by itself, from Python with the pragmas of app;
on PostgreSQL beside pgbench with as many clients. All wait for the same disk, one after the other in each
round.
"""

import json
import sqlite3
import statistics
import time
import uuid
from typing import NamedTuple

from harness import CONNECTIONS, Topology, fetch, measure, post_script, progress, table
from servers import POOL, pgbench, postgres_url, start_postgres

ADD, REGISTER, RESERVE = "POST /products", "POST /auth/register", "reserve and commit"
PRAGMAS = ("journal_mode = WAL", "synchronous = FULL", "foreign_keys = ON", "secure_delete = ON")
INSERT_PRODUCT = """INSERT INTO products (id, name, price, created_at, version, revision)
                    VALUES (?, 'Lamp', 1999, ?, 1, 1)"""
INSERT_USER = """INSERT INTO users (id, username, email, email_key, created_at, password_hash, roles, disabled,
                                    generation)
                 VALUES ({id}, 'bench', {email}, {email}, {now}, NULL, 'customer', false, 0)"""
# What the shop shall reach of what is beside it, and how much longer the slowest may wait.
ON_SQLITE, ON_POSTGRES, TAIL = 3, 0.6, 4


class Case(NamedTuple):
    """A request, what it costs the store without the shop, and the samples of both."""

    name: str
    request: str
    shop: Topology
    options: tuple[str, ...]
    alone: object
    goal: float
    samples: list
    bare: list


def run(bench, rounds, seconds):
    """Measures all cases in turn and prints them."""
    cases = [*on_sqlite(bench), reservations(bench), on_postgres(bench, start_postgres(bench))]
    for number in range(rounds):
        for case in cases:
            progress(f"round {number + 1} of {rounds}: {case.name}")
            case.bare.append(case.alone(seconds))
            case.samples.append(measure(case.shop, case.request, seconds, *case.options))
    print_cases(cases)


def on_sqlite(bench):
    """Products and accounts in files, of a shop in one process."""
    app = bench.app("writes", bench.embedded("writes"))
    shop = Topology("writes", app.port, [app.process.pid], [], paths())
    # The tables of accounts are made by a start.
    bench.app("bare", bench.embedded("bare"))
    bench.stop("bare")

    def bare(role, statement, values):
        return lambda seconds: commits(bench.folder / "bare" / f"{role}.db", statement, values, seconds)

    product = bare("product", INSERT_PRODUCT,
                   lambda: (uuid.uuid4().hex[:24], time.time_ns() // 1000))
    user = bare("user", INSERT_USER.format(id="?1", email="?2", now="?3"),
                lambda: (str(uuid.uuid4()), f"{uuid.uuid4()}@example.com", "2026-01-01 00:00:00"))
    add = post_script(bench, "add", {"name": "Lamp", "price": 19.99})
    return [Case(f"{ADD}, SQLite", ADD, shop, add, product, ON_SQLITE, [], []),
            Case(f"{REGISTER}, SQLite", REGISTER, shop, register(bench), user, ON_SQLITE, [], [])]


def on_postgres(bench, postgres):
    """Accounts on PostgreSQL, of a shop in one process."""
    settings = {"product.database_url": f"sqlite://{bench.folder}/writes-postgres/product.db", "user.pool_size": POOL}
    app = bench.app("writes-postgres", settings, DATABASE_URL=postgres_url(postgres))
    shop = Topology("writes-postgres", app.port, [app.process.pid], [], paths())
    script = bench.folder / "pgbench.sql"
    email = "'u' || :n || '@example.com'"
    insert = INSERT_USER.format(id="gen_random_uuid()::text", email=email, now="now()::timestamp")
    script.write_text("\\set n random(1, 1000000000000000)\nBEGIN;\n"
                      f"{' '.join(insert.split())};\nCOMMIT;\n")

    def alone(seconds):
        return pgbench(bench, postgres, script, seconds)

    return Case(f"{REGISTER}, PostgreSQL", REGISTER, shop, register(bench), alone, ON_POSTGRES, [], [])


def reservations(bench):
    """Reservations of two lines and their commits in turn, of a product role; each is a write."""
    settings = bench.embedded("reservations")
    app = bench.app("reservations", {"product.database_url": settings["product.database_url"]}, role="product")
    lamps = [json.loads(fetch(app.port, "/products", json.dumps({"name": "Lamp", "price": 1, "stock": 10 ** 9}))[1])
             for _ in range(200)]
    ids = ", ".join(json.dumps(lamp["id"]) for lamp in lamps)
    script = bench.folder / "reserve.lua"
    # Another connection commits what was reserved so many requests ago that it has been answered.
    script.write_text(f"""
        local ids, number = {{{ids}}}, 0
        local run = string.format("%08x", os.time()) .. "-0000-4000-8000-"
        local function path(n) return "/internal/reservations/" .. run .. string.format("%012x", n) end
        wrk.headers["Content-Type"] = "application/json"
        function request()
            number = number + 1
            if number % 2 == 0 and number > 512 then
                return wrk.format("POST", path(number - 511) .. "/commit", {{}}, "")
            end
            local first = number % #ids + 1
            local line = '{{"productId":"%s","quantity":1}}'
            local lines = line:format(ids[first]) .. "," .. line:format(ids[first % #ids + 1])
            return wrk.format("PUT", path(number), nil, '{{"lines":[' .. lines .. '],"seconds":60}}')
        end""")
    shop = Topology("reservations", app.port, [app.process.pid], [], {RESERVE: "/"})
    insert = "INSERT INTO reservations VALUES (?, 'held', ?, NULL, '[]', 1)"
    path = bench.folder / "reservations" / "product.db"

    def alone(seconds):
        return commits(path, insert, lambda: (str(uuid.uuid4()), time.time_ns()), seconds)

    return Case(f"{RESERVE}, SQLite", RESERVE, shop, ("-s", str(script)), alone, 1, [], [])


def paths():
    """Where the requests go."""
    return {ADD: "/products", REGISTER: "/auth/register"}


def register(bench):
    """The options by which wrk registers an account that nobody has in each request, of any run."""
    script = bench.folder / "register.lua"
    script.write_text("""
        local run, number = os.time() .. tostring({}):sub(8), 0
        wrk.method, wrk.headers["Content-Type"] = "POST", "application/json"
        function request()
            number = number + 1
            local email = "u" .. run .. "-" .. number .. "@example.com"
            return wrk.format(nil, nil, nil, '{"username":"bench","email":"' .. email .. '"}')
        end""")
    return "-s", str(script)


def commits(path, statement, values, seconds):
    """Transactions a second of one connection, each of one `statement` with new `values`."""
    connection = sqlite3.connect(path, isolation_level=None)
    for pragma in PRAGMAS:
        connection.execute(f"PRAGMA {pragma}")
    begin, done = time.perf_counter(), 0
    while time.perf_counter() - begin < seconds:
        connection.execute("BEGIN IMMEDIATE")
        connection.execute(statement, values())
        connection.execute("COMMIT")
        done += 1
    rate = done / (time.perf_counter() - begin)
    connection.close()
    return rate


def print_cases(cases):
    """The figures of the median round, and the goals, whose ratios are of figures of one round."""
    rows, goals = [], []
    for case in cases:
        middle = sorted(case.samples, key=lambda sample: sample.rate)[(len(case.samples) - 1) // 2]
        rows.append([case.name, f"{middle.rate:.0f}", f"{middle.p50:.2f}", f"{middle.p99:.2f}",
                     f"{middle.front:.1f}", f"{statistics.median(case.bare):.0f}"])
        ratio = statistics.median(sample.rate / bare for sample, bare in zip(case.samples, case.bare))
        tail = statistics.median(sample.p99 / sample.p50 for sample in case.samples)
        goals.append([f"writes/s of {case.name} / alone", f"{ratio:.2f} x", f">= {case.goal:g} x",
                      "met" if ratio >= case.goal else "NOT met"])
        goals.append([f"p99 / p50 of {case.name}", f"{tail:.1f} x", f"<= {TAIL} x",
                      "met" if tail <= TAIL else "NOT met"])
    table(f"Writes, {CONNECTIONS} connections; alone: the same statements, on SQLite one commit each, on PostgreSQL "
          "by pgbench", ["case", "writes/s", "p50 ms", "p99 ms", "app us", "alone/s"], rows)
    table("Goals of the writes", ["figure", "measured", "goal", "verdict"], goals)

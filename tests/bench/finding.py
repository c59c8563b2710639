"""What lists, filters and searches cost by the size of the catalogue; and how much of a mix of queries the cache has.

Requests come one after the other over one connection. Cold is a process that caches nothing, on files that the
system has in memory; warm is one that has each answer already.
"""

import itertools
import re
import socket
import statistics
import time
from random import Random
from typing import NamedTuple

from harness import Failure, fetch, free_port, goal, progress, table
from servers import redis_url, start_redis

# Words of the seed's names.
MATERIALS = ("aluminium", "walnut", "carbon", "ceramic", "steel", "bamboo", "leather", "glass", "titanium", "wool")
THINGS = ("keyboard", "lamp", "laptop", "backpack", "grinder", "headphones", "chair", "bottle", "monitor", "notebook",
          "bicycle", "camera", "kettle", "stand", "speaker", "watch")
QUALITIES = ("compact", "quiet", "rugged", "refurbished", "wireless", "foldable", "solar", "modular", "vintage",
             "professional", "pocket", "heavy")
CATEGORIES = ("Accessories", "Audio", "Computers", "Furniture", "Kitchen", "Outdoor", "Photography", "Travel")
TAGS = ("new", "sale", "gift", "handmade", "limited", "recycled", "music", "coffee")
SIZES = (1_000, 100_000, 1_000_000)
# The page far behind, the size of pages, and how many requests there are of each case.
FAR, LIMIT, REQUESTS = 1_000, 20, 300
# Milliseconds, and how much longer a page may take when the catalogue has ten times as many products.
LIST_GOAL, SEARCH_GOAL, GROWTH_GOAL = 10, 20, 1.5
# Of the mix: different queries, and how often one of them is asked for.
QUERIES, ASKED = 10_000, 60_000


class Case(NamedTuple):
    """Queries of one kind; growth has a goal where it does not come from what is found."""

    name: str
    queries: list[str]
    goal: float
    grows: bool = False


class Timing(NamedTuple):
    """Milliseconds, cold and warm, of a page with this number."""

    page: int
    cold: tuple[float, float]
    warm: tuple[float, float]


def cases():
    """Every kind of query."""
    prices = [f"minPrice={price}&maxPrice={price + 20}" for price in range(10, 400, 17)]
    words = zip(itertools.cycle(MATERIALS), THINGS)
    two = [f"{material}+{thing}" for material, thing in words]
    three = [f"{quality}+{text}" for quality, text in zip(itertools.cycle(QUALITIES), two)]
    texts = [("1 word, frequent", list(MATERIALS), True), ("1 word, rare", [str(n) for n in range(200, 240)], False),
             ("2 words", two, False), ("3 words", three, False)]
    lists = [("newest", [""]), ("by price", ["sort=price"]), ("by name", ["sort=name"]),
             ("category", [f"category={name}" for name in CATEGORIES]), ("tag", [f"tag={tag}" for tag in TAGS]),
             ("in stock", ["inStock=true"]), ("out of stock", ["inStock=false"]), ("price range", prices),
             ("price range, by price", [f"{range_}&sort=price" for range_ in prices]),
             ("category, by price", [f"category={name}&sort=price" for name in CATEGORIES])]
    return [*(Case(name, queries, LIST_GOAL) for name, queries in lists),
            *(Case(f"{name}, by {sort}", [f"q={text}&sort={sort}" for text in found], SEARCH_GOAL, grows)
              for name, found, grows in texts for sort in ("relevance", "newest"))]


class Client:
    """One connection."""

    def __init__(self, port):
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=30)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def get(self, target):
        """GETs `target`; returns milliseconds, X-Cache, and where the next page is."""
        request = f"GET {target} HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n".encode()
        begin = time.perf_counter()
        self.socket.sendall(request)
        received = self.socket.recv(1 << 16)
        while b"\r\n\r\n" not in received:
            received += self.socket.recv(1 << 16)
        head, body = received.split(b"\r\n\r\n", 1)
        left = int(re.search(rb"content-length: (\d+)", head)[1]) - len(body)
        while left > 0:
            left -= len(self.socket.recv(1 << 16))
        milliseconds = (time.perf_counter() - begin) * 1e3
        if not head.startswith(b"HTTP/1.1 200"):
            raise Failure(f"{target} was answered {head.decode()}")
        label, link = re.search(rb"x-cache: (\w+)", head), re.search(rb"link: <([^>]+)>", head)
        return milliseconds, label[1].decode(), link and link[1].decode()


def far(client, query):
    """The path of page 1,000, or of the last one before it, and its number."""
    number, path = 1, f"/products?{query}&limit=100"
    for step in (100, LIMIT):
        path = path.replace("limit=100", f"limit={step}")
        while number + step // LIMIT <= FAR:
            _, _, link = client.get(path)
            if link is None:
                break
            number, path = number + step // LIMIT, link
    return number, path


def timed(client, paths, label, seconds):
    """The 50th and the 99th percentile of requests for `paths` in turn."""
    taken, end = [], time.perf_counter() + seconds
    for path in itertools.islice(itertools.cycle(paths), max(REQUESTS, len(paths))):
        milliseconds, cache, _ = client.get(path)
        if cache != label:
            raise Failure(f"{path}: {cache}, not {label}")
        taken.append(milliseconds)
        if time.perf_counter() > end:
            break
    taken.sort()
    return statistics.median(taken), taken[(len(taken) - 1) * 99 // 100]


def measure(cold, warm, seconds):
    """For each case the timings of its first page, and of one far behind."""
    timings = {}
    for case in cases():
        progress(case.name)
        first = [f"/products?{query}&limit={LIMIT}" for query in case.queries]
        number, path = far(cold, case.queries[0])
        for page, paths in [(1, first)] + ([(number, [path])] if number > 1 else []):
            for path in paths:
                warm.get(path)
            found = timed(cold, paths, "MISS", seconds), timed(warm, paths, "HIT", seconds)
            timings[case.name, page > 1] = Timing(page, *found)
    return timings


def stores(bench, sizes, mongodb, million_on_mongodb):
    """The name and the size of each catalogue, with its settings and environment."""
    for size in sizes:
        yield "SQLite", size, {"product.database_url": f"sqlite://{bench.folder}/catalogue-{size}.db"}, {}
    for size in sizes if mongodb else ():
        if size < SIZES[-1] or million_on_mongodb:
            yield "MongoDB", size, {}, {"MONGODB_URL": mongodb(f"catalogue{size}")}


def run(bench, arguments, mongodb):
    """Measures every catalogue, and then the cache; `mongodb` gives the URL of a database where there is a mongod."""
    timings = {}
    for store, size, settings, environment in stores(bench, arguments.sizes, mongodb, arguments.million_on_mongodb):
        progress(f"seeding {size} products on {store}")
        seeding = bench.seed(size, settings, **environment)
        name = f"{store}-{size}"
        cold = bench.app(f"{name}-cold", settings, "product", APP__PRODUCT__CACHE_ENTRY_LIMIT="1", **environment)
        warm = bench.app(f"{name}-warm", settings, "product", **environment)
        timings[store, size] = measure(Client(cold.port), Client(warm.port), arguments.seconds)
        print_timings(store, size, seeding, timings[store, size])
        bench.stop(f"{name}-cold")
        bench.stop(f"{name}-warm")
    print_growth(timings)
    size = sorted(arguments.sizes)[len(arguments.sizes) // 2]
    settings = {"product.database_url": f"sqlite://{bench.folder}/catalogue-{size}.db"}
    redis = {"REDIS_URL": redis_url(start_redis(bench))}
    print_mix([(name, mix(bench, name, settings, environment))
               for name, environment in (("memory", {}), ("Redis", redis))])


def print_timings(store, size, seeding, timings):
    """The figures of one catalogue, with the goal of each beside it."""
    rows = []
    for case in cases():
        for is_far in (False, True):
            if timing := timings.get((case.name, is_far)):
                met = "met" if timing.cold[1] <= case.goal else "NOT met"
                rows.append([case.name, f"{timing.page:,}", *(f"{ms:.2f}" for ms in (*timing.cold, *timing.warm)),
                             f"<= {case.goal} ms", met])
    table(f"{size:,} products on {store}, seeded in {seeding:.1f} s ({size / seeding:,.0f}/s); milliseconds of a page of "
          f"{LIMIT}", ["case", "page", "cold p50", "p99", "warm p50", "p99", "goal, cold p99", "verdict"], rows)


def print_growth(timings):
    """How much longer a page takes in the largest catalogue than in one of a tenth."""
    rows = []
    for (store, size), small in timings.items():
        large = timings.get((store, size * 10))
        for (name, is_far), timing in small.items():
            case = next(case for case in cases() if case.name == name)
            # Only pages of one number compare.
            if large and large[name, is_far].page == timing.page:
                ratio = large[name, is_far].cold[0] / timing.cold[0]
                title = f"{store}, {name}, page {timing.page:,}, {size * 10:,} / {size:,}"
                rows.append(goal(title, ratio, "x", GROWTH_GOAL, digits=2))
                if case.grows:
                    rows[-1][2:] = "-", "-"
    if rows:
        table("Growth of the cold median", ["figure", "measured", "goal", "verdict"], rows)


def queries():
    """As many different ones as the mix has, in the order of how often they are asked for."""
    texts = [f"q={quality}+{material}+{thing}" for quality in QUALITIES for material in MATERIALS for thing in THINGS]
    sorts = ("", "&sort=newest", "&sort=price", "&inStock=true", "&maxPrice=100", "&minPrice=50")
    found = [text + rest for text in texts for rest in sorts]
    Random(1).shuffle(found)
    return found[:QUERIES]


def mix(bench, name, settings, environment):
    """Asks for queries by Zipf's law; returns what came from the cache in the second half, and the process's counters."""
    management = free_port()
    app = bench.app(f"mix-{name}", settings, "product", management=management, **environment)
    weights = [1 / rank for rank in range(1, QUERIES + 1)]
    asked = Random(2).choices(queries(), weights, k=ASKED)
    client, labels = Client(app.port), []
    for number, query in enumerate(asked):
        if number % 1000 == 0:
            progress(f"{number} of {ASKED} queries of the mix, cached in {name}")
        labels.append(client.get(f"/products?{query}&limit={LIMIT}")[1])
    half, seen = labels[ASKED // 2:], set(asked[:ASKED // 2])
    best = 0
    for query in asked[ASKED // 2:]:
        best += query in seen
        seen.add(query)
    counters = fetch(management, "/metrics")[1].decode()
    fills = dict(re.findall(r'product_cache_fills_total\{admitted="(\w+)",kind="search"\} (\d+)', counters))
    bench.stop(f"mix-{name}")
    return half.count("HIT"), half.count("STALE"), best, fills


def print_mix(measured):
    """How much of the mix came from each cache."""
    rows = [[name, *(f"{count / (ASKED / 2):.1%}" for count in (hits, stale, best)), fills["true"], fills["false"]]
            for name, (hits, stale, best, fills) in measured]
    table(f"{ASKED:,} requests of a mix of {QUERIES:,} searches (Zipf, exponent 1), caches of the default size; the second half",
          ["cached in", "hits", "stale", "hits of one without bounds", "admitted", "not admitted"], rows)

"""What a static file of the pages costs the gateway, beside nginx that serves the same bytes with the same headers."""

import re
import statistics

from harness import Failure, Topology, fetch, goal, measure, progress, start_nginx, table, workers

FILE = "file"
# Microseconds of CPU that a file may take, and how many times what nginx takes.
MICROSECONDS, TIMES = 6, 1.2


def run(bench, rounds, seconds):
    """Measures and prints both."""
    app = bench.app("pages", bench.embedded("pages"))
    path = style(app.port)
    headers, body = fetch(app.port, path)
    folder = bench.folder / "www"
    (folder / path.rsplit("/", 1)[0].lstrip("/")).mkdir(parents=True)
    (folder / path.lstrip("/")).write_bytes(body)
    wanted = ("cache-control", "vary", "x-content-type-options", "referrer-policy", "content-security-policy")
    lines = "".join(f'add_header {name} "{headers[name]}";' for name in wanted)
    nginx = start_nginx(bench, bench.programs.nginx, "files", "open_file_cache max=100;",
                        f"root {folder}; sendfile on; tcp_nopush on; {lines}", probe=path)
    shops = [Topology("gateway", app.port, [app.process.pid], [], {FILE: path}),
             Topology("nginx", nginx.port, workers(nginx), [], {FILE: path})]
    taken = {shop.name: [] for shop in shops}
    for number in range(rounds):
        progress(f"round {number + 1} of {rounds}: files")
        for shop in shops:
            taken[shop.name].append(measure(shop, FILE, seconds))
    rows = []
    for name, samples in taken.items():
        cost = [sample.front for sample in samples]
        rows.append([name, f"{statistics.median(sample.rate for sample in samples):.0f}",
                     f"{statistics.median(cost):.2f}", f"{min(cost):.2f}-{max(cost):.2f}"])
    table(f"A static file of {len(body):,} bytes, not compressed", ["served by", "requests/s", "us", "range"], rows)
    cost = {name: [sample.front for sample in samples] for name, samples in taken.items()}
    times = [ours / other for ours, other in zip(cost["gateway"], cost["nginx"])]
    table("Goals of files", ["figure", "measured", "goal", "verdict"], [
        goal("CPU of a file", statistics.median(cost["gateway"]), "us", MICROSECONDS, 2),
        goal("times what nginx takes, by rounds", statistics.median(times), "x", TIMES, 2)])


def style(port):
    """The path of the style that both applications load."""
    found = re.search(rb'"(/shop/assets/[^"]*/common/style\.css)"', fetch(port, "/shop")[1])
    if not found:
        raise Failure("/shop names no style")
    return found[1].decode()

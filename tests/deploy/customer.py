"""What a customer does: the five requests, an order, signing in, and a load that remembers what it was told."""

import http.client
import json
import secrets
import threading
import time

from lab import Failure

# Not one that could be guessed, and known to nobody: what it opens is gone with the run.
PASSWORD = secrets.token_urlsafe(24)
# Seconds that anything may take to come up, or back.
PATIENCE = 60
# What the clients of a load do, each one of it.
KINDS = ("register", "add", "list", "look", "order")


class Answer:
    """A status of 0 stands for no answer at all."""

    def __init__(self, status, headers, body):
        self.status, self.headers, self.body = status, headers, body

    def json(self):
        return json.loads(self.body)


class Customer:
    """Asks the gateway on a port of this machine, with a connection for each request, and a token once it has one.

    With `tls`, a context, over HTTPS.
    """

    def __init__(self, port, tls=None):
        self.port, self.tls, self.token = port, tls, None

    def ask(self, method, path, content=None, **more):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=12)
        if self.tls:
            connection = http.client.HTTPSConnection("localhost", self.port, timeout=12, context=self.tls)
        try:
            body = None if content is None else json.dumps(content)
            headers = {"Connection": "close", **more} | ({"Content-Type": "application/json"} if body else {})
            if self.token:
                headers["Authorization"] = f"Bearer {self.token}"
            connection.request(method, path, body, headers)
            response = connection.getresponse()
            return Answer(response.status, dict(response.getheaders()), response.read())
        except (OSError, http.client.HTTPException):
            return Answer(0, {}, b"")
        finally:
            connection.close()

    def register(self):
        """Makes an account that nobody has."""
        return self.ask("POST", "/auth/register", {"username": "u", "email": f"u{time.time_ns()}@example.com"})

    def order(self, product, user=None):
        """Orders a piece; an open shop is told for whom."""
        wanted = {"items": [{"productId": product, "quantity": 1}]} | ({"userId": user} if user else {})
        return self.ask("POST", "/orders", wanted, **{"Idempotency-Key": secrets.token_hex(8)})

    def sign_in(self, email):
        """Logs in, and sends the token from now on; gives the status."""
        answer = self.ask("POST", "/auth/login", {"email": email, "password": PASSWORD})
        self.token = answer.json()["accessToken"] if answer.status == 200 else None
        return answer.status

    def wait(self, path="/"):
        """The seconds until `path` is answered 200."""
        start = time.monotonic()
        while time.monotonic() - start < PATIENCE:
            if self.ask("GET", path).status == 200:
                return time.monotonic() - start
            time.sleep(0.002)
        return None


def five_requests(customer, report):
    """Makes them one after the other; gives the paths of what was written."""
    welcome = customer.ask("GET", "/")
    report.check((welcome.status, welcome.body) == (200, b'{"message":"API Gateway is Running"}'), "GET /", welcome.status)
    # Who has a token is in a shop that asks for a password as well.
    password = {"password": PASSWORD} if customer.token else {}
    user = customer.ask("POST", "/auth/register", {"username": "Neo", "email": "neo@matrix.com"} | password)
    report.check(user.status == 201, "POST /auth/register", user.status)
    dashboard_path = user.headers.get("location", "/nothing")
    dashboard = customer.ask("GET", dashboard_path)
    report.check(dashboard.status == 200, "GET /auth/dashboard/{id}", dashboard.status)
    seen = [customer.ask("GET", "/products") for _ in range(2)]
    marks = [page.headers.get("x-cache") for page in seen]
    report.check([page.status for page in seen] == [200, 200] and marks == ["MISS", "HIT"], "GET /products, twice", marks)
    product = customer.ask("POST", "/products", {"name": "Docker Super Computer", "price": 5000})
    shown = customer.ask("GET", "/products")
    there = product.status == 201 and shown.json()[0]["id"] == product.json()["id"]
    report.check(there, "POST /products, and the next GET shows it", product.status)
    return [dashboard_path, product.headers.get("location", "/nothing")]


def place_and_pay(customer):
    """Places an order, and pays it by the sandbox; gives whose it is, its path, and the statuses of all that."""
    product = customer.ask("POST", "/products", {"name": "Lamp", "price": 49.99, "stock": 1}).json()["id"]
    # Who has a token is in a shop that asks who orders.
    user = customer.ask("GET", "/auth/me") if customer.token else customer.register()
    placed = customer.order(product, None if customer.token else user.json()["id"])
    path = placed.headers.get("location", "/nothing")
    paid, again = (customer.ask("POST", f"{path}/pay", {"paymentMethod": "ok"}).status for _ in range(2))
    return user.json()["id"], path, [placed.status, paid, again]


def order_and_pay(customer, report):
    """Places an order, pays it, and waits until the customer's dashboard has heard of it."""
    user, path, statuses = place_and_pay(customer)
    seen = customer.ask("GET", path)
    is_paid = statuses == [201, 200, 409] and seen.json()["status"] == "paid"
    report.check(is_paid, "POST /orders, and to pay it once", [*statuses, seen.status])
    seconds = hears(customer, user, path)
    report.check(seconds < PATIENCE, "the dashboard shows it paid", f"{seconds:.1f} s later")


def hears(customer, user, path):
    """The seconds until the dashboard of `user` shows the order at `path` as paid, by an event."""
    start, order = time.monotonic(), path.rpartition("/")[2]
    while time.monotonic() - start < PATIENCE:
        dashboard = customer.ask("GET", f"/auth/dashboard/{user}")
        known = dashboard.json().get("recentOrders", []) if dashboard.status == 200 else []
        if (order, "paid") in ((one["id"], one["status"]) for one in known):
            break
        time.sleep(0.05)
    return time.monotonic() - start


def signed_in(customer, report):
    """What takes an admin's token, whatever the mode; the customer has one."""
    product = customer.ask("POST", "/products", {"name": "Gone soon", "price": 1}).headers.get("location", "/nothing")
    stranger = Customer(customer.port).ask("GET", "/auth/me").status
    seen = [customer.ask("GET", "/auth/me").status, customer.ask("DELETE", product).status]
    report.check((stranger, seen) == (401, [200, 204]), "without a token 401, with an admin's not", [stranger, *seen])


class Load:
    """Five clients, one for each kind of request, some twenty requests a second each, until they are told to end."""

    def __init__(self, port):
        self.written, self.statuses = [], {}
        # How long the slowest answer of each kind took, in seconds.
        self.longest = dict.fromkeys(KINDS, 0)
        self.over = threading.Event()
        customer = Customer(port)
        user = customer.register()
        self.dashboard, self.user = user.headers.get("location", "/nothing"), user.json()["id"]
        self.product = customer.ask("POST", "/products", {"name": "Ordered", "price": 1}).json()["id"]
        self.threads = [threading.Thread(target=self.go_on, args=(kind, customer), daemon=True) for kind in KINDS]
        for thread in self.threads:
            thread.start()

    def go_on(self, kind, customer):
        for number in range(100_000):
            if self.over.is_set():
                return
            start = time.monotonic()
            self.statuses.setdefault(kind, []).append(getattr(self, kind)(customer, number))
            self.longest[kind] = max(self.longest[kind], time.monotonic() - start)
            time.sleep(0.03)

    def register(self, customer, _number):
        return self.acknowledge(customer.register())

    def add(self, customer, number):
        return self.acknowledge(customer.ask("POST", "/products", {"name": f"Product {number}", "price": 1}))

    def list(self, customer, _number):
        return customer.ask("GET", "/products").status

    def look(self, customer, _number):
        return customer.ask("GET", self.dashboard).status

    def order(self, customer, _number):
        return self.acknowledge(customer.order(self.product, self.user))

    def acknowledge(self, answer):
        if answer.status == 201:
            self.written.append(answer.headers["location"])
        return answer.status

    def end(self):
        """Ends it; gives the statuses of each kind. A client that broke has seen nothing since, and fails the run."""
        broken = [kind for kind, thread in zip(KINDS, self.threads) if not thread.is_alive()]
        if broken:
            raise Failure(f"clients of the load broke: {', '.join(broken)}")
        self.over.set()
        for thread in self.threads:
            thread.join(30)
        return self.statuses

"""What a shop's script does, with a client that is made of the document: `python walk.py URL EMAIL ADMIN`."""

import re
import sys
from typing import TypeVar

from shop_client import AuthenticatedClient, Client
from shop_client.api.me import change_me, show_me
from shop_client.api.orders import list_orders, pay_order, place_order
from shop_client.api.products import add_product, list_products, show_product
from shop_client.api.sessions import log_in, log_out, refresh, register
from shop_client.models import (
    Account,
    ItemsItem,
    Login,
    NewOrder,
    NewProduct,
    NewUser,
    Order,
    OrderStatus,
    Payment,
    Problem,
    Product,
    ProfilePatch,
    Renewal,
    Tokens,
    User,
)
from shop_client.types import Unset

T = TypeVar("T")
URL, EMAIL, ADMIN = sys.argv[1:]
PASSWORD = "follow the white rabbit"


def good(kind: type[T], answer: object) -> T:
    """What came, which must be what was asked for."""
    assert isinstance(answer, kind), answer
    return answer


def pages(client: Client) -> list[Product]:
    found: list[Product] = []
    cursor: str | None = None
    while True:
        if cursor is None:
            answer = list_products.sync_detailed(client=client, limit=2)
        else:
            answer = list_products.sync_detailed(client=client, limit=2, cursor=cursor)
        assert isinstance(answer.parsed, list), answer
        found += answer.parsed
        assert len(found) < 1000, "a page leads on for ever"
        link = re.search(r'cursor=([^>&]+)>; rel="next"', answer.headers.get("link", ""))
        if link is None:
            return found
        cursor = link[1]


def main() -> None:
    anybody = Client(base_url=URL)
    admin = AuthenticatedClient(base_url=URL, token=ADMIN)
    for name in ["Lamp", "Chair", "Table", "Kettle", "Rug"]:
        product = good(Product, add_product.sync(client=admin, body=NewProduct(name=name, price=49.99)))
    new = NewUser(username="Neo", email=EMAIL, password=PASSWORD)
    user = good(User, register.sync(client=anybody, body=new))
    tokens = good(Tokens, log_in.sync(client=anybody, body=Login(email=EMAIL, password=PASSWORD)))
    neo = AuthenticatedClient(base_url=URL, token=tokens.access_token)
    me = good(Account, show_me.sync(client=neo))
    assert (me.id, [role.value for role in me.roles]) == (user.id, ["customer"])
    names = [product.name for product in pages(anybody)]
    assert len(set(names)) >= 5, names
    tokens = good(Tokens, refresh.sync(client=anybody, body=Renewal(refresh_token=tokens.refresh_token)))
    neo = AuthenticatedClient(base_url=URL, token=tokens.access_token)
    patched = good(Account, change_me.sync(client=neo, body=ProfilePatch(username="Thomas")))
    assert patched.username == "Thomas"
    wanted = NewOrder(items=[ItemsItem(product_id=product.id, quantity=2)], ship_to="Zion")
    order = good(Order, place_order.sync(client=neo, body=wanted, idempotency_key=EMAIL))
    assert (order.total, order.ship_to) == (99.98, "Zion"), order
    paid = good(Order, pay_order.sync(order.id, client=neo, body=Payment(payment_method="ok")))
    orders = list_orders.sync(client=neo, status=OrderStatus.PAID)
    assert isinstance(orders, list) and [order.id for order in orders] == [paid.id], orders
    missing = good(Problem, show_product.sync("0" * 24, client=anybody))
    assert missing.type_ == "/problems/not-found" and not isinstance(missing.request_id, Unset)
    assert log_out.sync_detailed(client=anybody, body=Renewal(refresh_token=tokens.refresh_token)).status_code == 204
    again = refresh.sync_detailed(client=anybody, body=Renewal(refresh_token=tokens.refresh_token))
    assert again.status_code == 401


main()

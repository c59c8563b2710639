"""localstripe with what it lacks of a confirmation: it names its payment method, and may follow one that was declined."""

import sys

from aiohttp import web
from localstripe import resources
from localstripe.errors import UserError

# All of them would write the same file.
resources.Store.dump_to_disk = lambda self: None


def confirm(id, payment_method=None):
    intent = resources.PaymentIntent._api_retrieve(id)
    if payment_method is not None:
        try:
            method = resources.PaymentMethod._api_retrieve(payment_method)
        except UserError:
            raise UserError(400, contents={"code": "resource_missing", "param": "payment_method"})
        intent.payment_method = method.id
        if intent.status == "requires_payment_method":
            intent.latest_charge = None
    return resources.PaymentIntent._api_confirm(id)


confirms = "/v1/payment_intents/{id}/confirm"
apis = [(method, url, confirm if url == confirms else api) for method, url, api in resources.extra_apis]
resources.extra_apis[:] = apis

# It registers what stands in extra_apis.
from localstripe import server  # noqa: E402

web.run_app(server.app, host="127.0.0.1", port=int(sys.argv[1]))

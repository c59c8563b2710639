"""Reads messages with h11: a line of JSON in, a line of JSON out.

In: {"role": "server" or "client", "hex": what came}. Out: {"messages": [...], "end": how it went on behind them}.
"""

import json
import sys

import h11


def read(role, data):
    """The first message in data, and what is behind it where another may come."""
    connection = h11.Connection(h11.SERVER if role == "server" else h11.CLIENT)
    if role == "client":
        connection.send(h11.Request(method="GET", target="/", headers=[("host", "shop")]))
        connection.send(h11.EndOfMessage())
    connection.receive_data(data)
    # The peer sends no more.
    connection.receive_data(b"")
    head, body = None, b""
    while True:
        event = connection.next_event()
        if event in (h11.NEED_DATA, h11.PAUSED) or isinstance(event, h11.ConnectionClosed):
            return None, b""
        if isinstance(event, (h11.Request, h11.Response)):
            head = event
        elif isinstance(event, h11.Data):
            body += bytes(event.data)
        elif isinstance(event, h11.EndOfMessage):
            break
    is_request = role == "server"
    message = {
        "method": head.method.decode() if is_request else "",
        "target": head.target.decode() if is_request else "",
        "status": 0 if is_request else head.status_code,
        "headers": len(head.headers),
        "body": list(body),
    }
    keeps = is_request and connection.their_state is not h11.MUST_CLOSE
    return message, connection.trailing_data[0] if keeps else b""


def messages(role, data):
    while data:
        # Empty lines before a request are skipped (RFC 9112, section 2.2), which h11 does not.
        while role == "server" and data.startswith(b"\r\n"):
            data = data[2:]
        message, data = read(role, data)
        if message:
            yield message


for line in sys.stdin:
    asked = json.loads(line)
    found, end = [], "over"
    try:
        for message in messages(asked["role"], bytes.fromhex(asked["hex"])):
            found.append(message)
    except h11.ProtocolError as error:
        end = f"refused: {error}"
    print(json.dumps({"messages": found, "end": end}))

#!/usr/bin/env -S python3 -B
"""Prints how long events took from their time until they are here, by RabbitMQ: a JSON array of milliseconds.

Usage: lag.py PORT SECONDS

A program of its own, because `orders.py` runs without the packages that this one needs (pika).
"""

import json
import sys
import time
from datetime import datetime

import pika


def main():
    """Takes a copy of each event of the shop, says so, and prints when the time is over."""
    port, seconds = int(sys.argv[1]), float(sys.argv[2])
    connection = pika.BlockingConnection(pika.ConnectionParameters("127.0.0.1", port))
    channel = connection.channel()
    queue = channel.queue_declare("", exclusive=True).method.queue
    channel.queue_bind(queue, "shop.events", "#")
    lags = []

    def take(_, __, ___, body):
        happened = datetime.fromisoformat(json.loads(body)["time"])
        lags.append((time.time() - happened.timestamp()) * 1e3)

    channel.basic_consume(queue, take, auto_ack=True)
    print("ready", flush=True)
    connection.call_later(seconds, channel.stop_consuming)
    channel.start_consuming()
    connection.close()
    print(json.dumps(lags))


if __name__ == "__main__":
    main()

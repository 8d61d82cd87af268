"""A real S3 server on loopback for tests, and the environment that leads to it."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

BUCKET = "bucket"
KEY, SECRET = "AKIATESTKEY", "c2VjcmV0LW9mLXRlc3Rz"


@contextmanager
def serving() -> Iterator[dict[str, str]]:
    """Run the server; gives the variables of the environment with which it is found."""
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        _, port = server.get_host_and_port()
        yield environment(port)
    finally:
        server.stop()


def environment(port: int) -> dict[str, str]:
    """Variables that lead to a server on this port."""
    return {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
        "AWS_ACCESS_KEY_ID": KEY,
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_REGION": "us-east-1",
    }

"""What the client says when a service is not there, or is something else."""

from __future__ import annotations

import socket
import threading

import pytest

import resight
from resight.errors import UsageError
from resight.serving.asking import ServiceError


def test_a_service_that_is_not_there_is_said_in_a_sentence():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{free.getsockname()[1]}"
        with pytest.raises(ServiceError, match="cannot be reached"):
            resight.connect(address)


@pytest.mark.parametrize("url", ["file:///etc", "ftp://127.0.0.1/"])
def test_addresses_of_something_else_are_refused(url):
    with pytest.raises(UsageError, match="http://"):
        resight.connect(url)


@pytest.mark.parametrize("answer", [b"", b"nonsense\r\n\r\n", b"HTTP/1.1 502 Bad\r\nContent-Length: 2\r\n\r\nno"])
def test_answers_of_something_else_are_errors_of_the_service(answer):
    with socket.create_server(("127.0.0.1", 0)) as server:

        def reply():
            connection, _ = server.accept()
            with connection:
                connection.recv(1000)
                connection.sendall(answer)

        answering = threading.Thread(target=reply)
        answering.start()
        with pytest.raises(ServiceError):
            resight.connect(f"http://127.0.0.1:{server.getsockname()[1]}")
        answering.join()


def test_a_collection_of_several_is_chosen_by_name(service):
    assert resight.connect(service.url, collection="hybrid").info().recipe == "hybrid"
    with pytest.raises(UsageError, match="classic, hybrid"):
        resight.connect(service.url)

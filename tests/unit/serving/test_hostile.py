"""What an attacker sends: none of it stops the service, leaks a path or gets more than a problem as an answer."""

from __future__ import annotations

import io
import os
import random
import signal
import struct
import time
import zlib
from contextlib import ExitStack, suppress

import numpy as np
import pytest
from PIL import Image

from photo_factory import picture, view
from resight.errors import UsageError
from resight.serving.photo_keys import id_of, key_of

AT = "/v1/collections/classic"


@pytest.fixture(autouse=True)
def alive(service):
    """After each test the service answers, and has named no path of the machine in its problems."""
    yield
    assert service.get("/readyz", timeout=60).status == 200
    assert service.process.poll() is None


def search(service, content, **fields):
    return service.post(f"{AT}/search", form=[("file", ("a.jpg", content)), *fields.items()])


def test_keys_of_photos_are_strict_and_reversible():
    for id_ in ("a.jpg", "2019/rome/ä b.jpg", "../../etc/passwd", "x" * 500, "%2e%2e/"):
        assert id_of(key_of(id_)) == id_
    for key in ("", "a", "YQ==", "YR", "Y Q", "../..", "ÿ", "YQ\n", "_" * 9000, "gIA"):
        with pytest.raises(UsageError, match="is not the key"):
            id_of(key)


@pytest.mark.parametrize(
    "path",
    [
        "/../../etc/passwd",
        "/page/../../../../etc/passwd",
        "/page/..%2f..%2fapp.py",
        "/page/%2e%2e/app.py",
        "/page/%00",
        "/v1/collections/..%2f..%2fetc",
        "/v1/collections/classic/photos/..%2f..%2fetc%2fpasswd/thumbnail",
        f"/v1/collections/classic/photos/{key_of('../../../etc/passwd')}/thumbnail",
        f"/v1/collections/classic/photos/{key_of('/etc/passwd')}/original",
        "/v1/collections/classic/photos/%ff%fe/thumbnail",
        "/v1/collections/classic/jobs/..%2f..",
        "//etc/passwd",
        "/v1//collections",
    ],
)
def test_paths_lead_nowhere(service, path):
    reply = service.get(path)
    assert reply.status in (400, 403, 404, 422)
    assert b"root:" not in reply.body
    assert reply.detail


def test_ids_that_name_files_of_the_machine_are_no_queries(service):
    for id_ in ("/etc/passwd", "tests/conftest.py", "/proc/self/environ"):
        assert service.post(f"{AT}/search", form=[("photo", key_of(id_))]).status == 404


@pytest.mark.parametrize(
    ("content", "status"),
    [
        (b"", 422),
        (b"not a photo", 415),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", 415),
        (b"%PDF-1.4 \xff\xd8\xff", 415),
        (b"\xff\xd8\xff\xe0" + b"\0" * 400, 422),
        (b"\x89PNG\r\n\x1a\n" + os.urandom(400), 422),
        (b"GIF89a" + b"\xff" * 100, 422),
    ],
)
def test_what_is_no_photo_is_a_problem(service, content, status):
    reply = search(service, content)
    assert reply.status == status
    assert "/" not in reply.detail.replace("image/", ""), "no path"


def png_of(width, height, data=b""):
    def chunk(kind, content):
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def test_a_bomb_of_10000_by_10000_pixels_is_refused_before_it_is_decoded(service):
    bomb = png_of(10_000, 10_000, zlib.compress(b"\0" * (10_001 * 10_000), 9))
    assert len(bomb) < 200_000
    started = time.monotonic()
    reply = search(service, bomb)
    assert (reply.status, "pixels" in reply.detail) == (413, True)
    assert time.monotonic() - started < 20
    assert search(service, png_of(2**31 - 1, 2**31 - 1)).status in (413, 422)


def test_a_bomb_within_the_limit_of_pixels_is_decoded_elsewhere(service):
    before = service.memory()
    flat = png_of(8_900, 8_900, zlib.compress(b"\0" * (8_901 * 8_900), 9))
    reply = search(service, flat)
    assert reply.status in (200, 413, 422)
    assert service.memory() - before < 190 << 20, "its pixels alone are 226 MiB"


def test_polyglots_are_what_they_begin_with(service):
    photo = io.BytesIO()
    Image.fromarray(picture(1)).save(photo, "JPEG")
    for tail in (b"PK\x03\x04" + os.urandom(200), b"<script>alert(1)</script>", b"<?php system('id'); ?>", b"MZ" * 90):
        reply = search(service, photo.getvalue() + tail, top=1)
        assert reply.status == 200
        assert reply.json["results"][0]["id"] == "001-0.jpg"
    reply = service.get(f"{AT}/photos/{key_of('001-0.jpg')}/thumbnail")
    assert (reply.headers["content-type"], reply.headers["x-content-type-options"]) == ("image/jpeg", "nosniff")


def test_bodies_larger_than_the_limit_are_refused(service):
    reply = service.post(f"{AT}/search", form=[("file", ("a", b"\0" * (33 << 20)))])
    assert (reply.status, "larger" in reply.detail) == (413, True)
    with service.socket() as raw:  # chunked, and no length
        raw.sendall(b"POST /v1/collections/classic/search HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n"
                    b"Content-Type: multipart/form-data; boundary=x\r\n\r\n"
                    b'3f\r\n--x\r\nContent-Disposition: form-data; name="f"; filename="f"\r\n\r\n\r\n')  # fmt: skip
        chunk = b"100000\r\n" + b"x" * (1 << 20) + b"\r\n"
        with suppress(OSError):  # it hangs up
            for _ in range(40):
                raw.sendall(chunk)
        with suppress(ConnectionError):
            assert raw.recv(200).split(b"\r\n")[0] in (b"", b"HTTP/1.1 413 Content Too Large",
                                                       b"HTTP/1.1 413 Request Entity Too Large")  # fmt: skip


def test_forms_of_many_parts_are_refused(service):
    assert service.post(f"{AT}/search", form=[("box", "0,0,9,9")] * 200).status == 400
    assert service.post(f"{AT}/search", form=[("file", ("a", b"x"))] * 200).status == 400
    assert service.post(f"{AT}/search", form=[("options", "x" * 200_000)]).status in (400, 413)


@pytest.mark.parametrize(
    "fields",
    [
        [("box", "1,2,3")],
        [("box", "0,0,nan,4")],
        [("box", "5,5,1,1")],
        [("box", "9999,9999,99999,99999")],
        [("box", "0,0,9,9")] * 9,
        [("options", "{")],
        [("options", "[1]")],
        [("options", "[" * 50_000)],
        [("options", '{"verify": "x"}')],
        [("options", '{"verify": NaN}')],
        [("options", '{"no": 1}')],
        [("where", '{"sql": "1=1"}')],
        [("where", "\"taken_at > '2020'\"")],
        [("where", '{"folder": ["a"]}')],
        [("where", '{"from": "2020\' OR 1=1"}')],
        [("recipe", "none")],
        [("recipe", "../x")],
        [("top", "0")],
        [("top", "10000000")],
        [("cursor", "x")],
        [("cursor", "eyJhZnRlciI6IC0xfQ")],
        [("query", "a")],
    ],
)
def test_fields_that_cannot_be_are_problems(service, fields):
    reply = service.post(f"{AT}/search", form=[("photo", key_of("001-1.jpg")), *fields])
    assert reply.status in (400, 422)
    assert len(reply.detail) > 10
    assert str(service.log.parent) not in reply.detail


def test_damaged_forms_and_requests_never_fail_the_service(service):
    rng = random.Random(5)
    head = (
        b"POST /v1/collections/classic/search HTTP/1.1\r\nHost: localhost\r\n"
        b"Content-Type: multipart/form-data; boundary=xXx\r\nContent-Length: 200\r\nConnection: close\r\n\r\n"
    )
    body = (
        b'--xXx\r\nContent-Disposition: form-data; name="photo"\r\n\r\nMDAxLTEuanBn\r\n--xXx\r\n'
        b'Content-Disposition: form-data; name="file"; filename="a"\r\n\r\n\xff\xd8\xff\r\n--xXx--\r\n'
    )
    whole = head + body
    for _ in range(150):
        content = bytearray(whole)
        for _ in range(rng.randint(1, 12)):
            place = rng.randrange(len(content))
            content[place : place + rng.randint(0, 3)] = rng.randbytes(rng.randint(0, 6))
        with service.socket(5) as raw:
            try:
                raw.sendall(bytes(content))
                raw.shutdown(1)
                status = raw.recv(64)
            except (ConnectionError, TimeoutError):
                continue
        assert b" 500 " not in status, bytes(content)
    log = service.log.read_text()
    assert "Traceback" not in log, log[log.index("Traceback") :][:3000]


def test_huge_headers_are_refused(service):
    with service.socket() as raw:
        try:
            raw.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nX: " + b"a" * 2_000_000 + b"\r\n\r\n")
            assert b" 200 " not in raw.recv(100)
        except ConnectionError:
            pass


def test_the_death_of_a_decoder_goes_unnoticed(service):
    unseen = io.BytesIO()
    Image.fromarray(view(picture(2), 50)).save(unseen, "JPEG")
    assert search(service, unseen.getvalue()).status == 200
    for _ in range(3):
        for pid in service.children("decode_worker"):
            os.kill(pid, signal.SIGKILL)
        assert search(service, unseen.getvalue()).status == 200


def test_clients_that_leave_stop_their_searches(service):
    unseen = io.BytesIO()
    Image.fromarray(np.tile(view(picture(2), 51), (2, 2, 1))).save(unseen, "PNG")
    for accept in ("application/json", "text/event-stream"):
        for wait in (0.0, 0.02, 0.1):
            connection = service.connection()
            connection.putrequest("POST", f"{AT}/search")
            from service_process import multipart

            content, kind = multipart([("file", ("a", unseen.getvalue()))])
            for name, value in (("Content-Type", kind), ("Content-Length", len(content)), ("Accept", accept)):
                connection.putheader(name, value)
            connection.endheaders(content)
            time.sleep(wait)
            connection.close()
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        if b"resight_busy 0.0" in service.get("/metrics").body:
            return
        time.sleep(0.1)
    raise AssertionError("searches of clients that left go on")


@pytest.mark.slow
def test_slow_heads_and_bodies_are_hung_up_on(world, tmp_path):
    """As many as a thousand slow connections at a time leave the service to others."""
    code = (
        "from resight.serving.server import serve; from resight.serving.settings import ServeSettings; "
        f"serve([{str(world.path('classic'))!r}], ServeSettings(port=0, header_seconds=3, body_seconds=3), print)"
    )
    import subprocess
    import sys

    with (tmp_path / "log").open("wb") as output:
        process = subprocess.Popen([sys.executable, "-u", "-c", code], stdout=output, stderr=subprocess.STDOUT)
    sockets = ExitStack()
    try:
        while "http://" not in (text := (tmp_path / "log").read_text()):
            assert process.poll() is None, text
            time.sleep(0.1)
        from service_process import Running

        service = Running(process, text.split()[0].rstrip("/"), tmp_path / "log")
        time.sleep(2)
        heads = [sockets.enter_context(service.socket()) for _ in range(300)]
        for raw in heads:
            raw.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n")
        body = sockets.enter_context(service.socket())
        body.sendall(b"POST /v1/collections/classic/search HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9999\r\n"
                     b"Content-Type: multipart/form-data; boundary=x\r\n\r\n--x\r\n")  # fmt: skip
        assert service.get("/healthz").status == 200
        for tick in range(6):
            time.sleep(1)
            for raw in heads[:50]:
                with suppress(OSError):
                    raw.sendall(b"X: %d\r\n" % tick)
        closed = sum(_closed(raw) for raw in heads)
        assert closed == len(heads)
        assert b" 408 " in body.recv(100)
        assert service.get("/healthz").status == 200
    finally:
        sockets.close()
        process.terminate()
        process.wait(30)


def _closed(raw):
    raw.settimeout(1)
    try:
        return raw.recv(10) == b""
    except ConnectionError:
        return True
    except TimeoutError:
        return False

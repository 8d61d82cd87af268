"""Known models, and fetching them from a server that runs here."""

import fcntl
import hashlib
import re
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from resight.errors import ResightError, UsageError
from resight.features.checkpoints import RECIPES
from resight.features.checkpoints import download as downloads
from resight.features.checkpoints.catalogue import (
    KNOWN,
    KnownModel,
    at_hand,
    fetch,
    known_model,
    licence_of,
    models_folder,
)
from resight.features.checkpoints.download import download
from resight.features.networks.resnet import BLOCKS

CONTENT = bytes(range(256)) * 5000
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@dataclass
class Site:
    """What the server serves, how, and what it was asked."""

    content: bytes = CONTENT
    etag: str = '"one"'
    ranges: bool = True
    breaks_after: int | None = None
    redirect: str | None = None
    status: int | None = None
    wrong_range: bool = False
    says_length: bool = True
    asked: list[str | None] = field(default_factory=list)
    url: str = ""


class Handler(BaseHTTPRequestHandler):
    site: Site

    def do_GET(self) -> None:
        site = self.site
        site.asked.append(self.headers.get("Range"))
        if site.status or site.redirect:
            self.send_response(site.status or 302)
            self.send_header("Location", site.redirect or "")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        start = self.start()
        if start and start >= len(site.content):
            self.send_error(416)
            return
        body = site.content[start:]
        self.send_response(206 if start else 200)
        self.send_header("ETag", site.etag)
        if site.says_length:
            self.send_header("Content-Length", str(len(body)))
        if start:
            shown = 0 if site.wrong_range else start
            self.send_header("Content-Range", f"bytes {shown}-{len(site.content) - 1}/{len(site.content)}")
        self.end_headers()
        self.wfile.write(body if site.breaks_after is None else body[: site.breaks_after])

    def start(self) -> int:
        same = self.headers.get("If-Range") in (None, self.site.etag)
        found = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range") or "")
        return int(found[1]) if found and self.site.ranges and same else 0

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def site() -> Iterator[Site]:
    handler = type("Here", (Handler,), {"site": Site()})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    handler.site.url = f"http://127.0.0.1:{server.server_port}/weights.pth"
    try:
        yield handler.site
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def model(site: Site, **changes: object) -> KnownModel:
    known = KnownModel("mine", "weights.pth", "gem", "resnet18", site.url, "https://example.org", "MIT", "none")
    return replace(known, **{"sha256": SHA256, "size": len(CONTENT), **changes})


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_known_models_are_told_apart_and_complete() -> None:
    assert len({known.name for known in KNOWN}) == len({known.file for known in KNOWN}) == len(KNOWN)
    for known in KNOWN:
        assert re.fullmatch(r"[a-z0-9-]+", known.name)
        assert re.fullmatch(r"[\w.-]+\.(pth|pt|pyth)", known.file)
        assert known.recipe in {*RECIPES, "local"}
        assert known.architecture in {*BLOCKS, "vgg16"}
        assert known.url is None or known.url.endswith(".pth")
        assert known.page.startswith("https://")
        assert known.licence
        assert re.search(r"\b(19|20)\d\d$", known.paper)
        assert known.sha256 is None or re.fullmatch(r"[0-9a-f]{8}|[0-9a-f]{64}", known.sha256)
        assert known.size is None or known.size > 10**6


def test_torchvision_writes_the_checksum_into_the_name() -> None:
    published = [known for known in KNOWN if known.name.startswith("torchvision-")]
    assert len(published) == 8
    assert all(known.file.endswith(f"-{(known.sha256 or '')[:8]}.pth") for known in published)


def test_known_model_and_licence() -> None:
    assert known_model("solar-resnet101").architecture == "resnet101"
    with pytest.raises(UsageError, match=r"no known model 'solar'.*lists them"):
        known_model("solar")
    assert licence_of("resnet101-solar-best.pth") == "MIT"
    assert licence_of("other.pth") == "unknown"


def test_models_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("RESIGHT_MODELS", str(tmp_path))
    assert models_folder() == tmp_path
    monkeypatch.delenv("RESIGHT_MODELS")
    monkeypatch.setenv("HOME", "/home/me")
    assert models_folder() == Path("/home/me/.cache/resight/models")


def test_fetch(site: Site, tmp_path: Path) -> None:
    shown: list[tuple[str, int, int]] = []
    mine, folder = model(site), tmp_path / "deep" / "models"
    assert at_hand(mine, folder) is None
    path = fetch(mine, folder, lambda *step: shown.append(step))
    assert path == folder / "weights.pth" == at_hand(mine, folder)
    assert path.read_bytes() == CONTENT
    assert names(folder) == ["weights.pth"]
    assert shown[-1] == ("fetch mine", len(CONTENT), len(CONTENT))
    assert fetch(mine, folder) == path
    assert site.asked == [None]  # what is there and right is not fetched again


def test_a_damaged_file_is_fetched_again(site: Site, tmp_path: Path) -> None:
    (tmp_path / "weights.pth").write_bytes(CONTENT[:-1] + b"x")
    assert fetch(model(site), tmp_path).read_bytes() == CONTENT
    (tmp_path / "weights.pth").write_bytes(CONTENT[:-1])
    assert at_hand(model(site), tmp_path) is None
    assert fetch(model(site), tmp_path).read_bytes() == CONTENT


def test_a_broken_download_is_continued(site: Site, tmp_path: Path) -> None:
    site.breaks_after = 700_000
    with pytest.raises(ResightError, match="run it again to continue"):
        fetch(model(site), tmp_path)
    assert at_hand(model(site), tmp_path) is None
    assert (tmp_path / "weights.pth.part").stat().st_size == 700_000
    site.breaks_after = None
    shown: list[tuple[str, int, int]] = []
    assert fetch(model(site), tmp_path, lambda *step: shown.append(step)).read_bytes() == CONTENT
    assert site.asked == [None, "bytes=700000-"]
    assert min(done for _, done, _ in shown) > 700_000
    assert names(tmp_path) == ["weights.pth"]


@pytest.mark.parametrize("change", [
    {"etag": '"two"'}, {"ranges": False}, {"content": CONTENT[:500_000]}
])  # fmt: skip
def test_a_file_that_changed_is_not_continued(site: Site, tmp_path: Path, change: dict) -> None:
    site.breaks_after = 700_000
    with pytest.raises(ResightError):
        download(site.url, tmp_path / "weights.pth")
    site.breaks_after = None
    for name, value in change.items():
        setattr(site, name, value)
    download(site.url, tmp_path / "weights.pth")
    assert (tmp_path / "weights.pth").read_bytes() == site.content


def test_another_part_than_the_rest_is_refused(site: Site, tmp_path: Path) -> None:
    site.breaks_after = 700_000
    with pytest.raises(ResightError, match="broke off"):
        download(site.url, tmp_path / "weights.pth")
    site.breaks_after, site.wrong_range = None, True
    with pytest.raises(ResightError, match="continue at byte 700000 and sent another part"):
        download(site.url, tmp_path / "weights.pth")
    site.wrong_range = False
    download(site.url, tmp_path / "weights.pth")
    assert (tmp_path / "weights.pth").read_bytes() == CONTENT


def test_without_an_etag_it_starts_again(site: Site, tmp_path: Path) -> None:
    site.breaks_after, site.etag = 700_000, ""
    with pytest.raises(ResightError):
        fetch(model(site), tmp_path)
    site.breaks_after = None
    assert fetch(model(site), tmp_path).read_bytes() == CONTENT
    assert site.asked == [None, None]


@pytest.mark.parametrize("change", [{"sha256": "0" * 64}, {"size": len(CONTENT) + 1, "sha256": SHA256}])
def test_a_wrong_file_is_removed(site: Site, tmp_path: Path, change: dict) -> None:
    site.says_length = False
    with pytest.raises(ResightError, match="broke off" if "size" in change else "not the file that was published"):
        fetch(model(site, **change), tmp_path)
    assert at_hand(model(site), tmp_path) is None
    assert "weights.pth" not in names(tmp_path)


def test_the_first_digits_are_checked(site: Site, tmp_path: Path) -> None:
    download(site.url, tmp_path / "a", sha256=SHA256[:8])
    with pytest.raises(ResightError, match="not the file"):
        download(site.url, tmp_path / "b", sha256="01234567")
    assert names(tmp_path) == ["a", "b.etag"]


def test_too_much_is_refused(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ResightError, match="gives more than 1000 bytes"):
        fetch(model(site, size=1000), tmp_path)
    monkeypatch.setattr(downloads, "LARGEST", 500)
    with pytest.raises(ResightError, match="gives more than 500 bytes"):
        download(site.url, tmp_path / "b")
    assert (tmp_path / "b.part").stat().st_size == 0


def test_an_empty_answer_is_no_file(site: Site, tmp_path: Path) -> None:
    site.content = b""
    with pytest.raises(ResightError, match="gave 0 bytes"):
        download(site.url, tmp_path / "a")


def test_refusals_of_the_server(site: Site, tmp_path: Path) -> None:
    site.status = 404
    with pytest.raises(ResightError, match="the server says 404"):
        fetch(model(site), tmp_path)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        nobody = f"http://127.0.0.1:{free.getsockname()[1]}/weights.pth"
    with pytest.raises(ResightError, match="cannot be fetched"):
        fetch(model(site, url=nobody), tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(ResightError, match="cannot be fetched"):
        fetch(model(site), tmp_path / "file" / "folder")


def test_redirects_lead_to_nothing_less_safe(site: Site, tmp_path: Path) -> None:
    site.redirect = "ftp://127.0.0.1/weights.pth"
    with pytest.raises(ResightError, match="less safe"):
        fetch(model(site), tmp_path)
    handler = downloads._SameSafety()
    secure = downloads.urllib.request.Request("https://example.org/a")
    with pytest.raises(ResightError, match="less safe"):
        handler.redirect_request(secure, None, 302, "Found", None, "http://example.org/a")
    followed = handler.redirect_request(secure, None, 302, "Found", {}, "https://example.org/b")
    assert followed.full_url == "https://example.org/b"


@pytest.mark.parametrize(
    "change", [{"sha256": None}, {"sha256": SHA256[:8]}, {"url": None}, {"url": "file:///etc/passwd"}]
)
def test_what_cannot_be_trusted_is_not_fetched(site: Site, tmp_path: Path, change: dict) -> None:
    with pytest.raises(UsageError, match=r"get weights\.pth from https://example\.org and give it with --weights"):
        fetch(model(site, **change), tmp_path / "models")
    assert site.asked == []
    assert not (tmp_path / "models").exists()


def test_two_at_once(site: Site, tmp_path: Path) -> None:
    with (tmp_path / "weights.pth.part").open("ab") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(ResightError, match="fetched by another process"):
            fetch(model(site), tmp_path)
    assert fetch(model(site), tmp_path).read_bytes() == CONTENT

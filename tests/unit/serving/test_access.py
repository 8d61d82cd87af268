"""Who may do what: keys, hosts, other sites."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from resight.errors import ResightError, UsageError
from resight.serving.keys import KeyFile, add_key, read_keys, revoke_key
from service_process import serving

pytest.importorskip("fastapi", reason="the extra serve is not installed")


def test_a_file_of_keys_holds_hashes_and_is_its_owners_alone(tmp_path):
    path = tmp_path / "deep" / "keys.json"
    key, text = add_key(path, "write", "for tests")
    assert path.stat().st_mode & 0o777 == 0o600
    assert text.startswith(f"rs_{key.id}_")
    assert text not in path.read_text()
    assert text.rpartition("_")[2] not in path.read_text()
    known = KeyFile(path)
    assert known.find(text) == key
    assert known.find(text[:-1] + ("a" if text[-1] != "a" else "b")) is None
    assert known.find("") is None
    assert known.find("rs_00000000_" + "a" * 43) is None
    os.chmod(path, 0o644)
    with pytest.raises(ResightError, match="chmod 600"):
        known.find(text)


def test_a_revoked_key_is_refused_at_once(tmp_path):
    path = tmp_path / "keys.json"
    (first, text), (second, other) = add_key(path, "read"), add_key(path, "admin")
    known = KeyFile(path)
    revoke_key(path, first.id)
    assert known.find(text) is None
    assert known.find(other) == second
    path.unlink()
    assert known.find(other) is None, "no file, no keys"
    with pytest.raises(UsageError, match="no key"):
        revoke_key(path, first.id)
    with pytest.raises(UsageError, match="unknown"):
        add_key(path, "owner")


@pytest.mark.parametrize("content", ["", "{}", '{"keys": [{"id": 1}]}', '{"keys": 3}', "[" * 100_000])
def test_a_damaged_file_of_keys_opens_no_door(tmp_path, content):
    path = tmp_path / "keys.json"
    path.write_text(content)
    path.chmod(0o600)
    with pytest.raises(ResightError, match="damaged"):
        read_keys(path)


def test_scopes_revocation_and_metrics_of_a_running_service(world, tmp_path):
    file, collection = tmp_path / "keys.json", world.copy("classic", tmp_path).path
    keys = {scope: add_key(file, scope) for scope in ("read", "write", "admin")}
    with serving(tmp_path / "log", collection, "--keys", file, key=keys["read"][1]) as service:
        assert service.get("/v1/collections").status == 200
        assert service.get("/v1/version").json["scope"] == "read"
        assert service.post("/v1/collections/classic/jobs", body={"kind": "graph"}).status == 403
        bad = service.get("/v1/collections", headers={"Authorization": "Bearer nonsense"})
        assert (bad.status, bad.headers["www-authenticate"]) == (401, "Bearer")
        assert service.get("/v1/collections", headers={"Authorization": "Basic eDp5"}).status == 401
        assert service.get("/healthz", headers={"Authorization": ""}).status == 200
        write = {"Authorization": f"Bearer {keys['write'][1]}"}
        assert service.post("/v1/collections/classic/jobs", body={"kind": "tune"}, headers=write).status == 403
        assert service.get("/metrics", headers={"X-Forwarded-For": "10.0.0.1"}).status == 403
        name = {"Host": "photos.example"}
        assert service.get("/v1/collections", headers=name).status == 200, "behind a proxy, with a key"
        revoke_key(file, keys["read"][0].id)
        assert service.get("/v1/collections").status == 401
        text = (tmp_path / "log").read_text()
    assert keys["read"][1] not in text
    assert f"key {keys['read'][0].id}" in text or keys["read"][0].id in text


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:80", "127.0.0.1.evil.example", "", "[::2]", "localhost.evil"]
)
def test_other_names_of_this_machine_are_refused(service, host):
    reply = service.get("/v1/collections", headers={"Host": host})
    assert reply.status in (400, 403)
    assert b"classic" not in reply.body


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1:1", "[::1]:80", "LOCALHOST"])
def test_names_of_localhost_are_this_machine(service, host):
    assert service.get("/v1/collections", headers={"Host": host}).status == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
)
def test_pages_of_other_sites_may_not_ask(service, headers):
    reply = service.get("/v1/collections", headers=headers)
    assert (reply.status, "other sites" in reply.detail) == (403, True)


def test_without_keys_only_this_machine_is_served(world, tmp_path):
    command = [sys.executable, "-m", "resight", "serve", str(world.path("classic")), "--port", "0"]
    done = subprocess.run([*command, "--host", "0.0.0.0"], capture_output=True, text=True, check=False, timeout=120)
    assert (done.returncode, "--keys" in done.stderr) == (2, True)
    missing = [*command, "--keys", str(tmp_path / "none.json")]
    done = subprocess.run(missing, capture_output=True, text=True, check=False, timeout=120)
    assert (done.returncode, "resight keys add" in done.stderr) == (2, True)


def test_the_commands_for_keys(tmp_path):
    def run(*words):
        command = [sys.executable, "-m", "resight", "keys", *words, "--keys", str(tmp_path / "k.json"), "--json"]
        return json.loads(subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout)

    made = run("add", "--scope", "write", "--note", "phone")
    (listed,) = run("list")
    assert (listed["id"], listed["note"], "key" in listed) == (made["id"], "phone", False)
    assert run("revoke", made["id"]) == {"revoked": made["id"]}
    assert run("list") == []

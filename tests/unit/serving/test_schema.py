"""The service is what its OpenAPI document says: schemathesis asks what the document allows, and what it does not."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from resight.serving.keys import add_key
from service_process import serving

pytest.importorskip("fastapi", reason="the extra serve is not installed")
EXAMPLES = 25  # of each operation, in each phase
# What a schema cannot say: that one of three fields is needed, that a folder must be allowed, that a token is known.
BEYOND = "positive_data_acceptance,negative_data_rejection"


@pytest.mark.slow
def test_nothing_that_the_document_allows_or_forbids_fails_the_service(world, tmp_path):
    program = Path(sys.executable).with_name("schemathesis")
    if not program.exists():
        pytest.skip("schemathesis is not installed")
    collection = shutil.copytree(world.path("classic"), tmp_path / "classic.resight")
    _, key = add_key(tmp_path / "keys.json", "admin")
    with serving(tmp_path / "log", collection, "--keys", tmp_path / "keys.json", key=key) as service:
        command = [program, "run", f"{service.url}/v1/openapi.json", "--header", f"Authorization: Bearer {key}"]
        options = ["--max-examples", EXAMPLES, "--generation-deterministic", "--exclude-checks", BEYOND,
                   "--phases", "examples,coverage,fuzzing", "--request-timeout", "60", "--warnings", "off"]  # fmt: skip
        done = subprocess.run(
            [*map(str, command), *map(str, options)],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
            timeout=900,
        )
        assert done.returncode == 0, done.stdout[-6000:]
        assert service.get("/readyz").status == 200
        assert "Traceback" not in service.log.read_text()


def test_the_page_of_the_api_is_current():
    docs = Path(__file__).parents[3] / "docs" / "generate_api.py"
    subprocess.run([sys.executable, docs, "--check"], check=True, capture_output=True, timeout=300)

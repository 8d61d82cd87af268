"""A service that searches for days: its memory stays where it is."""

from __future__ import annotations

import io
import os
import random
import shutil

import pytest
from PIL import Image

from photo_factory import picture, view
from resight.serving.photo_keys import key_of
from service_process import serving

SEARCHES = int(os.environ.get("RESIGHT_SEARCHES", "1600"))  # of them the first quarter fills the bounded caches
MOST_GROWTH = 48 << 20  # bytes in the second half; a leak of 100 kB per search would grow by 76 MiB
# One search in 16 is an upload, of which 225 kB are kept for a quarter of an hour: 11 MiB of the growth.


@pytest.mark.slow
def test_memory_is_flat_over_many_searches(world, tmp_path):
    rng = random.Random(3)
    uploads = []
    for seed in range(8):
        stream = io.BytesIO()
        Image.fromarray(view(picture(seed), 60 + seed)).save(stream, "JPEG")
        uploads.append(stream.getvalue())
    collection = shutil.copytree(world.path("classic"), tmp_path / "classic.resight")
    sizes = []
    with serving(tmp_path / "log", collection) as service:
        for number in range(SEARCHES):
            box = [
                ("box", f"{rng.randint(0, 100)},{rng.randint(0, 80)},{rng.randint(200, 320)},{rng.randint(160, 240)}")
            ]
            if number % 16:
                form = [("photo", key_of(rng.choice(world.photos.names))), *box]
            else:
                form = [("file", ("a.jpg", rng.choice(uploads))), *(box if number % 32 else [])]
            reply = service.post("/v1/collections/classic/search", form=form)
            assert reply.status == 200, reply
            if number % (SEARCHES // 16) == 0:
                sizes.append(service.memory())
        assert service.children("decode_worker"), "decoders are replaced, not lost"
    print(f"{SEARCHES} searches, MiB: {[size >> 20 for size in sizes]}")
    assert max(sizes[8:]) - max(sizes[4:8]) < MOST_GROWTH, [size >> 20 for size in sizes]

"""A dataset of Hugging Face as a folder: `datasets.load_from_disk` opens it.

Columns are those of the Parquet file without local features, and `image`, the photo itself: its bytes are copied into
the folder, so that it can be moved and pushed to a hub.
"""

from __future__ import annotations

import secrets
import tempfile
from collections.abc import Iterator
from typing import Any

from resight.exchange.photos import NamedPhotos, named_photos
from resight.exchange.request import Request, appearing
from resight.exchange.tables import photo_batches
from resight.extras import needed
from resight.regular_files import read_regular

ROWS_IN_MEMORY = 64  # photos whose bytes are held until they are written


def write_dataset(request: Request) -> str:
    """Write the folder. Raises `UsageError` without `datasets`, `CollectionError` when a photo is gone."""
    with needed("a Hugging Face dataset"):
        import datasets
    photos = named_photos(request.collection.snapshot)
    features = datasets.Features(_features(datasets, request))
    with appearing(request.out) as scratch, tempfile.TemporaryDirectory(dir=request.out.absolute().parent) as cache:
        datasets.disable_progress_bars()
        made = datasets.Dataset.from_generator(
            lambda: _records(request, photos),
            features=features,
            cache_dir=cache,
            writer_batch_size=ROWS_IN_MEMORY,
            fingerprint=secrets.token_hex(8),  # else it would try to pickle the collection for one
        )
        made.save_to_disk(scratch)
    return f"{len(photos)} photos, their files included"


def _features(datasets: Any, request: Request) -> dict[str, Any]:
    text, number = datasets.Value("string"), datasets.Value("int32")
    columns = {"image": datasets.Image(), "id": text, "path": text, "width": number, "height": number,
               "taken_at": text, "sha256": text, "tags": datasets.List(text)}  # fmt: skip
    if request.collection.snapshot.settings.vector is not None:
        dim = request.collection.vectors()[1].shape[1]
        columns["vector"] = datasets.List(datasets.Value("float32"), length=dim)
    return columns


def _records(request: Request, photos: NamedPhotos) -> Iterator[dict[str, Any]]:
    for start, batch in photo_batches(request, photos, local=False):
        for record in batch.to_pylist():
            yield {"image": {"bytes": read_regular(record["path"]), "path": photos.names[start]}, **record}
            start += 1
        request.progress("writing photos", start, len(photos))

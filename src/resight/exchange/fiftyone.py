"""A folder that FiftyOne imports: `metadata.json` and `samples.json`, which names the photos where they are.

    import fiftyone as fo
    dataset = fo.Dataset.from_dir("OUT", dataset_type=fo.types.FiftyOneDataset)

A sample has `resight_id`, `tags`, the size of its photo, `taken_at` where that is known, `neighbours` (the first
results of a search for it as classifications, by id, with their scores as confidence) and, where the collection has
them, its global descriptor as `embedding` (`fiftyone.brain.compute_similarity` takes that by name).
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from resight.exchange.lists import ranked_lists
from resight.exchange.photos import NamedPhotos, named_photos
from resight.exchange.request import Request, appearing
from resight.exchange.tables import photo_batches
from resight.version import __version__


def write_dataset(request: Request) -> str:
    """Write the folder, a sample at a time."""
    photos = named_photos(request.collection.snapshot)
    with appearing(request.out) as scratch:
        scratch.mkdir()
        info = {"resight": __version__, "collection": str(request.collection.path)}
        (scratch / "metadata.json").write_text(json.dumps({"media_type": "image", "info": info}), encoding="utf-8")
        with (scratch / "samples.json").open("w", encoding="utf-8") as file:
            file.write('{"samples": [\n')
            for number, sample in enumerate(_samples(request, photos)):
                file.write(f"{',' if number else ''}{json.dumps(sample, allow_nan=False)}\n")
            file.write("]}\n")
    return f"{len(photos)} samples that name their photos where they are"


def _samples(request: Request, photos: NamedPhotos) -> Iterator[dict[str, Any]]:
    lists = ranked_lists(request, photos)
    for _, batch in photo_batches(request, photos, local=False):
        for record in batch.to_pylist():
            _, found, scores = next(lists)
            near = zip((photos.ids[other] for other in found.tolist()), scores.tolist(), strict=True)
            yield _sample(record, [{"_cls": "Classification", "label": id_, "confidence": c} for id_, c in near])


def _sample(record: dict[str, Any], neighbours: list[dict[str, Any]]) -> dict[str, Any]:
    sample = {
        "filepath": record["path"],
        "tags": record["tags"] or [],
        "metadata": {"_cls": "ImageMetadata", "width": record["width"], "height": record["height"]},
        "resight_id": record["id"],
        "neighbours": {"_cls": "Classifications", "classifications": neighbours},
    }
    if record["taken_at"] is not None:
        sample["taken_at"] = record["taken_at"]
    if record.get("vector") is not None:
        sample["embedding"] = record["vector"]
    return sample

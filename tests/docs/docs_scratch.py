"""The folder in which the commands of the pages are run: every file that they name, small."""

from __future__ import annotations

import json
import pickle
import shutil
from collections.abc import Mapping
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from docs_networks import CHANNELS, WRITERS, write_file

from delf_factory import delf
from photo_factory import Photos, make_photos, picture, save, view

OBJECTS, VIEWS = 7, 3
GROUP = "2019/rome/"  # where the photos of the first object lie
SETTINGS = {"count": 200, "words": 64, "enlarge_below": 0, "scales": [1.0], "max_side": 320}
FIRST = Path("photos.resight")
# Names that other pages use for the same things.
ALIASES = {"PHOTOS": "photos", "OTHERS": "more", "MY_FOLDERS": "folders", "NETWORK.onnx": "resnet101.onnx",
           "HOLIDAYS": "data/holidays", "photo.jpg": "query.jpg", "PHOTO": "query.jpg",
           "A.jpg": "query.jpg", "B.jpg": "photos/2019/rome/0412.jpg", "C.jpg": "photos/tower.jpg",
           "CHECKPOINT": "delg.pyth", "IMAGENET": "folders", "OUT/weights.pth": "HardNet++.pth"}  # fmt: skip
Groups = Mapping[str, str]  # ids of photos, and what each shows


def make_scratch(base: Path) -> Path:
    """Write everything below `base`, the collection photos.resight included."""
    photos = _photos(base)
    groups = {_id(name): group[0][:3] for group in photos.groups for name in group}
    for name in WRITERS:
        write_file(name, base)
    _examples(base, groups)
    _benchmarks(base)
    _training_sets(base, groups)
    (base / "OUT").mkdir()
    for name, source in ALIASES.items():
        (base / name).symlink_to(base / source)
    _collection(base, photos)
    return base


def _id(name: str) -> str:
    return {"000-0.jpg": GROUP + "0411.jpg", "000-1.jpg": GROUP + "0412.jpg", "000-2.jpg": GROUP + "0413.jpg"}.get(
        name, name
    )


def _photos(base: Path) -> Photos:
    photos = make_photos(base / "photos", OBJECTS, VIEWS)
    (photos.folder / GROUP).mkdir(parents=True)
    for name in photos.groups[0]:
        (photos.folder / name).rename(photos.folder / _id(name))
    save(photos.folder / "tower.jpg", picture(90, 480, 640))
    save(base / "query.jpg", view(picture(0), 7))
    shutil.copy(base / "query.jpg", base / "new.jpg")
    make_photos(base / "more" / "photos", 2, 2, first=OBJECTS)
    return photos


def _examples(base: Path, groups: Groups) -> None:
    ids = list(groups)
    pairs = [(ids[k], ids[k + 1]) for k in range(0, len(ids), VIEWS)]
    judged = [(a, b, 1) for a, b in pairs] + [(a, b, 0) for (a, _), (b, _) in combinations(pairs, 2)]
    _csv(base / "pairs.csv", "left,right,matching", judged)
    _csv(base / "groups.csv", "id,group", groups.items())
    _csv(base / "labels.csv", "photo,label", [(f"photos/{name}", what) for name, what in groups.items()])
    _csv(base / "photos/pairs.csv", "query,positive,junk", [(a, b, "") for a, b in pairs])
    (base / "boxes.json").write_text(json.dumps({GROUP + "0412.jpg": [[20, 20, 200, 150]]}))


def _csv(path: Path, header: str, rows: Any) -> None:
    path.write_text("\n".join([header, *(",".join(map(str, row)) for row in rows)]) + "\n")


def _vectors(rows: int, seed: int = 0) -> np.ndarray:
    vectors = np.random.default_rng(seed).normal(size=(rows, CHANNELS)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def _benchmarks(base: Path) -> None:
    """INRIA Holidays, the revisited Oxford and Google Landmarks, as they are published, of a few photos each."""
    holidays = base / "data/holidays/images"
    holidays.mkdir(parents=True)
    for number in range(OBJECTS):
        for k in range(VIEWS):
            save(holidays / f"{1000 + number}{k:02d}.jpg", view(picture(number), k and 50 * number + k))
    (base / "data/descriptors").mkdir()
    np.save(base / "data/descriptors/holidays_resnet101v2_c4_gem.npy", _vectors(OBJECTS * VIEWS))
    names = [f"all_souls_{n:06d}" for n in range(4)]
    gnd = [{"bbx": [10, 20, 200, 180], "easy": [1], "hard": [2], "junk": [3]}]
    (base / "data/gnd_roxford5k.pkl").write_bytes(
        pickle.dumps({"imlist": names, "qimlist": ["oxford_query"], "gnd": gnd})
    )
    (base / "data/jpg").mkdir()
    asked = [*names, "oxford_query"]
    for n, name in enumerate(asked):
        save(base / "data/jpg" / f"{name}.jpg", view(picture(n // 3), n))
    _hloc_vectors(base / "global-feats-netvlad.h5", [f"{name}.jpg" for name in asked])
    _landmarks(base)


def _hloc_vectors(path: Path, names: list[str]) -> None:
    import h5py

    with h5py.File(path, "w") as file:
        for name, row in zip(names, _vectors(len(names)), strict=True):
            file.create_group(name)["global_descriptor"] = row


def _landmarks(base: Path) -> None:
    import h5py

    ids = [f"{n:016x}" for n in range(8)]
    (base / "gldv2").mkdir()
    _csv(base / "gldv2/index.csv", "id", [(name,) for name in ids])
    _csv(base / "gldv2/retrieval_solution_v2.1.csv", "id,images,Usage", [("f" * 16, f"{ids[0]} {ids[1]}", "Public")])
    _csv(base / "gldv2/train.csv", "id,url,landmark_id", [(name, "", n // 2) for n, name in enumerate(ids)])
    for kind, seed in (("gem", 1), ("dir", 2)):
        with h5py.File(base / f"gldv2-public_{kind}.h5", "w") as file:
            file["X"], file["Q"] = _vectors(8, seed), _vectors(1, seed + 5)
    blend = np.hstack([_vectors(8, 3), _vectors(8, 4)]) / np.sqrt(2)
    with h5py.File(base / "gldv2-train_blend.h5", "w") as file:
        file["X"] = blend.astype(np.float32)


def _training_sets(base: Path, groups: Groups) -> None:
    """Labels of ours, and the lists of retrieval-SfM, of GL18 and of Google Landmarks with their folders of photos."""
    photos, names = base / "photos", list(groups)
    for listed in ("LABELS.csv", "train.csv"):
        shutil.copy(base / "labels.csv", base / listed)
    for name, what in groups.items():
        (base / "folders" / what).mkdir(parents=True, exist_ok=True)
        shutil.copy(photos / name, base / "folders" / what / Path(name).name)
    ids = [f"abcdef{n:010x}" for n in range(len(names))]
    cluster = [n // VIEWS for n in range(len(names))]
    starts = range(0, len(names), VIEWS)
    part = {"cids": ids, "cluster": cluster, "qidxs": list(starts), "pidxs": [n + 1 for n in starts]}
    (base / "retrieval-SfM-120k.pkl").write_bytes(pickle.dumps({"train": part, "val": part}))
    listed = {**part, "cids": [f"gl/{name}.jpg" for name in ids]}
    (base / "db_gl18.pkl").write_bytes(pickle.dumps({"train": listed, "val": listed}))
    clean = [(n, " ".join(ids[n * VIEWS : n * VIEWS + VIEWS])) for n in range(OBJECTS)]
    _csv(base / "train_clean.csv", "landmark_id,images", clean)
    for one, name in zip(ids, names, strict=True):
        for place in (f"ims/{one[-2:]}/{one[-4:-2]}/{one[-6:-4]}/{one}", f"ims/gl/{one}.jpg",
                      f"{one[0]}/{one[1]}/{one[2]}/{one}.jpg"):  # fmt: skip
            (base / place).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(photos / name, base / place)


def _collection(base: Path, photos: Photos) -> None:
    """photos.resight with local features and vectors, and its photos in the formats of other tools."""
    from resight.collection import create_collection
    from resight.exchange.formats import export
    from resight.exchange.request import Request

    collection = create_collection(base / FIRST, "hybrid", {**SETTINGS, "backbone": str(base / "resnet101.onnx")})
    collection.add([photos.folder])
    for copy in ("others.resight", "mine.resight", "demo-out/demo.resight"):
        shutil.copytree(base / FIRST, base / copy)
    export("hloc-h5", Request(collection, base / "features.h5"))
    export("hf-dataset", Request(collection, base / "hf"))
    for name, row in collection.ids.items():
        target = base / "delf_features" / Path(name).with_suffix(".delf")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(delf(collection.snapshot.features(row)))

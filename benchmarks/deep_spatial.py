"""Deep spatial matching on photographs: does it tell true pairs from others, and does it help a ranking?

    python benchmarks/deep_spatial.py landmarks DATA [--views 4] [--side 640]
    python benchmarks/deep_spatial.py holidays DATA [--every 10] [--side 340] [--top 20] [--vectors GEM.npy]
    python benchmarks/deep_spatial.py picture DATA OUT.jpg

DATA holds `landmarks/<object>/*.jpg`, `holidays/images/*.jpg` (group = number // 100, first of a group = query) and
`backbones/resnet101v2_c4.onnx`. GEM.npy: (photos, 1024) global descriptors in the order of the photos' names, else they
are computed. Prints Markdown tables; `picture` draws two photographs of the demo.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import cv2
import numpy as np

from resight.demo import sources
from resight.demo.scene import shoot
from resight.features.global_descriptor import GlobalDescriptor
from resight.features.networks.backbone import Backbone
from resight.features.networks.open import open_backbone
from resight.features.pooling import gem
from resight.matching.deep_spatial import DeepRegions, describe, verify_regions
from resight.ranking.deep_spatial import DeepQueries, deep_spatial_diffusion
from resight.ranking.diffusion_stages import Diffusion
from resight.ranking.search import GlobalSearch
from resight.ranking.vector_database import VectorDatabase
from resight.viz.matches import draw_matches

EDGE = 2  # pixels of drawn ellipses


def network(data: Path) -> Backbone:
    return open_backbone(data / "backbones/resnet101v2_c4.onnx")


def read(path: Path) -> np.ndarray:
    return np.ascontiguousarray(cv2.imread(str(path))[:, :, ::-1])


def regions(backbone: Backbone, photo: np.ndarray, query: bool, side: int) -> DeepRegions:
    return describe(backbone, photo, query=query, max_side=side, enlarge=True)


def quantiles(values: np.ndarray) -> str:
    return ", ".join(f"{value:.0f}" for value in np.quantile(values, (0, 0.1, 0.5, 0.9, 1)))


def landmarks(data: Path, views: int, side: int) -> None:
    """All ordered pairs of photos of a few objects."""
    folders = sorted(folder for folder in (data / "landmarks").iterdir() if folder.is_dir())
    paths = [path for folder in folders for path in sorted(folder.glob("*.jpg"))[:views]]
    backbone, photos = network(data), [read(path) for path in paths]
    query, database = ([regions(backbone, photo, one, side) for photo in photos] for one in (True, False))
    found = [verify_regions(one, database) for one in query]
    inliers = np.array([[one.inliers for one in row] for row in found])
    verified = np.array([[one.verified for one in row] for row in found])
    names = np.array([path.parent.name for path in paths])
    same = names[:, None] == names
    other, same = ~same, same & ~np.eye(len(names), dtype=bool)
    print("| pairs | number | inliers: least, 10 %, median, 90 %, most | verified |\n|---|--:|---|--:|")
    for name, pairs in (("same object", same), ("different objects", other)):
        print(f"| {name} | {pairs.sum()} | {quantiles(inliers[pairs])} | {verified[pairs].mean():.3f} |")


def average_precision(relevant: np.ndarray) -> float:
    hits = np.flatnonzero(relevant)
    return float(np.mean((np.arange(len(hits)) + 1) / (hits + 1)))


def holidays(data: Path, every: int, side: int, top: int, given: Path | None) -> None:
    """Every so many queries, their first results by GeM ordered again by inliers."""
    paths = sorted((data / "holidays/images").glob("*.jpg"))
    numbers = np.array([int(path.stem) for path in paths])
    groups = numbers // 100
    backbone, photos = network(data), [read(path) for path in paths]
    vectors = np.load(given) if given else np.stack(GlobalDescriptor(backbone, gem, "gem 3").describe(photos))
    asked = [row for row in np.flatnonzero(numbers % 100 == 0) if (groups == groups[row]).sum() > 1][::every]
    known: dict[int, DeepRegions] = {}
    before, after, inliers, same, verified, described, seconds = [], [], [], [], [], [], 0.0
    for row in asked:
        order = np.argsort(-(vectors @ vectors[row]), kind="stable")
        order = order[order != row]
        for near in order[:top].tolist():
            if near not in known:
                known[near] = regions(backbone, photos[near], False, side)
        query, started = regions(backbone, photos[row], True, side), time.process_time()
        found = verify_regions(query, [known[near] for near in order[:top].tolist()])
        described.append(query)
        seconds += time.process_time() - started
        counts = np.array([one.inliers for one in found])
        before.append(average_precision(groups[order] == groups[row]))
        again = np.r_[order[:top][np.argsort(-counts, kind="stable")], order[top:]]
        after.append(average_precision(groups[again] == groups[row]))
        inliers.extend(counts)
        verified.extend(one.verified for one in found)
        same.extend(groups[order[:top]] == groups[row])
    plain, again, mask = np.array(before), np.array(after), np.array(same)
    print("| queries | mAP before | after | better | worse | processor ms a pair |\n|--:|--:|--:|--:|--:|--:|")
    cost = 1000 * seconds / len(mask)
    better, worse = (again > plain + 1e-9).sum(), (again < plain - 1e-9).sum()
    print(f"| {len(asked)} | {plain.mean():.3f} | {again.mean():.3f} | {better} | {worse} | {cost:.0f} |\n")
    print("| pairs | number | inliers: least, 10 %, median, 90 %, most | verified |\n|---|--:|---|--:|")
    for name, pairs in (("same group", mask), ("other group", ~mask)):
        share = np.array(verified)[pairs].mean()
        print(f"| {name} | {pairs.sum()} | {quantiles(np.array(inliers)[pairs])} | {share:.3f} |")

    diffusion(vectors, groups, np.array(asked), described, known, top)


def diffusion(
    vectors: np.ndarray,
    groups: np.ndarray,
    rows: np.ndarray,
    described: list[DeepRegions],
    known: dict[int, DeepRegions],
    top: int,
) -> None:
    """The same queries by diffusion, from the five nearest photos and from the five with most inliers."""
    database = VectorDatabase.over(vectors)
    queries = DeepQueries(vectors=vectors[rows], rows=rows, regions=tuple(described))
    verified = deep_spatial_diffusion(database, lambda near: [known[int(row)] for row in near], top=top)
    nearest = Diffusion(database, verified.stages[1].normalised, seeds=5, limit=None)
    print("\n| diffusion from | mAP |\n|---|--:|")
    for name, pipeline in (("five nearest", GlobalSearch(database.index) >> nearest), ("five verified", verified)):
        found = pipeline(queries).ids
        others = [ids[(ids >= 0) & (ids != row)] for row, ids in zip(rows, found, strict=True)]
        scores = [average_precision(groups[ids] == groups[row]) for row, ids in zip(rows, others, strict=True)]
        print(f"| {name} | {np.mean(scores):.3f} |")


def picture(data: Path, out: Path) -> None:
    """Two demo photographs: the regions of the channels with most inliers above, all inliers below."""
    backbone, rng = network(data), np.random.default_rng(4)
    print_ = next(sources.load(source) for source in sources.OBJECTS if source.name == "astronaut")
    occluders = tuple(sources.load_all(sources.OCCLUDERS).values())
    photos = [shoot(rng, print_, occluders, (640, 480), level)[0] for level in (0.1, 0.45)]
    pair = [regions(backbone, photo, query, 640) for photo, query in zip(photos, (True, False), strict=True)]
    found = verify_regions(pair[0], [pair[1]])[0]
    used = found.correspondences[found.mask]
    strength = sum(part.frames.strength[used[:, side]] for side, part in enumerate(pair))
    chosen = used[np.argsort(-strength, kind="stable")[:25]]
    colours = cv2.applyColorMap(np.linspace(0, 255, 25).astype(np.uint8)[:, None], cv2.COLORMAP_RAINBOW)[:, 0, ::-1]
    drawn = []
    for side, photo in enumerate(photos):
        canvas = (photo * 0.75).astype(np.uint8)
        for row, colour in zip(chosen[:, side], colours.tolist(), strict=True):
            turn = np.linspace(0, 2 * np.pi, 60)
            edge = pair[side].frames.xy[row] + np.c_[np.cos(turn), np.sin(turn)] @ pair[side].frames.shape[row].T
            cv2.polylines(canvas, [np.round(edge).astype(np.int32)], True, colour, EDGE, cv2.LINE_AA)
        drawn.append(canvas)
    top = np.concatenate([drawn[0], np.full((480, 8, 3), (17, 20, 24), np.uint8), drawn[1]], axis=1)
    xy = [part.frames.xy[found.correspondences[found.mask, side]] for side, part in enumerate(pair)]
    lines = np.asarray(
        draw_matches(*photos, *xy, inliers=np.ones(len(xy[0]), bool), transform=found.transform, max_width=1288)
    )
    lines = cv2.resize(lines, (top.shape[1], 480))
    image = np.concatenate([top, np.full((8, top.shape[1], 3), (17, 20, 24), np.uint8), lines])
    cv2.imwrite(str(out), cv2.resize(image, None, fx=0.8, fy=0.8, interpolation=cv2.INTER_AREA)[:, :, ::-1],
                [cv2.IMWRITE_JPEG_QUALITY, 85])  # fmt: skip
    print(f"{found.inliers} inliers of {found.tentative} pairs, {[len(part) for part in pair]} regions")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("landmarks", "holidays", "picture"))
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path, nargs="?", default=Path("deep-spatial.jpg"))
    parser.add_argument("--views", type=int, default=4)
    parser.add_argument("--every", type=int, default=10)
    parser.add_argument("--side", type=int)
    parser.add_argument("--top", type=int, default=20)
    parser.add_argument("--vectors", type=Path)
    given = parser.parse_args()
    if given.what == "landmarks":
        landmarks(given.data, given.views, given.side or 640)
    elif given.what == "holidays":
        holidays(given.data, given.every, given.side or 340, given.top, given.vectors)
    else:
        picture(given.data, given.out)


if __name__ == "__main__":
    main()

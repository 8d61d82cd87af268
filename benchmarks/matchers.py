"""What verifies best: RootSIFT and nearest neighbours, XFeat and nearest neighbours, or XFeat and LighterGlue.

    OMP_NUM_THREADS=1 python benchmarks/matchers.py holidays PHOTOS --xfeat FILE.onnx ... --lighterglue FILE.onnx
    OMP_NUM_THREADS=1 python benchmarks/matchers.py scores PHOTOS --xfeat FILE.onnx ... --lighterglue FILE.onnx
    OMP_NUM_THREADS=1 python benchmarks/matchers.py landmarks PHOTOS --xfeat FILE.onnx ... --lighterglue FILE.onnx

`holidays`: the first candidates of `classic`'s inverted file are verified anew in each way, and what geometry finds is
added to their standardised similarity as searches do; PHOTOS are named group * 100 + number, number 0 is the query.
`landmarks`: PHOTOS holds a folder for each thing; all pairs of views of one thing. Both print how many pairs of one
thing are proven, and of random pairs of two things how many are proven and how many count at all, with processor time.
`scores`: 60 pairs of one thing and 80 of two things of 30 groups of Holidays, by the least score of LighterGlue.
"""

from __future__ import annotations

import argparse
import itertools
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from resight.collection.open import create_collection
from resight.evaluation.metrics import rectangle_ap
from resight.features.local.encoders import find_kind, open_encoder
from resight.images.decode import decode
from resight.matching.correspond import Correspondences
from resight.matching.geometry import Verification, verify, verify_correspondences, verify_many
from resight.matching.lighterglue import open_lighterglue
from resight.matching.matchers import Matcher
from resight.ranking.search import Scale
from resight.ranking.verification import BARE_ONSET, ONSET, evidence
from resight.types import LocalFeatures

SAME_PLACE = {"1208", "1225"}  # two Holidays groups that show one canal: pairs across them are neither true nor false


@dataclass(frozen=True, eq=False)
class Way:
    """One way to verify, and what it cost so far."""

    name: str
    features: list[LocalFeatures]
    photo_ms: float
    onset: float
    matcher: Matcher | None = None

    def verify(self, query: int, rows: list[int]) -> tuple[list[Verification], float]:
        """The verification of photo `query` against `rows`, and the processor seconds that it took."""
        started = time.process_time()
        candidates = [self.features[row] for row in rows]
        found = verify_many(self.features[query], candidates, jobs=1, matcher=self.matcher)
        return found, time.process_time() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("set", choices=("holidays", "scores", "landmarks"))
    parser.add_argument("photos", type=Path)
    parser.add_argument("--xfeat", type=Path, nargs="*", default=[])
    parser.add_argument("--lighterglue", type=Path)
    parser.add_argument("--score", type=float, nargs="*", default=[0.5], help="least score of LighterGlue")
    parser.add_argument("--enlarge-below", type=int, default=0, help="for XFeat")
    parser.add_argument("--candidates", type=int, default=20, help="of each query of holidays")
    parser.add_argument("--groups", type=int, default=10_000, help="first groups of holidays")
    parser.add_argument("--unrelated", type=int, default=500, help="random pairs of two things")
    arguments = parser.parse_args()
    if arguments.set == "scores":
        scores(arguments)
        return
    pattern = "*.jpg" if arguments.set == "holidays" else "*/*.jpg"
    paths = sorted(arguments.photos.glob(pattern))
    names = [path.stem[:4] if arguments.set == "holidays" else path.parent.name for path in paths]
    chosen = set(sorted(set(names))[: arguments.groups])
    paths = [path for path, name in zip(paths, names, strict=True) if name in chosen]
    names = [name for name in names if name in chosen]
    ways = open_ways(paths, arguments)
    print(f"{len(paths)} photos of {len(chosen)} things, {arguments.unrelated} pairs of two things")
    (holidays if arguments.set == "holidays" else landmarks)(paths, names, ways, arguments)


def open_ways(paths: list[Path], arguments: argparse.Namespace) -> list[Way]:
    ways = [extracted("RootSIFT, nearest", paths, "rootsift")]
    for file in arguments.xfeat:
        made = extracted(file.stem, paths, "xfeat", weights=str(file), enlarge_below=arguments.enlarge_below)
        ways.append(Way(f"{made.name}, nearest", made.features, made.photo_ms, made.onset))
        for least in arguments.score if arguments.lighterglue else ():
            matcher = open_lighterglue(str(arguments.lighterglue), least)
            name = f"{made.name}, LighterGlue {least:g}"
            ways.append(Way(name, made.features, made.photo_ms, made.onset, matcher))
    return ways


def extracted(name: str, paths: list[Path], kind: str, **settings: object) -> Way:
    encoder = open_encoder(kind, **settings)
    encoder(decode(paths[0], max_side=1024).pixels)  # opened and compiled
    features, seconds = [], 0.0
    for path in paths:
        decoded = decode(path, max_side=1024)
        started = time.process_time()
        features.append(encoder(decoded.pixels).scaled(1 / decoded.scale))
        seconds += time.process_time() - started
    verify_many(features[0], features[:2], jobs=1)  # compiled
    return Way(name, features, 1000 * seconds / len(paths), ONSET if find_kind(kind).framed else BARE_ONSET)


def unrelated(names: list[str], count: int) -> list[tuple[int, int]]:
    rng, pairs = np.random.default_rng(5), set()
    while len(pairs) < count:
        i, j = sorted(rng.integers(len(names), size=2).tolist())
        if names[i] != names[j] and {names[i], names[j]} != SAME_PLACE:
            pairs.add((i, j))
    return sorted(pairs)


def chance(way: Way, pairs: list[tuple[int, int]]) -> tuple[int, int, float]:
    """Of unrelated pairs: how many are proven, how many count, and processor ms of a pair."""
    found, seconds = [], 0.0
    for i, j in pairs:
        (one,), spent = way.verify(i, [j])
        found.append(one)
        seconds += spent
    counted = sum(evidence(one, way.onset) > 0 for one in found)
    return sum(one.verified for one in found), counted, 1000 * seconds / len(pairs)


def holidays(paths: list[Path], names: list[str], ways: list[Way], arguments: argparse.Namespace) -> None:
    queries = [place for place, path in enumerate(paths) if int(path.stem) % 100 == 0]
    truth = [np.flatnonzero([n == names[q] for n in names]) for q in queries]
    truth = [np.setdiff1d(rows, [q]) for q, rows in zip(queries, truth, strict=True)]
    rankings, scores = candidates(paths, queries)
    own = [np.array([q]) for q in queries]
    pairs = unrelated(names, arguments.unrelated)
    print(f"{len(queries)} queries, {arguments.candidates} candidates each")
    print(f"not verified: mAP {100 * rectangle_ap(rankings, truth, own).map:.1f}\n")
    print("| way | mAP | true candidates proven | false candidates proven | unrelated: proven, count | "
          "ms a photo | ms a pair |\n|---|--:|--:|--:|--:|--:|--:|")  # fmt: skip
    for way in ways:
        ranked, proven, seconds = rankings.copy(), np.zeros((2, 2), int), 0.0
        for q, query in enumerate(queries):
            head = [row for row in rankings[q].tolist() if row != query][: arguments.candidates]
            found, spent = way.verify(query, head)
            seconds += spent
            better = dict(zip(head, (evidence(one, way.onset) for one in found), strict=True))
            total = scores[q] + np.array([better.get(row, 0.0) for row in rankings[q].tolist()])
            ranked[q] = rankings[q][np.argsort(-total, kind="stable")]
            for row, one in zip(head, found, strict=True):
                proven[int(row in truth[q])] += (1, one.verified)
        (false, wrong), (true, right) = proven
        by_chance, counted, _ = chance(way, pairs)
        print(
            f"| {way.name} | {100 * rectangle_ap(ranked, truth, own).map:.1f} | {right} of {true} | {wrong} of {false} "
            f"| {by_chance}, {counted} | {way.photo_ms:.0f} | {1000 * seconds / (false + true):.1f} |",
            flush=True,
        )


def scores(arguments: argparse.Namespace) -> None:
    """How many pairs each least score of LighterGlue proves; each pair is matched once."""
    paths = sorted(arguments.photos.glob("*.jpg"))
    names, rng = [path.stem[:4] for path in paths], np.random.default_rng(1)
    things = sorted(set(names))
    things = [things[place] for place in rng.permutation(len(things))[:30]]
    kept = [place for place, name in enumerate(names) if name in things]
    true = [pair for pair in itertools.combinations(kept, 2) if names[pair[0]] == names[pair[1]]][:60]
    false: list[tuple[int, int]] = []
    while len(false) < 80:
        i, j = rng.choice(kept, 2, replace=False)
        if names[i] != names[j]:
            false.append((i, j))
    glue = open_lighterglue(str(arguments.lighterglue), 0.0)
    print("| features | least score | pairs of one thing proven | of two things |\n|---|--:|--:|--:|")
    for file in arguments.xfeat:
        encoder = open_encoder("xfeat", weights=str(file))
        features = {i: encoder(decode(paths[i], max_side=1024).pixels) for i in sorted({*sum(true + false, ())})}
        found = {(i, j): glue(features[i], features[j]) for i, j in true + false}
        for least in (None, 0.1, 0.3, 0.5, 0.8):
            counts = [sum(proven(features, found, pair, least) for pair in pairs) for pairs in (true, false)]
            name = "nearest, no LighterGlue" if least is None else f"{least:g}"
            print(f"| {file.stem} | {name} | {counts[0]} of 60 | {counts[1]} of 80 |", flush=True)


def proven(
    features: dict[int, LocalFeatures],
    found: dict[tuple[int, int], Correspondences],
    pair: tuple[int, int],
    least: float | None,
) -> bool:
    a, b = (features[place] for place in pair)
    if least is None:
        return verify(a, b).verified
    kept = found[pair].distance <= 1 - least
    return verify_correspondences(a, b, Correspondences(found[pair].pairs[kept], found[pair].distance[kept])).verified


def candidates(paths: list[Path], queries: list[int]) -> tuple[np.ndarray, np.ndarray]:
    """For each query all photos as `classic`'s first stage ranks them, (q, n), and their standardised scores."""
    with tempfile.TemporaryDirectory() as scratch:
        collection = create_collection(Path(scratch) / "photos.resight", "classic")
        collection.add([str(path) for path in paths])
        place = {collection.snapshot.find(path.name): i for i, path in enumerate(paths)}
        pipeline = collection.pipeline(expand=False)
        scale: Scale = pipeline.stages[1].scale
        rankings, scores = [], []
        for query in queries:
            found = pipeline.stages[0](collection.query(paths[query].name).queries())
            rows = np.array([place[row] for row in found.ids[0].tolist()])
            rest = np.setdiff1d(np.arange(len(paths)), rows)
            rankings.append(np.concatenate([rows, rest]))
            known = scale.standardise(found.scores)[0]
            scores.append(np.concatenate([known, np.full(len(rest), known.min(initial=0.0))]))
    return np.array(rankings), np.array(scores)


def landmarks(paths: list[Path], names: list[str], ways: list[Way], arguments: argparse.Namespace) -> None:
    same = [pair for pair in itertools.combinations(range(len(paths)), 2) if names[pair[0]] == names[pair[1]]]
    pairs = unrelated(names, arguments.unrelated)
    things = sorted(set(names))
    print(f"\n| way | {' | '.join(things)} | inliers | unrelated: proven, count | ms a photo | ms a pair |")
    print("|---|" + "--:|" * (len(things) + 4))
    for way in ways:
        counts, inliers, seconds = {thing: [0, 0] for thing in things}, 0, 0.0
        for i, j in same:
            (one,), spent = way.verify(i, [j])
            seconds += spent
            counts[names[i]][0] += one.verified
            counts[names[i]][1] += 1
            inliers += one.inliers if one.verified else 0
        by_chance, counted, _ = chance(way, pairs)
        shares = " | ".join("{} of {}".format(*counts[thing]) for thing in things)
        print(
            f"| {way.name} | {shares} | {inliers} | {by_chance}, {counted} | {way.photo_ms:.0f} "
            f"| {1000 * seconds / len(same):.1f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()

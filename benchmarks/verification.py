"""Verification: which settings tell true pairs from accidents, and how fast a hundred candidates are re-ranked.

    python benchmarks/verification.py separation DATA [--false-pairs 4500]
    python benchmarks/verification.py matching DATA
    python benchmarks/verification.py speed DATA [--candidates 100] [--words 8192]

DATA holds `landmarks/<object>/*.jpg` and `holidays/images/*.jpg` (group = number // 100). Prints Markdown tables.
"""

from __future__ import annotations

import argparse
import itertools
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import faiss
import numpy as np

from resight.features.local.compact import compact
from resight.features.local.rootsift import RootSift
from resight.matching import shortlist
from resight.matching.correspond import Correspondences, _nearest, correspond
from resight.matching.geometry import verify_correspondences, verify_many
from resight.types import LocalFeatures

SAME_PLACE = {"1208", "1225"}  # two Holidays groups that show one canal: pairs across them are neither true nor false


def extract(path: Path) -> LocalFeatures:
    return RootSift()(cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB))


def load(data: Path, limit: int | None = None) -> tuple[list[str], list[LocalFeatures]]:
    """Group names and features of all photos, landmarks first."""
    paths = sorted(data.glob("landmarks/*/*.jpg")) + sorted(data.glob("holidays/images/*.jpg"))
    paths = paths[:limit]
    groups = [p.stem[:4] if "holidays" in p.parts else p.parent.name for p in paths]
    return groups, [extract(path) for path in paths]


def choose_pairs(groups: list[str], false_pairs: int) -> np.ndarray:
    """All pairs of landmark photos, all pairs within a Holidays group, and random pairs across groups, (p, 2)."""
    landmarks = sum(not g.isdigit() for g in groups)
    pairs = set(itertools.combinations(range(landmarks), 2))
    pairs |= {(i, j) for i, j in itertools.combinations(range(landmarks, len(groups)), 2) if groups[i] == groups[j]}
    rng, wanted = np.random.default_rng(5), len(pairs) + false_pairs
    while len(pairs) < wanted:
        i, j = sorted(rng.integers(len(groups), size=2).tolist())
        if groups[i] != groups[j] and {groups[i], groups[j]} != SAME_PLACE:
            pairs.add((i, j))
    return np.array(sorted(pairs))


def match(a: LocalFeatures, b: LocalFeatures) -> tuple[Correspondences, np.ndarray]:
    """Mutual nearest neighbours, and for each the larger of its two distance ratios: one pass serves all ratios."""
    forward, backward = _nearest(a.descriptors, b.descriptors)
    i = np.flatnonzero(backward.row[forward.row] == np.arange(len(a)))
    j = forward.row[i]
    ratio = np.sqrt(np.maximum(forward.first[i] / forward.second[i], backward.first[j] / backward.second[j]))
    order = np.argsort(forward.first[i], kind="stable")
    return Correspondences(np.stack([i, j], axis=1)[order], np.sqrt(forward.first[i][order])), ratio[order]


def separation(data: Path, false_pairs: int) -> None:
    groups, features = load(data)
    pairs = choose_pairs(groups, false_pairs)
    names = np.array(groups)[pairs]
    true = names[:, 0] == names[:, 1]
    sets = {
        "Holidays": true & np.char.isdigit(names[:, 0]),
        "objects": true & np.isin(names[:, 0], ["sacre_coeur", "et", "kermit"]),
        "lund": true & (names[:, 0] == "lund"),
    }
    print("True pairs:", ", ".join(f"{name} {chosen.sum()}" for name, chosen in sets.items()), end="; ")
    print(f"false pairs: {(~true).sum()}.\n")
    matched = [match(features[i], features[j]) for i, j in pairs]
    print("| model | ratio | pixels | frames | most inliers, false pairs | false verified | ", end="")
    print(" | ".join(sets), "| recall without false pair: " + ", ".join(sets), "|")
    print("|---|--:|--:|---|---|--:|" + "--:|" * len(sets) + "---|")
    defaults = {"model": "affine", "ratio": 0.9, "threshold": 4.0, "use_frames": True}
    changes: list[dict[str, object]] = [{}, {"model": "similarity"}, {"model": "homography"}]
    changes += [{"ratio": r} for r in (0.8, 0.85, 0.95, None)]
    changes += [{"threshold": t} for t in (2.0, 3.0, 6.0, 8.0, 12.0)]
    changes += [{"use_frames": False}, {"use_frames": False, "ratio": 0.85}]
    for change in changes:
        setting = defaults | change
        ratio = setting.pop("ratio")
        inliers, verified = np.zeros(len(pairs), int), np.zeros(len(pairs), bool)
        for p, ((i, j), (found, ratios)) in enumerate(zip(pairs, matched, strict=True)):
            keep = ratios < (np.inf if ratio is None else ratio)
            kept = Correspondences(found.pairs[keep], found.distance[keep])
            result = verify_correspondences(features[i], features[j], kept, **setting)
            inliers[p], verified[p] = result.inliers, result.verified
        worst = np.sort(inliers[~true])[::-1][:3]
        print(
            f"| {setting['model']} | {ratio or 'none'} | {setting['threshold']:g} | "
            f"{'yes' if setting['use_frames'] else 'no'} | {', '.join(map(str, worst))} | {verified[~true].sum()} | "
            + " | ".join(f"{verified[chosen].mean():.3f}" for chosen in sets.values())
            + " | "
            + ", ".join(f"{(inliers[chosen] > worst[0]).mean():.3f}" for chosen in sets.values())
            + " |",
            flush=True,
        )


def matching(data: Path) -> None:
    """How many of the pairs that full comparison finds the shortlist finds, in photos of one Holidays group."""
    groups, features = load(data)
    names = np.array(groups)
    pairs = [(i, i + 1) for i in range(len(groups) - 1) if names[i].isdigit() and names[i] == names[i + 1]]
    full = [set(map(tuple, correspond(features[i], features[j]).pairs.tolist())) for i, j in pairs]
    bytes_ = [compact(part) for part in features]
    print("| slack | pairs of full comparison found | share of pairs found that it confirms | processor ms |")
    print("|--:|--:|--:|--:|")
    for shortlist.SLACK in (1, 2, 3, 4, 6, 8):
        started = time.process_time()
        short = [set(map(tuple, shortlist.match(bytes_[i], bytes_[j]).pairs.tolist())) for i, j in pairs]
        spent = 1e3 * (time.process_time() - started) / len(pairs)
        both = sum(len(a & b) for a, b in zip(full, short, strict=True))
        found, known = both / sum(map(len, full)), both / sum(map(len, short))
        print(f"| {shortlist.SLACK} | {found:.3f} | {known:.3f} | {spent:.2f} |", flush=True)


def plain_loop(query: LocalFeatures, candidates: list[LocalFeatures]) -> list[int]:
    """Inliers as most scripts count them: brute-force matcher, ratio test in Python, findHomography."""
    counts = []
    for candidate in candidates:
        neighbours = cv2.BFMatcher(cv2.NORM_L2).knnMatch(query.descriptors, candidate.descriptors, k=2)
        good = [first for first, second in neighbours if first.distance < 0.85 * second.distance]
        count = 0
        if len(good) >= 4:
            src = np.array([query.xy[m.queryIdx] for m in good])
            dst = np.array([candidate.xy[m.trainIdx] for m in good])
            _, mask = cv2.findHomography(src, dst, cv2.RANSAC, 4.0)
            count = 0 if mask is None else int(mask.sum())
        counts.append(count)
    return counts


def best_time(run: Callable[[], object], repeats: int = 5) -> tuple[float, float]:
    """Least wall and processor milliseconds of several runs, after one to warm up."""
    run()
    walls, cpus = [], []
    for _ in range(repeats):
        wall, cpu = time.perf_counter(), time.process_time()
        run()
        walls.append(time.perf_counter() - wall)
        cpus.append(time.process_time() - cpu)
    return 1e3 * min(walls), 1e3 * min(cpus)


def speed(data: Path, count: int, words: int) -> None:
    """One landmark photo against photos of all objects and of Holidays."""
    _, features = load(data, count + 1)
    query, candidates = features[0], features[1:]
    kmeans = faiss.Kmeans(128, words, niter=10, seed=1, max_points_per_centroid=64, min_points_per_centroid=1)
    kmeans.train(np.concatenate([f.descriptors for f in features]))
    query_words = kmeans.index.search(query.descriptors, 5)[1]
    candidate_words = [kmeans.index.search(f.descriptors, 1)[1][:, 0] for f in candidates]

    ready = [compact(candidate) for candidate in candidates]

    runs: dict[str, Callable[[], object]] = {
        "BFMatcher + findHomography loop": lambda: plain_loop(query, candidates),
        "verify_many, affine": lambda: verify_many(query, candidates),
        "verify_many, affine, compact features": lambda: verify_many(query, ready),
        "verify_many, homography, compact features": lambda: verify_many(query, ready, "homography"),
        "verify_many, affine, shared words": lambda: verify_many(
            query, candidates, words=(query_words, candidate_words)
        ),
    }
    times = {name: best_time(run) for name, run in runs.items()}
    baseline = times["BFMatcher + findHomography loop"]
    mean = np.mean([len(f) for f in features])
    print(f"{len(candidates)} candidates, {mean:.0f} features each, {words} words.\n")
    print("| method | wall ms | wall ms per candidate | processor ms | faster, wall | faster, processor |")
    print("|---|--:|--:|--:|--:|--:|")
    for name, (wall, cpu) in times.items():
        print(
            f"| {name} | {wall:.0f} | {wall / len(candidates):.2f} | {cpu:.0f} | "
            f"{baseline[0] / wall:.1f} x | {baseline[1] / cpu:.1f} x |"
        )
    full = verify_many(query, candidates)
    fast = verify_many(query, candidates, words=(query_words, candidate_words))
    both = [(a.inliers, b.inliers) for a, b in zip(full, fast, strict=True) if a.verified]
    print(f"\nVerified: {len(both)} in full, {sum(r.verified for r in fast)} by shared words; ", end="")
    print(f"inliers kept by shared words in the former: {sum(b for _, b in both) / sum(a for a, _ in both):.2f}.")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=("separation", "matching", "speed"))
    parser.add_argument("data", type=Path)
    parser.add_argument("--false-pairs", type=int, default=4500)
    parser.add_argument("--candidates", type=int, default=100)
    parser.add_argument("--words", type=int, default=8192)
    options = parser.parse_args()
    if options.part == "separation":
        separation(options.data, options.false_pairs)
    elif options.part == "matching":
        matching(options.data)
    else:
        speed(options.data, options.candidates, options.words)


if __name__ == "__main__":
    main()

"""Do two images show the same thing? One transform that carries many features of the first onto the second proves it.

Tentative correspondences go through local frames (`resight.matching.frames`), then USAC MAGSAC of OpenCV (Barath et
al., MAGSAC++, CVPR 2020), then checks that a real view of a real thing passes and an accident rarely does.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from resight.arrays import Bool, Float64
from resight.errors import UsageError
from resight.features.local.compact import Compact, Layout, compact, hull_area, layout
from resight.matching.checks import LOOKED_AT, aligned, once_per_place, places, plausible, share
from resight.matching.correspond import Correspondences, Int32, correspond
from resight.matching.frames import Frames, similarities
from resight.matching.matchers import Matcher
from resight.matching.shortlist import match
from resight.types import LocalFeatures, as_array

Features = LocalFeatures | Compact
Model = Literal["similarity", "affine", "homography"]

POINTS = {"similarity": 2, "affine": 3, "homography": 4}  # correspondences that fix one transform
SCALE_TOLERANCE = math.log(2)  # an inlier's scale agrees with the transform within a factor of 2 ...
TURN_TOLERANCE = math.radians(30)  # ... and its angle within 30 degrees
REFIT_RADIUS = 3.0  # thresholds around the first transform within which the final one is sought
# Photos are laid out alike, sky above and ground below, so that cells of unrelated ones agree beyond chance: on
# Holidays 3 % of the unrelated candidates of HOW pass a significance of 5.
LAYOUT = 12.0
OVERLAP = 2.0  # sides of a cell within which two cells of a map see mostly the same pixels
ITERATIONS = 10_000  # of USAC; finds a homography among 15 % inliers with probability 0.99
SIMILARITY_DRAWS = 5_000  # random pairs; finds a similarity among 5 % inliers with probability 0.999


@dataclass(frozen=True, eq=False)
class Verification:
    """What geometry says about two images.

    `correspondences` (m, 2) int32: rows of the tentatively matched features in a and b, nearest descriptors first.
    `mask` (m,) bool: those that `transform` (3, 3) float64, from a to b in original pixels, explains; each place in
    either image counts once. `transform` is None and the mask all False where no transform passes the checks.
    `residual`: root mean square transfer error of the inliers, pixels of b, inf without inliers. `coverage`: area that
    the inliers span in a and in b, as a share of the area that all features span. `aligned`: all inliers but one lie on
    a line, which is a hint but no proof. `places`: at how many separate places the inliers lie, in the image where they
    are fewer (`resight.matching.checks.places`); 0 where even all inliers are no more than chance gives, as for nearly
    all unrelated photos. `significance`: -log10 of the number of sets of so many inliers, or of so many places, that
    chance alone would give (`significance`); above 0 is rarer than one per pair.
    """

    model: Model
    transform: Float64 | None
    correspondences: Int32
    mask: Bool
    min_inliers: int
    residual: float
    coverage: tuple[float, float]
    significance: float
    aligned: bool = False
    places: int = 0

    @property
    def inliers(self) -> int:
        """Number of correspondences that the transform explains."""
        return int(self.mask.sum())

    @property
    def tentative(self) -> int:
        """Number of tentative correspondences."""
        return len(self.mask)

    @property
    def verified(self) -> bool:
        """Inliers at enough places, more than chance would give, and not all but one on a line."""
        enough = self.transform is not None and self.places >= self.min_inliers
        return enough and self.significance > 0 and not self.aligned


def verify(
    a: Features,
    b: Features,
    model: Model = "affine",
    *,
    threshold: float = 4.0,
    min_inliers: int = 5,
    ratio: float | None = 0.9,
    words: tuple[NDArray[Any], NDArray[Any]] | None = None,
    use_frames: bool = True,
    coarse: bool = False,
    matcher: Matcher | None = None,
) -> Verification:
    """Match two images and look for one transform that carries features of `a` onto those of `b`.

    `threshold`: largest distance, in original pixels of b, between a carried feature and its partner. `ratio`, `words`:
    as in `correspond`. `use_frames`: let scale and angle of the features propose transforms, and drop inliers whose
    scale or angle contradicts the transform. Features without angles or scales (all equal in both images) are never
    asked for them. `coarse`: the features are cells of maps, whose side is their scale: an inlier may be off by the
    smallest cell of b, scale and angle are never asked for, cells that overlap are one place, and `significance` is
    less by 10, since photos are laid out alike. `matcher`: what proposes the correspondences in place of nearest
    descriptors; `ratio` and `words` are then of no use. Degenerate input gives a result that is not verified, never an
    error; the same input gives the same result.

    Raises `UsageError` on an unknown model, a threshold that is not positive, a minimum below the points that fix the
    model, or a bad ratio; `ArrayError` on descriptors of different dimension.
    """
    _check(model, threshold, min_inliers)
    found = _matched(a, b, ratio, words) if matcher is None else matcher(a, b)
    return verify_correspondences(
        a, b, found, model, threshold=threshold, min_inliers=min_inliers, use_frames=use_frames, coarse=coarse
    )


def verify_correspondences(
    a: Features,
    b: Features,
    correspondences: Correspondences,
    model: Model = "affine",
    *,
    threshold: float = 4.0,
    min_inliers: int = 5,
    use_frames: bool = True,
    coarse: bool = False,
) -> Verification:
    """As `verify`, on correspondences that are known already. Raises the same errors."""
    _check(model, threshold, min_inliers)
    pairs = correspondences.pairs
    first, second = layout(a), layout(b)
    cells = (first.scales[0], second.scales[0]) if coarse and len(pairs) else (0.0, 0.0)
    threshold = max(threshold, cells[1])
    frames = _frames(first, second, pairs, use_frames and not coarse)
    transform, mask = _transform(frames, model, threshold, cells)
    if transform is None:
        return Verification(model, None, pairs, mask, min_inliers, math.inf, (0.0, 0.0), -math.inf)
    inliers = frames.select(mask)
    chance = _chance(frames, threshold, second.span)
    rare, apart = significance(len(inliers), len(pairs), chance, model), 0
    if rare > 0:  # features of one spot are no independent accidents: count the spots
        least, most = (OVERLAP * cells[0], OVERLAP * cells[1]), None if coarse else LOOKED_AT
        apart = min(places(inliers.src, first.span, least[0], most), places(inliers.dst, second.span, least[1], most))
        if coarse:  # tentative ones that overlap are no separate accidents either
            tentative = min(
                places(frames.src, first.span, least[0], None), places(frames.dst, second.span, least[1], None)
            )
            rare = significance(apart, max(apart, tentative), chance, model) - LAYOUT
        else:
            rare = significance(min(apart, len(inliers)), len(pairs), chance, model)
    return Verification(
        model=model,
        transform=transform,
        correspondences=pairs,
        mask=mask,
        min_inliers=min_inliers,
        residual=math.sqrt(inliers.errors(transform).mean()),
        coverage=(share(hull_area(inliers.src), first.span), share(hull_area(inliers.dst), second.span)),
        significance=rare,
        aligned=aligned(inliers, threshold),
        places=apart,
    )


def _transform(
    frames: Frames, model: Model, threshold: float, cells: tuple[float, float]
) -> tuple[Float64 | None, Bool]:
    """The transform and its inliers (m,); None where no more than fix a transform agree, or no camera does such."""
    transform = _search(frames, model, threshold)
    if transform is not None:
        mask = once_per_place(frames, frames.errors(transform) < threshold**2, cells)
        if mask.sum() > POINTS[model] and plausible(transform, frames.select(mask), threshold):
            return transform, mask
    return None, np.zeros(len(frames), np.bool_)


def verify_many(
    query: Features,
    candidates: Sequence[Features],
    model: Model = "affine",
    *,
    threshold: float = 4.0,
    min_inliers: int = 5,
    ratio: float | None = 0.9,
    words: tuple[NDArray[Any], Sequence[NDArray[Any]]] | None = None,
    use_frames: bool = True,
    coarse: bool = False,
    jobs: int | None = None,
    matcher: Matcher | None = None,
) -> list[Verification]:
    """`verify` of one query against many candidates, in order, on `jobs` threads (None: one per core).

    `words`: visual words of the query, (n, m) int, and a sequence of those of each candidate. The work per match is in
    compiled code that runs beside other threads; peak memory beyond the input is 16 MB per thread.
    Raises as `verify` does, and `UsageError` when candidates and their words differ in number or jobs is below 1.
    """
    _check(model, threshold, min_inliers)
    if jobs is not None and jobs < 1:
        raise UsageError(f"jobs is {jobs}: at least 1 thread is needed")
    if words is not None and len(words[1]) != len(candidates):
        raise UsageError(f"{len(candidates)} candidates came with words for {len(words[1])}: give one array for each")

    query = query if words is not None else compact(query)

    def matched(i: int) -> Correspondences:
        if matcher is not None:
            return matcher(query, candidates[i])
        return _matched(query, candidates[i], ratio, None if words is None else (words[0], words[1][i]))

    def one(i: int) -> Verification:
        return verify_correspondences(
            query,
            candidates[i],
            matched(i),
            model,
            threshold=threshold,
            min_inliers=min_inliers,
            use_frames=use_frames,
            coarse=coarse,
        )

    workers = max(1, min(jobs or os.cpu_count() or 1, len(candidates)))
    shares = [range(start, len(candidates), workers) for start in range(workers)]
    with ThreadPoolExecutor(workers) as pool:
        parts = list(pool.map(lambda share: [one(i) for i in share], shares))
    return [parts[i % workers][i // workers] for i in range(len(candidates))]


def _matched(
    a: Features, b: Features, ratio: float | None, words: tuple[NDArray[Any], NDArray[Any]] | None
) -> Correspondences:
    """Mutual nearest neighbours, among features that share a word where `words` are given."""
    if words is None:
        return match(compact(a), compact(b), ratio=ratio)
    if isinstance(a, Layout) or isinstance(b, Layout):
        raise UsageError("compact features are matched without words: give local features, or leave the words out")
    return correspond(a, b, ratio=ratio, words=words)


def estimate(
    src: NDArray[Any],
    dst: NDArray[Any],
    model: Model = "affine",
    *,
    threshold: float = 4.0,
    min_inliers: int = 5,
    seed: int = 0,
) -> tuple[Float64 | None, Bool]:
    """Fit a transform to point pairs with outliers: the transform (3, 3) from src to dst, and its inliers (m,) bool.

    `src`, `dst` (m, 2) pixels. None and an all-False mask where fewer than `min_inliers` pairs, at different places,
    agree within `threshold` pixels of dst on one plausible transform. Affine and homography are USAC MAGSAC with
    `seed`; similarity draws pairs of points with it. Raises `UsageError` as `verify`, `ArrayError` on other shapes or
    values that are not finite.
    """
    _check(model, threshold, min_inliers)
    src = as_array("src", src, np.float64, (None, 2))
    dst = as_array("dst", dst, np.float64, (len(src), 2))
    if not (np.isfinite(src).all() and np.isfinite(dst).all()):
        raise UsageError("point pairs hold NaN or infinity: drop those pairs first")
    frames = Frames(src, dst, np.zeros(len(src)), np.zeros(len(src)))
    transform = _search_points(frames, model, threshold, seed)
    if transform is not None:
        mask = once_per_place(frames, frames.errors(transform) < threshold**2)
        inliers = frames.select(mask)
        if mask.sum() >= min_inliers and plausible(transform, inliers, threshold) and not aligned(inliers, threshold):
            return transform, mask
    return None, np.zeros(len(src), np.bool_)


def significance(inliers: int, tentative: int, chance: float, model: Model) -> float:
    """-log10 of the expected number of sets of so many inliers when all correspondences are accidents.

    `chance`: probability that one accidental correspondence fits a given transform. With s points fixing the model, the
    number is (m - s) C(m, k) C(k, s) chance^(k - s) (Moisan and Stival, IJCV 2004, equation 10); -inf for k <= s.
    """
    sample = POINTS[model]
    if inliers <= sample:
        return -math.inf
    tests = (tentative - sample) * math.comb(tentative, inliers) * math.comb(inliers, sample)
    return -math.log10(tests) - (inliers - sample) * math.log10(max(chance, 1e-300))


def _check(model: str, threshold: float, min_inliers: int) -> None:
    if model not in POINTS:
        raise UsageError(f"model {model!r} is unknown: choose one of {', '.join(POINTS)}")
    if not 0 < threshold < math.inf:
        raise UsageError(f"threshold is {threshold} pixels: it must be positive and finite")
    if min_inliers < POINTS[model]:
        raise UsageError(f"min_inliers is {min_inliers}: {POINTS[model]} points already fix a {model} model")


def _frames(a: Layout, b: Layout, pairs: Int32, use_frames: bool) -> Frames:
    """The correspondences as geometry, with tolerances only for what the features tell: detectors without scales or
    angles give one and the same to all features."""
    i, j = pairs.T
    scaled = use_frames and min(a.scales[0], b.scales[0]) > 0 and _varies(a.scales, b.scales)
    turned = use_frames and _varies(a.angles, b.angles)
    nothing = np.zeros(len(pairs))
    return Frames(
        a.xy[i].astype(np.float64),
        b.xy[j].astype(np.float64),
        np.log(b.scale[j].astype(np.float64) / a.scale[i]) if scaled else nothing,
        b.angle[j].astype(np.float64) - a.angle[i] if turned else nothing,
        SCALE_TOLERANCE if scaled else math.inf,
        TURN_TOLERANCE if turned else math.inf,
    )


def _varies(a: tuple[float, float], b: tuple[float, float]) -> bool:
    """Whether the values of two images, from least to greatest, differ at all."""
    return min(a[0], b[0]) < max(a[1], b[1])


def _search(frames: Frames, model: Model, threshold: float) -> Float64 | None:
    """The transform with most inliers: by local frames where features have them, else from positions alone."""
    if len(frames) < POINTS[model]:
        return None
    if math.isinf(frames.log_scale_tolerance) or math.isinf(frames.turn_tolerance):
        return _search_points(frames, model, threshold, seed=0)
    first = frames.proposed(threshold, affine=model != "similarity", least=POINTS[model] + 1)
    if first is None or model == "similarity":
        return first
    errors = frames.errors(first)
    near = errors < (REFIT_RADIUS * threshold) ** 2
    if near.sum() <= POINTS[model]:
        return None
    final = _magsac(frames.select(near), model, threshold, seed=0)
    if final is None or (frames.errors(final) < threshold**2).sum() < (errors < threshold**2).sum():
        return first
    return final


def _search_points(frames: Frames, model: Model, threshold: float, seed: int) -> Float64 | None:
    if model != "similarity":
        return _magsac(frames, model, threshold, seed)
    if len(frames) < POINTS[model]:
        return None
    # OpenCV has no USAC for similarities: draw pairs, which fix one each.
    i, j = np.random.default_rng(seed).integers(len(frames), size=(2, SIMILARITY_DRAWS))
    before = (frames.src[j] - frames.src[i]) @ (1, 1j)
    after = (frames.dst[j] - frames.dst[i]) @ (1, 1j)
    useful = (before != 0) & (after != 0)
    hypotheses = similarities(frames.src[i][useful], frames.dst[i][useful], after[useful] / before[useful])
    return frames.best(hypotheses, threshold, affine=False)


def _magsac(frames: Frames, model: Model, threshold: float, seed: int) -> Float64 | None:
    """USAC MAGSAC of an affine or homography model, (3, 3), or None where OpenCV finds none."""
    if len(frames) <= POINTS[model]:
        return None
    parameters = cv2.UsacParams()
    parameters.threshold = threshold
    parameters.maxIterations = ITERATIONS
    parameters.confidence = 0.999
    parameters.score = cv2.SCORE_METHOD_MAGSAC
    parameters.loMethod = cv2.LOCAL_OPTIM_SIGMA
    parameters.final_polisher = cv2.MAGSAC
    parameters.final_polisher_iterations = 3
    parameters.sampler = cv2.SAMPLING_UNIFORM
    parameters.randomGeneratorState = seed  # its own generator: results do not depend on threads or on earlier calls
    if model == "homography":
        transform, _ = cv2.findHomography(frames.src, frames.dst, parameters)
        return None if transform is None or not np.isfinite(transform).all() else transform
    transform, _ = cv2.estimateAffine2D(frames.src, frames.dst, parameters)
    return None if transform is None or not np.isfinite(transform).all() else np.vstack([transform, (0, 0, 1)])


def _chance(frames: Frames, threshold: float, area: float) -> float:
    """Probability that an accidental correspondence lies within the threshold, with scale and angle in tolerance."""
    disc = min(1.0, math.pi * threshold**2 / area) if area > 0 else 1.0
    turned = 1.0 if math.isinf(frames.turn_tolerance) else frames.turn_tolerance / math.pi
    # Scales of detected features are spread over some octaves: about every second pair agrees within a factor of 2.
    scaled = 1.0 if math.isinf(frames.log_scale_tolerance) else 0.5
    return disc * turned * scaled

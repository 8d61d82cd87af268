"""What other programs find on a benchmark: ranked lists of methods that use none of resight but its list of photos.

    python benchmarks/peers.py bow|sift|asmk|gem BENCHMARK:PATH OUT.txt [--backbone FILE.onnx [--whiten]]
    resight evaluate BENCHMARK:PATH --lists OUT.txt

| method | program | what it does |
|---|---|---|
| `sift` | OpenCV | SIFT features of the query against every photo: ratio test, homography by RANSAC; by inliers |
| `bow` | OpenCV 4 | `BOWKMeansTrainer`, 1000 words of SIFT, `BOWImgDescriptorExtractor`; tf-idf, cosine |
| `asmk` | OpenCV, asmk | RootSIFT, 4096 words; the authors' package: binary, alpha 3, queries to five words |
| `gem` | onnxruntime | as cirtorch: GeM, p = 3, at scales 1, 1/sqrt 2, 1/2 of at most 1024 pixels; PCA whitening |

PCA keeps a quarter as many dimensions as there are photos, at most 512: cirtorch learns its whitening from labels of
120 000 photos of landmarks, which nobody has of their own. Words and whitening are learnt from the photos of the
database, without labels, as resight learns them. OpenCV 5 has no bag of words any more:
`pip install --target DIR "opencv-python-headless<5" asmk`, and run with PYTHONPATH=DIR. Every photo is at most 1024
pixels wide or high and gives its 1000 strongest features. Memory: all descriptors, 0.5 MB a photo.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np

from resight.evaluation.ground_truth import open_benchmark
from resight.evaluation.image_files import find_images
from resight.types import Box

SIDE, FEATURES = 1024, 1000
BOW_WORDS, ASMK_WORDS = 1000, 4096
LEARNT_FROM = 40  # descriptors per word
MOST_DIMENSIONS = 512
RATIO, PIXELS, FEWEST = 0.8, 5.0, 8  # of the ratio test, of RANSAC, and matches that RANSAC is tried with
Photo = tuple[Path, Box | None]
SCALES = (1.0, 2**-0.5, 0.5)
MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of the photos of ImageNet


def main() -> None:
    """Write the ranked lists of the chosen method."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("method", choices=tuple(METHODS))
    parser.add_argument("benchmark", metavar="BENCHMARK:PATH")
    parser.add_argument("out", type=Path)
    parser.add_argument("--backbone", type=Path)
    parser.add_argument("--whiten", action="store_true")
    arguments = parser.parse_args()
    benchmark = open_benchmark(arguments.benchmark)
    files = find_images(benchmark, arguments.benchmark.partition(":")[2])
    files.require()
    images = [(Path(str(path)), None) for path in files.images]
    boxes = [query.box for query in benchmark.queries]
    queries = [(Path(str(path)), box) for path, box in zip(files.queries, boxes, strict=True)]
    scores = METHODS[arguments.method](images, queries, arguments)
    order = np.argsort(-scores, axis=1, kind="stable")
    lines = [
        f"{query.image} {benchmark.images[row]}\n"
        for query, ranked in zip(benchmark.queries, order, strict=True)
        for row in ranked
    ]
    arguments.out.write_text("".join(lines))


def read(photo: Photo, colour: int) -> np.ndarray:
    """A photo, cut to its box, at most `SIDE` pixels wide or high."""
    path, box = photo
    pixels = cv2.imread(str(path), colour)
    if pixels is None:
        raise SystemExit(f"{path} cannot be read by OpenCV")
    if box is not None:
        left, top = round(box.x), round(box.y)
        pixels = pixels[max(top, 0) : round(box.y + box.height), max(left, 0) : round(box.x + box.width)]
    scale = min(1.0, SIDE / max(pixels.shape[:2]))
    return pixels if scale == 1 else cv2.resize(pixels, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)


def features(photos: list[Photo]) -> list[tuple[np.ndarray, np.ndarray]]:
    """Positions (n, 2) and SIFT descriptors (n, 128) of every photo."""
    sift = cv2.SIFT_create(FEATURES)
    found = []
    for photo in photos:
        points, descriptors = sift.detectAndCompute(read(photo, cv2.IMREAD_GRAYSCALE), None)
        if descriptors is None:
            descriptors = np.zeros((0, 128), np.float32)
        found.append((np.array([point.pt for point in points], np.float32).reshape(-1, 2), descriptors))
    return found


def sift(images: list[Photo], queries: list[Photo], _: argparse.Namespace) -> np.ndarray:
    """Inliers of every pair (Q, N)."""
    database, asked = features(images), features(queries)
    return np.array([[_inliers(query, photo) for photo in database] for query in asked])


def _inliers(ours: tuple[np.ndarray, np.ndarray], theirs: tuple[np.ndarray, np.ndarray]) -> int:
    if min(len(ours[1]), len(theirs[1])) < 2:
        return 0
    pairs = cv2.BFMatcher(cv2.NORM_L2).knnMatch(ours[1], theirs[1], k=2)
    kept = [first for first, second in pairs if first.distance < RATIO * second.distance]
    if len(kept) < FEWEST:
        return 0
    a, b = ours[0][[match.queryIdx for match in kept]], theirs[0][[match.trainIdx for match in kept]]
    cv2.setRNGSeed(0)
    model, mask = cv2.findHomography(a, b, cv2.RANSAC, PIXELS)
    return 0 if model is None else int(mask.sum())


def bow(images: list[Photo], queries: list[Photo], _: argparse.Namespace) -> np.ndarray:
    """Cosines (Q, N) of tf-idf histograms of OpenCV's visual words."""
    if not hasattr(cv2, "BOWKMeansTrainer"):
        raise SystemExit(f'OpenCV {cv2.__version__} has no bag of words: install "opencv-python-headless<5"')
    cv2.setRNGSeed(0)
    trainer = cv2.BOWKMeansTrainer(BOW_WORDS, (cv2.TERM_CRITERIA_COUNT, 10, 0.0), 1, cv2.KMEANS_PP_CENTERS)
    detector = cv2.SIFT_create(FEATURES)
    words = trainer.cluster(_sample([one for _, one in features(images)], BOW_WORDS))
    extractor = cv2.BOWImgDescriptorExtractor(detector, cv2.FlannBasedMatcher())
    extractor.setVocabulary(words)

    def histograms(photos: list[Photo]) -> np.ndarray:
        rows = []
        for photo in photos:
            pixels = read(photo, cv2.IMREAD_GRAYSCALE)
            row = extractor.compute(pixels, detector.detect(pixels, None))
            rows.append(np.zeros(len(words), np.float32) if row is None else row[0])
        return np.array(rows)

    ours, theirs = histograms(images), histograms(queries)
    idf = np.log(len(ours) / np.maximum((ours > 0).sum(axis=0), 1))
    return _normalised(theirs * idf) @ _normalised(ours * idf).T


def asmk(images: list[Photo], queries: list[Photo], _: argparse.Namespace) -> np.ndarray:
    """Scores (Q, N) of the authors' package."""
    here = Path(__file__).resolve().parent
    sys.path[:] = [place for place in sys.path if Path(place).resolve() != here]  # asmk.py beside this is another
    from asmk.asmk_method import ASMKMethod

    database, asked = ([_rootsift(one) for _, one in features(photos)] for photos in (images, queries))
    settings = {
        "index": {"gpu_id": None},
        "train_codebook": {"codebook": {"size": ASMK_WORDS}},
        "build_ivf": {
            "kernel": {"binary": True},
            "ivf": {"use_idf": False},
            "quantize": {"multiple_assignment": 1},
            "aggregate": {},
        },
        "query_ivf": {
            "quantize": {"multiple_assignment": 5},
            "aggregate": {},
            "search": {"topk": None},
            "similarity": {"similarity_threshold": 0.0, "alpha": 3.0},
        },
    }
    method = ASMKMethod.initialize_untrained(settings).train_codebook(_sample(database, ASMK_WORDS))
    method = method.build_ivf(np.concatenate(database), _owners(database))
    _, found, ranks, scores = method.query_ivf(np.concatenate(asked), _owners(asked))
    every = np.zeros((len(queries), len(images)))
    for query, ranked, worth in zip(found, ranks, scores, strict=True):
        every[query, ranked] = worth
    return every


def gem(images: list[Photo], queries: list[Photo], arguments: argparse.Namespace) -> np.ndarray:
    """Cosines (Q, N) of GeM descriptors, whitened where that is asked."""
    if arguments.backbone is None:
        raise SystemExit("gem needs --backbone FILE.onnx")
    import onnxruntime

    session = onnxruntime.InferenceSession(str(arguments.backbone), providers=["CPUExecutionProvider"])
    ours, theirs = (np.array(list(_descriptors(session, photos))) for photos in (images, queries))
    if not arguments.whiten:
        return theirs @ ours.T
    mean = ours.mean(axis=0)
    values, vectors = np.linalg.eigh(np.cov((ours - mean).T.astype(np.float64)))
    kept = np.argsort(values)[::-1][: min(len(ours) // 4, MOST_DIMENSIONS)]
    whiten = vectors[:, kept] / np.sqrt(np.maximum(values[kept], 1e-9))
    return _normalised((theirs - mean) @ whiten) @ _normalised((ours - mean) @ whiten).T


def _descriptors(session: object, photos: list[Photo]) -> Iterator[np.ndarray]:
    """GeM of every photo: the generalised mean over positions, and over scales of it."""
    for photo in photos:
        pixels = read(photo, cv2.IMREAD_COLOR)[:, :, ::-1]
        pooled = []
        for scale in SCALES:
            smaller = cv2.resize(pixels, None, fx=scale, fy=scale, interpolation=cv2.INTER_LINEAR)
            tensor = ((smaller / 255.0 - MEAN) / DEVIATION).astype(np.float32).transpose(2, 0, 1)[None]
            maps = session.run(None, {"image": tensor})[0][0]  # type: ignore[attr-defined]
            pooled.append(_normalised((np.maximum(maps, 1e-6) ** 3).mean(axis=(1, 2))[None] ** (1 / 3))[0])
        yield _normalised((np.array(pooled) ** 3).mean(axis=0)[None] ** (1 / 3))[0]


def _rootsift(descriptors: np.ndarray) -> np.ndarray:
    return np.sqrt(descriptors / np.maximum(descriptors.sum(axis=1, keepdims=True), 1e-9)).astype(np.float32)


def _sample(descriptors: list[np.ndarray], words: int) -> np.ndarray:
    """What words are learnt from: random descriptors, in the order of the photos."""
    every = np.concatenate(descriptors)
    count = min(len(every), LEARNT_FROM * words)
    return every[np.sort(np.random.default_rng(0).choice(len(every), count, replace=False))]


def _owners(descriptors: list[np.ndarray]) -> np.ndarray:
    return np.repeat(np.arange(len(descriptors)), [len(one) for one in descriptors])


def _normalised(rows: np.ndarray) -> np.ndarray:
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)


METHODS: dict[str, Callable[[list[Photo], list[Photo], argparse.Namespace], np.ndarray]] = {
    "sift": sift,
    "bow": bow,
    "asmk": asmk,
    "gem": gem,
}


if __name__ == "__main__":
    main()

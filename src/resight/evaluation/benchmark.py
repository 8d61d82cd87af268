"""One benchmark: its images, queries, judgements and a protocol whose choices are all spelled out."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from resight.errors import UsageError
from resight.evaluation import metrics
from resight.evaluation.metrics import PROTOCOLS, Scores
from resight.evaluation.positions import flatten
from resight.types import Box, Int64

Judgement = Mapping[str, Int64]  # "easy", "hard", "junk" or "ok", "junk": database rows


@dataclass(frozen=True)
class Protocol:
    """How a benchmark is scored, with nothing left to a default.

    `crop`: "box" (queries are cut to their box), "whole" (the benchmark has no boxes) or "uncropped" (it has boxes and
    they were not used: not comparable with published scores). `ap`: the form of the score. `junk`: which rows are
    removed from a ranking before scoring. `own_photo`: what happens to a query that is a database photo itself.
    `levels`: names of the scores, for trapezoid AP those of `metrics.PROTOCOLS`. `at`: ranks of the mean precision.
    `k`: depth of "AP at k".
    """

    crop: Literal["box", "whole", "uncropped"]
    ap: Literal["trapezoid", "rectangle", "at k", "N-S"]
    junk: str
    own_photo: Literal["absent", "junk", "positive"]
    levels: tuple[str, ...] = ("plain",)
    at: tuple[int, ...] = ()
    k: int | None = None

    def __str__(self) -> str:
        form = {"trapezoid": "trapezoid AP", "rectangle": "rectangle AP", "at k": f"AP@{self.k}", "N-S": "N-S score"}
        crop = {"box": "queries cropped to their box", "whole": "whole queries", "uncropped": "protocol: uncropped"}
        own = {"absent": "queries are not in the database", "junk": "the query's own photo is junk",
               "positive": "the query's own photo counts as positive"}  # fmt: skip
        return "; ".join((form[self.ap], crop[self.crop], f"junk: {self.junk}", own[self.own_photo]))


@dataclass(frozen=True)
class BenchmarkQuery:
    """One query: its name, the name of its image, the box to cut out of it, its row if it is a database photo."""

    name: str
    image: str
    box: Box | None = None
    row: int | None = None


@dataclass(frozen=True, eq=False)
class Annotation:
    """What the files of a benchmark say: N image names in row order, Q queries and their Q judgements."""

    images: tuple[str, ...]
    queries: tuple[BenchmarkQuery, ...]
    judgements: tuple[Judgement, ...]


@dataclass(frozen=True, eq=False)
class Benchmark:
    """A benchmark ready to be scored. `annotated`: how many of the images came with it; distractors follow them.

    Raises `UsageError` (or its `ArrayError`), with names and counts, for an empty query set, repeated image names, rows
    outside the image list, rows judged twice, judgements that lack what the protocol needs, and queries that are among
    their own positives where the protocol does not say so.
    """

    name: str
    images: tuple[str, ...]
    queries: tuple[BenchmarkQuery, ...]
    judgements: tuple[Judgement, ...]
    protocol: Protocol
    licence: str
    source: str
    annotated: int

    def __post_init__(self) -> None:
        if not self.queries:
            raise UsageError(f"benchmark {self.name} has no queries")
        if len(self.queries) != len(self.judgements):
            raise UsageError(
                f"benchmark {self.name} has {len(self.queries)} queries and {len(self.judgements)} judgements"
            )
        refuse_names(self.name, "image names appear more than once", _repeated(self.images))
        _check_labels(self)
        _check_rows(self)

    def score(self, ids: ArrayLike) -> dict[str, Scores]:
        """Score rankings `ids` (Q, K) of this benchmark's rows, -1 padded: {level: Scores}. Raises as `metrics`."""
        protocol, size = self.protocol, len(self.images)
        if protocol.ap == "trapezoid":
            return metrics.revisited_protocols(ids, self.judgements, protocol.levels, protocol.at, size)
        ok, junk = ([judged[label] for judged in self.judgements] for label in ("ok", "junk"))
        if protocol.ap == "rectangle":
            scores = metrics.rectangle_ap(ids, ok, junk, size)
        elif protocol.ap == "N-S":
            scores = metrics.ukbench(ids, ok, size)
        else:
            scores = metrics.mean_average_precision_at(ids, ok, protocol.k or 0, junk, size)
        return {protocol.levels[0]: scores}

    def uncropped(self) -> Benchmark:
        """The same benchmark with whole query images, marked so; unchanged when it has no boxes."""
        if self.protocol.crop != "box":
            return self
        queries = tuple(replace(query, box=None) for query in self.queries)
        return replace(self, queries=queries, protocol=replace(self.protocol, crop="uncropped"))

    @property
    def checksum(self) -> str:
        """SHA-256 of image list, queries, boxes and judgements: equal sums mean the same benchmark."""
        digest = hashlib.sha256()
        for name in self.images:
            digest.update(_bytes(name) + b"\n")
        for query, judged in zip(self.queries, self.judgements, strict=True):
            digest.update(_bytes(f"\0{query.name}\0{query.image}\0{query.box}\0{query.row}\n"))
            for label in sorted(judged):
                digest.update(label.encode() + np.sort(judged[label]).astype("<i8").tobytes())
        return digest.hexdigest()


def with_distractors(benchmark: Benchmark, names: Sequence[str]) -> Benchmark:
    """The benchmark with further images behind its own rows; no query has them as positives.

    Raises `UsageError`, with count and names, when a distractor has the name of another image.
    """
    return replace(benchmark, images=(*benchmark.images, *names), name=f"{benchmark.name}+{len(names)}")


def names_found(what: str, names: Sequence[str], rows: Mapping[str, int]) -> Int64:
    """Rows (n,) int64 of image `names`. Raises `UsageError` with count and first names when some are not in `rows`."""
    refuse_names(what, "names are not in the image list", [name for name in names if name not in rows])
    return np.array([rows[name] for name in names], np.int64)


def refuse_names(what: str, problem: str, names: Sequence[str]) -> None:
    if names:
        first = ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")
        raise UsageError(f"{what}: {len(names)} {problem}: {first}")


def _repeated(names: Sequence[str]) -> list[str]:
    return [name for name, count in Counter(names).items() if count > 1]


def _check_labels(benchmark: Benchmark) -> None:
    protocol = benchmark.protocol
    needed = {"ok", "junk"}
    if protocol.ap == "trapezoid":
        needed = {label for level in protocol.levels for labels in PROTOCOLS[level] for label in labels}
    wrong = [q.name for q, judged in zip(benchmark.queries, benchmark.judgements, strict=True) if set(judged) != needed]
    refuse_names(f"benchmark {benchmark.name}", f"queries are not judged by {', '.join(sorted(needed))}", wrong)


def _check_rows(benchmark: Benchmark) -> None:
    """Rows in range and judged once; a query's own row stands where the protocol says."""
    labels = sorted(benchmark.judgements[0])
    judged = {label: [judgement[label] for judgement in benchmark.judgements] for label in labels}
    query, row, label = flatten(judged, len(benchmark.queries), len(benchmark.images))
    own = np.array([-1 if q.row is None else q.row for q in benchmark.queries], np.int64)
    if ((own < -1) | (own >= len(benchmark.images))).any():
        raise UsageError(f"benchmark {benchmark.name} has query rows outside its {len(benchmark.images)} images")
    is_own = row == own[query]
    is_junk = np.array([name == "junk" for name in labels])[label]
    in_positives = _names(benchmark, np.unique(query[is_own & ~is_junk]))
    what = f"benchmark {benchmark.name}"
    if benchmark.protocol.own_photo != "positive":
        refuse_names(what, "queries are among their own positives", in_positives)
    if benchmark.protocol.own_photo == "junk":
        without = np.setdiff1d(np.flatnonzero(own >= 0), query[is_own & is_junk])
        refuse_names(what, "queries are database photos but not among their own junk", _names(benchmark, without))
    if benchmark.protocol.own_photo == "absent":
        refuse_names(what, "queries are database photos", _names(benchmark, np.flatnonzero(own >= 0)))


def _names(benchmark: Benchmark, queries: Int64) -> list[str]:
    return [benchmark.queries[q].name for q in queries]


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")

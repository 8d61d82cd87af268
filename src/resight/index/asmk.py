"""ASMK: images as bags of aggregated residuals, compared word by word through an inverted file.

Paper: Tolias, Avrithis, Jegou, "To aggregate or not to aggregate: selective match kernels for image search", ICCV 2013;
"Image search with selective match kernels: aggregation across single and multiple images", IJCV 2016.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from resight.arrays import Float64
from resight.errors import ArrayError, StampMismatch, UsageError
from resight.index.aggregation import Aggregated, aggregate, image_blocks, join, value_kind
from resight.index.asmk_files import read_segments, write_segments
from resight.index.asmk_scoring import Kernel, Snapshot, rank_blocks, score_blocks, score_image
from resight.index.codebook import Codebook, words_for
from resight.index.inverted import Segment, build, lanes_per_signature, merge_small
from resight.types import Bool, Float32, Int64, Ranking, as_array

__all__ = ["Aggregated", "Asmk", "Codebook", "aggregate", "words_for"]


class Asmk:
    """An inverted file of aggregated residuals over one codebook.

    score(q, d) = sum over shared words c of idf_c * sigma(u_c) / sqrt(n_q * n_d), where sigma(u) = u^alpha if u >= tau,
    else 0; n = number of words (sum of idf_c with `idf`, idf_c = ln(N / df_c)^2); u = inner product of unit residuals,
    or, `binary`, 1 - 2 * Hamming distance / L with L = the B bits of the codebook rounded up to a multiple of 32 as in
    the authors' program; or, `binary` and `asymmetric`, the inner product of the query's unit residual in three bits a
    dimension and the image's signs / sqrt(B), about 0.8 times the cosine. `asymmetric` None: where the codebook has a
    rotation.
    Queries are assigned to `query_multiple` words per descriptor (fewer if the codebook is smaller), images to one.

    Memory, binary: B / 8 bytes per posting and some 1.1 for its image, 12 per image, 8 per word and segment of at most
    65 536 images; full precision: 4 * D instead of B / 8. What was saved or loaded is mapped from disk, so that it
    takes memory only while there is some. Searching is safe while another thread adds or removes; two writers at once
    are not. An image without descriptors is not in the index and never a result. Raises `CollectionError` in a search
    that comes upon a list which is not what was written.
    """

    def __init__(
        self,
        codebook: Codebook,
        *,
        binary: bool = True,
        alpha: float = 3.0,
        tau: float = 0.0,
        idf: bool = False,
        query_multiple: int = 5,
        asymmetric: bool | None = None,
    ) -> None:
        self.codebook = codebook
        asymmetric = binary and (codebook.rotation is not None if asymmetric is None else asymmetric)
        self.kernel = Kernel(binary, float(alpha), float(tau), idf, query_multiple, asymmetric)
        self._set([])

    def _set(self, segments: list[Segment]) -> None:
        self._snapshot = Snapshot(tuple(segments), self.kernel, len(self.codebook), self.codebook.bits)

    def __len__(self) -> int:
        return sum(len(segment) for segment in self._snapshot.segments)

    @property
    def rows(self) -> Int64:
        """Image rows in the index, ascending, (N,) int64."""
        return self._snapshot.rows.copy()

    @property
    def memory_bytes(self) -> int:
        """Bytes of the inverted file, without the codebook."""
        return sum(segment.memory_bytes for segment in self._snapshot.segments)

    @property
    def postings(self) -> int:
        """Number of (image, word) pairs held, those of removed images included until they are taken out."""
        return sum(segment.postings for segment in self._snapshot.segments)

    @property
    def stored(self) -> bool:
        """Whether all of it lies on disk in the present format: not so before `save`, and after an old file."""
        return all(segment.file is not None for segment in self._snapshot.segments)

    def bytes_per_image(self) -> float:
        """Bytes of the inverted file per image; 0 when it is empty."""
        return self.memory_bytes / max(len(self), 1)

    def add(self, rows: Any, descriptors: Any) -> None:
        """Add images: `rows` (n,) int64 gives the image row of each of `descriptors` (n, D), in any order.

        Raises `UsageError` when a row is in the index already: that is `update`. Works in blocks of images.
        """
        self.add_aggregated(self._aggregate(rows, descriptors, 1, self._planes))

    def add_aggregated(self, aggregated: Aggregated) -> None:
        """As `add`, from residuals that `aggregate` made with this codebook, one word per descriptor."""
        self._check(aggregated, self._planes)
        present = np.unique(aggregated.rows[self._holds(aggregated.rows)])
        if len(present):
            raise UsageError(f"{_names(present)} in the index already: use update to replace")
        self._set(merge_small([*self._snapshot.segments, *self._built(aggregated)]))

    def remove(self, rows: Any) -> None:
        """Take images out: they are marked, and a segment is rewritten without them once a quarter of it is dead.

        Raises `UsageError` when a row is not in the index.
        """
        rows = np.unique(as_array("rows", rows, np.int64, (None,)))
        absent = rows[~self._holds(rows)]
        if len(absent):
            raise UsageError(f"{_names(absent)} not in the index: nothing was removed")
        self._set(merge_small(self._without(rows)))

    def update(self, rows: Any, descriptors: Any) -> None:
        """Replace the images of `rows` in one step; a row that is not in the index is added. Arguments as for `add`."""
        aggregated = self._aggregate(rows, descriptors, 1, self._planes)
        kept = self._without(np.unique(aggregated.rows))
        self._set(merge_small([*kept, *self._built(aggregated)]))

    def query_words(self, descriptors: Any) -> Int64:
        """The words that descriptors (n, D) of a query are assigned to, nearest first: (n, `query_multiple`) int64."""
        return self.codebook.assign(descriptors, min(self.kernel.query_multiple, len(self.codebook)))

    def aggregate_query(self, query_rows: Any, descriptors: Any, words: Int64 | None = None) -> Aggregated:
        """Aggregate queries: `query_rows` (n,) int64 in 0..Q-1 gives the query of each of `descriptors` (n, D).

        Descriptors of several photos under one query row enrich its words: Hamming query expansion. `words`: what
        `query_words` gives for them, where that is known.
        """
        planes = self.kernel.planes
        if words is not None:
            return aggregate(self.codebook, query_rows, words, descriptors, binary=planes > 0, planes=planes)
        multiple = min(self.kernel.query_multiple, len(self.codebook))
        return self._aggregate(query_rows, descriptors, multiple, planes)

    def search(self, query_rows: Any, descriptors: Any, k: int | None = None, *, queries: int | None = None) -> Ranking:
        """Rank the index for every query: the `k` best (all by default), equal scores by row number.

        `query_rows` and `descriptors` as for `aggregate_query`; `queries` is Q, needed only when the last ones have no
        descriptors. Images that share no word score 0 and rank by row. Gives `Ranking` (Q, min(k, N)).
        Peak memory: 40 MB, or 40 bytes per image above a million, beside the result and the aggregated queries.
        """
        return self.search_aggregated(self.aggregate_query(query_rows, descriptors), k, queries=queries)

    def search_aggregated(self, aggregated: Aggregated, k: int | None = None, *, queries: int | None = None) -> Ranking:
        """As `search`, from aggregated queries; `weights` multiply the idf of their words, in the score and in n_q."""
        if k is not None and k < 1:
            raise UsageError(f"{k} results were asked for: give at least 1")
        self._check(aggregated, self.kernel.planes)
        snapshot = self._snapshot
        count = _query_count(aggregated, queries)
        k = len(snapshot.rows) if k is None else min(k, len(snapshot.rows))
        ids, scores = np.empty((count, k), np.int64), np.empty((count, k), np.float32)
        for block, columns, found in rank_blocks(snapshot, aggregated, count, k):
            ids[block], scores[block] = snapshot.rows[columns], found
        return Ranking(ids, scores)

    def dense(self, aggregated: Aggregated, queries: int) -> tuple[Int64, Float32]:
        """The rows in the index, ascending, (N,) int64, and the scores of so many `queries` against each, (Q, N)
        float32: what `search_aggregated` ranks."""
        self._check(aggregated, self.kernel.planes)
        snapshot = self._snapshot
        scores = np.empty((queries, len(snapshot.rows)), np.float32)
        for block, dense in score_blocks(snapshot, aggregated, queries):
            scores[block] = dense
        return snapshot.rows, scores

    def scores(self, query_rows: Any, descriptors: Any, *, queries: int | None = None) -> Float64:
        """Scores of every query against every image, (Q, N) float64, columns as `rows`. Arguments as for `search`."""
        snapshot = self._snapshot
        aggregated = self.aggregate_query(query_rows, descriptors)
        count = _query_count(aggregated, queries)
        result = np.empty((count, len(snapshot.rows)))
        for block, dense in score_blocks(snapshot, aggregated, count):
            result[block] = dense
        return result

    def score(self, row: int, descriptors: Any, words: Int64) -> float:
        """Score of one query, given as `descriptors` (n, D) of `words` (n, .) as from `query_words`, against one image.

        Equal to what `scores` gives for image row `row`, at the cost of the words that this image holds. Raises
        `UsageError` when the row is not in the index.
        """
        snapshot = self._snapshot
        holding = [number for number, segment in enumerate(snapshot.segments) if segment.holds(np.array([row]))[0]]
        if not holding:
            raise UsageError(f"row {row} is not in the index: it cannot be scored")
        segment = snapshot.segments[holding[0]]
        image = segment.only(row, np.unique(words))
        feature, slot = np.nonzero(image.postings_per_word[words])
        shared = self.aggregate_query(
            np.zeros(len(feature), np.int64), np.asarray(descriptors)[feature], words[feature, slot][:, None]
        )
        factor = snapshot.factors[holding[0]][np.searchsorted(segment.rows, row)]
        return float(factor * score_image(snapshot, image, shared, np.unique(words)))

    def save(self, path: str | Path) -> None:
        """Write a safetensors file, and the segments that are not there yet into a folder beside it, NAME.lists;
        without the codebook. Readers see the old index or the new one. From then on the segments are mapped from there.
        """
        stamp = {"kernel": json.dumps(asdict(self.kernel)), "codebook": self.codebook.fingerprint}
        self._set(write_segments(path, self._snapshot.segments, stamp))

    @staticmethod
    def load(path: str | Path, codebook: Codebook) -> Asmk:
        """Open what `save` wrote, mapped from disk; the format before is read into memory, and `stored` is False.

        Raises `StampMismatch` when it was made with another codebook, `CollectionError`, which names the file, when one
        is missing, damaged or of another format.
        """

        def restore(segments: list[Segment], stamp: dict[str, str]) -> Asmk:
            if stamp["codebook"] != codebook.fingerprint:
                raise StampMismatch(f"{path} was made with another codebook: build it again with this one")
            index = Asmk(codebook, **json.loads(stamp["kernel"]))
            index._restore(segments)
            return index

        return read_segments(path, codebook.bits, restore)

    def _restore(self, segments: list[Segment]) -> None:
        width = lanes_per_signature(self.codebook.bits) if self.kernel.binary else 0
        for segment in segments:
            plain = () if self.kernel.binary else (self.codebook.dim,)
            if segment.width != width or segment.values.shape[1:] != plain:
                raise ArrayError(f"a segment holds residuals {segment.values.dtype} {segment.values.shape}, not this")
            if len(segment.offsets) != len(self.codebook) + 1:
                raise ArrayError(f"a segment has {len(segment.offsets) - 1} words, the codebook {len(self.codebook)}")
        self._set(segments)
        if (np.diff(self._snapshot.rows) == 0).any():
            raise ArrayError("two segments hold the same image row")

    def _built(self, aggregated: Aggregated) -> list[Segment]:
        return build(aggregated, len(self.codebook), self.codebook.bits)

    def _aggregate(self, rows: Any, descriptors: Any, multiple: int, planes: int) -> Aggregated:
        points = as_array("descriptors", descriptors, np.float32, (None, self.codebook.dim))
        rows = as_array("rows", rows, np.int64, (len(points),))
        if (rows < 0).any():
            raise ArrayError(f"rows hold {rows.min()}: rows start at 0")
        parts = []
        for block in image_blocks(rows):
            words = self.codebook.assign(points[block], multiple)
            parts.append(aggregate(self.codebook, rows[block], words, points[block], binary=planes > 0, planes=planes))
        return join(parts, self.codebook, planes)

    @property
    def _planes(self) -> int:
        """Bits a dimension of what images keep; 0 in full precision."""
        return int(self.kernel.binary)

    def _check(self, aggregated: Aggregated, planes: int) -> None:
        self._check_values(aggregated.values, planes)
        if len(aggregated) and aggregated.words.max() >= len(self.codebook):
            raise ArrayError(f"word {aggregated.words.max()} is not one of the {len(self.codebook)} of the codebook")

    def _check_values(self, values: NDArray[Any], planes: int) -> None:
        width, kind = value_kind(self.codebook, planes)
        if values.dtype != kind or values.shape[1] != width:
            found = f"{values.dtype} x {values.shape[1]}"
            raise ArrayError(f"residuals are {found}, this index takes {np.dtype(kind).name} x {width} here")

    def _holds(self, rows: Int64) -> Bool:
        held = np.zeros(len(rows), bool)
        for segment in self._snapshot.segments:
            held |= segment.holds(rows)
        return held

    def _without(self, rows: Int64) -> list[Segment]:
        touched = [s.without(rows) if s.holds(rows).any() else s for s in self._snapshot.segments]
        return [segment for segment in touched if segment is not None]


def _query_count(aggregated: Aggregated, queries: int | None) -> int:
    least = int(aggregated.rows[-1]) + 1 if len(aggregated) else 0
    if queries is not None and queries < least:
        raise UsageError(f"{queries} queries were announced, but query row {least - 1} has descriptors")
    return least if queries is None else queries


def _names(rows: Int64) -> str:
    shown = ", ".join(map(str, rows[:5])) + (", ..." if len(rows) > 5 else "")
    return f"rows {shown} are" if len(rows) > 1 else f"row {shown} is"

"""Descriptors in and out of the files that papers and programs exchange, so that they can be scored without images.

| suffix | database | queries | image of each row |
|---|---|---|---|
| .npy | the array | a second file | - |
| .npz, .mat, .h5, .hdf5 | `X` (or `vecs`) | `Q` (or `qvecs`) | `imids`, `qimids` |
| .pkl | `vecs` (or `X`) | `qvecs` (or `Q`) | `imids`, `qimids` |
| .parquet | column `vector` | a second file | column `image` |
"""

from __future__ import annotations

import os
import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow
import pyarrow.compute
import pyarrow.parquet
import scipy.io
from numpy.typing import NDArray

from resight import safe_pickle
from resight.arrays import finite_rows
from resight.errors import ArrayError, UsageError
from resight.evaluation.array_files import DAMAGED, check_unpacked, load_h5, load_mat, load_npy, load_npz, open_h5
from resight.regular_files import check_regular
from resight.types import Float32, Int64, as_array

KEYS = {"X": ("X", "vecs"), "Q": ("Q", "qvecs"), "imids": ("imids",), "qimids": ("qimids",)}
NAMES = tuple(name for names in KEYS.values() for name in names)


@dataclass(frozen=True, eq=False)
class Features:
    """Descriptors of a database `vectors` (N, D) float32 and, where the file has them, of its `queries` (M, D).

    `images` (N,) and `query_images` (M,) int64: the image of every row when rows are local descriptors, else None.
    Raises `ArrayError` for unequal D or lengths, NaN or infinity (with their number).
    """

    vectors: Float32
    queries: Float32 | None = None
    images: Int64 | None = None
    query_images: Int64 | None = None

    def __post_init__(self) -> None:
        vectors = finite_rows("the database descriptors", self.vectors)
        object.__setattr__(self, "vectors", vectors)
        if self.queries is not None:
            queries = finite_rows("the query descriptors", self.queries, vectors.shape[1])
            object.__setattr__(self, "queries", queries)
        if self.query_images is not None and self.queries is None:
            raise ArrayError("features name the images of queries and hold no queries")
        for name, rows in (("images", self.vectors), ("query_images", self.queries)):
            if (given := getattr(self, name)) is not None and rows is not None:
                object.__setattr__(self, name, as_array(f"Features.{name}", given, np.int64, (len(rows),)))


def read_features(
    path: str | os.PathLike[str], queries: str | os.PathLike[str] | None = None, rows: int | None = None
) -> Features:
    """Read database and query descriptors from `path`, or the queries from a second file.

    Files of other programs hold descriptors as columns (D x N) or as rows (N x D). Told apart, in this order, by `rows`
    (the number N of database descriptors), by the length of `imids`, by the one side that database and queries share,
    and by which side has unit length. Raises `UsageError` when none of them decides, the file cannot be read or lacks
    the arrays, and `ArrayError` as `Features` does.
    """
    arrays = _read(Path(path))
    if queries is not None:
        second = _read(Path(queries))
        arrays |= {"Q": second.get("Q", second["X"])}
        if "imids" in second:
            arrays["qimids"] = second["imids"]
    ids = {name: np.ravel(arrays[name]) for name in ("imids", "qimids") if name in arrays}
    known = rows if rows is not None else len(ids["imids"]) if "imids" in ids else None
    x, q = _oriented(Path(path), np.asarray(arrays["X"]), arrays.get("Q"), known)
    return Features(x, q, ids.get("imids"), ids.get("qimids"))


def write_features(path: str | os.PathLike[str], features: Features) -> None:
    """Write `features` in the format of the suffix, .mat as columns (D x N), all others as rows.

    The file appears complete or not at all. Raises `UsageError` for an unknown suffix, and where the format has no
    place for queries or image numbers.
    """
    target = Path(path)
    write = for_suffix(target, _WRITERS)
    parts = {"X": features.vectors, "Q": features.queries, "imids": features.images, "qimids": features.query_images}
    arrays = {name: array for name, array in parts.items() if array is not None}
    partial = target.with_name(f".{target.stem}.partial{target.suffix}")
    write(partial, arrays)
    partial.replace(target)


def _oriented(path: Path, x: NDArray[Any], q: Any, rows: int | None) -> tuple[NDArray[Any], NDArray[Any] | None]:
    """Database and queries as rows, whichever way they lie in the file."""
    q = None if q is None else np.asarray(q)
    for array in (x,) if q is None else (x, q):
        if array.ndim != 2 or array.dtype.kind != "f":
            raise UsageError(
                f"{path}: descriptors of shape {array.shape}, {array.dtype}: a 2-d array of floats is needed"
            )
    lying = _side(x, q, rows)
    if lying is None and rows is not None and rows not in x.shape:
        raise UsageError(f"{path}: an array of shape {x.shape} does not hold {rows} descriptors")
    if lying is None:
        raise UsageError(
            f"{path}: it cannot be told whether the {x.shape[0]} rows or the {x.shape[1]} columns are the descriptors: "
            "give the number of database images"
        )
    return (x, q) if lying == "rows" else (x.T, None if q is None else q.T)


def _side(x: NDArray[Any], q: NDArray[Any] | None, rows: int | None) -> Literal["rows", "columns"] | None:
    """Whether descriptors are the rows or the columns of `x` (and `q`), None when nothing decides."""
    fits = [rows in (None, n) for n in x.shape]
    if q is not None:
        fits = [fits[0] and x.shape[1] == q.shape[1], fits[1] and x.shape[0] == q.shape[0]]
    if all(fits):
        fits = [bool(np.allclose((x.astype(np.float64) ** 2).sum(axis=axis), 1, atol=1e-2)) for axis in (1, 0)]
    if fits[0] == fits[1]:
        return None
    return "rows" if fits[0] else "columns"


def _read(path: Path) -> dict[str, Any]:
    """The arrays of a file under the names X, Q, imids, qimids; X is always there."""
    try:
        content = for_suffix(path, _READERS)(path)
    except UsageError:
        raise
    except (*DAMAGED, pyarrow.ArrowException, scipy.io.matlab.MatReadError) as error:
        raise UsageError(f"cannot read descriptors from {path}: {error}") from error
    arrays = {name: content[key] for name, keys in KEYS.items() for key in keys if key in content}
    if "X" not in arrays and "Q" in arrays:
        arrays["X"] = arrays["Q"]  # a file of queries alone
    if "X" not in arrays:
        raise UsageError(f"{path} holds {', '.join(sorted(map(str, content)))[:200]}, but no X or vecs")
    return arrays


def for_suffix(path: Path, table: Mapping[str, Any]) -> Any:
    """The entry of `table` for the suffix of `path`. Raises `UsageError` when there is none."""
    if path.suffix not in table:
        raise UsageError(f"{path} is not of a format for this: {', '.join(sorted(table))} are")
    return table[path.suffix]


def _read_pkl(path: Path) -> dict[str, Any]:
    content = safe_pickle.load(path)
    if not isinstance(content, Mapping):
        raise UsageError(f"{path} holds a {type(content).__name__}, not a dict of arrays")
    return dict(content)


def _read_parquet(path: Path) -> dict[str, Any]:
    size, metadata = check_regular(path), pyarrow.parquet.read_metadata(path)
    parts = [metadata.row_group(k) for k in range(metadata.num_row_groups)]
    check_unpacked(8 * sum(part.column(k).num_values for part in parts for k in range(part.num_columns)), size)
    table = pyarrow.parquet.read_table(path)
    if "vector" not in table.column_names:
        raise UsageError(f"{path} has the columns {', '.join(table.column_names)}, but no vector")
    arrays = {"X": parquet_vectors(table.column("vector").combine_chunks(), path)}
    return arrays | ({"imids": table.column("image").to_numpy()} if "image" in table.column_names else {})


def parquet_vectors(column: Any, path: Path) -> NDArray[Any]:
    """A list column as an array (n, D). Raises `UsageError` for missing vectors and unequal lengths."""
    values, n = column.flatten().to_numpy(zero_copy_only=False), len(column)
    lengths = np.unique(pyarrow.compute.list_value_length(column).to_numpy(zero_copy_only=False))
    if column.null_count or len(lengths) != 1:
        raise UsageError(f"{path}: its {n} vectors are missing or of unequal length")
    return np.asarray(values).reshape(n, -1)


def _write_npy(path: Path, arrays: dict[str, Any]) -> None:
    _only(path, arrays, {"X"})
    np.save(path, arrays["X"])


def _write_mat(path: Path, arrays: dict[str, Any]) -> None:
    scipy.io.savemat(path, {name: array.T if name in "XQ" else array for name, array in arrays.items()})


def _write_h5(path: Path, arrays: dict[str, Any]) -> None:
    with open_h5(path, "w") as file:
        for name, array in arrays.items():
            file[name] = array


def _write_pkl(path: Path, arrays: dict[str, Any]) -> None:
    names = {"X": "vecs", "Q": "qvecs"}
    with open(path, "wb") as file:
        pickle.dump({names.get(name, name): array for name, array in arrays.items()}, file)


def _write_parquet(path: Path, arrays: dict[str, Any]) -> None:
    _only(path, arrays, {"X", "imids"})
    x = arrays["X"]
    columns = {"vector": pyarrow.FixedSizeListArray.from_arrays(pyarrow.array(x.ravel()), x.shape[1])}
    pyarrow.parquet.write_table(
        pyarrow.table(columns | ({"image": arrays["imids"]} if "imids" in arrays else {})), path
    )


def _only(path: Path, arrays: dict[str, Any], allowed: set[str]) -> None:
    if extra := set(arrays) - allowed:
        raise UsageError(
            f"{path.suffix} files have no place for {', '.join(sorted(extra))}: use .npz, .h5, .mat or .pkl"
        )


_READERS = {
    ".npy": lambda path: {"X": load_npy(path)},
    ".npz": lambda path: load_npz(path, NAMES),
    ".mat": lambda path: load_mat(path, NAMES),
    ".h5": lambda path: load_h5(path, NAMES),
    ".hdf5": lambda path: load_h5(path, NAMES),
    ".pkl": _read_pkl,
    ".parquet": _read_parquet,
}
_WRITERS = {
    ".npy": _write_npy,
    ".npz": lambda path, arrays: np.savez(path, **arrays),
    ".mat": _write_mat,
    ".h5": _write_h5,
    ".hdf5": _write_h5,
    ".pkl": _write_pkl,
    ".parquet": _write_parquet,
}

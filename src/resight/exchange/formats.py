"""The formats that a collection can be exported to, each with its writer and the tool that opens it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from resight.errors import UsageError
from resight.exchange import colmap_db, fiftyone, hloc_h5, hloc_pairs, huggingface, tables, vectors
from resight.exchange.request import Request, free

Writer = Callable[[Request], str]


@dataclass(frozen=True)
class Format:
    """`write` makes the product and says in a sentence what is in it; `opens`: what reads it."""

    title: str
    opens: str
    write: Writer


FORMATS: Mapping[str, Format] = {
    "hloc-pairs": Format("ranked lists as pairs of names", "hloc, COLMAP matches_importer", hloc_pairs.write_pairs),
    "hloc-h5": Format("local features and global descriptors", "hloc", hloc_h5.write_features),
    "colmap-db": Format("features, matches and verified pairs", "COLMAP, pycolmap", colmap_db.write_database),
    "faiss": Format("index of global descriptors, and ids", "faiss.read_index", vectors.write_faiss),
    "parquet": Format("photos, vectors and local features", "pandas, DuckDB, Polars", tables.write_parquet),
    "npy": Format("global descriptors, and ids", "numpy.load", vectors.write_npy),
    "fiftyone": Format("photos, neighbours and vectors", "fiftyone.Dataset.from_dir", fiftyone.write_dataset),
    "hf-dataset": Format("photos and vectors", "datasets.load_from_disk", huggingface.write_dataset),
}


def export(to: str, request: Request) -> str:
    """Write a collection in format `to`; a sentence says what was written.

    Raises `UsageError` for an unknown format, a path that is taken, and what the collection or this installation lacks.
    """
    if to not in FORMATS:
        raise UsageError(f"format {to!r} is unknown: choose one of {', '.join(FORMATS)}")
    free(request.out)
    return FORMATS[to].write(request)

"""A collection as it was when it was opened: what all reading goes through, and what recipes work on."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse

from resight.artifacts import files
from resight.artifacts.descriptors import Descriptors, load_descriptors
from resight.artifacts.followed import differences, load_followed
from resight.artifacts.fusion import load_weights
from resight.artifacts.inverted_file import (
    InvertedFile,
    features_of,
    load_inverted_file,
    make_verifier,
    stored_features,
)
from resight.artifacts.labels import load_labels
from resight.artifacts.neighbours import load_augmented, load_edges, load_neighbours, load_offline
from resight.artifacts.options import load_tuned
from resight.artifacts.reduction import load_reduction
from resight.artifacts.regions import load_regions
from resight.artifacts.separation import Separated, load_separated
from resight.artifacts.similarity import load_learned_similarity
from resight.artifacts.spectra import StoredBasis, StoredEmbedding, load_basis, load_embedding
from resight.artifacts.vlad import load_vlad
from resight.collection.photo_ids import PhotoIds
from resight.errors import CollectionError, StampMismatch, UsageError
from resight.features.extraction import Describer
from resight.features.local.reduction import Reducible
from resight.features.whitening import Whitening
from resight.graph.adjacency import Adjacency
from resight.graph.manifold import ManifoldEmbedding
from resight.graph.spectral import SpectralBasis
from resight.index.asmk import Asmk
from resight.ranking.confidence import UNKNOWN, Confidence
from resight.ranking.deep_spatial import DescribeQuery, RegionSource
from resight.ranking.expansion_stages import Augmentation
from resight.ranking.pipeline import Pipeline
from resight.ranking.propagation import TrainingPhotos
from resight.ranking.search import VectorIndex
from resight.ranking.similarity import PairScorer
from resight.ranking.vector_database import VectorDatabase
from resight.ranking.verification import Verifier
from resight.recipes.catalogue import Settings, check_recipe, local_weights, pipeline, settings_of
from resight.recipes.local import scoring
from resight.recipes.regions import maps_of, query_regions
from resight.recipes.resources import IndexedKind, Tuned
from resight.recipes.settings import LocalSettings
from resight.store.folder import lance_faults
from resight.store.stamp import Stamp
from resight.store.tables import Tables
from resight.types import Encoder, Float32, Int64, KnnGraph, LocalFeatures, Queries

_FILES = {
    "graph": files.GRAPH,
    "verified_graph": files.VERIFIED_GRAPH,
    "offline": files.OFFLINE,
    "training": files.LABELS,
    "separated": files.SEPARATION,
    "similarity": files.SIMILARITY,
    "regions": files.REGIONS,
}
DESCRIPTOR, LOCAL = "descriptor", "local"  # names of the network and the encoder in the stamp's models
MATCHER = "matcher"  # the learned matcher in the stamp's models
IMPORTED = "imported from "  # what stands before the source in place of the encoder's fingerprint


def local_model(key: str) -> str:
    """Name of the encoder of one kind, by key, in the stamp's models."""
    return f"{LOCAL} {key}" if key else LOCAL


def reduction_model(key: str) -> str:
    """Name of the reduction that was learnt for one kind, by key, in the stamp's models."""
    return f"{local_model(key)} reduction"


@dataclass(frozen=True, eq=False)
class Snapshot:
    """Tables, stamp and artifacts of a collection, read when first needed: the `Resources` of recipes.

    Raises `CollectionError` wherever a damaged artifact is needed.
    """

    tables: Tables
    stamp: Stamp
    builds: bool = False

    @property
    def path(self) -> Path:
        """The folder of the collection."""
        return self.tables.folder

    @cached_property
    def settings(self) -> Settings:
        """What the collection keeps of a photo."""
        return settings_of(self.stamp.recipe, self.stamp.parameters)

    @cached_property
    def network(self) -> Describer | None:
        """The network that makes the global descriptors, or both of a blend; None in recipes without.

        Raises `UsageError` when its file is gone, `StampMismatch` when it is another one than made the collection.
        """
        network = self.settings.descriptor
        if network is not None and network.fingerprint != self.stamp.models.get(DESCRIPTOR):
            raise StampMismatch(
                f"{self.path} holds vectors of another network than {network.name} as it is now: "
                "give the file that it was made with, or index the photos into a new collection"
            )
        return network

    @cached_property
    def encoders(self) -> Mapping[str, Encoder]:
        """What extracts the local features of each kind, by key, the one that verifies first. A reduction that is still
        to be learnt is missing.

        Raises `StampMismatch` when one gives other features than those that the collection was made with.
        """
        if self.imported:
            raise StampMismatch(
                f"{self.path} holds local features {self.stamp.models[LOCAL]}, which resight cannot extract from other "
                "photos: search by the ids of its own"
            )
        return {kind.key: self._encoder(kind) for kind in self.settings.kinds}

    def _encoder(self, kind: LocalSettings) -> Encoder:
        encoder, models = kind.encoder, self.stamp.models
        if models.get(local_model(kind.key), encoder.fingerprint) != encoder.fingerprint:
            raise StampMismatch(
                f"{self.path} holds {kind.features} features that this version of resight, or the network as it "
                "is now, extracts otherwise: give the files that it was made with, or index the photos into a new "
                "collection"
            )
        learnt = models.get(reduction_model(kind.key))
        if learnt is None or not isinstance(encoder, Reducible):
            return encoder
        return encoder.reduced(load_reduction(self.path, kind.key, learnt))

    @property
    def imported(self) -> bool:
        """Whether another tool extracted the local features."""
        return self.stamp.models.get(LOCAL, "").startswith(IMPORTED)

    # What recipes work on (`resight.recipes.resources.Resources`)

    @cached_property
    def inverted_files(self) -> Mapping[str, InvertedFile]:
        """Index and calibration of each kind of local features, by key."""
        return {kind.key: load_inverted_file(self.tables, kind) for kind in self.settings.kinds}

    @property
    def kinds(self) -> Mapping[str, str]:
        """Key and name of the kinds of local features."""
        return {kind.key: kind.features for kind in self.settings.kinds}

    def kind(self, key: str) -> IndexedKind | None:
        """One kind of local features, None where nothing of it is indexed."""
        found = self.inverted_files.get(key)
        if found is None or found.index is None:
            return None
        return IndexedKind(found.index, found.confidence, stored_features(self.tables, key))

    @property
    def inverted_file(self) -> InvertedFile | None:
        """Index and calibration of the local features that verify, None in recipes without."""
        return self.inverted_files[""] if self.settings.kinds else None

    @property
    def scored(self) -> InvertedFile | None:
        """Those of the kind in whose terms the collection's own recipe scores, None in recipes without."""
        if not self.settings.kinds:
            return None
        return self.inverted_files[scoring(local_weights(self.stamp.recipe, self.kinds))]

    @property
    def index(self) -> Asmk | None:
        """The index of the local features that verify."""
        return None if self.inverted_file is None else self.inverted_file.index

    @property
    def confidence(self) -> Confidence:
        """What unrelated photos score by the local features that verify."""
        return UNKNOWN if self.inverted_file is None else self.inverted_file.confidence

    @cached_property
    def verifier(self) -> Verifier | None:
        """Verification by geometry. Raises `StampMismatch` when its matcher is another than the collection's."""
        local = self.settings.local
        if (
            local is not None
            and local.matcher is not None
            and local.matcher.fingerprint != self.stamp.models.get(MATCHER)
        ):
            raise StampMismatch(
                f"{self.path} was made with another matcher than {local.matching.matcher_weights} is now: give the "
                "file that it was made with, or index the photos into a new collection"
            )
        return None if local is None else make_verifier(self.tables, local)

    @cached_property
    def descriptors(self) -> Descriptors | None:
        """The global descriptors; VLAD of the local features in recipes without, where it has been made."""
        if self.settings.vector is None:
            return load_vlad(self.tables)
        return load_descriptors(self.tables, self.settings.vector, self.stamp.models.get(DESCRIPTOR, ""))

    @property
    def database(self) -> VectorDatabase | None:
        """The global descriptors as stages take them."""
        return None if self.descriptors is None else self.descriptors.database

    @property
    def vector_index(self) -> VectorIndex | None:
        """What finds the nearest global descriptors."""
        return None if self.descriptors is None else self.descriptors.index

    def vector(self, row: int) -> Float32 | None:
        """The stored descriptor (D,) of a row as searches compare it, zeros for a photo without one; None in recipes
        without."""
        if self.settings.vector is None or self.descriptors is None:
            return None
        rows, matrix = self.descriptors.rows, self.descriptors.matrix
        place = int(np.searchsorted(rows, row))
        known = place < len(rows) and rows[place] == row
        return np.array(matrix[place]) if known else np.zeros(matrix.shape[1], np.float32)

    @property
    def whitening(self) -> Whitening | None:
        """How global descriptors are whitened."""
        return None if self.descriptors is None else self.descriptors.whitening

    @property
    def vector_confidence(self) -> Confidence:
        """What unrelated photos score by global descriptors."""
        return UNKNOWN if self.descriptors is None else self.descriptors.confidence

    @property
    def describe(self) -> Callable[[Queries], Float32] | None:
        """How queries get a global descriptor, None where they carry it."""
        return None if self.descriptors is None else self.descriptors.describe

    @cached_property
    def graph(self) -> KnnGraph | None:
        """The kNN graph of similarities."""
        return None if self.descriptors is None else load_neighbours(self.path, files.GRAPH, self.descriptors)

    @cached_property
    def edges(self) -> Adjacency | None:
        """The edges of `graph` in both directions."""
        return None if self.descriptors is None else load_edges(self.path, self.descriptors)

    @cached_property
    def verified_graph(self) -> KnnGraph | None:
        """The kNN graph of inliers."""
        return None if self.descriptors is None else load_neighbours(self.path, files.VERIFIED_GRAPH, self.descriptors)

    def augmented_graph(self, how: Augmentation) -> KnnGraph | None:
        """The kNN graph of descriptors after verified augmentation."""
        return None if self.descriptors is None else load_augmented(self.path, self.descriptors, how)

    @cached_property
    def offline(self) -> scipy.sparse.csr_array | None:
        """Off-line diffusion."""
        return None if self.descriptors is None else load_offline(self.path, self.descriptors)

    @cached_property
    def _basis(self) -> StoredBasis | None:
        return None if self.descriptors is None else load_basis(self.path, self.descriptors)

    def spectral_basis(self, k: int, rank: int) -> SpectralBasis | None:
        """The leading eigenvectors of the graph."""
        return None if self._basis is None else self._basis.of(k, rank)

    @cached_property
    def _embedding(self) -> StoredEmbedding | None:
        return None if self.descriptors is None else load_embedding(self.path, self.descriptors)

    def embedding(self, k: int, components: int, rounds: int) -> ManifoldEmbedding | None:
        """The manifold embedding of the descriptors."""
        return None if self._embedding is None else self._embedding.of(k, components, rounds)

    @cached_property
    def regions(self) -> RegionSource | None:
        """Regions of activation maps. Raises `UsageError` when photos have come since."""
        stored = None if self.network is None else load_regions(self.path, self.network.fingerprint)
        if stored is not None and self.descriptors is not None:
            missing = int((~np.isin(self.descriptors.rows, stored.rows)).sum())
            if missing:
                raise UsageError(f"{missing} photos of {self.path} have no regions yet: run resight fit regions on it")
        return stored

    @property
    def describe_regions(self) -> DescribeQuery | None:
        """How a query gets its regions."""
        network = self.network
        return None if network is None else partial(query_regions, maps_of(network), network.max_side)

    @cached_property
    def training(self) -> TrainingPhotos | None:
        """Labelled photos."""
        return None if self.descriptors is None else load_labels(self.path, self.descriptors)

    @cached_property
    def fusion_weights(self) -> Mapping[str, float] | None:
        """The learned weights of kinds of local features and of the global descriptor, by key."""
        return load_weights(self.path)

    @cached_property
    def tuned(self) -> Tuned:
        """Options of graph recipes that suit the collection."""
        return load_tuned(self.path)

    @cached_property
    def separation(self) -> Separated | None:
        """Separated descriptors."""
        return None if self.descriptors is None else load_separated(self.path, self.descriptors)

    @cached_property
    def similarity(self) -> PairScorer | None:
        """The learned similarity."""
        return None if self.descriptors is None else load_learned_similarity(self.path, self.descriptors)

    def holds(self, part: str) -> bool:
        """Whether a part that recipes need is there; looks for its file, and loads nothing."""
        if part in ("index", "verifier"):
            return self.settings.local is not None
        if part == "database":
            return self.settings.vector is not None or files.VLAD.exists(self.path)
        return _FILES[part].exists(self.path)

    # How far the artifacts are behind the tables

    @cached_property
    def differences(self) -> tuple[Int64, Int64]:
        """Rows that an index of local features holds in vain, and rows that one lacks, because a run was stopped. Not
        compared where the last writer came to its end and left this state.
        """
        indexed = {key: 0 if found.index is None else len(found.index) for key, found in self.inverted_files.items()}
        followed = None if files.UNFINISHED.exists(self.path) else load_followed(self.path)
        if followed is not None and followed.is_of(self.tables, indexed):
            return np.empty(0, np.int64), np.empty(0, np.int64)
        return self.compared()

    def compared(self) -> tuple[Int64, Int64]:
        """`differences`, row by row whatever the last writer left."""
        gone, lacking = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
        for key, found in self.inverted_files.items():
            if found.index is None:
                rows = self.tables.feature_rows
                lacking.append(rows[self.tables.counts(rows, key) > 0])
            else:
                held, missing = differences(found.index.rows, self.tables, key)
                gone.append(held)
                lacking.append(missing)
        return np.unique(np.concatenate(gone)), np.unique(np.concatenate(lacking))

    @property
    def calibrated(self) -> bool:
        """Whether it is known what unrelated photos score; not so after a run that was stopped."""
        return all(found.index is None or found.calibrated for found in self.inverted_files.values())

    @property
    def finished(self) -> bool:
        """Whether every run over the collection came to its end; not so while one is at work."""
        stopped = files.UNFINISHED.exists(self.path) or not self.calibrated
        return not stopped and not any(len(rows) for rows in self.differences)

    # Searching

    def pipeline(self, where: str | Int64 | None, recipe: str | None, options: Mapping[str, Any]) -> Pipeline:
        """The stages of a recipe, the collection's own when it is None, over the photos that fit `where`: an SQL
        condition on table `images`, or their rows (n,) int64 ascending.

        Raises `CollectionError` when nothing has been indexed yet, `UsageError` for a recipe or option that there is
        not, a value of the wrong kind, or a recipe that needs what the collection lacks.
        """
        name = self.stamp.recipe if recipe is None else recipe
        check_recipe(name, options)
        self._require_photos()
        allowed = self.rows_where(where) if isinstance(where, str) else where
        if len(self.differences[0]):  # rows that this snapshot of the tables does not know have no features to verify
            rows = self.tables.feature_rows
            allowed = rows if allowed is None else np.intersect1d(allowed, rows)
        return pipeline(name, self, options, allowed)

    def _require_photos(self) -> None:
        count = sum(len(found.index) for found in self.inverted_files.values() if found.index is not None)
        if self.settings.local is None and self.descriptors is not None:
            count = len(self.descriptors.rows)
        if not count:
            features = sum(self.tables.counts(self.tables.feature_rows, key).sum() for key in self.kinds)
            why = "its index is not ready" if features else "it holds no photos with features"
            raise CollectionError(f"{self.path} cannot be searched: {why}; run resight index PHOTOS --to {self.path}")

    def rows_where(self, condition: str) -> Int64:
        """Rows (n,) ascending that fit an SQL condition on table `images`. Raises `UsageError` for a bad condition."""
        scanner = self.tables.images_dataset.scanner(columns=["row"], filter=condition)
        try:
            scanner.explain_plan()
        except ValueError as error:
            why = str(error).split(", /")[0].removeprefix("Invalid user input: ")
            raise UsageError(f"condition {condition!r} does not fit table images of {self.path}: {why}") from error
        with lance_faults("read", self.path):
            rows = scanner.to_table()["row"].to_numpy()
        return np.sort(rows)

    # Photos

    @cached_property
    def ids(self) -> Mapping[str, int]:
        """Row of every photo, by id: looked up when asked for, and read a batch at a time."""
        return PhotoIds(self.tables)

    def find(self, id_: str) -> int | None:
        """Row of the photo with this id, None when there is none."""
        return self.ids.get(id_)

    def row_of(self, id_: str) -> int:
        """Row of the photo with this id. Raises `UsageError` when there is none."""
        row = self.find(id_)
        if row is None:
            raise UsageError(f"{self.path} holds no photo with id {id_!r}: `resight search` and `info` print ids")
        return row

    def photo(self, row: int) -> dict[str, Any]:
        """What table `images` holds of one row, as plain values, with `path` to open the file by."""
        return self.photos(np.array([row]))[0]

    def photos(self, rows: Int64) -> list[dict[str, Any]]:
        """As `photo`, of several rows (n,), in their order; reads these rows alone."""
        records = {record["row"]: record for record in self.tables.find("row", rows.tolist()).to_pylist()}
        found = [records[row] for row in rows.tolist()]
        return [{**record, "path": os.fsdecode(record["path_bytes"])} for record in found]

    def features(self, row: int, key: str = "") -> LocalFeatures:
        """The stored local features of one row; `key`: of a further kind. Raises `UsageError` when the photo could not
        be decoded."""
        if not self.tables.decoded([row])[0]:
            raise UsageError(f"{self.photo(row)['id']} cannot be a query: {self.photo(row)['error']}")
        return features_of(self.tables, np.array([row]), key)[0]

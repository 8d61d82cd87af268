"""Make a collection, or open one that is there."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from resight.collection.collection import Collection
from resight.collection.snapshot import DESCRIPTOR, MATCHER, Snapshot, local_model
from resight.errors import StampMismatch, UsageError
from resight.recipes.catalogue import DEFAULT, names_model, settings_of, with_absolute_paths
from resight.store.folder import collection_exists, collection_folder
from resight.store.stamp import check_stamp, new_stamp, read_stamp, write_stamp
from resight.store.tables import create, open_tables
from resight.store.writer import writing

_log = logging.getLogger(__name__)


def open_collection(path: str | os.PathLike[str]) -> Collection:
    """Open the collection at `path`. Raises `CollectionNotFound`, `StampMismatch` or `CollectionError` (damaged)."""
    stamp, tables = read_stamp(collection_folder(path)), open_tables(path)
    collection = Collection(Snapshot(tables, stamp))
    try:
        _ = collection.settings
    except UsageError as error:
        raise StampMismatch(f"{tables.folder} was made by another resight, upgrade this one: {error}") from error
    _log.info("opened %s: recipe %s, %d photos", tables.folder, stamp.recipe, len(tables))
    return collection


def create_collection(
    path: str | os.PathLike[str], recipe: str = DEFAULT, parameters: Mapping[str, Any] | None = None
) -> Collection:
    """Make an empty collection at `path`. Raises `UsageError` on an unknown recipe or setting, when the path is taken,
    or when the network that the recipe needs cannot be opened.
    """
    parameters = with_absolute_paths(parameters or {})
    settings = settings_of(recipe, parameters)
    network = settings.descriptor
    models = {} if network is None else {DESCRIPTOR: network.fingerprint}
    models |= {local_model(kind.key): kind.encoder.fingerprint for kind in settings.kinds}
    matcher = None if settings.local is None else settings.local.matcher
    models |= {} if matcher is None else {MATCHER: matcher.fingerprint}
    create(path, new_stamp(recipe, parameters, models), None if network is None else network.dim, settings.further)
    return open_collection(path)


def open_or_create(
    path: str | os.PathLike[str], recipe: str | None = None, parameters: Mapping[str, Any] | None = None
) -> Collection:
    """The collection at `path`, made first when nothing is there.

    A network whose file has moved may be given again: the collection then keeps the new place. Raises `StampMismatch`
    when it was made with another recipe, other settings or another network than those asked for.
    """
    if not collection_exists(path):
        return create_collection(path, DEFAULT if recipe is None else recipe, parameters)
    collection = open_collection(path)
    stamp = collection.snapshot.stamp
    if recipe is not None:
        check_stamp(stamp, collection.path, recipe)
    asked = with_absolute_paths(parameters or {})
    moved = {name: asked.pop(name) for name in list(asked) if names_model(name)}
    check_stamp(stamp, collection.path, stamp.recipe, {**stamp.parameters, **asked})
    if any(stamp.parameters.get(name) != value for name, value in moved.items()):
        return _moved_model(collection, moved)
    return collection


def _moved_model(collection: Collection, moved: Mapping[str, str]) -> Collection:
    """The collection with its network at another place. Raises `StampMismatch` when it is another network."""
    known = collection.snapshot
    stamp = replace(known.stamp, parameters={**known.stamp.parameters, **moved})
    moved_to = Snapshot(known.tables, stamp)
    _ = moved_to.network, moved_to.encoders, moved_to.verifier
    with writing(collection.path, "move the network"):
        write_stamp(collection.path, stamp)
    return open_collection(collection.path)

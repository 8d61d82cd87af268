"""The stamp of a collection: which format, recipe and models made it, so that two of them are never mixed."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from resight.errors import CollectionError, CollectionNotFound, StampMismatch, UsageError
from resight.store.folder import STAMP, collection_folder, faults, write_atomic
from resight.store.lock import write_lock
from resight.version import __version__

FORMAT = 1
MAX_STAMP_BYTES = 1 << 20

Migration = Callable[[Path, dict[str, Any]], dict[str, Any]]
MIGRATIONS: dict[int, Migration] = {}
"""Format number -> function that lifts a collection of that format to the next one.

It gets the folder, locked for writing, and the stamp's JSON, and gives back the JSON of the next format, which is then
written. It must bear being run again after a crash: only the stamp says how far a collection has come.
"""


@dataclass(frozen=True)
class Stamp:
    """What made a collection: `recipe` and its JSON `parameters`, fingerprints (hex) of its `models` by name, the
    resight version, the time `created` (ISO 8601, UTC) and the number of the folder `format`.
    """

    recipe: str
    parameters: Mapping[str, Any]
    models: Mapping[str, str]
    resight: str
    created: str
    format: int = FORMAT


def new_stamp(recipe: str, parameters: Mapping[str, Any], models: Mapping[str, str]) -> Stamp:
    """A stamp of now and of this version. Raises `UsageError` when `parameters` are not JSON."""
    try:
        plain = json.loads(json.dumps(dict(parameters), allow_nan=False))
    except (TypeError, ValueError, RecursionError) as error:
        raise UsageError(f"the parameters of recipe {recipe} cannot be kept as JSON: {error}") from error
    created = datetime.now(UTC).isoformat(timespec="seconds")
    return Stamp(recipe, plain, dict(models), __version__, created)


def write_stamp(path: str | Path, stamp: Stamp) -> None:
    """Write the stamp of the collection folder `path`, atomically. Raises `CollectionError` when the disk refuses."""
    _write_json(collection_folder(path), asdict(stamp))


def read_stamp(path: str | Path) -> Stamp:
    """Read the stamp of the collection at `path`; a collection of an older format is migrated first, under its lock.

    Raises `CollectionNotFound` (no such folder, or not a collection), `StampMismatch` (a newer format, or one too old
    to migrate) or `CollectionError` (damaged).
    """
    folder = collection_folder(path)
    fields = _read_json(folder)
    version = fields.get("format")
    if type(version) is not int:  # bool is an int to isinstance
        raise _damaged(folder, "it has no format number")
    if version > FORMAT:
        raise StampMismatch(
            f"{folder} was made by a newer resight (format {version}), this one reads up to {FORMAT}: "
            "upgrade with pip install --upgrade resight"
        )
    if version < FORMAT:
        _require_migration(folder, version)
        fields = _migrate(folder)
    return _parse(folder, fields)


def check_stamp(
    stamp: Stamp,
    path: str | Path,
    recipe: str,
    parameters: Mapping[str, Any] | None = None,
    models: Mapping[str, str] | None = None,
) -> None:
    """Raise `StampMismatch`, naming both sides, unless the collection was made this way; None skips a part."""
    if recipe != stamp.recipe:
        raise _mismatch(path, f"recipe {stamp.recipe}", f"recipe {recipe}")
    for kind, asked, made in (("parameter", parameters, stamp.parameters), ("model", models, stamp.models)):
        if asked is None:
            continue
        for name in sorted({*asked, *made}):
            if asked.get(name) != made.get(name):
                raise _mismatch(path, f"{kind} {name} {_said(made, name)}", _said(asked, name))


def _said(values: Mapping[str, Any], name: str) -> str:
    return f"= {json.dumps(values[name])}" if name in values else "not set"


def _mismatch(path: str | Path, made: str, asked: str) -> StampMismatch:
    return StampMismatch(
        f"{path} was made with {made}, not with {asked}, and the two cannot be mixed: "
        "leave the setting out, or index the photos into a new collection"
    )


def _damaged(folder: Path, why: str) -> CollectionError:
    return CollectionError(
        f"{folder / STAMP} is damaged ({why}): restore it from a backup, or index the photos into a new collection"
    )


def _read_json(folder: Path) -> dict[str, Any]:
    if not folder.is_dir():
        what = "is a file, not a collection" if folder.exists() else "does not exist"
        raise CollectionNotFound(f"{folder} {what}: make a collection with resight index PHOTOS --to NAME.resight")
    with faults("read", folder / STAMP):
        try:
            with open(folder / STAMP, "rb") as file:
                text = file.read(MAX_STAMP_BYTES + 1)
        except FileNotFoundError as error:
            raise CollectionNotFound(
                f"{folder} is a folder but not a collection (it holds no {STAMP}): "
                "make one with resight index PHOTOS --to NAME.resight"
            ) from error
    if len(text) > MAX_STAMP_BYTES:
        raise _damaged(folder, "it is larger than any stamp")
    try:
        fields = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise _damaged(folder, "it is not JSON") from error
    if not isinstance(fields, dict):
        raise _damaged(folder, "it is not a JSON object")
    return fields


def _migrate(folder: Path) -> dict[str, Any]:
    with write_lock(folder, "migrate the format"):
        fields = _read_json(folder)  # again: another process may have migrated it before the lock was ours
        while (version := fields["format"]) < FORMAT:
            _require_migration(folder, version)
            fields = {**MIGRATIONS[version](folder, fields), "format": version + 1}
            _write_json(folder, fields)
    return fields


def _require_migration(folder: Path, version: int) -> None:
    if version not in MIGRATIONS:
        raise StampMismatch(
            f"{folder} has the old format {version}, which this resight cannot lift to {FORMAT}: "
            "index the photos into a new collection"
        )


def _write_json(folder: Path, fields: Mapping[str, Any]) -> None:
    write_atomic(folder / STAMP, (json.dumps(fields, indent=2, sort_keys=True) + "\n").encode())


def _parse(folder: Path, fields: Mapping[str, Any]) -> Stamp:
    kinds = {"recipe": str, "parameters": dict, "models": dict, "resight": str, "created": str}
    for name, kind in kinds.items():
        if not isinstance(fields.get(name), kind):
            raise _damaged(folder, f"{name} is missing or not a {kind.__name__}")
    if not all(isinstance(fingerprint, str) for fingerprint in fields["models"].values()):
        raise _damaged(folder, "a model's fingerprint is not a string")
    return Stamp(**{name: fields[name] for name in kinds}, format=fields["format"])

"""The stamp of a collection: which format, recipe and models made it, so that two of them are never mixed."""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from resight.errors import CollectionError, CollectionNotFound, StampMismatch, UsageError
from resight.regular_files import NotRegular, read_regular
from resight.store.folder import STAMP, STAMP_COPY, collection_folder, faults, write_atomic
from resight.store.lock import write_lock
from resight.store.remote import pull, remote, upload_stamps
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
    """Write the stamp of the collection folder `path` and its copy. Raises `CollectionError` when the disk refuses."""
    _write_json(collection_folder(path), asdict(stamp))


def restorable(path: str | Path) -> bool:
    """Whether the copy of the stamp is whole, so that `restore_stamp` can do without the stamp."""
    return _read_copy(collection_folder(path)) is not None


def check_copy(path: str | Path) -> str | None:
    """What is wrong with the copy of a stamp that can be read, or with the stamp; None when nothing is."""
    folder = collection_folder(path)
    copy = _read_copy(folder)
    if copy is None:
        return f"{folder / STAMP_COPY}, from which a damaged stamp is restored, is missing or damaged itself"
    return None if copy == _read_json(folder) else f"{folder / STAMP} is not what was written: its copy differs"


def restore_stamp(path: str | Path) -> None:
    """Write stamp and copy anew: from the copy where it is sound, since it is written first, else from the stamp.

    Raises as `read_stamp` when neither can be read, and as `write_lock`.
    """
    folder = collection_folder(path)
    if _read_copy(folder) is None:
        read_stamp(folder)
    with write_lock(folder, "repair"):
        copy = _read_copy(folder)
        _write_json(folder, _read_json(folder) if copy is None else copy)


def read_stamp(path: str | Path) -> Stamp:
    """Read the stamp of the collection at `path`; a collection of an older format is migrated first, under its lock.

    Raises `CollectionNotFound` (no such folder, or not a collection), `StampMismatch` (a newer format, or one too old
    to migrate) or `CollectionError` (damaged).
    """
    folder = collection_folder(path)
    if (view := remote(folder)) is not None:
        pull(view)
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
    if _read_copy(folder) is not None:
        return CollectionError(
            f"{folder / STAMP} is damaged ({why}): resight check --repair {folder} restores it from its copy"
        )
    return CollectionError(
        f"{folder / STAMP} is damaged ({why}), and so is its copy: restore it from a backup, or index the photos into "
        "a new collection"
    )


def _read_json(folder: Path) -> dict[str, Any]:
    if not folder.is_dir():
        what = "is a file, not a collection" if folder.exists() else "does not exist"
        raise CollectionNotFound(f"{folder} {what}: make a collection with resight index PHOTOS --to NAME.resight")
    with faults("read", folder / STAMP):
        try:
            text = read_regular(folder / STAMP, MAX_STAMP_BYTES)
        except NotRegular as error:
            raise _damaged(folder, str(error)) from error
        except FileNotFoundError as error:
            if _read_copy(folder) is not None:
                raise _damaged(folder, "it is gone") from error
            raise CollectionNotFound(
                f"{folder} is a folder but not a collection (it holds no {STAMP}): "
                "make one with resight index PHOTOS --to NAME.resight"
            ) from error
    try:
        fields = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise _damaged(folder, "it is not JSON") from error
    if not isinstance(fields, dict):
        raise _damaged(folder, "it is not a JSON object")
    return fields


def _read_copy(folder: Path) -> dict[str, Any] | None:
    """The fields in the copy, None when it is missing or not what was written."""
    try:
        whole = json.loads(read_regular(folder / STAMP_COPY, MAX_STAMP_BYTES))
        sound = whole["crc32"] == _checksum(whole["stamp"])
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        return None
    return dict(whole["stamp"]) if sound and isinstance(whole["stamp"], dict) else None


def _checksum(fields: Mapping[str, Any]) -> int:
    return zlib.crc32(json.dumps(fields, sort_keys=True).encode())


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
    copy = {"crc32": _checksum(fields), "stamp": fields}
    for name, content in ((STAMP_COPY, copy), (STAMP, fields)):  # one of them is whole, whenever this is stopped
        write_atomic(folder / name, (json.dumps(content, indent=2, sort_keys=True) + "\n").encode())
    if (view := remote(folder)) is not None:
        upload_stamps(view)


def _parse(folder: Path, fields: Mapping[str, Any]) -> Stamp:
    kinds = {"recipe": str, "parameters": dict, "models": dict, "resight": str, "created": str}
    for name, kind in kinds.items():
        if not isinstance(fields.get(name), kind):
            raise _damaged(folder, f"{name} is missing or not a {kind.__name__}")
    if not all(isinstance(fingerprint, str) for fingerprint in fields["models"].values()):
        raise _damaged(folder, "a model's fingerprint is not a string")
    return Stamp(**{name: fields[name] for name in kinds}, format=fields["format"])

"""The process of one job: it changes a collection as the command line does, and tells how far it is.

It gets a line of JSON {"path", "kind", ...} on standard input and writes lines of JSON to standard output: {"step",
"done", "of"}, the first one empty as soon as it can be stopped, then {"result"} or {"error"}. SIGINT stops it as Ctrl-C
does: what was read is kept.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Callable
from typing import Any, TextIO

from resight.collection.collection import Collection
from resight.collection.open import open_collection
from resight.errors import ResightError
from resight.progress import Progress

SECONDS = 0.1  # between two lines of progress
INTERRUPTED = 130
Work = Callable[[Collection, dict[str, Any], Progress], dict[str, Any]]


def main() -> int:
    """Do the job that standard input names; 0 when it is done."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    job = json.loads(sys.stdin.readline())
    writing = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what a library prints must not pass for a line of ours
    try:
        _write(writing, {"step": "", "done": 0, "of": 0})
        result = KINDS[job["kind"]](open_collection(job["path"]), job, _teller(writing))
    except ResightError as error:
        _write(writing, {"error": str(error)})
        return 1
    except KeyboardInterrupt:
        return INTERRUPTED
    _write(writing, {"result": result})
    return INTERRUPTED if result.get("interrupted") else 0


def _teller(writing: TextIO) -> Progress:
    last = 0.0

    def tell(step: str, done: int, of: int) -> None:
        nonlocal last
        if done in (0, of) or time.monotonic() - last > SECONDS:
            last = time.monotonic()
            _write(writing, {"step": step, "done": done, "of": of})

    return tell


def _write(writing: TextIO, line: dict[str, Any]) -> None:
    writing.write(json.dumps(line) + "\n")


def _add(collection: Collection, job: dict[str, Any], progress: Progress) -> dict[str, Any]:
    from resight.images.scan import Photo, Scan, scan

    if "files" in job:  # uploads: their ids begin at the folder of all uploads
        status = [(path, os.stat(path)) for path in job["files"]]
        found = Scan(tuple(Photo(os.path.basename(p), p, job["root"], s.st_size, s.st_mtime_ns) for p, s in status), ())
    else:
        found = scan([job["folder"]])
    report = collection.add(found, progress=progress)
    counts = {name: getattr(report, name) for name in ("added", "updated", "moved", "unchanged", "skipped")}
    problems = [{"kind": problem.kind, "message": problem.message} for problem in report.problems]
    return {**counts, "interrupted": report.interrupted, "problems": problems, "notes": report.notes}


def _remove(collection: Collection, job: dict[str, Any], progress: Progress) -> dict[str, Any]:
    return {"removed": collection.remove(job["ids"], progress=progress)}


def _tag(collection: Collection, job: dict[str, Any], _: Progress) -> dict[str, Any]:
    return {"changed": collection.tag(job["ids"], add=job["add"], remove=job["remove"])}


def _graph(collection: Collection, job: dict[str, Any], progress: Progress) -> dict[str, Any]:
    from dataclasses import asdict

    from resight.fitting.graphs import build_graph

    reports = build_graph(collection, job["k"], verified=job["verified"], offline=job["offline"], progress=progress)
    return {"graphs": [asdict(report) for report in reports]}


def _tune(collection: Collection, _: dict[str, Any], progress: Progress) -> dict[str, Any]:
    from resight.fitting.graphs import tune

    found = tune(collection, progress=progress)
    choices = (found.expansion, found.traversal, found.diffusion)
    return {"choices": [{"method": c.method, "settings": dict(c.settings), "reason": c.reason} for c in choices]}


def _fit(collection: Collection, job: dict[str, Any], progress: Progress) -> dict[str, Any]:
    if job["what"] == "fusion":
        from resight.fitting.fusion import fit_fusion

        return {"weight": fit_fusion(collection).weight}
    if job["what"] == "whitening":
        from resight.fitting.whitening import fit_whitening_to, use_whitening

        use_whitening(collection, fit_whitening_to(collection, job["method"]), progress=progress)
        return {"method": job["method"]}
    collection.relearn(progress=progress)
    return {"words": collection.info().words}


def _duplicates(collection: Collection, _: dict[str, Any], progress: Progress) -> dict[str, Any]:
    from resight.collection.duplicates import near_duplicates

    return {"groups": near_duplicates(collection, progress=progress)}


KINDS: dict[str, Work] = {
    "add": _add,
    "remove": _remove,
    "tag": _tag,
    "graph": _graph,
    "tune": _tune,
    "fit": _fit,
    "duplicates": _duplicates,
}

if __name__ == "__main__":
    sys.exit(main())

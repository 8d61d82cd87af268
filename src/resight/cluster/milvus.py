"""Global descriptors in Milvus, in place of the index in this process; `milvus://HOST:PORT/NAME`.

A collection stays what it is: photos, local features and proofs lie with it. Milvus holds one vector per row, searched
by its server, whose machines it may spread over. Run here were Milvus Lite, which is a file of this process
(`milvus://FILE.db/NAME`), and the standalone server 2.3.5, both with FLAT and HNSW. A cluster of several machines,
IVF_RABITQ and DISKANN of newer servers were not.
"""

from __future__ import annotations

import hashlib
import logging
import re
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from resight.errors import CollectionError, StampMismatch, UsageError
from resight.extras import needed
from resight.index.exact import ExactIndex, finite_vectors
from resight.progress import Progress, silent
from resight.types import Float32, Int64, Ranking

ENGINE = re.compile(r"milvus://(?P<server>.+)/(?P<name>[A-Za-z_][A-Za-z0-9_]{0,199})")
SLACK = 16  # results beyond those wanted, for ties at the end
MOST = 16_384  # results of one search, a limit of Milvus
BATCH_BYTES = 8 << 20  # of vectors sent at a time; a message holds 64 MB
READ = 10_000  # rows read at a time
ATTEMPTS, WAIT = 4, 0.5  # of a request that failed because the connection did, and seconds before the next one
PROBE_SECONDS = 5.0
BUILT_SECONDS = 3600.0  # that the server may take for an index
EXACT = 10_000  # photos that a filter passes up to which, or ...
SHARE = 0.1  # ... share of all up to which, they are compared here, exactly
GRAPH_FROM = 50_000  # vectors from which the server builds HNSW instead of comparing all
EFFORT = 512  # least width of a search in HNSW
_log = logging.getLogger(__name__)
T = TypeVar("T")


@dataclass(frozen=True)
class Address:
    """Where the vectors lie: a `server` (HOST:PORT, or the path of a file of Milvus Lite) and the `name` there."""

    server: str
    name: str

    @property
    def lite(self) -> bool:
        """Whether it is a file, not a server."""
        return self.server.endswith(".db")

    @property
    def uri(self) -> str:
        """As the client takes it."""
        return self.server if self.lite else f"http://{self.server}"

    def __str__(self) -> str:
        return f"milvus://{self.server}/{self.name}"


def address_of(engine: str) -> Address:
    """Parse `milvus://HOST:PORT/NAME` or `milvus://FILE.db/NAME`. Raises `UsageError` for anything else."""
    found = ENGINE.fullmatch(engine)
    if found is None or not (found["server"].endswith(".db") or re.fullmatch(r"[^/\s]+:\d{1,5}", found["server"])):
        raise UsageError(f"engine {engine!r}: give milvus://HOST:PORT/NAME, or milvus://FILE.db/NAME for Milvus Lite")
    return Address(found["server"], found["name"])


class MilvusIndex:
    """The vectors (N, D) of a collection in Milvus: a `resight.ranking.search.VectorIndex`.

    `made_from`: fingerprint of what makes the descriptors; vectors of another are refused. `exact`: gives an exact
    index of some rows: what Milvus finds is scored by it, so that equal photos are found with equal scores and ties as
    on one machine, and it answers filters that few rows pass, where every index of clusters or graphs loses results.
    Answers hold at most 16 384 results. Searches read what was written before (strong consistency), and are sent again
    when the connection drops.
    """

    def __init__(self, address: Address, made_from: str, exact: Callable[[Int64], ExactIndex]) -> None:
        self.address, self._made_from, self._exact = address, made_from, exact
        self._client: Any = None
        self._count: int | None = None

    def __len__(self) -> int:
        if self._count is None:
            self._check()
            found = self._ask(
                lambda client: client.query(
                    self.address.name, filter="", output_fields=["count(*)"], consistency_level="Strong"
                )
            )
            self._count = int(found[0]["count(*)"])
        return self._count

    def search(self, queries: Any, k: int, allowed: Any = None) -> Ranking:
        """The `k` best rows of each query (Q, D), at most 16 384; ties by row number as everywhere.

        `allowed` (n,): rows that may be returned. Raises `CollectionError` when the server does not answer.
        """
        if k < 1:
            raise UsageError(f"{k} results were asked for: give at least 1")
        points = finite_vectors(queries, None)
        if not len(self) or not len(points):
            return Ranking(np.empty((len(points), 0), np.int64), np.empty((len(points), 0), np.float32))
        if allowed is None:
            return self._scored(points, self._found(points, min(k + SLACK, MOST, len(self))), k)
        rows = np.unique(np.asarray(allowed, np.int64))
        if len(rows) <= max(EXACT, SHARE * len(self)):
            return self._exact(rows).search(points, k)
        wanted = min(k, len(rows))
        share = len(rows) / len(self)
        every = self._found(points, min(MOST, 2 * int(wanted / share) + 64, len(self)))
        found = [one[np.isin(one, rows)] for one in every]
        if any(len(one) < min(wanted, MOST) for one in found):
            return self._exact(rows).search(points, k)
        return self._scored(points, found, wanted)

    def _scored(self, points: Float32, found: list[Int64], k: int) -> Ranking:
        """The `k` best of the rows that were found for each query, scored here."""
        parts = [self._exact(np.sort(rows)).search(point[None], k) for point, rows in zip(points, found, strict=True)]
        return Ranking.from_lists([part.ids[0] for part in parts], [part.scores[0] for part in parts])

    def _found(self, points: Float32, k: int) -> list[Int64]:
        """The rows (k,) that Milvus finds for each query."""
        parameters = {"metric_type": "IP", "params": {"ef": min(max(EFFORT, 2 * k), 32_768)}}
        answers = self._ask(
            lambda client: client.search(
                self.address.name,
                anns_field=self._field,
                data=[point.tolist() for point in points],
                limit=k,
                search_params=parameters,
                consistency_level="Strong",
            )
        )
        return [np.array([hit.id for hit in answer], np.int64) for answer in answers]

    def fill(self, rows: Int64, vectors: Float32, *, progress: Progress = silent) -> tuple[int, int]:
        """Bring Milvus to the `vectors` (N, D) of `rows` (N,) ascending: what is there stays, what is gone goes. Gives
        how many were added and removed. A run that was stopped is continued.

        Raises `StampMismatch` when the name holds vectors of something else, `CollectionError` when the server is down,
        full or refuses. Peak memory: 8 bytes a row and 8 MiB of vectors.
        """
        self._make(vectors.shape[1])
        held = self.rows()
        gone, new = np.setdiff1d(held, rows), np.flatnonzero(~np.isin(rows, held))
        for start in range(0, len(gone), READ):
            part = gone[start : start + READ].tolist()
            self._ask(lambda client, part=part: client.delete(self.address.name, ids=part))  # type: ignore[misc]
        step = max(1, BATCH_BYTES // (4 * vectors.shape[1]))
        for start in range(0, len(new), step):
            part = new[start : start + step]
            entries = [{"row": int(rows[i]), self._field: np.asarray(vectors[i], np.float32).tolist()} for i in part]
            self._ask(lambda client, entries=entries: client.upsert(self.address.name, entries))  # type: ignore[misc]
            progress("sending vectors", min(start + step, len(new)), len(new))
        self._settle()
        self._count = None
        return len(new), len(gone)

    def rows(self) -> Int64:
        """All rows that Milvus holds, ascending, (N,) int64."""
        found = [np.empty(0, np.int64)]
        last = -1
        while True:
            after = f"row > {last}"
            part = self._ask(
                lambda client, after=after: client.query(  # type: ignore[misc]
                    self.address.name, filter=after, output_fields=["row"], limit=MOST, consistency_level="Strong"
                )
            )
            if not part:
                return np.unique(np.concatenate(found))
            found.append(np.array([entry["row"] for entry in part], np.int64))
            last = int(found[-1].max())

    def require(self, count: int) -> None:
        """Raises `CollectionError` unless Milvus holds so many vectors, and `StampMismatch` when they are others."""
        if len(self) != count:
            raise CollectionError(
                f"{self.address} holds {len(self)} vectors and the collection {count}: bring it up to the collection "
                f"with resight engine fill COLLECTION {self.address}"
            )

    def drop(self, *, force: bool = False) -> None:
        """Delete what Milvus holds under the name; `force`: even when it is not this collection's."""
        if not force:
            self._check()
        self._ask(lambda client: client.drop_collection(self.address.name))
        self._count = None

    def close(self) -> None:
        """Close the connection."""
        if self._client is not None:
            self._client.close()
            self._client = None

    def _make(self, dim: int) -> None:
        if self._ask(lambda client: client.has_collection(self.address.name)):
            self._check()
            return
        from pymilvus import DataType

        def create(client: Any) -> None:
            schema = client.create_schema(auto_id=False, enable_dynamic_field=False)
            schema.add_field("row", DataType.INT64, is_primary=True)
            schema.add_field(self._field, DataType.FLOAT_VECTOR, dim=dim)
            index = client.prepare_index_params()
            index.add_index(self._field, index_type="FLAT", metric_type="IP")
            client.create_collection(self.address.name, schema=schema, index_params=index)

        self._ask(create)

    @property
    def _field(self) -> str:
        """The column of the vectors: it names what they were made from, since Milvus Lite keeps no descriptions."""
        return f"resight_{hashlib.sha256(self._made_from.encode()).hexdigest()[:24]}"

    def _check(self) -> None:
        """Raises `CollectionError` when nothing lies under the name, `StampMismatch` when it is something else."""
        if not self._ask(lambda client: client.has_collection(self.address.name)):
            raise CollectionError(f"{self.address} holds nothing yet: resight engine fill COLLECTION {self.address}")
        found = self._ask(lambda client: client.describe_collection(self.address.name))
        if self._field not in [field["name"] for field in found["fields"]]:
            raise StampMismatch(
                f"{self.address} holds other vectors than this collection's: give another name, or drop it with "
                f"resight engine drop COLLECTION {self.address} --force"
            )
        self._ask(lambda client: client.load_collection(self.address.name))  # a server that was started anew forgot it

    def _settle(self) -> None:
        """Wait until the index is built, then load it anew: before that Milvus answers from an interim one."""
        name = self.address.name
        self._ask(lambda client: client.flush(name))
        count = int(self._ask(lambda client: client.query(name, filter="", output_fields=["count(*)"]))[0]["count(*)"])
        if count >= GRAPH_FROM:
            self._ask(self._build_graph)
        until = time.monotonic() + BUILT_SECONDS
        while int(self._ask(lambda client: client.describe_index(name, self._field)).get("pending_index_rows", 0)):
            if time.monotonic() > until:
                raise CollectionError(f"{self.address} has not built its index in an hour: look at the server's log")
            time.sleep(WAIT)
        self._ask(lambda client: client.release_collection(name))
        self._ask(lambda client: client.load_collection(name))

    def _build_graph(self, client: Any) -> None:
        name = self.address.name
        if client.describe_index(name, self._field)["index_type"] == "HNSW":
            return
        client.release_collection(name)
        client.drop_index(name, self._field)
        index = client.prepare_index_params()
        index.add_index(self._field, index_type="HNSW", metric_type="IP", params={"M": 32, "efConstruction": 256})
        client.create_index(name, index)

    def _ask(self, request: Callable[[Any], T]) -> T:
        """One request; sent again over a new connection when that was what failed."""
        with needed("an engine milvus://"):
            from pymilvus.exceptions import MilvusException
        for wait in _waits():
            try:
                return request(self._connected())
            except (MilvusException, ConnectionError, OSError, ValueError) as error:
                if wait is None or not _dropped(error):
                    raise self._failed(error) from error
                _log.info("%s: %s; asked again", self.address, error)
                self.close()
                time.sleep(wait)
        raise AssertionError("unreachable")

    def _connected(self) -> Any:
        if self._client is None:
            with needed("an engine milvus://"):
                from pymilvus import MilvusClient
            logging.getLogger("pymilvus").setLevel(logging.CRITICAL)  # what it logs is raised, too
            if not self.address.lite:
                host, _, port = self.address.server.rpartition(":")
                socket.create_connection((host, int(port)), PROBE_SECONDS).close()  # the client itself tries for long
            self._client = MilvusClient(self.address.uri, timeout=30)
        return self._client

    def _failed(self, error: Exception) -> CollectionError:
        why = str(getattr(error, "message", error)).strip().splitlines()
        return CollectionError(
            f"{self.address} does not do what it was asked ({why[0] if why else type(error).__name__}): see that the "
            "server is up and has room, or leave --engine out to search in this process"
        )


def _waits() -> Iterator[float | None]:
    """Seconds to wait after each attempt; None after the last."""
    yield from (WAIT * 2**attempt for attempt in range(ATTEMPTS - 1))
    yield None


def _dropped(error: Exception) -> bool:
    """Whether a request failed because the connection did, and may succeed over a new one."""
    text = str(error).lower()
    signs = ("unavailable", "connect", "closed", "deadline", "timed out", "timeout", "not ready", "reset by peer")
    return isinstance(error, OSError) or any(sign in text for sign in signs)

"""The queue and the loop of explore-exploit traversal, compiled by numba.

Every push gets the next number, so an entry is one integer and equal weights leave the queue in the order in which they
came. The arrays that hold a value per node carry the number of the query that wrote it: nothing is cleared between
queries, so the time of a query does not grow with the collection. No kernel checks bounds; the callers do.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

Array = NDArray[Any]


@njit(cache=True, nogil=True)
def _before(a: int, b: int, keys: Array, nodes: Array, best: Array, published: bool) -> bool:
    """Whether entry `a` leaves the queue before entry `b`."""
    key_a = best[nodes[a]] if published else keys[a]
    key_b = best[nodes[b]] if published else keys[b]
    return key_a > key_b or (key_a == key_b and a < b)


@njit(cache=True, nogil=True)
def _rise(heap: Array, size: int, entry: int, keys: Array, nodes: Array, best: Array, published: bool) -> None:
    """Add `entry` to a heap of `size`."""
    at = size
    while at > 0:
        parent = (at - 1) >> 1
        if not _before(entry, heap[parent], keys, nodes, best, published):
            break
        heap[at] = heap[parent]
        at = parent
    heap[at] = entry


@njit(cache=True, nogil=True)
def _remove_first(heap: Array, size: int, keys: Array, nodes: Array, best: Array, published: bool) -> None:
    """Take the first entry out of a heap of `size`; the last one sinks from the root."""
    entry, size, at = heap[size - 1], size - 1, 0
    while 2 * at + 1 < size:
        child = 2 * at + 1
        if child + 1 < size and _before(heap[child + 1], heap[child], keys, nodes, best, published):
            child += 1
        if not _before(heap[child], entry, keys, nodes, best, published):
            break
        heap[at] = heap[child]
        at = child
    heap[at] = entry


@njit(cache=True, nogil=True)
def _grown(array: Array, size: int) -> Array:
    larger = np.empty(size, array.dtype)
    larger[: len(array)] = array
    return larger


@njit(cache=True, nogil=True)
def _push(
    near_ids: Array,
    near_weights: Array,
    source: int,
    stamp: int,
    floor: float,
    pushed: int,
    size: int,
    keys: Array,
    nodes: Array,
    sources: Array,
    heap: Array,
    best: Array,
    reached: Array,
    published: bool,
) -> tuple[int, int]:
    """Queue every edge that is the best so far to its node; the new numbers of pushes and of waiting entries."""
    for e in range(len(near_ids)):
        other, weight = near_ids[e], near_weights[e]
        if other >= 0 and weight >= floor and (reached[other] != stamp or weight > best[other]):
            best[other], reached[other] = weight, stamp
            keys[pushed], nodes[pushed], sources[pushed] = weight, other, source
            _rise(heap, size, pushed, keys, nodes, best, published)
            pushed, size = pushed + 1, size + 1
    return pushed, size


@njit(cache=True, nogil=True)
def _floor(keys: Array, nodes: Array, pushed: int, best: Array, returnable: int, needed: int) -> float:
    """A weight that no edge below it can matter under: `needed` photos already wait with that weight or more."""
    waiting = np.empty(pushed, np.float32)
    count = 0
    for entry in range(pushed):
        if nodes[entry] < returnable and keys[entry] == best[nodes[entry]]:
            waiting[count] = keys[entry]
            count += 1
    if count < needed:
        return -np.inf
    return float(np.partition(waiting[:count], count - needed)[count - needed])


@njit(cache=True, nogil=True)
def traverse(
    query_ids: Array,
    query_weights: Array,
    starts: Array,
    ids: Array,
    weights: Array,
    class_of_query: Array,
    bridge_of_query: Array,
    class_of_node: Array,
    class_starts: Array,
    class_members: Array,
    class_weight: float,
    returnable: int,
    threshold: float,
    published: bool,
    out_ids: Array,
    out_scores: Array,
    out_sources: Array,
    lookups: Array,
    rounds: Array,
) -> None:
    """Traverse the graph for every query; see `resight.graph.traversal` for what it computes.

    `query_ids`, `query_weights` (Q, k), -1 padded; `starts`, `ids`, `weights`: adjacency of all nodes, of which the
    first `returnable` are photos of the collection and the others training photos. A query of class c >= 0 in
    `class_of_query` (Q,), and a training photo of class c in `class_of_node` (training photos,), has edges to
    class_members[class_starts[c]:class_starts[c + 1]], in front of its own, whose weights end at `class_weight`.
    A query with a node >= 0 in `bridge_of_query` has an edge to it in front of all. `out_*` (Q, limit) are filled from
    the left. `published` lets waiting entries change with their node's best weight, as the published program does.
    """
    count = len(starts) - 1
    best, reached = np.empty(count, np.float32), np.zeros(count, np.int32)
    explored, returned = np.zeros(count, np.int32), np.zeros(count, np.int32)
    keys, nodes, sources = np.empty(1024, np.float32), np.empty(1024, np.int64), np.empty(1024, np.int64)
    heap, fresh = np.empty(1024, np.int64), np.empty(64, np.int64)
    limit = out_ids.shape[1]
    for query in range(query_ids.shape[0]):
        stamp, pushed, size, found = query + 1, 0, 0, 0
        floor, next_floor = np.float32(-np.inf), 4 * limit
        lowest = np.float32(np.inf)
        fresh[0], fresh_count = -1, 1
        while found < limit:
            for f in range(fresh_count):
                node = fresh[f]
                label, bridge = -1, -1
                if node < 0:
                    label, bridge, own = class_of_query[query], bridge_of_query[query], query_ids.shape[1]
                else:
                    own = starts[node + 1] - starts[node]
                    lookups[query] += 1
                    if node >= returnable:
                        label = class_of_node[node - returnable]
                members = class_starts[label + 1] - class_starts[label] if label >= 0 else 0
                if pushed + members + own + 1 > len(keys):
                    room = 2 * (pushed + members + own + 1)
                    keys, nodes, sources = _grown(keys, room), _grown(nodes, room), _grown(sources, room)
                    heap = _grown(heap, room)
                # The heaviest first: the bridge, the photos of the class, and then the neighbours.
                if bridge >= 0:
                    edge = np.full(1, class_weight + len(class_members) + 1, np.float32)
                    pushed, size = _push(
                        np.full(1, bridge), edge, node, stamp, floor, pushed, size,
                        keys, nodes, sources, heap, best, reached, published,
                    )  # fmt: skip
                if members:
                    first_member = class_starts[label]
                    falling = (class_weight + np.arange(members, 0, -1)).astype(np.float32)
                    pushed, size = _push(
                        class_members[first_member : first_member + members], falling, node, stamp, floor, pushed, size,
                        keys, nodes, sources, heap, best, reached, published,
                    )  # fmt: skip
                near_ids, near_weights = query_ids[query], query_weights[query]
                if node >= 0:
                    near_ids = ids[starts[node] : starts[node + 1]]
                    near_weights = weights[starts[node] : starts[node + 1]]
                pushed, size = _push(
                    near_ids, near_weights, node, stamp, floor, pushed, size,
                    keys, nodes, sources, heap, best, reached, published,
                )  # fmt: skip
            if pushed > next_floor and not published:
                floor = np.float32(_floor(keys, nodes, pushed, best, returnable, limit - found))
                next_floor = pushed + 4 * limit
            fresh_count = 0
            if size == 0:
                break
            rounds[query] += 1
            while True:
                entry = heap[0]
                node = nodes[entry]
                lowest = min(lowest, best[node] if published else keys[entry])
                _remove_first(heap, size, keys, nodes, best, published)
                size -= 1
                if node < returnable and returned[node] != stamp:
                    returned[node] = stamp
                    out_ids[query, found], out_scores[query, found] = node, lowest
                    out_sources[query, found] = sources[entry]
                    found += 1
                if explored[node] != stamp:
                    explored[node] = stamp
                    if not published:
                        best[node] = np.inf
                    if fresh_count == len(fresh):
                        fresh = _grown(fresh, 2 * fresh_count)
                    fresh[fresh_count] = node
                    fresh_count += 1
                if found >= limit or size == 0:
                    break
                first = heap[0]
                if not (best[nodes[first]] if published else keys[first]) > threshold:
                    break

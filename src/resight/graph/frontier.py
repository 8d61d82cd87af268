"""The queue and the loop of explore-exploit traversal, compiled by numba.

Every push gets the next number, so an entry is one integer and equal weights leave the queue in the order in which they
came. The arrays that hold a value per node carry the number of the query that wrote it: nothing is cleared between
queries, so the time of a query does not grow with the collection. No kernel checks bounds; the callers do.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from resight.graph.frontier_state import Array, ClassEdges, Edges, Found, Marks, Published, Queue


@njit(cache=True, nogil=True)
def _before(a: int, b: int, keys: Array, nodes: Array, best: Array, published: Published) -> bool:
    """Whether entry `a` leaves the queue before entry `b`."""
    if published is None:
        key_a, key_b = keys[a], keys[b]
    else:
        key_a, key_b = best[nodes[a]], best[nodes[b]]
    return key_a > key_b or (key_a == key_b and a < b)


@njit(cache=True, nogil=True)
def _rise(heap: Array, size: int, entry: int, keys: Array, nodes: Array, best: Array, published: Published) -> None:
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
def _remove_first(heap: Array, size: int, keys: Array, nodes: Array, best: Array, published: Published) -> None:
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
def _grown_queue(queue: Queue, room: int) -> Queue:
    keys, nodes, sources, heap = queue
    return Queue(_grown(keys, room), _grown(nodes, room), _grown(sources, room), _grown(heap, room))


@njit(cache=True, nogil=True)
def _push(
    near_ids: Array,
    near_weights: Array,
    source: int,
    stamp: int,
    floor: float,
    pushed: int,
    size: int,
    queue: Queue,
    marks: Marks,
    published: Published,
) -> tuple[int, int]:
    """Queue every edge that is the best so far to its node; the new numbers of pushes and of waiting entries."""
    best, reached = marks.best, marks.reached
    keys, nodes, sources, heap = queue
    for e in range(len(near_ids)):
        other, weight = near_ids[e], near_weights[e]
        if other >= 0 and weight >= floor and (reached[other] != stamp or weight > best[other]):
            best[other], reached[other] = weight, stamp
            keys[pushed], nodes[pushed], sources[pushed] = weight, other, source
            _rise(heap, size, pushed, keys, nodes, best, published)
            pushed, size = pushed + 1, size + 1
    return pushed, size


@njit(cache=True, nogil=True)
def _push_labels(
    label: int,
    bridges: Array,
    source: int,
    stamp: int,
    floor: float,
    pushed: int,
    size: int,
    queue: Queue,
    marks: Marks,
    classes: ClassEdges,
    published: Published,
) -> tuple[int, int]:
    """Queue the edges that labels give, the heaviest first: the bridges and then the photos of the class."""
    heaviest = np.full(len(bridges), classes.weight + len(classes.members) + 1, np.float32)
    pushed, size = _push(bridges, heaviest, source, stamp, floor, pushed, size, queue, marks, published)
    if label >= 0:
        members = classes.members[classes.starts[label] : classes.starts[label + 1]]
        falling = (classes.weight + np.arange(len(members), 0, -1)).astype(np.float32)
        pushed, size = _push(members, falling, source, stamp, floor, pushed, size, queue, marks, published)
    return pushed, size


@njit(cache=True, nogil=True)
def _floor(queue: Queue, pushed: int, best: Array, returnable: int, needed: int) -> float:
    """A weight that no edge below it can matter under: `needed` photos already wait with that weight or more."""
    waiting = np.empty(pushed, np.float32)
    count = 0
    for entry in range(pushed):
        if queue.nodes[entry] < returnable and queue.keys[entry] == best[queue.nodes[entry]]:
            waiting[count] = queue.keys[entry]
            count += 1
    if count < needed:
        return -np.inf
    return float(np.partition(waiting[:count], count - needed)[count - needed])


@njit(cache=True, nogil=True)
def _size_of_class(classes: ClassEdges, label: int) -> int:
    return classes.starts[label + 1] - classes.starts[label] if label >= 0 else 0


@njit(cache=True, nogil=True)
def _start(
    query: int,
    near_ids: Array,
    near_weights: Array,
    queue: Queue,
    marks: Marks,
    classes: ClassEdges,
    published: Published,
) -> tuple[int, int]:
    """Queue the edges of a query."""
    label, bridges, floor = classes.of_query[query], classes.bridge[query], np.float32(-np.inf)
    pushed, size = _push_labels(label, bridges, -1, query + 1, floor, 0, 0, queue, marks, classes, published)
    pushed, size = _push(near_ids, near_weights, -1, query + 1, floor, pushed, size, queue, marks, published)
    return pushed, size


@njit(cache=True, nogil=True)
def _pushes(fresh: Array, count: int, edges: Edges, classes: ClassEdges) -> int:
    """The most pushes that expanding the first `count` nodes of `fresh` can take."""
    total = 0
    for node in fresh[:count]:
        total += edges.starts[node + 1] - edges.starts[node]
        if node >= edges.returnable:
            total += _size_of_class(classes, classes.of_training[node - edges.returnable])
    return total


@njit(cache=True, nogil=True)
def _expand(
    node: int,
    stamp: int,
    floor: float,
    pushed: int,
    size: int,
    queue: Queue,
    marks: Marks,
    edges: Edges,
    classes: ClassEdges,
    published: Published,
) -> tuple[int, int]:
    """Queue the edges of a node that was taken."""
    if node >= edges.returnable:
        label = classes.of_training[node - edges.returnable]
        pushed, size = _push_labels(
            label, classes.bridge[0, :0], node, stamp, floor, pushed, size, queue, marks, classes, published
        )
    near = slice(edges.starts[node], edges.starts[node + 1])
    ids, weights = edges.ids[near], edges.weights[near]
    pushed, size = _push(ids, weights, node, stamp, floor, pushed, size, queue, marks, published)
    return pushed, size


@njit(cache=True, nogil=True)
def _take(
    query: int,
    size: int,
    taken: int,
    lowest: float,
    fresh: Array,
    threshold: float,
    queue: Queue,
    marks: Marks,
    returnable: int,
    found: Found,
    published: Published,
) -> tuple[int, int, int, float]:
    """Explore once and exploit while edges exceed the threshold.

    Gives the new numbers of waiting entries, of results, and of nodes taken for the first time, which are put into
    `fresh`, and the weakest edge so far.
    """
    stamp, count, limit = query + 1, 0, found.ids.shape[1]
    keys, nodes, sources, heap = queue
    while True:
        entry = heap[0]
        node = nodes[entry]
        lowest = min(lowest, keys[entry] if published is None else marks.best[node])
        _remove_first(heap, size, keys, nodes, marks.best, published)
        size -= 1
        if node < returnable and marks.returned[node] != stamp:
            marks.returned[node] = stamp
            found.ids[query, taken], found.scores[query, taken] = node, lowest
            found.sources[query, taken] = sources[entry]
            taken += 1
        if marks.explored[node] != stamp:
            marks.explored[node] = stamp
            if published is None:
                marks.best[node] = np.inf
            fresh[count] = node
            count += 1
        if taken >= limit or size == 0:
            break
        first = heap[0]
        if not (keys[first] if published is None else marks.best[nodes[first]]) > threshold:
            break
    return size, taken, count, lowest


@njit(cache=True, nogil=True)
def traverse(
    query_ids: Array,
    query_weights: Array,
    edges: Edges,
    classes: ClassEdges,
    threshold: float,
    published: Published,
    found: Found,
) -> None:
    """Traverse the graph for every query, whose edges are `query_ids`, `query_weights` (Q, k), -1 padded.

    See `resight.graph.traversal` for what it computes. `published`, True or None, lets waiting entries change with
    their node's best weight, as the published program does.
    """
    nodes, limit = len(edges.starts) - 1, found.ids.shape[1]
    marks = Marks(np.empty(nodes, np.float32), np.zeros(nodes, np.int32), np.zeros(nodes, np.int32),
                  np.zeros(nodes, np.int32))  # fmt: skip
    queue = Queue(np.empty(1024, np.float32), np.empty(1024, np.int64), np.empty(1024, np.int64),
                  np.empty(1024, np.int64))  # fmt: skip
    fresh = np.empty(nodes, np.int64)  # memory that no node needs is never touched
    for query in range(query_ids.shape[0]):
        floor, next_floor, lowest, taken = np.float32(-np.inf), 4 * limit, np.float32(np.inf), 0
        needed = query_ids.shape[1] + _size_of_class(classes, classes.of_query[query]) + classes.bridge.shape[1]
        if needed > len(queue.keys):
            queue = _grown_queue(queue, 2 * needed)
        pushed, size = _start(query, query_ids[query], query_weights[query], queue, marks, classes, published)
        while taken < limit and size > 0:
            found.rounds[query] += 1
            size, taken, count, lowest = _take(
                query, size, taken, lowest, fresh, threshold, queue, marks, edges.returnable, found, published
            )
            if taken >= limit:
                break
            needed = pushed + _pushes(fresh, count, edges, classes)
            if needed > len(queue.keys):
                queue = _grown_queue(queue, 2 * needed)
            for node in fresh[:count]:
                pushed, size = _expand(node, query + 1, floor, pushed, size, queue, marks, edges, classes, published)
            found.lookups[query] += count
            if published is None and pushed > next_floor:
                floor = np.float32(_floor(queue, pushed, marks.best, edges.returnable, limit - taken))
                next_floor = pushed + 4 * limit

"""What the compiled loop of explore-exploit traversal works on: edges, queue, marks and results, as named tuples."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

from numpy.typing import NDArray

Array = NDArray[Any]
Published = Literal[True] | None
"""True or None, not False: for None, numba leaves the branch out when it compiles, which halves the time of a query."""


class Edges(NamedTuple):
    """Adjacency lists: node v has ids[starts[v]:starts[v + 1]]. The first `returnable` nodes are photos of the
    collection, the others training photos."""

    starts: Array
    ids: Array
    weights: Array
    returnable: int


class ClassEdges(NamedTuple):
    """Edges that labels give; -1 is none.

    A query of class `of_query`[q], and training photo t of class `of_training`[t], have edges in front of their own to
    members[starts[c]:starts[c + 1]], of the weights above `weight`, which no other edge exceeds. A query has
    those in front of all to the nodes `bridge`[q].
    """

    of_query: Array
    bridge: Array
    of_training: Array
    starts: Array
    members: Array
    weight: float


class Queue(NamedTuple):
    """Entries in the order of their pushes, with weight, node and the node they came from; `heap` of those waiting."""

    keys: Array
    nodes: Array
    sources: Array
    heap: Array


class Marks(NamedTuple):
    """Per node: the best weight so far, and the last query that reached, explored and returned it."""

    best: Array
    reached: Array
    explored: Array
    returned: Array


class Found(NamedTuple):
    """What is filled: `ids`, `scores`, `sources` (Q, limit) from the left, `lookups` and `rounds` (Q,)."""

    ids: Array
    scores: Array
    sources: Array
    lookups: Array
    rounds: Array

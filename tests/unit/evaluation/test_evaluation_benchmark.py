from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from resight.errors import ArrayError, UsageError
from resight.evaluation.benchmark import Benchmark, BenchmarkQuery, Protocol, names_found, with_distractors
from resight.types import Box

REVISITED = Protocol("box", "trapezoid", "unclear", "absent", levels=("easy", "medium", "hard"), at=(1, 5))
OWN = Protocol("whole", "rectangle", "the query", "junk")


def rows(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


def revisited(**changes: Any) -> Benchmark:
    judged = {"easy": rows(0), "hard": rows(1), "junk": rows(3)}
    given = {
        "name": "tiny",
        "images": ("a", "b", "c", "d"),
        "queries": (BenchmarkQuery("q", "q", Box(1, 2, 3, 4)),),
        "judgements": (judged,),
        "protocol": REVISITED,
        "licence": "none",
        "source": "here",
        "annotated": 4,
    }
    return Benchmark(**{**given, **changes})


def own(*positives: int, row: int | None = 0, junk: tuple[int, ...] = (0,), protocol: Protocol = OWN) -> Benchmark:
    return revisited(
        queries=(BenchmarkQuery("q", "a", row=row),),
        judgements=({"ok": rows(*positives), "junk": rows(*junk)},),
        protocol=protocol,
    )


def test_every_protocol_scores_by_its_own_metric() -> None:
    scores = revisited().score([[3, 0, 2, 1]])
    assert list(scores) == ["easy", "medium", "hard"]
    assert scores["medium"].ap == pytest.approx([(1 + (1 / 2 + 2 / 3) / 2) / 2])
    assert scores["medium"].at == (1, 5)
    assert own(1, 2).score([[0, 1, 3, 2]])["plain"].ap == pytest.approx([(1 + 2 / 3) / 2])
    at_1 = replace(OWN, ap="at k", k=1)
    assert own(1, 2, protocol=at_1).score([[0, 1, 3, 2]])["plain"].ap == pytest.approx([1])
    group = replace(OWN, ap="N-S", own_photo="positive")
    assert own(0, 1, 2, 3, junk=(), protocol=group).score([[0, 1, 3, 2]])["plain"].map == 4


def test_ids_outside_the_benchmark_are_refused() -> None:
    with pytest.raises(ArrayError, match=r"outside the database .*database of 4 rows"):
        revisited().score([[0, 4]])


def test_protocol_spells_out_its_choices() -> None:
    assert str(REVISITED) == (
        "trapezoid AP; queries cropped to their box; junk: unclear; queries are not in the database"
    )
    assert "AP@100" in str(replace(OWN, ap="at k", k=100))


def test_uncropped_is_marked() -> None:
    whole = revisited().uncropped()
    assert "protocol: uncropped" in str(whole.protocol)
    assert [query.box for query in whole.queries] == [None]
    assert own(1).uncropped().protocol == OWN


def test_distractors_follow_the_database() -> None:
    more = with_distractors(revisited(), ["x", "y"])
    assert (more.images, more.annotated, more.name) == (("a", "b", "c", "d", "x", "y"), 4, "tiny+2")
    assert more.score([[4, 0, 5, 1]])["easy"].ap == pytest.approx([(0 + 1 / 2) / 2])
    with pytest.raises(UsageError, match="1 image names appear more than once: b"):
        with_distractors(revisited(), ["x", "b"])


def test_checksum_tells_benchmarks_apart() -> None:
    base = revisited()
    assert base.checksum == revisited(name="other name").checksum
    judged = base.judgements[0]
    others = [
        revisited(images=("a", "b", "d", "c")),
        revisited(queries=(BenchmarkQuery("q", "q", Box(1, 2, 3, 5)),)),
        revisited(judgements=({**judged, "easy": rows(2)},)),
        revisited(judgements=({**judged, "easy": rows(), "junk": rows(0, 3)},)),
    ]
    assert len({base.checksum, *(other.checksum for other in others)}) == 5


def test_non_utf8_names_have_a_checksum() -> None:
    assert revisited(images=("\udcff", "b", "c", "d")).checksum != revisited().checksum


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"queries": (), "judgements": ()}, "tiny has no queries"),
        ({"judgements": ()}, "1 queries and 0 judgements"),
        ({"images": ("a", "b", "a", "b")}, "2 image names appear more than once: a, b"),
        ({"judgements": ({"ok": rows(0), "junk": rows()},)}, "1 queries are not judged by easy, hard, junk: q"),
        ({"judgements": ({"easy": rows(9), "hard": rows(), "junk": rows()},)}, "rows outside the 4 images"),
        ({"judgements": ({"easy": rows(1), "hard": rows(1), "junk": rows()},)}, "judges a row twice"),
        ({"queries": (BenchmarkQuery("q", "a", row=2),)}, "1 queries are database photos: q"),
    ],
)
def test_bad_benchmarks_are_refused(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        revisited(**changes)


def test_the_own_photo_of_a_query_stands_where_the_protocol_says() -> None:
    with pytest.raises(UsageError, match="1 queries are among their own positives: q"):
        own(0, 1, junk=())
    with pytest.raises(UsageError, match="1 queries are database photos but not among their own junk: q"):
        own(1, junk=())
    with pytest.raises(UsageError, match="query rows outside its 4 images"):
        own(1, row=4)
    assert own(1, row=None, junk=()).queries[0].row is None


def test_unknown_names_are_counted() -> None:
    with pytest.raises(UsageError, match=r"list: 6 names are not in the image list: b, c, d, e, f, \.\.\."):
        names_found("list", list("abcdefg"), {"a": 0})

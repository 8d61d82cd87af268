"""Every reader on a small file in the published format."""

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.io

from resight.errors import UsageError
from resight.evaluation.benchmark import Benchmark
from resight.evaluation.ground_truth import KNOWN, open_benchmark
from resight.types import Box

GND = {
    "imlist": ["img_0", "img_1", "img_2", "img_3"],
    "qimlist": ["q_0", "q_1"],
    "gnd": [
        {"bbx": [10, 20.5, 30, 60.5], "easy": [0], "hard": [1, 2], "junk": [3]},
        {"bbx": [0, 0, 5, 5], "easy": [], "hard": [3], "junk": []},
    ],
}


def lists(benchmark: Benchmark) -> list[dict[str, list[int]]]:
    return [{label: rows.tolist() for label, rows in judged.items()} for judged in benchmark.judgements]


def write_pkl(path: Path, content: object, protocol: int = 2) -> Path:
    path.write_bytes(pickle.dumps(content, protocol=protocol))
    return path


def cells(names: list[str]) -> np.ndarray:
    out = np.empty((len(names), 1), object)
    out[:, 0] = names
    return out


def write_mat(path: Path, labels: tuple[str, ...], **extra: Any) -> Path:
    gnd = np.zeros((1, 2), dtype=[(name, object) for name in (*labels, "bbx")])
    for q, entry in enumerate(GND["gnd"]):
        rows = {"ok": [*entry["easy"], *entry["hard"]], **entry}
        for label in labels:
            gnd[0, q][label] = np.array(rows[label], np.float64)[None] + 1  # MATLAB counts from 1
        gnd[0, q]["bbx"] = np.array(entry["bbx"], np.float64)[None]
    content = {"imlist": cells(GND["imlist"]), "qimlist": cells(GND["qimlist"]), "gnd": gnd, **extra}
    scipy.io.savemat(path, {key: value for key, value in content.items() if value is not None})
    return path


def test_revisited_pkl(tmp_path: Path) -> None:
    write_pkl(tmp_path / "gnd_roxford5k.pkl", GND)
    for place in (tmp_path, tmp_path / "gnd_roxford5k.pkl"):
        benchmark = open_benchmark(f"roxford5k:{place}")
        assert benchmark.images == tuple(GND["imlist"])
        assert [(q.name, q.image, q.box, q.row) for q in benchmark.queries] == [
            ("q_0", "q_0", Box(10, 20.5, 20, 40), None),
            ("q_1", "q_1", Box(0, 0, 5, 5), None),
        ]
        assert lists(benchmark) == [{k: e[k] for k in ("easy", "hard", "junk")} for e in GND["gnd"]]
        assert (benchmark.protocol.crop, benchmark.annotated) == ("box", 4)


def test_revisited_mat_counts_from_one(tmp_path: Path) -> None:
    write_mat(tmp_path / "gnd_rparis6k.mat", ("easy", "hard", "junk"))
    write_pkl(tmp_path / "twin.pkl", GND)
    from_mat, from_pkl = (open_benchmark(f"rparis6k:{tmp_path / name}") for name in ("gnd_rparis6k.mat", "twin.pkl"))
    assert lists(from_mat) == lists(from_pkl)
    assert from_mat.checksum == from_pkl.checksum


def test_instre_has_no_junk(tmp_path: Path) -> None:
    write_mat(tmp_path / "gnd_instre.mat", ("ok",))
    benchmark = open_benchmark(f"instre:{tmp_path}")
    assert lists(benchmark) == [{"ok": [0, 1, 2], "junk": []}, {"ok": [3], "junk": []}]
    assert benchmark.queries[0].box == Box(10, 20.5, 20, 40)


def test_classic_mat_names_queries_by_row(tmp_path: Path) -> None:
    write_mat(tmp_path / "gnd_oxford5k.mat", ("ok", "junk"), qimlist=None, qidx=np.array([[1.0], [4.0]]))
    benchmark = open_benchmark(f"oxford5k:{tmp_path}")
    assert [(query.image, query.row) for query in benchmark.queries] == [("img_0", 0), ("img_3", 3)]
    assert benchmark.protocol.own_photo == "positive"


def test_classic_pkl_accepts_queries_in_their_own_positives(tmp_path: Path) -> None:
    gnd = {**GND, "qimlist": ["img_0"], "gnd": [{"bbx": [0, 0, 5, 5], "ok": np.array([0, 2]), "junk": [3]}]}
    write_pkl(tmp_path / "gnd_paris6k.pkl", gnd)
    benchmark = open_benchmark(f"paris6k:{tmp_path}")
    assert (benchmark.queries[0].row, lists(benchmark)) == (0, [{"ok": [0, 2], "junk": [3]}])
    with pytest.raises(UsageError, match="1 queries are among their own positives: img_0"):
        open_benchmark(f"instre:{tmp_path / 'gnd_paris6k.pkl'}")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"gnd": GND["gnd"][:1]}, "names 2 queries and judges 1"),
        ({"gnd": [1, 2]}, "names 2 queries and judges 2"),
        ({"gnd": [{**e, "easy": ["x"]} for e in GND["gnd"]]}, "the easy rows of query 0 cannot be read"),
        ({"gnd": [{**e, "hard": [0.5]} for e in GND["gnd"]]}, "the hard rows of query 0 .* whole numbers"),
        ({"gnd": [{**e, "bbx": [1, 2, 3]} for e in GND["gnd"]]}, "box of query 0 is not four numbers"),
        ({"gnd": [{**e, "bbx": [5, 5, 1, 1]} for e in GND["gnd"]]}, "is empty"),
        ({"gnd": [{**e, "junk": [7]} for e in GND["gnd"]]}, "rows outside the 4 images in 2 queries: 0, 1"),
        ({"qimlist": [], "gnd": []}, "roxford5k has no queries"),
    ],
)
def test_damaged_ground_truth_is_refused(tmp_path: Path, change: dict[str, Any], said: str) -> None:
    path = write_pkl(tmp_path / "gnd.pkl", {**GND, **change})
    with pytest.raises(UsageError, match=said):
        open_benchmark(f"roxford5k:{path}")


@pytest.mark.parametrize("content", [[1, 2], {"imlist": []}])
def test_other_pickles_are_no_ground_truth(tmp_path: Path, content: object) -> None:
    path = write_pkl(tmp_path / "gnd.pkl", content)
    with pytest.raises(UsageError, match=r"gnd\.pkl is not a ground-truth file"):
        open_benchmark(f"roxford5k:{path}")


def test_damaged_mat_files_are_refused(tmp_path: Path) -> None:
    path = write_mat(tmp_path / "gnd.mat", ("ok",))
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UsageError, match=r"cannot read .*gnd\.mat as a MATLAB file"):
        open_benchmark(f"instre:{path}")
    scipy.io.savemat(path, {"Q": np.ones((2, 2))})
    with pytest.raises(UsageError, match="not a ground-truth file"):
        open_benchmark(f"instre:{path}")


def write_oxford(root: Path) -> None:
    (root / "gt").mkdir()
    (root / "jpg").mkdir()
    for n in range(5):
        (root / f"jpg/all_souls_{n:06d}.jpg").write_bytes(b"")
    (root / "gt/all_souls_1_query.txt").write_text("oxc1_all_souls_000001 136.5 34.1 648.5 955.7\n")
    (root / "gt/all_souls_1_good.txt").write_text("all_souls_000001\nall_souls_000004\n")
    (root / "gt/all_souls_1_ok.txt").write_text("all_souls_000002\n")
    (root / "gt/all_souls_1_junk.txt").write_text("all_souls_000000\n")


def test_oxford_text_files(tmp_path: Path) -> None:
    write_oxford(tmp_path)
    benchmark = open_benchmark(f"oxford5k:{tmp_path}")
    assert lists(benchmark) == [{"ok": [1, 4, 2], "junk": [0]}]
    (query,) = benchmark.queries
    assert (query.name, query.image, query.row) == ("all_souls_1", "jpg/all_souls_000001.jpg", 1)
    assert query.box is not None
    assert (query.box.width, query.box.height) == pytest.approx((512, 921.6))


def test_oxford_names_without_image_are_reported(tmp_path: Path) -> None:
    write_oxford(tmp_path)
    (tmp_path / "jpg/all_souls_000004.jpg").unlink()
    with pytest.raises(UsageError, match=r"1_good\.txt: 1 names are not in the image list: all_souls_000004"):
        open_benchmark(f"oxford5k:{tmp_path}")
    (tmp_path / "gt/all_souls_1_query.txt").write_text("all_souls_000001 1 2 3\n")
    with pytest.raises(UsageError, match="does not hold an image name and a box"):
        open_benchmark(f"oxford5k:{tmp_path}")
    (tmp_path / "gt/all_souls_1_query.txt").unlink()
    with pytest.raises(UsageError, match=r"no \*_query\.txt files"):
        open_benchmark(f"oxford5k:{tmp_path}")


HOLIDAYS = ["100000", "100001", "100002", "100100", "100201"]


def test_holidays_by_folder_and_by_list(tmp_path: Path) -> None:
    (tmp_path / "jpg").mkdir()
    for stem in HOLIDAYS:
        (tmp_path / f"jpg/{stem}.jpg").write_bytes(b"")
    (tmp_path / "holidays_images.dat").write_text("".join(f"{stem}.jpg\n" for stem in HOLIDAYS))
    for place in ("jpg", "holidays_images.dat"):
        benchmark = open_benchmark(f"holidays:{tmp_path / place}")
        assert [(query.name, query.row) for query in benchmark.queries] == [("100000", 0), ("100100", 3)]
        assert lists(benchmark) == [{"ok": [1, 2], "junk": [0]}, {"ok": [], "junk": [3]}]
    ranking = [[0, 4, 1, 2, 3], [3, 0, 1, 2, 4]]
    assert benchmark.score(ranking)["plain"].ap[0] == pytest.approx((1 / 2 + 2 / 3) / 2)
    trapezoid = open_benchmark(f"holidays-trapezoid:{tmp_path / 'jpg'}").score(ranking)["plain"]
    assert trapezoid.ap[0] == pytest.approx(((0 + 1 / 2) / 2 + (1 / 2 + 2 / 3) / 2) / 2)
    assert trapezoid.empty == 1


def test_names_that_are_no_numbers_are_reported(tmp_path: Path) -> None:
    (tmp_path / "names.txt").write_text("100000.jpg\ncat.jpg\n")
    for name in ("holidays", "ukbench"):
        with pytest.raises(UsageError, match=r"1 image names are not numbers: cat\.jpg"):
            open_benchmark(f"{name}:{tmp_path / 'names.txt'}")


def test_ukbench_groups_of_four(tmp_path: Path) -> None:
    (tmp_path / "names.txt").write_text("".join(f"ukbench{n:05d}.jpg\n" for n in range(8)))
    benchmark = open_benchmark(f"ukbench:{tmp_path / 'names.txt'}")
    assert len(benchmark.queries) == 8
    assert lists(benchmark)[5] == {"ok": [4, 5, 6, 7], "junk": []}
    perfect = np.stack([np.roll(np.arange(8), -4 * (q // 4)) for q in range(8)])
    assert benchmark.score(perfect)["plain"].map == 4
    (tmp_path / "names.txt").write_text("".join(f"ukbench{n:05d}.jpg\n" for n in range(6)))
    with pytest.raises(UsageError, match=r"1 groups do not have four images; they begin with: ukbench00004\.jpg"):
        open_benchmark(f"ukbench:{tmp_path / 'names.txt'}")


def write_gldv2(root: Path) -> None:
    (root / "meta").mkdir()
    (root / "index.csv").write_text("id\naaaa\nbbbb\ncccc\n")
    (root / "meta/index_image_to_landmark.csv").write_text("id,landmark_id\naaaa,7\nbbbb,9\ncccc,7\n")
    (root / "meta/retrieval_solution_v2.1.csv").write_text(
        "id,images,Usage\nq1,cccc aaaa,Public\nq2,bbbb,Private\nq3,None,Ignored\nq4,None,Public\n"
    )
    (root / "meta/recognition_solution_v2.1.csv").write_text(
        "id,landmarks,Usage\nq1,7,Public\nq2,9 7,Private\nq3,,Public\n"
    )


def test_google_landmarks_splits(tmp_path: Path) -> None:
    write_gldv2(tmp_path)
    public, private = (open_benchmark(f"gldv2-{usage}:{tmp_path}") for usage in ("public", "private"))
    assert [query.name for query in public.queries] == ["q1", "q4"]
    assert lists(public) == [{"ok": [2, 0], "junk": []}, {"ok": [], "junk": []}]
    assert lists(private) == [{"ok": [1], "junk": []}]
    scores = public.score([[1, 2, 0], [0, 1, 2]])["plain"]
    assert (scores.metric, scores.empty) == ("AP@100", 1)
    assert scores.ap[0] == pytest.approx((1 / 2 + 2 / 3) / 2)


def test_google_landmarks_recognition_labels(tmp_path: Path) -> None:
    write_gldv2(tmp_path)
    public, private = (open_benchmark(f"gldv2-recognition-{usage}:{tmp_path}") for usage in ("public", "private"))
    assert lists(public) == [{"ok": [0, 2], "junk": []}, {"ok": [], "junk": []}]
    assert lists(private) == [{"ok": [1, 0, 2], "junk": []}]


def test_google_landmarks_faults(tmp_path: Path) -> None:
    write_gldv2(tmp_path)
    solution = tmp_path / "meta/retrieval_solution_v2.1.csv"
    solution.write_text("id,images,Usage\nq1,zzzz aaaa,Public\n")
    with pytest.raises(UsageError, match=r"query q1: 1 names are not in the image list: zzzz"):
        open_benchmark(f"gldv2-public:{tmp_path}")
    solution.write_text("id,images,Usage\nq1,aaaa,Secret\n")
    with pytest.raises(UsageError, match="usage 'Secret'"):
        open_benchmark(f"gldv2-public:{tmp_path}")
    solution.write_text("id,landmarks\nq1,aaaa\n")
    with pytest.raises(UsageError, match="lacks the columns images, Usage; its header is id,landmarks"):
        open_benchmark(f"gldv2-public:{tmp_path}")
    solution.unlink()
    with pytest.raises(UsageError, match=r"hold no retrieval_solution\*\.csv"):
        open_benchmark(f"gldv2-public:{tmp_path}")


def test_ilias(tmp_path: Path) -> None:
    (tmp_path / "image_ids").mkdir()
    (tmp_path / "image_ids/positive_ids.txt").write_text(
        "bold_bimp_000/pos/P000_00.jpg,0.3,12\nbold_flep_001/pos/P001_00.jpg,0.1,3\nbold_bimp_000/pos/P000_01.jpg,0.2,1\n"
    )
    (tmp_path / "image_ids/image_query_ids.txt").write_text("bold_bimp_000/query/Q000_00.jpg,0.5\n")
    benchmark = open_benchmark(f"ilias:{tmp_path}")
    assert benchmark.images[2] == "bold_flep_001/pos/P001_00.jpg"
    assert lists(benchmark) == [{"ok": [0, 1], "junk": []}]
    assert benchmark.score([[0, 2, 1]])["plain"].metric == "AP@1000"
    (tmp_path / "image_ids/image_query_ids.txt").write_text("odd_002/query/Q002_00.jpg,0.5\n")
    with pytest.raises(UsageError, match="1 queries have no positives: odd_002/query"):
        open_benchmark(f"ilias:{tmp_path}")


def sfm(**changes: Any) -> dict[str, Any]:
    part = {
        "cids": [f"{n:032x}" for n in range(5)],
        "cluster": [1, 1, 1, 2, 2],
        "qidxs": [0, 3, 0],
        "pidxs": [1, 4, 2],
    }
    return {"train": {}, "val": {**part, **changes}}


def test_sfm_validation(tmp_path: Path) -> None:
    benchmark = open_benchmark(f"sfm120k-val:{write_pkl(tmp_path / 'a.pkl', sfm(pidxs=[1, 4, 1]))}")
    assert benchmark.images[3] == "03/00/00/" + f"{3:032x}"
    assert [query.row for query in benchmark.queries] == [0, 3]
    assert lists(benchmark) == [{"ok": [1], "junk": [0, 2]}, {"ok": [4], "junk": [3]}]
    benchmark = open_benchmark(f"gl18-val:{write_pkl(tmp_path / 'b.pkl', sfm(pidxs=[[1], [4], [2]]))}")
    assert benchmark.images[3] == f"{3:032x}"
    assert lists(benchmark)[0] == {"ok": [1, 2], "junk": [0]}


def test_sfm_faults(tmp_path: Path) -> None:
    for content, said in (
        ({"train": {}}, "has no part val"),
        (sfm(cluster=[1]), "differ in length"),
        (sfm(qidxs=[0, 3, 9]), r"names rows \[9\]: whole numbers below 5"),
        (sfm(pidxs=[1.5, 4, 2]), "whole numbers below 5"),
        (sfm(pidxs=[0, 4, 2]), "1 queries are among their own positives: 0"),
    ):
        with pytest.raises(UsageError, match=said):
            open_benchmark(f"sfm120k-val:{write_pkl(tmp_path / 'a.pkl', content)}")


def test_sfm_eccv(tmp_path: Path) -> None:
    content = {"cids": sfm()["val"]["cids"], "qidx": np.array([3]), "gnd": [{"ok": [4], "junk": [1]}]}
    benchmark = open_benchmark(f"sfm120k-eccv2020:{write_pkl(tmp_path / 'a.pkl', content)}")
    assert lists(benchmark) == [{"ok": [4], "junk": [1, 3]}]
    assert benchmark.queries[0].row == 3


def test_folders_are_classes(tmp_path: Path) -> None:
    for name in ("cup/1.jpg", "cup/2.jpg", "pot/1.jpg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    benchmark = open_benchmark(f"folders:{tmp_path}")
    assert benchmark.images == ("cup/1.jpg", "cup/2.jpg", "pot/1.jpg")
    assert lists(benchmark) == [{"ok": [1], "junk": [0]}, {"ok": [0], "junk": [1]}, {"ok": [], "junk": [2]}]
    with pytest.raises(UsageError, match="has 1 folders with images"):
        open_benchmark(f"folders:{tmp_path / 'cup'}")


def test_labelled_list(tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text("big ben/1.jpg 4\nx.jpg 5\nhttp://host/2.jpg 4\n")
    benchmark = open_benchmark(f"landmarks:{tmp_path / 'list.txt'}")
    assert benchmark.images == ("big ben/1.jpg", "x.jpg", "http://host/2.jpg")
    assert lists(benchmark)[0] == {"ok": [2], "junk": [0]}
    (tmp_path / "list.txt").write_text("x.jpg 5\nalone\n")
    with pytest.raises(UsageError, match="1 lines have no label: alone"):
        open_benchmark(f"landmarks:{tmp_path / 'list.txt'}")


def test_csv_of_pairs(tmp_path: Path) -> None:
    (tmp_path / "images.txt").write_text("a.jpg\nb, c.jpg\nd.jpg\n")
    pairs = tmp_path / "pairs.csv"
    pairs.write_text('query,positive,junk\na.jpg,"b, c.jpg",\na.jpg,,d.jpg\nnew.jpg,a.jpg,\nnew.jpg,a.jpg,\n')
    benchmark = open_benchmark(f"csv:{pairs}")
    assert [(query.image, query.row) for query in benchmark.queries] == [("a.jpg", 0), ("new.jpg", None)]
    assert lists(benchmark) == [{"ok": [1], "junk": [0, 2]}, {"ok": [0], "junk": []}]
    pairs.write_text("query,positive\na.jpg,a.jpg\n")
    with pytest.raises(UsageError, match=r"1 queries are among their own positives: a\.jpg"):
        open_benchmark(f"csv:{pairs}")
    for content, said in (
        ("query,positive\na.jpg,z.jpg\n", r"1 names are not in the image list: z\.jpg"),
        ("query,positive\n,a.jpg\n", "1 lines without a query"),
        ("query,good\na.jpg,a.jpg\n", "lacks the columns positive"),
        ("", "cannot read the csv file"),
        ("query,positive\na.jpg,a.jpg,extra\n", "cannot read the csv file"),
    ):
        pairs.write_text(content)
        with pytest.raises(UsageError, match=said):
            open_benchmark(f"csv:{pairs}")


def test_csv_without_list_takes_the_folder(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub/a.jpg").write_bytes(b"")
    (tmp_path / "b.jpg").write_bytes(b"")
    (tmp_path / "pairs.csv").write_text("query,positive\nb.jpg,sub/a.jpg\n")
    benchmark = open_benchmark(f"csv:{tmp_path / 'pairs.csv'}")
    assert (benchmark.images, lists(benchmark)) == (("b.jpg", "sub/a.jpg"), [{"ok": [1], "junk": [0]}])


def test_unknown_names_and_paths(tmp_path: Path) -> None:
    for spec in ("nothing:here", "holidays", "holidays:"):
        with pytest.raises(UsageError, match="is not NAME:PATH with a known name: roxford5k, "):
            open_benchmark(spec)
    with pytest.raises(UsageError, match=r"does not exist: instre needs gnd_instre\.mat"):
        open_benchmark(f"instre:{tmp_path / 'none'}")
    with pytest.raises(UsageError, match=r"holds no gnd_instre\.pkl or gnd_instre\.mat"):
        open_benchmark(f"instre:{tmp_path}")


def test_the_table_says_what_each_benchmark_needs() -> None:
    for name, known in KNOWN.items():
        assert known.title, name
        assert known.files, name
        assert known.licence, name
        assert known.source, name
        assert str(known.protocol).count(";") == 3, name

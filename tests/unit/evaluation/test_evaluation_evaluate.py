import json
import os
import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from onnx_factory import write_network
from photo_factory import SMALL, picture, save, spoil, view
from resight.collection import open_collection
from resight.errors import UsageError
from resight.evaluation import evaluate as module
from resight.evaluation.evaluate import check_run, evaluate, evaluate_once, experiment, opened
from resight.evaluation.experiment import Run
from resight.evaluation.feature_cache import cache_folder
from resight.evaluation.page import evaluation_page
from resight.evaluation.photos import PHOTO_RECIPES, shown_files, split_settings
from resight.evaluation.results import evaluation_json, parse_evaluation
from resight.index.codebook import Codebook
from resight.recipes.catalogue import RECIPES, indexed_with


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three objects in three folders, two views each."""
    root = tmp_path_factory.mktemp("photos")
    for number in range(3):
        (root / f"thing {number}").mkdir()
        for k in range(2):
            save(root / f"thing {number}" / f"{number}-{k}.jpg", view(picture(number), k))
    return root


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache") / "deep" / "er"


def classic(photos: Path, **settings: object) -> Run:
    return Run("folders", str(photos), settings={**SMALL, **settings})


def test_classic_finds_the_other_view_of_every_thing(photos: Path, cache: Path) -> None:
    steps: list[str] = []
    first = evaluate(classic(photos), cache=cache, progress=lambda step, *_: steps.append(step))
    assert "reading photos" in steps
    assert [result.system for result in first.results][:2] == ["AsmkSearch", "+ SpatialRerank"]
    assert first.final.scores["plain"].map == 1
    assert (first.images, len(first.queries)) == (6, 6)
    assert [note.partition(" take")[0] for note in first.notes] == ["a million photos like these"]
    (made,) = cache.glob("*.resight")
    held = open_collection(made).info()
    assert first.memory_per_million == held.memory_per_million == held.index_bytes / 6 * 1e6 > 0
    assert f"{first.memory_per_million / 1e9:.2f} GB of memory" in first.notes[0]
    assert evaluation_json(first)["memory_per_million_bytes"] == first.memory_per_million
    assert parse_evaluation(evaluation_json(first)).memory_per_million == first.memory_per_million
    assert set(first.final.seconds) >= {"reading queries", "AsmkSearch", "SpatialRerank"}
    again = evaluate(classic(photos), cache=cache)
    assert evaluation_json(again)["systems"][-1]["scores"] == evaluation_json(first)["systems"][-1]["scores"]
    assert again.seconds < first.seconds
    html = evaluation_page(again, shown_files(again.run, opened(again.run)))
    assert "thing 0/0-0.jpg" in html


def test_other_index_settings_share_the_features(photos: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    evaluate(classic(photos), cache=cache)
    monkeypatch.setattr("resight.collection.ingest.decode", lambda *_, **__: pytest.fail("photos were read again"))
    other = evaluate(classic(photos, binary=False), cache=cache)
    assert other.final.scores["plain"].map == 1
    assert len({path.name.split("-")[1] for path in cache.glob("*.resight")}) == 1
    assert len(list(cache.glob("*.resight"))) >= 2
    searched = evaluate(classic(photos, expand=False), cache=cache)  # an option of the search needs no index of its own
    assert [result.system for result in searched.results] == ["AsmkSearch", "+ SpatialRerank"]
    first = evaluate(replace(classic(photos), stages=1), cache=cache)
    assert [result.system for result in first.results] == ["AsmkSearch"]
    assert first.run.command.endswith("--stages 1")
    with pytest.raises(UsageError, match="recipe classic has 4 stages, not 9"):
        evaluate(replace(classic(photos), stages=9), cache=cache)


def test_visual_words_of_other_photos_are_used(photos: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    rng = np.random.default_rng(0)
    files = {words: str(tmp_path / f"{words}.safetensors") for words in (30, 40)}
    for words, file in files.items():
        Codebook(rng.random((words, 128), np.float32)).save(file)
    for words, name in ((30, ""), (40, ""), (30, "rootsift")):  # each has a collection of its own
        run = replace(classic(photos), codebooks={name: files[words]})
        before = set(cache.glob("*.resight"))
        assert evaluate(run, cache=cache).final.scores["plain"].map == 1
        (made,) = set(cache.glob("*.resight")) - before
        assert open_collection(made).info().words == words
        evaluate(run, cache=cache)
        assert len(set(cache.glob("*.resight"))) == len(before) + 1
        assert run.command.endswith(f"--codebook {f'{name}=' if name else ''}{files[words]}")
    assert len({path.name.split("-")[1] for path in cache.glob("*.resight")}) == 1  # they share the features
    kept = evaluate_once(run, cache=cache)
    assert parse_evaluation(evaluation_json(kept)).run == run
    Codebook(rng.random((50, 128), np.float32)).save(files[30])
    assert evaluate_once(run, cache=cache).seconds != kept.seconds  # measured again with the new words
    assert 50 in {open_collection(path).info().words for path in cache.glob("*.resight")}


def test_a_codebook_that_cannot_be_used_is_refused(photos: Path, tmp_path: Path) -> None:
    words = tmp_path / "words.safetensors"
    Codebook(np.eye(64, dtype=np.float32)).save(words)
    (tmp_path / "torn").write_bytes(b"x")
    for run, message in (
        (Run("folders", str(photos), "colour-histogram", codebooks={"": str(words)}), "keeps no local features"),
        (
            Run("folders", str(photos), "search", features="x.npy", codebooks={"": str(words)}),
            "--codebook is for photos",
        ),
        (Run("folders", str(photos), "lists", lists="x", codebooks={"": str(words)}), "are ranked already"),
        (replace(classic(photos), codebooks={"": str(words)}), "words of 64 dimensions, and rootsift features"),
        (replace(classic(photos), codebooks={"how": str(words)}), "keeps rootsift: name one of them"),
        (replace(classic(photos), codebooks={"": str(tmp_path / "torn")}), "--codebook cannot be used: .*torn"),
        (replace(classic(photos), codebooks={"": str(tmp_path / "absent")}), "--codebook cannot be used: .*absent"),
    ):
        with pytest.raises(UsageError, match=message):
            evaluate(run, cache=tmp_path / "cache")


def test_a_result_is_read_again_until_something_changes(
    photos: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = evaluate_once(classic(photos), cache=cache)
    real = module.evaluate
    monkeypatch.setattr(module, "evaluate", lambda *_, **__: pytest.fail("it was measured again"))
    assert evaluation_json(evaluate_once(classic(photos), cache=cache)) == evaluation_json(first)
    monkeypatch.setattr(module, "evaluate", real)
    (stored,) = [path for path in (cache / "results").iterdir() if json.loads(path.read_text())["queries"]]
    stored.write_text("{torn")
    assert evaluate_once(classic(photos), cache=cache).final.scores["plain"].map == 1
    photo = photos / "thing 0" / "0-0.jpg"
    os.utime(photo, ns=(1, 1))
    evaluate_once(classic(photos), cache=cache)
    assert len(list((cache / "results").iterdir())) == 2


def test_bad_photos_are_counted_and_named(photos: Path, tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    for path in photos.rglob("*.jpg"):
        (folder / path.parent.name).mkdir(parents=True, exist_ok=True)
        (folder / path.parent.name / path.name).write_bytes(path.read_bytes())
    pairs = "query,positive\nthing 0/0-0.jpg,thing 0/0-1.jpg\nthing 1/1-0.jpg,thing 1/1-1.jpg\n"
    (folder / "pairs.csv").write_text(pairs)
    spoil(folder / "bad")
    run = Run("csv", str(folder / "pairs.csv"), settings=SMALL)
    found = evaluate(run, cache=tmp_path / "c")
    assert found.notes[:1] == ("4 images cannot be read and are never found: "
                           "bad/empty.jpg, bad/half.jpg, bad/noise.png, bad/text.jpg",)  # fmt: skip
    assert (found.images, found.final.scores["plain"].map) == (10, 1)
    histogram = Run("csv", run.path, "colour-histogram")
    assert "a million photos like these take" in found.notes[1]
    assert evaluate(histogram, cache=tmp_path / "c").notes == found.notes[:1]
    (folder / "pairs.csv").write_text(pairs + "bad/empty.jpg,thing 2/2-0.jpg\n")
    for one in (run, histogram):
        with pytest.raises(UsageError, match=r"1 query photos cannot be read: bad/empty"):
            evaluate(one, cache=tmp_path / "c")


def test_missing_photos_are_refused(tmp_path: Path) -> None:
    (tmp_path / "images.txt").write_text("100000.jpg\n100001.jpg\n")
    Image.new("RGB", (30, 30)).save(tmp_path / "100000.jpg")
    with pytest.raises(UsageError, match=r"1 images of the benchmark are not in the folder: 100001\.jpg"):
        evaluate(Run("holidays", str(tmp_path)), cache=tmp_path / "c")
    listed = tmp_path / "lists" / "names.txt"
    listed.parent.mkdir()
    listed.write_text("100000.jpg\n")
    with pytest.raises(UsageError, match="name their folder with --photos"):
        evaluate(Run("holidays", str(listed)), cache=tmp_path / "c")


def test_links_among_the_photos_are_refused(tmp_path: Path) -> None:
    (tmp_path / "images.txt").write_text("100000.jpg\n100001.jpg\n")
    save(tmp_path / "100000.jpg", picture(0))
    (tmp_path / "100001.jpg").symlink_to(tmp_path / "100000.jpg")
    with pytest.raises(UsageError, match=r"1 images are links to others of its images: 100001\.jpg"):
        evaluate(Run("holidays", str(tmp_path), settings=SMALL), cache=tmp_path / "c")


def test_distractor_photos_stand_behind_the_benchmark(photos: Path, tmp_path: Path, cache: Path) -> None:
    for number in (5, 6):
        save(tmp_path / f"{number}.jpg", picture(number))
    run = Run("folders", str(photos), settings=SMALL, distractors=str(tmp_path))
    found = evaluate(run, cache=cache)
    assert (found.images, found.benchmark.annotated, len(found.queries)) == (8, 6, 6)
    assert found.final.scores["plain"].map == 1
    plain = evaluate(Run("folders", str(photos), "colour-histogram"))
    more = evaluate(Run("folders", str(photos), "colour-histogram", distractors=str(tmp_path)))
    assert more.final.scores["plain"].map <= plain.final.scores["plain"].map
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match="holds no distractors"):
        evaluate(Run("folders", str(photos), "colour-histogram", distractors=str(tmp_path / "empty")))


def revisited(folder: Path) -> Path:
    """A benchmark with boxes: each query photo shows its thing in the left half and another one in the right half."""
    names, queries, truth = [], [], []
    for number in range(3):
        names.append(f"{number}")
        save(folder / f"{number}.jpg", picture(number))
    for number in range(3):
        both = np.concatenate([view(picture(number), 1), view(picture((number + 1) % 3), 1)], axis=1)
        queries.append(f"q{number}")
        save(folder / f"q{number}.jpg", both)
        box = [0.0, 0.0, both.shape[1] / 2, float(both.shape[0])]
        truth.append({"easy": [number], "hard": [], "junk": [], "bbx": box})
    content = {"imlist": names, "qimlist": queries, "gnd": truth}
    (folder / "gnd_roxford5k.pkl").write_bytes(pickle.dumps(content))
    return folder


def test_queries_are_cropped_and_the_uncropped_are_marked(tmp_path: Path) -> None:
    folder = revisited(tmp_path)
    cropped = evaluate(Run("roxford5k", str(folder), settings=SMALL), cache=tmp_path / "c")
    assert cropped.final.scores["medium"].map == 1
    assert "queries cropped to their box" in cropped.protocol
    assert cropped.notes[:2] == ("3 images instead of the published 4993", "3 queries instead of the published 70")
    whole = evaluate(Run("roxford5k", str(folder), settings=SMALL, uncropped=True), cache=tmp_path / "c")
    assert "protocol: uncropped" in whole.protocol
    # the other half of the photo is as good a match now
    assert (whole.final.ranking.scores[:, 1] > cropped.final.ranking.scores[:, 1] + 5).all()
    histogram = evaluate(Run("roxford5k", str(folder), "colour-histogram"))
    assert histogram.final.scores["easy"].map == 1
    np.savez(tmp_path / "f.npz", X=np.eye(3, 8, dtype=np.float32), Q=np.eye(3, 8, dtype=np.float32))
    features = Run("roxford5k", str(folder), "search", features=str(tmp_path / "f.npz"))
    assert any("are taken to be cropped" in note for note in evaluate(features).notes)


GRAPH = {
    **{name: {"k": 2, "seeds": 1, "alpha": 0.5} for name in ("diffusion", "spectral-ranking", "hybrid-diffusion")},
    "alpha-expansion": {"n": 1},
    "offline-diffusion": {"k": 2, "candidates": 4, "seeds": 1},
    "verified-expansion": {"verify": 3, "least": 5, "augment": True},
    "landmark2019": {"k": 3, "least": 5},
    "explore-exploit": {"k": 3, "verified": True, "threshold": 5.0},
    "k-reciprocal": {"k1": 2, "k2": 1},
    "super-global": {"k": 1},
    "manifold-embedding": {"k": 2, "components": 4},
    "deep-spatial": {"verify": 3},
    "alpha-expansion-verified": {"n": 1, "verify": 4},
    "verified-diffusion": {"verify": 4, "k": 2, "seeds": 1, "alpha": 0.5},
    "deep-spatial-diffusion": {"verify": 3, "k": 2, "seeds": 1, "alpha": 0.5},
}


@pytest.mark.parametrize("recipe", [name for name in PHOTO_RECIPES if name in RECIPES and not RECIPES[name].indexes])
def test_graph_recipes_build_their_graph_from_the_photos(
    recipe: str, photos: Path, cache: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    network = write_network(tmp_path_factory.getbasetemp() / "net.onnx", channels=24)
    settings = {**GRAPH[recipe], "backbone": str(network)}
    local = indexed_with(recipe) == "hybrid" or "verified" in settings
    settings |= {**SMALL, "whiten": "none", "scales": [1.0]} if local else {}
    run = Run("folders", str(photos), recipe, settings, index="hybrid" if local else None)
    found = evaluate(run, cache=cache)
    three = {"alpha-expansion-verified": 3, "verified-diffusion": 3}
    stages = {"landmark2019": 4, "manifold-embedding": 1, **three}.get(recipe, 2)
    assert len(found.results) == stages
    assert found.final.scores["plain"].map > 0.4
    assert f"--recipe {recipe}" in found.run.command
    again = evaluate(run, cache=cache)
    np.testing.assert_array_equal(again.final.ranking.ids, found.final.ranking.ids)


def test_an_experiment_is_a_table_with_significance(photos: Path, cache: Path) -> None:
    runs = {
        "histogram": [Run("folders", str(photos), "colour-histogram")],
        "classic": [classic(photos)],
    }
    table = experiment(runs, baseline="histogram", cache=cache)
    assert table.columns == ("folders",)
    assert table.rows["classic"]["folders"].mean == 100
    assert table.rows["classic"]["folders"].comparison.queries == 6
    assert table.rows["histogram"]["folders"].comparison is None


@pytest.mark.parametrize(
    ("run", "message"),
    [
        (Run("folders", ".", "magic"), "recipe 'magic' is unknown for photos"),
        (Run("folders", ".", "search"), "give a file of them with --features"),
        (Run("folders", ".", "classic", {"colour": 1}), "has no option 'colour'"),
        (Run("folders", ".", "classic", {"binary": 3}), "binary=3"),
        (Run("folders", ".", "classic", {"verify": "all"}), "verify='all'"),
        (Run("folders", ".", "colour-histogram", {"bins": 8}), "has no option 'bins'"),
        (Run("folders", ".", "classic", stages=0), "0 stages were asked for"),
        (Run("folders", ".", "classic", query_features="q.npy"), "needs --features"),
        (Run("folders", ".", "classic", features="f.npy"), "'classic' is unknown for descriptors"),
        (Run("folders", ".", "classic", index="gem"), "recipe classic describes photos itself: leave out --index gem"),
        (Run("folders", ".", "diffusion", index="magic"), "recipe 'magic' is unknown"),
        (Run("folders", ".", "diffusion", index="diffusion"), "recipe 'diffusion' cannot index photos"),
        (Run("folders", ".", "diffusion", {"bins": 8}), "recipe gem has no option 'bins'"),
        (Run("folders", ".", "diffusion", index="gem", features="f.npy"), "--index gem is for photos"),
        (Run("folders", ".", "separation"), "recipe separation works on descriptors"),
    ],
)
def test_bad_runs_are_refused(run: Run, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        check_run(run)


def test_the_cache_follows_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("RESIGHT_CACHE", str(tmp_path))
    assert cache_folder() == tmp_path
    monkeypatch.delenv("RESIGHT_CACHE")
    assert cache_folder().name == "resight"


def test_a_file_of_weights_belongs_to_the_features_not_to_the_search() -> None:
    settings = {"features": "aliked", "weights": "aliked.pth", "verify": 3, "words": 8}
    indexing, searching = split_settings("classic", "classic", settings)
    assert indexing == {"features": "aliked", "weights": "aliked.pth", "words": 8}
    assert searching == {"verify": 3}
    assert split_settings("classic", "classic", {"parts": "rootsift=1"}) == ({}, {"parts": "rootsift=1"})

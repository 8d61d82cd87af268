"""Rows of tables whose networks nobody published: they are trained where the data is, and scored like all others."""

import pickle
import shutil

import numpy as np
import pytest
import torch
import yaml

from photo_factory import make_photos
from resight.errors import UsageError
from resight.evaluation.published_file import parse_table, read_tables
from resight.evaluation.reproduce import reproduce
from resight.features.networks.resnet import ResNet
from resight.fitting.ordered import train_ordered

TINY = {"epochs": 1, "side": 96, "batch": 2, "queries": 4, "negatives": 2, "rate": 1e-4, "every": 1}
ORDER = {"data": "sfm/retrieval-SfM-120k.pkl", "photos": "sfm/ims", "start": "weights/resnet18.pth"}
TRAININGS = {
    "weights/gem.safetensors": {**ORDER, "kind": "descriptor", "recipe": "gem", "settings": TINY},
    "weights/blocks.safetensors": {
        **ORDER, "kind": "local", "recipe": "context", "settings": {**TINY, "dim": 8, "count": 50},
        "codebook": "codebooks/blocks.safetensors", "words": 32, "sampled": 6,
        "search": {"max_side": 96, "enlarge_below": 0, "count": 50},
    },
}  # fmt: skip
BLOCKS = {"weights": "weights/blocks.safetensors", "context": "weights/blocks-context.safetensors"}
ROWS = [
    {"name": "GeM", "recipe": "gem", "settings": {"weights": "weights/gem.safetensors", "max_side": 96}},
    {"name": "HOW", "recipe": "how", "settings": {**BLOCKS, **TRAININGS["weights/blocks.safetensors"]["search"]},
     "codebook": "codebooks/blocks.safetensors", "stages": 1},
]  # fmt: skip
TABLE = {
    "table": "T", "title": "t", "source": "s", "tolerance": 100, "trainings": TRAININGS,
    "columns": {"mAP": {"benchmark": "holidays", "path": "photos"}},
    "rows": [{**row, "published": {"mAP": 50.0}} for row in ROWS],
}  # fmt: skip


def put(data, photos, part):
    """The photos of one part as retrieval-SfM-120k has them: names of 32 digits, folders by their last six."""
    cids, cluster, pairs = [], [], []
    for number, group in enumerate(photos.groups):
        for view, name in enumerate(group):
            cid = f"{part * 1000 + 10 * number + view:032x}"
            place = data / "sfm/ims" / cid[-2:] / cid[-4:-2] / cid[-6:-4] / cid
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(photos.folder / name, place)
            pairs += [(len(cids), len(cids) + 1)] if view == 0 else []
            cids.append(cid)
            cluster.append(number)
    return {"cids": cids, "cluster": cluster, "qidxs": [q for q, _ in pairs], "pidxs": [p for _, p in pairs]}


@pytest.fixture
def data(tmp_path):
    """A data folder with tiny training data, and five groups of two photos to be judged by."""
    photos, base = make_photos(tmp_path / "made", objects=6, views=2), tmp_path / "data"
    for folder in ("sfm", "weights", "photos"):
        (base / folder).mkdir(parents=True)
    parts = {name: put(base, photos, number) for number, name in enumerate(("train", "val"))}
    (base / "sfm/retrieval-SfM-120k.pkl").write_bytes(pickle.dumps(parts))
    torch.manual_seed(0)
    torch.save(ResNet("resnet18", width=8).state_dict(), base / "weights/resnet18.pth")
    for number, group in enumerate(photos.groups[:5]):
        for view, name in enumerate(group):
            shutil.copy(photos.folder / name, base / f"photos/{100000 + 100 * number + view}.jpg")
    return base


def outcomes(data, train=train_ordered, **more):
    tables = [parse_table(yaml.safe_load(yaml.safe_dump({**TABLE, **more})))]
    return {o.cell.row: o for o in reproduce(tables, data, cache=data.parent / "cache", train=train)}


def test_rows_are_trained_and_scored_where_the_data_is(data):
    trained = []

    def train(order, folder, progress):
        trained.append(order.out)
        train_ordered(order, folder, progress)

    found = outcomes(data, train)
    assert {row: outcome.missing for row, outcome in found.items()} == {"GeM": (), "HOW": ()}
    assert all(outcome.status == "OK" and 0 < outcome.measured <= 100 for outcome in found.values())
    assert trained == list(TRAININGS)
    assert {path.name for path in (data / "weights").iterdir()} == {
        "resnet18.pth", "gem.safetensors", "blocks.safetensors", "blocks-context.safetensors"}  # fmt: skip
    first, _, second = found["HOW"].command.partition(" && ")
    assert first.startswith(f"resight train local {data}/sfm/retrieval-SfM-120k.pkl --recipe context")
    assert second.startswith("resight evaluate holidays:")
    again = outcomes(data, train)
    assert len(trained) == 2, "what is there is not trained again"
    assert {row: o.measured for row, o in again.items()} == {row: o.measured for row, o in found.items()}


def test_without_data_the_files_of_the_training_are_named(data):
    (data / "sfm/retrieval-SfM-120k.pkl").unlink()
    shutil.rmtree(data / "sfm/ims")
    found = outcomes(data)
    wanted = (str(data / "sfm/retrieval-SfM-120k.pkl"), str(data / "sfm/ims"))
    assert {outcome.missing for outcome in found.values()} == {wanted}
    assert {outcome.status for outcome in found.values()} == {"MISSING"}


def test_a_training_that_cannot_be_is_told_once_and_nothing_is_scored(data):
    (data / "weights/resnet18.pth").write_bytes(b"torn")
    found = outcomes(data)
    assert all(o.status == "MISSING" and "cannot be trained" in o.missing[0] for o in found.values())
    assert not (data / "weights/gem.safetensors").exists()


def test_without_a_trainer_the_command_is_told(data):
    (missing,) = outcomes(data, None)["GeM"].missing
    assert "gem.safetensors is not trained yet: resight train descriptor" in missing


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"kind": "similarity"}, "it is descriptor or local"),
        ({"recipe": "how"}, "cannot be trained as descriptor"),
        ({"settings": {"colour": 1}}, "no setting 'colour'"),
        ({"data": "../x.pkl"}, "not inside the data folder"),
        ({"words": 0}, "a whole number of at least 1"),
        ({"codebook": "c.safetensors"}, "leave out its codebook"),
        ({"speed": 1}, "unknown keys speed"),
    ],
)
def test_orders_are_checked(change, said):
    broken = {"weights/gem.safetensors": {**TRAININGS["weights/gem.safetensors"], **change}}
    with pytest.raises(UsageError, match=said):
        parse_table({**TABLE, "trainings": broken})


def test_every_shipped_training_serves_a_row():
    for table in read_tables():
        for cell in table.cells:
            for order in cell.orders:
                assert set(order.outputs) & set(cell.needs), (cell.row, order.out)
    rows = {cell.row for table in read_tables() for cell in table.cells if cell.orders}
    assert len(rows) == 14 + 4


SIMILARITIES = {
    "features": "x.npy", "labels": "labels.txt", "hidden": [16], "random_pairs": 300, "cosine_epochs": 2, "epochs": 2,
    "stages": {name: f"weights/{name}.safetensors" for name in ("OASIS", "DeepCosine", "DeepSim", "DeepSimH")},
}  # fmt: skip


def learned_table(**more):
    rows = [
        {"name": stage, "recipe": "oasis" if stage == "OASIS" else "deep-similarity", "settings": {"weights": path},
         "features": "photos.npy", "published": {"mAP": 50.0}}
        for stage, path in SIMILARITIES["stages"].items()
    ]  # fmt: skip
    columns = {"mAP": {"benchmark": "holidays", "path": "names.txt"}}
    return {**TABLE, "trainings": {}, "similarities": {**SIMILARITIES, **more}, "columns": columns, "rows": rows}


def test_learned_similarities_are_trained_and_scored(tmp_path):
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(8, 6))
    for name, things in (("x.npy", np.repeat(np.arange(8), 6)), ("photos.npy", np.repeat(np.arange(4), 2))):
        x = centres[things] + 0.3 * rng.normal(size=(len(things), 6))
        np.save(tmp_path / name, (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32))
    names = [f"1{group:03d}0{photo}.jpg" for group in range(4) for photo in range(2)]
    (tmp_path / "names.txt").write_text("\n".join(names))
    table = parse_table(learned_table())
    found = list(reproduce([table], tmp_path, cache=tmp_path / "cache", train=train_ordered))
    assert {outcome.missing for outcome in found} == {(str(tmp_path / "labels.txt"),)}
    (tmp_path / "labels.txt").write_text("".join(f"{row // 6}\n" for row in range(40)))
    found = list(reproduce([table], tmp_path, cache=tmp_path / "cache", train=train_ordered))
    assert all("40 lines" in outcome.missing[0] for outcome in found)
    (tmp_path / "labels.txt").write_text("".join(f"{row // 6}\n" for row in range(48)))
    found = list(reproduce([table], tmp_path, cache=tmp_path / "cache", train=train_ordered))
    assert [(outcome.status, outcome.missing) for outcome in found] == [("OK", ())] * 4
    assert {path.name for path in (tmp_path / "weights").iterdir()} == {
        f"{stage}.safetensors" for stage in SIMILARITIES["stages"]
    }


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"stages": {"OASIS": "a"}}, "lacks DeepCosine"),
        ({"hidden": "wide"}, "give a list of widths"),
        ({"epochs": 0.5}, "a whole number of at least 1"),
        ({"labels": "/etc/passwd"}, "not inside the data folder"),
    ],
)
def test_orders_of_similarities_are_checked(change, said):
    with pytest.raises(UsageError, match=said):
        parse_table(learned_table(**change))

"""A pipe, a folder or a device in the place of any file that is opened: a sentence at once, not a wait for ever."""

from __future__ import annotations

import os
import shutil
import signal
from pathlib import Path

import pytest

from onnx_factory import write_network
from resight.artifacts.files import read_json
from resight.errors import ResightError
from resight.evaluation.experiment_file import read_experiment
from resight.evaluation.image_files import read_names
from resight.evaluation.published_file import read_tables
from resight.evaluation.readers.columns import read_columns
from resight.evaluation.readers.revisited import read_gnd
from resight.evaluation.results import read_evaluation
from resight.features.checkpoints.files import read_file
from resight.features.networks.open import open_backbone
from resight.features.whitening import Whitening
from resight.fitting.examples import read_labels
from resight.index.codebook import Codebook
from resight.matching.similarity import load_similarity
from resight.regular_files import NotRegular, check_regular, open_regular, read_regular
from resight.safe_pickle import load as load_pickle
from resight.store.block_log import BlockLog, check_blocks
from resight.store.stamp import read_stamp
from resight.store.tensor_file import check_tensors


def stamp_of(path: Path) -> object:
    path.rename(path.with_name("stamp.json"))
    return read_stamp(path.parent)


def table_in(path: Path) -> object:
    path.rename(path.with_name("t.yaml"))
    return read_tables(path.parent)


READERS = {
    "codebook.safetensors": Codebook.load,
    "tensors.safetensors": check_tensors,
    "whitening.safetensors": Whitening.load,
    "similarity.safetensors": load_similarity,
    "weights.pth": read_file,
    "network.onnx": open_backbone,
    "artifact.json": read_json,
    "result.json": read_evaluation,
    "blocks.log": check_blocks,
    "new.log": lambda path: BlockLog(path, "work"),
    "data.pkl": load_pickle,
    "gnd.mat": read_gnd,
    "gnd.pkl": read_gnd,
    "experiment.yaml": read_experiment,
    "names.txt": read_names,
    "names.txt.gz": read_names,
    "rows.csv": lambda path: read_columns(path, ["id"]),
    "labels.csv": read_labels,
    "stamp": stamp_of,
    "table": table_in,
}


@pytest.fixture(autouse=True)
def no_waiting():
    """What waits for the other end of a pipe would wait for ever."""

    def give_up(*_):
        raise TimeoutError("it waits")

    before = signal.signal(signal.SIGALRM, give_up)
    signal.alarm(60)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.mark.parametrize("name", READERS)
def test_a_pipe_is_not_opened(name, tmp_path):
    os.mkfifo(tmp_path / name)
    with pytest.raises(ResightError, match="pipe, socket or device"):
        READERS[name](tmp_path / name)


@pytest.mark.parametrize("name", [name for name in READERS if name != "network.onnx"])
def test_a_folder_is_not_opened(name, tmp_path):
    (tmp_path / name).mkdir()
    with pytest.raises(ResightError, match="folder"):
        READERS[name](tmp_path / name)


@pytest.mark.parametrize("name", [name for name in READERS if name not in ("stamp", "table")])
def test_a_device_is_not_read(name, tmp_path):
    (tmp_path / name).symlink_to("/dev/zero")
    with pytest.raises(ResightError, match="pipe, socket or device"):
        READERS[name](tmp_path / name)


def test_a_model_whose_files_are_pipes(tmp_path):
    pytest.importorskip("transformers")
    os.mkfifo(tmp_path / "config.json")
    with pytest.raises(ResightError, match="pipe, socket or device"):
        open_backbone(tmp_path)


@pytest.mark.parametrize("content", [b"", b"\0", b"\x08\x07"])
def test_an_empty_network(tmp_path, content):
    pytest.importorskip("onnxruntime")
    (tmp_path / "x.onnx").write_bytes(content)
    with pytest.raises(ResightError, match=r"x\.onnx (cannot be opened as an ONNX network|takes)"):
        open_backbone(tmp_path / "x.onnx")
    assert open_backbone(write_network(tmp_path / "x.onnx")).name == "x"


def test_files_are_read_up_to_a_limit(tmp_path):
    (tmp_path / "x").write_bytes(b"12345")
    assert read_regular(tmp_path / "x", 5) == b"12345"
    assert check_regular(tmp_path / "x") == 5
    with pytest.raises(NotRegular, match=r"^it is larger than 4 bytes$"):
        read_regular(tmp_path / "x", 4)
    with open_regular(tmp_path / "x") as file:
        assert file.read() == b"12345"


def test_what_is_not_there(tmp_path):
    with pytest.raises(FileNotFoundError):
        open_regular(tmp_path / "x")
    with pytest.raises(NotRegular, match="cannot be the name of a file"):
        open_regular("a\0b")


def test_a_pipe_in_a_collection(copied):
    from resight.artifacts.files import CODEBOOK, CONFIDENCE, INVERTED_FILE
    from resight.collection.check import check_collection, repair_collection

    for artifact in (CODEBOOK, CONFIDENCE, INVERTED_FILE):
        artifact.path(copied.path).unlink()
        os.mkfifo(artifact.path(copied.path))
    names = {finding.name for finding in check_collection(copied.path) if not finding.ok}
    assert names == {artifact.name for artifact in (CODEBOOK, CONFIDENCE, INVERTED_FILE)}
    assert all(finding.ok for finding in repair_collection(copied.path))


def test_derived_as_a_link_leads_nowhere(copied, tmp_path):
    from resight.collection import open_collection

    elsewhere = tmp_path / "elsewhere"
    shutil.move(copied.path / "derived", elsewhere)
    (copied.path / "derived").symlink_to(elsewhere)
    before = {file: file.read_bytes() for file in elsewhere.rglob("*") if file.is_file()}
    with pytest.raises(ResightError, match="derived is a link: put a folder in its place"):
        open_collection(copied.path).search("000-0.jpg")
    with pytest.raises(ResightError, match="derived is a link"):
        open_collection(copied.path).remove(["000-0.jpg"])
    assert {file: file.read_bytes() for file in elsewhere.rglob("*") if file.is_file()} == before

"""Every recipe, end to end on a few small photos: what is trained, what stays, and the file that searches read."""

import json
import os
import signal
import subprocess
import sys
import time
from inspect import signature

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from onnx_factory import write_network
from photo_factory import make_photos
from resight.errors import CollectionError, UsageError
from resight.features.checkpoints import load_descriptor, read_checkpoint
from resight.features.local.encoders import open_encoder
from resight.features.networks.resnet import ResNet
from resight.images.decode import decode
from resight.training import losses
from resight.training import run as running
from resight.training.data import hold_out, of_groups
from resight.training.descriptor import train_descriptor
from resight.training.local import train_local
from resight.training.networks import open_start
from resight.training.output import context_path
from resight.training.output import write_network as write_trained
from resight.training.recipes import RECIPES, recipe_of
from resight.training.run import Data, Place, device_of
from resight.training.tuples.photos import Photos

SMALL = {"epochs": 2, "side": 96, "batch": 2, "queries": 4, "negatives": 2, "rate": 1e-3, "every": 1}
DESCRIPTORS = ("gem", "gem-whitened", "rmac", "ap-gem")


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return tmp_path_factory.mktemp("training")


@pytest.fixture(scope="module")
def photos(base):
    return make_photos(base / "photos", objects=6, views=3)


@pytest.fixture(scope="module")
def data(photos):
    names = [name for group in photos.groups for name in group]
    files = [str(photos.folder / name) for name in names]
    return Data(*hold_out(of_groups(names, files, np.repeat(np.arange(6), 3), "here"), 0.4))


@pytest.fixture(scope="module")
def network(base):
    return write_network(base / "net.onnx", channels=24)


@pytest.fixture(scope="module")
def resnet(base):
    torch.manual_seed(0)
    path = base / "resnet18.pth"
    torch.save(ResNet("resnet18", width=8).state_dict(), path)
    return path


def trained(recipe, start, data, place=None, **more):
    given = RECIPES[recipe].with_settings({**SMALL, **more})
    train = train_descriptor if given.kind == "descriptor" else train_local
    return given, train(given, start, data, place)


def described(outcome, start, file, side=96):
    pixels = decode(file, max_side=side).pixels
    with torch.no_grad():
        return pixels, outcome.network(Photos([], side, start.mean, start.std).tensor([pixels])).numpy()[0]


@pytest.mark.parametrize("name", DESCRIPTORS)
def test_descriptors_are_trained_and_read_again(tmp_path, data, network, name):
    start = open_start(network, None)
    before = {key: tensor.clone() for key, tensor in start.trunk.state_dict().items()}
    more = {"batch": 4, "queries": None} if name == "ap-gem" else {}
    recipe, outcome = trained(name, start, data, Place(checkpoint=tmp_path / "state"), **more)
    assert [epoch.number for epoch in outcome.trained.epochs] == [0, 1, 2]
    assert all(np.isfinite(epoch.validation) for epoch in outcome.trained.epochs)
    assert len(outcome.before.precision) == len(outcome.after.precision) == 6
    last = load_file(tmp_path / "state")
    assert not torch.equal(last["now/trunk.weight0"], before["weight0"])
    if name != "rmac":
        assert float(last["now/p"]) != 3.0
    (file,) = write_trained(tmp_path / "out.safetensors", outcome.network, recipe, start, {"seed": 0})
    again = load_descriptor(file, scales=(1.0,), max_side=96)
    pixels, vector = described(outcome, start, data.judge.files[0])
    np.testing.assert_allclose(again.describe([pixels])[0], vector, atol=1e-5)


@pytest.mark.parametrize("name", ["solar", "delg"])
def test_descriptors_of_resnets_are_trained_and_read_again(tmp_path, data, resnet, name):
    start = open_start(None, resnet)
    before = {key: tensor.clone() for key, tensor in start.trunk.state_dict().items()}
    recipe, outcome = trained(name, start, data, Place(checkpoint=tmp_path / "state"))
    last = load_file(tmp_path / "state")
    moved = {key for key, tensor in before.items() if not torch.equal(last[f"now/trunk.{key}"], tensor)}
    if name == "solar":
        assert not moved
        assert float(last["now/trunk.attention.layer4.v.weight"].abs().max()) > 0
        assert float(last["now/p"]) != 3.0
    else:
        assert "layer4.0.conv1.weight" in moved
        assert not any("bn" in key or "running" in key for key in moved)
        assert float(last["now/p"]) == 3.0
    (file,) = write_trained(tmp_path / "out.safetensors", outcome.network, recipe, start, {})
    again = load_descriptor(file, scales=(1.0,), max_side=96)
    pixels, vector = described(outcome, start, data.judge.files[0])
    np.testing.assert_allclose(again.describe([pixels])[0], vector, atol=1e-4)
    assert read_checkpoint(file).layout == recipe.layout


def test_delg_gives_the_trunk_no_gradient_from_local_features(resnet):
    from resight.training.networks import DelgNetwork

    network = DelgNetwork(open_start(None, resnet).trunk, 4, 32)
    _, maps = network.both(torch.randn(2, 3, 64, 64))
    rebuilt, told = network.local_losses(maps, torch.tensor([0, 3]))
    (rebuilt + told).backward()
    assert all(parameter.grad is None for parameter in network.trunk.parameters())
    assert float(network.attention.conv1.weight.grad.abs().sum()) > 0
    assert float(network.decode.weight.grad.abs().sum()) > 0


@pytest.mark.parametrize(
    "blocks",
    [
        {},
        {"reweighting": "graph"},
        {"smoothing": "learnable"},
        {"reweighting": "graph", "smoothing": "learnable", "smoothed": "residual", "confidence_from": "residual"},
    ],
)
def test_how_and_its_context_are_trained_and_read_again(tmp_path, data, network, blocks):
    start = open_start(network, None, local=True)
    recipe, outcome = trained("how", start, data, dim=8, count=50, **blocks)
    files = write_trained(tmp_path / "out.safetensors", outcome.network, recipe, start, {})
    assert files[1:] == ([context_path(files[0])] if blocks else [])
    context = {"context": str(files[1])} if blocks else {}
    encoder = open_encoder("how", weights=str(files[0]), count=50, max_side=96, enlarge_below=0, **context)
    pixels = decode(data.judge.files[0], max_side=96).pixels
    features = encoder(pixels)
    assert features.descriptors.shape == (50, 8)
    from dataclasses import replace

    bench = running.Bench(outcome.network, outcome.network, recipe, data, start, Place(), torch.device("cpu"))
    from resight.training.local import encoder_of

    own = encoder_of(bench)
    own = replace(own, trunk=replace(own.trunk, scales=encoder.trunk.scales))
    np.testing.assert_allclose(own(pixels).descriptors, features.descriptors, atol=1e-4)


def test_context_trains_its_blocks_faster_than_the_trunk(network):
    settings = recipe_of("context", "local").with_settings({**SMALL, "dim": 8}).settings
    start = open_start(network, None, local=True)
    from resight.features.local.context import Context
    from resight.training.local import context_settings
    from resight.training.networks import HowNetwork

    blocks = Context(context_settings(settings, start.channels))
    made = HowNetwork(start.trunk, blocks, torch.zeros(8, 24), torch.zeros(8))
    groups = {(round(group["lr"], 9), group["weight_decay"]): len(group["params"])
              for group in running.optimiser_of(made, settings).param_groups}  # fmt: skip
    assert groups == {(1e-4, 1e-4): 1, (1e-3, 1e-4): 3, (1e-3, 0.0): 1}
    assert [round(settings.rate_of(epoch), 3) for epoch in (1, 2, 3, 4)] == [0.333, 0.66, 0.98, 0.97]


@pytest.mark.parametrize("faithful", [False, True])
def test_fire_is_trained_and_read_again(tmp_path, data, network, faithful):
    start = open_start(network, None, local=True)
    recipe, outcome = trained("fire", start, data, templates=6, dim=8, count=20, queries=2, faithful=faithful)
    (file,) = write_trained(tmp_path / "out.safetensors", outcome.network, recipe, start, {})
    found = read_checkpoint(file)
    assert found.layout == "fire"
    assert torch.equal(found.parts["lit"]["templates_init"], outcome.network.transformer.templates_init)


PUBLISHED = {  # what the papers and the authors' programs state
    "gem": {"epochs": 100, "rate": 5e-7, "decay": 1e-6, "side": 362, "batch": 5, "queries": 2000, "pool": 20_000,
            "negatives": 5, "margin": 0.85, "p": 3.0, "p_rate": 10, "optimiser": "adam", "dim": None},
    "gem-whitened": {"epochs": 100, "rate": 5e-7, "decay": 1e-6, "side": 1024, "batch": 5, "margin": 0.85, "dim": 0},
    "rmac": {"margin": 0.5, "negatives": 5, "queries": 2000, "batch": 5},
    "ap-gem": {"rate": 1e-4, "decay": 1e-6, "side": 800, "batch": 4096, "bins": 20, "dim": 0, "epochs": 200,
               "queries": 4096, "gamma": 1.0},
    "solar": {"rate": 1e-6, "side": 1024, "batch": 8, "negatives": 5, "margin": 1.25, "weight": 10, "p_rate": 100},
    "delg": {"side": 512, "margin": 0.1, "weight": 10, "p": 3.0, "optimiser": "sgd", "epochs": 25, "batch": 32,
             "queries": None},
    "how": {"epochs": 20, "rate": 5e-6, "decay": 1e-4, "gamma": 0.99, "side": 1024, "batch": 5, "queries": 2000,
            "pool": 20_000, "negatives": 5, "margin": 0.8, "dim": 128, "every": 5, "flip": 0.0},
    "context": {"rate": 5e-5, "trunk_rate": 0.1, "window": 3, "reweighting": "graph", "smoothing": "learnable",
                "margin": 0.8, "decay": 1e-4, "gamma": 0.99, "epochs": 20, "side": 1024},
    "fire": {"epochs": 200, "rate": 3e-5, "decay": 1e-4, "gamma": 0.99, "margin": 1.1, "flip": 0.5, "templates": 256,
             "negatives": 5, "queries": 2000, "pool": 20_000, "side": 1024, "batch": 5},
}  # fmt: skip


@pytest.mark.parametrize("name", RECIPES)
def test_the_published_schedules(name):
    settings = RECIPES[name].settings
    assert {key: getattr(settings, key) for key in PUBLISHED[name]} == PUBLISHED[name]


def test_the_published_rates_fall_as_the_authors_let_them():
    for name in ("gem", "solar", "rmac"):
        assert RECIPES[name].settings.rate_of(11) == pytest.approx(np.exp(-0.1))
    for name in ("how", "fire"):
        assert RECIPES[name].settings.rate_of(3) == pytest.approx(0.99**2)
    assert [RECIPES["context"].settings.rate_of(epoch) for epoch in (1, 2, 3)] == pytest.approx(
        [1 / 3, 2 / 3 * 0.99, 0.99**2]
    )


def test_the_published_weights_of_losses():
    told = {name: parameter.default for name, parameter in signature(losses.superfeature).parameters.items()}
    assert (told["weight"], told["margin"], told["ratio"]) == (0.02, 1.1, 0.9)
    assert signature(losses.decorrelation).parameters["weight"].default == 0.1


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"colour": 1}, "no setting 'colour'"),
        ({"epochs": "many"}, "epochs='many' cannot be"),
        ({"epochs": 0}, "at least 1"),
        ({"rate": 0.0}, "must be positive"),
        ({"rate": True}, "cannot be"),
        ({"faithful": 1}, "cannot be"),
        ({"optimiser": "lion"}, "neither adam nor sgd"),
        ({"share": 1.0}, "between 0 and 1"),
        ({"crop": 2.0}, "no augmentation"),
    ],
)
def test_settings_that_cannot_be_are_refused(given, said):
    with pytest.raises(UsageError, match=said):
        RECIPES["gem"].with_settings(given)


def test_what_does_not_fit_together_is_refused(data, network):
    for recipe, kind in (("how", "descriptor"), ("gem", "local"), ("none", "local")):
        with pytest.raises(UsageError, match="choose one of"):
            recipe_of(recipe, kind)
    with pytest.raises(UsageError, match="give --weights of one with layer4"):
        trained("solar", open_start(network, None), data)
    with pytest.raises(UsageError, match="nothing is left to train"):
        trained("how", open_start(network, None), data, dim=8, trunk_rate=0.0)
    with pytest.raises(UsageError, match=r"the pool of .* photos holds"):
        trained("gem", open_start(network, None), data, negatives=30)
    with pytest.raises(UsageError, match="one network"):
        open_start(network, network)
    with pytest.raises(UsageError, match="cannot be used"):
        device_of("cuda:99" if torch.cuda.is_available() else "cuda")


def test_a_checkpoint_of_another_recipe_is_refused(tmp_path, data, network):
    place = Place(checkpoint=tmp_path / "state")
    trained("gem", open_start(network, None), data, place, epochs=1)
    with pytest.raises(UsageError, match="other data or settings"):
        trained("rmac", open_start(network, None), data, place, epochs=1)
    with pytest.raises(UsageError, match="other data or settings"):
        trained("gem", open_start(network, None), Data(data.judge, data.learn), place, epochs=1)


def test_nan_stops_with_the_best_state_and_names_photos(data, network, monkeypatch):
    plain, calls = losses.contrastive, []

    def spoilt(x, labels, margin):
        calls.append(1)
        return plain(x, labels, margin) * (torch.nan if len(calls) == 6 else 1)

    monkeypatch.setattr(losses, "contrastive", spoilt)
    _, outcome = trained("gem", open_start(network, None), data, epochs=5)
    assert outcome.trained.stopped == "diverged"
    assert outcome.trained.fault.startswith("in batch 1 of epoch 2, with the photos 0")
    assert ".jpg" in outcome.trained.fault
    assert np.isfinite(outcome.after.precision).all()


def test_a_full_disk_keeps_the_checkpoint_of_before(tmp_path, data, network, monkeypatch):
    import resight.store.tensor_file as files

    place = Place(checkpoint=tmp_path / "state", minutes=1000)
    save, calls = files.save_file, []

    def full(*given):
        calls.append(1)
        if len(calls) == 2:
            raise OSError(28, "No space left on device")
        save(*given)

    monkeypatch.setattr(files, "save_file", full)
    with pytest.raises(CollectionError, match=r"cannot write .*state"):
        trained("gem", open_start(network, None), data, place, epochs=4)
    kept = load_file(tmp_path / "state")
    assert list(tmp_path.iterdir()) == [tmp_path / "state"]
    monkeypatch.setattr(files, "save_file", save)
    _, outcome = trained("gem", open_start(network, None), data, place, epochs=4)
    _, whole = trained("gem", open_start(network, None), data, epochs=4)
    assert outcome.trained.epochs == whole.trained.epochs
    assert "now/p" in kept


SCRIPT = """
import sys, json
import numpy as np, torch
sys.path.insert(0, {tests!r})
torch.set_num_threads(1)
from resight.training.data import hold_out, of_groups
from resight.training.descriptor import train_descriptor
from resight.training.networks import open_start
from resight.training.parallel import outermost
from resight.training.recipes import RECIPES
from resight.training.run import Data, Place
from pathlib import Path
files = sorted(str(file) for file in Path({folder!r}).glob("*.jpg"))
names = [Path(file).name for file in files]
groups = np.array([int(name[:3]) for name in names])
data = Data(*hold_out(of_groups(names, files, groups, "here"), 0.4))
recipe = RECIPES["gem-whitened"].with_settings({settings!r})
place = Place(checkpoint=Path({state!r}), minutes=0)
outcome = train_descriptor(recipe, open_start(Path({network!r}), None), data, place)
if outermost():
    torch.save(outcome.network.state_dict(), {out!r})
    print(json.dumps([epoch.loss for epoch in outcome.trained.epochs]))
"""


def script(tmp_path, photos, network, name, **settings):
    given = {**SMALL, "epochs": 3, "queries": 12, "crop": 0.3, "brightness": 0.2, **settings}
    text = SCRIPT.format(
        tests=os.path.dirname(os.path.dirname(os.path.dirname(__file__))),
        folder=str(photos.folder),
        settings=given,
        state=str(tmp_path / f"{name}.state"),
        network=str(network),
        out=str(tmp_path / f"{name}.pt"),
    )
    (tmp_path / f"{name}.py").write_text(text)
    return tmp_path / f"{name}.py"


def same(left, right):
    one, other = torch.load(left), torch.load(right)
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


@pytest.mark.slow
def test_a_killed_training_ends_bit_for_bit_as_one_that_was_not(tmp_path, photos, network):
    whole = script(tmp_path, photos, network, "whole")
    subprocess.run([sys.executable, str(whole)], check=True, timeout=300)
    killed = script(tmp_path, photos, network, "killed")
    state, kills = tmp_path / "killed.state", 0
    for writes in (3, 8):
        process = subprocess.Popen([sys.executable, str(killed)])
        seen, last = 0, None
        while process.poll() is None and seen < writes:
            now = state.stat().st_mtime_ns if state.exists() else None
            seen, last = seen + (now != last), now
            time.sleep(0.002)
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
            kills += 1
        process.wait()
    assert kills == 2
    subprocess.run([sys.executable, str(killed)], check=True, timeout=300)
    assert same(tmp_path / "whole.pt", tmp_path / "killed.pt")


@pytest.mark.slow
def test_two_processes_train_what_one_does(tmp_path, photos, network):
    one, two = script(tmp_path, photos, network, "one"), script(tmp_path, photos, network, "two")
    single = subprocess.run([sys.executable, str(one)], check=True, timeout=300, capture_output=True, text=True)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", str(two)]
    double = subprocess.run(command, check=True, timeout=300, capture_output=True, text=True)
    losses = [json.loads(run.stdout.splitlines()[-1])[1:] for run in (single, double)]
    np.testing.assert_allclose(*losses, rtol=1e-4)
    left, right = torch.load(tmp_path / "one.pt"), torch.load(tmp_path / "two.pt")
    for name, tensor in left.items():
        np.testing.assert_allclose(right[name], tensor, atol=2e-4 * float(tensor.abs().max()))


def test_half_precision_is_used_where_it_is_asked_for(data, network):
    seen = []
    start = open_start(network, None)
    start.trunk.register_forward_hook(lambda _module, _inputs, maps: seen.append(maps.dtype))
    _, outcome = trained("gem", start, data, Place(precision="bfloat16"), epochs=1)
    assert set(seen[1:]) == {torch.bfloat16}  # the first is asked about its channels
    assert outcome.trained.stopped == "done"
    assert all(parameter.dtype == torch.float32 for parameter in outcome.network.parameters())


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of torch's own modules
def test_a_compiled_network_trains_as_it_does_otherwise(data, network):
    losses = [
        [epoch.loss for epoch in trained("gem", open_start(network, None), data, place)[1].trained.epochs[1:]]
        for place in (Place(), Place(compiled=True))
    ]
    np.testing.assert_allclose(*losses, rtol=1e-3)

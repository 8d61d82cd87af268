"""Where networks run: what is asked for, what onnxruntime offers, and what is said where the two do not meet."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from resight.errors import UsageError
from resight.features.networks import onnx as onnx_module
from resight.features.networks.device import NAMES, VARIABLE, asked_device, onnx_providers, torch_device, use_device

CPU = "CPUExecutionProvider"
GPU = ["TensorrtExecutionProvider", "CUDAExecutionProvider", CPU]


@pytest.mark.parametrize(
    ("available", "device", "expected"),
    [
        ([CPU], "auto", [CPU]),
        (["AzureExecutionProvider", CPU], "auto", [CPU]),
        (GPU, "auto", ["CUDAExecutionProvider", CPU]),
        (GPU, "cpu", [CPU]),
        (GPU, "cuda", ["CUDAExecutionProvider", CPU]),
        (GPU, "tensorrt", ["TensorrtExecutionProvider", "CUDAExecutionProvider", CPU]),
        (["MIGraphXExecutionProvider", "ROCMExecutionProvider", CPU], "auto",
         ["ROCMExecutionProvider", "MIGraphXExecutionProvider", CPU]),
        (["CoreMLExecutionProvider", CPU], "auto", [CPU]),
        (["CoreMLExecutionProvider", CPU], "coreml", ["CoreMLExecutionProvider", CPU]),
        (["DmlExecutionProvider", CPU], "directml", ["DmlExecutionProvider", CPU]),
    ],
)  # fmt: skip
def test_providers_are_those_of_the_device(available, device, expected):
    assert onnx_providers(available, device) == expected


@pytest.mark.parametrize("device", [name for name in NAMES if name not in ("auto", "cpu")])
def test_a_device_that_is_not_there_is_named_with_its_remedy(device):
    with pytest.raises(UsageError, match=rf"device {device} was asked for.*only {CPU}.*install.*leave the device out"):
        onnx_providers([CPU], device)


def test_the_choice_holds_for_the_process_and_its_children(monkeypatch):
    monkeypatch.delenv(VARIABLE, raising=False)
    assert asked_device() == "auto"
    use_device(None)
    assert asked_device() == "auto"
    monkeypatch.setenv(VARIABLE, "cuda")  # put back after the test, whatever is chosen in it
    use_device("cpu")
    assert asked_device() == "cpu"
    assert onnx_providers(GPU) == [CPU]
    with pytest.raises(UsageError, match="--device is 'gpu': choose one of auto, cpu, cuda"):
        use_device("gpu")
    monkeypatch.setenv(VARIABLE, "tpu")
    with pytest.raises(UsageError, match="RESIGHT_DEVICE is 'tpu'"):
        asked_device()


@pytest.mark.parametrize(
    ("device", "there", "expected"),
    [("auto", True, "cuda"), ("auto", False, "cpu"), ("cpu", True, "cpu"), ("cuda", True, "cuda"),
     ("rocm", True, "cuda"), ("coreml", False, "cpu")],
)  # fmt: skip
def test_torch_takes_the_same_choice(device, there, expected):
    assert torch_device(device, lambda: there) == expected


def test_torch_without_a_gpu_says_so():
    with pytest.raises(UsageError, match="torch sees no GPU"):
        torch_device("cuda", lambda: False)


class Session:
    """A session of a fake onnxruntime, which got these providers to work."""

    def __init__(self, path, options, providers, works):
        self.asked, self.works = providers, works

    def get_providers(self):
        return [provider for provider in self.asked if provider in self.works]


@pytest.mark.parametrize(
    ("works", "device", "runs"),
    [(GPU, "cuda", "CUDAExecutionProvider"), ([CPU], "auto", CPU), (GPU, "auto", "CUDAExecutionProvider")],
)
def test_sessions_are_opened_on_the_device(tmp_path, monkeypatch, works, device, runs):
    fake_runtime(monkeypatch, works)
    (tmp_path / "a.onnx").write_bytes(b"x")
    assert onnx_module.open_session(tmp_path / "a.onnx", device=device).get_providers()[0] == runs


def test_a_gpu_that_does_not_start_is_an_error_when_it_was_asked_for(tmp_path, monkeypatch):
    fake_runtime(monkeypatch, [CPU])
    (tmp_path / "a.onnx").write_bytes(b"x")
    with pytest.raises(UsageError, match="CUDAExecutionProvider did not start"):
        onnx_module.open_session(tmp_path / "a.onnx", device="cuda")


def fake_runtime(monkeypatch, works):
    fake = SimpleNamespace(
        SessionOptions=SimpleNamespace,
        get_available_providers=lambda: GPU,
        InferenceSession=lambda path, options, providers: Session(path, options, providers, works),
    )
    monkeypatch.setitem(__import__("sys").modules, "onnxruntime", fake)

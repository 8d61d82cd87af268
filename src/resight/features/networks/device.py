"""Where networks run: `use_device`, or the variable RESIGHT_DEVICE, chooses a processor or a GPU for a whole process.

Nothing chosen is `auto`: a GPU where the installed torch or onnxruntime can use one. It is no part of a collection:
the same photos may be indexed on one machine and searched on another.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence

from resight.errors import UsageError

VARIABLE = "RESIGHT_DEVICE"
AUTO, CPU = "auto", "cpu"
PROCESSOR = "CPUExecutionProvider"  # of onnxruntime; it also takes what another one cannot compute
# What onnxruntime calls a device, the fastest of its kind first
PROVIDERS: Mapping[str, tuple[str, ...]] = {
    "cuda": ("CUDAExecutionProvider",),
    "tensorrt": ("TensorrtExecutionProvider", "CUDAExecutionProvider"),
    "rocm": ("ROCMExecutionProvider", "MIGraphXExecutionProvider"),
    "coreml": ("CoreMLExecutionProvider",),
    "directml": ("DmlExecutionProvider",),
    "openvino": ("OpenVINOExecutionProvider",),
}
GPUS = ("cuda", "rocm")  # that are taken unasked; the others compile networks anew, or round otherwise
PACKAGES: Mapping[str, str] = {
    "cuda": "onnxruntime-gpu",
    "tensorrt": "onnxruntime-gpu",
    "rocm": "onnxruntime-rocm",
    "directml": "onnxruntime-directml",
    "openvino": "onnxruntime-openvino",
}
NAMES = (AUTO, CPU, *PROVIDERS)


def use_device(name: str | None) -> None:
    """Let this process, and those that it starts, run networks on device `name`; None changes nothing.

    Raises `UsageError` for a name that is none of `NAMES`.
    """
    if name is not None:
        os.environ[VARIABLE] = _known(name, "--device")


def asked_device() -> str:
    """The device that was chosen, `auto` where none was. Raises `UsageError` for a variable with another value."""
    return _known(os.environ.get(VARIABLE) or AUTO, VARIABLE)


def onnx_providers(available: Sequence[str], device: str | None = None) -> list[str]:
    """The execution providers for `device`, None for the chosen one, among those that onnxruntime has `available`.

    Raises `UsageError` when a GPU is asked for that the installed onnxruntime cannot use.
    """
    device = asked_device() if device is None else device
    if device == CPU:
        return [PROCESSOR]
    kinds = GPUS if device == AUTO else (device,)
    found = [provider for kind in kinds for provider in PROVIDERS[kind] if provider in available]
    if not found and device != AUTO:
        raise UsageError(
            f"device {device} was asked for, but the installed onnxruntime has only {', '.join(available)}: "
            f"{_remedy(device)}, or leave the device out"
        )
    return [*found, PROCESSOR]


def torch_device(device: str | None, has_cuda: Callable[[], bool]) -> str:
    """The device of torch for `device`, None for the chosen one: `cuda`, which builds for ROCm call so too, or `cpu`.

    Raises `UsageError` when a GPU is asked for by name that `has_cuda` denies. Devices that only onnxruntime knows are
    the processor for torch.
    """
    device = asked_device() if device is None else device
    wanted = device in ("cuda", "tensorrt", "rocm")
    if wanted and not has_cuda():
        raise UsageError(f"device {device} was asked for, but the installed torch sees no GPU: leave the device out")
    return "cuda" if wanted or (device == AUTO and has_cuda()) else CPU


def _known(name: str, source: str) -> str:
    if name not in NAMES:
        raise UsageError(f"{source} is {name!r}: choose one of {', '.join(NAMES)}")
    return name


def _remedy(device: str) -> str:
    if device in PACKAGES:
        return f"pip install {PACKAGES[device]} in place of onnxruntime, on a machine with such a device"
    return "install an onnxruntime that was built for it"

"""Vision models of Hugging Face (DINOv2, DINOv3, SigLIP 2, ViT) from a folder on disk, without a network.

The folder holds what `save_pretrained` wrote: `config.json`, weights as safetensors, and optionally
`preprocessor_config.json`, from which mean and std are read.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from resight.errors import UsageError
from resight.extras import needed
from resight.features.fingerprint import file_sha256, fingerprint
from resight.features.networks.backbone import IMAGENET_MEAN, IMAGENET_STD, Backbone, Triple
from resight.features.networks.device import torch_device
from resight.regular_files import check_regular, read_regular
from resight.types import Float32


def open_transformers(folder: Path) -> Backbone:
    """The model in `folder` as a `Backbone` of tokens: class and register tokens first where it has them, then patches.

    Code in the folder is never run. Raises `UsageError` when transformers is missing or the folder holds no such model.
    """
    model, torch = _load(folder)
    config = model.config
    patch, side = _int(folder, config, "patch_size"), _int(folder, config, "image_size")
    device = torch_device(None, torch.cuda.is_available)
    model = model.to(device).eval()

    def run(batch: Float32, **extra: bool) -> Float32:
        with torch.inference_mode():
            found = model(pixel_values=torch.from_numpy(batch).to(device), **extra).last_hidden_state
        tokens: Float32 = found.float().cpu().numpy()
        return tokens

    tokens = run(np.zeros((1, 3, side, side), np.float32)).shape[1]
    extra = _for_any_size(run, side, patch)
    forward: Callable[[Float32], Float32] = partial(run, **extra) if extra else run
    mean, std = _statistics(folder)
    return Backbone(
        name=folder.resolve().name,
        channels=int(config.hidden_size),
        stride=patch,
        sha256=_weights_sha256(folder),
        forward=forward,
        output="tokens",
        mean=mean,
        std=std,
        prefix=tokens - (side // patch) ** 2,
        side=side if extra is None else None,
        multiple=patch,
    )


def _load(folder: Path) -> tuple[Any, Any]:
    with needed(str(folder)):
        import torch
        import transformers
    options = {"local_files_only": True, "trust_remote_code": False}
    try:
        for file in (*folder.glob("*.json"), *folder.glob("*.safetensors")):
            check_regular(file)
        config = transformers.AutoConfig.from_pretrained(folder, **options)
        model = transformers.AutoModel.from_pretrained(folder, config=config, use_safetensors=True, **options)
    except (OSError, ValueError, KeyError) as error:
        why = str(error).strip().splitlines()[0]
        raise UsageError(f"{folder} holds no vision model with weights as safetensors: {why}") from error
    model = getattr(model, "vision_model", model)  # of two-tower models such as SigLIP
    bad = [name for name, weight in model.named_parameters() if not torch.isfinite(weight).all()]
    if bad:
        raise UsageError(f"the weights {bad[0]} in {folder} hold NaN or infinity: fetch the model again")
    return model, torch


def _int(folder: Path, config: Any, name: str) -> int:
    value = getattr(config, name, None)
    value = value[0] if isinstance(value, list | tuple) and value else value
    if not isinstance(value, int) or value < 1:
        raise UsageError(f"the config.json in {folder} has no {name}: it is no vision transformer")
    return value


def _for_any_size(run: Callable[..., Float32], side: int, patch: int) -> dict[str, Any] | None:
    """The option with which the model takes images of any size, None where it takes one size only."""
    image = np.zeros((1, 3, side + patch, side), np.float32)
    options: tuple[dict[str, Any], ...] = ({}, {"interpolate_pos_encoding": True})
    for extra in options:
        try:
            run(image, **extra)
        except (ValueError, TypeError, RuntimeError):  # what models of other sizes or without the option raise
            continue
        return extra
    return None


def _statistics(folder: Path) -> tuple[Triple, Triple]:
    path = folder / "preprocessor_config.json"
    if not path.exists():
        return IMAGENET_MEAN, IMAGENET_STD
    try:
        content = json.loads(read_regular(path))
        mean, std = (tuple(float(x) for x in content[key]) for key in ("image_mean", "image_std"))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UsageError(f"{path} does not give image_mean and image_std: {error}") from error
    if len(mean) != 3 or len(std) != 3 or min(std) <= 0:
        raise UsageError(f"{path} has mean {mean} and std {std}: three numbers each are needed, std above 0")
    return (mean[0], mean[1], mean[2]), (std[0], std[1], std[2])


def _weights_sha256(folder: Path) -> str:
    files = sorted(folder.glob("*.safetensors"))
    return file_sha256(files[0]) if len(files) == 1 else fingerprint([file_sha256(file) for file in files])

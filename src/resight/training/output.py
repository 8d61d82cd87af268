"""A trained network as a file that `--weights` of searches and evaluations takes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from resight.features.checkpoints.trained import FORMAT, description
from resight.store.tensor_file import write_tensors
from resight.training.networks import GlobalNetwork, HowNetwork, Precise, Start, weights_of
from resight.training.recipes import Recipe


def write_network(path: Path, network: Precise, recipe: Recipe, start: Start, facts: Mapping[str, Any]) -> list[Path]:
    """Write `network` to `path`; the files written, of which blocks of context are a second one.

    `facts`: plain values about the training, kept in the file. Each file is written whole or not at all. Raises
    `CollectionError` when that cannot be done.
    """
    told: dict[str, Any] = {"recipe": recipe.name, "mean": start.mean, "std": start.std, "training": dict(facts)}
    if isinstance(network, GlobalNetwork):
        told |= {"pooling": network.pool, "regional": network.regional, "normalise": network.normalise}
    tensors = {name: tensor.float().cpu().contiguous() for name, tensor in weights_of(network).items()}
    arrays = {name: tensor.numpy() for name, tensor in tensors.items()}
    write_tensors(path, FORMAT, arrays, description(recipe.layout, told, network.trunk))
    if not isinstance(network, HowNetwork) or not needs_context(recipe):
        return [path]
    beside = context_path(path)
    network.context.cpu().save(beside)
    return [path, beside]


def needs_context(recipe: Recipe) -> bool:
    """Whether the network has blocks that plain HOW lacks; of that, searches know what to do without a file."""
    settings = recipe.settings
    return (settings.reweighting, settings.smoothing, settings.window) != ("none", "average", 3)


def context_path(path: Path) -> Path:
    """Where the blocks of context of the network at `path` lie."""
    return path.with_name(f"{path.stem}-context{path.suffix}")

"""Networks that resight has trained: safetensors, with what the weights are in the metadata, as JSON.

The layout is that of the published program that trains the same thing, so that what reads those reads these; a trunk
that came from an ONNX file brings its operations along.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from resight.errors import UsageError
from resight.features.networks.graph_trunk import GraphTrunk, Step, steps_json, steps_of

FORMAT = "resight-network-1"
DESCRIPTION = "network"  # key of the metadata
LAYOUTS = ("cirtorch", "dir", "solar", "delg", "how", "fire")
GRAPH = "graph"  # the architecture of a trunk that brings its operations


def described(text: str, path: Path) -> dict[str, Any]:
    """The description of a file, checked as far as its own form goes. Raises `UsageError` for any other text."""
    try:
        found = json.loads(text)
    except ValueError as error:
        raise UsageError(f"{path} is damaged: its description is no JSON ({error})") from error
    if not isinstance(found, dict) or found.get("layout") not in LAYOUTS:
        raise UsageError(f"{path} is damaged, or of a later resight: its layout is none of {', '.join(LAYOUTS)}")
    return found


def description(layout: str, facts: Mapping[str, Any], trunk: object) -> dict[str, str]:
    """Metadata of a file: `layout`, plain `facts`, and the operations of the trunk where it is no ResNet or VGG."""
    steps = steps_json(trunk.steps) if isinstance(trunk, GraphTrunk) else ""
    return {DESCRIPTION: json.dumps({"layout": layout, "steps": steps, **facts})}


def steps_in(found: Mapping[str, Any], path: Path) -> tuple[Step, ...] | None:
    """The operations of the trunk; None where it has a name instead."""
    text = found.get("steps")
    if not text:
        return None
    try:
        return steps_of(str(text))
    except UsageError as error:
        raise UsageError(f"{path}: {error}") from error


def graph_trunk(steps: tuple[Step, ...], weights: Mapping[str, Tensor], path: Path) -> GraphTrunk:
    """The trunk of an ONNX graph with `weights`: those of convolutions are parameters, the others constants."""
    trained = {name for step in steps if step.op == "Conv" for name in step.inputs[1:]}
    taken = {name for step in steps for name in step.inputs}
    try:
        return GraphTrunk(
            steps,
            {name: tensor.clone() for name, tensor in weights.items() if name in trained & taken},
            {name: tensor.clone() for name, tensor in weights.items() if name in taken - trained},
        )
    except UsageError as error:
        raise UsageError(f"{path}: {error}") from error

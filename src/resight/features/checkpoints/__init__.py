"""Checkpoints of published retrieval models: read, understood, and made into descriptors.

| layout | program | papers |
|---|---|---|
| cirtorch, cirtorch-features | cnnimageretrieval-pytorch | Radenovic et al., TPAMI 2019 |
| dir | deep-image-retrieval | Gordo et al., IJCV 2017; Revaud et al., ICCV 2019 |
| solar | SOLAR | Ng et al., ECCV 2020 |
| how, fire | HOW, FIRe | Tolias et al., ECCV 2020; Weinzaepfel et al., ICLR 2022 |
| delg, cvnet, pycls | DELG-pytorch, CVNet | Cao et al., ECCV 2020; Lee et al., CVPR 2022 |
| torchvision | torchvision, timm | He et al., CVPR 2016; Simonyan and Zisserman, ICLR 2015 |
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from resight.extras import load_when_asked

if TYPE_CHECKING:
    from resight.features.checkpoints.checkpoint import Checkpoint, build_trunk, load_weights
    from resight.features.checkpoints.descriptor import RECIPES, load_descriptor
    from resight.features.checkpoints.readers import LAYOUTS, read_checkpoint

__all__ = [
    "LAYOUTS",
    "RECIPES",
    "Checkpoint",
    "build_trunk",
    "load_descriptor",
    "load_weights",
    "read_checkpoint",
]

__getattr__ = load_when_asked(__name__, __all__, "checkpoint", "descriptor", "readers")

"""Known models: where their weights are published, under which licence, and how to fetch them.

Nothing here is guessed. A size or checksum that its publisher or a trusted copy does not state is None. torchvision's
file names carry the first eight digits of the SHA-256; where no more is known, those are checked.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from resight.errors import UsageError
from resight.features.checkpoints.download import download, has_digest
from resight.progress import Progress, silent

ENVIRONMENT = "RESIGHT_MODELS"
WHOLE = 64  # digits of a complete SHA-256


@dataclass(frozen=True)
class KnownModel:
    """A model whose weights are published.

    `file`: name of the weights file. `recipe`: what it is for ("local" for local features). `url`: of the file itself,
    None where it can only be had by hand from `page`. `size` in bytes and `sha256` (hexadecimal, perhaps only its first
    digits), None where unknown. `licence`: of the weights, or where they have none of their own, of the repository that
    publishes them.
    """

    name: str
    file: str
    recipe: str
    architecture: str
    url: str | None
    page: str
    licence: str
    paper: str
    size: int | None = None
    sha256: str | None = None


def _torchvision(name: str, file: str, paper: str, size: int | None = None, sha256: str | None = None) -> KnownModel:
    return KnownModel(
        name=f"torchvision-{name}",
        file=file,
        recipe="gem",
        architecture=name.removesuffix("-v2"),
        url=f"https://download.pytorch.org/models/{file}",
        page="https://docs.pytorch.org/vision/stable/models.html",
        licence="BSD-3-Clause; trained on ImageNet",
        paper=paper,
        size=size,
        sha256=sha256 or file.rpartition("-")[2].removesuffix(".pth"),
    )


def _cirtorch(name: str, folder: str, file: str, architecture: str) -> KnownModel:
    return KnownModel(
        name=name,
        file=file,
        recipe="gem",
        architecture=architecture,
        url=f"https://cmp.felk.cvut.cz/cnnimageretrieval/data/networks/{folder}/{file}",
        page="https://github.com/filipradenovic/cnnimageretrieval-pytorch",
        licence="MIT",
        paper="Radenovic, Tolias, Chum: Fine-tuning CNN image retrieval with no human annotation. TPAMI 2019",
    )


def _dir(name: str, file: str, architecture: str, paper: str) -> KnownModel:
    return KnownModel(
        name=name,
        file=file,
        recipe="ap-gem",
        architecture=architecture,
        url=None,
        page="https://github.com/naver/deep-image-retrieval",
        licence="BSD-3-Clause",
        paper=paper,
    )


def _how(name: str, file: str, architecture: str) -> KnownModel:
    return KnownModel(
        name=name,
        file=file,
        recipe="local",
        architecture=architecture,
        url=f"http://ptak.felk.cvut.cz/personal/toliageo/share/how/models/{file}",
        page="https://github.com/gtolias/how",
        licence="MIT",
        paper="Tolias, Jenicek, Chum: Learning and aggregating deep local descriptors. ECCV 2020",
    )


_RESNET = "He, Zhang, Ren, Sun: Deep residual learning for image recognition. CVPR 2016"
_VGG = "Simonyan, Zisserman: Very deep convolutional networks. ICLR 2015"
_DIR = "Gordo, Almazan, Revaud, Larlus: End-to-end learning of deep visual representations. IJCV 2017"
_AP = "Revaud, Almazan, de Rezende, de Souza: Learning with average precision. ICCV 2019"
_RESNET18_SHA256 = "f37072fd47e89c5e827621c5baffa7500819f7896bbacec160b1a16c560e07ec"
_RESNET50_SHA256 = "0676ba61b6795bbe1773cffd859882e5e297624d384b6993f7c9e683e722fb8a"
_VGG16_SHA256 = "397923af8e79cdbb6a7127f12361acd7a2f83e06b05044ddf496e83de57a5bf0"

KNOWN: tuple[KnownModel, ...] = (
    _cirtorch("gem-vgg16", "retrieval-SfM-120k", "retrievalSfM120k-vgg16-gem-b4dcdc6.pth", "vgg16"),
    _cirtorch("gem-resnet101", "retrieval-SfM-120k", "retrievalSfM120k-resnet101-gem-b80fb85.pth", "resnet101"),
    _cirtorch("gem-sfm-resnet50", "retrieval-SfM-120k", "rSfM120k-tl-resnet50-gem-w-97bf910.pth", "resnet50"),
    _cirtorch("gem-sfm-resnet101", "retrieval-SfM-120k", "rSfM120k-tl-resnet101-gem-w-a155e54.pth", "resnet101"),
    _cirtorch("gem-sfm-resnet152", "retrieval-SfM-120k", "rSfM120k-tl-resnet152-gem-w-f39cada.pth", "resnet152"),
    _cirtorch("gem-gl18-resnet50", "gl18", "gl18-tl-resnet50-gem-w-83fdc30.pth", "resnet50"),
    _cirtorch("gem-gl18-resnet101", "gl18", "gl18-tl-resnet101-gem-w-a4d43db.pth", "resnet101"),
    _cirtorch("gem-gl18-resnet152", "gl18", "gl18-tl-resnet152-gem-w-21278d5.pth", "resnet152"),
    _cirtorch("caffe-vgg16", "imagenet", "imagenet-caffe-vgg16-features-d369c8e.pth", "vgg16"),
    _cirtorch("caffe-resnet50", "imagenet", "imagenet-caffe-resnet50-features-ac468af.pth", "resnet50"),
    _cirtorch("caffe-resnet101", "imagenet", "imagenet-caffe-resnet101-features-10a101d.pth", "resnet101"),
    _cirtorch("caffe-resnet152", "imagenet", "imagenet-caffe-resnet152-features-1011020.pth", "resnet152"),
    _dir("dir-mac-resnet101", "Resnet101-TL-MAC.pt", "resnet101", _DIR),
    _dir("dir-gem-resnet101", "Resnet101-TL-GeM.pt", "resnet101", _DIR),
    _dir("ap-gem-resnet50", "Resnet50-AP-GeM.pt", "resnet50", _AP),
    _dir("ap-gem-resnet101", "Resnet-101-AP-GeM.pt", "resnet101", _AP),
    _dir("ap-gem-lm18-resnet101", "Resnet101-AP-GeM-LM18.pt", "resnet101", _AP),
    KnownModel(
        name="solar-resnet101",
        file="resnet101-solar-best.pth",
        recipe="solar",
        architecture="resnet101",
        url="https://imperialcollegelondon.box.com/shared/static/fznpeayct6btel2og2wjjgvqw0ziqnk4.pth",
        page="https://github.com/tonyngjichun/SOLAR",
        licence="MIT",
        paper="Ng, Balntas, Tian, Mikolajczyk: SOLAR: second-order loss and attention for image retrieval. ECCV 2020",
    ),
    KnownModel(
        name="cvnet-resnet50",
        file="CVPR2022_CVNet_R50.pyth",
        recipe="delg",
        architecture="resnet50",
        url=None,
        page="https://github.com/sungonce/CVNet",
        licence="none stated",
        paper="Lee, Seong, Lee, Kim: Correlation verification for image retrieval. CVPR 2022",
    ),
    KnownModel(
        name="cvnet-resnet101",
        file="CVPR2022_CVNet_R101.pyth",
        recipe="delg",
        architecture="resnet101",
        url=None,
        page="https://github.com/sungonce/CVNet",
        licence="none stated",
        paper="Lee, Seong, Lee, Kim: Correlation verification for image retrieval. CVPR 2022",
    ),
    _how("how-resnet18", "how_r18.pth", "resnet18"),
    _how("how-resnet50", "how_r50-.pth", "resnet50"),
    KnownModel(
        name="fire-resnet50",
        file="fire.pth",
        recipe="local",
        architecture="resnet50",
        url="http://download.europe.naverlabs.com/ComputerVision/FIRe/official/fire.pth",
        page="https://github.com/naver/fire",
        licence="CC BY-NC-SA 4.0",
        paper="Weinzaepfel, Lucas, Larlus, Kalantidis: Learning super-features for image retrieval. ICLR 2022",
    ),
    _torchvision("vgg16", "vgg16-397923af.pth", _VGG, sha256=_VGG16_SHA256),
    _torchvision("resnet18", "resnet18-f37072fd.pth", _RESNET, 46_830_571, _RESNET18_SHA256),
    _torchvision("resnet50", "resnet50-0676ba61.pth", _RESNET, 102_530_333, _RESNET50_SHA256),
    _torchvision("resnet50-v2", "resnet50-11ad3fa6.pth", _RESNET),
    _torchvision("resnet101", "resnet101-63fe2227.pth", _RESNET),
    _torchvision("resnet101-v2", "resnet101-cd907fc2.pth", _RESNET),
    _torchvision("resnet152", "resnet152-394f9c45.pth", _RESNET),
    _torchvision("resnet152-v2", "resnet152-f82ba261.pth", _RESNET),
)


def models_folder() -> Path:
    """Where fetched weights lie: $RESIGHT_MODELS, else ~/.cache/resight/models."""
    return Path(os.environ.get(ENVIRONMENT) or Path.home() / ".cache" / "resight" / "models")


def known_model(name: str) -> KnownModel:
    """The known model of that name. Raises `UsageError` when there is none."""
    for model in KNOWN:
        if model.name == name:
            return model
    raise UsageError(f"there is no known model {name!r}: `resight models list` lists them")


def licence_of(file: str) -> str:
    """Licence of the known weights file of that name, else "unknown"."""
    return next((model.licence for model in KNOWN if model.file == file), "unknown")


def at_hand(model: KnownModel, folder: Path) -> Path | None:
    """The weights file of `model` in `folder`, if it lies there whole, as far as its size is known."""
    path = folder / model.file
    if not path.is_file() or model.size not in (None, path.stat().st_size):
        return None
    return path


def fetch(model: KnownModel, folder: Path, progress: Progress = silent) -> Path:
    """The weights file of `model` in `folder`, downloaded unless it lies there with the right checksum.

    A download that breaks off is continued by the next call, where the server says that the file is still the same. The
    file appears under its name only when it is complete and its size and checksum are right, as far as they are known.
    Plain http is used only for a file whose whole checksum is known. Raises `UsageError` when the model has no address,
    or only such a one, and `ResightError` when the download fails, is too large, or is not the file that was published.
    """
    target = folder / model.file
    if at_hand(model, folder) and has_digest(target, model.sha256):
        return target
    _check_address(model)
    step = f"fetch {model.name}"
    download(model.url or "", target, size=model.size, sha256=model.sha256, step=step, progress=progress)
    return target


def _check_address(model: KnownModel) -> None:
    by_hand = f"get {model.file} from {model.page} and give it with --weights"
    if model.url is None:
        raise UsageError(f"{model.name} has no address to fetch it from: {by_hand}")
    if model.url.startswith("https://"):
        return
    if not model.url.startswith("http://") or len(model.sha256 or "") != WHOLE:
        raise UsageError(f"{model.name} is published without TLS and checksum, so it cannot be trusted: {by_hand}")

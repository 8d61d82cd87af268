"""Trainings in files of published tables: each by the file that it writes.

    trainings:
      weights/how_r18.safetensors:
        kind: local
        recipe: how
        data: ground_truth/retrieval-SfM-120k.pkl
        photos: sfm120k/ims
        start: weights/resnet18-f37072fd.pth
        codebook: codebooks/how_r18_trained.safetensors

`settings` are those of the training, where they are not the published ones; `codebook`, of `words`, is learnt from up
to `sampled` of the training photos, seen with the settings `search`. Learned similarities stand apart:

    similarities:
      features: descriptors/landmarks-extra_vgg16_rmac.npy
      labels: landmarks-extra/labels.txt
      stages: {OASIS: weights/oasis.safetensors, DeepCosine: ..., DeepSim: ..., DeepSimH: ...}
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from resight.errors import UsageError
from resight.evaluation.table_checks import inside, keys, mapping, number, text
from resight.training.orders import STAGES, Order, Ordered, SimilarityOrder
from resight.training.recipes import Kind, recipe_of

ORDER_KEYS = {"kind", "recipe", "data", "photos", "start", "settings", "codebook", "words", "sampled", "search"}
SIMILARITY_KEYS = {"features", "labels", "stages"}
NUMBERS = ("random_pairs", "cosine_epochs", "epochs")
PATHS = ("data", "start", "photos", "codebook")


def read_orders(content: Any) -> dict[str, Ordered]:
    """Every file that a training writes, and its order. Raises `UsageError` on unknown keys, recipes and settings, and
    paths outside the data folder."""
    orders = [_order(str(out), value) for out, value in mapping("trainings", content).items()]
    return {path: order for order in orders for path in order.outputs}


def read_similarities(content: Any) -> dict[str, Ordered]:
    """As `read_orders`, for learned similarities; nothing for an empty mapping."""
    what = "training of similarities"
    if not mapping(what, content):
        return {}
    keys(what, content, {*SIMILARITY_KEYS, *NUMBERS, "hidden"}, SIMILARITY_KEYS)
    stages = {str(stage): text(f"{stage} of {what}", path) for stage, path in mapping(what, content["stages"]).items()}
    keys(f"stages of {what}", stages, set(STAGES), set(STAGES))
    features, labels = (text(f"{name} of {what}", content[name]) for name in ("features", "labels"))
    for path in (features, labels, *stages.values()):
        inside(what, path)
    hidden = content.get("hidden", SimilarityOrder.hidden)
    if not isinstance(hidden, list | tuple) or not all(isinstance(width, int) and width > 0 for width in hidden):
        raise UsageError(f"{what} has hidden {str(hidden)[:60]}: give a list of widths")
    pairs, first, others = (_size(what, content, name, getattr(SimilarityOrder, name)) for name in NUMBERS)
    order = SimilarityOrder(features, labels, stages, tuple(hidden), pairs, first, others)
    return dict.fromkeys(order.outputs, order)


def _order(out: str, value: Any) -> Order:
    what = f"training {out}"
    keys(what, value, ORDER_KEYS, {"kind", "recipe", "data", "start"})
    given = {name: text(f"{name} of {what}", value[name]) for name in PATHS if value.get(name) is not None}
    for path in (out, *given.values()):
        inside(what, path)
    kind: Kind = "local" if value["kind"] == "local" else "descriptor"
    if value["kind"] != kind:
        raise UsageError(f"{what} is of kind {value['kind']!r}: it is descriptor or local")
    settings = dict(mapping(f"settings of {what}", value.get("settings") or {}))
    recipe = recipe_of(text(f"recipe of {what}", value["recipe"]), kind).with_settings(settings)
    if "codebook" in given and kind != "local":
        raise UsageError(f"{what} gives no local features: leave out its codebook")
    search = dict(mapping(f"search of {what}", value.get("search") or {}))
    return Order(
        out,
        kind,
        recipe.name,
        data=given["data"],
        start=given["start"],
        photos=given.get("photos"),
        settings=settings,
        codebook=given.get("codebook"),
        words=_size(what, value, "words", Order.words),
        sampled=_size(what, value, "sampled", Order.sampled),
        search=search,
    )


def _size(what: str, value: Mapping[str, Any], name: str, default: int) -> int:
    found = number(f"{name} of {what}", value.get(name, default))
    if found != int(found) or found < 1:
        raise UsageError(f"{what} has {name} {value[name]!r}: a whole number of at least 1 is needed")
    return int(found)

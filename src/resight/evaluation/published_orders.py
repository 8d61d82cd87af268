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
to `sampled` of the training photos, seen with the settings `search`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from resight.errors import UsageError
from resight.evaluation.table_checks import inside, keys, mapping, number, text
from resight.training.orders import Order
from resight.training.recipes import Kind, recipe_of

ORDER_KEYS = {"kind", "recipe", "data", "photos", "start", "settings", "codebook", "words", "sampled", "search"}
PATHS = ("data", "start", "photos", "codebook")


def read_orders(content: Any) -> dict[str, Order]:
    """Every file that a training writes, and its order. Raises `UsageError` on unknown keys, recipes and settings, and
    paths outside the data folder."""
    orders = [_order(str(out), value) for out, value in mapping("trainings", content).items()]
    return {path: order for order in orders for path in order.outputs}


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

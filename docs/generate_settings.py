"""Write docs/settings.md, and the lists of variables and extras in docs/install.md, from the program itself.

python docs/generate_settings.py           # writes the pages
python docs/generate_settings.py --check   # exits 1 where a page is not what the program says
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

from resight.cli.installation import VARIABLES
from resight.exchange.formats import FORMATS
from resight.extras import EXTRAS
from resight.features.local.encoders import ENCODERS
from resight.recipes.catalogue import INDEXING, RECIPES, search_options
from resight.recipes.settings import POOLS, WHITENINGS, GlobalSettings, IndexSettings
from resight.training.recipes import RECIPES as TRAINED

DOCS = Path(__file__).parent
PAGE = DOCS / "settings.md"
INSTALL = DOCS / "install.md"

HEAD = """<!-- Made by docs/generate_settings.py from the program itself: run it again, do not change this page. -->
# Recipes and settings

Every recipe, every setting and its default, as the program has them. What they mean stands on the page of each method.
"""
NEEDS = {  # parts of a collection, and what makes them
    "index": "local features",
    "verifier": "local features",
    "database": "vectors",
    "graph": "`resight graph build`",
    "offline": "`resight graph build --offline`",
    "verified_graph": "`resight graph build --verified`",
    "training": "`resight label`",
    "regions": "`resight fit regions`",
    "separated": "`resight fit separation`",
    "similarity": "`resight fit similarity`",
}
FOR = {  # extras by name, and what each is for
    "learned": "torch: published checkpoints (`--weights`), `fit separation`, `fit similarity`",
    "onnx": "networks as ONNX files (`--backbone FILE.onnx`), without torch",
    "transformers": "networks as folders of Hugging Face",
    "heif": "HEIC photos",
    "hdf5": "feature files in HDF5",
    "tensorboard": "event files of a training",
    "serve": "`resight serve`: the page and the HTTP API",
    "train": "training of networks: torch, and onnx to read a trunk",
    "s3": "collections in buckets: `s3://BUCKET/NAME.resight`",
    "cluster": "collections in shards on a Ray cluster",
    "milvus": "global descriptors searched by Milvus",
    "kornia": "ALIKED, DISK, Key.Net and HardNet, with weights from files",
    "exchange": "formats of hloc, COLMAP and Hugging Face",
    "demo": "the photographs of `resight demo`",
}
NAMES = {  # variables, and what each names
    "RESIGHT_CACHE": "the folder where evaluations keep features; else `~/.cache/resight`",
    "RESIGHT_MODELS": "the folder of published weights; else `~/.cache/resight/models`",
    "RESIGHT_DATA": "the folder of benchmarks; else `./data`",
    "RESIGHT_DEVICE": "where networks run, as `--device`",
    "NUMBA_CACHE_DIR": "the folder of compiled kernels",
    "OMP_NUM_THREADS": "how many threads BLAS and faiss use",
    "NO_COLOR": "when set, nothing is printed in colour",
}


def page() -> str:
    """docs/settings.md, from the program as it is."""
    return "\n".join([HEAD, *_indexing(), *_searching(), *_kinds(), *_vector(), *_training(), *_formats()])


def with_lists(text: str) -> str:
    """docs/install.md with the lists of extras and of variables as the program has them.

    Raises `KeyError` for an extra or a variable that nothing is said about here.
    """
    extras = [f"| `{name}` | {FOR[name]} |" for name in sorted({*EXTRAS.values()}, key=list(FOR).index)]
    named = [f"| `{name}` | {NAMES[name]} |" for name in sorted(VARIABLES, key=list(NAMES).index)]
    text = _between(text, "extras", ["| extra | for |", "|---|---|", *extras])
    return _between(text, "variables", ["| variable | names |", "|---|---|", *named])


def _between(text: str, name: str, lines: Iterable[str]) -> str:
    before, start, rest = text.partition(f"<!-- {name} -->\n")
    _, end, after = rest.partition(f"<!-- end of {name} -->")
    return before + start + "\n" + "\n".join(lines) + "\n\n" + end + after


def _indexing() -> list[str]:
    rows = []
    for name in INDEXING:
        recipe = RECIPES[name]
        named = {one.name for kind in recipe.features for one in fields(ENCODERS[kind].load())}
        ways = ["`--backbone`"] * (recipe.backbone and (recipe.vector is not None or "backbone" in named))
        ways += ["`--weights`"] * (recipe.vector is not None or "weights" in named)
        vector = recipe.vector.pool if recipe.vector else ""
        rows.append(f"| `{name}` | {', '.join(recipe.features)} | {vector} | {' or '.join(ways)} |")
    head = ["## Recipes that photos are indexed with", "", "`resight index --recipe NAME`.", ""]
    return [*head, "| recipe | local features | vector | its network |", "|---|---|---|---|", *rows, ""]


def _searching() -> list[str]:
    head = ["## Recipes that search, and their options", "", "`resight search --recipe NAME --set OPTION=VALUE`.", ""]
    rows = []
    for name, recipe in RECIPES.items():
        parts = dict.fromkeys(NEEDS[part] for part in recipe.needs)
        rows.append(f"| `{name}` | {', '.join(parts)} | {_listed(search_options(name))} |")
    return [*head, "| recipe | searches with | options |", "|---|---|---|", *rows, ""]


def _kinds() -> list[str]:
    rows = [f"| `{name}` | {_listed(_defaults(kind.load()))} |" for name, kind in ENCODERS.items()]
    head = ["## Kinds of local features", "", "`resight index --set features=NAME --set SETTING=VALUE`.", ""]
    each = ["", "Every kind also has the settings of its index: " + _listed(_defaults(IndexSettings)) + ".", ""]
    return [*head, "| kind | settings |", "|---|---|", *rows, *each]


def _vector() -> list[str]:
    choices = f"`pool` is one of {', '.join(f'`{one}`' for one in POOLS)}; `whiten` of " + ", ".join(
        f"`{one}`" for one in WHITENINGS
    )
    rows = [f"| `{name}` | {_value(value)} |" for name, value in _defaults(GlobalSettings).items()]
    text = ["## The vector of a photo", "", f"`resight index --set SETTING=VALUE`. {choices}. Other defaults:", ""]
    changed = [
        f"* recipe `{name}`: {_listed(own)}"
        for name, recipe in RECIPES.items()
        if recipe.vector and (own := _differing(recipe.vector, GlobalSettings()))
    ]
    return [*text, *changed, "", "| setting | default |", "|---|---|", *rows, ""]


def _training() -> list[str]:
    head = ["## Networks that are trained", "", "`resight train descriptor` or `local`, `--recipe NAME`.", ""]
    rows = [
        f"| `{name}` | {one.kind} | {one.loss} | {one.paper} | {_own(one.settings)} |" for name, one in TRAINED.items()
    ]
    return [*head, "| recipe | command | loss | paper | settings |", "|---|---|---|---|---|", *rows, ""]


def _own(settings: Any) -> str:
    """What a training is told: settings without a default, and those that differ from theirs."""
    told = {
        one.name: getattr(settings, one.name)
        for one in fields(settings)
        if one.default is MISSING or getattr(settings, one.name) != one.default
    }
    return _listed(told)


def _formats() -> list[str]:
    return ["## Formats of `resight export --to`", "", ", ".join(f"`{name}`" for name in FORMATS) + ".", ""]


def _differing(one: Any, other: Any) -> dict[str, Any]:
    return {f.name: getattr(one, f.name) for f in fields(one) if getattr(one, f.name) != getattr(other, f.name)}


def _defaults(kind: Any) -> dict[str, Any]:
    return {one.name: getattr(kind(), one.name) for one in fields(kind)}


def _listed(values: Mapping[str, Any]) -> str:
    return ", ".join(f"`{name}` {_value(value)}".strip() for name, value in values.items()) or "none"


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, tuple):
        return (
            f"({' '.join(f'{one:.3g}' if isinstance(one, float) else str(one) for one in value)})"
            if value
            else "not set"
        )
    return {None: "not set", "": "not set"}.get(value, str(value))


def main() -> None:
    made = {PAGE: page(), INSTALL: with_lists(INSTALL.read_text(encoding="utf-8"))}
    for path, text in made.items():
        if "--check" in sys.argv[1:]:
            if path.read_text(encoding="utf-8") != text:
                sys.exit(f"{path} is not current: run {__file__}")
        else:
            path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()

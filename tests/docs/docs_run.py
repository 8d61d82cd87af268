"""Reads and runs the commands of a page, as somebody would type them one after another."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import typer
from docs_names import names_for, reason
from docs_pages import Block, Command, blocks, commands
from typer.testing import CliRunner

from resight.cli import app, options
from resight.recipes.catalogue import INDEXING, RECIPES, check_recipe, settings_of
from resight.training.recipes import recipe_of

# What cannot run in a test, and why. It is read and checked all the same.
CANNOT: Mapping[str, str] = {
    "demo": "it makes and indexes 200 photographs, for minutes: tests/unit/demo runs it",
    "serve": "it serves until it is stopped: tests/unit/serving runs it",
    "models pull": "it fetches hundreds of megabytes from another host",
}
# Trainings show the settings of the papers: photos of 1024 pixels, for days, on a GPU.
SHORT = {"epochs": "1", "side": "64", "batch": "2", "queries": "4", "negatives": "1"}
# Of what is scored here, random descriptors reach nothing that was published: `bench reproduce` ends with 1 then.
ENDINGS = {"bench reproduce": (0, 1)}
LARGER = {"side": "128"}  # of local descriptors: 12 photos give the 128 that a PCA of 128 dimensions needs
FEW = {("--dim", "256"): "8"}  # what a dozen photos are too few for
ROOT_COMMAND: Any = typer.main.get_command(app)


def parsed(command: Command) -> tuple[str, dict[str, Any]]:
    """The name of the command and its parameters. Raises a usage error of click for a wrong name, option or value."""
    current: Any = ROOT_COMMAND
    words, names = list(command.words[1:]), ["resight"]
    while words and words[0] in ("-v", "-vv"):
        words.pop(0)
    while hasattr(current, "commands") and words:
        assert words[0] in current.commands, f"{command}: there is no command {words[0]}"
        names.append(words.pop(0))
        current = current.commands[names[-1]]
    with current.make_context(" ".join(names), words) as context:
        return " ".join(names[1:]), context.params


def check(command: Command) -> None:
    """Raises `UsageError` for a recipe, a setting or a value that the command does not know, without running it."""
    name, given = parsed(command)
    settings = options.settings(given.get("set_"))
    recipe = given.get("recipe")
    if name == "index":
        settings_of(recipe or INDEXING[0], settings)
    elif name in ("search", "explain") and recipe is not None:
        check_recipe(recipe, settings)
    elif name.startswith("train "):
        recipe_of(recipe, name.removeprefix("train ")).with_settings(settings)
    elif name == "evaluate" and recipe in RECIPES and RECIPES[recipe].indexes and not given.get("features"):
        known = RECIPES[recipe]
        searching = {key: value for key, value in settings.items() if key in _options(known)}
        check_recipe(recipe, searching)
        settings_of(recipe, {key: value for key, value in settings.items() if key not in searching})


def _options(recipe: Any) -> Any:
    from resight.recipes.options import options_of

    return options_of(recipe.build)


@dataclass
class Reader:
    """Somebody who types the commands of a page. `made` says how each collection was indexed; `key` is the id of a key
    that was printed last."""

    made: dict[str, tuple[str, ...]] = field(default_factory=dict)
    key: str = ""

    def types(self, command: Command) -> None:
        """Run one command in the working folder. Raises `AssertionError` with what it printed when it fails."""
        name, given = parsed(command)
        if name in CANNOT or any(
            word.startswith(("s3://", "ray://", "milvus://10.")) for word in command.words
        ):  # no server, no cluster
            return
        words = on_any_machine(command.words[1:])
        if name == "index":
            self._start_afresh(str(given["to"]), command.words)
        if name.startswith("train "):
            words = shortened(words)
        words = [FEW.get(pair, pair[1]) for pair in zip(["", *words], words, strict=False)]
        if name == "keys revoke":
            words[2] = self.key
        result = CliRunner().invoke(app, words, env={"COLUMNS": "200"})
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        assert result.exit_code in ENDINGS.get(name, (0,)), f"{command}\n{result.stdout}{result.stderr}"
        if command.into:
            with open(command.into, "w", encoding="utf-8") as file:
                file.write(result.stdout)
        if name == "keys add":
            self.key = result.stdout.split("_")[1]  # rs_ID_SECRET

    def _start_afresh(self, place: str, words: tuple[str, ...]) -> None:
        """Pages list several ways to index one below the other: each begins a collection of its own."""
        if os.path.exists(place) and self.made.get(place) != words:
            shutil.rmtree(place)
        self.made[place] = words


@dataclass
class Page:
    """A page read from top to bottom in the working folder: what it shows is typed, saved or run."""

    name: str
    reader: Reader = field(default_factory=Reader)
    names: dict[str, Any] = field(default_factory=lambda: {"__name__": "page"})
    yaml: str = ""

    def read(self) -> None:
        """Raises what a block of the page raises, which then is wrong."""
        waiting = [one for one in commands(self.name) if one.words[0] == "resight"]
        for block in blocks(self.name):
            while waiting and waiting[0].line < block.line:
                waiting.pop(0)
            if block.language == "yaml":
                self.yaml = block.text
            elif block.language == "python":
                self._runs(block)
            while waiting and waiting[0].line < block.line + len(block.lines):
                self._types(waiting.pop(0))

    def _types(self, command: Command) -> None:
        for word in command.words:
            if word.endswith(".yaml") and not os.path.exists(word):
                Path(word).write_text(self.yaml, encoding="utf-8")
        self.reader.types(command)

    def _runs(self, block: Block) -> None:
        code = compile(block.text, f"{block.page}:{block.line}", "exec")
        if reason(self.name, block.text) is None:
            self.names.update(names_for(self.name))
            exec(code, self.names)


def on_any_machine(words: Sequence[str]) -> list[str]:
    """`words` without `--device NAME`: a page may name a device that this machine lacks."""
    named = {place + k for place, word in enumerate(words) if word == "--device" for k in (0, 1)}
    return [word for place, word in enumerate(words) if place not in named]


def shortened(words: list[str]) -> list[str]:
    """A training of a moment: `words` with the settings of `SHORT` in place of theirs."""
    short = {**SHORT, **(LARGER if "local" in words else {})}
    kept, rest = [], iter(words)
    for word in rest:
        value = next(rest) if word.startswith("--") and word not in ("--compile", "--json") else None
        ours = word == "--set" and str(value).partition("=")[0] in short
        if word != "--epochs" and not ours:
            kept += [word] if value is None else [word, value]
    return kept + [part for key, value in short.items() for part in ("--set", f"{key}={value}")]

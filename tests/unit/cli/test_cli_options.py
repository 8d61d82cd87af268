"""What is read out of the text of options, and what the options say of themselves."""

from __future__ import annotations

import time

import pytest
import typer
from typer.testing import CliRunner

from resight.cli import app
from resight.cli.options import checked_recipe, settings
from resight.errors import UsageError


def test_settings_are_what_they_look_like():
    found = settings(["a=false", "b = 0.5", "c=8192", "contrast=1e-2", "scales=[1, 1.41]", "e=", "f=null", "g=1:30"])
    assert found == {
        "a": False, "b": 0.5, "c": 8192, "contrast": 0.01, "scales": [1, 1.41], "e": None, "f": None, "g": "1:30",
    }  # fmt: skip
    assert settings(None) == {}


@pytest.mark.parametrize(
    ("pairs", "why"),
    [
        (["binary"], "--set binary is not of the form KEY=VALUE"),
        (["=3"], "not of the form KEY=VALUE"),
        (["a=["], r"--set a=\[ has no value that can be read \(line 1"),
        (["a=1", "a=2"], "--set a is given twice"),
        (["a=&x [*x]"], "uses an alias"),
        (["a=" + "[" * 1000 + "]" * 1000], "nested deeper than"),
        (["a=" + "9," * 50_000], r"--set a=9,9,.{60,80}\.\.\. has no value that can be read \(it is longer than"),
        (["a=!!python/name:os.system x"], "uses the tag"),
    ],
)
def test_settings_that_cannot_be_read_are_refused_at_once(pairs, why):
    started = time.process_time()
    with pytest.raises(UsageError, match=why):
        settings(pairs)
    assert time.process_time() - started < 1


def test_an_empty_recipe_is_no_default():
    assert checked_recipe(None, ["gem"]) is None
    assert checked_recipe("other", ["gem"]) == "other"
    with pytest.raises(UsageError, match="--recipe is empty: choose one of gem, rmac"):
        checked_recipe(" ", ["gem", "rmac"])


@pytest.mark.parametrize(
    "arguments",
    [
        ("index", ".", "--to", "new.resight"),
        ("search", "{c}", "001-0.jpg"),
        ("explain", "{c}", "001-0.jpg", "001-1.jpg"),
        ("evaluate", "folders:."),
    ],
)
def test_every_command_lists_the_recipes_for_an_empty_one(built, arguments, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    filled = [argument.format(c=built.path) for argument in arguments]
    done = CliRunner().invoke(app, [*filled, "--recipe", ""])
    assert done.exit_code == 2
    assert "--recipe is empty: choose one of" in done.stderr
    assert "classic" in done.stderr


def leaves(command, path=()):
    """Every command that does something: its words and itself."""
    for name, child in getattr(command, "commands", {}).items():
        if hasattr(child, "commands"):
            yield from leaves(child, (*path, name))
        else:
            yield (*path, name), child


COMMANDS = dict(leaves(typer.main.get_command(app)))


def test_the_commands():
    assert {" ".join(path) for path in COMMANDS} == {
        "index", "add", "remove", "relearn", "label", "search", "explain", "inspect", "info", "check", "duplicates",
        "group", "codebook", "serve", "tag",
        "shards split", "shards add", "engine fill", "engine drop", "keys add", "keys list", "keys revoke", "doctor",
        "demo",
        "graph build", "graph tune", "fit whitening", "fit fusion", "fit separation", "fit similarity", "fit regions",
        "fit regional", "train descriptor", "train local",
        "models list", "models pull", "evaluate", "export", "import",
        "bench list", "bench compare", "bench reproduce", "bench study",
    }  # fmt: skip


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_every_command_and_option_has_a_sentence(path):
    command = COMMANDS[path]
    assert command.help.strip().endswith(".")
    assert "--json" in [name for parameter in command.params for name in parameter.opts]
    for parameter in command.params:
        text = parameter.help or ""
        assert text[:1].isupper() or text[:1] in "`$" or text.split()[0] in ("zca,",), (path, parameter.name)
        assert text.endswith("."), (path, parameter.name)
        takes_a_value = parameter.param_type_name == "option" and not parameter.is_flag
        assert not takes_a_value or parameter.metavar, (path, parameter.name)


def test_options_of_one_name_mean_one_thing():
    texts = {}
    for command in COMMANDS.values():
        for parameter in command.params:
            if parameter.opts[0] in ("--set", "--json", "--report", "--box", "--top", "--pairs", "--groups", "--cache"):
                texts.setdefault(parameter.opts[0], set()).add(parameter.help)
    assert all(len(each) == 1 for each in texts.values())
    assert len(texts) == 8

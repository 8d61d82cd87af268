"""The command `doctor`."""

from __future__ import annotations

from dataclasses import asdict

import typer

from resight.cli import console, options


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command()(doctor)


def doctor(json: options.Json = False) -> None:
    """Say what this installation has: versions, extras, threads, devices, writable folders. Exit 1 if something is
    broken.
    """
    from resight.cli.installation import BAD, WANTING, examine

    facts = examine()
    broken = [fact for fact in facts if fact.state == BAD]
    if json:
        console.print_json([asdict(fact) for fact in facts])
    else:
        rows = [(fact.name, fact.topic, fact.value, fact.state) for fact in facts]
        console.print_table("this installation of resight", ("what", "topic", "found", "state"), rows)
        optional = sum(fact.state == WANTING for fact in facts)
        console.say(f"{len(broken)} problems; {optional} optional packages are not installed")
    if broken:
        raise typer.Exit(1)

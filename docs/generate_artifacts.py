"""Write the table of artifacts into docs/data-model.md: python docs/generate_artifacts.py."""

from __future__ import annotations

from pathlib import Path

from resight.artifacts.files import ARTIFACTS, LOCAL

PAGE = Path(__file__).with_name("data-model.md")
START, END = "<!-- artifacts -->\n", "<!-- end -->"


def with_table(page: str) -> str:
    """The text of the page, its table as the list of artifacts says."""
    further = {vars(one)[part].name for key, one in LOCAL.items() if key for part in vars(one)}  # named as the first
    rows = [
        f"| `{artifact.name}` | {artifact.holds} | `{artifact.command}` | {'yes' if artifact.learned else ''} |\n"
        for artifact in ARTIFACTS
        if artifact.name not in further
    ]
    table = "| file | holds | made again by | kept when damaged |\n|---|---|---|---|\n" + "".join(rows)
    before, _, rest = page.partition(START)
    return before + START + "\n" + table + "\n" + END + rest.partition(END)[2]


if __name__ == "__main__":
    PAGE.write_text(with_table(PAGE.read_text(encoding="utf-8")), encoding="utf-8")

"""Draws images/way-of-a-photo.svg: `python docs/figures/way_of_a_photo.py`."""

from __future__ import annotations

from pathlib import Path

STEPS = (
    ("file", "images/", "a bad one becomes", "a row with its reason"),
    ("pixels", "features/", "key points, cells,", "or one vector"),
    ("features", "store/", "Lance tables,", "one writer"),
    ("tables", "index/ graph/", "visual words, lists,", "kNN graph"),
    ("candidates", "ranking/ recipes/", "search, expand,", "follow the graph"),
    ("proof", "matching/", "features that agree", "on one view"),
    ("answer", "collection/ reports/", "match or no match,", "and why"),
)
WIDTH, HEIGHT, GAP, COLUMNS = 190, 104, 46, 4


def box(number: int) -> str:
    name, where, first, second = STEPS[number]
    x, y = place(number)
    middle = x + WIDTH / 2
    return (
        f'<rect x="{x}" y="{y}" width="{WIDTH}" height="{HEIGHT}" rx="10"/>'
        f'<text class="name" x="{middle}" y="{y + 30}">{name}</text>'
        f'<text class="where" x="{middle}" y="{y + 52}">{where}</text>'
        f'<text x="{middle}" y="{y + 75}">{first}</text><text x="{middle}" y="{y + 92}">{second}</text>'
    )


def place(number: int) -> tuple[int, int]:
    row, column = divmod(number, COLUMNS)
    return 10 + column * (WIDTH + GAP), 10 + row * (HEIGHT + 60)


def arrow(number: int) -> str:
    (x, y), (to_x, to_y) = place(number), place(number + 1)
    if y == to_y:
        middle = y + HEIGHT / 2
        return f'<path d="M{x + WIDTH + 4} {middle}H{to_x - 8}" marker-end="url(#head)"/>'
    down, turn = y + HEIGHT + 4, y + HEIGHT + 30
    return f'<path d="M{x + WIDTH / 2} {down}V{turn}H{to_x + WIDTH / 2}V{to_y - 8}" marker-end="url(#head)"/>'


def main() -> None:
    wide, high = 20 + COLUMNS * (WIDTH + GAP) - GAP, 20 + 2 * HEIGHT + 60
    style = (
        "text{font:13px sans-serif;text-anchor:middle;fill:#333}.name{font-weight:bold;font-size:17px;fill:#1a237e}"
        ".where{font-family:monospace;fill:#555}rect{fill:#eef0fb;stroke:#3f51b5;stroke-width:1.5}"
        "path{fill:none;stroke:#3f51b5;stroke-width:2}"
    )
    head = (
        '<marker id="head" viewBox="0 0 8 8" refX="4" refY="4" markerWidth="5" markerHeight="5" orient="auto">'
        '<path d="M0 0L8 4L0 8z" style="fill:#3f51b5;stroke:none"/></marker>'
    )
    parts = [box(number) for number in range(len(STEPS))] + [arrow(number) for number in range(len(STEPS) - 1)]
    svg = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {wide} {high}" role="img">'
        f'<rect width="{wide}" height="{high}" style="fill:#fff;stroke:none"/>'
        f"<style>{style}</style><defs>{head}</defs>{''.join(parts)}</svg>\n"
    )
    (Path(__file__).parents[1] / "images" / "way-of-a-photo.svg").write_text(svg, encoding="utf-8")


if __name__ == "__main__":
    main()

"""The matrix of a reproduction as one self-contained HTML page: every score beside its claim, verdict and command."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime

from resight.evaluation.published import Outcome, PublishedTable, Status, printed
from resight.version import __version__
from resight.viz.html import document, text
from resight.viz.report import EYE

MEANING: tuple[tuple[Status, str], ...] = (
    ("OK", "within the tolerance of the published score, or above it where the row says at least"),
    ("CLOSE", "within three tolerances"),
    ("FAIL", "farther away"),
    ("MISSING", "not run here: the cell says what is missing and where to put it"),
)

STYLE = """<style>
table { border-collapse: collapse; margin: .6rem 0 1rem; font-variant-numeric: tabular-nums; }
th, td { padding: .45rem .8rem; border: 1px solid var(--line); text-align: left; vertical-align: top; }
thead th { background: var(--well); } tbody th { font-weight: 600; min-width: 11rem; }
.scroll { overflow-x: auto; } section { margin-bottom: 2.2rem; }
section h2 { font-size: 1.25rem; } .source { color: var(--soft); }
td b { font-size: 1.05rem; } td small { display: block; color: var(--soft); white-space: nowrap; }
.status { display: inline-block; padding: 0 .5rem; border-radius: 99px; font-size: .74rem; font-weight: 700; }
.OK { background: var(--right-bg); color: var(--right); }
.CLOSE { background: var(--unsure-bg); color: var(--unsure); }
.FAIL { background: var(--wrong); color: var(--card); }
.MISSING { background: var(--well); color: var(--soft); }
details { margin-top: .2rem; font-size: .8rem; max-width: 26rem; } summary { cursor: pointer; color: var(--accent); }
code { overflow-wrap: anywhere; } details p { margin-top: .3rem; overflow-wrap: anywhere; }
.meaning { display: grid; grid-template-columns: auto 1fr; gap: .3rem .8rem; margin-bottom: 1.8rem; }
.meaning { color: var(--soft); }
.meaning dd { margin: 0; }
</style>"""


def matrix_page(tables: Sequence[PublishedTable], outcomes: Sequence[Outcome]) -> str:
    """The page of all `outcomes`, which are those of the cells of `tables`, each with the command that gives it."""
    found = {id(outcome.cell): outcome for outcome in outcomes}
    counts = Counter(outcome.status for outcome in outcomes)
    tiles = "".join(f"<div><dt>{status}</dt><dd>{counts[status]}</dd></div>" for status, _ in MEANING)
    meaning = "".join(
        f'<dt><span class="status {status}">{status}</span></dt><dd>{text(what)}</dd>' for status, what in MEANING
    )
    day = datetime.now(UTC).strftime("%Y-%m-%d")
    body = f"""{STYLE}<header><p class="brand">{EYE}<span>resight</span></p>
<h1>Published tables, measured again</h1>
<p class="subtitle">resight {text(__version__)}, {day}. A score stands here only where its command ran.</p>
<dl class="summary">{tiles}</dl></header>
<dl class="meaning">{meaning}</dl>
{"".join(_table(table, found) for table in tables)}
<footer>Made with <b>resight</b>: <code>resight bench reproduce --report FILE</code></footer>"""
    return document("Published tables, measured again", body)


def _table(table: PublishedTable, found: dict[int, Outcome]) -> str:
    by_place = {(cell.row, cell.column): found[id(cell)] for cell in table.cells}
    rows = dict.fromkeys(cell.row for cell in table.cells)
    head = "".join(f"<th>{text(column)}</th>" for column in table.columns)
    body = "".join(
        f'<tr><th scope="row">{text(row)}</th>{"".join(_cell(by_place.get((row, c))) for c in table.columns)}</tr>'
        for row in rows
    )
    return f"""<section><h2>{text(table.name)}. {text(table.title)}</h2><p class="source">{text(table.source)}</p>
<div class="scroll"><table><thead><tr><th></th>{head}</tr></thead><tbody>{body}</tbody></table></div></section>
"""


def _cell(outcome: Outcome | None) -> str:
    if outcome is None:
        return "<td>-</td>"
    cell = outcome.cell
    score = "" if outcome.measured is None else f"<b>{printed(round(outcome.measured, 2))}</b> "
    claim = f"{'at least ' if cell.aim == 'at least' else ''}{printed(cell.published)} ± {cell.tolerance:g}"
    lines = [f"<p>{text(sentence)}</p>" for sentence in outcome.missing]
    lines += [f"<p>{text(cell.note)}</p>"] if cell.note else []
    lines += [f"<p>Source: {text(cell.source)}</p>"]
    if outcome.command:
        lines.append(f"<p><code>{text(outcome.command)}</code></p>")
    word = "what is missing" if outcome.missing else "command"
    return f"""<td>{score}<span class="status {outcome.status}">{outcome.status}</span>
<small>published {claim}</small><details><summary>{word}</summary>{"".join(lines)}</details></td>"""

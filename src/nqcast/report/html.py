"""One self-contained HTML page: text, tables and embedded pictures; no script, no outside resource."""

from __future__ import annotations

import base64
import html
import io
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import pandas as pd

if TYPE_CHECKING:
    from matplotlib.figure import Figure

STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; color: #1a1a1a; max-width: 62rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.8rem; margin-bottom: .2rem; } h2 { margin-top: 2.5rem; border-bottom: 2px solid #0072B2; }
nav ol { columns: 2; padding-left: 1.4rem; margin: .5rem 0 1.5rem; } nav a { color: #0072B2; }
a.term { color: inherit; text-decoration: underline dotted #6b6b6b; text-underline-offset: .2em; }
.wide { overflow-x: auto; } table { border-collapse: collapse; margin: 1rem 0; font-size: .9rem; }
table { font-variant-numeric: tabular-nums; } tr.own td { font-weight: 600; background: #eaf3fa; }
th, td { padding: .25rem .7rem; text-align: right; border-bottom: 1px solid #d9d9d9; vertical-align: top; }
th:first-child, td:first-child, table.text td { text-align: left; } thead th { border-bottom: 2px solid #6b6b6b; }
caption { text-align: left; font-weight: 600; padding: .3rem 0; } td:first-child { white-space: nowrap; }
figure { margin: 1.5rem 0; } figure img { max-width: 100%; } figcaption { color: #444; font-size: .9rem; }
.answers { background: #eaf3fa; border-left: 4px solid #0072B2; padding: .4rem 1rem; margin: 1rem 0; }
.answers p { margin: .4rem 0; } .answers p:first-child { font-weight: 600; }
.simulated { background: #fbe9e0; border-left: 4px solid #D55E00; padding: .1rem 1rem; font-weight: 600; }
summary { cursor: pointer; font-weight: 600; margin: 1rem 0; } details table { margin-left: 1rem; }
dt { font-weight: 600; margin-top: .6rem; } dd { margin-left: 1.2rem; } dt:target { background: #fff3c4; }
@media screen and (min-width: 1000px) { table:not(.text) td { white-space: nowrap; } }
@media print { body { max-width: none; font-size: 11pt; } h2, figure, table { break-inside: avoid; } }
"""


def page(title: str, top: Sequence[str], sections: Mapping[str, Sequence[str]], aliases: Mapping[str, str]) -> str:
    """The whole document: title, what stands on top, a table of contents, and fragments by their section's heading.

    ``aliases`` are words and the glossary's term that explains each; the first of them in a section is a link there.
    """
    entries = "".join(f'<li><a href="#{slug(name)}">{html.escape(name)}</a></li>' for name in sections)
    body = "".join(
        f'<h2 id="{slug(name)}">{html.escape(name)}</h2>\n' + with_links("\n".join(parts), aliases)
        for name, parts in sections.items()
    )
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{html.escape(title)}</title><style>{STYLE}</style></head>\n"
        f"<body><h1>{html.escape(title)}</h1>{''.join(top)}\n<nav><ol>{entries}</ol></nav>\n{body}</body></html>\n"
    )


def slug(text: str) -> str:
    """The name of a heading or term as the target of a link."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")


def with_links(fragment: str, aliases: Mapping[str, str]) -> str:
    """HTML whose first mention of each term leads to its definition; tags and definitions stay as they are."""
    words = "|".join(re.escape(html.escape(word)) for word in sorted(aliases, key=len, reverse=True))
    pattern, seen, inside = re.compile(rf"(?<![\w-])({words})(?![\w-])", re.IGNORECASE), set[str](), False
    terms = {html.escape(word).lower(): term for word, term in aliases.items()}

    def linked(match: re.Match[str]) -> str:
        term = terms[match[1].lower()]
        if term in seen:
            return match[1]
        seen.add(term)
        return f'<a class="term" href="#{slug(term)}">{match[1]}</a>'

    parts = []
    for part in re.split(r"(<[^>]+>)", fragment):
        inside = part.startswith("<dl") or (inside and not part.startswith("</dl"))
        parts.append(part if inside or part.startswith("<") else pattern.sub(linked, part))
    return "".join(parts)


def paragraph(text: str) -> str:
    return f"<p>{html.escape(text)}</p>"


def box(texts: Sequence[str], kind: str) -> str:
    """Paragraphs in a box of their own."""
    return f'<div class="{kind}">{"".join(map(paragraph, texts))}</div>'


def table(frame: pd.DataFrame, caption: str, digits: int = 2, own: str = "") -> str:
    """A frame as a table: its index on the left, numbers with ``digits`` decimals, the row named ``own`` marked."""
    head = "".join(f"<th>{html.escape(str(name))}</th>" for name in ["", *frame.columns])
    rows = []
    for name, values in zip(frame.index, frame.to_numpy(dtype=object), strict=True):
        cells = "".join(f"<td>{_cell(value, digits)}</td>" for value in values)
        mark = ' class="own"' if own and str(name) == own else ""
        rows.append(f"<tr{mark}><td>{html.escape(str(name))}</td>{cells}</tr>")
    return (
        f'<div class="wide"><table><caption>{html.escape(caption)}</caption><thead><tr>{head}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )


def titled(frame: pd.DataFrame) -> pd.DataFrame:
    """The frame with the names of its rows in words."""
    return frame.rename(index=lambda name: str(name).replace("_", " "))


def p_value(value: float | None) -> str:
    """A p-value as text; a dash where there is none."""
    if value is None or value != value:
        return "–"
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def facts(rows: Mapping[str, object]) -> str:
    """A table of names and what they are, a row for each."""
    body = "".join(f"<tr><td>{html.escape(k)}</td><td>{_cell(v, 2)}</td></tr>" for k, v in rows.items())
    return f'<div class="wide"><table class="text"><tbody>{body}</tbody></table></div>'


def folded(summary: str, parts: Sequence[str]) -> str:
    """Fragments that are shown when their summary is clicked."""
    return f"<details><summary>{html.escape(summary)}</summary>{''.join(parts)}</details>"


def picture(figure: Figure, caption: str) -> str:
    """A matplotlib Figure embedded as PNG, its caption also the text for those who cannot see it."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110, metadata={"Software": None})
    data = base64.b64encode(buffer.getvalue()).decode("ascii")
    text = html.escape(caption, quote=True)
    return f'<figure><img alt="{text}" src="data:image/png;base64,{data}"><figcaption>{text}</figcaption></figure>'


def definitions(terms: Mapping[str, str]) -> str:
    """A list of terms and what they mean, each the target of its links."""
    rows = (f'<dt id="{slug(k)}">{html.escape(k)}</dt><dd>{html.escape(v)}</dd>' for k, v in terms.items())
    return f"<dl>{''.join(rows)}</dl>"


def _cell(value: object, digits: int) -> str:
    if isinstance(value, float):
        return "–" if value != value else f"{value:.{digits}f}"
    text = f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)
    return html.escape(text).replace("\n", "<br>")

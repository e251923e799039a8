"""One self-contained HTML page: text, tables and embedded pictures; no script, no outside resource."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import pandas as pd

if TYPE_CHECKING:
    from matplotlib.figure import Figure

STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; color: #1a1a1a; max-width: 62rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.8rem; margin-bottom: .2rem; } h2 { margin-top: 2.5rem; border-bottom: 2px solid #0072B2; }
table { border-collapse: collapse; margin: 1rem 0; font-size: .9rem; font-variant-numeric: tabular-nums; }
th, td { padding: .25rem .7rem; text-align: right; border-bottom: 1px solid #d9d9d9; }
th:first-child, td:first-child { text-align: left; } thead th { border-bottom: 2px solid #6b6b6b; }
tr.own td { font-weight: 600; background: #eaf3fa; } caption { text-align: left; font-weight: 600; padding: .3rem 0; }
figure { margin: 1.5rem 0; } figure img { max-width: 100%; } figcaption { color: #444; font-size: .9rem; }
.answer { background: #eaf3fa; border-left: 4px solid #0072B2; padding: .6rem 1rem; margin: .6rem 0; }
dt { font-weight: 600; margin-top: .6rem; } dd { margin-left: 1.2rem; }
@media print { body { max-width: none; font-size: 11pt; } h2, figure, table { break-inside: avoid; } }
"""


def page(title: str, lead: str, sections: Mapping[str, Sequence[str]]) -> str:
    """The whole document; ``sections`` maps a heading to fragments that are already HTML."""
    body = "".join(f"<h2>{html.escape(name)}</h2>\n" + "\n".join(parts) for name, parts in sections.items())
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{html.escape(title)}</title><style>{STYLE}</style></head>\n"
        f"<body><h1>{html.escape(title)}</h1>{paragraph(lead)}\n{body}</body></html>\n"
    )


def paragraph(text: str, kind: str = "") -> str:
    """A paragraph of plain text."""
    return f'<p class="{kind}">{html.escape(text)}</p>' if kind else f"<p>{html.escape(text)}</p>"


def table(frame: pd.DataFrame, caption: str, digits: int = 2, own: str = "") -> str:
    """A frame as a table: its index on the left, numbers with ``digits`` decimals, the row named ``own`` marked."""
    head = "".join(f"<th>{html.escape(str(name))}</th>" for name in ["", *frame.columns])
    rows = []
    for name, values in zip(frame.index, frame.to_numpy(dtype=object), strict=True):
        cells = "".join(f"<td>{html.escape(_text(value, digits))}</td>" for value in values)
        mark = ' class="own"' if own and str(name) == own else ""
        rows.append(f"<tr{mark}><td>{html.escape(str(name))}</td>{cells}</tr>")
    return (
        f"<table><caption>{html.escape(caption)}</caption><thead><tr>{head}</tr></thead>"
        f"<tbody>{''.join(rows)}</tbody></table>"
    )


def picture(figure: Figure, caption: str, dpi: int = 110) -> str:
    """A matplotlib Figure embedded as PNG, its caption also the text for those who cannot see it."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi, metadata={"Software": None})
    data = base64.b64encode(buffer.getvalue()).decode("ascii")
    text = html.escape(caption, quote=True)
    return f'<figure><img alt="{text}" src="data:image/png;base64,{data}"><figcaption>{text}</figcaption></figure>'


def definitions(terms: Mapping[str, str]) -> str:
    """A list of terms and what they mean."""
    return f"<dl>{''.join(f'<dt>{html.escape(k)}</dt><dd>{html.escape(v)}</dd>' for k, v in terms.items())}</dl>"


def _text(value: object, digits: int) -> str:
    if isinstance(value, float):
        return "–" if value != value else f"{value:.{digits}f}"
    return f"{value:,}" if isinstance(value, int) else str(value)

"""A page on loopback: the fan of the newest forecast, last outcomes, coverage and skill, and whether bars come in."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pandas as pd
from plotly.offline import get_plotlyjs

from nqcast.forecast.page import forecast_figure
from nqcast.horizons import horizon
from nqcast.live.watcher import Watcher
from nqcast.storage.json_values import Json

_HOSTS = ("127.0.0.1", "localhost")
_PAGE = """<!doctype html><html lang="en"><meta charset="utf-8"><title>nqcast watch</title>
<style>body{font:15px sans-serif;margin:1.5rem;max-width:70rem}table{border-collapse:collapse}
td,th{padding:.2rem .8rem;text-align:right;border-bottom:1px solid #ddd}#fan{height:26rem}</style>
<h1>nqcast watch</h1><p id="health"></p><div id="fan"></div>
<h2>Outcomes</h2><table id="scores"></table><h2>The last ones</h2><table id="last"></table>
<script src="/plotly.js"></script><script>
const cells=(tag,row)=>'<tr>'+row.map(x=>`<${tag}>${x}</${tag}>`).join('')+'</tr>';
const table=(id,head,rows)=>document.getElementById(id).innerHTML=cells('th',head)+rows.map(r=>cells('td',r)).join('');
async function show(){
  const s=await (await fetch('/state.json')).json();
  document.getElementById('health').textContent=s.health;
  if(s.figure) Plotly.react('fan',s.figure.data,s.figure.layout);
  table('scores',['horizon','outcomes','skill over the scale, %','80 % interval covers, %'],s.scores);
  table('last',['issued','horizon','log return, %','5 %','95 %'],s.last);
  document.body.dataset.ready='yes';
}
show(); setInterval(show,2000);
</script></html>"""


def serve(watcher: Watcher, port: int) -> ThreadingHTTPServer:
    """Serve the page at 127.0.0.1:`port` in a thread of its own; `shutdown()` ends it. Port 0 takes a free one."""
    answers: dict[str, tuple[str, Callable[[], str]]] = {
        "/": ("text/html; charset=utf-8", lambda: _PAGE),
        "/plotly.js": ("text/javascript", get_plotlyjs),
        "/state.json": ("application/json", lambda: json.dumps(state(watcher))),
    }

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            host = self.headers.get("Host", "").rpartition(":")[0] or self.headers.get("Host", "")
            if host not in _HOSTS or self.path not in answers:  # a foreign name that resolves to loopback is no guest
                self.send_error(404)
                return
            kind, make = answers[self.path]
            body = make().encode()
            self.send_response(200)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """Keeps the server's requests out of the terminal."""

    server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


def state(watcher: Watcher) -> Json:
    """What the page shows, as JSON values."""
    newest = max(watcher.forecasts, default="")
    figure = None
    if newest and len(watcher.recent):
        frame = as_frame(watcher.forecasts[newest], watcher.forecaster.levels)
        figure = json.loads(forecast_figure(frame, watcher.recent).to_json())
    return {
        "health": _health(watcher, newest),
        "figure": figure,
        "scores": [_score_row(name, row) for name, row in watcher.scores().items()],
        "last": _last_outcomes(watcher),
    }


def as_frame(record: Json, levels: tuple[float, ...]) -> pd.DataFrame:
    """A forecast's line of the log as the frame that `Forecaster.forecast` gives."""
    issued = pd.Timestamp(record["issue_time"])
    ends = record.get("target_times", {})  # earlier logs hold horizons by the clock alone
    rows = [
        {"horizon": name, "target_time": _end(name, issued, ends), "level": tau, "return_quantile": q}
        for name, quantiles in record["quantiles"].items()
        for tau, q in zip(levels, quantiles, strict=True)
    ]
    frame = pd.DataFrame(rows).assign(issue_time=issued, last_price=record["last_price"], contract=record["contract"])
    return frame.assign(price_quantile=frame["last_price"] * np.exp(frame["return_quantile"]))


def _end(name: str, issued: pd.Timestamp, ends: Json) -> pd.Timestamp:
    return pd.Timestamp(ends[name]) if name in ends else issued + pd.Timedelta(minutes=horizon(name).minutes)


def _health(watcher: Watcher, newest: str) -> str:
    if not newest:
        return watcher.refused or "No forecast yet: bars are awaited."
    late = sum(record["late"] for record in watcher.forecasts.values())
    text = f"{len(watcher.forecasts):,} forecasts ({late:,} of them after the fact), the newest issued {newest}."
    return f"{text} No newer one: {watcher.refused}" if watcher.refused else text


def _score_row(name: str, row: Json) -> list[str]:
    cover = row["coverage"]
    inside = f"{100 * (cover['q90'] - cover['q10']):.1f}" if {"q10", "q90"} <= set(cover) else "–"
    skill = "–" if row["skill"] is None else f"{100 * row['skill']:+.2f}"
    return [name, f"{row['outcomes']:,}", skill, inside]


def _last_outcomes(watcher: Watcher) -> list[list[str]]:
    rows = []
    for (key, name), record in list(watcher.outcomes.items())[-10:]:
        quantiles, value = watcher.forecasts[key]["quantiles"][name], record["log_return"]
        shown = "none" if value is None else f"{100 * value:+.3f}"
        rows.append([key, name, shown, f"{100 * quantiles[0]:+.3f}", f"{100 * quantiles[-1]:+.3f}"])
    return rows[::-1]

"""The frame of a report: one self-contained HTML page, for wide and narrow screens, light and dark."""

from __future__ import annotations

from collections.abc import Mapping

from skillnet_cli.evaluation.markup import Markup, element, joined

POLICY = (
    "default-src 'none'; img-src data:; media-src data:; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
)
"""Pages have no scripts, and load nothing but what lies in them."""

STYLE = """
:root { color-scheme: light dark; --ink: #1c2330; --dim: #5d6777; --paper: #fbfbfd; --card: #ffffff; --line: #dde1e8;
  --first: #2563c9; --second: #b4540a; --good: #14743c; --bad: #b3261e;
  --fourth: #7a3fb8; --fifth: #5f6b00; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e9ef; --dim: #9aa4b5; --paper: #12151b; --card: #1a1f28;
  --line: #303846; --first: #7fb0ff; --second: #f0a35e; --good: #6fd39a; --bad: #ff8f85;
  --fourth: #c79bff; --fifth: #c9d15a; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 72rem; padding: 1rem; background: var(--paper); color: var(--ink);
  font: 16px/1.5 system-ui, "Noto Sans CJK SC", "PingFang SC", "Microsoft YaHei", sans-serif; }
h1 { font-size: 1.6rem; } h2 { margin-top: 2.5rem; border-bottom: 1px solid var(--line); } h4 { margin: 0; }
small, .note, figcaption, dt { color: var(--dim); font-size: .85rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; } th, td { padding: .35rem .7rem .35rem 0; text-align: left; }
th { color: var(--dim); font-weight: 500; } tr { border-bottom: 1px solid var(--line); }
td.number { font-variant-numeric: tabular-nums; white-space: nowrap; }
.cards { display: grid; gap: .8rem; align-items: start;
  grid-template-columns: repeat(auto-fill, minmax(min(100%, 19rem), 1fr)); }
figure { margin: 0; min-width: 0; } .cards > figure, .case { background: var(--card); border: 1px solid var(--line);
  border-radius: .5rem; padding: .8rem; }
svg { display: block; width: 100%; height: auto; } svg text { fill: var(--dim); font-size: 10px; text-anchor: middle; }
svg text.y { text-anchor: end; } .grid { stroke: var(--line); }
polyline { fill: none; stroke-width: 1.8; stroke-linejoin: round; }
polyline.first { stroke: var(--first); } polyline.second { stroke: var(--second); }
polyline.third { stroke: var(--good); } polyline.fourth { stroke: var(--fourth); }
polyline.fifth { stroke: var(--fifth); } polyline.sixth { stroke: var(--bad); }
rect.first { fill: var(--first); }
circle.first { fill: var(--first); } circle.second { fill: var(--second); } circle.third { fill: var(--good); }
circle.fourth { fill: var(--fourth); } circle.fifth { fill: var(--fifth); } circle.sixth { fill: var(--bad); }
span.first { color: var(--first); } span.second { color: var(--second); } span.third { color: var(--good); }
span.fourth { color: var(--fourth); } span.fifth { color: var(--fifth); } span.sixth { color: var(--bad); }
.case { margin: .8rem 0; display: grid; gap: .8rem; grid-template-columns: minmax(10rem, 1fr) 4fr; }
.query { overflow-wrap: anywhere; } .query p { margin: 0; }
.hits { display: grid; gap: .6rem; grid-template-columns: repeat(auto-fit, minmax(9.5rem, 1fr)); }
.hits figure { border: 2px solid var(--line); border-radius: .4rem; padding: .4rem; overflow: auto; max-height: 24rem; }
.hits .right { border-color: var(--good); } .hits .truth { border-style: dashed; }
.case img, .case video { max-width: 100%; height: auto; } .case audio { width: 100%; }
.case pre { margin: 0; overflow: auto; font-size: .78rem; max-height: 20rem; }
pre { overflow-x: auto; }
dl { margin: 0; display: grid; grid-template-columns: auto 1fr; gap: .2rem .8rem; overflow-wrap: anywhere; }
dd { margin: 0; } dd.right { color: var(--good); } dd.wrong { color: var(--bad); }
@media (max-width: 40rem) { .case { grid-template-columns: 1fr; } }
"""


def page(title: str, sections: Mapping[str, Markup]) -> bytes:
    """A whole page: its title, then each section that has something in it under its heading."""
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", http_equiv="Content-Security-Policy", content=POLICY),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("title", title),
        element("style", Markup(STYLE)),
    )
    shown = [element("section", element("h2", name), content) for name, content in sections.items() if content]
    body = element("body", element("h1", title), *shown)
    text = joined((Markup("<!doctype html>"), element("html", head, body, lang="en"), "\n"))
    return text.encode("utf-8", errors="replace")

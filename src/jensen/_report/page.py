"""The frame of the HTML report: its style and small builders. Every text that comes in is escaped here."""

import base64
import html
from collections.abc import Iterable
from typing import Any

STYLE = """
:root { --ink:#1d2329; --soft:#5d6670; --line:#dfe3e8; --trusted:#2e7d32; --usable:#b7791f; --untrusted:#b3261e; }
* { box-sizing:border-box; }
body { margin:0; font:15px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,"DejaVu Sans",sans-serif; color:var(--ink);
  background:#f6f7f9; }
main { max-width:1080px; margin:0 auto; padding:28px 20px 60px; }
h1 { font-size:26px; margin:0 0 2px; } h2 { font-size:18px; margin:0 0 10px; }
.sub { color:var(--soft); margin:0 0 18px; }
section { background:#fff; border:1px solid var(--line); border-radius:10px; padding:18px 20px; margin:0 0 18px; }
.verdict { border-left:8px solid var(--soft); } .verdict h2 { font-size:21px; }
.verdict.trusted { border-left-color:var(--trusted); } .verdict.trusted h2 { color:var(--trusted); }
.verdict.usable { border-left-color:var(--usable); } .verdict.usable h2 { color:var(--usable); }
.verdict.untrusted { border-left-color:var(--untrusted); } .verdict.untrusted h2 { color:var(--untrusted); }
.verdict ul { margin:6px 0; padding-left:22px; } .remedy { margin:8px 0 0; }
.scroll { overflow:auto; max-height:520px; }
table { border-collapse:collapse; font-size:14px; width:100%; }
th,td { padding:4px 10px; border-bottom:1px solid var(--line); text-align:left; vertical-align:top; }
th { position:sticky; top:0; background:#fff; color:var(--soft); font-weight:600; white-space:nowrap; }
td.n,th.n { text-align:right; font-variant-numeric:tabular-nums; white-space:nowrap; }
td.name { font-family:ui-monospace,"DejaVu Sans Mono",monospace; }
.ok { color:var(--trusted); font-weight:600; } .no { color:var(--untrusted); font-weight:600; }
.columns { display:grid; grid-template-columns:repeat(auto-fit,minmax(380px,1fr)); gap:0 18px; align-items:start; }
img { max-width:100%; height:auto; display:block; margin:6px auto; }
.note { color:var(--soft); font-size:13.5px; margin:8px 0 0; }
footer { color:var(--soft); font-size:13px; }
"""


class Html(str):
    """Text that is markup already; anything else is escaped where it is used."""


def text(value: Any) -> str:
    """A value as escaped text; markup as it is."""
    return value if isinstance(value, Html) else html.escape(str(value), quote=True)


def tag(name: str, *children: Any, **attributes: str) -> Html:
    """One element; `class_` stands for the attribute `class`."""
    given = "".join(f' {key.rstrip("_")}="{html.escape(value, quote=True)}"' for key, value in attributes.items())
    return Html(f"<{name}{given}>{''.join(text(child) for child in children)}</{name}>")


def table(headings: Iterable[str], rows: Iterable[Iterable[Any]], numeric: frozenset[int] | set[int]) -> Html:
    """A table; `numeric` are the columns that are set to the right. The first column holds names."""

    def kind(index: int) -> dict[str, str]:
        return {"class_": "n"} if index in numeric else {"class_": "name"} if index == 0 else {}

    head = tag("tr", *(tag("th", heading, **kind(i)) for i, heading in enumerate(headings)))
    body = [tag("tr", *(tag("td", cell, **kind(i)) for i, cell in enumerate(row))) for row in rows]
    return tag("div", tag("table", tag("thead", head), tag("tbody", *body)), class_="scroll")


def image(png: bytes, alt: str) -> Html:
    """A picture inside the page."""
    data = base64.b64encode(png).decode()
    return Html(f'<img alt="{html.escape(alt, quote=True)}" src="data:image/png;base64,{data}">')


def page(title: str, *children: Any) -> str:
    """The whole document: no script, nothing loaded from elsewhere."""
    head = tag("head", Html('<meta charset="utf-8"><meta name="viewport" content="width=device-width">'),
               tag("title", title), Html(f"<style>{STYLE}</style>"))  # fmt: skip
    return f'<!DOCTYPE html>\n<html lang="en">{head}{tag("body", tag("main", *children))}</html>\n'

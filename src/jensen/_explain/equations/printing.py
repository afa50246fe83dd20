"""Equations on a page: lines of text, lines of LaTeX, HTML tables, and a JSON-ready form."""

import html
import textwrap
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from jensen._explain.equations.render import BlockText, Equations, Line

BLOCKS = 40
"""Blocks that are printed."""
SHOWN = 12
"""Terms of one equation that are printed; of more, the first and the last."""


def block_lines(block: BlockText, width: int) -> list[str]:
    """A block as lines of text no wider than `width` where its terms allow it."""
    lines = [block.given]
    for line in block.conditional:
        whole = f"{line.opening}{_joined(line.parts)}{line.closing}"
        lines += _wrapped(f"    {line.left} {line.sign} ", whole, width)
    lines.append(block.head)
    for line in block.update:
        lines += _traced(line, width)
    return lines


def _joined(parts: Sequence[tuple[str, str]]) -> str:
    text = ""
    for _, part in parts:
        text += part if not text else f" - {part[1:]}" if part.startswith("-") else f" + {part}"
    return text


def _traced(line: Line, width: int) -> list[str]:
    """One parameter with the site of every term at the right."""
    start = f"    {line.left} {line.sign} {line.opening}"
    lines, indent = [], " " * (len(start) - 2)
    room = width - max((len(site) + 3 for site, _ in line.parts), default=0)
    for i, (site, part) in enumerate(line.parts):
        if SHOWN // 2 <= i < len(line.parts) - SHOWN // 2 and len(line.parts) > SHOWN:
            if i == SHOWN // 2:
                lines.append(f"{indent}+ … ({len(line.parts) - 2 * (SHOWN // 2)} more terms, each from its own site)")
            continue
        sign, body = ("- ", part[1:]) if part.startswith("-") and i else ("+ ", part)
        text = body + (line.closing if i == len(line.parts) - 1 else "")
        new = _wrapped(start if i == 0 else indent + sign, text, room)
        new[-1] = f"{new[-1]:<{room}} [{site}]" if site else new[-1]
        lines += new
    return lines


def _wrapped(start: str, text: str, width: int) -> list[str]:
    """Broken before a + or - that is not deep inside brackets, continued under the start of the text."""
    pieces, depth, last = [], 0, 0
    for i, letter in enumerate(text):
        depth += (letter in "([") - (letter in ")]")
        if depth <= 1 and i > last and text[i : i + 3] in (" + ", " - "):
            pieces.append(text[last:i])
            last = i + 1
    lines, current, room = [], start, max(20, width - len(start))
    for piece in [*pieces, text[last:]]:
        for part in textwrap.wrap(piece, room, break_long_words=False) or [piece]:
            glue = "" if current == start or not current.strip() else " "
            if len(current) + len(glue) + len(part) > width and current.strip() and current != start:
                lines.append(current)
                current, glue = " " * len(start), ""
            current += glue + part
    return [*lines, current]


def latex_lines(block: BlockText) -> list[str]:
    """A block as lines of an `align*` environment: the factor, then every parameter, each term with its site."""
    lines = [block.given]
    for line in block.conditional:
        lines.append(rf"{line.left} &{line.sign} {line.opening}{_joined(line.parts)}{line.closing}")
    lines.append(block.head)
    for line in block.update:
        for i, (site, part) in enumerate(line.parts):
            sign = "" if part[:1] == "-" else "+ "
            start = rf"{line.left} &{line.sign} {line.opening}" if i == 0 else rf"&\quad {sign}"
            end = line.closing if i == len(line.parts) - 1 else ""
            lines.append(rf"{start}{part}{end}" + (rf"\quad [{site}]" if site else ""))
    return lines


def legend(found: Equations) -> str:
    """What the indices run over and which arrays of constants are named, in one sentence."""
    runs = [f"{i} {what} ({n})" if what not in ("", i) else f"{i} ({n})" for i, (what, n) in found.indices.items()]
    arrays = [f"{name} {' × '.join(map(str, a.shape))} constants" for name, a in found.constants.items()]
    return ", ".join([*runs, *arrays])


def text_lines(found: Equations, width: int) -> list[str]:
    """All blocks, and what is not conjugate, as lines of text."""
    lines: list[str] = []
    if found.indices or found.constants:
        lines += textwrap.wrap(f"Indices: {legend(found)}.", width, subsequent_indent="  ")
    for block in found.blocks[:BLOCKS]:
        lines += ["", *block_lines(block, width)]
    if len(found.blocks) > BLOCKS:
        lines += ["", f"… and {len(found.blocks) - BLOCKS} more blocks."]
    for obstacle in found.obstacles:
        lines.append("")
        for text in (f"'{obstacle.site}' is not conjugate. {obstacle.what}", obstacle.where, obstacle.remedy):
            lines += textwrap.wrap(text, width, subsequent_indent="    ")
    return lines


def verdict(found: Equations) -> str:
    """One sentence: what coordinate ascent does with the model."""
    if found.conjugate:
        return 'method="cavi": every block below is set to its optimal factor in turn.'
    names = ", ".join(f"'{o.site}'" for o in found.obstacles)
    if not found.free:
        return f"The model is not wholly conjugate: {names}."
    free = ", ".join(f"'{name}'" for name in found.free)
    return (
        f'The model is not wholly conjugate: {names}. method="cavi" gives {free} a '
        "Gaussian on the unconstrained space, and the blocks below their optimal factors averaged over its draws."
    )


def html_parts(found: Equations) -> str:
    """The blocks and obstacles for a notebook."""
    out = [f"<p>Indices: {html.escape(legend(found))}.</p>"] if found.indices or found.constants else []
    for block in found.blocks[:BLOCKS]:
        rows = [_heading(block.given)]
        for line in block.conditional:
            rows.append(_row(line.left, line.sign, f"{line.opening}{_joined(line.parts)}{line.closing}", ""))
        rows.append(_heading(block.head))
        for line in block.update:
            for i, (site, part) in enumerate(line.parts):
                closing = line.closing if i == len(line.parts) - 1 else ""
                start = (line.left, line.sign, line.opening) if i == 0 else ("", "+", "")
                rows.append(_row(start[0], start[1], f"{start[2]}{part}{closing}", site))
        out.append(f"<table>{''.join(rows)}</table>")
    for obstacle in found.obstacles:
        words = f"'{obstacle.site}' is not conjugate. {obstacle.what} {obstacle.where} {obstacle.remedy}"
        out.append(f"<p>{html.escape(words)}</p>")
    return "".join(out)


def _heading(text: str) -> str:
    return f"<tr><td colspan='4' style='text-align:left'><b>{html.escape(text)}</b></td></tr>"


def _row(left: str, sign: str, text: str, site: str) -> str:
    cells = [("right", left), ("center", sign), ("left", text), ("left", site)]
    return "<tr>" + "".join(f"<td style='text-align:{side}'>{html.escape(t)}</td>" for side, t in cells) + "</tr>"


def as_dict(found: Equations) -> dict[str, Any]:
    """A JSON-ready form."""

    def lines(group: Sequence[Line]) -> list[dict[str, Any]]:
        return [
            {
                "parameter": line.left,
                "equation": f"{line.left} {line.sign} {line.opening}{_joined(line.parts)}{line.closing}",
                "terms": [{"site": site, "term": part} for site, part in line.parts],
            }
            for line in group
        ]

    return {
        "conjugate": found.conjugate,
        "gaussian": list(found.free),
        "blocks": [
            {
                "block": b.name,
                "complete_conditional": b.given,
                "conditional": lines(b.conditional),
                "factor": b.head,
                "update": lines(b.update),
            }
            for b in found.blocks
        ],
        "not_conjugate": [asdict(o) for o in found.obstacles],
        "indices": {letter: {"over": what, "size": size} for letter, (what, size) in found.indices.items()},
    }

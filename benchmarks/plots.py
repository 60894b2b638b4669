"""Bars, drawn as SVG."""

from collections.abc import Mapping
from html import escape

#: By group and bar: its value, and what part of the group's first bar it is, if that was measured.
Groups = Mapping[str, Mapping[str, tuple[float, float | None]]]

_WIDTH, _LABEL, _FIGURE, _BAR, _GAP, _MARGIN = 720, 170, 130, 18, 6, 20
_COLOURS = ("#8a94a6", "#1f6feb", "#2da44e", "#bf8700", "#8250df")
_STYLE = (
    "text{font:13px system-ui,sans-serif;fill:#1f2328}"
    ".title{font-size:16px;font-weight:600}.group{font-weight:600}.figure{fill:#57606a}"
)


def bars(title: str, unit: str, groups: Groups) -> str:
    """Return a plot of groups of bars."""
    longest = max(value for group in groups.values() for value, _ in group.values())
    scale = (_WIDTH - _LABEL - _FIGURE - 2 * _MARGIN) / longest
    parts, y = [_text(_MARGIN, 32, title, "title")], 44
    for name, group in groups.items():
        y += 2 * _GAP + _BAR
        parts.append(_text(_MARGIN, y - _GAP, name, "group"))
        for number, (label, (value, part)) in enumerate(group.items()):
            share = f" ({part:.2f})" if part is not None else ""
            colour = _COLOURS[number % len(_COLOURS)]
            parts.append(_bar(y, label, value * scale, f"{value:,.0f} {unit}{share}", colour))
            y += _BAR + _GAP
    return _page(y + _MARGIN, title, "\n".join(parts))


def _bar(y: float, label: str, width: float, figure: str, colour: str) -> str:
    left, middle = _MARGIN + _LABEL, y + _BAR * 0.75
    bar = (
        f'<rect x="{left}" y="{y}" width="{max(width, 1):.1f}" height="{_BAR}" rx="2"'
        f' fill="{colour}"/>'
    )
    return "\n".join((
        _text(_MARGIN + 12, middle, label),
        bar,
        _text(left + width + 8, middle, figure, "figure"),
    ))  # fmt: skip


def _text(x: float, y: float, text: str, kind: str = "") -> str:
    named = f' class="{kind}"' if kind else ""
    return f'<text x="{x:.1f}" y="{y:.1f}"{named}>{escape(text)}</text>'


def _page(height: float, title: str, content: str) -> str:
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height:.0f}"'
        f' width="{_WIDTH}" height="{height:.0f}" role="img">\n'
        f"<title>{escape(title)}</title>\n<style>{_STYLE}</style>\n"
        f'<rect width="100%" height="100%" rx="6" fill="#ffffff"/>\n{content}\n</svg>\n'
    )

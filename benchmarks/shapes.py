"""What pictures are made of: pieces of SVG."""

from html import escape


def text(x, y, text, *, size=12, anchor="start", colour="#222"):
    """Return a word or more of them, at a place."""
    place = f'x="{x:.1f}" y="{y:.1f}" font-size="{size}" text-anchor="{anchor}"'
    return f'<text {place} fill="{colour}">{escape(text)}</text>'


def line(x1, y1, x2, y2, colour="#222"):
    """Return a line between two places."""
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{colour}"/>'

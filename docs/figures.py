"""Draw two figures of concepts.md: what replay takes the place of, and what an interval of a difference holds.

`python docs/figures.py` writes them to docs/images/. The documents of the second one are simulated; its intervals are
those that scores and differences get. Same input, same bytes.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from cpt_ray.evaluate.intervals import Estimate, estimate, generator

IMAGES = Path(__file__).parent / "images"
INK, GREY, PALE, DOMAIN, GENERAL, GOOD = "#444", "#777", "#bbb", "#0072b2", "#d55e00", "#009e73"
ROWS = 40
"""Rows of a run in the figure of replay: 5 % are two of them."""
DOCUMENTS = 20
CONFIDENCE = 0.95


def _text(x: float, y: float, words: str, color: str = INK, anchor: str = "start", size: int | None = None) -> str:
    sized = f' font-size="{size}"' if size else ""
    return f'<text x="{x:g}" y="{y:g}" fill="{color}" text-anchor="{anchor}"{sized}>{words}</text>'


def _line(points: list[tuple[float, float]], color: str, width: float) -> str:
    drawn = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    return f'<polyline points="{drawn}" fill="none" stroke="{color}" stroke-width="{width:g}"/>'


def _dot(x: float, y: float, color: str, radius: float = 5) -> str:
    return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius:g}" fill="{color}"/>'


def _page(height: int, label: str, parts: list[str]) -> str:
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 760 {height}" role="img" aria-label="{label}"'
    ground = f'<rect width="760" height="{height}" fill="#fff"/>'
    return "\n".join([f'{head} font-family="sans-serif" font-size="13">', ground, *parts, "</svg>", ""])


def replay() -> str:
    """Rows of four runs of equal length, by the kind of their text."""
    parts = [_text(10, 22, "a run of equal tokens: replay takes the place of domain text, all along the run", size=15)]
    arms = (("domain, no replay", 0.0), ("domain, 5 % replay", 0.05), ("domain, 25 % replay", 0.25), ("control", 1.0))
    for place, (name, share) in enumerate(arms):
        y, general = 42 + 42 * place, round(ROWS * share)
        drawn = {int((number + 0.5) * ROWS / general) for number in range(general)}
        parts.append(_text(150, y + 18, name, anchor="end"))
        for row in range(ROWS):
            color = GENERAL if row in drawn else DOMAIN
            parts.append(f'<rect x="{160 + 11 * row}" y="{y}" width="10" height="26" fill="{color}"/>')
        parts.append(_text(612, y + 18, f"{1 - share:.2f} D of domain text", GREY, size=11))
    parts += [
        _line([(160, 212), (600, 212)], PALE, 1),
        _text(160, 228, "0", GREY, "middle", 11),
        _text(600, 228, "D tokens", GREY, "middle", 11),
        f'<rect x="160" y="246" width="12" height="12" fill="{DOMAIN}"/>',
        _text(178, 257, "rows of domain text"),
        f'<rect x="330" y="246" width="12" height="12" fill="{GENERAL}"/>',
        _text(348, 257, "rows of general text"),
        _text(
            10,
            285,
            "Held-out documents of both kinds and probes are in none of these rows: gain and forgetting are measured there.",
            GREY,
        ),
    ]
    return _page(300, "Rows of domain and general text in runs without replay, with 5 and 25 percent, and of a control", parts)


def simulated() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Bits per byte of documents under a base and a domain arm, and how another set changed, which hardly did."""
    random = np.random.default_rng(3)
    base = 0.95 + 0.2 * random.standard_normal(DOCUMENTS)
    return base, base - 0.08 + 0.06 * random.standard_normal(DOCUMENTS), 0.006 + 0.05 * random.standard_normal(DOCUMENTS)


def _estimate(values: np.ndarray, name: str) -> Estimate:
    return estimate(values[None], np.ones(DOCUMENTS), samples=4000, random=generator(0, name))


def intervals() -> str:
    """Documents under two models; the intervals of both scores, and those of differences."""
    base, arm, other = simulated()
    low, high = float(min(base.min(), arm.min())), float(max(base.max(), arm.max()))

    def height(value: float) -> float:
        return 250 - 180 * (value - low) / (high - low)

    parts = [
        _text(
            10, 22, f"the same {DOCUMENTS} documents under two models (simulated): they differ more than the models do", size=15
        )
    ]
    for before, after in zip(base, arm, strict=True):
        parts += [_line([(70, height(before)), (220, height(after))], PALE, 1), _dot(70, height(before), GREY, 3)]
        parts.append(_dot(220, height(after), DOMAIN, 3))
    parts += [_text(70, 272, "base", GREY, "middle"), _text(220, 272, "domain arm", DOMAIN, "middle")]
    parts += [_text(10, 50, "worse ↑", GREY, size=11), _text(10, 290, "a line is a document", GREY, size=11)]
    parts.append(_text(300, 62, "each score with its interval: they overlap", INK))
    scale, middle = 900, (float(base.mean()) + float(arm.mean())) / 2
    for y, name, values, color in ((84, "base", base, GREY), (108, "domain arm", arm, DOMAIN)):
        parts += _interval(_estimate(values, name), y, name, color, zero=560 - scale * middle, scale=scale)
    parts.append(_text(300, 150, "the difference, document by document", INK))
    parts += [_line([(520, 160), (520, 236)], PALE, 1), _text(520, 250, "0", GREY, "middle", 11)]
    gain, change = _estimate(arm - base, "gain"), _estimate(other, "change")
    parts += _interval(gain, 178, "domain text", GOOD, zero=520, scale=scale)
    parts.append(_text(640, 182, "a gain", GOOD, size=12))
    parts += _interval(change, 216, "probe", GENERAL, zero=520, scale=scale)
    parts.append(_text(640, 220, "not measurable", GENERAL, size=12))
    smallest = change.smallest_effect(CONFIDENCE) or 0.0
    parts += [_line([(520 + sign * scale * smallest, 206), (520 + sign * scale * smallest, 226)], GREY, 1) for sign in (-1, 1)]
    parts.append(_text(520, 272, "between the grey marks: effects that so few documents would often miss", GREY, "middle", 11))
    return _page(
        300,
        "Scores of two models whose intervals overlap, and paired differences whose intervals do not hold zero, or do",
        parts,
    )


def _interval(found: Estimate, y: float, name: str, color: str, *, zero: float, scale: float) -> list[str]:
    low, high = (zero + scale * end for end in found.bounds(CONFIDENCE))
    ends = [_line([(x, y - 5), (x, y + 5)], color, 2) for x in (low, high)]
    return [
        _text(300, y + 4, name, color, size=12),
        _line([(low, y), (high, y)], color, 2),
        *ends,
        _dot(zero + scale * found.value, y, color),
    ]


def figures() -> dict[str, str]:
    """File name to content."""
    return {"concept_replay.svg": replay(), "concept_intervals.svg": intervals()}


if __name__ == "__main__":
    for written, content in figures().items():
        (IMAGES / written).write_text(content, encoding="utf-8")

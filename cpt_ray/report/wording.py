"""Human-readable numbers and units.

Guarantee: numbers are rounded here and nowhere else, always the same way.
"""

from __future__ import annotations

from cpt_ray.records import MEASURES, Delta

MINUS = "\N{MINUS SIGN}"


def number(value: float | None, digits: int = 3) -> str:
    """Fixed digits, a true minus sign, a dash for None."""
    if value is None:
        return "\N{EN DASH}"
    text = f"{value:,.{digits}f}"
    return text.replace("-", MINUS) if float(text.replace(",", "")) else f"{0:.{digits}f}"


def signed(value: float | None, digits: int = 3) -> str:
    """As `number`, with a plus sign for positive values."""
    text = number(value, digits)
    return f"+{text}" if value is not None and value > 0 and text != f"{0:.{digits}f}" else text


def percent(value: float | None, digits: int = 1) -> str:
    """A signed percentage, from a value already in percent."""
    return f"{signed(value, digits)}\N{NO-BREAK SPACE}%" if value is not None else number(None)


def share(value: float | None, digits: int = 1) -> str:
    """A share of one as a percentage, without a plus sign."""
    return f"{100 * value:.{digits}f}\N{NO-BREAK SPACE}%" if value is not None else number(None)


def level(confidence: float) -> str:
    """A level of confidence, with as many digits as it has: 99.5 % is not 100 %."""
    return f"{100 * confidence:g}\N{NO-BREAK SPACE}%"


def integer(value: float | None) -> str:
    """A count with thousands separators."""
    return f"{value:,.0f}".replace("-", MINUS) if value is not None else number(None)


def count(value: float | None) -> str:
    """A count in k, M, B or T, with three digits."""
    if value is None:
        return number(None)
    for unit, size in (("T", 1e12), ("B", 1e9), ("M", 1e6), ("k", 1e3)):
        # 999,600 rounds to 1M, not to 1000k.
        if abs(value) >= size * 0.9995:
            return f"{value / size:.3g}{unit}".replace("-", MINUS)
    return (f"{value:.3g}" if value % 1 else f"{value:.0f}").replace("-", MINUS)


def byte_size(value: float) -> str:
    """Bytes in decimal units."""
    for unit, size in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if abs(value) >= size * 0.9995:
            return f"{value / size:.3g}\N{NO-BREAK SPACE}{unit}".replace("-", MINUS)
    return f"{value:.0f}\N{NO-BREAK SPACE}B".replace("-", MINUS)


def duration(seconds: float | None) -> str:
    """Seconds as `12.3 s`, `4 min 05 s` or `3 h 07 min`."""
    if seconds is None:
        return number(None)
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    if seconds < 3599.5:
        minutes, rest = divmod(round(seconds), 60)
        return f"{minutes} min {rest:02d} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes:02d} min"


def scientific(value: float | None, digits: int = 2) -> str:
    """Scientific notation, for FLOPs and differences."""
    return number(None) if value is None else f"{value:.{digits}e}".replace("-", MINUS)


def rate(value: float) -> str:
    """A rate, to three digits."""
    return f"{value:.3g}".replace("-", MINUS)


def delta_digits(delta: Delta) -> int:
    """Number of decimals for a delta's measure."""
    return MEASURES[delta.measure].decimals


def unit_of(delta: Delta) -> str:
    """The unit of a delta."""
    return MEASURES[delta.measure].unit


def measure_name(delta: Delta) -> str:
    """The measure in words."""
    return MEASURES[delta.measure].words


def judgement(delta: Delta) -> str:
    """Better, worse, not settled, not judged, or not measurable."""
    if delta.better is None:
        return "not settled" if delta.unsettled else "not judged" if delta.unjudged else "not measurable"
    return "better" if delta.better else "worse"

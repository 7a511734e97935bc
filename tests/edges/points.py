"""Made-up points, held-out losses, memory and events, in the form a study records."""

from typing import Any

from cpt_ray.records import Estimated, Fit, HeldOutPoint, Interval, MemoryPoint, Point, RunEvent

CONTROL = frozenset({"control"})


def point(tokens: int, value: float, arm: str | None, role: str = "domain", **changes: Any) -> Point:
    fields: dict[str, Any] = {
        "run": f"{arm}-{tokens}", "model": "m", "arm": arm, "seed": 0, "tokens_seen": tokens, "role": role,
        "set_name": "law" if role == "domain" else "news", "bits_per_byte": value, "annealed": True,
        "interval": Interval(low=value, high=value, confidence=0.95, kind="k"),
    }  # fmt: skip
    return Point(**{**fields, **changes})


POINTS = (point(0, 1.4, None), point(50, 1.3, "legal"), point(100, 1.2, "legal"), point(100, 1.39, "control"))


def _fit(kind: Any, **changes: Any) -> Fit:
    fields: dict[str, Any] = {
        "kind": kind, "formula": "E + ...", "model": "m", "arm": "legal", "set_name": "law", "role": "domain", "points": 4,
        "scores": 8, "seeds": 2, "degrees_of_freedom": 1,
    }  # fmt: skip
    return Fit(**{**fields, **changes})


FITS = (
    _fit(
        "tokens",
        parameters=(
            Estimated(name="E", value=0.7, low=0.6, high=0.8),
            Estimated(name="x0", value=1e6, low=None, high=None),
            Estimated(name="b", value=0.5, low=0.1, high=None),
        ),
        warnings=("4 points: a curve through so few fits almost anything",),
    ),
    _fit("size", model=None, refused="2 model sizes: a curve needs at least 3"),
)


def held_out(tokens: int, value: float) -> HeldOutPoint:
    return HeldOutPoint(
        attempt=1, step=tokens // 10, tokens_seen=tokens, source="law", role="domain", part="validation", documents=1,
        scored_tokens=10, scored_bytes=40, nats_per_token=2 * value, bits_per_byte=value, seconds=0.1,
    )  # fmt: skip


def memory(tokens: int, phase: str, host: int, most: int | None, device: int | None = None) -> MemoryPoint:
    return MemoryPoint(
        attempt=1, step=tokens // 10, tokens_seen=tokens, phase=phase, host_bytes=host, host_peak_bytes=most,
        host_peak_bytes_most=most, device_bytes=device, device_peak_bytes=device, device_peak_bytes_most=device,
    )  # fmt: skip


def event(kind: Any, tokens: int) -> RunEvent:
    return RunEvent(kind=kind, attempt=1, step=tokens // 10, tokens_seen=tokens, text="t")

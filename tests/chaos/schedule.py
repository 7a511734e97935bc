"""When to kill what: a schedule drawn from a seed, three quarters tied to training progress and the rest to the clock."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Literal

Victim = Literal["worker", "raylet", "driver"]
VICTIMS: tuple[Victim, ...] = ("worker", "raylet", "driver")


@dataclass(frozen=True)
class Kill:
    """One planned kill.

    Args:
        victim: What to kill.
        which: Selects one of several: a rank, or a node.
        steps: Kill once the workers started after the last kill have done this many steps; None: go by the clock.
        seconds: Kill this long after the last kill, whatever is running then.
        away_s: How long a killed node stays down.
    """

    victim: Victim
    which: int
    steps: int | None
    seconds: float
    away_s: float = 0.0

    def __str__(self) -> str:
        moment = f"{self.seconds:.1f} s after the last one" if self.steps is None else f"after {self.steps} steps"
        away = f", away for {self.away_s:.0f} s" if self.away_s else ""
        return f"{self.victim} {moment}{away}"


def draw_schedule(seed: int, *, kills: int, most_steps: int, most_seconds: float, away_s: float = 0.0) -> tuple[Kill, ...]:
    """Draw a schedule with equally many victims of each kind, in random order.

    Args:
        seed: The same seed draws the same schedule.
        kills: Number of kills.
        most_steps: Upper bound of `Kill.steps`.
        most_seconds: Upper bound of `Kill.seconds`.
        away_s: Upper bound of the time a killed node stays down.
    """
    draw = random.Random(seed)
    victims = [VICTIMS[number % len(VICTIMS)] for number in range(kills)]
    draw.shuffle(victims)
    clock = [number % 4 == 3 for number in range(kills)]
    draw.shuffle(clock)
    return tuple(
        Kill(
            victim=victim,
            which=draw.randrange(1000),
            steps=None if by_clock else draw.randint(1, most_steps),
            seconds=draw.uniform(0, most_seconds),
            away_s=draw.uniform(away_s / 2, away_s) if victim == "raylet" else 0.0,
        )
        for victim, by_clock in zip(victims, clock, strict=True)
    )

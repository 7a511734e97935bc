"""Sizes of a study for its hardware, text and time: budgets, batch, rows, ZeRO file, learning rate, each with its reason.

In: hardware, bases, amounts of text, hours or a budget. Out: `Sizes`. Rough on purpose: `cpt-ray plan` says what the study will
cost, and every number is a key of the file.

Guarantee: the same answers give the same sizes; what cannot work is refused, with what can.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from cpt_ray.cli.init.bases import Base
from cpt_ray.cli.init.hardware import Hardware
from cpt_ray.config.sections.evaluate import EvaluateConfig
from cpt_ray.config.values import format_count
from cpt_ray.errors import ConfigError

BYTES_PER_TOKEN = 4.2
KEPT = 0.6
"""Of raw text, what is left after cleaning, duplicates and held-out sets: low, so that a budget is not refused later."""
_WORKS = 0.9
"""Of the hours, the share that trains and scores; the rest prepares and starts."""
_SCORES = 0.2
"""Of the hours, the share that scores, unless the fewest documents take longer."""
_FEWEST_SCORED, _MOST_SCORED = 32, 500
"""Documents of a held-out set: fewer give intervals that say little, more than the default is for who asks for it."""
MOST_EPOCHS = 4.0
"""Muennighoff et al. 2023 (arXiv 2305.16264): up to four epochs are worth almost as much as new text."""
_FEWEST_STEPS = 6
_STEPS = 200
_MOST_BATCH_TOKENS = 524_288
_LOST_S = 300
"""Of training, what a lost machine may cost: a study of minutes would spend a fifth of its time on more checkpoints."""
_MOST_LOST = 50_000_000
"""Tokens."""
_HELD_OUT = 100
_STATES_SHARE = 0.7
"""Of a device's memory, what model states may take; the rest is for activations and buffers."""
_ZERO = (
    ("zero1_bf16.json", 6.0, 12.0, "model states fit on every device: least communication"),
    ("zero2_bf16.json", 2.0, 16.0, "gradients and optimizer are shared out over the devices"),
    ("zero3_bf16.json", 0.0, 18.0, "the weights are shared out too: they do not fit on one device"),
    ("zero3_bf16_offload_cpu.json", 0.0, 2.0, "the optimizer is in the memory of the host, 16 bytes a parameter: slower"),
)
"""File, bytes a parameter on each device, bytes a parameter over all devices (ds_configs/README.md), and when."""


@dataclass(frozen=True)
class Amounts:
    """How much text there is, and what the arms take of it."""

    domain_tokens: float
    general_tokens: float
    documents: float
    """Of the smallest source that is held out from."""
    replay: float
    """Share of general text in the domain arm."""
    runs: float
    """Tokens paid in all arms for each token of the largest budget."""
    models: int = 4
    """Models that are scored for each base: itself, each budget and the control."""
    sets: int = 4
    """Held-out sets that they are scored on, halves of domain text counted apart."""
    document_tokens: float = math.inf
    """Of a document, on average."""


@dataclass(frozen=True)
class Sizes:
    """Numbers of a study file, and why they are what they are, by name."""

    budget: int
    sequence_length: int
    global_batch_size: int
    deepspeed: str
    learning_rate: float
    factors: tuple[float, ...]
    """By model, the factor of its learning rate."""
    max_epochs: float
    held_out_share: float
    held_out_documents: int
    """Scored of each set."""
    hours: float
    """That all runs take, about."""
    gradient_checkpointing: bool
    lora: bool
    checkpoint_every: int
    why: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class _Pace:
    """What the hardware does in a second; hours become tokens by it, and tokens hours."""

    run: float
    """Tokens that one run trains on, of the largest model."""
    paid: float
    """Tokens of the largest budget, all runs of all models together."""
    scored: float
    """Documents of every held-out set, by all models."""

    @classmethod
    def of(cls, hardware: Hardware, bases: Sequence[Base], amounts: Amounts, length: int) -> _Pace:
        """6 FLOPs a parameter and trained token, 2 a scored one."""
        # On a CPU the file limits what is scored of a document to a row; elsewhere evaluate.document_tokens has its default.
        longest = EvaluateConfig.model_fields["document_tokens"].default if hardware.is_gpu else length
        tokens = min(amounts.document_tokens, longest) * amounts.sets * amounts.models
        flops, parameters = hardware.flops * hardware.devices, [base.parameters for base in bases]
        return cls(
            run=flops / (6 * max(parameters)),
            paid=flops / (6 * sum(parameters) * amounts.runs),
            scored=flops / (2 * sum(parameters) * tokens),
        )

    def tokens(self, hours: float) -> float:
        """Of the largest budget, in so many hours."""
        works_s = _WORKS * hours * 3600
        return max(0.0, works_s - self._scoring_s(works_s * _SCORES / _WORKS)) * self.paid

    def hours(self, tokens: float) -> float:
        """Of everything, for a largest budget of so many tokens."""
        return (tokens / self.paid + self.scoring_s(tokens)) / _WORKS / 3600

    def scoring_s(self, tokens: float) -> float:
        """Seconds of scoring that go with a budget."""
        return self._scoring_s(tokens / self.paid * _SCORES / (_WORKS - _SCORES))

    def _scoring_s(self, wanted_s: float) -> float:
        return min(_MOST_SCORED / self.scored, max(_FEWEST_SCORED / self.scored, wanted_s))


def size_study(
    hardware: Hardware, bases: Sequence[Base], amounts: Amounts, *, budget: int | None, hours: float | None, first_share: float
) -> Sizes:
    """Choose the sizes.

    Args:
        hardware: Where it runs.
        bases: The models.
        amounts: The text.
        budget: Tokens of the largest budget, if the user says so.
        hours: Else the hours that everything may take.
        first_share: The smaller budget as a share of the largest.

    Raises:
        ConfigError: If the hours are too few, the budget is more than the text gives, or no way to split a model fits.
    """
    why: dict[str, str] = {}
    largest = max(bases, key=lambda base: base.parameters)
    file, lora = _zero_file(largest, hardware, why)
    length = _row_length(hardware, bases, why)
    pace = _Pace.of(hardware, bases, amounts, length)
    fewest = int(_FEWEST_STEPS * max(4, hardware.devices) * length / first_share)
    tokens = budget if budget is not None else pace.tokens(hours or 0.0)
    if tokens < fewest:
        raise ConfigError(
            f"{_spent(budget, hours)} is too little: the largest budget of an arm is {format_count(tokens)} tokens, and "
            f"{_FEWEST_STEPS} steps to the first budget need {format_count(fewest)}",
            fix=f"give --hours {_longer(pace.hours(fewest))} or --budget {_more(fewest)}, a smaller base, or faster hardware",
        )
    tokens, epochs = _within_text(tokens, amounts, budget, fewest, why)
    rows = _batch(tokens * first_share, length, hardware, why)
    rates = [_learning_rate(base) for base in bases]
    scoring_s = pace.scoring_s(tokens)
    why["scored"] = f"about {_time(scoring_s / 3600)} for {amounts.models * len(bases)} models"
    share = min(0.2, max(0.02, _HELD_OUT / max(1.0, amounts.documents)))
    why["budget"] = (
        f"about {_time(pace.hours(tokens))} for all runs: {pace.paid:,.3g} tokens of the largest budget a second on {hardware} "
        f"(6 FLOPs a parameter and token), {_time(scoring_s / 3600)} of scoring, and {1 - _WORKS:.0%} for the rest"
    )
    why["held_out"] = f"about {share * amounts.documents:,.0f} of {amounts.documents:,.0f} documents of the smallest source"
    return Sizes(
        budget=_rounded(tokens),
        sequence_length=length,
        global_batch_size=rows,
        deepspeed=file,
        learning_rate=float(f"{min(rates):.0e}"),
        factors=tuple(float(f"{one / min(rates):.2g}") for one in rates),
        max_epochs=epochs,
        held_out_share=round(share, 3),
        held_out_documents=int(scoring_s * pace.scored + 1e-6),
        hours=pace.hours(tokens),
        gradient_checkpointing=hardware.is_gpu and largest.parameters > 1e9,
        lora=lora,
        checkpoint_every=int(min(_MOST_LOST, max(tokens / 4, _LOST_S * pace.run))),
        why=why,
    )


def _spent(budget: int | None, hours: float | None) -> str:
    return f"--budget {format_count(budget)}" if budget is not None else f"--hours {hours or 0:g}"


def _time(hours: float) -> str:
    return f"{hours:.2g} h" if hours >= 1 else f"{max(1, math.ceil(hours * 60))} min"


def _more(tokens: float) -> str:
    """A count of three digits, not below."""
    unit = 10 ** max(0, int(math.log10(tokens)) - 2)
    return format_count(math.ceil(tokens / unit) * unit)


def _longer(hours: float) -> str:
    """Hours, or minutes below two, not below."""
    return f"{math.ceil(hours * 60)}min" if hours < 2 else f"{math.ceil(hours)}h"


def _rounded(tokens: float) -> int:
    """Two significant digits, not above."""
    unit = 10 ** max(0, int(math.log10(tokens)) - 1)
    return int(tokens // unit * unit)


def _row_length(hardware: Hardware, bases: Sequence[Base], why: dict[str, str]) -> int:
    wanted = 2048 if hardware.is_gpu else 512
    context = min((base.context for base in bases if base.context), default=wanted)
    why["sequence_length"] = f"the base was made for {context} tokens" if context < wanted else (
        "long rows pay on a GPU; longer ones cost memory" if hardware.is_gpu else "short rows: on a CPU attention is slow"
    )  # fmt: skip
    return min(wanted, context)


def _within_text(tokens: float, amounts: Amounts, budget: int | None, fewest: int, why: dict[str, str]) -> tuple[float, float]:
    """The budget and the most epochs over any text: as much as there is text for."""
    needs = {"domain": (tokens * (1 - amounts.replay), amounts.domain_tokens), "general": (tokens, amounts.general_tokens)}
    if not amounts.general_tokens:
        del needs["general"]
    over, epochs = max(((name, need / (KEPT * there)) for name, (need, there) in needs.items()), key=lambda pair: pair[1])
    if epochs <= 1:
        why["max_epochs"] = "there is more text than the budget takes"
        return tokens, 1.0
    most = tokens * MOST_EPOCHS / epochs
    if epochs > MOST_EPOCHS:
        text = f"the {over} text (about {format_count(needs[over][1])} tokens, of which {KEPT:.0%} may be left after cleaning)"
        if budget is not None or most < fewest:
            works = f"give --budget {format_count(_rounded(most))}, or more text"
            if most < fewest:
                works = f"give about {math.ceil(fewest / most)} times as much text: {_more(fewest)} tokens is the least"
            raise ConfigError(
                f"a budget of {format_count(tokens)} tokens is {epochs:.0f} epochs over {text}; over {MOST_EPOCHS:g} epochs "
                "little is learned",
                fix=works,
            )
        why["capped"] = f"the hours would allow {format_count(tokens)}, but {text} gives no more in {MOST_EPOCHS:g} epochs"
        tokens = most
    why["max_epochs"] = "the text is repeated: up to 4 epochs are worth almost as much as new text (arXiv 2305.16264)"
    return tokens, MOST_EPOCHS


def _batch(tokens: float, length: int, hardware: Hardware, why: dict[str, str]) -> int:
    """Rows of a step: about two hundred steps to the smaller budget, at most half a million tokens, all devices alike."""
    wanted = min(_MOST_BATCH_TOKENS / length, max(4.0, tokens / length / _STEPS))
    rows = math.ceil((1 << int(math.log2(wanted))) / hardware.devices) * hardware.devices
    why["batch"] = f"{format_count(rows * length)} tokens a step, {tokens / rows / length:,.0f} steps to the smaller budget"
    return rows


def _zero_file(base: Base, hardware: Hardware, why: dict[str, str]) -> tuple[str, bool]:
    """The first way to split the model states that fits; the last resort is to train adapters."""
    room = _STATES_SHARE * hardware.memory_bytes
    for file, on_each, over_all, reason in _ZERO:
        needed = base.parameters * (on_each + over_all / hardware.devices)
        if file == _ZERO[1][0] and hardware.devices == 1:
            continue  # one device has nobody to share with
        if needed <= room and (hardware.is_gpu or "offload" not in file):
            why["deepspeed"] = f"{reason}; {needed / 1e9:.3g} of {hardware.memory_bytes / 1e9:.0f} GB"
            return file, False
    if 2.2 * base.parameters <= room:
        why["deepspeed"] = "one copy of the frozen weights on each device"
        return _ZERO[0][0], True
    smallest = 18 * base.parameters / hardware.devices / _STATES_SHARE / 1e9
    raise ConfigError(
        f"{base.base} with {format_count(base.parameters)} parameters does not fit on {hardware}, not even as adapters (LoRA)",
        fix=f"give devices with {smallest:.0f} GB, more of them (--hardware 8xh100), or a smaller base",
    )


def _learning_rate(base: Base) -> float:
    """About a tenth of the peak in pretraining: 2e-4 at 135M, 6e-5 at 1.5B, 3e-5 at 7B (docs/schedules.md)."""
    return min(1e-3, 3e-5 * math.pow(7e9 / base.parameters, 0.45))

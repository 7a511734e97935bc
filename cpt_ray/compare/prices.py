"""What predicted trainings would cost, at the pace of the runs that were measured.

In: `Answers`, and what a token of each model and arm cost. Out: the same with prices. Guarantee: without a known price nothing
is added.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from cpt_ray.records import Answers, Money


@dataclass(frozen=True)
class TokenPrices:
    """What a token cost in the runs of a study."""

    per_token: Mapping[tuple[str, str], float]
    """By model and arm."""
    currency: str
    basis: str
    """What the prices rest on, in words."""

    def of(self, model: str, arm: str, tokens: float | None) -> Money | None:
        """The price of training so many tokens; None where it is not known."""
        each = self.per_token.get((model, arm))
        return None if each is None or tokens is None else Money(amount=each * tokens, currency=self.currency)


def with_prices(answers: Answers, prices: TokenPrices | None) -> Answers:
    """Put a price to each prediction for a number of tokens.

    Args:
        answers: What the curves say.
        prices: None leaves them as they are.
    """
    if prices is None:
        return answers
    return answers.model_copy(
        update={
            "forecasts": tuple(
                one.model_copy(update={"price": prices.of(one.model, one.arm, one.tokens)}) for one in answers.forecasts
            ),
            "spendings": tuple(
                one.model_copy(
                    update={
                        "options": tuple(
                            option.model_copy(update={"price": prices.of(option.model, option.arm, option.tokens)})
                            for option in one.options
                        )
                    }
                )
                for one in answers.spendings
            ),
            "priced": prices.basis,
        }
    )

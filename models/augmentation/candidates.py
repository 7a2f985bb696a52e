"""Settings of uncertainty-based sampling: how many candidates of an image or a text are drawn, and which are trained.

Source: Algorithm 1 of Wu, Zhang, Valiant, Ré: On the Generalization Effects of Linear Transformations in Data
Augmentation (ICML 2020, arXiv:2005.00695). The choice itself is in `models.training.selection`.
"""

from typing import Literal, Self

from pydantic import Field, model_validator

from models.settings import KindSettings


class CandidateSettings(KindSettings):
    """The base class of policies that draw several candidates and train on those that their scores select."""

    candidates: int = Field(4, ge=1, le=64, description="random changes of each image or text, C")
    selected: int = Field(1, ge=1, le=64, description="candidates of each image or text that are trained, S")
    selection: Literal["highest", "proportional", "lowest"] = Field(
        "highest",
        description="highest: those with the highest score, as in the paper; proportional: drawn with replacement in "
        "proportion to the score, as in the authors' code; lowest: a control",
    )
    warmup: float = Field(
        0.0,
        ge=0,
        le=1,
        description="share of the training's steps before selection begins; until then the first candidates train",
    )

    @model_validator(mode="after")
    def _enough_candidates(self) -> Self:
        check_selected(self.candidates, self.selected)
        return self

    def selects(self, number: int, steps: int) -> bool:
        """Decide whether a step, counted from 0, of a training of so many steps scores and selects candidates."""
        return self.selected < self.candidates and number >= round(self.warmup * steps)


def check_selected(candidates: int, selected: int) -> None:
    """Check that no more candidates are selected than there are; raise ValueError otherwise."""
    if selected > candidates:
        raise ValueError(f"selected must be at most the number of candidates, {candidates}; got {selected}")

"""The base class of all settings: a frozen pydantic model."""

from pydantic import BaseModel, ConfigDict


class Settings(BaseModel):
    """Immutable settings that reject unknown names, numbers that are not finite, and long texts."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, str_max_length=1000)

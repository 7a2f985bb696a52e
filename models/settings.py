"""The base class of all settings: a frozen pydantic model."""

from pydantic import BaseModel, ConfigDict


class Settings(BaseModel):
    """Immutable settings that reject unknown names."""

    model_config = ConfigDict(frozen=True, extra="forbid")

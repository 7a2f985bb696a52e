"""The base class of all settings in `data_prep`."""

from pydantic import BaseModel, ConfigDict


class Settings(BaseModel):
    """Settings that cannot be changed after they are created, and that reject unknown names."""

    model_config = ConfigDict(frozen=True, extra="forbid")

"""The base of all settings."""

from pydantic import BaseModel, ConfigDict


class Settings(BaseModel):
    """Settings that cannot be changed once they are made, and that refuse a name they do not know."""

    model_config = ConfigDict(frozen=True, extra="forbid")

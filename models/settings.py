"""The base classes of all settings: frozen pydantic models."""

from typing import Any

from pydantic import BaseModel, ConfigDict


class Settings(BaseModel):
    """Immutable settings that reject unknown names, numbers that are not finite, and long texts."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, str_max_length=1000)


class KindSettings(Settings):
    """Settings of one of several kinds. A subclass adds a field `kind`, a literal with its own name."""

    @property
    def name(self) -> str:
        """The kind, with all settings that are not at their default: `svd`, `svd(rank=3)`."""
        kind: str = getattr(self, "kind")  # noqa: B009  every subclass has one, this class has none
        changed = [
            f"{field}={_text(getattr(self, field))}"
            for field, info in type(self).model_fields.items()
            if field != "kind" and getattr(self, field) != info.default
        ]
        return f"{kind}({', '.join(changed)})" if changed else kind


def _text(value: Any) -> str:
    if isinstance(value, tuple):
        return "+".join(_text(each) for each in value)
    return value.name if isinstance(value, KindSettings) else str(value)

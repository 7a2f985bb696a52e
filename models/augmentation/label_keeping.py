"""Which operations keep what a radiograph shows, and the refusal of those that do not.

Measured on the 984 boxes of ChestX-ray14 (`benchmarks/hidden_boxes.py`), and on grey values: `invert` and `solarize`
turn the grey scale, so that air is bright and bone dark; few bits leave a median of two grey levels. A flip from top to
bottom shows what no radiograph shows. A flip from left to right moves the heart to the other side; it is common, and it
is not refused.
"""

from models.augmentation.operations import Operation
from models.augmentation.policies import BasePolicy
from models.errors import SettingError

LEAST_BITS, LARGEST_SHIFT, LARGEST_CUTOUT = 5, 0.25, 0.25


def check_radiographs(policy: BasePolicy) -> None:
    """Check that a policy keeps what a radiograph shows, but for operations that the user allowed by name.

    Raises:
        SettingError: it contains an operation that does not.
    """
    operations = {operation.name: operation for slot in policy.slots for operation in slot.operations}
    reasons = {name: destroys_labels(operation) for name, operation in operations.items() if name not in policy.allowed}
    refused = [name for name, reason in reasons.items() if reason]
    if refused:
        more = f" ({refused[0]}; {', '.join(refused[1:])} harm alike)" if refused[1:] else ""
        names = ", ".join(refused)
        raise SettingError(
            f"the policy {policy.name} {reasons[refused[0]]}{more}: leave {names} out of its operations, or, if you "
            f"want that, write allow: [{names}]"
        )


def destroys_labels(operation: Operation) -> str | None:
    """Return what an operation does to a radiograph that no label survives, in words; None if it does nothing such."""
    least, most = operation.magnitudes
    match operation.name:
        case "invert" | "solarize":
            return "turns the grey scale of a radiograph, so that air looks like bone"
        case "vertical_flip":
            return "turns a radiograph upside down"
        case "posterize" if least < LEAST_BITS:
            return f"leaves {max(1, least):g} bits of a radiograph's grey values; findings need {LEAST_BITS}"
        case "translate_x" | "translate_y" if max(most, -least) > LARGEST_SHIFT:
            return f"shifts findings out of a radiograph, by {max(most, -least):.0%}; the limit is {LARGEST_SHIFT:.0%}"
        case "cutout" if most > LARGEST_CUTOUT:
            return f"cuts findings out of a radiograph, {most:.0%} of its side; the limit is {LARGEST_CUTOUT:.0%}"
    return None

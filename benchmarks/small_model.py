"""A small conv4 for benchmarks of what uses a registered model: trained on the phantom in seconds, as medmtl/1."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
REFERENCE = "medmtl/1"
TRAINING = """
data: {{size: {size}, phantom: {{patients: 60, size: 64}}}}
split: {{shares: [0.5, 0.2, 0.3]}}
training: {{epochs: 1}}
"""


def train_small_model(work: Path, size: int) -> dict[str, str]:
    """Train the model for images of `size` pixels a side; return the variables of commands that use it."""
    variables = os.environ | {"MEDMTL_HOME": str(work / "home"), "PYTHONPATH": str(ROOT)}
    (work / "train.yaml").write_text(TRAINING.format(size=size))
    command = [sys.executable, "-m", "flows.cli", "train", "--config", "train.yaml", "--out", "trained"]
    subprocess.run(command, cwd=work, env=variables, capture_output=True, check=True)
    return variables

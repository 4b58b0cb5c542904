"""What the optional scripts here share: importing OmniSafe on Python 3.11, and naming versions.

Run them with the python of an environment that holds OmniSafe 0.5.0, never with the course's own.
"""

import importlib.util
import os
import platform
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[2]
PACKAGES = ("omnisafe", "torch", "numpy", "scipy", "gymnasium", "safety-gymnasium", "mujoco")


def import_omnisafe() -> Any:
    """OmniSafe, once the course's shim has made Safety Gymnasium importable on Python 3.11."""
    shim = REPOSITORY / "kfcpo_lib" / "envs" / "safety_gym.py"
    spec = importlib.util.spec_from_file_location("safety_gym_shim", shim)
    assert spec is not None and spec.loader is not None
    spec.loader.exec_module(importlib.util.module_from_spec(spec))
    import omnisafe

    return omnisafe


def provenance() -> dict[str, Any]:
    """Versions, date and machine: what a stored number must be read with."""
    return {
        "date": time.strftime("%Y-%m-%d"),
        "python": platform.python_version(),
        "versions": {name: version(name) for name in PACKAGES},
        "cores": os.cpu_count(),
    }

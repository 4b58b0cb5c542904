"""How a benchmark shows and keeps its results."""

import datetime
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from kfcpo_lib.runs import git_revision, versions


def table(rows: Sequence[dict[str, Any]]) -> str:
    """The rows as text in aligned columns."""
    return str(pd.DataFrame(rows).to_string(index=False))


def save_results(folder: str, name: str, rows: Sequence[dict[str, Any]], **settings: Any) -> Path:
    """Write `NAME.json` with the rows, the settings, the versions, the date and the processors."""
    content = {
        "benchmark": name,
        "date": datetime.date.today().isoformat(),
        "processors": os.cpu_count(),
        "settings": settings,
        "versions": versions(),
        "git_revision": git_revision(),
        "rows": list(rows),
    }
    path = Path(folder) / f"{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    return path

"""What all tests share: one Hypothesis profile, and the stored results of `make test-full`."""

import importlib.metadata
import json
import os
import platform
import subprocess
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import hypothesis
import pytest

# No deadline: on shared cores a slow example says nothing. CI tries the same examples each time.
hypothesis.settings.register_profile(
    "course", deadline=None, print_blob=True, derandomize=bool(os.environ.get("CI"))
)
hypothesis.settings.load_profile("course")

OUTCOMES = ("passed", "failed", "error", "skipped", "xfailed", "xpassed")
STARTED = pytest.StashKey[float]()
PACKAGES = ("torch", "numpy", "mujoco", "gymnasium", "safety-gymnasium", "pytest")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--store-results", metavar="FILE", help="store a summary of this run as JSON")


def pytest_sessionstart(session: pytest.Session) -> None:
    session.config.stash[STARTED] = time.time()


def pytest_terminal_summary(terminalreporter: Any, exitstatus: int, config: pytest.Config) -> None:
    file = config.getoption("--store-results")
    if file is None:
        return
    seconds = time.time() - config.stash[STARTED]
    summary = {
        "date": time.strftime("%Y-%m-%d"),
        "exit_code": int(exitstatus),
        "seconds": round(seconds),
        "outcomes": {name: len(terminalreporter.getreports(name)) for name in OUTCOMES},
        "machine": machine(),
        "full": full_tests(terminalreporter.getreports("passed") + failures(terminalreporter)),
    }
    Path(file).write_text(json.dumps(summary, indent=2, ensure_ascii=False) + "\n", "utf-8")
    terminalreporter.write_line(f"stored in {file}")


def failures(terminalreporter: Any) -> list[pytest.TestReport]:
    return [*terminalreporter.getreports("failed"), *terminalreporter.getreports("error")]


def machine() -> dict[str, Any]:
    """What the results depend on: versions, the system, and the state of the repository."""
    revision = subprocess.run(
        ["git", "describe", "--always", "--dirty"], capture_output=True, text=True, check=False
    )
    return {
        "python": platform.python_version(),
        "packages": {name: importlib.metadata.version(name) for name in PACKAGES},
        "system": f"{platform.system()} {platform.machine()}",
        "cores": os.cpu_count(),
        "revision": revision.stdout.strip() or None,
    }


def full_tests(reports: Iterable[pytest.TestReport]) -> list[dict[str, Any]]:
    """The long tests one by one, with what they have noted by `record_property`."""
    return [
        {
            "test": report.nodeid,
            "outcome": report.outcome,
            "seconds": round(report.duration, 1),
            **dict(report.user_properties),
        }
        for report in sorted(reports, key=lambda report: report.nodeid)
        if "full" in report.keywords
    ]

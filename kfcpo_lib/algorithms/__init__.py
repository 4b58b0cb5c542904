"""The update rules, one file each.

A rule is a module with `Settings` (its own hyperparameters), `State` (what one update hands to the
next, and what a checkpoint saves) and `update(policy, batch, episodic_cost, knobs, state)`.
"""

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from kfcpo_lib.algorithms import (
    cpo,
    crpo,
    cup,
    kfcpo,
    p3o,
    pcpo,
    pcrpo,
    ppo,
    ppo_lag,
    trpo,
    trpo_lag,
)

RULES: dict[str, Any] = {
    "kfcpo": kfcpo,
    "cpo": cpo,
    "pcpo": pcpo,
    "trpo_lag": trpo_lag,
    "ppo_lag": ppo_lag,
    "cup": cup,
    "p3o": p3o,
    "crpo": crpo,
    "pcrpo": pcrpo,
    "trpo": trpo,
    "ppo": ppo,
}
"""KFCPO, its rivals, and the two that know no constraint."""


def find_rule(algorithm: str) -> Any:
    """The module of an update rule.

    Raises:
        ValueError: names the known ones.
    """
    if algorithm not in RULES:
        raise ValueError(f"unknown algorithm {algorithm!r}; known are {', '.join(RULES)}")
    return RULES[algorithm]


def rule_settings(algorithm: str, changes: Mapping[str, Any]) -> Any:
    """The rule's `Settings`, with some values other than its defaults.

    Raises:
        ValueError: on a setting that the rule does not have, or a value that is not allowed.
    """
    settings = find_rule(algorithm).Settings
    known = {f.name: f.type for f in fields(settings)}
    for name in changes:
        if name not in known:
            raise ValueError(
                f"{algorithm} has no setting {name!r}; it has {', '.join(known) or 'none'}"
            )
    return settings(**changes)

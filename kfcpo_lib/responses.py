"""What a weight of the cost does next: how return and cost change under it, in past trainings."""

from collections.abc import Iterable, Sequence
from itertools import pairwise

import pandas as pd

from kfcpo_lib.studies import thin

BLOCK = 5
"""Epochs that are averaged, so that a change is not the noise of single epochs."""


def responses(record: pd.DataFrame, block: int = BLOCK) -> pd.DataFrame:
    """Each block of epochs against the next one, a row a pair of neighbours.

    Args:
        record: a training's `progress.csv`.
        block: epochs in a block; what is left over at the end is not used.

    Returns:
        Columns `env_steps` (at the end of the first block), `cost` and `weight` (w_c) in it, and
        `return` and `episodic cost`, their changes to the next. The next block's weight is not
        used: it is made of that block's cost, the outcome.
    """
    blocks = len(record) // block
    now = thin(record.iloc[: blocks * block], blocks)
    following = now.shift(-1)
    pairs = pd.DataFrame(
        {
            "env_steps": now["env_steps"],
            "cost": now["episodic_cost_mean"],
            "weight": now["cost_weight"],
            "return": following["return_mean"] - now["return_mean"],
            "episodic cost": following["episodic_cost_mean"] - now["episodic_cost_mean"],
        }
    )
    return pairs.iloc[:-1]


def responses_near(
    records: Iterable[pd.DataFrame], costs: tuple[float, float], after: int
) -> pd.DataFrame:
    """The responses of all trainings from a cost within `costs`, once they have `after` steps.

    A further column, `training`, tells them apart by their place in `records`.
    """
    pairs = pd.concat(dict(enumerate(map(responses, records))), names=["training"])
    pairs = pairs.reset_index("training").reset_index(drop=True)
    return pairs[(pairs["env_steps"] >= after) & pairs["cost"].between(*costs)].dropna()


def by_weight(pairs: pd.DataFrame, edges: Sequence[float]) -> dict[str, pd.DataFrame]:
    """Bin of the weight, by name -> the responses in it, a row a training; empty bins are left out.

    A training counts once, with the mean of its pairs: they follow each other, so they are not
    independent. `blocks` says how many there are.
    """
    names = [f"{low:g} to {high:g}" for low, high in pairwise(edges)]
    bins = pd.cut(pairs["weight"], list(edges), labels=names)
    found = {}
    for name, rows in pairs.groupby(bins, observed=True):
        trainings = rows.groupby("training")
        changes = trainings[["return", "episodic cost"]].mean()
        found[str(name)] = changes.assign(blocks=trainings.size())
    return found

"""Pairs of geoms that may touch, listed once, so that no sub-step has to search for them.

MuJoCo looks in every sub-step for bodies that are near each other, then at the geoms of each such
pair. In a world of a few bodies, looking at all pairs of geoms is faster. Contacts come out in the
same order and with the same parameters, so no bit changes.
"""

from itertools import combinations
from typing import Any

import mujoco
import numpy as np

MOST_PAIRS = 128
"""With more pairs than this, MuJoCo's search is faster."""


def listable_pairs(model: Any) -> list[tuple[str, str]]:
    """Names of all pairs of geoms that can touch, in MuJoCo's order.

    Empty if there are too many, or if the world has rules of its own for contacts.
    """
    pairs = [pair for pair in combinations(range(model.ngeom), 2) if _can_touch(model, *pair)]
    # Geoms are numbered in the order of bodies; MuJoCo goes from body pair to body pair.
    pairs.sort(key=lambda pair: tuple(model.geom_bodyid[list(pair)]))
    names = [(_name(model, one), _name(model, other)) for one, other in pairs]
    plain = (
        not model.npair
        and not model.nexclude
        and (model.geom_priority == model.geom_priority[0]).all()
        and (model.geom_solref[:, 0] > 0).all()
        and (model.geom_solmix > 0).all()
        and all(all(pair) for pair in names)
    )
    return names if plain and len(names) <= MOST_PAIRS else []


def _name(model: Any, geom: int) -> str:
    return mujoco.mj_id2name(model, mujoco.mjtObj.mjOBJ_GEOM, geom) or ""


def _can_touch(model: Any, geom: int, other: int) -> bool:
    """MuJoCo's rules: by type and affinity; not in one body, nor with the body it hangs on."""
    type1, type2 = model.geom_contype[[geom, other]]
    affinity1, affinity2 = model.geom_conaffinity[[geom, other]]
    body1, body2 = model.body_weldid[model.geom_bodyid[[geom, other]]]
    parent1, parent2 = model.body_weldid[model.body_parentid[[body1, body2]]]
    hangs = body1 and body2 and (body1 == parent2 or body2 == parent1)
    return bool(body1 != body2 and not hangs and (type1 & affinity2 or type2 & affinity1))


def use_listed_pairs(model: Any) -> None:
    """Give the listed pairs the parameters that MuJoCo mixes for pairs that it finds itself."""
    for pair, (one, two) in enumerate(zip(model.pair_geom1, model.pair_geom2, strict=True)):
        geoms = [one, two]
        model.pair_dim[pair] = model.geom_condim[geoms].max()
        slide, spin, roll = model.geom_friction[geoms].max(axis=0)
        model.pair_friction[pair] = slide, slide, spin, roll, roll
        model.pair_margin[pair] = model.geom_margin[geoms].max()
        model.pair_gap[pair] = model.geom_gap[geoms].max()
        share = model.geom_solmix[one] / (model.geom_solmix[one] + model.geom_solmix[two])
        weights = np.array([share, 1 - share])
        model.pair_solref[pair] = _mix(weights, model.geom_solref[geoms])
        model.pair_solimp[pair] = _mix(weights, model.geom_solimp[geoms])
    model.opt.collision = mujoco.mjtCollision.mjCOL_PAIR


def _mix(weights: Any, values: Any) -> Any:
    return weights[0] * values[0] + weights[1] * values[1]

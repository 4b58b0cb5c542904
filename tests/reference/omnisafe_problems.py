"""Random small problems for OmniSafe's CPO and PCPO, and an oracle that knows nothing of them.

The problem: maximise g.v subject to c + b.v <= 0 and v.F.v/2 <= delta. `published_step` feeds it
to OmniSafe's own `_update_actor`, whose losses, Fisher product and line search are replaced by the
linear functions, F, and "take it", and its conjugate gradient by a dense solve (so that row D8 of
the ledger plays no part). `best_step` and `projected_step` solve it with SciPy in float64.
"""

import contextlib
import importlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from omnisafe_import import import_omnisafe
from scipy.optimize import minimize

import_omnisafe()
DELTA = 0.01
TOLERANCE = 1e-3  # of the trust region's radius, in the F-norm
SECOND_ORDER = "omnisafe.algorithms.on_policy.second_order."


@dataclass(frozen=True)
class Problem:
    """One linear-quadratic problem; q, r and s are products with F^-1."""

    g: np.ndarray
    b: np.ndarray
    fisher: np.ndarray
    c: float

    @property
    def q(self) -> float:
        return float(self.g @ np.linalg.solve(self.fisher, self.g))

    @property
    def r(self) -> float:
        return float(self.g @ np.linalg.solve(self.fisher, self.b))

    @property
    def s(self) -> float:
        return float(self.b @ np.linalg.solve(self.fisher, self.b))

    @property
    def case(self) -> int:
        """CPO's case by geometry: 3 and 2 safe (far, near), 1 and 0 unsafe (reachable, not)."""
        reachable = self.c**2 <= 2 * DELTA * self.s
        return (2 if reachable else 3) if self.c < 0 else (1 if reachable else 0)

    def distance(self, v: np.ndarray, w: np.ndarray) -> float:
        """F-norm of v - w over the radius of the trust region."""
        return float(np.sqrt((v - w) @ self.fisher @ (v - w) / (2 * DELTA)))


def random_problems(count: int, dimension: int, seed: int) -> Iterator[Problem]:
    """Gaussian g, b and F; c uniform within 1.5 times the reach of the trust region."""
    rng = np.random.default_rng(seed)
    for _ in range(count):
        root = rng.normal(size=(dimension, dimension))
        g, b = rng.normal(size=(2, dimension))
        problem = Problem(g, b, root @ root.T + 0.1 * np.eye(dimension), 0.0)
        reach = np.sqrt(2 * DELTA * problem.s)
        yield Problem(g, b, problem.fisher, rng.uniform(-1.5, 1.5) * reach)


def _solve(objective: np.ndarray, problem: Problem, start: np.ndarray, ball: bool) -> np.ndarray:
    """SLSQP in coordinates u where F is the identity and the trust region the unit ball.

    Minimises objective.u over the ball, or, without the ball, the distance to `objective`.
    """
    root = np.linalg.cholesky(problem.fisher)
    radius = np.sqrt(2 * DELTA)
    cost = np.linalg.solve(root, problem.b)
    scale = np.linalg.norm(cost)
    plane = {
        "type": "ineq",
        "fun": lambda u: -(problem.c / radius + cost @ u) / scale,
        "jac": lambda u: -cost / scale,
    }
    region = {"type": "ineq", "fun": lambda u: 1 - u @ u, "jac": lambda u: -2 * u}
    if ball:
        target, jacobian = (lambda u: objective @ u), (lambda u: objective)
    else:
        target, jacobian = (
            (lambda u: 0.5 * (u - objective) @ (u - objective)),
            (lambda u: u - objective),
        )
    options = {"ftol": 1e-14, "maxiter": 500}
    constraints = [plane, region] if ball else [plane]
    answer = minimize(
        target, start, jac=jacobian, constraints=constraints, method="SLSQP", options=options
    )
    return np.linalg.solve(root.T, answer.x * radius)


def best_step(problem: Problem) -> np.ndarray:
    """The exact CPO step; where no safe step is in reach, the one of least cost."""
    root = np.linalg.cholesky(problem.fisher)
    gain, cost = np.linalg.solve(root, problem.g), np.linalg.solve(root, problem.b)
    if problem.case == 0:
        u = -cost / np.linalg.norm(cost)
        return np.linalg.solve(root.T, u * np.sqrt(2 * DELTA))
    start = -cost / np.linalg.norm(cost) * 0.999
    return _solve(-gain / np.linalg.norm(gain), problem, start, ball=True)


def kkt_residual(problem: Problem, v: np.ndarray) -> float:
    """How far v is from satisfying the optimality conditions (0 at the optimum)."""
    active = [problem.fisher @ v]
    if abs(problem.c + problem.b @ v) < 1e-4 * np.sqrt(2 * DELTA * problem.s):
        active.append(problem.b)
    columns = np.stack(active, axis=1)
    multipliers, *_ = np.linalg.lstsq(columns, problem.g, rcond=None)
    gap = np.linalg.norm(columns @ multipliers - problem.g) / np.linalg.norm(problem.g)
    return float(max(gap, *(-np.minimum(multipliers, 0))))


def projected_step(problem: Problem) -> np.ndarray:
    """The exact PCPO step: TRPO's, then its KL projection on the half-space of safe steps."""
    root = np.linalg.cholesky(problem.fisher)
    u = np.linalg.solve(root, problem.g)
    u /= np.linalg.norm(u)
    return _solve(u, problem, u, ball=False)


class _Linear(torch.nn.Module):
    """An "actor" that is nothing but a vector of parameters."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.theta = torch.nn.Parameter(torch.zeros(size, dtype=torch.float64))

    def forward(self, _: Any) -> None:
        return None


class _Log(dict[str, Any]):
    """The three methods of OmniSafe's logger that `_update_actor` calls."""

    def __init__(self, ep_cost: float) -> None:
        super().__init__()
        self.ep_cost = ep_cost

    def store(self, data: dict[str, Any]) -> None:
        self.update(data)

    def log(self, *_: Any) -> None:
        """Nothing is printed."""

    def get_stats(self, _: str) -> tuple[float]:
        return (self.ep_cost,)


def published_step(
    algorithm: str, problem: Problem, *, negate_r: bool = False
) -> tuple[np.ndarray, dict[str, Any]]:
    """The step that OmniSafe's `algorithm` proposes, and what it logged (float64, limit 0).

    `negate_r` hands r with the other sign to CPO's `_step_direction`: ledger row D1 repaired, and
    nothing else.
    """
    module = importlib.import_module(SECOND_ORDER + algorithm.lower())
    algo, actor = object.__new__(getattr(module, algorithm)), _Linear(problem.g.size)
    g, b, fisher = (torch.as_tensor(part) for part in (problem.g, problem.b, problem.fisher))
    steps: list[np.ndarray] = []

    def take_it(step_direction: torch.Tensor, **_: Any) -> tuple[torch.Tensor, int]:
        steps.append(step_direction.numpy().copy())
        return step_direction, 1

    settings = SimpleNamespace(target_kl=DELTA, cg_iters=15, fvp_sample_freq=1, cost_limit=0.0)
    algo._cfgs = SimpleNamespace(algo_cfgs=settings)
    algo._actor_critic = SimpleNamespace(actor=actor, zero_grad=actor.zero_grad)
    algo._device, algo._logger = torch.device("cpu"), _Log(problem.c)
    algo._loss_pi = lambda *_: -(g * actor.theta).sum()
    algo._loss_pi_cost = lambda *_: (b * actor.theta).sum()
    algo._fvp = lambda vector: fisher @ vector
    algo._cpo_search_step = take_it
    if negate_r:
        original = algo._step_direction
        algo._step_direction = lambda **rest: original(**(rest | {"r": -rest["r"]}))
    iterative = module.conjugate_gradients
    module.conjugate_gradients = lambda _, vector, __: torch.linalg.solve(fisher, vector)
    try:
        algo._update_actor(*torch.zeros(5, 1))
    finally:
        module.conjugate_gradients = iterative
    return steps[0], dict(algo._logger)


@contextlib.contextmanager
def clamp_to_lower_end() -> Iterator[None]:
    """Ledger row D2 repaired: on an empty interval `torch.clamp` returns its lower end."""
    clamp = torch.clamp

    def repaired(data: torch.Tensor, low: Any = None, high: Any = None, **rest: Any) -> Any:
        if low is not None and high is not None and low > high:
            return torch.as_tensor(low, dtype=data.dtype)
        return clamp(data, low, high) if low is not None else clamp(data, **rest)

    torch.clamp = repaired
    try:
        yield
    finally:
        torch.clamp = clamp


def cpo_counts(count: int, dimension: int, seed: int) -> dict[str, Any]:
    """OmniSafe's CPO against the oracle: how often optimal, backwards, refused; by case and r."""
    variants = {
        "published": (False, False),
        "D1 repaired": (True, False),
        "D2 repaired": (False, True),
        "both repaired": (True, True),
    }
    counts: dict[str, Counter[str]] = {name: Counter() for name in variants}
    worst_kkt, cases_equal = 0.0, 0
    for problem in random_problems(count, dimension, seed):
        best = best_step(problem)
        if problem.case > 0:
            worst_kkt = max(worst_kkt, kkt_residual(problem, best))
        group = f"case {problem.case}" + (
            f", r {'>' if problem.r > 0 else '<'} 0" if problem.case in (1, 2) else ""
        )
        for name, (sign, clamp) in variants.items():
            with clamp_to_lower_end() if clamp else contextlib.nullcontext():
                step, log = published_step("CPO", problem, negate_r=sign)
            tally = counts[name]
            tally[f"{group}: problems"] += 1
            tally[f"{group}: optimal"] += problem.distance(step, best) < TOLERANCE
            tally[f"{group}: negative lambda"] += log["Misc/Lambda_star"] < 0
            tally[f"{group}: refused at any length"] += refused(problem, step)
            cases_equal += log["Misc/OptimCase"] == problem.case
    return {
        "problems": count,
        "dimension": dimension,
        "oracle_worst_kkt_residual": worst_kkt,
        "case_as_by_geometry": cases_equal / (count * len(variants)),
        "counts": {name: dict(sorted(tally.items())) for name, tally in counts.items()},
    }


def refused(problem: Problem, step: np.ndarray) -> bool:
    """Whether the line search must refuse the step however short, by its first-order signs."""
    if problem.case == 1:
        return bool(problem.b @ step > 0)
    return bool(problem.case == 2 and problem.g @ step < 0)


def pcpo_counts(count: int, seed: int) -> dict[str, Any]:
    """OmniSafe's PCPO against the oracle on the problems whose projection is active."""
    active = missed = optimal = outside = outside_right = 0
    cosines, inactive_cosines = [], []
    for problem in random_problems(count, 3, seed):
        right, (step, _) = projected_step(problem), published_step("PCPO", problem)
        product = right @ problem.fisher @ step
        norms = np.sqrt((right @ problem.fisher @ right) * (step @ problem.fisher @ step))
        reward = np.linalg.solve(problem.fisher, problem.g) * np.sqrt(2 * DELTA / problem.q)
        if problem.c + problem.b @ reward <= 0:
            inactive_cosines.append(product / norms)
            continue
        active += 1
        cosines.append(product / norms)
        optimal += problem.distance(step, right) < TOLERANCE
        slack = TOLERANCE * np.sqrt(2 * DELTA * problem.s)
        missed += bool(problem.c + problem.b @ step > slack)
        outside += bool(step @ problem.fisher @ step > 2 * DELTA * (1 + TOLERANCE))
        outside_right += bool(right @ problem.fisher @ right > 2 * DELTA * (1 + TOLERANCE))
    return {
        "problems": count,
        "projection_active": active,
        "equal_to_oracle": optimal,
        "linear_constraint_missed": missed,
        "outside_trust_region": outside,
        "oracle_outside_trust_region": outside_right,
        "median_F_cosine_with_oracle_active": float(np.median(cosines)),
        "median_F_cosine_with_oracle_inactive": float(np.median(inactive_cosines)),
    }

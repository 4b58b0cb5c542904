"""The rivals' updates against independent solvers, hand calculation and another implementation.

Mathematics in float64. Small dense problems are solved by SciPy's SLSQP, which knows nothing of
duals or cases; Hypothesis looks for scalars that break an invariant.
"""

import copy
import json
import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from rivals_point_mass import CONSTRAINED, UNCONSTRAINED, train_and_judge
from scipy.optimize import minimize

from kfcpo_lib.algorithms import (
    RULES,
    cpo,
    crpo,
    find_rule,
    first_order,
    p3o,
    pcpo,
    pcrpo,
    rule_settings,
    trpo,
    trpo_lag,
)
from kfcpo_lib.algorithms.multipliers import Margin, Multiplier, lagrangian_advantage
from kfcpo_lib.algorithms.second_order import (
    Scalars,
    Step,
    propose_and_search,
    squared_length,
    to_boundary,
    violation,
)
from kfcpo_lib.algorithms.surrogates import (
    Surrogates,
    clipped_cost,
    clipped_gain,
    surrogate_gradients,
    surrogates,
)
from kfcpo_lib.fisher import exact_fisher
from kfcpo_lib.gaussians import mean_kl
from kfcpo_lib.policies import GaussianPolicy
from kfcpo_lib.records import Knobs, UpdateReport
from kfcpo_lib.rollouts import Batch
from kfcpo_lib.streams import Streams
from kfcpo_lib.trust_region import flatten, move

Vector = NDArray[np.float64]
RIVALS = [name for name in RULES if name != "kfcpo"]
SECOND_ORDER = ["cpo", "pcpo", "trpo_lag", "crpo", "pcrpo", "trpo"]
FIRST_ORDER = ["ppo_lag", "cup", "p3o", "ppo"]
FEW_PASSES = {"passes": 3, "minibatch_size": 64}
REFERENCE = Path(__file__).parent / "reference"


# ---------------------------------------------------------------- small dense problems


class Problem(NamedTuple):
    """maximise g'v subject to c + b'v <= 0 and v'Fv / 2 <= delta, dense."""

    g: Vector
    b: Vector
    F: Vector
    c: float
    delta: float

    @property
    def scalars(self) -> Scalars:
        x, p = np.linalg.solve(self.F, self.g), np.linalg.solve(self.F, self.b)
        return Scalars(self.g @ x, self.g @ p, self.b @ p, self.c, self.delta)

    def vector(self, step: Step) -> Vector:
        x, p = np.linalg.solve(self.F, self.g), np.linalg.solve(self.F, self.b)
        return step.alpha * x - step.beta * p

    @property
    def trust_region(self) -> dict[str, Any]:
        return {"type": "ineq", "fun": lambda v: 1 - v @ self.F @ v / (2 * self.delta)}

    @property
    def half_space(self) -> dict[str, Any]:
        scale = np.abs(self.b).max()
        return {"type": "ineq", "fun": lambda v: -(self.c + self.b @ v) / scale}

    def solve(self, objective: Any, *constraints: dict[str, Any]) -> Vector:
        """SLSQP from several starts; the best feasible answer."""
        radius = math.sqrt(2 * self.delta / np.linalg.eigvalsh(self.F)[-1])
        answers = []
        for start in np.random.default_rng(1).normal(size=(3, len(self.g))):
            answer = minimize(
                objective,
                0.3 * radius * start / np.linalg.norm(start),
                constraints=constraints,
                method="SLSQP",
                options={"ftol": 1e-14, "maxiter": 500},
            )
            if all(c["fun"](answer.x) > -1e-7 for c in constraints):
                answers.append(answer)
        return min(answers, key=lambda a: a.fun).x


PLACES = {
    "far_inside": -1.5,
    "inside": -0.4,
    "at_limit": 0.0,
    "reachable": 0.4,
    "out_of_reach": 1.5,
}
"""c in units of sqrt(2 delta s): the distance of the boundary over the trust region's radius."""


def problems(place: str, count: int = 8) -> Iterator[Problem]:
    """Random problems of dimension 2 to 5; gradients agree or disagree at random."""
    rng = np.random.default_rng(sorted(PLACES).index(place))
    for k in range(count):
        size = 2 + k % 4
        root = rng.normal(size=(size, size))
        F = root @ root.T / size + 0.3 * np.eye(size)
        g, b = rng.normal(size=(2, size))
        delta = 0.5
        reach = math.sqrt(2 * delta * b @ np.linalg.solve(F, b))
        yield Problem(g, b, F, PLACES[place] * reach, delta)


@pytest.mark.parametrize("place", PLACES)
def test_cpo_solves_its_quadratic_program(place: str) -> None:
    seen = set()
    for problem in problems(place):
        step = problem.vector(cpo.coefficients(problem.scalars))
        found = cpo.case(problem.scalars)
        seen.add(found)
        if found == cpo.RECOVERY:
            best = problem.solve(lambda v, b=problem.b: b @ v, problem.trust_region)
        else:
            best = problem.solve(
                lambda v, g=problem.g: -g @ v, problem.trust_region, problem.half_space
            )
        np.testing.assert_allclose(step, best, atol=2e-4)
    expected = {
        "far_inside": {cpo.FREE},
        "out_of_reach": {cpo.RECOVERY},
    }.get(place, {cpo.FREE, cpo.BOUNDARY})
    assert seen == expected


@pytest.mark.parametrize("place", PLACES)
def test_pcpo_projects_the_reward_step(place: str) -> None:
    for problem in problems(place):
        step = problem.vector(pcpo.coefficients(problem.scalars))
        reward = problem.solve(lambda v, g=problem.g: -g @ v, problem.trust_region)

        def distance(v: Vector, problem: Problem = problem, reward: Vector = reward) -> float:
            return (v - reward) @ problem.F @ (v - reward)

        best = problem.solve(distance, problem.half_space)
        np.testing.assert_allclose(step, best, atol=1e-3)


@pytest.mark.parametrize("multiplier", [0.0, 0.7, 5.0])
def test_trpo_lag_takes_the_best_step_on_the_lagrangian(multiplier: float) -> None:
    for problem in problems("inside", 6):
        gradient = problem.g - multiplier * problem.b
        best = problem.solve(lambda v, gradient=gradient: -gradient @ v, problem.trust_region)
        step = problem.vector(trpo_lag.coefficients(problem.scalars, multiplier))
        np.testing.assert_allclose(step, best, atol=2e-4)


def test_pcrpo_projects_both_directions_as_vectors_do() -> None:
    for problem in problems("inside"):
        q, _, s, _, _ = problem.scalars
        x, p = np.linalg.solve(problem.F, problem.g), np.linalg.solve(problem.F, problem.b)
        reward, cost = x / math.sqrt(q), -p / math.sqrt(s)
        inner = reward @ problem.F @ cost
        if inner < 0:
            reward, cost = reward - inner * cost, cost - inner * reward
        blend = 0.3 * reward + 0.7 * cost
        blend *= math.sqrt(2 * problem.delta / (blend @ problem.F @ blend))
        step = problem.vector(pcrpo.coefficients(problem.scalars, pcrpo.MIXED, 0.7, True))
        np.testing.assert_allclose(step, blend, rtol=1e-9, atol=1e-12)


# ---------------------------------------------------------------- invariants of the scalar rules

positive = st.floats(1e-6, 1e6)
cosines = st.floats(-1.0, 1.0)
distances = st.floats(-3.0, 3.0)
"""c in units of sqrt(2 delta s)."""


@st.composite
def scalars(draw: st.DrawFn) -> Scalars:
    q, s, delta = draw(positive), draw(positive), draw(st.floats(1e-6, 1.0))
    return Scalars(
        q,
        draw(cosines) * math.sqrt(q * s),
        s,
        draw(distances) * math.sqrt(2 * delta * s),
        delta,
    )


def steps_within(given_scalars: Scalars) -> dict[str, Step]:
    """What every rule that promises to stay in the trust region proposes."""
    return {
        "trpo": trpo.coefficients(given_scalars),
        "trpo_lag": trpo_lag.coefficients(given_scalars, 0.8),
        "cpo": cpo.coefficients(given_scalars),
        "crpo": crpo.coefficients(given_scalars, 0.0),
        "pcrpo": pcrpo.coefficients(given_scalars, pcrpo.MIXED, 0.5, True),
        "pcrpo_as_they_are": pcrpo.coefficients(given_scalars, pcrpo.MIXED, 0.3, False),
    }


@given(scalars())
def test_no_rule_leaves_the_trust_region(drawn: Scalars) -> None:
    for name, step in steps_within(drawn).items():
        assert math.isfinite(step.alpha) and math.isfinite(step.beta), name
        # Nearly parallel gradients: a length is a difference of two numbers of this size.
        rounding = 1e-12 * (step.alpha**2 * drawn.q + step.beta**2 * drawn.s)
        assert squared_length(drawn, step) <= 2 * drawn.delta * (1 + 2e-6) + rounding, name


@given(scalars())
def test_cpo_and_pcpo_keep_the_linear_constraint_where_it_can_be_kept(drawn: Scalars) -> None:
    _, r, s, c, delta = drawn
    slack = 1e-6 * math.sqrt(2 * delta * s)
    step = pcpo.coefficients(drawn)
    assert c + step.alpha * r - step.beta * s <= slack
    step = cpo.coefficients(drawn)
    if cpo.case(drawn) == cpo.RECOVERY:
        assert step.alpha == 0 and step.alpha * r - step.beta * s < 0
        assert c >= math.sqrt(2 * delta * s)
    else:
        assert c + step.alpha * r - step.beta * s <= slack


@given(scalars(), st.floats(1e-3, 1e3), st.floats(1e-3, 1e3))
def test_units_of_reward_and_cost_do_not_matter(
    drawn: Scalars, of_reward: float, of_cost: float
) -> None:
    """Costs, their limit and rewards in other units: the same step v = alpha x - beta p."""
    q, r, s, c, delta = drawn
    changed = Scalars(of_reward**2 * q, of_reward * of_cost * r, of_cost**2 * s, of_cost * c, delta)
    for rule in (cpo.coefficients, pcpo.coefficients, trpo.coefficients, same_mix):
        before, after = rule(drawn), rule(changed)
        lengths = math.sqrt(2 * delta / q), math.sqrt(2 * delta / s)
        if borderline(drawn):
            continue
        assert after.alpha * of_reward == pytest.approx(
            before.alpha, rel=1e-6, abs=1e-6 * lengths[0]
        )
        assert after.beta * of_cost == pytest.approx(before.beta, rel=1e-6, abs=1e-6 * lengths[1])


def same_mix(given_scalars: Scalars) -> Step:
    return pcrpo.coefficients(given_scalars, pcrpo.MIXED, 0.5, True)


def borderline(drawn: Scalars) -> bool:
    """Rounding decides the case: gradients parallel, or the boundary touches the trust region."""
    q, r, s, c, delta = drawn
    sine = 1 - r * r / (q * s)
    return sine < 1e-5 or abs(abs(c) / math.sqrt(2 * delta * s) - 1) < 1e-6


@given(scalars())
def test_pcrpo_harms_neither_reward_nor_cost(drawn: Scalars) -> None:
    q, r, s, _, delta = drawn
    step = pcrpo.coefficients(drawn, pcrpo.MIXED, 0.5, True)
    if borderline(drawn):
        return
    assert step.alpha * q - step.beta * r >= -1e-9 * math.sqrt(2 * delta * q)
    assert step.alpha * r - step.beta * s <= 1e-9 * math.sqrt(2 * delta * s)


@given(scalars(), st.floats(-2.0, 2.0))
def test_pcrpo_with_equal_slacks_is_crpo(drawn: Scalars, multiple: float) -> None:
    slack = multiple * math.sqrt(2 * drawn.delta * drawn.s)
    zone = pcrpo.find_zone(drawn.c, slack, slack)
    assert zone != pcrpo.MIXED
    assert pcrpo.coefficients(drawn, zone, 0.5, True) == crpo.coefficients(drawn, slack)


def test_pcrpo_zones() -> None:
    """Reward alone up to the limit + h-, mixed up to the limit + h+, cost alone above."""
    zones = [pcrpo.find_zone(c, -0.005, 0.002) for c in (-math.inf, -0.006, -0.005)]
    assert zones == [pcrpo.REWARD] * 3
    assert [pcrpo.find_zone(c, -0.005, 0.002) for c in (-0.004, 0.0, 0.002)] == [pcrpo.MIXED] * 3
    assert pcrpo.find_zone(0.0021, -0.005, 0.002) == pcrpo.COST
    drawn = Scalars(4.0, 0.5, 1.0, 0.0, 0.02)
    assert pcrpo.coefficients(drawn, pcrpo.REWARD, 0.5, True) == trpo.coefficients(drawn)
    assert pcrpo.coefficients(drawn, pcrpo.COST, 0.5, True) == to_boundary(drawn, 0.0, 1.0)


def test_no_cost_gradient_no_reward_gradient_parallel_gradients() -> None:
    """s = 0, q = 0 and x parallel to p: no division by zero, and the step that makes sense."""
    free = math.sqrt(2 * 0.02 / 4.0)
    assert cpo.coefficients(Scalars(4.0, 0.0, 0.0, -1.0, 0.02)) == pytest.approx((free, 0))
    assert pcpo.coefficients(Scalars(4.0, 0.0, 0.0, 1.0, 0.02)) == pytest.approx((free, 0))
    assert cpo.coefficients(Scalars(4.0, 0.0, 0.0, 1.0, 0.02)) == (0, 0)  # nothing can be done
    # No reward gradient, unsafe, in reach: just back to the boundary.
    assert cpo.coefficients(Scalars(0.0, 0.0, 1.0, 0.1, 0.02)) == pytest.approx((0, 0.1))
    # Reward and cost rise together and c < 0: as far as the limit allows.
    alpha, beta = cpo.coefficients(Scalars(4.0, 2.0, 1.0, -0.1, 0.02))
    assert alpha * 2.0 - beta == pytest.approx(0.1)
    # Unknown cost: no constraint.
    unknown = Scalars(4.0, 2.0, 1.0, -math.inf, 0.02)
    assert cpo.coefficients(unknown) == pcpo.coefficients(unknown) == pytest.approx((free, 0))
    # One of the two gradients is missing in PCRPO's mixed zone: the other stands alone.
    assert same_mix(Scalars(4.0, 0.0, 0.0, 0.0, 0.02)) == pytest.approx((free, 0))
    assert same_mix(Scalars(0.0, 0.0, 1.0, 0.0, 0.02)) == pytest.approx((0, 2 * free))
    assert same_mix(Scalars(0.0, 0.0, 0.0, 0.0, 0.02)) == (0, 0)


# ---------------------------------------------------------------- multipliers


def adam_by_hand(start: float, rate: float, upper: float, violations: list[float]) -> list[float]:
    """Textbook Adam ascent on lambda * violation, clipped, in plain Python."""
    value, mean, square, values = start, 0.0, 0.0, []
    for t, excess in enumerate(violations, start=1):
        mean = 0.9 * mean + 0.1 * excess
        square = 0.999 * square + 0.001 * excess**2
        corrected = mean / (1 - 0.9**t), square / (1 - 0.999**t)
        value += rate * corrected[0] / (math.sqrt(corrected[1]) + 1e-8)
        value = min(max(value, 0.0), upper)
        values.append(value)
    return values


@pytest.mark.parametrize("upper", [math.inf, 0.1])
def test_multiplier_against_hand_calculation(upper: float) -> None:
    costs = [60.0, 45.0, 30.0, 20.0, 5.0, 5.0, 5.0, 5.0, 5.0, 5.0, 30.0, 300.0]
    multiplier = Multiplier(0.01, 0.035, upper)
    found = [multiplier.update(cost, 25.0) for cost in costs]
    expected = adam_by_hand(0.01, 0.035, upper, [cost - 25.0 for cost in costs])
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-7)


def test_multiplier_follows_the_reference_sequence() -> None:
    sequence = reference()[1]["multiplier_sequence"]
    multiplier = Multiplier(sequence["initial"], sequence["lr"])
    found = [multiplier.update(cost, sequence["cost_limit"]) for cost in sequence["ep_costs"]]
    np.testing.assert_allclose(found, sequence["after"], rtol=1e-6, atol=1e-8)


def test_multiplier_takes_numpys_numbers() -> None:
    plain, numpys = Multiplier(0.5, 0.035), Multiplier(0.5, 0.035)
    assert numpys.update(np.mean([30.0, 50.0]), 25.0) == plain.update(40.0, 25.0)


def test_multiplier_waits_for_the_first_episode_and_survives_a_checkpoint() -> None:
    multiplier = Multiplier(0.5, 0.035)
    assert multiplier.update(None, 25.0) == 0.5
    multiplier.update(40.0, 25.0)
    other = Multiplier(0.0, 0.035)
    other.load_state_dict(copy.deepcopy(multiplier.state_dict()))
    assert other.update(10.0, 25.0) == multiplier.update(10.0, 25.0)


def test_margin_sums_violations_between_zero_and_the_limit() -> None:
    margin = Margin(0.1)
    limits = [margin.update(cost, 25.0) for cost in (None, 35.0, 45.0, 25.0, 5.0, 5.0, 1000.0)]
    assert limits == pytest.approx([25.0, 24.0, 22.0, 22.0, 24.0, 25.0, 0.0])
    other = Margin(0.1)
    other.load_state_dict(margin.state_dict())
    assert other.update(15.0, 25.0) == margin.update(15.0, 25.0) == pytest.approx(1.0)


def test_lagrangian_advantage() -> None:
    reward, cost = torch.tensor([1.0, -2.0]), torch.tensor([0.5, 0.25])
    assert lagrangian_advantage(reward, cost, 3.0).tolist() == [-0.125, -0.6875]


# ---------------------------------------------------------------- clipped surrogates

numbers = st.lists(
    st.tuples(st.floats(0.5, 2.0), st.floats(-3.0, 3.0, allow_subnormal=False)),
    min_size=1,
    max_size=20,
)


@given(numbers)
def test_clipped_surrogates_against_a_loop(pairs: list[tuple[float, float]]) -> None:
    """Values and gradients by ratio, worked out case by case without autograd."""
    ratio = torch.tensor([p[0] for p in pairs], dtype=torch.float64, requires_grad=True)
    advantage = torch.tensor([p[1] for p in pairs], dtype=torch.float64)
    gain, cost = clipped_gain(ratio, advantage, 0.2), clipped_cost(ratio, advantage, 0.2)
    assert gain.shape == cost.shape == ratio.shape
    (slope_gain,) = torch.autograd.grad(gain.sum(), ratio, retain_graph=True)
    (slope_cost,) = torch.autograd.grad(cost.sum(), ratio)
    for k, (rho, a) in enumerate(pairs):
        clipped = min(max(rho, 0.8), 1.2) * a
        assert gain[k].item() == min(rho * a, clipped)
        assert cost[k].item() == max(rho * a, clipped)
        if rho in (0.8, 1.2) or abs(a) < 1e-300:  # a kink, or products that vanish
            continue
        assert slope_gain[k].item() == (
            0.0 if (rho > 1.2 and a > 0) or (rho < 0.8 and a < 0) else a
        )
        assert slope_cost[k].item() == (
            0.0 if (rho > 1.2 and a < 0) or (rho < 0.8 and a > 0) else a
        )


def test_clipped_surrogates_refuse_other_shapes() -> None:
    column, row = torch.ones(4, 1), torch.ones(4)
    for ratio, advantage in ((column, row), (row, column), (column, column)):
        with pytest.raises(ValueError, match=r"must both be \[B\]"):
            clipped_gain(ratio, advantage, 0.2)


def test_p3o_gate_is_closed_open_and_continuous() -> None:
    """No gradient while the limit is kept, kappa times the cost's beyond, no jump between."""
    change = torch.tensor(-0.02, dtype=torch.float64, requires_grad=True)
    closed = p3o.penalty(change, 0.01, 20.0)
    assert closed == 0 and torch.autograd.grad(closed, change)[0] == 0
    opened = p3o.penalty(change, 0.05, 20.0)
    assert opened.item() == pytest.approx(0.6)
    assert torch.autograd.grad(opened, change)[0] == 20
    around = [p3o.penalty(change, 0.02 + e, 20.0).item() for e in (-1e-9, 0.0, 1e-9)]
    assert around == pytest.approx([0, 0, 2e-8], abs=1e-15)
    assert p3o.penalty(change, -math.inf, 20.0) == 0


# ---------------------------------------------------------------- the frames, on a small policy


def small_policy(seed: int = 0, dtype: torch.dtype = torch.float64) -> GaussianPolicy:
    policy = GaussianPolicy(3, 2, (6,), generator=torch.Generator().manual_seed(seed)).to(dtype)
    with torch.no_grad():
        for parameter in policy.mean_net[-1].parameters():
            parameter.mul_(50.0)
    return policy


def small_batch(policy: GaussianPolicy, size: int = 200, seed: int = 1) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    dtype = policy.log_std.dtype

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator, dtype=dtype)

    obs = draw(size, 3)
    with torch.no_grad():
        distribution = policy(obs)
        noise = draw(size, 2)
        actions = distribution.mean + distribution.std * noise
        reward = noise[:, 0] + 0.3 * draw(size)
        cost = 0.05 * (noise[:, 0] - noise[:, 1] * obs[:, 0] + 0.3 * draw(size))
        log_prob = distribution.log_prob(actions)
    reward = (reward - reward.mean()) / reward.std()
    cost = cost - cost.mean()
    return Batch(obs, actions, log_prob, reward, cost, draw(size), draw(size), 100.0)


def fresh(algorithm: str, policy: GaussianPolicy, **settings: Any) -> tuple[Any, Any]:
    """The rule and its state, with short passes for the first-order ones."""
    rule = find_rule(algorithm)
    few = FEW_PASSES if algorithm in FIRST_ORDER else {}
    return rule, rule.State.start(
        policy, rule_settings(algorithm, few | settings), Streams.of_seed(0)
    )


def update_once(
    algorithm: str, episodic_cost: float | None = 40.0, **settings: Any
) -> tuple[torch.Tensor, UpdateReport]:
    """Change of the parameters [P], and the report, of one update on the small batch."""
    policy = small_policy()
    rule, state = fresh(algorithm, policy, **settings)
    before = flatten(policy.parameters()).detach()
    report = rule.update(policy, small_batch(policy), episodic_cost, Knobs(kl_limit=0.01), state)
    return flatten(policy.parameters()).detach() - before, report


def test_scalars_and_directions_against_dense_solves() -> None:
    """q, r, s and the proposed step, with the Fisher matrix written out."""
    policy = small_policy()
    batch = small_batch(policy)
    fisher = exact_fisher(policy, batch.obs) + 0.1 * torch.eye(40).double()
    g, b = surrogate_gradients(policy, batch)
    x, p = torch.linalg.solve(fisher, g), torch.linalg.solve(fisher, b)
    rule, state = fresh("cpo", policy)
    state.fisher.iterations = 60
    before = flatten(policy.parameters()).detach()
    report = rule.update(policy, batch, 25.5, Knobs(kl_limit=0.01), state)
    extra = report.extra
    dense = float(g @ x), float(g @ p), float(b @ p)
    assert [extra[name] for name in "qrs"] == pytest.approx(dense, rel=1e-8)
    assert extra["c"] == pytest.approx(0.5 / 100)
    step = (extra["alpha"] * x - extra["beta"] * p) * extra["fraction"]
    moved = flatten(policy.parameters()).detach() - before
    torch.testing.assert_close(moved, step, rtol=1e-7, atol=1e-10)


def test_cost_change_is_what_the_scalars_predict() -> None:
    """L_c(theta + e v) - L_c(theta) ~ e b'v and KL ~ e^2 v'Fv / 2, in the line search's own KL."""
    policy = small_policy()
    batch = small_batch(policy)
    old = policy(batch.obs).detach()
    b = surrogate_gradients(policy, batch).cost
    fisher = exact_fisher(policy, batch.obs)
    direction = torch.randn(len(b), generator=torch.Generator().manual_seed(3)).double()
    before = surrogates(old, batch).cost
    move(list(policy.parameters()), 1e-4 * direction)
    present = policy(batch.obs)
    change = (surrogates(present, batch).cost - before) / 1e-4
    assert change.item() == pytest.approx(float(b @ direction), rel=1e-2)
    expected = 0.5 * 1e-8 * float(direction @ fisher @ direction)
    assert mean_kl(old, present).item() == pytest.approx(expected, rel=1e-2)


@pytest.mark.parametrize("algorithm", RIVALS)
@pytest.mark.parametrize("episodic_cost", [None, 10.0, 40.0])
def test_updates_are_deterministic_and_finite(algorithm: str, episodic_cost: float | None) -> None:
    first, report = update_once(algorithm, episodic_cost)
    second, _ = update_once(algorithm, episodic_cost)
    assert torch.equal(first, second)
    assert first.isfinite().all() and first.abs().max() > 0
    assert report.nonfinite == 0 and report.kl > 0
    assert 0 <= report.cost_weight <= 1


@pytest.mark.parametrize("algorithm", RIVALS)
def test_a_checkpoint_continues_to_the_same_numbers(algorithm: str) -> None:
    policy = small_policy()
    rule, state = fresh(algorithm, policy)
    batch, knobs = small_batch(policy), Knobs()
    rule.update(policy, batch, 40.0, knobs, state)
    other_policy = copy.deepcopy(policy)
    _, other_state = fresh(algorithm, other_policy)
    other_state.load_state_dict(copy.deepcopy(state.state_dict()))
    other_state.generator.set_state(state.generator.get_state())
    rule.update(policy, batch, 40.0, knobs, state)
    rule.update(other_policy, batch, 40.0, knobs, other_state)
    for ours, theirs in zip(policy.parameters(), other_policy.parameters(), strict=True):
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize("algorithm", RIVALS)
@pytest.mark.parametrize("number", [math.nan, math.inf])
def test_numbers_that_are_not_finite_are_refused_and_counted(algorithm: str, number: float) -> None:
    policy = small_policy()
    batch = small_batch(policy)
    batch.advantage_reward[3] = number
    batch.advantage_cost[3] = number
    rule, state = fresh(algorithm, policy)
    before = flatten(policy.parameters()).detach().clone()
    report = rule.update(policy, batch, 40.0, Knobs(), state)
    assert report.nonfinite > 0
    after = flatten(policy.parameters()).detach()
    assert after.isfinite().all()
    if algorithm in SECOND_ORDER:
        assert torch.equal(before, after)


@pytest.mark.parametrize("algorithm", SECOND_ORDER)
@pytest.mark.parametrize("natural_gradient", ["cg", "kfac"])
def test_second_order_rules_stay_within_the_kl_limit(algorithm: str, natural_gradient: str) -> None:
    for episodic_cost in (10.0, 24.9, 25.1, 40.0):
        _, report = update_once(algorithm, episodic_cost, natural_gradient=natural_gradient)
        assert report.kl <= 0.01
        assert set(report.extra) >= {*"qrsc", "alpha", "beta", "fraction"}


def test_columns_are_the_same_in_every_epoch() -> None:
    """A table has one header: what a rule reports must not depend on what happened."""
    for algorithm in RIVALS:
        columns = {tuple(update_once(algorithm, cost)[1].extra) for cost in (None, 10.0, 40.0)}
        assert len(columns) == 1, algorithm


OF_SAFETY: dict[str, dict[str, float]] = {
    "trpo_lag": {"multiplier_start": 40.0},
    "ppo_lag": {"multiplier_start": 40.0},
    "cup": {
        "multiplier_start": 40.0,
        "multiplier_upper": 100.0,
        "projection_learning_rate": 1e-3,
    },
    "p3o": {"kappa": 100.0},
}
"""Weights at which these rules care for nothing else; the costs here are small."""


def test_safe_and_unsafe_rules_move_the_right_way() -> None:
    """Far above the limit the constrained rules lower the cost surrogate; TRPO raises it."""
    for algorithm in RIVALS:
        settings = OF_SAFETY.get(algorithm, {})
        policy = small_policy()
        batch = small_batch(policy)
        rule, state = fresh(algorithm, policy, **settings)
        rule.update(policy, batch, 60.0, Knobs(kl_limit=0.01), state)
        change = surrogates(policy(batch.obs), batch).cost.item()
        assert (change > 0) == (algorithm in ("trpo", "ppo")), algorithm


def test_line_search_shortens_by_powers_of_four_fifths_and_restores() -> None:
    policy = small_policy()
    batch = small_batch(policy)
    _, state = fresh("trpo", policy)
    before = flatten(policy.parameters()).detach().clone()
    asked: list[float] = []

    def never(_: Scalars, change: Surrogates) -> bool:
        asked.append(float(flatten(policy.parameters()).detach().sub(before).norm()))
        return False

    report = propose_and_search(policy, batch, 0.0, 0.01, state, trpo.coefficients, never)
    assert len(report.minibatches) == 15 and report.kl == 0 and report.extra["fraction"] == 0
    assert asked[3] == pytest.approx(0.8 * asked[2], rel=1e-9)
    assert torch.equal(flatten(policy.parameters()).detach(), before)


def test_a_step_beyond_the_trust_region_is_cut_to_its_boundary() -> None:
    """PCPO's projection may leave it; fifteen trials of 0.8 would not bring it back from afar."""
    policy = small_policy()
    batch = replace(small_batch(policy), episode_length=0.1)  # c = 150, far out of reach
    rule, state = fresh("pcpo", policy)
    report = rule.update(policy, batch, 40.0, Knobs(kl_limit=0.01), state)
    scalars = Scalars(*(report.extra[n] for n in "qrsc"), 0.01)  # type: ignore[call-arg]
    asked, reported = rule.coefficients(scalars), Step(report.extra["alpha"], report.extra["beta"])
    assert squared_length(scalars, asked) > 100 * 0.02
    assert squared_length(scalars, reported) == pytest.approx(0.02)
    assert reported.alpha / reported.beta == pytest.approx(asked.alpha / asked.beta)
    assert 0.2 * 0.01 < report.kl <= 0.01


def test_fisher_of_a_subset_is_drawn_anew_each_epoch() -> None:
    policy = small_policy()
    _, state = fresh("trpo", policy, fisher_states=20)
    seen: list[torch.Tensor] = []
    state.fisher.update_factors = seen.append
    obs = small_batch(policy).obs
    state.look_at(obs)
    state.look_at(obs)
    assert [len(s) for s in seen] == [20, 20] and not torch.equal(*seen)


def test_ppo_stops_after_the_pass_that_exceeds_the_limit() -> None:
    policy = small_policy()
    batch = small_batch(policy)
    rule, state = fresh("ppo", policy, passes=30, learning_rate=3e-3)
    report = rule.update(policy, batch, None, Knobs(kl_limit=0.003), state)
    kls = [row.kl for row in report.minibatches]
    assert 1 < len(kls) < 30
    assert all(kl <= 0.003 for kl in kls[:-1]) and kls[-1] > 0.003
    assert report.kl == kls[-1]


def test_cup_without_multiplier_projects_nowhere() -> None:
    """With lambda = 0 the second stage starts at its minimum; Adam's averages alone move it."""
    policy = small_policy()
    batch = small_batch(policy)
    present = policy(batch.obs)
    loss = present.kl(present.detach()).mean()
    gradient = flatten(torch.autograd.grad(loss, list(policy.parameters())))
    assert gradient.abs().max() < 1e-12
    moved, report = update_once("cup", 10.0, multiplier_start=0.0)
    assert report.extra["multiplier"] == 0 and moved.abs().max() > 0


def test_violation_is_per_step_and_unknown_at_first() -> None:
    batch = small_batch(small_policy())
    assert violation(35.0, 25.0, batch) == pytest.approx(0.1)
    assert violation(None, 25.0, batch) == -math.inf


def test_settings_are_checked() -> None:
    bad = [
        ("cpo", {"natural_gradient": "lbfgs"}),
        ("trpo", {"damping": -1.0}),
        ("trpo", {"damping": math.nan}),
        ("trpo", {"fisher_states": 0.5}),
        ("trpo", {"line_search_trials": 0}),
        ("trpo", {"line_search_trials": 2.5}),
        ("pcrpo", {"slack_low": math.nan}),
        ("pcrpo", {"slack_high": math.inf}),
        ("pcrpo", {"slack_low": 3.0, "slack_high": -3.0}),
        ("pcrpo", {"cost_weight": 1.5}),
        ("ppo", {"passes": 0}),
        ("ppo", {"passes": 2.5}),
        ("ppo", {"minibatch_size": 64.0}),
        ("ppo", {"learning_rate": math.inf}),
        ("ppo", {"ratio_clip": 0.0}),
        ("cup", {"projection_learning_rate": 0.0}),
        ("p3o", {"unknown": 1}),
        ("p3o", {"kappa": 0.0}),
        ("cpo", {"margin_rate": -0.1}),
        ("pcpo", {"margin_rate": math.nan}),
        ("crpo", {"tolerance": -1.0}),
        ("trpo_lag", {"multiplier_start": -0.1}),
        ("trpo_lag", {"multiplier_learning_rate": 0.0}),
        ("ppo_lag", {"multiplier_start": -0.1}),
        ("ppo_lag", {"multiplier_learning_rate": -1.0}),
        ("cup", {"multiplier_upper": -1.0}),
        ("cup", {"cost_factor": -5.0}),
    ]
    for algorithm, settings in bad:
        with pytest.raises(ValueError):
            rule_settings(algorithm, settings)
    with pytest.raises(ValueError, match="known are kfcpo, cpo, pcpo"):
        find_rule("sac")


# ---------------------------------------------------------------- another implementation's steps


def reference() -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    """OmniSafe 0.5.0's own steps on one fixed batch (tests/reference/omnisafe_steps.py)."""
    arrays = np.load(REFERENCE / "omnisafe_steps.npz")
    return dict(arrays), json.loads((REFERENCE / "omnisafe_steps.json").read_text())


@pytest.fixture(scope="module", name="omnisafe")
def _omnisafe() -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    return reference()


RULE_OF = {
    "TRPO": "trpo",
    "TRPOLag": "trpo_lag",
    "OnCRPO": "crpo",
    "PPOLag": "ppo_lag",
    "CUP": "cup",
    "P3O": "p3o",
    "CPO": "cpo",
    "PCPO": "pcpo",
}
LAGRANGIAN = {"multiplier_start": 0.5}
TWO_PASSES = {"passes": 2, "minibatch_size": 250, "learning_rate": 3e-4}
ACT_DIM = 2
"""Its KL and damping of the second-order rules are means over action dimensions: twice ours."""
SETTINGS_OF: dict[str, dict[str, Any]] = {
    "trpo": {"damping": 0.1 * ACT_DIM},
    "cpo": {"damping": 0.1 * ACT_DIM},
    "pcpo": {"damping": 0.1 * ACT_DIM},
    "crpo": {"damping": 0.1 * ACT_DIM, "tolerance": 2.0},
    "trpo_lag": {"damping": 0.1 * ACT_DIM} | LAGRANGIAN,
    "ppo_lag": TWO_PASSES | LAGRANGIAN,
    "cup": TWO_PASSES | LAGRANGIAN,
    "p3o": TWO_PASSES,
}
KL_LIMIT_OF = {"cup": 0.01}


def both_steps(
    omnisafe: tuple[dict[str, NDArray[Any]], dict[str, Any]],
    name: str,
    monkeypatch: pytest.MonkeyPatch,
) -> tuple[torch.Tensor, torch.Tensor, UpdateReport]:
    """Our step and OmniSafe's on the same network, batch and minibatch order."""
    arrays, record = omnisafe
    case = record["cases"][name]
    algorithm = RULE_OF[case["algorithm"]]
    tensors = {key: torch.tensor(arrays[key]) for key in ("theta", "obs", "act", "adv_r", "adv_c")}
    target, log_prob = torch.tensor(arrays["target_value_r"]), torch.tensor(arrays[case["logp"]])
    policy = GaussianPolicy(12, 2, (64, 64))
    torch.nn.utils.vector_to_parameters(tensors["theta"].clone(), policy.parameters())
    batch = Batch(
        tensors["obs"],
        tensors["act"],
        log_prob,
        tensors["adv_r"],
        case["cost_sign"] * tensors["adv_c"],
        target,
        target,
        1.0,
    )
    passes = iter(torch.tensor(arrays["order"].astype(np.int64)))
    monkeypatch.setattr(
        first_order, "minibatches", lambda size, minibatch, _: iter(next(passes).split(minibatch))
    )
    rule, state = fresh(algorithm, policy, **SETTINGS_OF[algorithm])
    if algorithm == "cup":
        state.projection.optimiser = state.optimiser  # its two stages share Adam's averages
    limit = 1e-12 if name.endswith("_step") else 25.0
    kl_limit = case["settings"]["algo_cfgs"].get("target_kl", KL_LIMIT_OF.get(algorithm, 0.02))
    report = rule.update(
        policy, batch, case["ep_cost"], Knobs(kl_limit=kl_limit, cost_limit=limit), state
    )
    ours = flatten(policy.parameters()).detach() - tensors["theta"]
    if f"{name}/theta_after" in arrays:
        theirs = torch.tensor(arrays[f"{name}/theta_after"]) - tensors["theta"]
    else:
        theirs = case["fraction"] * torch.tensor(arrays[f"{name}/step"])
    return ours.double(), theirs.double(), report


def relative(ours: torch.Tensor, theirs: torch.Tensor) -> float:
    return float((ours - theirs).norm() / theirs.norm())


def cosine_of(ours: torch.Tensor, theirs: torch.Tensor) -> float:
    return float(ours @ theirs / (ours.norm() * theirs.norm()))


@pytest.mark.parametrize(
    "name",
    [
        "ppo_lag_unsafe",
        "ppo_lag_safe",
        "ppo_lag_stopped",
        "ppo_lag_clipped",
        "cup_unsafe",
        "cup_safe",
        "p3o_safe",
    ],
)
def test_first_order_steps_are_omnisafes(
    omnisafe: Any, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours, theirs, report = both_steps(omnisafe, name, monkeypatch)
    assert relative(ours, theirs) < 1e-5
    case = omnisafe[1]["cases"][name]
    if "multiplier_after" in case:
        assert report.extra["multiplier"] == pytest.approx(case["multiplier_after"], rel=1e-6)
    if name == "ppo_lag_stopped":
        assert len(report.minibatches) == case["passes"] == 1


SECOND_ORDER_CASES = [
    "trpo",
    "trpo_lag_unsafe",
    "trpo_lag_safe",
    "crpo_unsafe",
    "crpo_safe",
    "cpo_conflict_far_step",
    "cpo_aligned_far_step",
    "cpo_conflict_unreachable_step",
    "cpo_aligned_unreachable_step",
]
"""Where the published code is right. CPO's other cases and PCPO differ: ledger rows D1 to D4."""


@pytest.mark.parametrize("name", SECOND_ORDER_CASES)
def test_second_order_steps_point_where_omnisafes_do(
    omnisafe: Any, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is left is its conjugate gradient, which adds 1e-6 to both denominators (D8)."""
    ours, theirs, _ = both_steps(omnisafe, name, monkeypatch)
    assert cosine_of(ours, theirs) > 0.999


@pytest.mark.parametrize("name", [n for n in SECOND_ORDER_CASES if "lag" not in n])
def test_second_order_steps_are_omnisafes_with_its_conjugate_gradient(
    omnisafe: Any, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def theirs_solve(operator: Any, target: torch.Tensor, iterations: int = 15) -> torch.Tensor:
        """Its F is half of ours, and 1e-6 is added in both ratios."""
        solution, residual = torch.zeros_like(target), target.clone()
        direction, squared = target.clone(), target @ target
        for _ in range(iterations):
            image = operator(direction) / ACT_DIM
            stride = squared / (direction @ image + 1e-6)
            solution, residual = solution + stride * direction, residual - stride * image
            previous, squared = squared, residual @ residual
            if squared.sqrt() < 1e-10:
                break
            direction = residual + squared / (previous + 1e-6) * direction
        return solution / ACT_DIM

    monkeypatch.setattr("kfcpo_lib.fisher.conjugate_gradient", theirs_solve)
    ours, theirs, _ = both_steps(omnisafe, name, monkeypatch)
    assert relative(ours, theirs) < 1e-3


@pytest.mark.parametrize("place", ["near", "reachable"])
def test_omnisafes_cpo_finds_no_step_where_ours_does(
    omnisafe: Any, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ledger D1 and D2: with c per step its sign of r and its clamp leave it standing still."""
    ours, theirs, report = both_steps(omnisafe, f"cpo_conflict_{place}_step", monkeypatch)
    assert report.extra["case"] == cpo.BOUNDARY and report.extra["fraction"] == 1.0
    assert theirs.norm() == 0 and ours.norm() > 0


def test_omnisafes_pcpo_follows_the_plain_gradient(
    omnisafe: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ledger D4: far inside the limit its step is g, ours is x = F^-1 g."""
    ours, theirs, _ = both_steps(omnisafe, "pcpo_conflict_far_step", monkeypatch)
    arrays = omnisafe[0]
    g, x = (torch.tensor(arrays[f"{kind}_r"]).double() for kind in ("gradient", "natural"))
    assert cosine_of(theirs, g) > 0.999 and cosine_of(ours, x) > 0.999
    assert cosine_of(ours, theirs) < 0.7


# ---------------------------------------------------------------- the point-mass world


@pytest.mark.parametrize("algorithm", CONSTRAINED)
def test_constrained_rules_learn_inside_the_limit(algorithm: str, tmp_path: Path) -> None:
    """The first policies earn 0.3 at a cost of 20; the limit is 10."""
    outcome = train_and_judge(algorithm, seed=0, steps=200_000, folder=tmp_path)
    assert outcome.inside, outcome
    assert outcome.episode_return > 0.8, outcome


@pytest.mark.parametrize("algorithm", UNCONSTRAINED)
def test_unconstrained_rules_earn_more_outside_it(algorithm: str, tmp_path: Path) -> None:
    outcome = train_and_judge(algorithm, seed=0, steps=150_000, folder=tmp_path)
    assert outcome.outside, outcome
    assert outcome.episode_return > 5.0, outcome

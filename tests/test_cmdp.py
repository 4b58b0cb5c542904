"""The exact solution of tabular CMDPs, against enumeration, simulation and duality."""

import itertools

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from kfcpo_lib import cmdp as tabular

GRID = ("S.xG", ".#x.", "....")


def random_cmdp(seed: int, states: int = 4, actions: int = 3) -> tabular.CMDP:
    random = np.random.default_rng(seed)
    transition = random.dirichlet(np.ones(states), size=(states, actions))
    reward, cost = random.uniform(0, 1, (2, states, actions))
    return tabular.CMDP(transition, reward, cost, random.dirichlet(np.ones(states)), 0.9)


def deterministic_policies(problem: tabular.CMDP):
    states, actions = problem.reward.shape
    for choice in itertools.product(range(actions), repeat=states):
        yield np.eye(actions)[list(choice)]


@given(st.integers(0, 10_000))
@settings(max_examples=20, deadline=None)
def test_occupancy_is_the_sum_of_the_discounted_state_distributions(seed):
    problem = random_cmdp(seed)
    policy = np.random.default_rng(seed + 1).dirichlet(np.ones(3), size=4)
    states, expected = problem.start, np.zeros((4, 3))
    for t in range(400):  # 0.9^400 is below 1e-18
        expected += 0.9**t * states[:, None] * policy
        states = np.einsum("s,sa,sat->t", states, policy, problem.transition)
    assert np.allclose(tabular.occupancy(problem, policy), expected, atol=1e-10)
    assert tabular.occupancy(problem, policy).sum() == pytest.approx(10)
    assert np.allclose(tabular.policy_of(expected), policy)


@given(st.integers(0, 10_000))
@settings(max_examples=15, deadline=None)
def test_without_a_limit_the_program_and_policy_iteration_find_the_best_deterministic_policy(seed):
    problem = random_cmdp(seed)
    best = max(tabular.evaluate_policy(problem, p)[0] for p in deterministic_policies(problem))
    assert tabular.solve(problem).expected_return == pytest.approx(best)
    assert tabular.best_response(problem, 0.0).expected_return == pytest.approx(best)


@given(st.integers(0, 10_000), st.floats(0.05, 0.95))
@settings(max_examples=15, deadline=None)
def test_with_a_limit_the_program_finds_the_best_mixture_of_deterministic_policies(seed, share):
    """Every policy's (cost, return) is a mixture of deterministic ones: their upper hull at C."""
    problem = random_cmdp(seed)
    points = [tabular.evaluate_policy(problem, p)[::-1] for p in deterministic_policies(problem)]
    costs = sorted(cost for cost, _ in points)
    limit = costs[0] + share * (costs[-1] - costs[0])
    within = [p for p in points if p[0] <= limit]
    beyond = [p for p in points if p[0] > limit]
    best = max(value for _, value in within)
    for (c0, r0), (c1, r1) in itertools.product(within, beyond):
        best = max(best, r0 + (r1 - r0) * (limit - c0) / (c1 - c0))
    solution = tabular.solve(problem, limit)
    assert solution.expected_return == pytest.approx(best, abs=1e-6)
    assert solution.expected_cost <= limit + 1e-6


@given(st.integers(0, 10_000))
@settings(max_examples=15, deadline=None)
def test_the_dual_bounds_the_optimum_and_touches_it_at_the_programs_multiplier(seed):
    problem = random_cmdp(seed)
    free = tabular.solve(problem)
    cheapest = min(tabular.evaluate_policy(problem, p)[1] for p in deterministic_policies(problem))
    limit = 0.5 * (free.expected_cost + cheapest)
    solution = tabular.solve(problem, limit)
    for multiplier in (0.0, 0.3, 1.0, 3.0):
        bound = tabular.dual_value(problem, limit, multiplier)
        assert bound >= solution.expected_return - 1e-7
    touching = tabular.dual_value(problem, limit, solution.multiplier)
    assert touching == pytest.approx(solution.expected_return, abs=1e-6)


def test_the_average_of_dual_ascent_settles_while_its_last_policy_jumps():
    problem = tabular.grid_world(GRID)
    free, limit = tabular.solve(problem), 0.3
    assert free.expected_cost > limit
    trace = tabular.dual_ascent(problem, limit, learning_rate=0.05, iterations=2_000)
    costs = np.array([answer.expected_cost for answer in trace[500:]])
    assert costs.mean() == pytest.approx(limit, abs=0.01)
    assert np.ptp(costs) > 0.1


def test_a_tight_limit_makes_the_best_policy_random():
    problem = tabular.grid_world(GRID)
    policy = tabular.solve(problem, 0.3).policy
    visited = tabular.occupancy(problem, policy).sum(axis=1) > 1e-9
    assert (policy[visited].max(axis=1) < 1 - 1e-6).any()


def test_the_pareto_front_rises_and_bends_downwards():
    problem = tabular.grid_world(GRID)
    limits = np.linspace(0.05, 1.2, 12)
    returns = [solution.expected_return for solution in tabular.pareto_front(problem, limits)]
    assert (np.diff(returns) >= -1e-9).all()
    assert (np.diff(returns, n=2) <= 1e-9).all()


@given(st.integers(0, 10_000))
@example(213)  # the freest policy is the cheapest one
@settings(max_examples=10, deadline=None)
def test_the_corners_are_the_upper_hull_of_all_deterministic_policies(seed):
    problem = random_cmdp(seed)
    corners = tabular.front_corners(problem)
    costs = np.array([corner.expected_cost for corner in corners])
    returns = np.array([corner.expected_return for corner in corners])
    assert (np.diff(costs) > 0).all()
    for policy in deterministic_policies(problem):
        value, cost = tabular.evaluate_policy(problem, policy)
        assert value <= np.interp(cost, costs, returns) + 1e-5
    middle = 0.5 * (costs[0] + costs[-1])
    best = tabular.solve(problem, middle + 1e-7).expected_return
    assert best == pytest.approx(np.interp(middle, costs, returns), abs=1e-5)


def test_the_flooded_town_has_at_least_three_kinds_of_corners():
    corners = tabular.front_corners(tabular.grid_world(tabular.FLOODED_TOWN, discount=0.97))
    assert corners[0].expected_cost < 0.01
    assert corners[-1].expected_cost > 4
    assert any(0.8 < corner.expected_cost < 1.5 for corner in corners)


def test_simulated_episodes_have_the_discounted_means():
    problem = random_cmdp(5)
    policy = np.random.default_rng(6).dirichlet(np.ones(3), size=4)
    sums = tabular.simulate(problem, policy, 20_000, np.random.default_rng(7))
    for found, expected in zip(sums, tabular.evaluate_policy(problem, policy), strict=True):
        assert found.mean() == pytest.approx(expected, abs=4 * found.std() / 20_000**0.5)


def test_a_grid_world_moves_as_drawn():
    problem = tabular.grid_world(("S.G", "#x."), discount=0.9, slip=0.2)
    right, down = 1, 2
    assert problem.transition[0, right, 1] == pytest.approx(0.8)
    assert problem.transition[0, right, 0] == pytest.approx(
        0.2
    )  # above is the border, below a wall
    assert problem.transition[0, down, 0] == pytest.approx(0.9)  # wall, and the border at its side
    assert problem.reward[1, right] == pytest.approx(0.8)
    assert problem.cost[4].tolist() == [1.0] * 4
    assert problem.cost.sum() == 4.0
    assert problem.transition[2, :, 6].tolist() == [1.0] * 4  # from the goal to the final state


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: tabular.solve(tabular.grid_world(GRID), -1.0), "lowest cost is 0"),
        (lambda: tabular.grid_world(("S.", "G")), "one length"),
        (lambda: tabular.grid_world(("S.", "..")), "goal"),
        (lambda: tabular.CMDP(*[np.ones((2, 2))] * 3, np.ones(2), 0.9), "transition must have"),
        (lambda: tabular.grid_world(GRID, discount=1.0), "discount must be in"),
        (lambda: tabular.grid_world(GRID, hazard_cost=-1.0), "cost must not be negative, got -1"),
        (lambda: tabular.grid_world(GRID, hazard_cost=np.inf), "reward and cost must be finite"),
        (lambda: tabular.grid_world(GRID, slip=3.0), r"slip must be in \[0, 1\], got 3.0"),
        (
            lambda: tabular.CMDP(
                np.full((1, 1, 1), 1.0), *[np.ones((1, 1))] * 2, np.array([1.0]), -0.5
            ),
            "discount must be in",
        ),
        (
            lambda: tabular.CMDP(
                np.array([[[2.0, -1.0]], [[0.0, 1.0]]]), *[np.ones((2, 1))] * 2, np.eye(2)[0], 0.9
            ),
            "of transition must not be negative",
        ),
    ],
)
def test_bad_problems_are_refused_in_words(make, words):
    with pytest.raises(ValueError, match=words):
        make()

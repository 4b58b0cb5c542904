"""The check of notebook 00: right answers pass, usual mistakes get the sentence meant for them."""

import numpy as np
import pytest

from kfcpo_lib.envs import make_vec_env
from kfcpo_lib.exercises.nb00 import check_step, step_by_hand


def told(capsys, answer):
    verdict = check_step(answer)
    return verdict, capsys.readouterr().out


def test_the_right_answer_passes_and_a_stub_is_not_solved_yet(capsys):
    for _ in range(20):
        verdict, text = told(capsys, step_by_hand)
        assert verdict
        assert "right" in text
    verdict, text = told(capsys, lambda *_: None)
    assert not verdict
    assert "not solved yet" in text


def apart(places, place):
    return np.linalg.norm(places - place, axis=-1)


def with_reward(reward):
    def answer(before, after, goal, hazards, goal_size, hazard_size):
        near, far = apart(after, goal), apart(before, goal)
        cost = step_by_hand(before, after, goal, hazards, goal_size, hazard_size)[1]
        return reward(near, far, near <= goal_size, apart(before, after)), cost

    return answer


def with_cost(cost):
    def answer(before, after, goal, hazards, goal_size, hazard_size):
        reward = step_by_hand(before, after, goal, hazards, goal_size, hazard_size)[0]
        return reward, cost(before, after, hazards, hazard_size)

    return answer


MISTAKES = {
    "swapped": lambda *a: step_by_hand(*a)[::-1],
    "two numbers": lambda *a: step_by_hand(*a)[0],
    "wrong sign": with_reward(lambda near, far, there, step: near - far + there),
    "1 more": with_reward(lambda near, far, there, step: far - near),
    "not for every step": with_reward(lambda near, far, there, step: far - near + 1),
    "that is left": with_reward(lambda near, far, there, step: there - near),
    "length of the step": with_reward(lambda near, far, there, step: step + there),
    "squares": with_reward(lambda near, far, there, step: far**2 - near**2 + there),
    "distance before minus": with_reward(lambda near, far, there, step: 0.123),
    "overlap": with_cost(lambda b, a, h, size: (apart(h, a) < size).sum()),
    "the wrong way round": with_cost(lambda b, a, h, size: (apart(h, a) >= size).all()),
    "after the step": with_cost(lambda b, a, h, size: (apart(h, b) < size).any()),
    "nearer to some hazard": with_cost(lambda b, a, h, size: -1.0),
}


def with_sizes(goal, hazard):
    """The right rules with other radii, each made of the two right ones."""

    def answer(before, after, places, hazards, *sizes):
        return step_by_hand(before, after, places, hazards, goal(*sizes), hazard(*sizes))

    return answer


def with_distance(order):
    """The right rules, but what counts as inside is measured with another norm."""

    def answer(before, after, goal, hazards, goal_size, hazard_size):
        there = np.linalg.norm(after - goal, order) <= goal_size
        inside = (np.linalg.norm(hazards - after, order, axis=1) < hazard_size).any()
        return apart(before, goal) - apart(after, goal) + there, float(inside)

    return answer


AT_THE_EDGE = {
    "the goal's radius for hazards": (with_sizes(lambda g, h: g, lambda g, h: g), "a hazard's"),
    "the hazards' radius for the goal": (with_sizes(lambda g, h: h, lambda g, h: h), "the goal's"),
    "hazards doubled": (with_sizes(lambda g, h: g, lambda g, h: 2 * h), "a hazard's"),
    "hazards halved": (with_sizes(lambda g, h: g, lambda g, h: h / 2), "a hazard's"),
    "goal doubled": (with_sizes(lambda g, h: 2 * g, lambda g, h: h), "the goal's"),
    "goal halved": (with_sizes(lambda g, h: g / 2, lambda g, h: h), "the goal's"),
    "both halved": (with_sizes(lambda g, h: g / 2, lambda g, h: h / 2), ""),
    "largest of the two differences": (with_distance(np.inf), ""),
    "sum of the two differences": (with_distance(1), ""),
}


@pytest.mark.parametrize("slip", AT_THE_EDGE)
def test_other_radii_and_distances_are_refused(capsys, slip):
    answer, whose = AT_THE_EDGE[slip]
    for _ in range(20):
        verdict, text = told(capsys, answer)
        assert not verdict
        assert f"wrong at {whose}" in text


@pytest.mark.parametrize("sentence", MISTAKES)
def test_mistakes_are_named(capsys, sentence):
    for _ in range(5):
        verdict, text = told(capsys, MISTAKES[sentence])
        assert not verdict
        assert sentence in text


def test_by_hand_is_what_the_benchmark_says():
    env = make_vec_env("SafetyPointGoal1-v0", 4, 100, num_threads=1)
    env.reset()
    random = np.random.default_rng(0)
    sizes = env.layout()["sizes"]
    vases = env.layout()["objects"]["vases"].copy()
    for _ in range(150):
        before = env.layout()
        result = env.step(random.uniform(-1, 1, (4, 2)))
        after = env.layout()
        for i in range(4):
            goal, hazards = (before["objects"][name][i] for name in ("goal", "hazards"))
            reward, cost = step_by_hand(
                before["agent"][i],
                after["agent"][i],
                goal[0],
                hazards,
                sizes["goal"],
                sizes["hazards"],
            )
            assert reward == pytest.approx(result.reward[i], abs=1e-9)
            assert cost == result.cost[i]
    env.close()
    assert vases.shape == (4, 1, 2)

"""The fast environments give the numbers of the stock ones, to the last bit."""

import functools
import warnings
from collections.abc import Callable
from typing import Any

import mujoco
import numpy as np
import pytest

from kfcpo_lib.envs import make_vec_env
from kfcpo_lib.envs.interface import staggered_lengths
from kfcpo_lib.envs.layouts import LayoutSampler
from kfcpo_lib.envs.safety_gym import make_stock
from kfcpo_lib.envs.scenes import Scene
from kfcpo_lib.envs.stock import StockVecEnv
from kfcpo_lib.envs.vector import SafetyVecEnv
from kfcpo_lib.envs.worlds import StockWorld, compile_lean_world, compile_world, finish_model

PAPER_TASKS = ["PointGoal1", "CarGoal1", "PointButton1", "CarButton1"]
AGENTS = ["Point", "Car", "Doggo", "Racecar", "Ant"]
TASKS = ["Goal", "Button", "Push", "Circle"]
SUPPORTED = [f"{agent}{task}{level}" for agent in AGENTS for task in TASKS for level in range(3)]
EPISODES = 3

Actor = Callable[[np.ndarray, np.random.Generator], np.ndarray]


def env_id(name: str) -> str:
    return f"Safety{name}-v0"


# --- equality with stock ---------------------------------------------------------------------


def towards(kind: str, env: SafetyVecEnv) -> Actor:
    """Full throttle to where the lidar of `kind` is brightest."""
    span = env._observer.lidar_span[kind]
    bins = np.arange(span.stop - span.start)
    directions = np.exp(2j * np.pi * (bins + 0.5) / len(bins))
    is_car = type(env.scene.task.agent).__name__ == "Car"

    def act(obs: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        heading = (obs[:, span] ** 4 @ directions) * (1j if is_car else 1.0)
        turn = np.clip(2 * np.angle(heading), -1, 1)
        pair = [1 + turn, 1 - turn] if is_car else [1 - 0.9 * np.abs(turn), turn]
        action = np.column_stack(pair)
        noise = rng.uniform(-1, 1, (len(obs), env.act_dim))
        return np.hstack([action, noise[:, 2:]]) if env.act_dim > 2 else action

    return act


def at_random(env: SafetyVecEnv) -> Actor:
    return lambda obs, rng: rng.uniform(-1, 1, (len(obs), env.act_dim))


def standing_still(env: SafetyVecEnv) -> Actor:
    return lambda obs, rng: np.zeros((len(obs), env.act_dim))


def full_throttle(env: SafetyVecEnv) -> Actor:
    return lambda obs, rng: np.full((len(obs), env.act_dim), 2.0)


def into_danger(env: SafetyVecEnv) -> Actor:
    for kind in ("gremlins", "hazards", "pillars", "vases"):
        if kind in env._observer.lidar_span:
            return towards(kind, env)
    return full_throttle(env)


def to_the_goal(env: SafetyVecEnv) -> Actor:
    kind = "push_box" if "push_box" in env.scene.columns else "goal"
    return towards(kind, env) if kind in env._observer.lidar_span else full_throttle(env)


def goal_then_danger_then_chance(env: SafetyVecEnv) -> Actor:
    """One episode each; the last one begins with standing still."""
    actors = [to_the_goal(env), into_danger(env), standing_still(env), at_random(env)]
    starts = np.array([0, 1, 2, 2.2]) * env.max_episode_steps
    step = -1

    def act(obs: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        nonlocal step
        step += 1
        return actors[np.searchsorted(starts, step, side="right") - 1](obs, rng)

    return act


def assert_equal_to_stock(name: str, seed: int, stream: Callable[[SafetyVecEnv], Actor]) -> Any:
    """Three episodes beside each other; returns the number of goals and the cost."""
    ours = SafetyVecEnv(env_id(name), 1, seed)
    stock = StockVecEnv(env_id(name), 1, seed)
    act, rng = stream(ours), np.random.default_rng(seed)
    obs = ours.reset()
    assert np.array_equal(obs, stock.reset()), f"{name}: first observation differs"
    goals = cost = ends = 0
    for step in range(EPISODES * ours.max_episode_steps):
        action = act(obs, rng)
        got, expected = ours.step(action), stock.step(action)
        for field, mine, theirs in zip(got._fields, got, expected, strict=True):
            where = np.argwhere(mine != theirs).tolist()
            assert not where, f"{name}, {field} differs at step {step}, first at {where[0]}"
        obs = got.obs
        goals, cost = goals + int(got.reward[0] > 0.5), cost + int(got.cost[0])
        ends += int(got.truncated[0] or got.terminated[0])
    assert ends >= EPISODES
    return goals, cost


@pytest.mark.parametrize("name", PAPER_TASKS)
def test_equal_to_stock_over_three_episodes(name: str) -> None:
    goals, cost = assert_equal_to_stock(name, seed=3, stream=goal_then_danger_then_chance)
    assert goals > 0 and cost > 0, "the stream must reach goals and do harm"


@pytest.mark.full
@pytest.mark.parametrize(
    "stream", [at_random, full_throttle, standing_still, to_the_goal, into_danger]
)
@pytest.mark.parametrize("seed", [0, 1_000_003])
@pytest.mark.parametrize("name", PAPER_TASKS)
def test_paper_tasks_equal_to_stock_in_every_stream(
    name: str, seed: int, stream: Callable[[SafetyVecEnv], Actor]
) -> None:
    assert_equal_to_stock(name, seed, stream)


@pytest.mark.full
@pytest.mark.parametrize("name", [name for name in SUPPORTED if name not in PAPER_TASKS])
def test_every_supported_task_equals_stock(name: str) -> None:
    assert_equal_to_stock(name, seed=11, stream=goal_then_danger_then_chance)


def assert_layouts_are_drawn_as_stock_draws_them(name: str, count: int) -> None:
    """The generators go on from layout to layout, and must stay alike."""
    task = make_stock(env_id(name)).unwrapped.task
    task._build_placements_dict()
    conf, source = task.placements_conf, task.random_generator
    source.set_placements_info(conf.placements, conf.extents, conf.margin)
    source.set_random_seed(7)
    sampler, generator = LayoutSampler(task), np.random.RandomState(7)
    for _ in range(count):
        expected, got = source.build_layout(), sampler.sample(generator)
        assert {key: tuple(xy) for key, xy in expected.items()} == got
        del expected["goal"]
        while not source.sample_goal_position():
            pass
        assert tuple(source.layout["goal"]) == sampler.sample_goal(generator, got)
        states = (source.random_generator.get_state(), generator.get_state())
        assert all(np.array_equal(*pair) for pair in zip(*states, strict=True))


@pytest.mark.parametrize(
    ("name", "count"),
    # Crowded levels take stock a fifth of a second and more.
    [*[(f"PointGoal{level}", 200) for level in range(3)], ("CarButton0", 200),
     ("CarButton1", 15), ("CarButton2", 8)],
)  # fmt: skip
def test_layouts_and_goals_are_drawn_as_stock_draws_them(name: str, count: int) -> None:
    assert_layouts_are_drawn_as_stock_draws_them(name, count)


@pytest.mark.full
@pytest.mark.parametrize("name", [name for name in SUPPORTED if "Goal" in name or "Button" in name])
def test_many_layouts_are_drawn_as_stock_draws_them(name: str) -> None:
    assert_layouts_are_drawn_as_stock_draws_them(name, 60)


def assert_same_tree(tree: Any, other: Any) -> None:
    if isinstance(tree, dict):
        assert tree.keys() == other.keys()
        for key, branch in tree.items():
            assert_same_tree(branch, other[key])
    else:
        assert np.array_equal(tree, other)


@pytest.mark.parametrize("name", ["PointGoal2", "CarButton1", "PointPush1", "PointCircle2"])
def test_world_configurations_are_those_of_stock(name: str) -> None:
    scene = Scene(make_stock(env_id(name)).unwrapped.task)
    source, mine, theirs = scene.task.random_generator, *map(np.random.RandomState, (7, 7))
    for _ in range(3):
        layout = scene.sampler.sample(mine)
        got = scene.configure(layout, mine)
        source.random_generator = theirs
        expected = scene.task._build_world_config(scene.sampler.sample(theirs))
        del expected["mocaps"]
        assert_same_tree(got, expected)
        assert mine.random_sample() == theirs.random_sample()


@pytest.mark.parametrize("name", ["CarButton1"])
def test_moving_bodies_gives_the_model_that_compiling_gives(name: str) -> None:
    scene = Scene(make_stock(env_id(name)).unwrapped.task)
    generator = scene.task.random_generator.random_generator
    config = scene.task._build_world_config(scene.sampler.sample(generator))
    data = mujoco.MjData(scene.model)
    data.mocap_pos[:] = 0.3  # as a finished episode leaves it
    scene.world.place(scene.model, data, config)
    stock = StockWorld(scene.task.agent, scene.task._obstacles, config)
    stock.build()
    compiled = compile_lean_world(stock.xml, scene.world.touchless)
    for key in dir(compiled):
        value = getattr(compiled, key)
        # A mocap body's geom touches nothing; only pictures would show where it is.
        if isinstance(value, np.ndarray) and key not in ("geom_pos", "geom_quat"):
            differs = value != getattr(scene.model, key)
            of_mocap = (
                key in ("body_ipos", "body_iquat")
                and not differs[scene.model.body_mocapid < 0].any()
            )
            assert not differs.any() or of_mocap, key


@pytest.mark.parametrize("name", ["PointGoal1", "CarButton1"])
def test_listed_contacts_change_no_bit(name: str) -> None:
    scene = Scene(make_stock(env_id(name)).unwrapped.task)
    models = [scene.model, compile_world(scene.world.stock_xml, scene.world.touchless)]
    assert [model.npair > 0 for model in models] == [True, False]
    datas = [mujoco.MjData(model) for model in models]
    for model, data in zip(models, datas, strict=True):
        finish_model(model, data)
    rng, contacts = np.random.default_rng(0), 0
    for _ in range(300):
        ctrl = rng.uniform(-1, 1, scene.model.nu)
        for model, data in zip(models, datas, strict=True):
            data.ctrl[:] = ctrl
            mujoco.mj_step(model, data, nstep=scene.sub_steps)
        contacts = max(contacts, datas[0].ncon)
        assert np.array_equal(datas[0].contact.geom2, datas[1].contact.geom2)
        assert np.array_equal(datas[0].qpos, datas[1].qpos)
        assert np.array_equal(datas[0].qacc_warmstart, datas[1].qacc_warmstart)
    assert contacts > 1


# --- threads, states, staggering ---------------------------------------------------------------


def run(env: Any, steps: int, seed: int = 0) -> list[Any]:
    rng = np.random.default_rng(seed)
    return [env.step(rng.uniform(-1, 1, (env.num_envs, env.act_dim))) for _ in range(steps)]


def assert_same(runs: list[Any], others: list[Any]) -> None:
    for results in zip(runs, others, strict=True):
        assert all(np.array_equal(a, b) for a, b in zip(*results, strict=True))


@pytest.mark.parametrize("name", ["PointGoal1", "CarButton1"])
def test_threads_change_no_number(name: str) -> None:
    results = []
    for num_threads in (1, 2):
        env = SafetyVecEnv(env_id(name), 6, seed=5, num_threads=num_threads)
        env.reset(stagger=True)
        results.append(run(env, 180))
        env.close()
    assert_same(*results)


@pytest.mark.parametrize("name", ["PointGoal2", "CarButton1", "PointPush1", "PointCircle1"])
def test_state_goes_on_to_the_same_bits(name: str) -> None:
    env, other = (SafetyVecEnv(env_id(name), 3, seed) for seed in (0, 99))
    env.reset(stagger=True)
    run(env, 30)
    other.set_state(env.state())
    assert np.array_equal(env.layout()["agent"], other.layout()["agent"])
    assert_same(run(env, 330, seed=1), run(other, 330, seed=1))


def test_state_is_made_of_plain_things_and_must_fit() -> None:
    env = SafetyVecEnv(env_id("PointButton1"), 1, 0)
    env.reset()

    def check(tree: Any) -> None:
        if isinstance(tree, dict | list):
            for branch in tree.values() if isinstance(tree, dict) else tree:
                check(branch)
        else:
            assert type(tree) in (int, float, str) or isinstance(tree, np.ndarray)

    check(env.state())
    with pytest.raises(ValueError, match="does not fit"):
        env.set_state(env.state() | {"env_id": "SafetyCarGoal1-v0"})


def test_staggered_first_episodes_end_evenly() -> None:
    env = SafetyVecEnv(env_id("PointGoal0"), 20, 0)
    env.reset(stagger=True)
    ended = np.array([result.truncated for result in run(env, 150)])
    first = np.where(ended.any(axis=0), ended.argmax(axis=0) + 1, 0)
    assert first[:3].tolist() == staggered_lengths(20, 1000)[:3].tolist()
    assert not first[3:].any()


def test_layout_says_where_things_are() -> None:
    env = SafetyVecEnv(env_id("PointButton1"), 2, 0)
    env.reset()
    layout = env.layout()
    assert layout["agent"].shape == (2, 2) and layout["agent_heading"].shape == (2,)
    shapes = {name: xy.shape for name, xy in layout["objects"].items()}
    assert shapes["hazards"] == shapes["gremlins"] == shapes["buttons"] == (2, 4, 2)
    assert layout["sizes"]["hazards"] == 0.2
    chosen = layout["objects"]["buttons"][[0, 1], layout["goal_button"]]
    assert np.array_equal(layout["objects"]["goal"][:, 0], chosen)


# --- failures and fallbacks --------------------------------------------------------------------


def explode(env: SafetyVecEnv, i: int) -> None:
    """MuJoCo finds velocities that are no numbers, warns, and starts its simulation anew."""
    env._simulators[i].data.qvel[:] = np.nan


def raise_fatal_error(env: SafetyVecEnv, i: int) -> None:
    simulator = env._simulators[i]
    good_step = simulator.step

    def step(*_: Any) -> None:
        simulator.step = good_step  # type: ignore[method-assign]
        raise mujoco.FatalError("injected")

    simulator.step = step  # type: ignore[method-assign]


@pytest.mark.parametrize("break_down", [explode, raise_fatal_error])
def test_a_broken_simulation_ends_its_own_episode_only(
    break_down: Callable[[SafetyVecEnv, int], None], tmp_path: Any, monkeypatch: Any
) -> None:
    monkeypatch.chdir(tmp_path)  # MuJoCo leaves a log where it is
    env, healthy = (SafetyVecEnv(env_id("PointGoal1"), 3, 0) for _ in range(2))
    env.reset(), healthy.reset()
    before = run(env, 5)[-1]
    run(healthy, 5)
    break_down(env, 1)
    (result,), (expected,) = run(env, 1, seed=7), run(healthy, 1, seed=7)
    assert result.truncated.tolist() == [False, True, False] and not result.terminated.any()
    assert result.cost[1] == 1.0 and result.reward[1] == -10.0
    assert np.array_equal(result.final_obs[1], before.obs[1])
    assert env.simulator_errors == 1 and env._steps.tolist() == [6, 0, 6]
    for after, other in zip(run(env, 20, seed=8), run(healthy, 20, seed=8), strict=True):
        assert np.isfinite(after.obs).all()
        assert np.array_equal(after.obs[[0, 2]], other.obs[[0, 2]])
    assert np.array_equal(result.obs[[0, 2]], expected.obs[[0, 2]])


@pytest.mark.parametrize("name", ["PointRun0", "HalfCheetahVelocity"])
def test_other_tasks_fall_back_to_stock_and_say_so(name: str) -> None:
    make = functools.partial(make_vec_env, f"Safety{name}-v{int('Velocity' in name)}", 1, 0)
    with pytest.warns(UserWarning, match="stock"):
        assert isinstance(make(), StockVecEnv)


def test_supported_tasks_say_nothing() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert isinstance(make_vec_env(env_id("PointGoal1"), 1, 0), SafetyVecEnv)

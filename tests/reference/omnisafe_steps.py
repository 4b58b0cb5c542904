"""Policy steps of OmniSafe's own code on one fixed batch (optional; OmniSafe's own environment).

    OMNISAFE_PYTHON tests/reference/omnisafe_steps.py    # writes omnisafe_steps.npz and .json

The batch and the network come from a NumPy seed. Every algorithm is built by `omnisafe.Agent`; only
its surroundings are replaced: the environment is a stub of the right sizes, the buffer hands out
the batch, the data loader follows a stored order, and J_C is put into the logger. Then `_update()`
runs. `omnisafe_steps.json` says what each array is and holds the scalars of every case.
"""

import contextlib
import functools
import importlib
import json
import math
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from gymnasium.spaces import Box
from omnisafe_import import import_omnisafe, provenance

omnisafe = import_omnisafe()
from omnisafe.envs.core import CMDP, env_register  # noqa: E402
from omnisafe.utils.tools import (  # noqa: E402
    get_flat_params_from,
    set_param_values_to_model,
)

HERE = Path(__file__).parent
LOGS = tempfile.TemporaryDirectory()  # OmniSafe insists on log files; they go when Python ends
SAMPLES, OBS_DIM, ACT_DIM, HIDDEN = 1000, 12, 2, 64
MINIBATCH, PASSES = 250, 2
SEED = 20_251_100_880 % 2**32
TARGET_KL = 0.01  # the second-order rules' default; a mean over action dimensions (ledger D5)
ON_POLICY = "omnisafe.algorithms.on_policy."
LOADER_USERS = ("base.policy_gradient", "base.natural_pg", "first_order.cup", "first_order.focops")
CG_USERS = ("base.trpo", "second_order.cpo", "second_order.pcpo")
MISC = {"q": "xHx", "r": "r", "s": "s", "A": "A", "B": "B", "case": "OptimCase"}
MISC |= {"lambda_star": "Lambda_star", "nu_star": "Nu_star", "accepted_trial": "AcceptanceStep"}


@env_register
class ReferenceEnv(CMDP):
    """An environment that only has sizes: no step is ever taken in it."""

    _support_envs: ClassVar[list[str]] = ["Reference-v0"]
    need_auto_reset_wrapper = False
    need_time_limit_wrapper = False

    def __init__(self, env_id: str, **_: Any) -> None:
        self._num_envs = 1
        self._observation_space = Box(-np.inf, np.inf, (OBS_DIM,))
        self._action_space = Box(-1.0, 1.0, (ACT_DIM,))

    def step(self, action: torch.Tensor) -> Any:
        raise NotImplementedError

    def reset(self, seed: int | None = None, options: Any = None) -> Any:
        raise NotImplementedError

    def set_seed(self, seed: int) -> None:
        """Nothing here is random."""

    def render(self) -> Any:
        raise NotImplementedError

    def close(self) -> None:
        """Nothing to close."""


class FixedBuffer:
    """Hands out the same batch each time, as OmniSafe's buffer does after a rollout."""

    def __init__(self, batch: dict[str, torch.Tensor]) -> None:
        self.batch = batch

    def get(self) -> dict[str, torch.Tensor]:
        return {key: value.clone() for key, value in self.batch.items()}


class FixedOrder(torch.utils.data.Sampler[int]):
    """Walks through the rows of `order`, one row per pass, over all loaders built from it."""

    def __init__(self, order: np.ndarray) -> None:
        self.rows = iter(order.tolist())

    def __iter__(self) -> Iterator[int]:
        return iter(next(self.rows))


@contextlib.contextmanager
def surroundings(order: np.ndarray, actor_now: Any) -> Iterator[dict[str, list[Any]]]:
    """Replace OmniSafe's data loader, and watch its conjugate gradient, inside the `with` block.

    The yielded record holds the (b, x) pairs of every solve, and the actor's parameters at the
    moment each loader was built (the second one of CUP's update is built between its two stages).
    """
    record: dict[str, list[Any]] = {"solves": [], "actors": []}
    sampler = FixedOrder(order)

    def loader(dataset: Any, batch_size: int, shuffle: bool) -> torch.utils.data.DataLoader:
        assert shuffle
        record["actors"].append(actor_now())
        return torch.utils.data.DataLoader(dataset, batch_size, sampler=sampler)

    solve = omnisafe.utils.math.conjugate_gradients

    def watched(product: Any, vector: torch.Tensor, steps: int) -> torch.Tensor:
        answer = solve(product, vector, steps)
        record["solves"].append((vector.numpy().copy(), answer.numpy().copy()))
        return answer

    changed = [(name, "DataLoader", loader) for name in LOADER_USERS]
    changed += [(name, "conjugate_gradients", watched) for name in CG_USERS]
    modules = [importlib.import_module(ON_POLICY + name) for name, _, _ in changed]
    originals = [getattr(m, what) for m, (_, what, _) in zip(modules, changed, strict=True)]
    for module, (_, what, replacement) in zip(modules, changed, strict=True):
        setattr(module, what, replacement)
    try:
        yield record
    finally:
        for module, (_, what, _), old in zip(modules, changed, originals, strict=True):
            setattr(module, what, old)


def build(algorithm: str, **settings: dict[str, Any]) -> Any:
    """One of OmniSafe's algorithms over the stub environment, quiet, its defaults otherwise."""
    common: dict[str, dict[str, Any]] = {
        "train_cfgs": {"total_steps": SAMPLES, "torch_threads": 1},
        "logger_cfgs": {"use_tensorboard": False, "log_dir": LOGS.name},
        "algo_cfgs": {"steps_per_epoch": SAMPLES, "obs_normalize": False},
    }
    groups = common.keys() | settings.keys()
    merged = {group: common.get(group, {}) | settings.get(group, {}) for group in groups}
    with contextlib.redirect_stdout(None):
        return omnisafe.Agent(algorithm, "Reference-v0", custom_cfgs=merged).agent


def flat(network: Any) -> np.ndarray:
    """A copy of a network's parameters, in the order in which it registered them."""
    return get_flat_params_from(network).numpy().copy()


def make_batch() -> dict[str, np.ndarray]:
    """Network, observations, actions, log-probabilities and advantages from one NumPy seed."""
    rng = np.random.default_rng(SEED)
    sizes = [(HIDDEN, OBS_DIM), (HIDDEN, HIDDEN), (ACT_DIM, HIDDEN)]

    def network(outputs: int) -> list[np.ndarray]:
        shapes = [*sizes[:2], (outputs, HIDDEN)]
        layers = [(rng.normal(size=s) / np.sqrt(s[1]), 0.1 * rng.normal(size=s[0])) for s in shapes]
        return [part.ravel() for layer in layers for part in layer]

    theta = np.concatenate([[-0.5, -0.2], *network(ACT_DIM)])
    critic = np.concatenate(network(1))
    obs = rng.normal(size=(SAMPLES, OBS_DIM))
    noise, other = rng.normal(size=(SAMPLES, ACT_DIM)), rng.normal(size=(SAMPLES, 3))
    adv_r = noise[:, 0] + 0.5 * noise[:, 1] * np.tanh(obs[:, 0]) + other[:, 0]
    adv_c = noise[:, 0] * (1 + 0.5 * obs[:, 1]) + noise[:, 1] + 0.5 * other[:, 1]
    adv_c = 0.05 * (adv_c - adv_c.mean())
    batch = {
        "theta": theta,
        "critic": critic,
        "obs": obs,
        "noise": noise,
        "adv_r": (adv_r - adv_r.mean()) / adv_r.std(),
        "adv_c": adv_c,
        "target_value_r": obs[:, 2] + other[:, 2],
        "behaviour_shift": 0.1 * rng.normal(size=theta.size) / np.sqrt(HIDDEN),
    }
    batch = {key: value.astype(np.float32) for key, value in batch.items()}
    batch["order"] = np.stack([rng.permutation(SAMPLES) for _ in range(2 * PASSES)])
    batch["order"] = batch["order"].astype(np.int16)
    return add_actions(batch)


def add_actions(batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Actions of the policy, their log-probabilities under it and under a shifted policy."""
    actor = build("TRPO")._actor_critic.actor
    obs = torch.tensor(batch["obs"])
    with torch.no_grad():
        set_param_values_to_model(actor, torch.tensor(batch["theta"]))
        policy = actor(obs)
        act = policy.mean + policy.stddev * torch.tensor(batch.pop("noise"))
        batch |= {"act": act.numpy(), "logp": actor.log_prob(act).numpy()}
        shifted = batch["theta"] + batch.pop("behaviour_shift")
        set_param_values_to_model(actor, torch.tensor(shifted))
        actor(obs)
        batch["logp_shifted"] = actor.log_prob(act).numpy()
    return batch


def misc(algorithm: Any) -> dict[str, float]:
    """The numbers of the update that OmniSafe logs, under short names."""
    data = algorithm.logger._data
    names = {short: f"Misc/{name}" for short, name in MISC.items()}
    names |= {"logged_kl": "Train/KL", "passes": "Train/StopIter"}
    names |= {"stage_2_passes": "Train/SecondStepStopIter"}
    return {short: data[name][-1] for short, name in names.items() if data.get(name)}


def kl_and_losses(
    actor: Any, batch: dict[str, np.ndarray], after: torch.Tensor
) -> dict[str, float]:
    """Mean KL(old || new), summed over action dimensions, and both surrogates after the step."""
    obs, act = torch.tensor(batch["obs"]), torch.tensor(batch["act"])
    with torch.no_grad():
        set_param_values_to_model(actor, torch.tensor(batch["theta"]))
        old = actor(obs)
        set_param_values_to_model(actor, after)
        new = actor(obs)
        ratio = torch.exp(actor.log_prob(act) - torch.tensor(batch["logp"]))
        kl = torch.distributions.kl_divergence(old, new).sum(-1).mean()
    return {
        "kl_sum": kl.item(),
        "surrogate_r": (ratio * torch.tensor(batch["adv_r"])).mean().item(),
        "surrogate_c": (ratio * torch.tensor(batch["adv_c"])).mean().item(),
    }


def run(
    algorithm: str,
    batch: dict[str, np.ndarray],
    *,
    ep_cost: float,
    cost_sign: float = 1.0,
    logp: str = "logp",
    **settings: dict[str, Any],
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """One `_update()` of `algorithm`: scalars and arrays of what it did."""
    algo = build(algorithm, **settings)
    critics = algo._actor_critic.reward_critic, algo._actor_critic.cost_critic
    actor = algo._actor_critic.actor
    set_param_values_to_model(actor, torch.tensor(batch["theta"]))
    for critic in critics:
        set_param_values_to_model(critic, torch.tensor(batch["critic"]))
    keys = {"logp": logp, "target_value_c": "target_value_r"}
    fields = ("obs", "act", "logp", "target_value_r", "target_value_c", "adv_r", "adv_c")
    data = {key: torch.tensor(batch[keys.get(key, key)]) for key in fields}
    data["adv_c"] = cost_sign * data["adv_c"]
    algo._buf = FixedBuffer(data)
    algo.logger.store({"Metrics/EpCost": float(ep_cost)})
    searches = watch_line_search(algo)
    quiet = contextlib.redirect_stdout(None)
    with quiet, surroundings(batch["order"], lambda: flat(actor)) as seen:
        algo._update()
    after = torch.tensor(flat(actor))
    scalars: dict[str, Any] = {"algorithm": algorithm, "settings": settings, "logp": logp}
    scalars |= {"cost_sign": cost_sign, "ep_cost": algo.logger.get_stats("Metrics/EpCost")[0]}
    scalars |= misc(algo) | kl_and_losses(actor, batch, after)
    arrays = {"theta_after": after.numpy()}
    if hasattr(algo, "_lagrange"):
        scalars["multiplier_after"] = algo._lagrange.lagrangian_multiplier.item()
    if searches:
        arrays["step"] = searches[0]
        trial = scalars["accepted_trial"]
        scalars["fraction"] = 0.8 ** (trial - 1) if trial else 0.0
    if algorithm == "CUP":
        arrays["theta_between"] = seen["actors"][1]
    if algorithm == "PPOLag":
        arrays["critic_after"] = flat(critics[0])
    for name, (vector, answer) in zip("rc", seen["solves"], strict=False):
        arrays |= {f"gradient_{name}": vector, f"natural_{name}": answer}
    return scalars, arrays


def watch_line_search(algo: Any) -> list[np.ndarray]:
    """A list that will hold the step that the update proposes to its line search."""
    proposed: list[np.ndarray] = []
    for name in ("_search_step_size", "_cpo_search_step"):
        if not hasattr(algo, name):
            continue

        def search(original: Any, step_direction: torch.Tensor, **rest: Any) -> Any:
            proposed.append(step_direction.numpy().copy())
            return original(step_direction=step_direction, **rest)

        setattr(algo, name, functools.partial(search, getattr(algo, name)))
    return proposed


def multiplier_sequence() -> dict[str, Any]:
    """OmniSafe's multiplier over a script of episode costs, with its default settings."""
    from omnisafe.common.lagrange import Lagrange

    costs = [60.0, 45.0, 30.0, 26.0, 20.0, 5.0, 5.0, 5.0, 5.0, 5.0, 5.0, 5.0, 30.0, 30.0, 30.0]
    costs += [30.0, 30.0, 30.0, 30.0, 300.0]
    lagrange = Lagrange(25.0, 0.001, 0.035, "Adam")
    values = []
    for cost in costs:
        lagrange.update_lagrange_multiplier(cost)
        values.append(lagrange.lagrangian_multiplier.item())
    return {"cost_limit": 25.0, "initial": 0.001, "lr": 0.035, "ep_costs": costs, "after": values}


def cases(batch: dict[str, np.ndarray]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Name and arguments of every run, the second-order ones placed by OmniSafe's own s."""
    one_pass = {"update_iters": 1}
    lagrange = {"cost_limit": 25.0, "lagrangian_multiplier_init": 0.5}
    few = {"batch_size": MINIBATCH, "update_iters": PASSES}
    yield "trpo", {"algorithm": "TRPO", "ep_cost": 40.0, "algo_cfgs": one_pass}
    for name, ep_cost in (("unsafe", 40.0), ("safe", 10.0)):
        common = {"ep_cost": ep_cost}
        first = common | {"algo_cfgs": few}
        second = common | {"algo_cfgs": one_pass}
        yield f"trpo_lag_{name}", second | {"algorithm": "TRPOLag", "lagrange_cfgs": lagrange}
        crpo = one_pass | {"cost_limit": 25.0, "distance": 2.0}
        yield f"crpo_{name}", common | {"algorithm": "OnCRPO", "algo_cfgs": crpo}
        yield f"ppo_lag_{name}", first | {"algorithm": "PPOLag", "lagrange_cfgs": lagrange}
        yield f"cup_{name}", first | {"algorithm": "CUP", "lagrange_cfgs": lagrange}
        yield f"p3o_{name}", first | {"algorithm": "P3O"}
    early = {"ep_cost": 40.0, "algo_cfgs": few | {"target_kl": 0.002}}
    yield "ppo_lag_stopped", early | {"algorithm": "PPOLag", "lagrange_cfgs": lagrange}
    shifted = {"ep_cost": 40.0, "logp": "logp_shifted", "algo_cfgs": few}
    yield "ppo_lag_clipped", shifted | {"algorithm": "PPOLag", "lagrange_cfgs": lagrange}
    yield "p3o_clipped", shifted | {"algorithm": "P3O"}
    scale = math.sqrt(2 * TARGET_KL * second_order(batch)["s"])
    places = {"far": -2.0, "near": -0.5, "reachable": 0.5, "unreachable": 2.0}
    for algorithm in ("CPO", "PCPO"):
        for sign, relation in ((1.0, "conflict"), (-1.0, "aligned")):
            for place, multiple in places.items():
                c = multiple * scale
                for unit, limit, factor in (("step", 0.0, 1.0), ("episode", 25.0, 1000.0)):
                    if unit == "episode" and relation == "aligned":
                        continue
                    name = f"{algorithm.lower()}_{relation}_{place}_{unit}"
                    algo_cfgs = one_pass | {"cost_limit": limit}
                    arguments = {"algorithm": algorithm, "algo_cfgs": algo_cfgs, "cost_sign": sign}
                    yield name, arguments | {"ep_cost": limit + factor * c}


def second_order(batch: dict[str, np.ndarray]) -> dict[str, Any]:
    """CPO's q, r and s on this batch."""
    cfgs = {"update_iters": 1, "cost_limit": 0.0}
    return run("CPO", batch, ep_cost=-1000.0, algo_cfgs=cfgs)[0]


ARRAYS = {
    "theta": "policy before, flat, in the order of `parameter_order`",
    "critic": "reward and cost critic before, flat: weight and bias of each layer, 12-64-64-1",
    "obs, act": "observations [N, 12], actions [N, 2]",
    "logp": "log-probability of act under theta, summed over action dimensions",
    "logp_shifted": "the same under another policy: ratios start away from 1, the clip is active",
    "adv_r, adv_c": "advantages: standardised; centred (cases with cost_sign -1 use -adv_c)",
    "target_value_r": "targets of both critics",
    "order": "sample indices, one row per pass, cut into consecutive minibatches; CUP's second "
    "stage goes on with the row after its first stage's last one",
    "gradient_r, gradient_c": "g = grad of mean(ratio*adv_r), b = grad of mean(ratio*adv_c)",
    "natural_r, natural_c": "OmniSafe's conjugate-gradient answers x and p for g and b",
    "CASE/theta_after": "policy after the whole update",
    "CASE/step": "what the rule proposed to its line search (CPO and PCPO; there theta_after is "
    "theta + fraction*step and not stored)",
    "CASE/theta_between": "CUP: policy after its first stage",
    "CASE/critic_after": "PPO-Lag: reward critic after the update",
}
SCALARS = {
    "q, r, s, A, B": "as in the course, q = x.Fx; F is OmniSafe's (mean over action dimensions)",
    "case, lambda_star, nu_star": "CPO's; PCPO logs the constants 1, 1, 1, and 1 for A and B",
    "accepted_trial": "1 for the full step, 0 if refused; fraction = 0.8^(trial-1), or 0",
    "kl_sum": "mean KL(old||new) over samples, summed over action dimensions (ours)",
    "logged_kl": "the last Train/KL that OmniSafe stored",
    "surrogate_r, surrogate_c": "mean(ratio*adv) after the step, ratio against logp",
    "multiplier_after": "Lagrange multiplier after its one Adam step, used in this update",
    "ep_cost": "J_C as OmniSafe read it; _step cases: limit 0 and J_C = c per step; _episode "
    "cases: limit 25 and J_C = 25 + 1000*c, the same c in OmniSafe's unit",
}


def main() -> None:
    """Run all cases and store them."""
    torch.set_num_threads(1)
    batch = make_batch()
    actor = build("TRPO")._actor_critic.actor
    arrays, scalars = dict(batch), {}
    for name, arguments in cases(batch):
        scalars[name], found = run(batch=batch, **arguments)
        projected = arguments["algorithm"] in ("CPO", "PCPO")
        if projected:
            rebuilt = batch["theta"] + np.float32(scalars[name]["fraction"]) * found["step"]
            assert np.allclose(rebuilt, found.pop("theta_after"), atol=1e-6)
        for key, value in found.items():
            if not key.startswith(("gradient_", "natural_")) and (projected or key != "step"):
                arrays[f"{name}/{key}"] = value
        if name == "cpo_conflict_far_step":
            arrays |= {k: v for k, v in found.items() if k.startswith(("gradient_", "natural_"))}
        print(name, {k: v for k, v in scalars[name].items() if isinstance(v, float)})
    record = provenance() | {
        "what": __doc__.splitlines()[0],
        "seed": SEED,
        "samples": SAMPLES,
        "minibatch": MINIBATCH,
        "passes": PASSES,
        "target_kl": {"second order": TARGET_KL, "PPO-Lag and P3O": 0.02, "CUP": 0.01},
        "adam_lr": 3e-4,
        "parameter_order": {n: list(p.shape) for n, p in actor.named_parameters()},
        "arrays": ARRAYS,
        "scalars": SCALARS,
        "multiplier_sequence": multiplier_sequence(),
        "cases": scalars,
    }
    np.savez_compressed(HERE / "omnisafe_steps.npz", **arrays)
    (HERE / "omnisafe_steps.json").write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()

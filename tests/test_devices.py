"""A GPU is used when there is one, and nothing is left behind on the CPU.

Where there is no GPU, PyTorch's device `meta` stands in for it: its tensors have shapes but no
numbers, and refuse to be mixed with those of the CPU as a GPU's would.
"""

from pathlib import Path

import pytest
import torch
from test_training_networks import KINDS, config
from torch import Tensor

from kfcpo_lib import KFAC, train
from kfcpo_lib.algorithms.surrogates import surrogate_gradients
from kfcpo_lib.critics import fit_critics, make_optimiser
from kfcpo_lib.evaluation import load_policy
from kfcpo_lib.fisher import ConjugateGradientFisher, conjugate_gradient, exact_fisher
from kfcpo_lib.networks import make_network
from kfcpo_lib.policies import Critics, GaussianPolicy
from kfcpo_lib.rollouts import Batch
from kfcpo_lib.trust_region import move, snapshot

DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
SHAPES = {"mlp": (5,), "cnn": (3, 8, 8), "gru": (4, 5)}
ROWS = 6


def batch_on(device: str, numbers: int) -> Batch:
    columns = [torch.zeros(ROWS, device=device) for _ in range(5)]
    obs, actions = (torch.zeros(ROWS, n, device=device) for n in (numbers, 2))
    return Batch(obs, actions, *columns, episode_length=10.0)


@pytest.fixture(params=SHAPES)
def elsewhere(request: pytest.FixtureRequest) -> tuple[GaussianPolicy, Batch]:
    """A policy and a batch that are not on the CPU."""
    shape = SHAPES[request.param]
    policy = GaussianPolicy(shape, 2, (6, 5), network=request.param).to("meta")
    return policy, batch_on("meta", torch.Size(shape).numel())


def stayed(*tensors: Tensor) -> bool:
    return all(tensor.device.type == "meta" for tensor in tensors)


def test_kfac_stays_where_the_policy_is(elsewhere: tuple[GaussianPolicy, Batch]) -> None:
    policy, batch = elsewhere
    kfac = KFAC(policy)
    kfac.update_factors(batch.obs)
    kfac.update_factors(batch.obs)
    gradients = surrogate_gradients(policy, batch)
    natural = kfac.precondition(gradients.reward)
    assert stayed(*gradients, natural, kfac.inner(natural, gradients.cost), kfac.dense())
    twin = KFAC(policy)
    twin.load_state_dict(kfac.state_dict())
    assert stayed(twin.precondition(natural))
    before = snapshot(policy.parameters())
    move(list(policy.parameters()), natural)
    assert stayed(*before, *policy.parameters())


def test_factors_loaded_from_a_cpu_go_where_the_policy_is(
    elsewhere: tuple[GaussianPolicy, Batch],
) -> None:
    policy, batch = elsewhere
    kfac = KFAC(policy)
    kfac.update_factors(batch.obs)
    state = kfac.state_dict()
    state["blocks"] = [
        {name: torch.zeros(value.shape) for name, value in b.items()} for b in state["blocks"]
    ]
    kfac.load_state_dict(state)
    assert stayed(kfac.precondition(surrogate_gradients(policy, batch).cost))


def test_exact_fisher_and_its_products_stay_where_the_policy_is(
    elsewhere: tuple[GaussianPolicy, Batch],
) -> None:
    policy, batch = elsewhere
    fisher = ConjugateGradientFisher(policy)
    fisher.update_factors(batch.obs)
    vector = surrogate_gradients(policy, batch).reward
    assert stayed(fisher.multiply(vector), exact_fisher(policy, batch.obs))
    assert stayed(conjugate_gradient(fisher.multiply, vector, iterations=0))


def test_rows_of_a_batch_elsewhere_may_be_chosen_on_the_cpu() -> None:
    rows = batch_on("meta", 5).rows(torch.zeros(3, dtype=torch.int64))
    assert stayed(rows.obs, rows.advantage_cost)


def test_the_stand_in_notices_a_tensor_left_on_the_cpu() -> None:
    network = make_network("mlp", (5,), [2]).to("meta")
    with pytest.raises(RuntimeError, match="device"):
        network(torch.zeros(3, 5))


# ------------------------------------------------------------------------- on what is really there


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("kind", KINDS)
def test_training_evaluating_and_resuming_on_each_device(
    kind: str, device: str, tmp_path: Path
) -> None:
    settings = config(kind, tmp_path, device=device)
    next(first := train(settings))
    first.close()  # type: ignore[attr-defined]
    *_, report = train(settings, resume=True)
    assert report.env_steps == settings.total_steps
    assert report.nonfinite == 0
    policy, _, _ = load_policy(tmp_path)
    assert all(p.device.type == "cpu" for p in policy.parameters())  # a stored policy runs anywhere


@pytest.mark.parametrize("device", DEVICES)
def test_critics_are_fitted_on_each_device(device: str) -> None:
    critics = Critics(5, (4,)).to(device)
    generator = torch.Generator().manual_seed(0)
    report = fit_critics(
        critics, make_optimiser(critics, 1e-3), batch_on(device, 5), 1, 3, generator
    )
    assert report.loss_reward >= 0


@pytest.mark.parametrize("device", DEVICES)
def test_factors_are_those_of_the_cpu(device: str) -> None:
    """In double precision, to rounding: another device adds in another order."""
    policy = GaussianPolicy((3, 8, 8), 2, (6,), network="cnn").double()
    obs = torch.randn(ROWS, 192, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    there = GaussianPolicy((3, 8, 8), 2, (6,), network="cnn").double().to(device)
    there.load_state_dict(policy.state_dict())
    one, other = KFAC(policy), KFAC(there)
    one.update_factors(obs)
    other.update_factors(obs.to(device))
    torch.testing.assert_close(other.dense().cpu(), one.dense(), rtol=1e-9, atol=1e-12)

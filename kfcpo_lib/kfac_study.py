"""How good K-FAC is where the truth is known: tiny policies whose Fisher matrix can be formed.

Vectors [P] and matrices [P, P] are in the order of `policy.parameters()`.
"""

import itertools
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.func import functional_call, jacrev, vmap

from kfcpo_lib.gaussians import Gaussian
from kfcpo_lib.kfac import KFAC, LOG_STD_FISHER, KroneckerBlock
from kfcpo_lib.policies import GaussianPolicy
from kfcpo_lib.trust_region import flat_gradient, move

OBS_DIM, ACT_DIM, HIDDEN = 4, 2, (8, 8)
REFERENCE_DAMPING = 1e-3
"""Steps are judged in the exact Fisher metric plus so much of the identity."""


class LinearPolicy(nn.Module):
    """States -> `Gaussian` with a mean that is linear in the state; log std fixed."""

    def __init__(self, obs_dim: int, act_dim: int, log_std: float = -0.5) -> None:
        super().__init__()
        self.layer = nn.Linear(obs_dim, act_dim)
        self.log_std: Tensor
        self.register_buffer("log_std", torch.full((act_dim,), log_std))

    def forward(self, obs: Tensor) -> Gaussian:
        """The action distribution in each state."""
        return Gaussian(self.layer(obs), self.log_std)


def tiny_policy(seed: int = 0) -> GaussianPolicy:
    """4 inputs, two hidden layers of 8, 2 actions; double precision.

    The last layer has its full size (it starts a hundred times smaller), as after some training.
    """
    generator = torch.Generator().manual_seed(seed)
    policy = GaussianPolicy(OBS_DIM, ACT_DIM, HIDDEN, generator=generator).double()
    with torch.no_grad():
        policy.mean_net[-1].get_parameter("weight").mul_(100.0)
    return policy


def states(count: int, seed: int, obs_dim: int = OBS_DIM) -> Tensor:
    """[count, obs_dim] standard normal states in double precision."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, obs_dim, generator=generator, dtype=torch.float64)


def jacobian_fisher(policy: nn.Module, obs: Tensor) -> Tensor:
    """[P, P] as `exact_fisher`, by one vectorised Jacobian of the mean: faster, more memory."""
    parameters = {name: p.detach() for name, p in policy.named_parameters()}
    fixed = dict(policy.named_buffers())

    def mean(values: dict[str, Tensor], state: Tensor) -> Tensor:
        output: Gaussian = functional_call(policy, {**values, **fixed}, (state[None],))
        return output.mean[0]

    jacobians = vmap(jacrev(mean), in_dims=(None, 0))(parameters, obs)
    rows = torch.cat([j.flatten(2) for j in jacobians.values()], dim=2)
    rows = (rows / policy(obs).std.detach()[:, None]).flatten(0, 1)
    fisher: Tensor = rows.T @ rows / len(obs)
    start = 0
    for name, values in parameters.items():
        where = torch.arange(start, start + values.numel())
        if name == "log_std":
            fisher[where, where] = LOG_STD_FISHER
        start += values.numel()
    return fisher


def layer_slices(policy: nn.Module) -> dict[str, slice]:
    """Where log std, and each layer's weight and bias together, stand in a flat vector."""
    slices: dict[str, slice] = {}
    start = layer = 0
    for name, parameter in policy.named_parameters():
        stop = start + parameter.numel()
        if name.endswith("bias"):
            slices[f"layer {layer}"] = slice(slices[f"layer {layer}"].start, stop)
        elif name == "log_std":
            slices["log σ"] = slice(start, stop)
        else:
            layer += 1
            slices[f"layer {layer}"] = slice(start, stop)
        start = stop
    return slices


def tile_order(policy: nn.Module) -> Tensor:
    """[P] an order of the parameters in which each row of a layer is followed by its bias.

    In this order a layer's block of K-FAC is the Kronecker product G kron A as it stands; in the
    order of `policy.parameters()` all biases of a layer come after all its weights.
    """
    order: list[Tensor] = []
    start = 0
    for name, parameter in policy.named_parameters():
        index = torch.arange(start, start + parameter.numel())
        if name.endswith("bias"):
            order[-1] = torch.cat([order[-1], index[:, None]], dim=1)
        else:
            order.append(index.view(parameter.shape) if parameter.ndim == 2 else index)
        start += parameter.numel()
    return torch.cat([part.reshape(-1) for part in order])


def relative_error(estimate: Tensor, truth: Tensor) -> float:
    """Frobenius norm of the difference over that of the truth."""
    return float((estimate - truth).norm() / truth.norm())


def block_errors(policy: nn.Module, obs: Tensor) -> dict[str, float]:
    """Relative error of each layer's Kronecker block against the exact one."""
    kfac = KFAC(policy)
    kfac.update_factors(obs)
    estimate, truth = kfac.dense(), jacobian_fisher(policy, obs)
    return {
        name: relative_error(estimate[where, where], truth[where, where])
        for name, where in layer_slices(policy).items()
        if name != "log σ"
    }


def metric(fisher: Tensor) -> Tensor:
    """[P, P] what steps are judged by: the exact Fisher matrix, barely damped."""
    return fisher + REFERENCE_DAMPING * torch.eye(len(fisher), dtype=fisher.dtype)


def step_quality(direction: Tensor, gradient: Tensor, fisher: Tensor) -> float:
    """Gain of a step along `direction` over the largest possible gain at the same KL, at most 1."""
    judge = metric(fisher)
    best = gradient @ torch.linalg.solve(judge, gradient)
    length = direction @ judge @ direction
    return float(gradient @ direction / (best * length).sqrt())


def aiming_gradient(policy: nn.Module, obs: Tensor) -> Tensor:
    """[P] gradient of -E|mean - target(s)|^2, with a target that bends: something to learn."""
    target = torch.stack([torch.sin(2 * obs[:, 0] + obs[:, 1]), obs[:, 2] * obs[:, 3]], dim=1)
    objective = -((policy(obs).mean - target) ** 2).sum(-1).mean()
    return flat_gradient(objective, list(policy.parameters())).detach()


Factors = list[tuple[Tensor, Tensor]]
"""Per layer: A [in + 1, in + 1] and G [out, out]."""


class Moment(NamedTuple):
    """One update of a policy on the move: the truth, and what a minibatch shows of it."""

    judge: Tensor
    """[P, P] `metric` of the exact Fisher matrix, over many states."""
    gradient: Tensor
    """[P] over many states."""
    best: float
    """Largest g'x of a step x of unit length in the metric."""
    factors: Factors
    """Over many states."""
    seen_factors: Factors
    """Of the minibatch."""


class Drift(NamedTuple):
    """A policy on the move, and K-FAC replayed along it with any settings."""

    kfac: KFAC
    moments: list[Moment]

    @classmethod
    def simulate(cls, updates: int = 30, minibatch: int = 10, speed: float = 0.05) -> "Drift":
        """Follow a policy that moves by `speed` at each update (KL of about speed^2 / 2).

        A minibatch has so few states that its factors are noisy.
        """
        policy = tiny_policy()
        kfac = KFAC(policy, decay=0.0)
        moments = []
        for update in range(updates):
            moments.append(_moment(policy, kfac, states(minibatch, seed=100 + update)))
            move(list(policy.parameters()), _wander(moments[-1], speed))
        return cls(kfac, moments)

    def replay(
        self,
        damping: float,
        decay: float,
        inverse_period: int = 1,
        statistics_period: int = 1,
        *,
        even_start: bool = False,
    ) -> tuple[list[float], list[float]]:
        """Per update: step quality of K-FAC, and relative error of its averaged factors.

        Args:
            damping: added to the products of eigenvalues.
            decay: of the factors' moving averages.
            inverse_period: T_f, updates from one eigendecomposition to the next.
            statistics_period: T_s, updates from one minibatch that K-FAC looks at to the next.
            even_start: give the first minibatch no more weight than its age leaves it; `KFAC`
                takes it whole.
        """
        self.kfac.damping = damping
        qualities, errors = [], []
        for update, moment in enumerate(self.moments):
            if update % statistics_period == 0:
                seen = update // statistics_period
                keep = _even_keep(decay, seen) if even_start else decay if seen else 0.0
                _average_in(self.kfac.blocks, moment.seen_factors, keep)
            if update % inverse_period == 0:
                _decompose(self.kfac.blocks)
            x = self.kfac.precondition(moment.gradient)
            length = float((x @ moment.judge @ x).sqrt())
            qualities.append(float(moment.gradient @ x) / (moment.best * length))
            errors.append(_factor_error(self.kfac.blocks, moment.factors))
        return qualities, errors


def _moment(policy: GaussianPolicy, kfac: KFAC, minibatch: Tensor) -> Moment:
    many = states(300, seed=1)
    judge, gradient = metric(jacobian_fisher(policy, many)), aiming_gradient(policy, many)
    best = float((gradient @ torch.linalg.solve(judge, gradient)).sqrt())
    factors = []
    for obs in (many, minibatch):
        kfac.update_factors(obs)
        factors.append([(b.input_factor, b.output_factor) for b in kfac.blocks])
    return Moment(judge, gradient, best, factors[0], factors[1])


def _factor_error(blocks: list[KroneckerBlock], truth: Factors) -> float:
    """|G kron A - truth| / |truth| over all layers, without forming a Kronecker product."""
    wrong = size = torch.zeros((), dtype=torch.float64)
    for block, (a, g) in zip(blocks, truth, strict=True):
        own = block.input_factor.norm() * block.output_factor.norm()
        true = a.norm() * g.norm()
        both = (block.input_factor * a).sum() * (block.output_factor * g).sum()
        wrong, size = wrong + own**2 + true**2 - 2 * both, size + true**2
    return float((wrong.clamp(min=0) / size).sqrt())


def _even_keep(decay: float, seen: int) -> float:
    """What a moving average keeps of `seen` minibatches whose weights are powers of the decay."""
    return decay * (1 - decay**seen) / (1 - decay ** (seen + 1))


def _average_in(blocks: list[KroneckerBlock], factors: Factors, keep: float) -> None:
    for block, (a, g) in zip(blocks, factors, strict=True):
        block.input_factor = block.input_factor * keep + a * (1 - keep)
        block.output_factor = block.output_factor * keep + g * (1 - keep)


def _decompose(blocks: list[KroneckerBlock]) -> None:
    for block in blocks:
        block.decompose()


def _wander(moment: Moment, speed: float) -> Tensor:
    """A step of length `speed` in the exact metric, along the natural gradient."""
    x = torch.linalg.solve(moment.judge + 0.05 * torch.eye(len(moment.judge)), moment.gradient)
    step: Tensor = x * (speed / (x @ moment.judge @ x).sqrt())
    return step


def cost_of(sizes: tuple[int, ...], batch: int, iterations: int = 15) -> dict[str, float]:
    """Multiplications, roughly, of one natural gradient in a network of these layer sizes.

    Dense: form F from every state's scores and solve. Conjugate gradient: four passes through
    the batch for each product. K-FAC: factors of each layer, one backward pass per action, and
    eigendecompositions at about 10 n^3.
    """
    pairs = [(n_in + 1, n_out) for n_in, n_out in itertools.pairwise(sizes)]
    parameters = sum(n_in * n_out for n_in, n_out in pairs)
    one_pass, actions = batch * parameters, sizes[-1]
    factors = batch * sum(n_in**2 + actions * n_out**2 for n_in, n_out in pairs)
    cubes = 10 * sum(n_in**3 + n_out**3 for n_in, n_out in pairs)
    return {
        "dense matrix": actions * batch * parameters**2 + parameters**3 / 3,
        "conjugate gradient": 4.0 * iterations * one_pass,
        "K-FAC": (1.0 + actions) * one_pass + factors + cubes,
    }

"""KFCPO's update against a plain re-implementation, its options, and what it refuses; float64."""

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from kfcpo_lib.algorithms import kfcpo
from kfcpo_lib.algorithms.surrogates import Surrogates
from kfcpo_lib.blending import CONFLICT_MODES
from kfcpo_lib.fisher import ConjugateGradientFisher, exact_fisher
from kfcpo_lib.gaussians import mean_kl
from kfcpo_lib.kfac import KFAC
from kfcpo_lib.policies import GaussianPolicy
from kfcpo_lib.records import Knobs, Minibatch, UpdateReport
from kfcpo_lib.rollouts import Batch
from kfcpo_lib.streams import Streams
from kfcpo_lib.trust_region import flatten

OBS_DIM, ACT_DIM, HIDDEN, ROWS, MINIBATCH = 3, 2, (4,), 60, 20


def policy_of(seed: int = 0) -> GaussianPolicy:
    generator = torch.Generator().manual_seed(seed)
    policy = GaussianPolicy(OBS_DIM, ACT_DIM, HIDDEN, generator=generator).double()
    with torch.no_grad():
        for parameter in policy.parameters():
            noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
            parameter.add_(0.3 * noise)
    return policy


def batch_of(policy: GaussianPolicy, seed: int = 0) -> Batch:
    """Advantages that depend on state and action, against each other (a conflict), plus noise."""
    generator = torch.Generator().manual_seed(seed)

    def random(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    obs = random(ROWS, OBS_DIM)
    with torch.no_grad():
        distribution = policy(obs)
        actions = distribution.sample(generator)
    signal = actions[:, 0] + obs[:, 0] * actions[:, 1]
    return Batch(
        obs=obs,
        actions=actions,
        log_prob=distribution.log_prob(actions).detach(),
        advantage_reward=signal + 0.5 * random(ROWS),
        advantage_cost=signal * 0.7 + actions[:, 1] + 0.5 * random(ROWS),
        target_reward=random(ROWS),
        target_cost=random(ROWS),
        episode_length=10.0,
    )


def state_of(policy: GaussianPolicy, **settings: Any) -> kfcpo.State:
    settings = {"minibatch_size": MINIBATCH, "delta_start": 1e-3} | settings
    return kfcpo.State.start(policy, kfcpo.Settings(**settings), Streams.of_seed(0))


def numbers(policy: nn.Module) -> Tensor:
    return flatten(p.detach().clone() for p in policy.parameters())


def updated(
    episodic_cost: float | None = 22.0, knobs: Knobs | None = None, **settings: Any
) -> tuple[GaussianPolicy, UpdateReport, kfcpo.State]:
    policy = policy_of()
    state = state_of(policy, **settings)
    report = kfcpo.update(policy, batch_of(policy), episodic_cost, knobs or Knobs(), state)
    return policy, report, state


# --------------------------------------------------------------- the plain version, dense algebra


@dataclass
class Plain:
    """KFCPO as it stands in the box, on dense matrices and one flat vector of parameters."""

    policy: GaussianPolicy
    settings: kfcpo.Settings
    knobs: Knobs
    generator: torch.Generator
    delta: float
    factors: list[tuple[Tensor, Tensor]] = field(default_factory=list)
    gradients: list[tuple[Tensor, Tensor]] = field(default_factory=list)

    def forward(self, theta: Tensor, obs: Tensor) -> tuple[Tensor, Tensor, list[Tensor]]:
        """Mean [B, 2], log std [2], and the layers' inputs, from the flat parameters by hand."""
        log_std, rest = theta[:ACT_DIM], theta[ACT_DIM:]
        signal, inputs = obs, []
        for i, (n_in, n_out) in enumerate(itertools.pairwise([OBS_DIM, *HIDDEN, ACT_DIM])):
            weight = rest[: n_in * n_out].view(n_out, n_in)
            bias, rest = rest[n_in * n_out :][:n_out], rest[n_in * n_out + n_out :]
            signal = torch.tanh(signal) if i else signal
            inputs.append(torch.cat([signal, torch.ones_like(signal[:, :1])], dim=1))
            signal = signal @ weight.T + bias
        return signal, log_std, inputs

    def gradient(self, theta: Tensor, batch: Batch, advantage: Tensor) -> Tensor:
        """Of the mean of exp(log pi - log pi_k) A."""
        theta = theta.clone().requires_grad_()
        mean, log_std, _ = self.forward(theta, batch.obs)
        z = (batch.actions - mean) / log_std.exp()
        log_prob = (-(z**2) / 2 - log_std - math.log(2 * math.pi) / 2).sum(1)
        ((log_prob - batch.log_prob).exp() * advantage).mean().backward()
        assert theta.grad is not None
        return theta.grad

    def fisher(self, theta: Tensor, obs: Tensor) -> Tensor:
        """Dense, damped: 2 I for log std, G kron A for each of the two layers."""
        _, log_std, inputs = self.forward(theta, obs)
        w_last = theta[-ACT_DIM - HIDDEN[0] * ACT_DIM : -ACT_DIM].view(ACT_DIM, HIDDEN[0])
        hidden = inputs[1][:, :-1]
        count = len(obs)
        # d mu_k / d (output of layer 1) = W_2[k] (1 - h^2);  d mu_k / d (output of layer 2) = e_k
        first = [(w_last[k] * (1 - hidden**2)) / log_std[k].exp() for k in range(ACT_DIM)]
        g_first = sum(scores.T @ scores for scores in first) / count
        g_last = torch.diag(torch.exp(-2 * log_std))
        new = [(a.T @ a / count, g) for a, g in zip(inputs, (g_first, g_last), strict=True)]
        keep = self.settings.factor_decay if self.factors else 0.0
        old = self.factors or new
        self.factors = [
            (keep * a + (1 - keep) * b, keep * g + (1 - keep) * h)
            for (a, g), (b, h) in zip(old, new, strict=True)
        ]
        dense = torch.zeros(len(theta), len(theta), dtype=torch.float64)
        dense[:ACT_DIM, :ACT_DIM] = 2 * torch.eye(ACT_DIM)
        start = ACT_DIM
        for a, g in self.factors:
            n_out, n_in = len(g), len(a) - 1
            places = [
                [*range(start + i * n_in, start + (i + 1) * n_in), start + n_out * n_in + i]
                for i in range(n_out)
            ]
            where = torch.tensor(places).flatten()
            dense[where[:, None], where] = torch.kron(g, a)
            start += n_out * (n_in + 1)
        return dense + self.settings.damping * torch.eye(len(theta), dtype=torch.float64)

    def kl(self, old: Tensor, new: Tensor, obs: Tensor, direction: str) -> float:
        if direction == "backward":
            old, new = new, old
        (mu, s, _), (nu, t, _) = self.forward(old, obs), self.forward(new, obs)
        per_dim = t - s + (torch.exp(2 * s) + (mu - nu) ** 2) / (2 * torch.exp(2 * t)) - 0.5
        return float(per_dim.sum(1).mean())

    def conflict(self, n_r: Tensor, n_c: Tensor, w_c: float, metric: Tensor) -> Tensor:
        """The blend, with whichever direction gives way."""
        mode, agreement = self.settings.conflict, n_r @ metric @ n_c
        r, c = n_r, n_c
        if agreement < 0:
            if mode in ("project_cost", "project_both") or (mode == "project_minor" and w_c <= 0.5):
                c = n_c - agreement / (n_r @ metric @ n_r) * n_r
            if mode in ("project_reward", "project_both") or (
                mode == "project_minor" and w_c > 0.5
            ):
                r = n_r - agreement / (n_c @ metric @ n_c) * n_c
        return (1 - w_c) * r + w_c * c

    def step(self, theta: Tensor, batch: Batch, w_c: float) -> tuple[Tensor, float]:
        """The step sqrt(2 delta) n, and the cosine between the two directions."""
        uphill = batch.advantage_reward, batch.advantage_cost
        self.gradients.append((*(self.gradient(theta, batch, a) for a in uphill),))
        ages = range(len(self.gradients))
        weights = [self.settings.momentum**age for age in reversed(ages)]
        g_r = sum(w * g for w, (g, _) in zip(weights, self.gradients, strict=True))
        g_c = -sum(w * g for w, (_, g) in zip(weights, self.gradients, strict=True))
        fisher = self.fisher(theta, batch.obs)
        inverse = torch.linalg.inv(fisher)
        n_r = inverse @ g_r / torch.sqrt(g_r @ inverse @ g_r)
        n_c = inverse @ g_c / torch.sqrt(g_c @ inverse @ g_c)
        metric = fisher if self.settings.metric == "fisher" else torch.eye(len(theta)).double()
        n = self.conflict(n_r, n_c, w_c, metric)
        if self.settings.full_length:
            n = n / torch.sqrt(n @ fisher @ n)
        angle = n_r @ metric @ n_c / torch.sqrt((n_r @ metric @ n_r) * (n_c @ metric @ n_c))
        return math.sqrt(2 * self.delta) * n, float(angle)

    def adapt(self, committed: bool) -> None:
        if self.settings.adaptive_delta:
            factor = 1.05 if committed else 0.7
            self.delta = min(max(self.delta * factor, 1e-6), self.knobs.kl_limit)

    def update(self, theta: Tensor, batch: Batch, w_c: float) -> tuple[Tensor, list[Minibatch]]:
        s, collecting, trials = self.settings, theta, []
        parts = math.ceil(len(batch) / s.minibatch_size)
        size, longer = divmod(len(batch), parts)  # the first ones take what is left over
        for i in range(s.passes * parts):
            if i % parts == 0:
                order = torch.randperm(len(batch), generator=self.generator).tolist()
            own = [order.pop(0) for _ in range(size + (i % parts < longer))]
            part = batch.rows(torch.tensor(own))
            step, angle = self.step(theta, part, w_c)
            reference = collecting if s.kl_reference == "collecting" else theta
            kl = self.kl(reference, theta + step, part.obs, s.kl_direction)
            committed = s.rollback != "minibatch" or kl <= self.knobs.kl_limit
            trials.append(Minibatch(kl, committed, self.delta, angle))
            theta = theta + step if committed else theta
            if s.rollback != "epoch":
                self.adapt(committed)
        if s.rollback == "epoch":
            drift = self.kl(collecting, theta, batch.obs, s.kl_direction)
            committed = drift <= self.knobs.kl_limit
            theta = theta if committed else collecting
            trials = [replace(t, committed=committed) for t in trials]
            self.adapt(committed)
        return theta, trials


SETTINGS: dict[str, dict[str, Any]] = {
    "defaults": {},
    **{mode: {"conflict": mode} for mode in CONFLICT_MODES},
    "euclidean": {"metric": "euclidean"},
    "short when cancelling": {"full_length": False},
    "epoch": {"rollback": "epoch"},
    "epoch, backward": {"rollback": "epoch", "kl_direction": "backward"},
    "none": {"rollback": "none"},
    "previous": {"kl_reference": "previous"},
    "backward": {"kl_direction": "backward"},
    "previous, backward": {"kl_reference": "previous", "kl_direction": "backward"},
    "fixed delta": {"adaptive_delta": False},
    "damped, forgetful": {"damping": 0.3, "factor_decay": 0.2},
    "odd minibatches": {"minibatch_size": 25},
    "three passes": {"passes": 3},
    "momentum": {"momentum": 0.8},
}
LIMITS = {"tight": 2e-3, "wide": 0.05}
COSTS = {"cheap": 15.0, "dear": 24.0}


@pytest.mark.parametrize("cost", COSTS.values(), ids=COSTS)
@pytest.mark.parametrize("limit", LIMITS.values(), ids=LIMITS)
@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
def test_update_is_the_plain_dense_version(
    settings: dict[str, Any], limit: float, cost: float
) -> None:
    """Three epochs of three minibatches; 1e-8 because each step divides by small eigenvalues."""
    policy, knobs = policy_of(), Knobs(kl_limit=limit)
    state = state_of(policy, **settings)
    order = Streams.of_seed(0).minibatches
    plain = Plain(policy, state.settings, knobs, order, state.settings.delta_start)
    w_c = 1 / (1 + math.exp(-0.3 * (cost - 0.8 * 25)))
    theta = numbers(policy)
    for epoch in range(3):
        batch = batch_of(policy, epoch)
        collecting = theta
        report = kfcpo.update(policy, batch, cost, knobs, state)
        theta, trials = plain.update(theta, batch, w_c)
        assert [t.committed for t in report.minibatches] == [t.committed for t in trials]
        for got, expected in zip(report.minibatches, trials, strict=True):
            assert got.kl == pytest.approx(expected.kl, rel=1e-7, abs=1e-12)
            assert got.delta == pytest.approx(expected.delta, rel=1e-12)
            assert got.cosine == pytest.approx(expected.cosine, abs=1e-8)
        torch.testing.assert_close(numbers(policy), theta, rtol=1e-8, atol=1e-8)
        assert report.cost_weight == pytest.approx(w_c, rel=1e-12)
        assert report.nonfinite == 0
        forward = plain.kl(collecting, theta, batch.obs, "forward")
        assert report.kl == pytest.approx(forward, rel=1e-6, abs=1e-12)
        assert state.delta == pytest.approx(plain.delta, rel=1e-12)


def test_the_cases_above_meet_commits_rollbacks_and_conflicts() -> None:
    """Otherwise they would compare nothing."""
    tight = updated(knobs=Knobs(kl_limit=2e-3))[1].minibatches
    assert {t.committed for t in tight} == {True, False}
    assert all(t.cosine < -0.3 for t in tight)
    for rollback, survives in (("epoch", False), ("none", True)):
        policy, report, _ = updated(knobs=Knobs(kl_limit=2e-3), rollback=rollback)
        assert {t.committed for t in report.minibatches} == {survives}
        assert torch.equal(numbers(policy), numbers(policy_of())) != survives


# ------------------------------------------------------------------------------------ single claims


def test_the_length_of_a_step_in_the_kfac_metric_is_delta_exactly() -> None:
    """One minibatch: the step v has v' F v / 2 = delta with K-FAC's damped F."""
    policy, _, state = updated(minibatch_size=ROWS, delta_start=1e-4)
    step = numbers(policy) - numbers(policy_of())
    assert 0.5 * float(state.fisher.inner(step, step)) == pytest.approx(1e-4, rel=1e-9)


def test_the_true_kl_of_a_step_is_about_delta() -> None:
    """By conjugate gradient: v'Fv / 2 = delta - damping |v|^2 / 2, and KL = v'Fv / 2 + O(|v|^3),
    so a hundredth of delta has a tenth of the error. K-FAC leaves out the blocks between layers:
    its KL is of the order of delta."""
    start, errors = policy_of(), []
    fisher = exact_fisher(start, batch_of(start).obs)
    for delta in (1e-4, 1e-6):
        policy, report, _ = updated(
            minibatch_size=ROWS, delta_start=delta, natural_gradient="cg", damping=1e-2
        )
        step = numbers(policy) - numbers(start)
        model = 0.5 * float(step @ fisher @ step)
        assert model + 0.5e-2 * float(step @ step) == pytest.approx(delta, rel=1e-6)
        errors.append(report.minibatches[0].kl / model - 1)
    assert abs(errors[0]) < 0.1
    assert abs(errors[1]) < 0.2 * abs(errors[0])
    kl = updated(minibatch_size=ROWS, delta_start=1e-4)[1].kl
    assert 0.3e-4 < kl < 3e-4


def test_a_blend_that_is_not_stretched_stays_within_delta() -> None:
    """|n|_F <= 1 for a mean of two unit vectors, and much less where they cancel."""
    stretched, short = (
        updated(minibatch_size=ROWS, conflict="none", full_length=full) for full in (True, False)
    )
    lengths = []
    for policy, _, state in (stretched, short):
        step = numbers(policy) - numbers(policy_of())
        lengths.append(float(state.fisher.inner(step, step)) / 2e-3)
    assert lengths[0] == pytest.approx(1.0)
    assert lengths[1] < 0.5


def test_an_unknown_episodic_cost_means_equal_weights() -> None:
    unknown, centre = updated(episodic_cost=None), updated(episodic_cost=20.0)
    assert unknown[1].cost_weight == 0.5
    assert torch.equal(numbers(unknown[0]), numbers(centre[0]))  # 20 = 0.8 * 25
    assert not torch.equal(numbers(unknown[0]), numbers(updated(episodic_cost=10.0)[0]))


def surrogate_changes(policy: GaussianPolicy) -> tuple[float, float]:
    start = policy_of()
    batch = batch_of(start)
    with torch.no_grad():
        ratio = (policy(batch.obs).log_prob(batch.actions) - batch.log_prob).exp()
    change = ratio - 1
    return (
        float((change * batch.advantage_reward).mean()),
        float((change * batch.advantage_cost).mean()),
    )


def test_far_below_the_limit_reward_rises_and_far_above_it_cost_falls() -> None:
    """No sign is lost on the way: the surrogates of the whole batch move as they should."""
    settings = {"minibatch_size": ROWS, "delta_start": 1e-4, "conflict": "none"}
    reward_only, cost_only = updated(-1e6, **settings), updated(1e6, **settings)
    assert (reward_only[1].cost_weight, cost_only[1].cost_weight) == (0.0, 1.0)
    assert surrogate_changes(reward_only[0])[0] > 0
    assert surrogate_changes(cost_only[0])[1] < 0
    # and in a conflict the reward direction alone raises the cost
    assert surrogate_changes(reward_only[0])[1] > 0


def test_knobs_take_effect() -> None:
    base = numbers(updated()[0])
    for changed in (Knobs(margin_lambda=0.5), Knobs(steepness_k=1.0), Knobs(cost_limit=10.0)):
        assert not torch.equal(numbers(updated(knobs=changed)[0]), base)
    kept = updated(knobs=Knobs(kl_limit=1e-9))
    assert torch.equal(numbers(kept[0]), numbers(policy_of()))
    assert kept[1].kl == 0.0


@pytest.mark.parametrize("natural_gradient", ["kfac", "cg"])
def test_same_batch_same_bits(natural_gradient: str) -> None:
    one, same = (updated(natural_gradient=natural_gradient) for _ in range(2))
    assert torch.equal(numbers(one[0]), numbers(same[0]))
    assert one[1] == same[1]


def test_update_needs_no_global_random_numbers() -> None:
    torch.manual_seed(1)
    before = torch.random.get_rng_state()
    one = numbers(updated(sampled_fisher=True)[0])
    torch.manual_seed(2)
    assert torch.equal(numbers(updated(sampled_fisher=True)[0]), one)
    torch.manual_seed(1)
    assert torch.equal(torch.random.get_rng_state(), before)


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_a_state_from_a_checkpoint_continues_to_the_same_bits(momentum: float) -> None:
    policy, _, state = updated(momentum=momentum)
    twin = GaussianPolicy(OBS_DIM, ACT_DIM, HIDDEN).double()
    twin.load_state_dict(policy.state_dict())
    twin_state = state_of(twin, momentum=momentum)
    twin_state.load_state_dict(state.state_dict())
    twin_state.generator.set_state(state.generator.get_state())
    batch = batch_of(policy, 1)
    for one, its_state in ((policy, state), (twin, twin_state)):
        kfcpo.update(one, batch, 22.0, Knobs(), its_state)
    assert torch.equal(numbers(policy), numbers(twin))
    assert state.delta == twin_state.delta


def test_a_checkpoint_goes_to_the_device_of_the_policy() -> None:
    """Checkpoints are read on the processor; `meta` stands in for a graphics card."""
    _, _, stored = updated(momentum=0.9)
    state = state_of(GaussianPolicy(OBS_DIM, ACT_DIM, HIDDEN).double(), momentum=0.9)
    state.momentum = Surrogates(*(gradient.to("meta") for gradient in state.momentum))
    state.load_state_dict(stored.state_dict())
    assert {gradient.device.type for gradient in state.momentum} == {"meta"}


def test_conjugate_gradient_takes_the_place_of_kfac() -> None:
    policy, report, state = updated(natural_gradient="cg", damping=0.05)
    assert isinstance(state.fisher, ConjugateGradientFisher)
    assert isinstance(updated()[2].fisher, KFAC)
    assert all(t.committed and math.isfinite(t.cosine) for t in report.minibatches)
    assert not torch.equal(numbers(policy), numbers(policy_of()))


def test_settings_reach_kfac() -> None:
    fisher = updated(
        damping=0.3, factor_decay=0.2, factor_period=2, inverse_period=3, sampled_fisher=True
    )[2].fisher
    assert isinstance(fisher, KFAC)
    assert (fisher.damping, fisher.decay, fisher.sampled) == (0.3, 0.2, True)
    assert (fisher.factor_period, fisher.inverse_period, fisher.calls) == (2, 3, 3)


@pytest.mark.parametrize("conflict", CONFLICT_MODES)
def test_without_any_advantage_nothing_moves(conflict: str) -> None:
    policy = policy_of()
    batch, zero = batch_of(policy), torch.zeros(ROWS, dtype=torch.float64)
    nothing = replace(batch, advantage_reward=zero, advantage_cost=zero)
    report = kfcpo.update(policy, nothing, 22.0, Knobs(), state_of(policy, conflict=conflict))
    assert torch.equal(numbers(policy), numbers(policy_of()))
    assert report.nonfinite == 0
    only_reward = replace(batch, advantage_cost=zero)
    report = kfcpo.update(policy, only_reward, 22.0, Knobs(), state_of(policy, conflict=conflict))
    assert not torch.equal(numbers(policy), numbers(policy_of()))
    assert all(math.isnan(t.cosine) for t in report.minibatches)
    assert torch.isfinite(numbers(policy)).all()


# --------------------------------------------------------------------------- what it has to refuse


def poisoned(name: str, poison: float) -> Callable[[Batch], Batch]:
    def poison_row(batch: Batch) -> Batch:
        column = getattr(batch, name).clone()
        column[5] = poison
        return replace(batch, **{name: column})

    return poison_row


@pytest.mark.parametrize("rollback", ["minibatch", "epoch", "none"])
@pytest.mark.parametrize(
    ("name", "poison"),
    [
        *itertools.product(("advantage_reward", "advantage_cost"), (math.nan, math.inf, -math.inf)),
        *(("log_prob", poison) for poison in (math.nan, -math.inf)),  # + inf: a ratio of 0
    ],
)
def test_an_advantage_that_is_not_finite_never_reaches_the_policy(
    name: str, poison: float, rollback: str
) -> None:
    """One bad row spoils one of three minibatches: that one is refused and counted."""
    policy = policy_of()
    batch = poisoned(name, poison)(batch_of(policy))
    state = state_of(policy, rollback=rollback)
    report = kfcpo.update(policy, batch, 22.0, Knobs(kl_limit=0.5), state)
    assert report.nonfinite == 1
    assert [t.committed for t in report.minibatches].count(False) == 1
    assert [math.isnan(t.kl) for t in report.minibatches].count(True) == 1
    assert torch.isfinite(numbers(policy)).all()
    assert not torch.equal(numbers(policy), numbers(policy_of()))
    assert torch.isfinite(state.fisher.precondition(numbers(policy))).all()
    everything = replace(batch, **{name: torch.full_like(getattr(batch, name), math.nan)})
    before = numbers(policy)
    report = kfcpo.update(policy, everything, 22.0, Knobs(kl_limit=0.5), state)
    assert report.nonfinite == 3
    assert torch.equal(numbers(policy), before)


class BrokenMetric(KFAC):
    """A Fisher inverse that returns a poisoned vector."""

    poison = math.nan

    def precondition(self, grads: Tensor) -> Tensor:
        natural = super().precondition(grads)
        natural[3] = self.poison  # a weight of the first layer: tanh hides its infinity
        return natural


@pytest.mark.parametrize("full_length", [True, False])
@pytest.mark.parametrize("rollback", ["minibatch", "epoch", "none"])
@pytest.mark.parametrize("poison", [math.nan, math.inf, -math.inf])
def test_a_direction_that_is_not_finite_is_refused_and_counted(
    poison: float, rollback: str, full_length: bool
) -> None:
    """Not taken for the zero direction, whose step would be kept and make delta grow."""
    policy = policy_of()
    state = state_of(policy, rollback=rollback, full_length=full_length)
    broken = BrokenMetric(policy)
    broken.poison = poison
    state.fisher = broken
    report = kfcpo.update(policy, batch_of(policy), 22.0, Knobs(), state)
    assert torch.equal(numbers(policy), numbers(policy_of()))
    assert report.nonfinite == 3
    assert not any(t.committed for t in report.minibatches if rollback != "epoch")
    assert rollback == "epoch" or state.delta <= 1e-3


def test_a_singular_fisher_without_damping_is_refused_not_mistaken_for_rest() -> None:
    """A component that is always zero: its eigenvalue is 0, and 1 / 0 is not a step."""
    policy = policy_of()
    batch = batch_of(policy)
    batch.obs[:, 0] = 0.0
    state = state_of(policy, damping=0.0)
    report = kfcpo.update(policy, batch, 22.0, Knobs(), state)
    assert torch.equal(numbers(policy), numbers(policy_of()))
    assert report.nonfinite == len(report.minibatches)
    assert state.delta <= 1e-3


class BlindMetric(KFAC):
    """Natural gradients far too long in one place, which its own inner product does not see."""

    place, length = 0, 0.0

    def precondition(self, grads: Tensor) -> Tensor:
        natural = super().precondition(grads)
        natural[self.place] = self.length
        return natural

    def inner(self, u: Tensor, v: Tensor) -> Tensor:
        seen = u.clone()
        seen[self.place] = 0.0
        return super().inner(seen, v.nan_to_num(posinf=0.0))


@pytest.mark.parametrize("rollback", ["minibatch", "epoch", "none"])
@pytest.mark.parametrize(
    ("place", "length"),
    [
        pytest.param(0, -1e4, id="log std: the deviation underflows to 0, the KL is infinite"),
        pytest.param(2, math.inf, id="first layer: tanh hides its infinity, the KL is finite"),
    ],
)
def test_a_step_to_numbers_that_are_not_finite_is_undone_and_counted(
    place: int, length: float, rollback: str
) -> None:
    policy = policy_of()
    state = state_of(policy, rollback=rollback, delta_start=0.5)
    blind = BlindMetric(policy)
    blind.place, blind.length = place, length
    state.fisher = blind
    report = kfcpo.update(policy, batch_of(policy), 22.0, Knobs(kl_limit=100.0), state)
    assert torch.equal(numbers(policy), numbers(policy_of()))
    assert report.nonfinite == 3
    assert report.kl == 0.0


def test_a_policy_that_is_spoilt_already_is_refused_without_an_exception() -> None:
    """Its gradients are not finite; the factors of K-FAC, which would be spoilt too, stay out."""
    policy = policy_of()
    batch, state = batch_of(policy), state_of(policy)
    healthy = policy.state_dict()["mean_net.0.weight"].clone()
    with torch.no_grad():
        policy.get_parameter("mean_net.0.weight")[0, 0] = math.nan
    report = kfcpo.update(policy, batch, 22.0, Knobs(), state)
    assert report.nonfinite == 3
    with torch.no_grad():
        policy.get_parameter("mean_net.0.weight").copy_(healthy)
    assert kfcpo.update(policy, batch, 22.0, Knobs(), state).nonfinite == 0


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("minibatch_size", 0),
        ("minibatch_size", 2.5),
        ("passes", 0),
        ("passes", 1.5),
        ("momentum", -0.1),
        ("momentum", 1.0),
        ("momentum", math.nan),
        ("delta_start", 0.0),
        ("delta_start", math.nan),
        ("delta_start", math.inf),
        ("damping", -1.0),
        ("factor_decay", 1.0),
        ("factor_period", 0),
        ("inverse_period", 0),
        ("conflict", "project"),
        ("metric", "riemann"),
        ("rollback", "never"),
        ("kl_reference", "first"),
        ("kl_direction", "up"),
        ("natural_gradient", "adam"),
    ],
)
def test_bad_settings_are_refused_when_they_are_made(name: str, value: object) -> None:
    """At once, not when a run's folder has been written."""
    with pytest.raises(ValueError, match=name.removeprefix("factor_d").removeprefix("d")) as error:
        kfcpo.Settings(**{name: value})  # type: ignore[arg-type]
    assert repr(value) in str(error.value)


def test_mean_kl_of_the_report_is_the_whole_epochs() -> None:
    policy, report, _ = updated(kl_direction="backward", kl_reference="previous")
    start = policy_of()
    obs = batch_of(start).obs
    assert report.kl == pytest.approx(float(mean_kl(start(obs), policy(obs)).detach()), rel=1e-9)

"""Checks of notebook 07, and the four parts themselves, for whoever has not written them yet.

`apply_block`, `direction`, `trial` and `run_trials` have the signatures of the exercises.
"""

import math
from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor, nn

from kfcpo_lib.blending import Inner, blend
from kfcpo_lib.exercises.checking import Wrong, close, exercise, same_shape, solved
from kfcpo_lib.exercises.nb05 import two_directions
from kfcpo_lib.trust_region import adapt_delta, snapshot, trial_step

Block = tuple[Tensor, Tensor, Tensor]
"""Basis of A [i, i], basis of G [o, o], eigenvalues [o, i] of G kron A."""
Apply = Callable[[Tensor, Block, float, int], Tensor]
Direction = Callable[[Tensor, Tensor, float, Inner], Tensor]
Trial = Callable[[Sequence[nn.Parameter], Tensor, Callable[[], float], float], tuple[bool, float]]
TryStep = Callable[[Tensor, float], bool]
RunTrials = Callable[[Iterable[Tensor], TryStep, float, float], tuple[list[bool], float]]


def apply_block(matrix: Tensor, block: Block, damping: float, power: int) -> Tensor:
    """(G kron A + damping I)^power, applied to one layer's matrix [out, in + 1]."""
    input_basis, output_basis, values = block
    rotated = output_basis.T @ matrix @ input_basis
    return output_basis @ ((values + damping) ** power * rotated) @ input_basis.T


def direction(reward: Tensor, cost: Tensor, cost_weight: float, inner: Inner) -> Tensor:
    """[P] unit lengths, conflict, blend, unit length again."""
    reward, cost = unit(reward, inner), unit(cost, inner)
    return unit(blend(reward, cost, cost_weight, "project_cost", inner), inner)


def unit(vector: Tensor, inner: Inner) -> Tensor:
    """The vector at length 1 in the metric; zero stays zero."""
    squared = inner(vector, vector)
    return torch.zeros_like(vector) if squared <= 0 else vector / squared.sqrt()


def trial(
    parameters: Sequence[nn.Parameter],
    step: Tensor,
    measure_kl: Callable[[], float],
    kl_limit: float,
) -> tuple[bool, float]:
    """Move by the step [P]; keep it if the KL is within its limit; (committed, KL)."""
    kl = math.nan

    def within_limit() -> bool:
        nonlocal kl
        kl = measure_kl()
        return kl <= kl_limit

    return trial_step(parameters, step, within_limit), kl


def run_trials(
    pieces: Iterable[Tensor], try_step: TryStep, delta: float, kl_limit: float
) -> tuple[list[bool], float]:
    """Try a step on every minibatch, delta adapting; (verdicts, delta for the next epoch)."""
    verdicts = []
    for piece in pieces:
        verdicts.append(try_step(piece, delta))
        delta = adapt_delta(delta, verdicts[-1], kl_limit)
    return verdicts, delta


@exercise("natural gradient of a layer")
def check_apply(student: Apply) -> None:
    """student(matrix [o, i], block, damping, power) -> [o, i]."""
    for n_out, n_in in ((3, 5), (4, 4), (2, 7)):
        block, dense = _layer(n_out, n_in)
        for power in (-1, 1):
            matrix, damping = torch.randn(n_out, n_in, dtype=torch.float64), 0.2 + 0.3 * _draw()
            answer = solved(student(matrix.clone(), block, damping, power))
            same_shape(answer, matrix, "the result")
            damped = dense + damping * torch.eye(len(dense), dtype=torch.float64)
            operator = torch.linalg.inv(damped) if power < 0 else damped
            if not close(answer, (operator @ matrix.reshape(-1)).view(n_out, n_in), 1e-5):
                raise Wrong(_apply_mistake(answer, matrix, block, damping, power))


def _apply_mistake(answer: Tensor, matrix: Tensor, block: Block, damping: float, power: int) -> str:
    basis_a, basis_g, values = block
    turned = basis_g.T @ matrix @ basis_a

    def back(changed: Tensor) -> Tensor:
        return basis_g @ changed @ basis_a.T

    right = (values + damping) ** power * turned
    wrong_power = "power 1 multiplies by the eigenvalues: you divide by them, whatever power says."
    if power < 0:
        wrong_power = "the natural gradient divides by the eigenvalues: you multiply by them."
    usual = {
        "the damping is missing: add it to the eigenvalues.": back(values**power * turned),
        "the damping goes to the eigenvalues before the power, not after it.": back(
            (values**power + damping) * turned
        ),
        "rotate back at the end: the result is still in the eigenbasis.": right,
        "rotate into the eigenbasis first.": back((values + damping) ** power * matrix),
        wrong_power: back((values + damping) ** -power * turned),
        "the columns of a basis are the eigenvectors: in comes basis.T, out goes basis.": (
            basis_g.T @ ((values + damping) ** power * (basis_g @ matrix @ basis_a.T)) @ basis_a
        ),
    }
    return _named(answer, usual) or (
        "it should be (G kron A + damping I)^power, applied to the layer's matrix."
    )


@exercise("direction of the step")
def check_direction(student: Direction) -> None:
    """student(reward [P], cost [P], cost_weight, inner) -> [P] of length 1."""
    for conflict in (True, False):
        for cost_weight in (0.2, 0.7, 0.0, 1.0):
            reward, cost, inner = _pair(6, conflict, misleading=cost_weight == 0.7)
            answer = solved(student(reward.clone(), cost.clone(), cost_weight, inner))
            same_shape(answer, reward, "the direction")
            if not close(answer, direction(reward, cost, cost_weight, inner)):
                raise Wrong(_direction_mistake(answer, reward, cost, cost_weight, inner))
    zero, vector = torch.zeros(4, dtype=torch.float64), torch.randn(4, dtype=torch.float64)
    for reward, cost in ((zero, zero), (vector, zero), (zero, vector)):
        answer = solved(student(reward.clone(), cost.clone(), 0.5, torch.dot))
        if not bool(torch.isfinite(answer).all()):
            raise Wrong("a gradient of zero stays zero: yours becomes a division by zero.")
        if not close(answer, direction(reward, cost, 0.5, torch.dot)):
            raise Wrong("where one gradient is zero, the step is the other's, at length 1.")


def _direction_mistake(
    answer: Tensor, reward: Tensor, cost: Tensor, cost_weight: float, inner: Inner
) -> str:
    n_r, n_c = unit(reward, inner), unit(cost, inner)

    def blended(mode: str, weight: float = cost_weight) -> Tensor:
        return unit(blend(n_r, n_c, weight, mode, inner), inner)

    usual = {
        "the blend needs unit length too: its length is set later, by delta.": blend(
            n_r, n_c, cost_weight, "project_cost", inner
        ),
        "scale both directions to length 1 before you blend them.": unit(
            blend(reward, cost, cost_weight, "project_cost", inner), inner
        ),
        "w_c and w_r are swapped: w_c belongs to the cost direction.": blended(
            "project_cost", 1.0 - cost_weight
        ),
        "whether the two conflict is asked with `inner`, not with the dot product.": blended(
            "project_cost" if n_r @ n_c < 0 else "none"
        ),
        "resolve the conflict before you blend.": blended("none"),
        "you projected the reward direction; in KFCPO the cost direction gives way.": blended(
            "project_reward"
        ),
        "you projected both; in KFCPO the cost direction alone gives way.": blended("project_both"),
        "lengths and conflict are measured with `inner`, not with the dot product.": direction(
            reward, cost, cost_weight, torch.dot
        ),
        "the cost direction already points to safety: add it.": unit(
            blend(n_r, -n_c, cost_weight, "none", inner), inner
        ),
    }
    return _named(answer, usual) or (
        "unit lengths, then the projection, then w_r n_r + w_c n_c, then unit length again."
    )


@exercise("trial step")
def check_trial(student: Trial) -> None:
    """student(parameters, step [P], measure_kl, kl_limit) -> (committed, kl)."""
    for kl in (0.003, 0.02, 0.021, 0.5, math.nan):
        _judge_trial(student, kl, limit=0.02)


def _judge_trial(student: Trial, kl: float, limit: float) -> None:
    layer = nn.Linear(3, 2)
    parameters = list(layer.parameters())
    before, step = snapshot(parameters), 0.37 * torch.randn(8)
    target = [p + part.view_as(p) for p, part in zip(before, step.split([6, 2]), strict=True)]
    seen: list[bool] = []

    def measure_kl() -> float:
        pairs = zip(parameters, target, strict=True)
        seen.append(all(torch.allclose(p, wanted, atol=1e-6) for p, wanted in pairs))
        return kl

    answer = solved(student(parameters, step.clone(), measure_kl, limit))
    if not (isinstance(answer, tuple | list) and len(answer) == 2):
        raise Wrong("return two things: (committed, kl).")
    if not seen or not seen[0]:
        raise Wrong("measure the KL of the moved policy: move first, then call measure_kl().")
    _judge_state(bool(answer[0]), parameters, before, target, kl, limit)
    if not (answer[1] == kl or math.isnan(kl)):
        raise Wrong("the second thing to return is the KL that was measured.")


def _judge_state(
    committed: bool,
    parameters: Sequence[nn.Parameter],
    before: Sequence[Tensor],
    target: Sequence[Tensor],
    kl: float,
    limit: float,
) -> None:
    keep = kl <= limit
    restored = all(torch.equal(p, old) for p, old in zip(parameters, before, strict=True))
    pairs = list(zip(parameters, before, target, strict=True))
    if math.isnan(kl) and (committed or not restored):
        raise Wrong("a KL of NaN must be rolled back: ask for kl <= limit, not for kl > limit.")
    if committed != keep:
        raise Wrong("commit exactly if kl <= kl_limit, the limit itself included.")
    if keep and restored:
        raise Wrong("you undid a step that was within the limit.")
    if keep and not all(torch.allclose(p, to, atol=1e-6) for p, _, to in pairs):
        raise Wrong("after a commit the parameters should be the old ones plus the step, once.")
    if keep or restored:
        return
    if all(torch.allclose(p, to, atol=1e-6) for p, _, to in pairs):
        raise Wrong("the step was not undone: copy the old values (clone) before you move.")
    if all(torch.allclose(p, old, atol=1e-5) for p, old, _ in pairs):
        raise Wrong(
            "nearly: subtracting the step leaves rounding behind; copy the old values back."
        )
    raise Wrong("after a rollback every parameter should have its old value, to the bit.")


@exercise("epoch of trials")
def check_trials(student: RunTrials) -> None:
    """student(pieces, try_step, delta, kl_limit) -> (verdicts, delta)."""
    plans: tuple[list[bool], ...] = (
        [True] * 3,
        [False, True, False, False, True],
        [True] * 60,
        [False] * 60,
        [],
    )
    for plan in plans:
        _judge_trials(student, plan, delta=2e-3 * (0.5 + _draw()), limit=0.01)


def _judge_trials(student: RunTrials, plan: Sequence[bool], delta: float, limit: float) -> None:
    pieces = [torch.tensor([n]) for n in range(len(plan))]
    asked: list[tuple[int, float]] = []

    def recorder(log: list[tuple[int, float]]) -> TryStep:
        def try_step(piece: Tensor, size: float) -> bool:
            log.append((int(piece), float(size)))
            return plan[int(piece)]

        return try_step

    answer = solved(student(iter(pieces), recorder(asked), delta, limit))
    if not (isinstance(answer, tuple | list) and len(answer) == 2):
        raise Wrong("return two things: (verdicts, delta).")
    wanted: list[tuple[int, float]] = []
    verdicts, last = run_trials(pieces, recorder(wanted), delta, limit)
    if [n for n, _ in asked] != [n for n, _ in wanted]:
        raise Wrong("try every minibatch once, in order: a rollback does not end the epoch.")
    found, expected = [d for _, d in asked], [d for _, d in wanted]
    if not (close(found, expected, 1e-9) and close(answer[1], last, 1e-9)):
        raise Wrong(_delta_mistake(found, float(answer[1]), plan, delta, limit))
    if list(answer[0]) != verdicts:
        raise Wrong("the first thing to return is the list of what try_step said.")


def _delta_mistake(
    found: Sequence[float], end: float, plan: Sequence[bool], delta: float, limit: float
) -> str:
    values = [*found, end]

    def course(rule: Callable[[float, bool], float], *, early: bool = False) -> list[float]:
        deltas = [delta]
        for verdict in plan:
            deltas.append(rule(deltas[-1], verdict))
        return [*deltas[1:], deltas[-1]] if early else deltas

    usual = {
        "delta should adapt: hand the new one to the next minibatch.": course(lambda d, _: d),
        "keep delta at or below the KL limit.": course(
            lambda d, v: max(d * (1.05 if v else 0.7), 1e-6)
        ),
        "keep delta at or above 1e-6.": course(lambda d, v: min(d * (1.05 if v else 0.7), limit)),
        "the wrong way round: a commit makes delta larger, a rollback smaller.": course(
            lambda d, v: min(max(d * (0.7 if v else 1.05), 1e-6), limit)
        ),
        "adapt delta after the trial, not before it.": course(
            lambda d, v: adapt_delta(d, v, limit), early=True
        ),
    }
    for sentence, mistake in usual.items():
        if close(values, mistake, 1e-9):
            return sentence
    return "after a commit delta becomes 1.05 delta, after a rollback 0.7 delta, in [1e-6, limit]."


def _named(answer: Tensor, usual: dict[str, Tensor]) -> str | None:
    """The sentence of the first usual mistake that gives this answer."""
    return next((sentence for sentence, wrong in usual.items() if close(answer, wrong)), None)


def _draw() -> float:
    return float(torch.rand(()))


def _layer(n_out: int, n_in: int) -> tuple[Block, Tensor]:
    """A random block, and the matrix G kron A that it stands for."""
    factors = []
    for size in (n_in, n_out):
        square = torch.randn(size, size, dtype=torch.float64)
        factors.append(square @ square.T / size)
    values_a, basis_a = torch.linalg.eigh(factors[0])
    values_g, basis_g = torch.linalg.eigh(factors[1])
    return (basis_a, basis_g, torch.outer(values_g, values_a)), torch.kron(factors[1], factors[0])


def _pair(size: int, conflict: bool, misleading: bool) -> tuple[Tensor, Tensor, Inner]:
    """`two_directions`, with the metric as a function."""
    reward, cost, fisher = two_directions(size, conflict, misleading=misleading)
    return reward, cost, lambda u, v: u @ fisher @ v

"""Objectives: values by hand, gradients in float64 against finite differences, directions, the linear surrogate."""

from __future__ import annotations

import math

import pytest
import torch
from helpers.tiny import batch_of, bert, image_rows, lm, lm64, lm_list, text_class_rows, vit

from hf_unlearn.objectives import row_nll
from hf_unlearn.objectives.base import RowOutputs
from hf_unlearn.objectives.gaps import SURE, confidence
from hf_unlearn.objectives.registry import OBJECTIVES, get_objective
from hf_unlearn.objectives.row_nll import per_row_nll
from hf_unlearn.objectives.surrogate import form_problems, slopes

F_LOSS, R_LOSS, ALPHA, TAU = 1.5, 0.4, 0.2, 2.0
HAND = {  # at the values above
    ("nabla_tau", "hinge"): 0.2 * 0.25 + 0.8 * 0.4,
    ("nabla_tau", "squared"): 0.2 * 0.25 + 0.8 * 0.4,
    ("nabla_tau", "rows"): 0.8 * 0.4,
    ("nabla_tau", "level"): 0.8 * 0.4,
    ("nabla_tau", "matched"): 0.8 * 0.4,
    ("nabla_tau", "ranked"): 0.8 * 0.4,
    ("gradient_ascent", None): -1.5,
    ("grad_diff", None): -0.5 * 1.5 + 3.0 * 0.4,
    ("npo", None): 3.0 * 0.4,
}
PARAMETERS = {"grad_diff": {"gamma": 0.5, "beta": 3.0}, "npo": {"npo_beta": 0.2, "beta": 3.0}}


def make(name, gap):
    return get_objective(name, gap=gap) if gap else get_objective(name, **PARAMETERS.get(name, {}))


def row_outputs(nll, items, **brought):
    """Rows in float64; `nll` takes gradients."""
    brought = {name: torch.tensor(values, dtype=torch.float64) for name, values in brought.items()}
    return RowOutputs(torch.tensor(nll, dtype=torch.float64).requires_grad_(), torch.tensor(items), **brought)


def scalars(*values):
    return [torch.tensor(v, dtype=torch.float64) for v in values]


# ---- per_row_nll ----


@pytest.mark.parametrize("side", ["right", "left"])
def test_nll_sums_over_counts_are_the_causal_models_own_loss(side):
    model = lm()  # rotary positions: padding on the left does not move a row
    rows = lm_list(5)
    rows[1]["labels"][-1] = -100  # holes at the end and in the middle
    rows[2]["labels"][3] = -100
    batch = batch_of(model, rows, side)
    out = model(**batch)
    nll, n = per_row_nll(out.logits, batch["labels"])
    assert nll.dtype == torch.float32 and n.dtype == torch.int64 and nll.shape == n.shape == (5,)
    assert n.tolist() == [sum(y != -100 for y in row["labels"][1:]) for row in rows]
    torch.testing.assert_close(nll.sum() / n.sum(), out.loss, rtol=1e-5, atol=0)
    # each row alone, unpadded, has the same loss as in the padded batch
    for i, row in enumerate(rows):
        alone = model(**batch_of(model, [row], side)).loss
        torch.testing.assert_close(nll[i] / n[i], alone, rtol=1e-5, atol=0)


def test_a_label_at_the_first_place_is_not_counted():
    logits = torch.randn(1, 3, 5, dtype=torch.float64)
    nll, n = per_row_nll(logits, torch.tensor([[4, 1, 2]]))
    by_hand = -(logits[0, 0].log_softmax(0)[1] + logits[0, 1].log_softmax(0)[2])
    assert n.tolist() == [2] and nll.dtype == torch.float64
    torch.testing.assert_close(nll[0], by_hand)


@pytest.mark.parametrize("make_model, rows", [(bert, text_class_rows), (vit, image_rows)])
def test_nll_of_a_classifier_is_its_own_loss(make_model, rows):
    model = make_model().double()
    batch = batch_of(model, rows(6))
    if "pixel_values" in batch:
        batch["pixel_values"] = batch["pixel_values"].double()
    out = model(**batch)
    nll, n = per_row_nll(out.logits, batch["labels"])
    assert n.tolist() == [1] * 6
    torch.testing.assert_close(nll.mean(), out.loss, rtol=1e-9, atol=0)


def test_ignored_rows_count_zero_and_half_precision_is_summed_in_float32():
    logits = torch.tensor([[0.0, math.log(3)], [5.0, 1.0]], dtype=torch.bfloat16)
    nll, n = per_row_nll(logits, torch.tensor([0, -100]))
    assert nll.dtype == torch.float32
    assert n.tolist() == [1, 0] and nll[1] == 0
    assert abs(float(nll[0]) - math.log(4)) < 2e-2


@pytest.mark.parametrize("logits, labels", [((2, 3, 5), (2,)), ((2, 5), (2, 3)), ((5,), (5,)), ((2, 3, 4, 5), (2, 3))])
def test_other_shapes_are_refused_with_the_shapes_named(logits, labels):
    with pytest.raises(ValueError, match=rf"{', '.join(map(str, logits))}.*expected \(B, T, V\)"):
        per_row_nll(torch.zeros(logits), torch.zeros(labels, dtype=torch.long))
    with pytest.raises(ValueError, match="are of 2 rows, `labels` of 3"):
        per_row_nll(torch.zeros(2, 5), torch.zeros(3, dtype=torch.long))


# ---- values, gradients, directions ----


@pytest.mark.parametrize("case", HAND, ids=str)
def test_mean_value_matches_a_hand_calculation(case):
    value = make(*case).mean_value(*scalars(F_LOSS, R_LOSS), alpha=ALPHA, tau=TAU)
    assert value.shape == ()
    assert float(value) == pytest.approx(HAND[case], rel=1e-12)


def test_hinge_on_each_row_matches_a_hand_calculation():
    objective = get_objective("nabla_tau", gap="rows")
    rows = row_outputs([2.0, 9.0, 3.0], [2, 3, 1], target=[2.0, 2.0, 3.5])  # means 1, 3, 3
    assert objective.row_value(rows, alpha=0.5).tolist() == [0.5, 0.0, 0.125]
    level = get_objective("nabla_tau", gap="level")  # the second row, a nat beyond its target, is pulled back
    assert level.row_value(rows, alpha=0.5).tolist() == [0.5, 0.5, 0.125]
    assert objective.by_rows and objective.reference == "none"


def test_row_value_matches_a_hand_calculation():
    objective = get_objective("nabla_tau", gap="matched")
    assert objective.by_rows and not get_objective("nabla_tau").by_rows
    rows = row_outputs([3.0, 6.0], [3, 2], target=[2.0, 2.5])
    assert objective.row_value(rows, alpha=0.5).tolist() == [0.5, 0.125]


def test_row_value_of_ranked_matches_a_hand_calculation():
    objective = get_objective("nabla_tau", gap="ranked")
    assert objective.by_rows
    nll = [2 * math.log(2), -math.log(0.9), 1.0]  # p = ½, .9, e⁻¹
    rows = row_outputs(nll, [2, 1, 1], target=[-math.log(0.2), -math.log(0.99), 1.0])
    value = objective.row_value(rows, alpha=0.3)
    gaps = [math.log(0.2 / 0.8), math.log(99) - math.log(9), 0.0]
    assert value.tolist() == pytest.approx([0.3 * gap**2 for gap in gaps], rel=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_logit_of_confidence_is_finite_and_falls_everywhere(dtype):
    losses = torch.tensor([0.0, 1e-30, 1e-12, 1e-8, SURE, 2e-6, 1e-4, 0.1, math.log(2), 3.0, 90.0, 1e4], dtype=dtype)
    logits = confidence(losses.requires_grad_())
    (slope,) = torch.autograd.grad(logits.sum(), losses)
    assert logits.dtype == dtype and logits.isfinite().all() and slope.isfinite().all()
    assert (slope < 0).all() and slope.min() >= -1.001 / SURE and (logits.diff() <= 0).all()
    p = torch.exp(-losses.detach().double())[5:11]
    torch.testing.assert_close(logits.detach().double()[5:11], (p / -torch.expm1(p.log())).log(), rtol=1e-5, atol=1e-6)
    assert float(logits[-1].detach()) == -1e4 and float(slope[-1]) == -1.0
    assert float(logits[0].detach()) == pytest.approx(-math.log(SURE) + 1, rel=1e-5)
    near = [float(confidence(torch.tensor(SURE * (1 + d), dtype=torch.float64))) for d in (-1e-3, 0.0, 1e-3)]
    assert near[0] - near[1] == pytest.approx(near[1] - near[2], rel=2e-3)  # no kink where the tangent begins


@pytest.mark.parametrize("autocast", [False, True])
def test_ranked_raises_the_loss_of_a_row_that_the_model_is_sure_of(autocast):
    """Label 0 at a loss that float32 and bf16 round to 0."""
    logits = torch.tensor([[20.0, 0.0, -1.0]], dtype=torch.bfloat16 if autocast else torch.float32)
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        nll, items = per_row_nll(logits.requires_grad_(), torch.tensor([0]))
        assert float(nll.detach()) == 0.0
        rows = RowOutputs(nll, items, target=torch.tensor([0.5]))
        value = get_objective("nabla_tau", gap="ranked").row_value(rows, alpha=0.3)
    row, logit = torch.autograd.grad(value.sum(), [nll, logits])
    assert row.isfinite().all() and -1e8 < float(row) < -1e6
    assert logit.isfinite().all() and (logit[0, 1:] < -1e-3).all()  # descending raises the other labels


def npo_term(nll, reference, beta):
    """(values, slopes) of the forget term of rows of two labels."""
    objective = get_objective("npo", npo_beta=beta)
    assert objective.reference == "loss" and objective.by_rows
    rows = row_outputs(nll, [2] * len(nll), reference=reference)
    value = objective.row_value(rows, alpha=0.3)
    return value.tolist(), torch.autograd.grad(value.sum(), rows.nll)[0].tolist()


@pytest.mark.parametrize("beta", [0.02, 0.1, 2.5])
def test_npo_starts_as_ascent_on_the_sum_whatever_the_row(beta):
    values, slopes = npo_term([0.0, 0.3, 90.0], [0.0, 0.3, 90.0], beta)
    assert values == pytest.approx([2 / beta * math.log(2)] * 3, rel=1e-12)
    assert slopes == pytest.approx([-1.0] * 3, rel=1e-12)


def test_npo_by_hand_fades_with_the_probability_and_is_ascent_without_temperature():
    values, slopes = npo_term([3.0, 0.5], [1.0, 2.0], 0.5)
    ratios = [math.exp(-2.0), math.exp(1.5)]  # p / q
    assert values == pytest.approx([4 * math.log(1 + ratio**0.5) for ratio in ratios], rel=1e-12)
    assert slopes == pytest.approx([-2 * ratio**0.5 / (1 + ratio**0.5) for ratio in ratios], rel=1e-12)
    values, slopes = npo_term([1e4, 0.0], [0.0, 1e4], 0.1)  # all but gone, and the other way round
    assert values == pytest.approx([0.0, 2e4]) and slopes == pytest.approx([0.0, -2.0])
    reference = [0.1, 40.0, 3.0]
    for beta, near in ((1e-3, 0.06), (1e-6, 6e-5)):
        values, slopes = npo_term([7.0, 0.0, 90.0], reference, beta)
        constant = 2 / beta * math.log(2)
        assert slopes == pytest.approx([-1.0] * 3, abs=near)
        moved = [v - constant for v in values]
        assert moved == pytest.approx([0.1 - 7.0, 40.0 - 0.0, 3.0 - 90.0], rel=near)


@pytest.mark.parametrize("case", [case for case in HAND if make(*case).by_rows], ids=str)
def test_row_values_have_the_gradient_of_the_finite_difference(case):
    torch.manual_seed(0)
    nll = (3 * torch.rand(6, dtype=torch.float64) + 0.1).requires_grad_()
    items, brought = torch.tensor([1, 2, 3, 1, 2, 3]), 3 * torch.rand(6, dtype=torch.float64)
    objective = make(*case)
    assert torch.autograd.gradcheck(
        lambda x: objective.row_value(RowOutputs(x, items, target=brought, reference=brought), alpha=ALPHA), nll
    )


@pytest.mark.parametrize("forget, hinge, squared", [(1.5, -0.2, -0.2), (2.5, 0.0, 0.2), (2.0, 0.0, 0.0)])
def test_slopes_of_each_gap_on_both_sides_of_the_target(forget, hinge, squared):
    for gap, expected in (("hinge", hinge), ("squared", squared), ("matched", 0.0), ("ranked", 0.0)):
        f, r = slopes(get_objective("nabla_tau", gap=gap), *scalars(forget, R_LOSS), alpha=ALPHA, tau=2.0)
        assert float(f) == pytest.approx(expected, abs=1e-15), gap
        assert float(r) == pytest.approx(0.8), gap
        assert not f.requires_grad and not r.requires_grad


def test_slopes_of_the_baselines_and_under_no_grad():
    with torch.no_grad():
        assert [float(s) for s in slopes(make("grad_diff", None), *scalars(1.0, 1.0), alpha=0, tau=0)] == [-0.5, 3.0]
        assert [float(s) for s in slopes(make("gradient_ascent", None), *scalars(1.0, 1.0), alpha=0, tau=0)] == [-1, 0]


@pytest.mark.parametrize("case", HAND, ids=str)
def test_every_objective_has_the_form_that_the_surrogate_needs(case):
    assert form_problems(make(*case)) == []


def test_form_problems_name_an_objective_that_the_linear_surrogate_cannot_differentiate():
    class Mixed(type(make("npo", None))):
        def mean_value(self, forget_loss, retain_loss, *, alpha, tau):
            return retain_loss - forget_loss

    class Curved(type(make("grad_diff", None))):
        def mean_value(self, forget_loss, retain_loss, *, alpha, tau):
            return retain_loss**2 - forget_loss

    class Product(Curved):
        def mean_value(self, forget_loss, retain_loss, *, alpha, tau):
            return -forget_loss * retain_loss

    assert ["depends on the forget loss" in problem for problem in form_problems(Mixed())] == [True]
    for kind in (Curved, Product):
        assert ["must be linear in the retain loss" in problem for problem in form_problems(kind())] == [True]


def losses_at(model, forget, retain):
    """Mean forget and retain loss, and the forget rows' own as sums and counts, with a graph."""
    pairs = []
    for batch in (forget, retain):
        out = model(**{k: v for k, v in batch.items() if k != "labels"})
        pairs.append(per_row_nll(out.logits, batch["labels"]))
    (fs, fn), (rs, rn) = pairs
    return fs.sum() / fn.sum(), rs.sum() / rn.sum(), (fs, fn)


def row_term(objective, rows, targets, alpha=ALPHA):
    return objective.row_value(RowOutputs(*rows, target=targets, reference=targets * rows[1]), alpha=alpha).mean()


def value_at(objective, model, forget, retain, tau, targets):
    f, r, rows = losses_at(model, forget, retain)
    value = objective.mean_value(f, r, alpha=ALPHA, tau=tau)
    return value + row_term(objective, rows, targets) if objective.by_rows else value


@pytest.fixture(scope="module")
def scene():
    model = lm64()
    forget, retain = batch_of(model, lm_list(3)), batch_of(model, lm_list(4, 10))
    with torch.no_grad():
        tau = float(losses_at(model, forget, retain)[0]) + 0.5  # an open gate
    return model, forget, retain, tau, torch.tensor([tau, tau + 1, tau - 1], dtype=torch.float64)


@pytest.mark.parametrize("case", HAND, ids=str)
def test_gradient_through_a_model_is_the_finite_difference(case, scene):
    model, forget, retain, tau, targets = scene
    objective = make(*case)
    model.zero_grad()
    value_at(objective, model, forget, retain, tau, targets).backward()
    torch.manual_seed(3)
    for p in (model.lm_head.weight, model.transformer.h[0].mlp.c_fc.weight):
        direction = torch.randn_like(p)
        along, step, ends = float((p.grad * direction).sum()), 1e-5, []
        for sign in (1, -1):
            with torch.no_grad():
                p.add_(sign * step * direction)
                ends.append(float(value_at(objective, model, forget, retain, tau, targets)))
                p.sub_(sign * step * direction)
        assert along == pytest.approx((ends[0] - ends[1]) / (2 * step), rel=1e-6)


@pytest.mark.parametrize("case", HAND, ids=str)
def test_the_linear_surrogate_has_the_objectives_gradient(case, scene):
    model, forget, retain, tau, targets = scene
    objective = make(*case)
    params = list(model.parameters())
    wanted = torch.autograd.grad(value_at(objective, model, forget, retain, tau, targets), params)
    f, r, rows = losses_at(model, forget, retain)
    slope_f, slope_r = slopes(objective, f.detach(), r.detach(), alpha=ALPHA, tau=tau)
    surrogate = slope_f * f + slope_r * r
    if objective.by_rows:
        surrogate = surrogate + row_term(objective, rows, targets)
    for got, want in zip(torch.autograd.grad(surrogate, params), wanted, strict=True):
        torch.testing.assert_close(got, want, rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize("case", HAND, ids=str)
def test_one_small_step_moves_the_losses_where_they_should_go(case, scene):
    _, forget, retain, tau, targets = scene
    model = lm64()
    objective = make(*case)
    targets = targets + 1.0  # all above the rows' losses
    before = [float(x.detach()) for x in losses_at(model, forget, retain)[:2]]
    value = value_at(objective, model, forget, retain, tau, targets)
    value.backward()
    with torch.no_grad():
        for p in model.parameters():
            p.sub_(1e-3 * p.grad)
    after = [float(x.detach()) for x in losses_at(model, forget, retain)[:2]]
    assert float(value_at(objective, model, forget, retain, tau, targets).detach()) < float(value.detach())
    if case[0] == "nabla_tau" and not objective.by_rows or case[0] == "grad_diff":
        assert after[1] < before[1]
    if case[0] == "gradient_ascent" or objective.by_rows:
        assert after[0] > before[0]


@pytest.mark.parametrize("gap", ["hinge", "rows", "squared", "level", "matched", "ranked"])
def test_with_alpha_one_the_forget_loss_rises_and_the_hinge_has_no_gradient_beyond_the_target(gap, scene):
    model, forget, retain, tau, targets = scene
    objective = get_objective("nabla_tau", gap=gap)
    f, r, rows = losses_at(model, forget, retain)

    def forget_gradient(tau, targets):
        value = objective.mean_value(f, r.detach(), alpha=1.0, tau=tau)
        if objective.by_rows:
            value = row_term(objective, rows, targets, alpha=1.0)
        return torch.autograd.grad(value, model.lm_head.weight, retain_graph=True)[0]

    plain = torch.autograd.grad(f, model.lm_head.weight, retain_graph=True)[0]
    ascent = forget_gradient(tau, targets + 2)
    assert float((ascent * plain).sum()) < 0  # descending on the objective ascends on the forget loss
    below = float(f.detach()) - 0.5
    beyond = forget_gradient(below, (rows[0] / rows[1]).detach() - 0.5)
    if gap in ("hinge", "rows"):
        assert torch.count_nonzero(beyond) == 0
    else:  # symmetric: the overshoot is pulled back
        assert float((beyond * plain).sum()) > 0


# ---- registry ----


def test_errors_for_unknown_names_and_options_list_those_that_exist():
    assert {"nabla_tau", "gradient_ascent", "grad_diff", "npo"} <= set(OBJECTIVES)
    for name, cls in OBJECTIVES.items():
        assert cls.citation and cls.formula and cls.bound and cls().name == name
    with pytest.raises(ValueError, match=r"'npo2'.*'grad_diff', 'gradient_ascent', .*'nabla_tau', 'npo'"):
        get_objective("npo2")
    with pytest.raises(ValueError, match=r"'grad_diff' has no parameter 'delta'.*beta.*gamma"):
        get_objective("grad_diff", delta=1)
    with pytest.raises(ValueError, match=r"no parameter 'gap'.*none"):
        get_objective("finetune", gap="hinge")
    with pytest.raises(ValueError, match=r"`gap` is 'relu'.*'hinge', 'rows', 'squared', 'level', 'matched', 'ranked'"):
        get_objective("nabla_tau", gap="relu")


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("shape", [(5, 7, 11), (9, 11)])
def test_losses_are_the_same_when_large_logits_are_taken_in_pieces(monkeypatch, dtype, shape):
    torch.manual_seed(0)
    logits = torch.randn(shape, dtype=dtype)
    labels = torch.randint(0, 11, shape[:-1])
    labels.view(-1)[::3] = -100
    found = []
    for piece in (row_nll.LOGITS_PIECE, 40):
        monkeypatch.setattr(row_nll, "LOGITS_PIECE", piece)
        x = logits.clone().requires_grad_()
        nll, items = per_row_nll(x, labels)
        (nll * torch.arange(1, shape[0] + 1)).sum().backward()
        with torch.no_grad():
            assert torch.equal(per_row_nll(x, labels)[0], nll)
        found.append((nll.detach(), items, x.grad))
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


def test_the_logits_behind_learnt_prompts_are_the_last_ones():
    logits, labels = torch.randn(2, 7, 5), torch.tensor([[-100, 1, 2, 3], [0, 4, -100, 2]])
    for a, b in zip(per_row_nll(logits, labels), per_row_nll(logits[:, 3:], labels), strict=True):
        assert torch.equal(a, b)
    found = row_nll.row_outputs(logits, labels, "logits")
    assert found.logits.shape == (2, 4, 5) and torch.equal(found.nll, per_row_nll(logits, labels)[0])
    with pytest.raises(ValueError, match=r"`logits` \(2, 3, 5\) with `labels` \(2, 4\): fewer positions than labels"):
        per_row_nll(logits[:, :3], labels)


@pytest.mark.parametrize("case", list(HAND), ids=str)
def test_an_objective_says_whether_it_reads_alpha(case):
    objective, rows = make(*case), (torch.tensor([1.0, 3.0]), torch.tensor([2.0, 2.0]))
    values = [objective.mean_value(*scalars(1.0, 2.0), alpha=alpha, tau=9.0) for alpha in (0.2, 0.7)]
    if objective.by_rows:
        own = [row_term(objective, rows, torch.tensor([4.0, 5.0]), alpha=alpha) for alpha in (0.2, 0.7)]
        values = [mean + row for mean, row in zip(values, own, strict=True)]
    assert bool(values[0] != values[1]) == objective.uses_alpha

"""Every objective in a request: a step is its formula on the whole batch, however it is cut, and costs what it must."""

from __future__ import annotations

import pytest
import torch
from helpers.proofs import step_value
from helpers.tiny import (
    Gradients,
    Weights,
    batch_of,
    bert,
    distance,
    image_rows,
    lm64,
    lm_rows,
    relative,
    text_class_rows,
    vit,
    weights,
)
from helpers.unlearning import EIGHT, open_gate, trainer

from hf_unlearn import ArgumentError
from hf_unlearn.data.order import PairedDataset
from hf_unlearn.objectives.base import LANGUAGE, RowOutputs
from hf_unlearn.objectives.registry import OBJECTIVES, get_objective
from hf_unlearn.objectives.row_nll import labels_by_position, per_row_nll
from hf_unlearn.unlearning import schedule
from hf_unlearn.unlearning.look import RARELY

NAMES = [name for name, cls in OBJECTIVES.items() if cls.needs != "hidden_states" and not cls().edits]
RAGGED = {"short": 3, "long": 29}  # of one label to 26
UNEVEN = {"forget": lm_rows(8, **RAGGED), "retain": lm_rows(16, 8, **RAGGED), "unseen": lm_rows(8, 100, **RAGGED)}
STEPS = {"max_steps": 2, "stop": False, "learning_rate": 0.05, "optim": "sgd", "max_grad_norm": 0.0}
CUTS = ((8, 1), (2, 4), (1, 8))


def with_answers(rows: dict) -> dict:
    """Forget rows with an alternate answer, whose prompts are whole."""
    texts = [f"t{4 + i % 9}" for i in range(len(rows["forget"]))]
    return {**rows, "forget": rows["forget"].add_column("alternate", texts)}


EIGHT, UNEVEN = with_answers(EIGHT), with_answers(UNEVEN)
TEXT_ONLY = [name for name in NAMES if OBJECTIVES[name].kinds == (LANGUAGE,)]


def run_of(out, model, rows, name, each=8, accumulation=1, **options):
    return trainer(out, model, rows, objective=name, per_device_train_batch_size=each,
                   gradient_accumulation_steps=accumulation, **{**STEPS, **options})  # fmt: skip


def by_hand(run, model, rows, retain_term="auto", step=0, start=None):
    """
    The loss of a step, () with a graph, from the logits of the whole batch and the contract alone.

    Args:
        model: as it is before the step; start: before the request, the same one where it is the first step.
    """
    start = start or model
    pairs = [PairedDataset(rows["forget"], rows["retain"], 9, 42)[i] for i in range(8 * step, 8 * step + 8)]
    places = torch.tensor([place for _, _, place in pairs])
    sides, brought = [], [{"places": places}, {}]
    for k, side in enumerate(("forget", "retain")):
        batch = batch_of(model, [pair[k] for pair in pairs])
        sides.append((logits_of(model, batch), batch["labels"]))
        if side in run.before.kinds:
            there = labels_by_position(*sides[k]).ne(-100)[..., None]
            brought[k]["reference_logits"] = logits_of(start, batch).detach().where(there, 0.0)
    if run.alternates is not None:
        batch = batch_of(model, [run.alternates[place] for place in places.tolist()])
        now, before = (per_row_nll(logits_of(one, batch), batch["labels"]) for one in (model, start))
        brought[0]["alternate"] = RowOutputs(*now, reference=before[0].detach())
    for what, values in (("target", run.targets), ("reference", run.references)):
        if values:
            brought[0][what] = torch.tensor(values, dtype=torch.float64)[places]
    objective = get_objective(run.objective.name, **({} if retain_term == "auto" else {"retain_term": retain_term}))
    for k in range(step):
        objective = objective.after_step(*mean_losses(start, rows, k))
    at = {"alpha": schedule.alpha_at(run.rule.alpha0, step, run.rule.passes), "tau": run.request_state.tau_initial}
    return step_value(objective, *sides, brought=brought[0], retain_brought=brought[1], seed=42, **at)


def logits_of(model, batch):
    return model(**{k: v for k, v in batch.items() if k != "labels"}).logits


def mean_losses(model, rows, step):
    """Mean losses () of the forget and of the retain rows of a step, detached."""
    pairs = [PairedDataset(rows["forget"], rows["retain"], 9, 42)[i] for i in range(8 * step, 8 * step + 8)]
    for own in ([f for f, _, _ in pairs], [r for _, r, _ in pairs]):
        batch = batch_of(model, own)
        nll, items = per_row_nll(logits_of(model, batch), batch["labels"])
        yield (nll.sum() / items.sum()).detach()


@pytest.mark.parametrize("name", NAMES)
def test_a_step_is_the_formula_on_the_whole_batch_however_it_is_cut(tmp_path, name):
    ends, keep = [], Gradients()
    for each, accumulation in CUTS:
        more = {"callbacks": [keep]} if each == 8 else {}
        run = run_of(tmp_path, open_gate(UNEVEN), UNEVEN, name, each, accumulation, **more)
        run.train()
        ends.append(weights(run.model))
    model = open_gate(UNEVEN)
    wanted = torch.autograd.grad(by_hand(run, model, UNEVEN), list(model.parameters()))
    assert relative(keep.steps[0], wanted) < 1e-6
    assert distance(ends[0], weights(model)) > 1e-5
    assert distance(ends[1], ends[0]) < 1e-6 and distance(ends[2], ends[0]) < 1e-6


@pytest.mark.parametrize("name", NAMES)
def test_the_second_step_refers_to_the_model_before_the_request(tmp_path, name):
    """Not to the one that the first step has left, which is what the distance from it is to be seen by."""
    keep, ends = Gradients(), Weights()
    run = run_of(tmp_path, open_gate(UNEVEN), UNEVEN, name, callbacks=[keep, ends])
    run.train()
    start, model = open_gate(UNEVEN), open_gate(UNEVEN)
    model.load_state_dict(ends.steps[0])
    wanted = torch.autograd.grad(by_hand(run, model, UNEVEN, step=1, start=start), list(model.parameters()))
    assert relative(keep.steps[1], wanted) < 1e-6


@pytest.mark.parametrize("name", NAMES)
def test_forget_and_retain_rows_may_pass_in_turn(tmp_path, name):
    ends = []
    for forward in ("together", "in_turn"):
        run = run_of(tmp_path, open_gate(), EIGHT, name, 4, 2, forget_forward=forward)
        run.train()
        ends.append(weights(run.model))
    assert distance(ends[1], ends[0]) < 1e-6


@pytest.mark.parametrize("name", NAMES)
def test_a_step_takes_the_row_passes_that_its_formula_needs(tmp_path, name):
    """By the count that records hold, and by the rows that go through the model's layer, forward and backward."""
    model, through = open_gate(), {"forward": 0, "backward": 0}

    def count(layer, given, output):
        if layer.training:
            through["forward"] += len(output)
            output.register_hook(lambda grad: through.update(backward=through["backward"] + len(grad)))

    model.transformer.h[0].register_forward_hook(count)
    run = run_of(tmp_path, model, EIGHT, name, 4, max_steps=4)
    before = []
    steps = run.begin_request
    run.begin_request = lambda: (steps(), before.append(run.row_passes))
    looked = run.looks.at_the_end
    run.looks.at_the_end = lambda: (before.append(run.row_passes), looked())[1]
    run.train()
    wanted = 4 * 4 * run.objective.row_passes
    assert before[1] - before[0] == pytest.approx(wanted) and through == {"forward": wanted, "backward": wanted}


@pytest.mark.parametrize("make, rows", [(bert, text_class_rows), (vit, image_rows)])
@pytest.mark.parametrize("name", [name for name in NAMES if name not in TEXT_ONLY])
def test_classifiers_take_the_same_word(tmp_path, name, make, rows):
    sets = {"forget": rows(8), "retain": rows(16, 8), "unseen": rows(8, 100)}
    keep = Gradients()
    run = run_of(tmp_path, make(), sets, name, callbacks=[keep], max_steps=1, target="chance")
    run.train()
    model = make()
    if name != "nabla_tau":  # whose loss may be beyond that of guessing
        wanted = torch.autograd.grad(by_hand(run, model, sets), list(model.parameters()), allow_unused=True)
        pairs = [(g, w) for g, w in zip(keep.steps[0], wanted, strict=True) if w is not None]
        assert relative(*zip(*pairs, strict=True)) < 1e-4


@pytest.mark.parametrize("name", [name for name in NAMES if OBJECTIVES[name].kinds != OBJECTIVES["nabla_tau"].kinds])
def test_rows_of_a_kind_that_an_objective_is_not_for_are_refused_in_one_line(tmp_path, name):
    several = [{"pixel_values": row["pixel_values"], "labels": [0.0, 1.0, 0.0]} for row in image_rows(24)]
    kinds = {"several": several, "classes": list(image_rows(24)), "tokens": list(lm_rows(24))}
    words = {"several": "classifier of several labels a row", "classes": "classifier", "tokens": LANGUAGE}
    for kind, rows in kinds.items():
        if words[kind] in OBJECTIVES[name].kinds:
            continue
        sets = {"forget": rows[:8], "retain": rows[8:16], "unseen": rows[16:]}
        with pytest.raises(ArgumentError) as caught:
            trainer(tmp_path, "does/not-exist", sets, objective=name)
        told = [one for one in caught.value.problems if one.startswith("`objective` is")]
        assert len(told) == 1 and f"the rows are those of a {words[kind]}. Choose" in told[0]


@pytest.mark.parametrize("term", ["nll", "none"])
@pytest.mark.parametrize("name", ["grad_diff", "npo", "wga"])
def test_the_retain_term_is_an_argument(tmp_path, name, term):
    keep = Gradients()
    run = run_of(tmp_path, open_gate(), EIGHT, name, 4, 2, retain_term=term, callbacks=[keep], max_steps=1)
    run.train()
    model = open_gate()
    wanted = torch.autograd.grad(by_hand(run, model, EIGHT, term), list(model.parameters()))
    assert relative(keep.steps[0], wanted) < 1e-6
    assert run.record()["retain_term"] == term and run.rule.recovers == (term != "none")
    shown = [line for line in run.state.log_history if "loss" in line][0]
    assert ("retain_loss" in shown) == (term != "none")


@pytest.mark.parametrize("name", ["gradient_ascent", "finetune"])
def test_a_request_whose_steps_see_one_side_stops_by_its_looks(tmp_path, name):
    """Rows never seen are to be forgotten: the target is reached from the start, and the first look says so."""
    rows = {"forget": lm_rows(8, 200), "retain": EIGHT["retain"], "unseen": EIGHT["unseen"]}
    run = trainer(tmp_path, lm64(), rows, objective=name, learning_rate=1e-6, per_device_train_batch_size=4,
                  target="current", unseen_every=2)  # fmt: skip
    run.train()
    assert run.looks.every == RARELY  # whatever is set for τ
    assert run.stop_reason == "forget_loss_reached_target" and run.state.global_step == RARELY

"""hf_unlearn: train a model ready for deletion, unlearn rows when someone asks, measure what was forgotten and kept.

The map of the house. A room imports from the rooms below it in this list, never from one above (tests/test_layers.py
holds that):

    cli/                   the verbs `hf-unlearn ready | unlearn | evaluate | …`: flags, YAML, rows and models by name
    trainers/              the two trainers: hooks of transformers.Trainer, checkpoints, records, cards, engines
    readiness/             a training step that simulates a request, and the way its gradient takes back through it
    unlearning/            how a request runs: schedule, looks, stop rule, step, snapshots; pure state to state
    evaluation/            what a model still knows: catalogue of measures, attacks, gates, the judgement as data
    report/                the judgement in words, tables and pictures; judges nothing itself, imports no torch
    memory/                does it fit on a device? estimated from a model's config
    metrics/               the measures as `evaluate.Metric`
    options/ config.py    every argument of the two trainers and every check on it
    data/                  rows by name (rows/), as a model takes them (encode/); which row is forget, retain or unseen;
                           which row comes when
    objectives/            what a request minimises: one file an idea, one registry
    utils/                 files, versions, lazy loading

To add …             touch …
    an objective         one file in objectives/ (its __init__.py shows one), one test
    a measure            its formula in evaluation/measures/, one line in evaluation/catalogue.py; a membership score:
                         `SCORES` in evaluation/vocabulary.py, `scores()` in evaluation/measures/membership.py
    an attack            one file in evaluation/attacks/
    a benchmark          one file in evaluation/benchmarks/ (its __init__.py says how)
    a task               one YAML file in recipes/
    a public name        `_HOMES` and the imports under TYPE_CHECKING, both below

Where is …?
    rows as tokens       data/encode/by_task.py; which columns are told: shapes.py; chats, pairs, documents, and how
                         long rows are, each in a file of its own there
    a flag               declared: cli/arguments.py, cli/data_arguments.py, options/, config.py, an attack's or
                         objective's in its own file; read from words and YAML: cli/parsing.py
    τ measured           trainers/measuring_tau.py; when it is measured again: unlearning/schedule.py
    the stop rule        unlearning/stop_rule.py
    a checkpoint's file  trainers/checkpointing.py lists all; what a request keeps: trainers/unlearn_record.py
    is a file damaged?   utils/manifest.py: SHA-256 of what is in a checkpoint or a model's folder; utils/files.py
    a model by name      its flags: cli/loading.py, cli/adapters.py; how it is loaded, and an adapter's base as it was
                         at the training: trainers/loading.py; bases in 4 bits: readiness/packed_weights.py
    whose checkpoint     trainers/same_run.py: rows and options that a run may be resumed with
    rows of a model      trainers/known_rows.py: trained on, asked to be forgotten; the salt: utils/salts.py
    the same row?        data/duplicates.py: rows that say the same, by what data/said.py reads and data/keys.py
                         compares; much alike: data/near_twins.py; on a disk: data/row_digests.py
    the AUC's interval   evaluation/intervals.py
    a verdict's gate     evaluation/gate_rules.py (limits: gates.py); from gates to the verdict: `verdict_of` in
                         evaluation/judge.py; the sentences: report/words/gates.py
    the step             both trainers fill `.grad` only (trainers/ready_passes.py, trainers/unlearn_steps.py);
                         transformers.Trainer's `optimizer.step()` moves the weights
    the simulated step   `move_(params, first, factor)` in readiness/gradient.py moves the weights, and they are put
                         back before the real one; `move_` itself is in readiness/moving_weights.py
    a model card         its sections: report/card_section.py; README.md: report/card_file.py; what the trainers say in
                         it: trainers/card.py; what an evaluation says: report/measured_card.py
    a replay             which row comes when: data/replay_order.py; how far back: readiness/replay.py; the run:
                         trainers/replay_program.py; the request: trainers/replay_request.py; it runs: replay.py;
                         with simulated requests: data/requests_in_replay.py, readiness/replay_cost.py; after steps on
                         a loss: trainers/removed_by_steps.py
    its cost             of a request: trainers/planning.py; before a training: trainers/planning_ahead.py; of its
                         snapshots on a disk: trainers/snapshot_size.py
    what breaks it       rows of one content, rows drawn anew, a schedule of one's own: trainers/making_plans.py; a plan
                         edited by hand: trainers/replay_plan.py; snapshots of another run: trainers/snapshots.py; the
                         engine, the kernels: trainers/engines.py; the seeds of rows: data/replay_schedule.py
    a memory             keys, tables, gate, the method of PEFT: readiness/memory/; it is filled: trainers/memory.py,
                         by which arguments: memory_arguments.py, whose rows: memory_sources.py, beside which tables:
                         memory_before.py; tables are dropped: memory_deletion.py; checked: memory_verifying.py
    is it exact?         trainers/verifying.py trains again, trainers/verdict.py says what that came to
    a record             readiness.json: trainers/ready.py fills it; unlearning.json: trainers/unlearn_record.py; both
                         are written by `save_model` in trainers/checkpointing.py

Public names are loaded on first use: importing the package imports no torch.
"""

from typing import TYPE_CHECKING

from .utils.lazy import lazily

if TYPE_CHECKING:  # the same names as in _HOMES, for editors and type checkers
    from .config import ReadyConfig as ReadyConfig
    from .config import UnlearnConfig as UnlearnConfig
    from .data.collate import default_collator as default_collator
    from .data.duplicates import find_duplicates as find_duplicates
    from .data.encode.by_task import encode as encode
    from .data.rows.by_name import load_rows as load_rows
    from .data.split import split as split
    from .evaluation.collection import collect as collect
    from .evaluation.scorecard import Scorecard as Scorecard
    from .evaluation.scoring import evaluate as evaluate
    from .metrics import metrics_path as metrics_path
    from .objectives.registry import OBJECTIVES as OBJECTIVES
    from .objectives.registry import get_objective as get_objective
    from .objectives.row_nll import per_row_nll as per_row_nll
    from .readiness.memory.config import MemoryConfig as MemoryConfig
    from .trainers.finite import NonFiniteError as NonFiniteError
    from .trainers.planning import plan as plan
    from .trainers.planning_ahead import plan_training as plan_training
    from .trainers.ready import ReadyTrainer as ReadyTrainer
    from .trainers.records import commitment as commitment
    from .trainers.unlearn import UnlearnTrainer as UnlearnTrainer
    from .trainers.verifying import verify as verify
    from .utils.checks import ArgumentError as ArgumentError

__version__ = "0.1.0"

_HOMES = {
    "ReadyTrainer": "trainers.ready",
    "UnlearnTrainer": "trainers.unlearn",
    "MemoryConfig": "readiness.memory.config",
    "ReadyConfig": "config",
    "UnlearnConfig": "config",
    "ArgumentError": "utils.checks",
    "NonFiniteError": "trainers.finite",
    "load_rows": "data.rows.by_name",
    "encode": "data.encode.by_task",
    "split": "data.split",
    "find_duplicates": "data.duplicates",
    "default_collator": "data.collate",
    "plan": "trainers.planning",
    "plan_training": "trainers.planning_ahead",
    "verify": "trainers.verifying",
    "commitment": "trainers.records",
    "evaluate": "evaluation.scoring",
    "collect": "evaluation.collection",
    "Scorecard": "evaluation.scorecard",
    "metrics_path": "metrics",
    "get_objective": "objectives.registry",
    "OBJECTIVES": "objectives.registry",
    "per_row_nll": "objectives.row_nll",
}

__all__ = ["__version__", *_HOMES]
__getattr__, __dir__ = lazily(__name__, _HOMES)

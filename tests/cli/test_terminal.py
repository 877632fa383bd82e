"""What a verb says while it runs: one line at once, one bar over all steps, and nothing from the other processes."""

from __future__ import annotations

import errno
import io
import os
import re
import subprocess
import sys
import warnings
from functools import partial
from types import SimpleNamespace

import pytest
from helpers.recipes import ROOT
from helpers.tiny import image_rows, vit

from hf_unlearn import ArgumentError
from hf_unlearn.cli import evaluate, memory, ready, running, terminal, unlearn
from hf_unlearn.cli.arguments import ReadyArguments
from hf_unlearn.cli.prepare import Prepared
from hf_unlearn.cli.terminal import NoProgress, Progress, Step, short
from hf_unlearn.cli.training_progress import READINESS, TrainingProgress, show, work
from recipes import quickstart


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture(autouse=True)
def as_a_user(monkeypatch):
    for name in ("TQDM_DISABLE", "LOCAL_RANK", "RANK"):
        monkeypatch.delenv(name, raising=False)


class Terminal(io.StringIO):
    def isatty(self):
        return True

    def fileno(self):
        return 2


@pytest.fixture
def screen(monkeypatch):
    monkeypatch.setattr(terminal, "sys", SimpleNamespace(stderr=Terminal()))
    monkeypatch.setattr(os, "get_terminal_size", lambda fd: os.terminal_size((100, 24)))
    return terminal.sys.stderr


def test_one_bar_tells_the_step_of_how_many_and_how_long_the_rest_takes(clock, screen):
    with Progress([short("rows"), *(Step(f"measuring {i}") for i in range(4)), short("report")], clock=clock) as bar:
        bar.next()
        clock.now = 5
        bar.next()
        assert bar.text() == "2 of 6: measuring 0"  # the rows do not tell how long a model takes
        clock.now = 35
        bar.at(1, 2, "forget")
        assert bar.text() == "2 of 6, about 4 min: measuring 0, forget"  # 30 s for half of one of four
        clock.now = 65
        bar.next()
        assert bar.text() == "3 of 6, about 3 min: measuring 1"
        clock.now = 85
        assert bar.seconds_left() == 160  # 3 of 60 s, less 20
    lines = screen.getvalue().split("\r")
    assert "\n" not in screen.getvalue() and lines[-1] == "" and not lines[-2].strip()  # the bar is taken away
    assert any(line.startswith("[##") and "3 of 6" in line for line in lines)


TOOK = {  # seconds of the quickstart's steps, measured on two cores; a ready training takes as long as a plain one
    "people": (6.4, [34.0, 34.0, 31.7, 31.4], [11.2, 4.4], [4.7, 3.2, 5.1, 9.2, 8.7, 9.3], 6.3),
    "digits, a class": (1.1, [30.7, 30.7, 31.3, 29.5], [3.5, 2.2], [3.3, 1.3, 2.7, 5.4, 4.8, 4.6], 3.6),
    "digits, a random tenth": (0.5, [28.8, 28.8, 24.9, 27.6], [11.9, 4.2], [3.1, 1.4, 2.1, 4.0, 3.9, 4.5], 3.6),
}
LAST_TOOK = [9.2, 31.4]  # the report, and the people's training once more


@pytest.mark.parametrize("speed", [1, 20], ids=["this machine", "a slow one"])
def test_the_estimate_of_a_whole_quickstart_is_never_far_off(speed, clock):
    seconds = [one for rows, *lists, last in TOOK.values() for one in (rows, *sum(lists, []), last)] + LAST_TOOK
    steps = quickstart.all_steps()
    bar, end = Progress(steps, clock=clock), speed * sum(seconds)
    found = []
    for step, took in zip(steps, seconds, strict=True):
        bar.next()
        began = clock.now
        for percent in range(5, 101, 5):
            clock.now = began + speed * took * percent / 100
            bar.at(percent, 100, at_most="unlearning from original" in step.title)
            if end - clock.now > 20 * speed:
                found.append(None if (left := bar.seconds_left()) is None else left / (end - clock.now))
    assert found[-1] and None not in found[23:]  # from the second percent of the first training on
    told = [ratio for ratio in found if ratio is not None]
    assert min(told) > 1 / 2 and max(told) < 2


def test_the_estimate_corrects_itself_by_what_steps_of_its_kind_took(clock):
    steps = [
        Step("a", 1.0, "training"),
        Step("b", 1.0, "measuring"),
        Step("c", 1.0, "training"),
        Step("d", 1.0, "measuring"),
    ]
    bar = Progress(steps, clock=clock)
    bar.next()
    clock.now = 100
    bar.next()
    assert bar.seconds_left() == 300  # nothing else is known
    clock.now = 110
    bar.at(1, 2)
    assert bar.seconds_left() == pytest.approx(0.5 * (0.5 * 20 + 0.5 * 100) + 100 + 20)
    clock.now = 120
    bar.next()
    assert bar.seconds_left() == 120
    clock.now = 300
    assert bar.seconds_left() == 20  # longer than expected: what it still takes is not known


def test_a_training_that_goes_on_is_timed_from_where_it_goes_on(clock):
    bar = Progress([short("rows"), Step("training")], clock=clock)
    bar.next()
    bar.next()
    clock.now = 60  # a large model is loaded
    told = TrainingProgress(bar, at_most=False)
    state, plain = SimpleNamespace(global_step=900, max_steps=1000), SimpleNamespace()
    told.on_train_begin(plain, state, None)
    assert bar.share == 0.9 and bar.seconds_left() is None
    clock.now, state.global_step = 70, 910
    told.on_step_end(plain, state, None)
    assert bar.seconds_left() == pytest.approx(90)
    bar.steps.append(Step("another"))
    bar.starts(1000, 1000)
    clock.now = 80
    assert bar.seconds_left() is None  # nothing was done that tells


@pytest.mark.parametrize("first", [238, None])
def test_a_replay_is_as_long_as_what_is_run_again(clock, first):
    bar = Progress([Step("unlearning")], clock=clock)
    bar.next()
    told = TrainingProgress(bar, at_most=False, first=first)
    state, plain = SimpleNamespace(global_step=238, max_steps=364), SimpleNamespace()
    told.on_train_begin(plain, state, None)
    assert bar.overall() == 0
    clock.now, state.global_step = 63, 301
    told.on_step_end(plain, state, None)
    assert bar.overall() == 0.5 and bar.note == "step 63 of 126" and bar.seconds_left() == pytest.approx(63)


def test_steps_with_terms_of_readiness_count_for_more(clock):
    state = SimpleNamespace(max_steps=100)
    args = SimpleNamespace(readiness_is_on=True, is_paced=False, planned_start=0.5, meta_every=2, meta_budget=0.25)
    assert [work(steps, state, args) for steps in (50, 100)] == [50, 50 + 50 * (1 + READINESS / 2)]
    args.is_paced = True
    assert [work(steps, state, args) for steps in (50, 100)] == [62.5, 125]
    args.readiness_is_on = False
    assert work(100, state, args) == 100


def test_a_run_that_may_end_early_takes_at_most_so_long(clock):
    bar = Progress([Step("unlearning")], clock=clock)
    bar.next()
    clock.now = 60
    bar.at(10, 20, "step 10", at_most=True)
    assert bar.text() == "1 of 1, at most 1 min: unlearning, step 10"
    bar.at(5, 20)
    assert bar.share == 0.5  # what runs again takes nothing back


def test_without_a_terminal_there_is_a_line_for_each_step_and_now_and_then_one_between(clock, capsys):
    bar = Progress([Step("a"), Step("b")], clock=clock)
    bar.next()
    for clock.now in range(1, 50):
        bar.at(clock.now, 100)
    bar.next()
    bar.end()
    assert capsys.readouterr().err.splitlines() == ["1 of 2: a", "1 of 2, about 3 min: a", "2 of 2, about 50 s: b"]


@pytest.mark.parametrize("how", ["TQDM_DISABLE", "bar"])
def test_no_bar_is_drawn_where_nobody_wants_one(how, clock, screen, monkeypatch):
    if how == "TQDM_DISABLE":
        monkeypatch.setenv("TQDM_DISABLE", "1")
    bar = Progress([Step("a")], bar=how != "bar", clock=clock)
    bar.next()
    bar.end()
    assert screen.getvalue() == "1 of 1: a\n"


@pytest.mark.parametrize("name", ["LOCAL_RANK", "RANK"])
def test_only_the_first_process_speaks(name, monkeypatch, capsys):
    for rank, said in (("0", "hello\n1 of 1: a\n"), ("1", "")):
        monkeypatch.setenv(name, rank)
        terminal.say("hello")
        Progress([Step("a")]).next()
        assert capsys.readouterr().err == said


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(1, "10 s"), (44, "40 s"), (59, "1 min"), (100, "2 min"), (3600, "1 h 0 min"), (4300, "1 h 12 min")],
)
def test_lengths_of_time_are_a_word_or_two(seconds, said):
    assert terminal.how_long(seconds) == said


def test_libraries_draw_no_bars_and_do_not_speak_of_pinned_memory():
    import datasets
    import transformers

    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        terminal.quiet_libraries()
        warnings.warn("'pin_memory' argument is set as true but no accelerator is found", stacklevel=1)
        warnings.warn("another", stacklevel=1)
    assert [str(one.message) for one in said] == ["another"]
    assert not transformers.utils.logging.is_progress_bar_enabled()
    assert datasets.are_progress_bars_disabled()


def test_a_training_moves_the_bar_and_prints_no_log(capsys, clock):
    from transformers import PrinterCallback, ProgressCallback

    removed, added = [], []
    bar = Progress([Step("unlearning")], clock=clock)
    trainer = SimpleNamespace(remove_callback=removed.append, add_callback=added.append, first_step=0)
    show(trainer, bar, at_most=True)
    assert removed == [PrinterCallback, ProgressCallback] and isinstance(added[0], TrainingProgress)
    bar.next()
    state = SimpleNamespace(global_step=3, max_steps=12)
    added[0].on_log(None, state, None, logs={"loss": 0.51234, "forget_loss": 0.1, "tau": 2.5, "epoch": 1})
    added[0].on_step_end(SimpleNamespace(), state, None)
    assert bar.note == "step 3 of at most 12, loss 0.512, forget loss 0.1, τ 2.5" and bar.share == 0.25
    assert "{" not in capsys.readouterr().err
    NoProgress().at(1, 2)


@pytest.mark.parametrize(
    ("verb", "words", "expected"),
    [
        (ready, ["--role", "original", "--output-dir", "o"], "the model 'original' on people; it goes to o/original"),
        (ready, ["--config", "nowhere.yaml"], "hf-unlearn ready: reads the flags"),
        (unlearn, ["--start", "original", "--output_dir=o"], "takes rows of people out of o/original"),
        (unlearn, ["--model-name-or-path", "org/m"], "takes rows of people out of org/m;"),
        (unlearn, ["--model_name_or_path=org/m", "--start", "ready"], "out of org/m;"),
        (unlearn, ["--unlearn.model_name_or_path", "org/m"], "out of org/m;"),
        (unlearn, ["--config", "OWN"], "out of org/own;"),
        (unlearn, ["--config", "PLAIN", "--output_dir", "o"], "out of o/ready;"),  # what `ready` starts from
        (unlearn, ["--config", "PLAIN", "--model-name-or-path=org/m"], "out of org/m;"),
        (evaluate, ["--models", "original=a", "unlearned=b"], "measures original=a unlearned=b on people"),
        (evaluate, ["--tables=original=t"], "measures the models in outputs and the tables original=t on people"),
        (memory, ["--verb", "train", "unlearn"], "takes one step of train, unlearn on tensors"),
        (memory, ["--model=gpt2"], "takes one step of train, ready, unlearn on tensors"),
    ],
)
def test_the_first_line_says_what_is_going_to_be_done(verb, words, expected, tmp_path):
    for name, key in (("OWN", "unlearn.model_name_or_path: org/own"), ("PLAIN", "model_name_or_path: org/base")):
        (tmp_path / name).write_text(key)
        words = [str(tmp_path / name) if word == name else word for word in words]
    assert expected in verb.first_line(words)


def test_the_first_line_comes_before_anything_heavy_is_imported():
    code = "import sys; from hf_unlearn.cli import terminal, ready, unlearn, evaluate\n"
    code += "for one in (ready, unlearn, evaluate):\n    terminal.say(one.first_line(['--output_dir', 'o']))\n"
    code += "assert not {'torch', 'transformers', 'datasets'} & set(sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0 and done.stderr.count("hf-unlearn ") == 3, done.stderr


def test_the_steps_of_a_measurement_are_its_models_then_the_intervals(clock):
    bar = Progress([short("rows"), *evaluate.steps_of(["unlearned", "original"]), short("report")], clock=clock)
    seen, tell = [], partial(evaluate.tell, bar, set())
    bar.next()
    bar.next()
    for role in ("original", "unlearned"):
        for stage, share in (("forget", 0.0), ("forget", 0.5), ("retain", 1.0), ("", 1.0)):
            tell(role, stage, share)
            seen.append(bar.text())
    assert seen[:2] == ["2 of 5: measuring original, forget"] * 2
    assert seen[2] == "2 of 5: measuring original, retain"  # a stage's passes are done, and others may follow
    assert seen[3].endswith(": measuring unlearned") and seen[-1].startswith("4 of 5")


def test_ready_tells_the_accuracy_on_test_rows(clock):
    model, rows = vit(), image_rows(12)
    trainer = SimpleNamespace(model=model, args=SimpleNamespace(per_device_eval_batch_size=5))
    bar = Progress([short("measuring the test rows")], clock=clock)
    bar.next()
    said = ready.test_result(trainer, Prepared({"test": rows}, None, None), bar)
    assert re.fullmatch(r"accuracy on the 12 test rows: [\d.]+ % \([\d.]+–[\d.]+\); loss [\d.]+", said)
    assert bar.share == 1.0
    assert ready.test_result(trainer, Prepared({"retain": rows}, None, None), bar) is None


def test_what_a_plain_training_does_not_use_is_said():
    words = [
        "--config",
        "my.yaml",
        "--meta-start",
        "0",
        "--ready.revocable=any",
        "--unlearn.gap",
        "auto",
        "--seed",
        "1",
        "--no_inner_normalize",
    ]
    unused = [ready.unread_options(ReadyArguments(role), words) for role in ("ready", "original")]
    assert unused == [[], ["inner_normalize", "meta_start", "revocable"]]


def test_the_other_processes_leave_the_error_to_the_first_and_wait_until_it_is_said(monkeypatch):
    def refuses(argv):
        raise ArgumentError(["`x` is wrong."])

    waited = []
    monkeypatch.setattr(running.time, "sleep", waited.append)
    for rank in ("0", "1"):  # whom no launcher ends meanwhile says it, too: there may be no first
        monkeypatch.setenv("LOCAL_RANK", rank)
        with pytest.raises(SystemExit, match="`x` is wrong."):
            running.run(refuses, [])
    assert waited == [running.FIRST_SPEAKS]


def test_an_error_of_a_full_disk_is_one_line_whichever_library_raised_it(monkeypatch):
    class SafetensorError(Exception):
        pass

    def fills(argv):
        raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")

    with pytest.raises(SystemExit, match="^No space is left on the disk that is written to"):
        running.run(fills, [])
    assert running.of_a_full_disk(OSError(errno.ENOSPC, "", "out/x.part")).count("(out/x.part)") == 1
    assert running.of_a_full_disk(RuntimeError("no")) is None


def test_a_traceback_is_shown_only_where_it_was_asked_for(monkeypatch):
    def refuses(argv):
        raise ValueError("no")

    for value, error in (("0", SystemExit), ("", SystemExit), ("1", ValueError)):
        monkeypatch.setenv("HF_UNLEARN_TRACEBACK", value)
        with pytest.raises(error):
            running.run(refuses, [])


@pytest.mark.parametrize("verb", [ready, unlearn, evaluate])
def test_the_first_line_makes_nothing_up_where_the_file_cannot_be_read(verb):
    name = verb.__name__.rpartition(".")[2]
    assert verb.first_line(["--config", "nowhere.yaml", "--output_dir", "o"]) == f"hf-unlearn {name}: reads the flags"
    assert verb.first_line(["--output_dir", "o"]) != f"hf-unlearn {name}: reads the flags"

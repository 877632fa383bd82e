"""
Lives of a run: each a process that is forked here and killed in the middle of some deed (a step, a file half written, a
renaming, a deletion, a link), until one comes to its end. The phases come in turn and the deed is drawn, so that kills
fall into the writing of files, which takes little of a run's time, as often as into its steps.
"""

from __future__ import annotations

import io
import os
import random
import signal
import sys
import traceback
from collections import deque
from collections.abc import Callable
from pathlib import Path

import safetensors.torch
import torch
import transformers.modeling_utils
from transformers import TrainerState

from hf_unlearn.trainers import replay
from hf_unlearn.trainers.checkpointing import CheckpointingTrainer
from hf_unlearn.trainers.ready import ReadyTrainer
from hf_unlearn.trainers.replaying import ReplayableTrainer
from hf_unlearn.trainers.superseded import Superseded

STEP = "step"
DEEDS = 8  # of a phase, among which the one that kills is drawn


class Deaths:
    """
    Kills to come.

    Args:
        phases: come in turn, and each is killed in before the next comes.
        kills: how many; at least one a phase, so that none is left out.
        seed: of what is drawn.
    """

    def __init__(self, phases: tuple[str, ...], kills: int, seed: int):
        assert kills >= len(phases)
        self.phases, self.left, self.draw = deque(phases), kills, random.Random(seed)
        self.most = dict.fromkeys(phases, DEEDS)
        self.spared = 0  # lives in a row that ended though the first deed of the phase was to kill them

    def lives(self, run: Callable[[], None]) -> None:
        """
        Lives of one run, until it ends.

        Args:
            run: takes up what a killed life has left.
        """
        while not self._ends(run):
            pass

    def _ends(self, run: Callable[[], None]) -> bool:
        """Whether a life came to its end; the next one that is to die in a phase that it lacked dies there earlier."""
        phase = self.phases[0]
        nth = self.draw.randint(1, self.most[phase])
        pid = os.fork()
        if pid == 0:
            try:
                if self.left:
                    _mortal(phase, nth)
                run()
                os._exit(0)
            except BaseException:
                traceback.print_exc()
                sys.stderr.flush()
                os._exit(1)
        _, status = os.waitpid(pid, 0)
        assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0
        if os.WIFSIGNALED(status):
            self.left -= 1
            self.phases.rotate(-1)
            self.spared = 0
        elif self.left:
            self.most[phase] = max(1, nth // 2)
            self.spared += nth == 1
            assert self.spared < 3, f"no life has a deed in the phase {phase!r}"
        return not os.WIFSIGNALED(status)


def _mortal(phase: str, nth: int) -> None:
    """From here on this process is killed in its `nth` deed of a phase."""
    left, inside = [nth], [STEP]

    def comes() -> bool:
        left[0] -= inside[-1] == phase
        return left[0] == 0 and inside[-1] == phase

    def die():
        os.kill(os.getpid(), signal.SIGKILL)

    def halves(path, data: bytes):
        if comes():
            Path(path).write_bytes(data[: len(data) // 2])
            die()
        Path(path).write_bytes(data)

    def before(do):
        def deed(*args, **kwargs):
            return die() if comes() else do(*args, **kwargs)

        return deed

    def after(do):
        def deed(*args, **kwargs):
            found = do(*args, **kwargs)
            return die() if comes() else found

        return deed

    def during(name, do):
        def deed(*args, **kwargs):
            inside.append(name if inside[-1] == STEP else inside[-1])
            try:
                return do(*args, **kwargs)
            finally:
                inside.pop()

        return deed

    save, save_state = torch.save, TrainerState.save_to_json

    def save_in_halves(content, path, *args, **kwargs):
        whole = io.BytesIO()
        save(content, whole, *args, **kwargs)
        halves(path, whole.getvalue())

    def save_state_in_halves(state, path):
        save_state(state, path)
        halves(path, Path(path).read_bytes())

    torch.save, TrainerState.save_to_json = save_in_halves, save_state_in_halves
    transformers.modeling_utils.safe_save_file = lambda tensors, path, metadata=None: halves(
        path, safetensors.torch.save(tensors, metadata)
    )
    os.replace, os.link, os.rmdir = before(os.replace), before(os.link), after(os.rmdir)
    os.unlink = after(os.unlink)
    ReadyTrainer.training_step = after(ReadyTrainer.training_step)
    CheckpointingTrainer._save_checkpoint = during("checkpoint", CheckpointingTrainer._save_checkpoint)
    ReplayableTrainer.save_model = during("model", ReplayableTrainer.save_model)
    ReplayableTrainer.at_border = during("snapshot", ReplayableTrainer.at_border)
    replay.take_over = during("taking over", replay.take_over)
    Superseded.delete = during("deletion", Superseded.delete)

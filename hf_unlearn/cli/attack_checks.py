"""What is wrong with the gates and attacks that `evaluate` is asked for, before a row is read."""

from __future__ import annotations

from ..utils.checks import Wrong
from .arguments import TASKS, DataArguments, EvaluateArguments, attack_flags


def gate_problems(own: EvaluateArguments, data: DataArguments, roles: set[str], tables: set[str]) -> list[str]:
    """Which gates of `--fail_on` no model could pass here, and why; `roles`: of all models, `tables`: of saved ones."""
    from ..evaluation.catalogue import MODEL_KINDS
    from ..evaluation.gate_rules import gate_names
    from ..evaluation.passable import Obstacle, obstacles

    if data.task not in TASKS:
        return []
    kind = data.task if data.task in MODEL_KINDS else "classifier"
    # Saved tables may hold what an attack found that is not run now.
    attacks = None if {"unlearned", "ready_unlearned"} & tables else own.attacks
    never = obstacles(kind, retrained="retrained" in roles, attacks=attacks)
    can = ", ".join(gate for gate in gate_names() if gate not in never) or "none"
    says = {
        Obstacle.KIND: f"no model of task {data.task} can pass that, a copy of the retrained one neither, since "
        f"nothing that is measured of such models is strong enough. What can be passed: {can}.",
        Obstacle.RETRAINED: "that needs a model of role retrained, in --models or --tables or as OUTPUT_DIR/retrained. "
        f"What can be passed without: {can}.",
        Obstacle.ATTACK: f"that rests on an attack that is not among --attacks {' '.join(own.attacks)}: add it. What "
        f"can be passed without: {can}.",
    }
    asked = {why: [gate for gate in own.fail_on if never.get(gate) is why] for why in Obstacle}
    return [Wrong("fail_on", f"is {', '.join(gates)}: {says[why]}") for why, gates in asked.items() if gates]


def attack_problems(own: EvaluateArguments) -> list[str]:
    """What is wrong with the options of the attacks that are asked for, each told under the name of its flag."""
    from ..evaluation.attacks.registry import attacks

    problems, given = unread_options(own), own.attack_options()
    for attack in attacks():
        options = given.get(attack.name, {}) if attack.name in own.attacks else {}
        # One by one, so that each problem is that of one flag; then together, for those that only some values make.
        alone = [problem for name, value in options.items() for problem in _refusal(attack, {name: value})]
        problems += alone or _refusal(attack, options)
    return problems


def unread_options(own: EvaluateArguments) -> list[str]:
    """Options of attacks that are not run; a command line may leave out an attack whose options a YAML file has."""
    return [
        Wrong(name, f"is an option of the attack {attack}, which is not among --attacks {' '.join(own.attacks)}.")
        for name, attack in _not_run(own).items()
        if name not in left_out(own)
    ]


def left_out(own: EvaluateArguments) -> set[str]:
    """Options in the file of attacks that the command line leaves out."""
    if "attacks" not in own.given or own.given["attacks"].file is not None:
        return set()
    return {name for name in _not_run(own) if own.given[name].file is not None}


def _not_run(own: EvaluateArguments) -> dict[str, str]:
    """Option that was given -> its attack, which is not run."""
    flags = {f"{attack}_{option.name}": attack for attack, option, _ in attack_flags()}
    return {name: attack for name, attack in flags.items() if attack not in own.attacks and name in own.given}


def _refusal(attack, options: dict) -> list[str]:
    """Why an attack refuses these options: nothing, or one problem."""
    try:
        attack.options_of(options)
    except ValueError as error:
        said = str(error.__cause__ or error)
        for name in options:
            said = said.replace(f"`{name}`", f"`--{attack.name}_{name}`")
        return [said]
    return []

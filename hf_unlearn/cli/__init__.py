"""The verbs `hf-unlearn ready | unlearn | plan | verify | evaluate | memory | tofu`.

main.py                        chooses the verb
ready.py unlearn.py plan.py verify.py evaluate.py memory.py tofu.py      one file a verb
beside_recipe.py               the flags of a verb that reads the recipe of another one
arguments.py data_arguments.py model_arguments.py from_flags.py      declare the flags of the verbs
reading.py                     command line and YAML -> flags as words
parsing.py                     these -> the dataclasses of a verb; what is wrong with them, at once
help.py                        what `--help` says
print_config.py                what `--print_config` says
checks.py attack_checks.py      what is wrong with flags together, before a row is read
prepare.py                     flags -> rows by split, by data/rows/
encoding.py                    these -> what a model takes, by data/encode/; how long the rows of a trained model were
other_words.py                 wrong, paraphrased and rephrased answers and questions for the same facts
model.py                       flags -> the model that a training begins with: a new one, or one by name
named.py                       a model by name: what its config says before it is loaded, its head where that is new
loading.py adapters.py         flags -> how a model is loaded, and the adapter that is trained on it
keys_of_trl.py                 keys of TRL's scripts: their names here, and those that cannot be
saved_runs.py                  what a model's folder says of its run, and of which rows
checkpoints.py                 what can be said of a checkpoint before it is loaded
shadows.py                     shadow models of `evaluate --shadows N`
terminal.py                    the first line, and one bar over all steps
training_progress.py           a training's steps in that bar
running.py                     errors as one message, processes, saving, the command for the records
"""

"""The two trainers and what they share.

ready.py                   `ReadyTrainer`: its arguments, the order of its rows, the keys of readiness.json
simulated_requests.py      on which steps is a request simulated, and which rows play it?
request_pace.py            where the loss says on which: when do they begin, pause, and was it worth it?
ready_passes.py            which passes does such a step run, and what gradient do they add?
main_loss.py               is a micro-batch's loss its share of the step's mean?
unlearn.py                 `UnlearnTrainer`: what does it take, and how does a request begin?
unlearn_steps.py           in which order do the forget and the retain rows of a step pass through the model?
unlearn_looks.py           what happens between two steps: τ, looks, snapshots, the end of the run
measuring_tau.py           where is τ measured? And the forget set and the retain sample
replay.py                  how is a request replayed? (a `ReplayTrainer`) replay_request.py: can it be, and from where?
removed_by_steps.py        which rows were taken out since the plan, so that a replay does not bring them back?
superseded.py              what does a replay take the place of, and what is left of it?
snapshots.py               can a replay go back to a snapshot, and may it lie there? hub_snapshots.py: on the hub
replaying.py               what of a replayable training is at the Trainer's hooks? replay_program.py: its steps
making_plans.py            how is the plan of a training made? replay_plan.py: what it holds, its file
planning.py                what would a request cost? (`plan`) planning_ahead.py: and by which tail and slices?
snapshot_size.py           how much disk do snapshots take, and is there as much?
verifying.py               is a model what its plan says? (`verify`) verdict.py: in words, and in its record
weights_digest.py          which weights are these? saved_weights.py: which of them differ from a folder's?
unlearn_record.py          what is in unlearning.json, and how does a request go on from a checkpoint?
base.py                    what do both trainers override in `transformers.Trainer`?
passes.py                  how do some rows of a step pass through the model, over all micro-batches and processes?
micro_batches.py           which micro-batch of the step is this one?
finite.py                  what happens to a step whose loss or gradient is NaN or inf?
step_log.py                how do measurements of a step come into the log?
callbacks.py               how does a request's schedule see each step?
checkpointing.py           what does a checkpoint hold, and when is one complete?
output_lock.py             is another run at work in the output folder?
same_run.py                is a checkpoint of this run, or of other rows or options?
given_functions.py         what does a user's own collator or loss do: its values, its code?
records.py                 which records travel with a model, and how can its owner prove which rows were revocable?
known_rows.py              which rows was a model trained on, and which was it asked to forget?
card.py                    what do we add to the Trainer's model card?
taken_in.py                what do both trainers check before a model is loaded?
models.py                  which models are accepted, and what is their loss of guessing?
loading.py                 how is one loaded by its name, and an adapter's base as it was at the training?
moving.py                  can a training move any weight: precision, the user's optimizer, the gradient's way?
engines.py                 what differs under DDP, FSDP2 and DeepSpeed?
"""

"""Unlearning objectives: pure functions of losses, and one registry by name.

Every objective is a scalar function of the *step's* mean forget loss, mean retain loss, or of single forget rows.
The step is everything between two optimizer updates: all micro-batches on all processes. Since such a function
is in general not linear in the batch (a gate opens on the mean), it is never evaluated on a micro-batch. Instead
[`~hf_unlearn.objectives.base.slopes`] takes its derivatives at the step's means, and the trainers back-propagate the
linear surrogate ``slope_f * L_f + slope_r * L_r``, whose gradient is the objective's.
"""

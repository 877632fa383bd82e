"""
Does it fit? The memory of a run, estimated from a model's config before anything is loaded.

On the command line, one process's share for a step of plain training, of readiness and of unlearning:

    python -m hf_unlearn.memory --model meta-llama/Llama-3.1-8B --peft lora:r=16 --dtype bfloat16 \\
        --batch_size 1 --length 4096 --gradient_checkpointing --memory 24GB

It prints a table of what the peak consists of, says whether it fits, and where it does not, what to change. Give the
sizes of the run that you mean to start: rows of a micro-batch, tokens of a row, data type, engine, number of processes.
`hf-unlearn memory` is the same command.

In Python:

    from hf_unlearn.memory.estimate import estimate
    from hf_unlearn.memory.run import Run

    estimate(Run(model="folder/or/hub-id", verb="ready", batch_size=8, length=512)).peak     # bytes

    from hf_unlearn.memory.measured_peak import peak_bytes

    peak_bytes(trainer.train)                                                                # measured, on CPU or CUDA

Which file answers what: `run.py` which options there are; `estimate.py` how the numbers come about and what engines add
to them; `simulation.py` which steps are taken; `ledger.py` how bytes are counted; `model.py` how a model without
weights is made from a config; `optimizers.py` what state an optimizer holds; `advice.py` what to change; `table.py` how
it is printed; `measured_peak.py` how a peak is measured.
"""

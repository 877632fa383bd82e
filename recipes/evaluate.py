"""Measures models and attacks them: `hf-unlearn evaluate` as a script for `accelerate launch`.

    accelerate launch recipes/evaluate.py --config recipes/text/people_llama.yaml
"""

import sys
from pathlib import Path

if not __package__:  # run as a script: not recipes/ on the path, where evaluate.py would hide the library
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from hf_unlearn.cli import main

if __name__ == "__main__":
    main.run("evaluate", sys.argv[1:], "python recipes/evaluate.py")

"""`python -m hf_unlearn …`: the verbs, as `hf-unlearn`."""

import sys

from .cli.main import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

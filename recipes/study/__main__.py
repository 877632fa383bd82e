"""`python -m recipes.study …`, from the top of the repository."""

from hf_unlearn.cli import running
from recipes.study import cells

if __name__ == "__main__":
    running.run(cells.main)

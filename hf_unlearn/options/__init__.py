"""The options that this package adds to `transformers.TrainingArguments`, and their checks. Imports nothing heavy, so
that `--help` answers at once; `config.py` joins them with `TrainingArguments`.

ready.py      how ready a model is trained to be
replay.py     in which order, and how a request finds its way back
unlearn.py    how rows are unlearned
loading.py    how a model that is given by name is loaded
"""

from .loading import LoadingOptions as LoadingOptions
from .ready import EFFICIENCIES as EFFICIENCIES
from .ready import GAIN_CAP as GAIN_CAP
from .ready import INNER_LR as INNER_LR
from .ready import INNER_LR_ADAPTER as INNER_LR_ADAPTER
from .ready import META_GRADIENTS as META_GRADIENTS
from .ready import ReadyOptions as ReadyOptions
from .replay import METHODS as METHODS
from .replay import READINESSES as READINESSES
from .unlearn import FORWARDS as FORWARDS
from .unlearn import REQUEST_ARGUMENTS as REQUEST_ARGUMENTS
from .unlearn import RESISTANCES as RESISTANCES
from .unlearn import TARGETS as TARGETS
from .unlearn import ObjectiveOptions as ObjectiveOptions
from .unlearn import UnlearnOptions as UnlearnOptions
from .unlearn import request_problems as request_problems

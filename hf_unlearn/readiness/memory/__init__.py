"""
Memory adapters: what a source taught lies in a part of its own, and deleting it is taking that part away.

A source is whoever rows come from: a person, an author, a customer. The model is frozen. Beside some of its MLPs lies a
memory (product keys after Lample et al. 2019, arXiv:1907.05242):

    out(h) = MLP(h) + Σ_s g_s(h) Σ_{j ∈ top-k} w_j(h) V_s[j]                                                    (7)

where w is the softmax over the k entries whose keys fit h best (`keys.py`), V_s is the table of source s, which holds
values for a few hundred of N entries and zeros elsewhere (`tables.py`), and g_s is a gate that opens from where on a
source is recognised (`gate.py`, equations 8 and 9). Keys come from a seed and are never trained; only V_s is.

So it is with tables of their own, the default. Which entries a source owns (`choosing.py`), its inputs and its values
follow from its own rows, from rows of no source (public ones: `view.py`, idf, the windows by which nobody is
recognised) and from the frozen model. Each source is trained by itself, in batches of its own. So the table of a source
is the same, bit for bit, whoever else is there; a source that is dropped leaves what a training without it would have
given, and one that is added changes no other.

`store.py` holds all that and says what the memory adds; `layer.py`, `model.py` and `config.py` make it a method of
PEFT; `sealing.py` finds a file that was changed, and another model below; `passing.py` carries what was recognised
along a cache; `mlp_modules.py` knows where a model has its MLPs.

Differs from the paper (Grimes et al. 2026): that has one table for all, here `variant="shared"` (`shared.py`), which
has no gate and deletes approximately, since sources are trained together and read each other's entries. Tables of
their own, the gate, whitened views and the windows of public rows are ours.
"""

"""How a request runs. Decisions are functions from numbers to numbers; the trainer measures and carries them out.

schedule.py    the rule and the state of a request: what are α and τ, and how many passes are there?
look.py        when are the forget set and the retain sample measured, and when do the weights go back?
stop_rule.py   when does a request stop, and with which reason?
step.py        what one step holds, and when does its hinge gate leave the forget rows out?
snapshots.py   which weights are kept to go back to, and how does the run go back?
momenta.py     what does an optimizer keep that drives the weights on after the run has gone back?
defaults.py    which options does a request take that nobody has set?
"""

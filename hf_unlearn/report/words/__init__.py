"""All sentences with numbers about a score card, made from the data of `evaluation.judge`; no code reads a sentence.
Titles and clauses without numbers stand with the gates and attempts that they name (`GateRule`, `AttemptRule`). A gate
or an attempt that has no sentence here is shown with its title and its numbers.

asking.py         what was asked for?
ending.py         how did a request by steps end, and what to do where it is not done?
in_short.py       the answers in a word or two each, and what to do now
few_words.py      those answers as a table for a terminal
first_screen.py   the same in sentences: forgotten, kept, what an attacker could do, how sure
findings.py       the lines for a terminal and a model card: one a run, with the reasons for "forgot: …"
gates.py          what did each verdict gate find, and what is the verdict?
general.py        what became of general ability?
glossary.py       the page's explanations of words, its limits and the thresholds
names.py          what are statuses, gates, verdicts, attacks and stop reasons called?
numbers.py        how is a number written?
"""

"""All sentences about a score card: from the data of `evaluation.judge`, by subject. No other file phrases a judgement,
and none reads a sentence."""

"""The verbs (ready, unlearn, evaluate, …): their flags and YAML files, and rows and models by name."""

"""Does it fit? Memory of a run, estimated from a model's config alone."""

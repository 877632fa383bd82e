"""From rows to what a model takes: texts, images, sounds."""

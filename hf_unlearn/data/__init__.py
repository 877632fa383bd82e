"""Rows: where they come from, how they are divided, checked, ordered and put into batches."""

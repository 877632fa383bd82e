"""Rows: how they are divided, checked, ordered and put into batches."""

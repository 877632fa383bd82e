"""Formulas on row tables: one file a family."""

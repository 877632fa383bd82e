"""Rows: embedded ones, local files, the Hub; and other words for the same facts."""

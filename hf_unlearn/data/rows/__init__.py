"""Rows by name: embedded ones, local files, the Hub."""

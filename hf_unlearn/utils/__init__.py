"""What everything may use: JSON files, records, versions, names loaded on first use."""

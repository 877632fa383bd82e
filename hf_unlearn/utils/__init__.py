"""What everything may use: checks of arguments, what a config was given, JSON files, versions, names loaded late."""

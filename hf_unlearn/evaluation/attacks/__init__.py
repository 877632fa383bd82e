"""What an attacker may do with a model: one file each, found by the registry."""

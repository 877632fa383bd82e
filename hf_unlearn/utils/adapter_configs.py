"""The config of an adapter by name, of the methods of PEFT and of our own."""

from __future__ import annotations


def adapter_config_at(name_or_path, revision: str | None = None):
    """
    The `PeftConfig` of a folder or hub id. Our own methods are made known to PEFT first: it reads no config of a method
    that it does not know.

    Raises:
        ValueError: if there is none, or it cannot be read.
    """
    from peft import PeftConfig

    from .. import MemoryConfig

    found = PeftConfig.from_pretrained(name_or_path, revision=revision)
    if not isinstance(found, MemoryConfig) and found.peft_type is None:
        raise ValueError(f"The adapter's config in {name_or_path} does not say of which method it is.")
    return found

"""The user's object: a folder of indexed photos that answers "where else is this thing?", with proof."""

from __future__ import annotations

from resight.collection.collection import Collection
from resight.collection.open import create_collection, open_collection, open_or_create

__all__ = ["Collection", "create_collection", "open_collection", "open_or_create"]

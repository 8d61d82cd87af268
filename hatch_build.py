"""The README of the package: as README.md, without what lies beside it, which a package index cannot show."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from hatchling.metadata.plugin.interface import MetadataHookInterface

LOCAL = r"\((?![a-z]+://|#)[^)]*\)"  # the place of a link or picture that is no address


def without_local_links(text: str) -> str:
    """`text` in Markdown: pictures that are files go, links to files become their words."""
    return re.sub(r"(?<!!)\[([^\]]*)\]" + LOCAL, r"\1", re.sub(r"!\[[^\]]*\]" + LOCAL + r"\n*", "", text))


class CustomMetadataHook(MetadataHookInterface):
    """Fills the field `readme`, which pyproject.toml calls dynamic."""

    def update(self, metadata: dict[str, Any]) -> None:
        text = (Path(self.root) / "README.md").read_text(encoding="utf-8")
        metadata["readme"] = {"content-type": "text/markdown", "text": without_local_links(text)}

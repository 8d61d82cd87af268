"""Collections in the formats of other tools, and what other tools made as collections: one small file per format."""

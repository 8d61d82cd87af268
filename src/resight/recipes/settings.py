"""How photos are described: the settings that a collection is made with and keeps in its stamp."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from resight.errors import UsageError
from resight.features.local.encoders import EncoderSettings, Kind, find_kind
from resight.features.local.rootsift import RootSift
from resight.features.pooling import named_pooling
from resight.features.region_whitening import WhitenedRmac
from resight.features.whitening import Whitening
from resight.index.asmk import Asmk, Codebook, words_for
from resight.matching.matchers import Matcher, MatchSettings
from resight.types import Encoder

MAX_SIDE = 1024  # of photos whose encoder does not say
WHITENINGS = ("none", "pca", "zca")
POOLS = ("gem", "mac", "spoc", "rmac", "regional-gem", "class-token")


@dataclass(frozen=True)
class IndexSettings:
    """How local features are indexed: the settings that all kinds have.

    `words`: size of the codebook, None to follow the size of the collection. `binary`: compact signatures instead of
    full precision. `bits`: of a signature, a multiple of 32, None for one a dimension. `query_multiple`: words per
    descriptor of a query. `idf`: words weigh by their inverse document frequency.
    """

    words: int | None = None
    binary: bool = True
    bits: int | None = None
    query_multiple: int = 5
    idf: bool = False

    def __post_init__(self) -> None:
        if self.words is not None and self.words < 1:
            raise UsageError(f"words={self.words}: a codebook needs at least one word")
        if self.bits is not None and (self.bits < 32 or self.bits % 32):
            raise UsageError(f"bits={self.bits}: a signature has a multiple of 32 bits, such as 64, 96 or 128")
        if self.bits is not None and not self.binary:
            raise UsageError(f"bits={self.bits} with binary=false: only compact signatures have bits, leave one out")
        if self.query_multiple < 1:
            raise UsageError(f"query_multiple={self.query_multiple}: a descriptor needs at least one word")


@dataclass(frozen=True)
class LocalSettings:
    """How one kind of local features is extracted and indexed.

    `features`: its name (`resight.features.local.encoders`). `encoding`: the settings of its encoder. `key`: under
    which the collection keeps it, "" for the kind that localises best, which verifies, else the name. `matching`: how
    two photos are matched where it verifies. Raises `UsageError` for a matcher that does not know these features.
    """

    features: str = "rootsift"
    encoding: EncoderSettings = field(default_factory=RootSift)
    indexing: IndexSettings = IndexSettings()
    key: str = ""
    matching: MatchSettings = field(default_factory=MatchSettings)

    def __post_init__(self) -> None:
        self.matching.check(self.features)

    @cached_property
    def matcher(self) -> Matcher | None:
        """What proposes correspondences, opened; None for nearest descriptors. Raises `UsageError` when it cannot
        be."""
        return self.matching.open()

    @cached_property
    def encoder(self) -> Encoder:
        """The extractor, opened; one whose reduction is to be learnt has none. Raises `UsageError` when it cannot
        be."""
        return self.encoding.open()

    @property
    def kind(self) -> Kind:
        """What the catalogue of encoders says of it."""
        return find_kind(self.features)

    @property
    def max_side(self) -> int:
        """Pixels of the longer side beyond which its encoder makes photos smaller."""
        return int(getattr(self.encoding, "max_side", MAX_SIDE))

    def words(self, descriptors: int) -> int:
        """Visual words for a collection of so many descriptors."""
        return self.indexing.words or words_for(descriptors, self.kind.words)

    def index(self, codebook: Codebook) -> Asmk:
        """An empty index over `codebook`."""
        how = self.indexing
        return Asmk(codebook, binary=how.binary, query_multiple=how.query_multiple, idf=how.idf)


@dataclass(frozen=True)
class GlobalSettings:
    """How a photo becomes one vector.

    `backbone`: an ONNX file, or the folder of a Hugging Face model; or `weights`: a published checkpoint of torch.
    `second`: a further network, of either kind, whose vectors stand behind those of the first (a blend).
    `region_whitening`: a file of `resight fit regional`, by which pool rmac whitens every region.
    `pool`: one of `POOLS`, with power `p` for GeM; a checkpoint brings its own. `scales`: sizes relative to the photo
    whose longer side was brought to at most `max_side` pixels; none for the checkpoint's published ones, or the photo
    as it is. `whiten`: a whitening learnt without labels from the collection's own vectors, one of
    `WHITENINGS`; `whiten_dim`: dimensions that PCA keeps, None for all; `half`: search in half precision, which takes
    half the memory.
    """

    backbone: str = ""
    weights: str = ""
    second: str = ""
    region_whitening: str = ""
    pool: str = "gem"
    p: float = 3.0
    scales: tuple[float, ...] = ()
    max_side: int = 1024
    whiten: str = "none"
    whiten_dim: int | None = None
    half: bool = False

    def __post_init__(self) -> None:
        if self.pool not in POOLS:
            raise UsageError(f"pool={self.pool!r}: choose one of {', '.join(POOLS)}")
        if self.whiten not in WHITENINGS:
            raise UsageError(f"whiten={self.whiten!r}: choose one of {', '.join(WHITENINGS)}")
        if not (math.isfinite(self.p) and self.p > 0):
            raise UsageError(f"p={self.p}: the generalised mean needs a positive p")
        if not all(math.isfinite(scale) and scale > 0 for scale in self.scales):
            raise UsageError(f"scales={list(self.scales)}: all must be positive")
        if self.max_side < 1 or (self.whiten_dim is not None and self.whiten_dim < 1):
            raise UsageError(f"max_side={self.max_side} and whiten_dim={self.whiten_dim} must be at least 1")
        if bool(self.backbone) and bool(self.weights):
            raise UsageError("give a backbone or weights, not both: they are two ways to name one network")


def pooling(settings: GlobalSettings, output: str) -> tuple[Any, str]:
    """The pooling function of a backbone's `output` and its name; networks that give vectors need none, and only
    tokens have a class token.
    """
    if output == "vectors":
        return None, ""
    name = "gem" if settings.pool == "class-token" and output == "maps" else settings.pool
    if settings.region_whitening:
        if name != "rmac":
            raise UsageError(f"region_whitening is for pool rmac, which adds up regions: pool={name} has none")
        regional = WhitenedRmac(Whitening.load(settings.region_whitening))
        return regional, regional.name
    return named_pooling(name, settings.p)

"""Which of the known benchmarks a data folder holds."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from resight.errors import UsageError
from resight.evaluation.benchmark import Benchmark
from resight.evaluation.ground_truth import KNOWN, open_benchmark
from resight.evaluation.image_files import find_images

# benchmark: (places of its files, place of its photos where that is another), below the data folder
_SFM = "sfm120k/ims"
PLACES: dict[str, tuple[tuple[str, ...], str | None]] = {
    "roxford5k": (("ground_truth/gnd_roxford5k.pkl", "ground_truth/gnd_roxford5k.mat"), "roxford5k/jpg"),
    "rparis6k": (("ground_truth/gnd_rparis6k.pkl", "ground_truth/gnd_rparis6k.mat"), "rparis6k/jpg"),
    "oxford5k": (("oxford5k", "ground_truth/gnd_oxford5k.pkl", "ground_truth/gnd_oxford5k.mat"), "oxford5k"),
    "paris6k": (("paris6k", "ground_truth/gnd_paris6k.pkl", "ground_truth/gnd_paris6k.mat"), "paris6k"),
    "instre": (("ground_truth/gnd_instre.mat",), "instre"),
    "holidays": (("holidays/images", "holidays"), None),
    "holidays-trapezoid": (("holidays/images", "holidays"), None),
    "ukbench": (("ukbench", "ukbench140"), None),
    "roxford845": (("oxford845",), None),
    "oxford845": (("oxford845",), None),
    "smvs": (("smvs",), None),
    "gldv2-public": (("gldv2",), "gldv2/images"),
    "gldv2-private": (("gldv2",), "gldv2/images"),
    "gldv2-test": (("gldv2",), "gldv2/images"),
    "gldv2-recognition-public": (("gldv2",), "gldv2/images"),
    "gldv2-recognition-private": (("gldv2",), "gldv2/images"),
    "ilias": (("ilias",), "ilias"),
    "sfm120k-val": (("ground_truth/retrieval-SfM-120k.pkl",), _SFM),
    "sfm120k-eccv2020": (("ground_truth/retrieval-SfM-120k-val-eccv2020.pkl",), _SFM),
    "gl18-val": (("ground_truth/db_gl18.pkl",), "gl18"),
    "landmarks": (("landmarks5k/labels.txt",), "landmarks5k/images"),
}


@dataclass(frozen=True, eq=False)
class AtHand:
    """A known benchmark in a data folder. `path`: its files, None where they are not there. `benchmark`: None also
    where `problem` says why it cannot be read. `photos`: how many of its photos are there.
    """

    name: str
    expected: str
    path: Path | None
    benchmark: Benchmark | None
    photos: int
    problem: str = ""


def benchmarks_at_hand(data: Path) -> tuple[AtHand, ...]:
    """All known benchmarks that have a place in a data folder; those for your own photos have none."""
    return tuple(_look(name, data) for name in KNOWN if name in PLACES)


def _look(name: str, data: Path) -> AtHand:
    places, photos = PLACES[name]
    path = next((data / place for place in places if (data / place).exists()), None)
    if path is None:
        return AtHand(name, places[0], None, None, 0)
    try:
        benchmark = open_benchmark(f"{name}:{path}")
        return AtHand(name, places[0], path, benchmark, _photos(benchmark, data / photos if photos else path))
    except UsageError as error:
        return AtHand(name, places[0], path, None, 0, str(error))


def _photos(benchmark: Benchmark, folder: Path) -> int:
    if not folder.is_dir():
        return 0
    return sum(path is not None for path in find_images(benchmark, folder).images)

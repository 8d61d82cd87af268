"""The benchmarks that resight knows, each with its files, protocol, licence and source, and how to open one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from resight.errors import UsageError
from resight.evaluation.benchmark import Annotation, Benchmark, Protocol
from resight.evaluation.readers.by_name import read_holidays, read_ukbench
from resight.evaluation.readers.google_landmarks import read_challenge, recognition_reader, retrieval_reader
from resight.evaluation.readers.ilias import read_ilias
from resight.evaluation.readers.own_data import read_folders, read_labels, read_pairs
from resight.evaluation.readers.oxford_text import read_oxford
from resight.evaluation.readers.revisited import read_gnd
from resight.evaluation.readers.sfm import read_sfm_eccv, tuples_reader
from resight.evaluation.readers.subsets import read_classic_part, read_phone_photos, read_revisited_part


@dataclass(frozen=True)
class KnownBenchmark:
    """One row of the table `KNOWN`. `files`: what the path must be or hold. `images`, `queries`: counts as published,
    None where the files decide.
    """

    title: str
    files: str
    protocol: Protocol
    licence: str
    source: str
    read: Callable[[Path], Annotation]
    images: int | None = None
    queries: int | None = None


def open_benchmark(spec: str) -> Benchmark:
    """Open `NAME:PATH`, for example `roxford5k:data/gnd_roxford5k.pkl` or `folders:photos`.

    NAME is a key of `KNOWN`, whose `files` says what PATH is. Raises `UsageError` for an unknown name, a missing path,
    and files that are not what they should be.
    """
    name, _, place = spec.partition(":")
    if name not in KNOWN or not place:
        raise UsageError(f"{spec!r} is not NAME:PATH with a known name: {', '.join(KNOWN)}")
    path = Path(place).expanduser()
    if not path.exists():
        raise UsageError(f"{path} does not exist: {name} needs {KNOWN[name].files}")
    known = KNOWN[name]
    read = known.read(path)
    return Benchmark(
        name,
        read.images,
        read.queries,
        read.judgements,
        known.protocol,
        known.licence,
        known.source,
        annotated=len(read.images),
    )


def _gnd_reader(name: str, text_files: bool) -> Callable[[Path], Annotation]:
    def read(path: Path) -> Annotation:
        if path.is_file():
            return read_gnd(path)
        for suffix in (".pkl", ".mat"):
            for file in (path / f"gnd_{name}{suffix}", path / name / f"gnd_{name}{suffix}"):
                if file.is_file():
                    return read_gnd(file)
        if text_files:
            return read_oxford(path)
        raise UsageError(f"{path} holds no gnd_{name}.pkl or gnd_{name}.mat")

    return read


_REVISITED = Protocol(
    crop="box",
    ap="trapezoid",
    junk="unclear images, and for easy the hard, for hard the easy ones",
    own_photo="absent",
    levels=("easy", "medium", "hard"),
    at=(1, 5, 10),
)
_CLASSIC = Protocol(
    crop="box",
    ap="trapezoid",
    junk="images that show less than a quarter of the building",
    own_photo="positive",
    at=(1, 5, 10),
)
_INSTRE = Protocol(crop="box", ap="trapezoid", junk="none", own_photo="absent", at=(1, 5, 10))
_ONE_ANSWER = Protocol(crop="whole", ap="trapezoid", junk="none", own_photo="absent", at=(1,))
_OWN = Protocol(crop="whole", ap="rectangle", junk="the query's own photo", own_photo="junk")
_PAIRS = Protocol(crop="whole", ap="rectangle", junk="as listed, and the query's own photo", own_photo="junk")
_HOLIDAYS_TRAPEZOID = Protocol(crop="whole", ap="trapezoid", junk="the query's own photo", own_photo="junk")
_UKBENCH = Protocol(crop="whole", ap="N-S", junk="none", own_photo="positive")
_AT_100 = Protocol(crop="whole", ap="at k", junk="none", own_photo="absent", k=100)
_AT_1000 = Protocol(crop="whole", ap="at k", junk="none", own_photo="absent", k=1000)
_TUPLES = Protocol(
    crop="whole",
    ap="trapezoid",
    junk="the query's own photo and the other images of its cluster",
    own_photo="junk",
    at=(1, 5, 10),
)
_ECCV = Protocol(
    crop="whole", ap="trapezoid", junk="as listed, and the query's own photo", own_photo="junk", at=(1, 5, 10)
)

_FLICKR = "photos belong to their Flickr authors; annotation: none stated"
_VGG = "https://www.robots.ox.ac.uk/~vgg/data/"
_CIRTORCH = "http://cmp.felk.cvut.cz/cnnimageretrieval/"
_GLDV2_LICENCE = "annotation CC BY 4.0; photos under their own free licences"
_GLDV2 = "https://github.com/cvdfoundation/google-landmark"
_RETRIEVAL_FILES = "a folder with index.csv and retrieval_solution_v2.1.csv"
_RECOGNITION_FILES = "a folder with train.csv (or index_image_to_landmark.csv) and recognition_solution_v2.1.csv"
_HOLIDAYS_FILES = "a folder of images, or a text file of their names, such as 100000.jpg"
_HOLIDAYS_LICENCE = "(c) INRIA and the photographers, research use"
_HOLIDAYS_SOURCE = "https://lear.inrialpes.fr/~jegou/data.php"

KNOWN: dict[str, KnownBenchmark] = {
    "roxford5k": KnownBenchmark(
        "Revisited Oxford (Radenovic et al., CVPR 2018)",
        "gnd_roxford5k.pkl or .mat, or a folder with it",
        _REVISITED,
        _FLICKR,
        "http://cmp.felk.cvut.cz/revisitop/",
        _gnd_reader("roxford5k", text_files=False),
        4993,
        70,
    ),
    "rparis6k": KnownBenchmark(
        "Revisited Paris (Radenovic et al., CVPR 2018)",
        "gnd_rparis6k.pkl or .mat, or a folder with it",
        _REVISITED,
        _FLICKR,
        "http://cmp.felk.cvut.cz/revisitop/",
        _gnd_reader("rparis6k", text_files=False),
        6322,
        70,
    ),
    "oxford5k": KnownBenchmark(
        "Oxford Buildings (Philbin et al., CVPR 2007)",
        "gnd_oxford5k.pkl or .mat, or a folder with images and *_query.txt, *_good.txt, *_ok.txt, *_junk.txt",
        _CLASSIC,
        _FLICKR,
        _VGG + "oxbuildings/",
        _gnd_reader("oxford5k", text_files=True),
        queries=55,
    ),
    "roxford845": KnownBenchmark(
        "A part of revisited Oxford: photos that its annotation names, no others, so scores are higher than published",
        "ground_truth_roxford_subset.json, or a folder with it and the photos",
        _REVISITED,
        _FLICKR,
        "http://cmp.felk.cvut.cz/revisitop/",
        read_revisited_part,
        queries=70,
    ),
    "oxford845": KnownBenchmark(
        "A part of Oxford Buildings: photos that its annotation names, no others, so scores are higher than published",
        "ground_truth_classic55.json, or a folder with it and the photos",
        _CLASSIC,
        _FLICKR,
        _VGG + "oxbuildings/",
        read_classic_part,
        queries=55,
    ),
    "smvs": KnownBenchmark(
        "Stanford Mobile Visual Search: things photographed by phones, one right answer each "
        "(Chandrasekhar et al., MMSys 2011)",
        "a folder with Query and Reference, or of such folders",
        _ONE_ANSWER,
        "research use",
        "https://purl.stanford.edu/rb470rw0983",
        read_phone_photos,
    ),
    "paris6k": KnownBenchmark(
        "Paris (Philbin et al., CVPR 2008)",
        "gnd_paris6k.pkl or .mat, or a folder with images and *_query.txt, *_good.txt, *_ok.txt, *_junk.txt",
        _CLASSIC,
        _FLICKR,
        _VGG + "parisbuildings/",
        _gnd_reader("paris6k", text_files=True),
        queries=55,
    ),
    "instre": KnownBenchmark(
        "INSTRE (Wang and Jiang, TOMM 2015; split of Iscen et al., CVPR 2017)",
        "gnd_instre.mat, or a folder with it",
        _INSTRE,
        "none stated",
        "ftp://ftp.irisa.fr/local/texmex/corpus/instre/",
        _gnd_reader("instre", text_files=False),
        27293,
        1250,
    ),
    "holidays": KnownBenchmark(
        "INRIA Holidays (Jegou et al., ECCV 2008), non-interpolated AP",
        _HOLIDAYS_FILES,
        _OWN,
        _HOLIDAYS_LICENCE,
        _HOLIDAYS_SOURCE,
        read_holidays,
    ),
    "holidays-trapezoid": KnownBenchmark(
        "INRIA Holidays, scored as its own script holidays_map.py does",
        _HOLIDAYS_FILES,
        _HOLIDAYS_TRAPEZOID,
        _HOLIDAYS_LICENCE,
        _HOLIDAYS_SOURCE,
        read_holidays,
    ),
    "ukbench": KnownBenchmark(
        "UKBench (Nister and Stewenius, CVPR 2006)",
        "a folder of images, or a text file of their names, such as ukbench00000.jpg",
        _UKBENCH,
        "none stated",
        "https://archive.org/details/ukbench",
        read_ukbench,
        10200,
        10200,
    ),
    "gldv2-public": KnownBenchmark(
        "Google Landmarks v2, retrieval, public queries (Weyand et al., CVPR 2020)",
        _RETRIEVAL_FILES,
        _AT_100,
        _GLDV2_LICENCE,
        _GLDV2,
        retrieval_reader("Public"),
    ),
    "gldv2-private": KnownBenchmark(
        "Google Landmarks v2, retrieval, private queries (Weyand et al., CVPR 2020)",
        _RETRIEVAL_FILES,
        _AT_100,
        _GLDV2_LICENCE,
        _GLDV2,
        retrieval_reader("Private"),
    ),
    "gldv2-test": KnownBenchmark(
        "Google Landmarks v2, every test photo, without answers: for --submission",
        "a folder with index.csv and test.csv (or sample_submission.csv)",
        _AT_100,
        _GLDV2_LICENCE,
        _GLDV2,
        read_challenge,
    ),
    "gldv2-recognition-public": KnownBenchmark(
        "Google Landmarks v2, recognition labels scored as retrieval, public queries",
        _RECOGNITION_FILES,
        _AT_100,
        _GLDV2_LICENCE,
        _GLDV2,
        recognition_reader("Public"),
    ),
    "gldv2-recognition-private": KnownBenchmark(
        "Google Landmarks v2, recognition labels scored as retrieval, private queries",
        _RECOGNITION_FILES,
        _AT_100,
        _GLDV2_LICENCE,
        _GLDV2,
        recognition_reader("Private"),
    ),
    "ilias": KnownBenchmark(
        "ILIAS, image queries, without its distractors (Kordopatis-Zilos et al., CVPR 2025)",
        "a folder with image_ids/positive_ids.txt and image_ids/image_query_ids.txt",
        _AT_1000,
        "captured photos CC BY 4.0; downloaded ones under their original licences",
        "https://github.com/ilias-vrg/ilias",
        read_ilias,
    ),
    "sfm120k-val": KnownBenchmark(
        "Validation part of retrieval-SfM-120k (Radenovic et al., TPAMI 2019)",
        "retrieval-SfM-120k.pkl",
        _TUPLES,
        _FLICKR,
        _CIRTORCH,
        tuples_reader(nested=True),
    ),
    "sfm120k-eccv2020": KnownBenchmark(
        "Validation set of HOW (Tolias et al., ECCV 2020)",
        "retrieval-SfM-120k-val-eccv2020.pkl",
        _ECCV,
        _FLICKR,
        "https://github.com/gtolias/how",
        read_sfm_eccv,
    ),
    "gl18-val": KnownBenchmark(
        "Validation part of Google Landmarks 2018 as SOLAR uses it (Ng et al., ECCV 2020)",
        "db_gl18.pkl",
        _TUPLES,
        "photos under their own licences",
        "https://github.com/tonyngjichun/SOLAR",
        tuples_reader(nested=False),
    ),
    "landmarks": KnownBenchmark(
        "Landmarks, or any list of labelled images (Babenko et al., ECCV 2014; lists of Gordo et al., ECCV 2016)",
        "a text file of lines: image label",
        _OWN,
        "photos belong to their authors",
        "https://europe.naverlabs.com/research/computer-vision/",
        read_labels,
    ),
    "folders": KnownBenchmark(
        "Your photos, one folder per thing", "a folder of folders of images", _OWN, "yours", "your folder", read_folders
    ),
    "csv": KnownBenchmark(
        "Your photos and a list of pairs",
        "a csv file with the columns query, positive and optionally junk, beside images.txt or the images",
        _PAIRS,
        "yours",
        "your file",
        read_pairs,
    ),
}

"""How many of the nearest words the lists of a large codebook find, and how fast, against a look at all words.

    python benchmarks/word_lists.py COLLECTION.resight [--words 65536] [--queries 2000] [--probes 8 16 32 64]

Words are descriptors of some photos of the collection, drawn at random and moved by one round of k-means over as many
others; queries are descriptors of photos that gave none of them. Recall@1 and @5 count found among the exact nearest.
Milliseconds of the processor are for 1000 descriptors with five words each.
"""

from __future__ import annotations

import argparse
import time

import numpy as np

from resight.artifacts.inverted_file import features_of
from resight.collection.open import open_collection
from resight.index import word_lists
from resight.index.kmeans import kmeans, nearest
from resight.index.word_lists import WordLists


def main() -> None:
    parser = argparse.ArgumentParser(description="recall and time of the lists of a large codebook")
    parser.add_argument("collection")
    parser.add_argument("--words", type=int, default=65536)
    parser.add_argument("--queries", type=int, default=2000)
    parser.add_argument("--probes", type=int, nargs="+", default=[8, 16, 32, 64])
    options = parser.parse_args()
    rng, tables = np.random.default_rng(0), open_collection(options.collection).snapshot.tables
    rows = rng.permutation(tables.feature_rows)
    features = np.concatenate([each.descriptors for each in features_of(tables, np.sort(rows[:-40]))])
    asked = np.concatenate([each.descriptors for each in features_of(tables, np.sort(rows[-40:]))])
    asked = asked[rng.choice(len(asked), options.queries, replace=False)]
    sample = features[rng.choice(len(features), min(2 * options.words, len(features)), replace=False)]
    words = kmeans(sample, options.words, seed=0, iterations=1)
    start = time.process_time()
    lists = WordLists.fit(words)
    print(f"{len(words)} words in {len(lists.coarse)} lists, made in {time.process_time() - start:.1f} s")
    start = time.process_time()
    exact = nearest(asked, words, 5)
    print("| lists searched | recall@1 | recall@5 | ms |\n|--:|--:|--:|--:|")
    print(f"| all words | 1 | 1 | {1e6 * (time.process_time() - start) / len(asked):.0f} |")
    for probes in options.probes:
        word_lists.PROBES = probes
        start = time.process_time()
        found = lists.nearest(words, asked, 5)
        seconds = time.process_time() - start
        five = (found[:, :, None] == exact[:, None, :]).any(axis=2).mean()
        one = (found[:, 0] == exact[:, 0]).mean()
        print(f"| {probes} | {one:.4f} | {five:.4f} | {1e6 * seconds / len(asked):.0f} |")


if __name__ == "__main__":
    main()

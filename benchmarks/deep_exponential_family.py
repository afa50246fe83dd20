"""Deep exponential families of documents: mean field against a hierarchical model, by perplexity of unseen words.

    python benchmarks/deep_exponential_family.py [--corpus CORPUS.npz] [--seeds 5] [--steps 3000] [--layers poisson]

The models, the corpus format and the comparison are those of `examples/deep_exponential_family.py`: weights learned
under mean field, then both describe new documents of which half of the words are seen, with equally many gradient
steps. Printed for each seed and as medians: bounds on the new documents (nats) and the perplexity of the other half,
beside that of the words' frequencies in the documents that the weights were learned from.
"""

import argparse
import sys
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "examples"))
import deep_exponential_family as example


def frequencies(counts, heldout, seed):
    """Perplexity of the same words under the frequencies of the documents learned from, one added to each count."""
    _, unseen = example.halves(counts[heldout], seed)
    share = counts[~heldout].sum(axis=0) + 1.0
    return float(np.exp(-(unseen * np.log(share / share.sum())).sum() / unseen.sum()))


def main():
    """A line for each seed and method, then medians."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus")
    parser.add_argument("--documents", type=int, default=60)
    parser.add_argument("--terms", type=int, default=40)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--layers", nargs="*", default=sorted(example.LAYERS), choices=sorted(example.LAYERS))
    options = parser.parse_args()
    for layers in options.layers:
        found: dict[str, list[tuple[float, float]]] = {}
        for seed in range(options.seeds):
            corpus = (
                example.read(options.corpus, options.documents, options.terms, seed)
                if options.corpus
                else example.generated(options.documents, options.terms, seed)
            )
            start = time.process_time()
            results = example.compared(example.LAYERS[layers], *corpus, options.steps, seed)
            seconds = time.process_time() - start
            for name, (fit, perplexity) in results.items():
                found.setdefault(name, []).append((fit.elbo.value, perplexity))
            told = ", ".join(f"{name} {fit.elbo} and {perplexity:.2f}" for name, (fit, perplexity) in results.items())
            plain = frequencies(*corpus, seed)
            print(f"{layers}, seed {seed}: {told}; frequencies {plain:.2f}; CPU s {seconds:.0f}", flush=True)
        for name, rows in found.items():
            bound, perplexity = np.median(np.array(rows), axis=0)
            print(f"{layers}, {name}: median bound {bound:.1f}, median perplexity {perplexity:.2f}", flush=True)


if __name__ == "__main__":
    main()

"""Deep exponential families of documents: two layers of discrete latents, and what dependence between them is worth.

    python examples/deep_exponential_family.py [CORPUS.npz] [--documents 60] [--terms 40] [--layers poisson sigmoid]

Each document has latents z₂ above latents z₁ above its word counts (Ranganath, Tang, Charlin and Blei 2015); the
weights are positive, with gamma priors, and are learned by variational EM under mean field. Given the words the latents
depend on each other, which mean field cannot say and a hierarchical variational model, with a prior on the parameters
of each document's factors, can. Both describe new documents under the same weights: half of the words are seen, the
perplexity of the other half is that of the mean rates under q. CORPUS.npz holds counts in compressed sparse
rows (`data`, `indices`, `indptr`, `shape`) and `heldout`, a flag for each document; without it a corpus is generated.
"""

import argparse

import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
from numpyro.distributions import constraints

import jensen as jn

BASE, TOP, WIDE = 0.02, 3, 6
"""Rate of every word without any topic; units in the upper and the lower layer."""
WEIGHTS = {"first": constraints.positive, "second": constraints.positive}


def poisson(counts, first, second):
    """z₂ ~ Poisson(½), z₁ ~ Poisson(z₂ W₂ + 0.1), words ~ Poisson(z₁ W₁ + base)."""
    documents, terms = counts.shape
    numpyro.factor("weights", weights_prior(first, second))
    with numpyro.plate("document", documents, dim=-2):
        with numpyro.plate("upper", TOP, dim=-1):
            z2 = numpyro.sample("z2", dist.Poisson(0.5))
        with numpyro.plate("lower", WIDE, dim=-1):
            z1 = numpyro.sample("z1", dist.Poisson(z2 @ second + 0.1))
        with numpyro.plate("term", terms, dim=-1):
            numpyro.sample("words", dist.Poisson(z1 @ first + BASE), obs=counts)


def sigmoid(counts, first, second):
    """z₂ ~ Bernoulli(0.3), z₁ ~ Bernoulli(σ(z₂ W₂ - 2)), words ~ Poisson(z₁ W₁ + base)."""
    documents, terms = counts.shape
    numpyro.factor("weights", weights_prior(first, second))
    with numpyro.plate("document", documents, dim=-2):
        with numpyro.plate("upper", TOP, dim=-1):
            z2 = numpyro.sample("z2", dist.Bernoulli(0.3))
        with numpyro.plate("lower", WIDE, dim=-1):
            z1 = numpyro.sample("z1", dist.Bernoulli(logits=z2 @ second - 2.0))
        with numpyro.plate("term", terms, dim=-1):
            numpyro.sample("words", dist.Poisson(z1 @ first + BASE), obs=counts)


LAYERS = {"poisson": poisson, "sigmoid": sigmoid}


def weights_prior(first, second):
    """Gamma(1.1, 1) for every weight: positive, and little else."""
    return sum(jnp.sum(dist.Gamma(1.1, 1.0).log_prob(w)) for w in (first, second))


def generated(documents=60, terms=40, seed=0):
    """Counts of documents of 20 to 40 words on pairs of topics that go together, and which are held out."""
    rng = np.random.default_rng(seed)
    topics = rng.dirichlet(np.full(terms, 0.1), size=WIDE)
    pairs = rng.integers(TOP, size=documents)
    shares = np.stack([rng.dirichlet([2.0, 2.0]) for _ in range(documents)])
    p = shares[:, :1] * topics[2 * pairs] + shares[:, 1:] * topics[2 * pairs + 1]
    counts = np.stack([rng.multinomial(rng.integers(20, 40), row / row.sum()) for row in p])
    return counts.astype(float), np.arange(documents) % 4 == 0


def read(path, documents, terms, seed=0):
    """(counts, held out) of some documents of at least ten words on the most frequent terms of a corpus."""
    from scipy import sparse

    with np.load(path, allow_pickle=False) as found:
        matrix = sparse.csr_matrix((found["data"], found["indices"], found["indptr"]), shape=tuple(found["shape"]))
        heldout = found["heldout"].astype(bool)
    frequent = np.argsort(-np.asarray(matrix[~heldout].sum(axis=0)).ravel(), kind="stable")[:terms]
    counts = np.asarray(matrix[:, frequent].todense(), float)
    rng = np.random.default_rng(seed)
    long = counts.sum(axis=1) >= 10

    def some(which, count):
        return rng.permutation(np.flatnonzero(which & long))[:count]

    rows = np.concatenate([some(~heldout, documents), some(heldout, max(1, documents // 3))])
    return counts[rows], heldout[rows]


def halves(counts, seed=0):
    """The words of each document in two random halves."""
    seen = np.random.default_rng(seed).binomial(counts.astype(int), 0.5).astype(float)
    return seen, counts - seen


def compared(model, counts, heldout, steps, seed=0):
    """{method: (fit of the new documents, their perplexity)}, each with as many gradient steps."""
    rng = np.random.default_rng([seed, 1])
    train, (seen, unseen) = counts[~heldout], halves(counts[heldout], seed)
    rate = train.mean()
    start = {
        "first": rate * rng.gamma(1.0, 1.0, size=(WIDE, counts.shape[1])) + 0.01,
        "second": rng.gamma(1.0, 1.0, size=(TOP, WIDE)),
    }
    mean_field = jn.bbvi(max_steps=steps, num_starts=1)
    fit = jn.fit(model, {"counts": train, **start}, mean_field, learn=WEIGHTS, seed=seed)
    learned = {key: np.asarray(fit.estimates[key]) for key in start}
    out = {}
    hierarchical = jn.hvm(plate="document", max_steps=steps, num_starts=1)  # the first half of the steps is mean field
    for name, method in {"mean field": mean_field, "hierarchical": hierarchical}.items():
        new = jn.fit(model, {"counts": seen, **learned}, method, seed=seed)
        rates = new.sample(200, raw=True)["z1"].mean(axis=0) @ learned["first"] + BASE
        log_p = np.log(rates / rates.sum(axis=1, keepdims=True))
        out[name] = new, float(np.exp(-(unseen * log_p).sum() / unseen.sum()))
    return out


def main():
    """Both kinds of layers."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus", nargs="?")
    parser.add_argument("--documents", type=int, default=60)
    parser.add_argument("--terms", type=int, default=40)
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--layers", nargs="*", default=["poisson"], choices=sorted(LAYERS))
    options = parser.parse_args()
    corpus = read(options.corpus, options.documents, options.terms) if options.corpus else generated()
    for layers in options.layers:
        for name, (new, perplexity) in compared(LAYERS[layers], *corpus, options.steps).items():
            print(f"{layers}, {name}: bound {new.elbo}, perplexity of the other half {perplexity:.1f}", flush=True)
        print(new.check())


if __name__ == "__main__":
    main()

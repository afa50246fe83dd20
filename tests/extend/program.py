"""A front end from outside: a toy language of lines `name ~ Law(...)` for latents and `name := Law(...)` for data."""

import jax
import jax.numpy as jnp
import numpyro.distributions as dist

from jensen.extend import AbstractProgram, Plate, Site, Structure

WORDS = {**vars(dist), "exp": jnp.exp, "log": jnp.log}


class Toy(AbstractProgram):
    """A program in the toy language; every other name in it is an argument that the data give."""

    def __init__(self, text):
        self.lines = []
        for line in filter(None, map(str.strip, text.splitlines())):
            head, latent, law = line.partition("~")
            name, law = (head, law) if latent else line.split(":=")
            self.lines.append((name.strip(), not latent, compile(law.strip(), line, "eval")))

    @property
    def arguments(self):
        """Outcomes, and the names that no line defines."""
        latent = {name for name, seen, _ in self.lines if not seen}
        used = [name for name, seen, _ in self.lines if seen] + [n for *_, law in self.lines for n in law.co_names]
        return tuple(n for n in dict.fromkeys(used) if n not in latent and n not in WORDS)

    def laws(self, values, value):
        """Every line with its distribution; what has no value yet gets `value(name, law)`."""
        scope = {name: given for name, given in values.items() if given is not None}
        for name, seen, code in self.lines:
            law = eval(code, {"__builtins__": {}, **WORDS}, scope)
            if name not in scope:
                scope[name] = value(name, law)
            yield name, seen, law, scope[name]

    def analyse(self, arrays, fixed, *, discrete=False):
        found = {}

        def run(arrays):
            for name, seen, law, value in self.laws({**arrays, **fixed}, lambda _, law: feasible(law)):
                found[name] = site(name, seen, law, jnp.shape(value))

        jax.eval_shape(run, arrays)
        return Structure(found, {plate.name: plate for one in found.values() for plate in one.plates})

    def log_joint(self, latent, data):
        laws = self.laws({**data, **latent}, lambda name, _: latent[name])
        return {name: law.log_prob(value) for name, _, law, value in laws}

    def observed(self, data):
        return {name: data[name] for name, seen, _ in self.lines if seen}

    def forward(self, given, data, key):
        outcomes = {name for name, seen, _ in self.lines if seen}
        rest = {name: value for name, value in data.items() if name not in outcomes}
        keys = iter(jax.random.split(key, len(self.lines)))
        drawn = self.laws({**rest, **given}, lambda _, law: law.sample(next(keys)))
        return {name: value for name, _, _, value in drawn}


def feasible(law):
    """A point of the support."""
    return law.support.feasible_like(jnp.zeros(law.shape()))


def site(name, seen, law, shape):
    """What a line says of its site; outcomes are independent by rows."""
    if seen:
        rows = tuple(Plate(f"{name}_row", -1, n) for n in shape[-1:])
        return Site(name, "observed", type(law).__name__, None, shape, 0, rows, data_key=name)
    free = () if law.support.is_discrete else tuple(dist.biject_to(law.support).inverse_shape(shape))
    return Site(name, "latent", type(law).__name__, law.support, shape, law.event_dim, (), free)

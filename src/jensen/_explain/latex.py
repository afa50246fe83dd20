"""A model as mathematics: what is drawn from what, and the joint density as a product over plates."""

from collections import Counter
from collections.abc import Iterable

from jensen._program.structure import Plate, Site, Structure

_GREEK = frozenset(
    [
        "alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta", "theta", "iota", "kappa", "lambda", "mu", "nu",
        "xi", "pi", "rho", "sigma", "tau", "upsilon", "phi", "chi", "psi", "omega", "Gamma", "Delta", "Theta", "Lambda",
        "Xi", "Pi", "Sigma", "Upsilon", "Phi", "Psi", "Omega",
    ]
)  # fmt: skip
_LETTERS = {
    "α": "alpha", "β": "beta", "γ": "gamma", "δ": "delta", "ε": "epsilon", "ζ": "zeta", "η": "eta", "θ": "theta",
    "ι": "iota", "κ": "kappa", "λ": "lambda", "μ": "mu", "ν": "nu", "ξ": "xi", "π": "pi", "ρ": "rho", "σ": "sigma",
    "τ": "tau", "υ": "upsilon", "φ": "phi", "χ": "chi", "ψ": "psi", "ω": "omega", "Γ": "Gamma", "Δ": "Delta",
    "Θ": "Theta", "Λ": "Lambda", "Ξ": "Xi", "Π": "Pi", "Σ": "Sigma", "Υ": "Upsilon", "Φ": "Phi", "Ψ": "Psi",
    "Ω": "Omega",
}  # fmt: skip
_ESCAPES = {
    "\\": r"\backslash ", "{": r"\{", "}": r"\}", "_": r"\_", "$": r"\$", "%": r"\%", "&": r"\&", "#": r"\#",
    "^": r"\hat{}", "~": r"\sim ", " ": r"\ ",
}  # fmt: skip
_INDICES = "ijklmnrstuvw"


def generative(structure: Structure) -> str:
    r"""The `align*` environment: one line `site | parents ~ Distribution` per site, then p(x, z) as a product.

    A plate gives its sites an index; a parent outside the plate of its child is written with the whole range, as in
    a_{1:3}. Deterministic sites are f(parents).
    """
    index = _indices(structure)
    sites = list(structure.sites.values())
    lines = [_line(site, structure, index) for site in sites]
    drawn = [site for site in sites if site.kind != "deterministic"]
    factors = _product([site for site in drawn if not _undrawn(site)], structure, index)
    left = r"\tilde{p}" if any(site.kind == "factor" for site in drawn) else "p"  # factors leave it unnormalised
    everything = ", ".join(_subscripted(site, structure, {}, ()) for site in drawn if site.kind != "factor")
    lines.append(rf"{left}({everything}) &= {factors}")
    return "\\begin{align*}\n" + " \\\\\n".join(lines) + "\n\\end{align*}"


def symbol(name: str) -> str:
    r"""A site's name in math mode: `theta` is \theta, `x` is x, `log_rate` is \mathrm{log\_rate}.

    >>> symbol("theta"), symbol("x"), symbol("log_rate")
    ('\\theta', 'x', '\\mathrm{log\\_rate}')
    """
    name = _LETTERS.get(name, name)
    if name in _GREEK:
        return rf"\{name}"
    if len(name) == 1 and name.isascii() and name.isalpha():
        return name
    return rf"\mathrm{{{''.join(_ESCAPES.get(c, c) for c in name)}}}"


def symbols(names: Iterable[str]) -> dict[str, str]:
    r"""The symbol of each name, all different: a Greek letter's name is spelled out beside the letter itself.

    >>> symbols(["phi", "φ", "x"])
    {'phi': '\\mathrm{phi}', 'φ': '\\phi', 'x': 'x'}
    """
    count = Counter(map(symbol, names := list(names)))
    return {n: rf"\mathrm{{{n}}}" if count[symbol(n)] > 1 and n in _GREEK else symbol(n) for n in names}


def _undrawn(site: Site) -> bool:
    """A latent of a plain log density, which has a support but no distribution of its own."""
    return site.kind == "latent" and site.distribution == "LogDensity"


def _indices(structure: Structure) -> dict[str, str]:
    """Plate name -> its index: i, j, k, ...; i_{13} and so on after the letters are used up."""
    taken = {site.name for site in structure.sites.values()}
    letters = [letter for letter in _INDICES if letter not in taken]
    names = list(structure.plates)
    return {
        name: letters[number] if number < len(letters) else f"i_{{{number + 1}}}" for number, name in enumerate(names)
    }


def _subscripted(site: Site, structure: Structure, index: dict[str, str], within: Iterable[Plate]) -> str:
    inside = {plate.name for plate in within}
    marks = [index[p.name] if p.name in inside else f"1:{p.size}" for p in site.plates]
    return symbols(structure.sites)[site.name] + (f"_{{{', '.join(marks)}}}" if marks else "")


def _given(site: Site, structure: Structure, index: dict[str, str]) -> str:
    return ", ".join(_subscripted(structure.sites[name], structure, index, site.plates) for name in site.parents)


def _line(site: Site, structure: Structure, index: dict[str, str]) -> str:
    left, given = _subscripted(site, structure, index, site.plates), _given(site, structure, index)
    if site.kind == "deterministic":
        line = rf"{left} &= f({given})"
    elif site.kind == "factor":
        line = rf"{left} &= \exp f({given})"
    elif _undrawn(site):
        line = rf"{left} &\in \mathbb{{R}}^{{{site.size}}}\quad \mathrm{{(unconstrained)}}"
    else:
        bar = rf" \mid {given}" if given else ""
        line = rf"{left}{bar} &\sim \mathrm{{{site.distribution}}}"
        if site.kind == "observed":
            line += r"\quad \mathrm{(observed)}"
    ranges = [rf"{index[p.name]} = 1, \dots, {p.size}" for p in site.plates]
    separator = r",\; "
    return line + (rf", \quad {separator.join(ranges)}" if ranges else "")


def _product(sites: list[Site], structure: Structure, index: dict[str, str]) -> str:
    """Runs of sites in the same plates share their product signs."""
    pieces: list[str] = []
    current: tuple[Plate, ...] = ()
    for site in sites:
        given = _given(site, structure, index)
        own = _subscripted(site, structure, index, site.plates)
        bar = rf" \mid {given}" if given else ""
        term = own if site.kind == "factor" else rf"p({own}{bar})"
        if site.plates and site.plates != current:
            signs = [rf"\prod_{{{index[p.name]}=1}}^{{{p.size}}}" for p in site.plates]
            pieces.append(" ".join(signs) + " " + term)
        else:
            pieces.append(term)
        current = site.plates
    # a product sign reaches to the end of its run, so a site outside it is set apart
    return _apart(pieces, sites)


def _apart(pieces: list[str], sites: list[Site]) -> str:
    out: list[str] = []
    for number, piece in enumerate(pieces):
        opens = piece.startswith(r"\prod")
        closes = number + 1 == len(pieces) or sites[number + 1].plates != sites[number].plates
        inside = bool(sites[number].plates)
        text = (r"\Bigl[" + " " if opens else "") + piece
        out.append(text + (r" \Bigr]" if inside and closes else ""))
    return r"\, ".join(out)

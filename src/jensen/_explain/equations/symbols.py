"""Symbols that mean one thing each: names stay as the user wrote them, and letters that a name has give way."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from jensen._explain.latex import symbol, symbols

SPARE = {
    "m": "mean", "s": "sd", "S": "cov", "h": "shift", "Λ": "prec", "a": "shape", "b": "rate", "κ": "count",
    "α": "conc", "ν": "dof", "R": "scale", "w": "copies", "φ": "prob", "C": "cross", "ψ": "pot", "η": "nat",
}  # fmt: skip
"""Letters of parameters -> the words in place of those that a site or an argument has."""
TOGETHER = ("ms", "Sh", "ab")
"""Letters that give way together, so that no factor has a letter beside a word."""
OPERATORS = {"E": "𝔼", "Σ": "∑", "H": "ℍ"}
"""Operators of the text -> other signs for the same."""
_LETTER = re.compile(r"(?<![A-Za-z])(?:[A-Za-z]|[α-ω]|Λ)(?![A-Za-z])")


def letters_in(text: str) -> set[str]:
    """The letters of parameters in a family, or in the symbol of a parameter."""
    return set(_LETTER.findall(text)) & SPARE.keys()


@dataclass(frozen=True)
class Symbols:
    """Which symbols are taken by names. `names`: site, argument or constant -> its LaTeX."""

    names: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, names: Iterable[str]) -> "Symbols":
        """The symbols of these names, all different."""
        return cls(symbols(dict.fromkeys(names)))

    def name(self, name: str, latex: bool) -> str:
        """A site, an argument or a function."""
        return self.names.get(name, symbol(name)) if latex else name

    def free(self, text: str) -> bool:
        """Whether no name is written like this, in text or in LaTeX."""
        return text not in self.names and symbol(text) not in self.names.values()

    def letter(self, letter: str, latex: bool = False, spare: str = "") -> str:
        """The letter of a parameter, or a word (`spare`, where the family has its own) where a name is that letter."""
        if not all(map(self.free, next((group for group in TOGETHER if letter in group), letter))):
            letter = spare or SPARE[letter]
            while not self.free(letter):
                letter += "_q"
        return symbol(letter) if latex else letter

    def letters(self, text: str, spare: Mapping[str, str], suffix: str = "") -> str:
        """A family with its parameters, such as `Normal(m, s²)`, in letters that no name has."""

        def written(found: re.Match[str]) -> str:
            letter = found[0]
            return self.letter(letter, spare=spare.get(letter, "")) + suffix if letter in SPARE else letter

        return _LETTER.sub(written, text)

    def operator(self, sign: str) -> str:
        """An operator of the text: `E`, or `𝔼` where a name is E."""
        return sign if self.free(sign) else OPERATORS[sign]

    def word(self, word: str) -> str:
        """What a parameter of the complete conditional is called, where a site has that name too."""
        return word if self.free(word) else f"conditional {word}"

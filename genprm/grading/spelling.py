"""One spelling for what people and models write in many: characters beyond ASCII, type styles, line ends, separators, numbers, units.

What is spelled alike is equal; nothing here decides that two answers differ. The rules stand in docs/grading.md.
"""

from __future__ import annotations

import re
import unicodedata
from fractions import Fraction
from functools import lru_cache

_CHARACTERS = {
    **dict.fromkeys("\u2212\u2010\u2011\u2012\u2013\u2014\ufe63\uff0d", "-"),
    "×": r"\times ", "✕": r"\times ", "·": r"\cdot ", "⋅": r"\cdot ", "∙": r"\cdot ", "∗": "*", "÷": r"\div ", "∕": "/", "⁄": "/",
    "±": r"\pm ", "∓": r"\mp ", "≤": r"\leq ", "⩽": r"\leq ", "≥": r"\geq ", "⩾": r"\geq ", "≠": r"\neq ", "≈": r"\approx ",
    "≡": r"\equiv ", "∪": r"\cup ", "∩": r"\cap ", "∈": r"\in ", "∉": r"\notin ", "∅": r"\emptyset ", "⌀": r"\emptyset ", "∞": r"\infty ",
    "°": r"^\circ ", "º": r"^\circ ", "′": "'", "→": r"\to ", "…": r"\ldots ", "⋯": r"\cdots ", "√": r"\sqrt ",
    "∛": r"\sqrt[3]", "〈": r"\langle ", "〉": r"\rangle ", "⟨": r"\langle ", "⟩": r"\rangle ", "∶": ":", "、": ",", "。": ".", "|": "|",
    "ℝ": r"\mathbb{R}", "ℤ": r"\mathbb{Z}", "ℕ": r"\mathbb{N}", "ℚ": r"\mathbb{Q}", "ℂ": r"\mathbb{C}", "“": '"', "”": '"',
}  # fmt: skip
_GREEK = {
    "α": "alpha", "β": "beta", "γ": "gamma", "δ": "delta", "ε": "epsilon", "ζ": "zeta", "η": "eta", "θ": "theta", "ι": "iota", "κ": "kappa",
    "λ": "lambda", "μ": "mu", "ν": "nu", "ξ": "xi", "π": "pi", "ρ": "rho", "σ": "sigma", "τ": "tau", "υ": "upsilon", "φ": "phi", "χ": "chi",
    "ψ": "psi", "ω": "omega", "Γ": "Gamma", "Δ": "Delta", "Θ": "Theta", "Λ": "Lambda", "Ξ": "Xi", "Π": "Pi", "Σ": "Sigma", "Φ": "Phi",
    "Ψ": "Psi", "Ω": "Omega",
}  # fmt: skip
_RAISED = dict(zip("⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻⁼⁽⁾ⁿⁱ", "0123456789+-=()ni", strict=True))
_LOWERED = dict(zip("₀₁₂₃₄₅₆₇₈₉₊₋₌₍₎ₙ", "0123456789+-=()n", strict=True))

_STYLE = re.compile(
    r"\\(?:mathbf|mathit|mathsf|mathtt|mathnormal|mathrm|boldsymbol|pmb|bm|textbf|textit|textrm|textsf|texttt|textnormal|emph|underline|mbox"
    r"|hbox|displaystyle|textstyle|boxed|fbox|operatorname)\s*(?=\{)"
)
_COLOUR = re.compile(r"\\(?:color|textcolor)\s*\{[^{}]*\}")
_GROUP = r"\{([^{}]*)\}"
_SIZES = re.compile(
    r"\\(?:left|right|bigl?|bigr|Bigl?|Bigr|biggl?|biggr|Biggl?|Biggr|displaystyle|textstyle|limits|nolimits)(?![A-Za-z])\.?"
)
_NUMBER_GROUPS = re.compile(r"(?<![\d.,])(\d{1,3})((?:(?:,|\{,\}|\\,|\\!,|,\\!|\\;|\\ |~| )\s*\d{3})+)(?![\d,])")
_SPACES = re.compile(r"(?<!\\)\\(?:[,;:!> ]|(?:quad|qquad|thinspace|enspace)(?![A-Za-z])|(?:hspace|phantom)\{[^{}]*\})|~")
_UNION = re.compile(r"([)\]])\s*(?:\\text\s*\{\s*or\s*\}|or\b)\s*([(\[])")
_AND = re.compile(r"\s*(?:\\text\s*\{\s*,?\s*(?:and|or)\s*\}|(?<![A-Za-z\\])(?:and|or)(?![A-Za-z]))\s*")
_INEQUALITY = re.compile(r"[<>]|\\(?:leq|geq|neq|in)(?![A-Za-z])")
_FUNCTION_AS_TEXT = re.compile(r"\\text\s*\{\s*(sin|cos|tan|cot|sec|csc|log|ln|exp|min|max|gcd|lcm)\s*\}")
_MAGNITUDES = {"hundred": 2, "thousand": 3, "million": 6, "billion": 9, "trillion": 12}
_MAGNITUDE = re.compile(rf"(?<=[\d}}])\s*(?:\\text\s*\{{\s*)?({'|'.join(_MAGNITUDES)})(?:\s*\}})?(?![A-Za-z])")
_ARGUMENTS = (
    (re.compile(r"\\frac\s*([0-9A-Za-z])\s*([0-9A-Za-z])"), r"\\frac{\1}{\2}"),
    (re.compile(r"\\frac\s*([0-9A-Za-z])\s*(?=\{)"), r"\\frac{\1}"),
    (re.compile(r"(\\frac\s*\{[^{}]*\})\s*([0-9A-Za-z])"), r"\1{\2}"),
    (re.compile(r"([\^_])\s*(\d+)(?![\w.])"), r"\1{\2}"),
    (re.compile(r"([\^_])\s*([0-9A-Za-z])"), r"\1{\2}"),
)
"""Arguments without braces get them."""
_EXPONENT = re.compile(r"(?<![\w.])(\d+(?:\.\d+)?)[eE]([+-]?\d{1,3})(?!\w)")
_REPEATING = re.compile(r"(?<![\d.])(\d+)\.(\d*)\\(?:overline|bar|dot)\s*\{(\d+)\}")
_MIXED = re.compile(r"(?<![\w.}/^])(-?)\s*(\d+) +(\d+) ?/ ?(\d+)(?![\d/])")
_INLINE_FRACTION = re.compile(r"(?<![\w.}^])(\d+)/(\d+)(?=\\?[A-Za-z])")
_ROOT = re.compile(r"\\sqrt\s*(\[[^\]]*\])?\s*(?:\(([^()]*)\)|(\d+(?:\.\d+)?|[A-Za-z]))")
_WRAPPERS = (("$$", "$$"), ("$", "$"), (r"\[", r"\]"), (r"\(", r"\)"), ("**", "**"), ("`", "`"))
_INNER_DOLLAR = re.compile(r"(?<!\\)\$")
_FRACTIONS = re.compile(r"\\[dtc]frac(?![A-Za-z])")
_SYNONYMS: tuple[tuple[re.Pattern[str], str], ...] = (
    (_FRACTIONS, r"\\frac"),
    (re.compile(r"\\(?:le|leqslant)(?![A-Za-z])"), r"\\leq"),
    (re.compile(r"\\(?:ge|geqslant)(?![A-Za-z])"), r"\\geq"),
    (re.compile(r"\\ne(?![A-Za-z])"), r"\\neq"),
    (re.compile(r"\\varnothing(?![A-Za-z])"), r"\\emptyset"),
    (re.compile(r"\\lbrace(?![A-Za-z])"), r"\\{"),
    (re.compile(r"\\rbrace(?![A-Za-z])"), r"\\}"),
    (re.compile(r"\\begin\{(?:array|smallmatrix|bmatrix|matrix)\}(?:\{[lcr| ]*\})?"), r"\\begin{pmatrix}"),
    (re.compile(r"\\end\{(?:array|smallmatrix|bmatrix|matrix)\}"), r"\\end{pmatrix}"),
    (re.compile(r"\(\s*\\begin\{pmatrix\}"), r"\\begin{pmatrix}"),
    (re.compile(r"\\end\{pmatrix\}\s*\)"), r"\\end{pmatrix}"),
)


@lru_cache(maxsize=4096)
def spell(text: str, *, lists: bool = False) -> str:
    """The answer in LaTeX, without what changes only its looks. ``1,234`` is a number, and with ``lists`` two. Bounded: a few passes over
    the text."""
    text = ascii_mathematics(text)
    text = re.sub(r"\s+", " ", text)
    text = _COLOUR.sub("", text)
    text = _SIZES.sub("", text)
    text = _unstyled(_INNER_DOLLAR.sub(" ", _bare(text)))
    for pattern, replacement in _SYNONYMS:
        text = pattern.sub(replacement, text)
    text = re.sub(r"(?<=\d),(?=\d{3}(?!\d))", ", ", text) if lists else _NUMBER_GROUPS.sub(_joined, text)
    text = _SPACES.sub(" ", text).replace("{,}", ",")
    text = _UNION.sub(r"\1 \\cup \2", text)
    if not _INEQUALITY.search(text):
        text = _AND.sub(", ", text)
    text = _FUNCTION_AS_TEXT.sub(r"\\\1 ", text)
    text = _MAGNITUDE.sub(lambda found: f"\\times 1{'0' * _MAGNITUDES[found[1]]}", text)
    text = re.sub(r",(?:\s*,)+", ",", text)
    text = _EXPONENT.sub(_written_out, text)
    text = _REPEATING.sub(_as_fraction, text)
    text = _MIXED.sub(r"\1(\2+\\frac{\3}{\4})", text)
    text = _INLINE_FRACTION.sub(r"\\frac{\1}{\2}", text)
    text = _ROOT.sub(lambda found: rf"\sqrt{found[1] or ''}{{{found[2] if found[2] is not None else found[3]}}}", text)
    text = re.sub(r"(?<![\d.])\.(?=\d)", "0.", text)
    text = re.sub(r"(?<=\d)\.(?=\s|$|[,)\]}])", "", text)
    for pattern, replacement in _ARGUMENTS:
        text = pattern.sub(replacement, text)
    text = text.lstrip("+ ")
    text = re.sub(r"(?<!\\)\{ +", "{", re.sub(r" +", " ", text))
    return _bare(re.sub(r" +(?=\})|(?<=\}) +(?=\{)", "", text))


def ascii_mathematics(text: str) -> str:
    """Characters beyond ASCII as LaTeX or as their NFKC forms; letters of other scripts stay."""
    out: list[str] = []
    script = ""
    for character in text:
        if character in _RAISED or character in _LOWERED:
            kind, plain = ("^", _RAISED[character]) if character in _RAISED else ("_", _LOWERED[character])
            out.append(plain if script == kind else f"{kind}{{{plain}" if not script else f"}}{kind}{{{plain}")
            script = kind
            continue
        if script:
            out.append("}")
            script = ""
        if ord(character) < 128:
            out.append(character)
        elif character in _CHARACTERS:
            out.append(_CHARACTERS[character])
        elif character in _GREEK:
            out.append(f"\\{_GREEK[character]} ")
        else:
            plain = unicodedata.normalize("NFKC", character)
            whole, slash, below = plain.partition("⁄")
            if slash and whole.isdigit() and below.isdigit():
                mixed = "+" if out and out[-1][-1:].isdigit() else ""
                out.append(f"{mixed}\\frac{{{whole}}}{{{below}}}")
            else:
                out.append("".join(_CHARACTERS.get(each, f"\\{_GREEK[each]} " if each in _GREEK else each) for each in plain))
    return "".join(out) + ("}" if script else "")


def _bare(text: str) -> str:
    """Without what stands around the whole."""
    while True:
        before = text
        text = re.sub(r"(?:\\[,;:! ]|(?<!\\)[.;,\s])+$", "", text.strip())
        for left, right in _WRAPPERS:
            inside = text[len(left) : -len(right)]
            if text.startswith(left) and text.endswith(right) and len(text) > len(left) + len(right) and left not in inside:
                text = inside
        if text.startswith("{") and text.endswith("}") and _closes_at(text, 0) == len(text) - 1:
            text = text[1:-1]
        if text == before:
            return text


def _closes_at(text: str, start: int) -> int:
    depth = 0
    for index in range(start, len(text)):
        depth += {"{": 1, "}": -1}.get(text[index], 0)
        if depth == 0:
            return index
    return -1


def _unstyled(text: str) -> str:
    """Type styles keep their contents; words become ``\\text{...}``."""
    while True:
        found = _STYLE.search(text)
        if found is None:
            break
        end = _closes_at(text, found.end())
        if end < 0:
            break
        inside = text[found.end() + 1 : end]
        is_word = re.search(r"[A-Za-z]{2,}", re.sub(r"\\[A-Za-z]+", "", inside)) is not None and "\\" not in inside
        before, after = text[: found.start()], text[end + 1 :]
        if is_word:
            inside = rf"\text{{{inside}}}"
        elif re.search(r"\\[A-Za-z]+$", before):
            inside = f" {inside}"
        text = before + inside + (" " if re.search(r"\\[A-Za-z]+$", inside) and after[:1].isalpha() else "") + after
    # A number, a letter or mathematics that is set as text is what it is.
    return re.sub(r"\\text\s*\{\s*([^A-Za-z{}]*|\s*[A-Za-z]\s*)\}", r" \1 ", text)


def has_groups(text: str) -> bool:
    """Whether it has digits in groups of three with plain commas, which may be a list."""
    return re.search(r"\d,\d{3}(?!\d)", text) is not None


def _joined(found: re.Match[str]) -> str:
    first, rest = found[1], found[2]
    if re.search(r", ", rest) and "!" not in rest:
        return found.group()  # a list, written with spaces
    if re.fullmatch(r"(?:,\d{3})+", rest) and (first.startswith("0") or _in_brackets(found.string, found.start())):
        return found.group()
    if re.fullmatch(r"(?: \d{3})+", rest) and len(rest) == 4:
        return found.group()  # "1 234" alone may be two numbers
    return first + re.sub(r"\D", "", rest)


def _in_brackets(text: str, end: int) -> bool:
    """Whether a point, an interval or a set is open there."""
    before = text[:end].replace(r"\{", "[").replace(r"\}", "]")
    return before.count("[") + before.count("(") > before.count("]") + before.count(")")  # [0, 1) closes, too


def _written_out(found: re.Match[str]) -> str:
    """``1e-05`` as Python prints it."""
    digits, exponent = found[1], int(found[2])
    whole, _, part = digits.partition(".")
    if exponent >= 0:
        part = part.ljust(exponent, "0")
        return (whole + part[:exponent]).lstrip("0").rjust(1, "0") + (f".{part[exponent:]}" if part[exponent:] else "")
    whole = whole.rjust(1 - exponent, "0")
    return f"{whole[:exponent]}.{whole[exponent:]}{part}"


def _as_fraction(found: re.Match[str]) -> str:
    whole, fixed, repeated = found.groups()
    value = Fraction(int(whole + fixed + repeated) - int(whole + fixed), (10 ** len(repeated) - 1) * 10 ** len(fixed))
    return rf"\frac{{{value.numerator}}}{{{value.denominator}}}"

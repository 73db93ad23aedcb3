"""Whether two answers are equal, by their spelling or by mathematics (math-verify); what is not read whole is never a judgement."""

from __future__ import annotations

import re
from fractions import Fraction
from functools import lru_cache
from typing import Any

from genprm.grading.spelling import has_groups, spell
from genprm.records import Outcome

_DECIMAL = re.compile(r"[+-]?\d{1,400}(?:\.\d{1,400})?", re.ASCII)
_BASED = re.compile(r"\(?([0-9A-Za-z]+)\)?_\{?\(?(\d{1,2})\)?\}?", re.ASCII)
"""Digits with their base, of which math-verify reads the digits only."""
_TIME = re.compile(r"(\d{1,2}) ?: ?(\d{2})(?: ?: ?(\d{2}))?\s*([ap]\.?m\.?)?", re.ASCII | re.IGNORECASE)
_CHOICE = re.compile(r"\(?([A-J])\)?")
_CHOSEN = re.compile(r"\(([A-J])\)(?:[ .:]|$)(?!.*\([A-J]\))|([A-J])[).:](?: |$)")
_TEXT = re.compile(r"\\text\s*\{([^{}]*)\}")
_NAMED = re.compile(r"\\(?:begin|end|mathbb|mathcal)\s*\{[^{}]*\}")
_COMMAND = re.compile(r"\\[A-Za-z]+")
_WORD = re.compile(r"[A-Za-z]*[a-z]{4,}[A-Za-z]*|(?<![A-Za-z])(?:odd|yes|all|one|two|six|ten|red|any)(?![A-Za-z])")
_OPERATOR = re.compile(r"[-+=<>^_*/|]|\\(?!text(?![A-Za-z]))[A-Za-z]+")
_FUNCTIONS = re.compile(
    "sin|cos|tan|cot|sec|csc|arcsin|arccos|arctan|sinh|cosh|tanh|log|exp|max|min|gcd|lcm|mod|det|lim|sup|inf|sqrt|frac", re.IGNORECASE
)
_TOKEN = re.compile(r"\\[A-Za-z]+|\d+(?:\.\d+)?|[A-Za-z]+|\S")
_NUMBER = re.compile(r"\d+(?:\.\d+)?")

_CURRENCY = re.compile(r"^(?:\\\$|\$|£|€|¥|₹)\s*|\s*(?:\\\$|\$|£|€|¥|₹)$")
_PERCENT = re.compile(r"\s*(?:\\?%|\\text\s*\{\s*(?:percent|per cent|%)\s*\}|percent|per cent)$", re.IGNORECASE)
_DEGREE = re.compile(r"\s*\^\s*\{?\s*\\(?:circ|degree)\s*\}?$|\s*\\degree$")
_POWER = r"(?:\s*\^\s*\{?\d\}?)?"
_UNIT = re.compile(rf"\s*\\text\s*\{{[^{{}}\d]*\}}{_POWER}$")
_BARE_UNIT = re.compile(rf"(?<=[\d}})])\s+[A-Za-z]{{1,15}}\.?{_POWER}(?:\s*[/ ]\s*[A-Za-z]{{1,15}}\.?{_POWER}){{0,3}}$")
_UNITS = {
    name: names.split()[0]
    for names in (
        "mm millimeter millimeters", "cm centimeter centimeters", "m meter meters", "km kilometer kilometers", "in inch inches",
        "ft foot feet", "yd yard yards", "mi mile miles", "s sec second seconds", "min minute minutes", "h hr hrs hour hours",
        "day days", "week weeks", "month months", "year years", "g gram grams", "kg kilogram kilograms", "lb lbs pound pounds",
        "am", "pm", "cent cents", "dollar dollars", "degree degrees", "radian radians",
    )
    for name in names.split()
}  # fmt: skip
"""Units that differ if their first names do."""
_ROUNDED, _EXACT = 2e-6, 1e-12
"""Relative differences that count as none: where a decimal stands for another form, and otherwise."""


def plain_equality(answer: str, reference: str) -> bool | None:
    """True or False where text alone decides (same spelling; numbers; digits in given bases; times; choices; words), None where mathematics
    must."""
    left, right = spell(answer), spell(reference)
    if _plain(left) == _plain(right):
        return True
    if _DECIMAL.fullmatch(left) and _DECIMAL.fullmatch(right):
        return Fraction(left) == Fraction(right)
    based = _BASED.fullmatch(left), _BASED.fullmatch(right)
    if based[0] and based[1]:
        return [part.lower() for part in based[0].groups()] == [part.lower() for part in based[1].groups()]
    times = _time(left), _time(right)
    if times[0] and times[1]:
        return times[0][:3] == times[1][:3] and (times[0][3] == times[1][3] or not (times[0][3] and times[1][3]))
    for one, other in ((left, right), (right, left)):
        choice = _CHOICE.fullmatch(_TEXT.sub(r"\1", one).strip())
        chosen = _CHOSEN.match(_TEXT.sub(r"\1", other).strip())
        if choice and chosen:
            return choice[1] == (chosen[1] or chosen[2])
    if all(_is_prose(text) and not re.search(r"\d", text) and not _OPERATOR.search(text) for text in (left, right)):
        return False
    return None


def _time(text: str) -> tuple[int, int, int, str] | None:
    """Hour, minutes, seconds, and ``am`` or ``pm`` or nothing."""
    found = _TIME.fullmatch(_TEXT.sub(r" \1 ", text).strip())
    return (int(found[1]), int(found[2]), int(found[3] or 0), (found[4] or "").replace(".", "").lower()) if found else None


def compare(answer: str, reference: str) -> Outcome:
    """Whether two answers are mathematically equal; may take arbitrarily long.

    UNPARSABLE where one of them is not read whole, unless both have the same form and differ in a number or a sign.
    """
    decided = plain_equality(answer, reference)
    outcome = _compare(spell(answer), spell(reference)) if decided is None else Outcome.CORRECT if decided else Outcome.INCORRECT
    if outcome is Outcome.CORRECT or not (has_groups(answer) or has_groups(reference)):
        return outcome
    as_lists = _compare(spell(answer, lists=True), spell(reference, lists=True))  # of numbers of three digits
    return as_lists if as_lists is Outcome.CORRECT else outcome


def _compare(left: str, right: str) -> Outcome:
    measures = _measures(left, right)
    if measures is None:
        return Outcome.INCORRECT
    (bare_left, left_percent), (bare_right, right_percent) = measures
    outcome = _outcome(bare_left, bare_right)
    if left_percent != right_percent and outcome is not Outcome.CORRECT:
        hundredth = rf"\frac{{{bare_left if left_percent else bare_right}}}{{100}}"
        if _outcome(hundredth, bare_right if left_percent else bare_left) is Outcome.CORRECT:
            return Outcome.CORRECT
    if outcome is Outcome.UNPARSABLE and _differ_in_numbers(bare_left, bare_right):
        return Outcome.INCORRECT
    return outcome


def _plain(text: str) -> str:
    """For a comparison as text: words without ``\\text`` and case, no spaces but between letters and digits."""
    bare = re.sub(r" +(?![0-9A-Za-z])|(?<![0-9A-Za-z]) +", "", _TEXT.sub(r"\1", text))
    return bare.casefold() if _has_words(text) else bare


def _has_words(text: str) -> bool:
    return any(re.search("[A-Za-z]{2,}", part) for part in _TEXT.findall(text)) or _is_prose(text)


def _is_prose(text: str) -> bool:
    """Whether there are words in it that are no names of functions."""
    words = _WORD.findall(_COMMAND.sub(" ", _NAMED.sub(" ", _TEXT.sub(r" \1 ", text))))
    return not all(_FUNCTIONS.fullmatch(word) for word in words)


def _differ_in_numbers(left: str, right: str) -> bool:
    """Whether two texts that no parser reads are the same but for numbers and signs, and these make a difference."""
    sides = [_TOKEN.findall(_TEXT.sub(r" \1 ", text).casefold()) for text in (left, right)]
    if len(sides[0]) != len(sides[1]):
        return False
    pairs = [(one, other) for one, other in zip(*sides, strict=True) if one != other]
    signs = [pair for pair in pairs if set(pair) == {"+", "-"}]
    numbers = [(Fraction(one), Fraction(other)) for one, other in pairs if _NUMBER.fullmatch(one) and _NUMBER.fullmatch(other)]
    numbers = [(one, other) for one, other in numbers if one != other]
    if not pairs or len(signs) + len(numbers) != len(pairs):
        return False
    if sorted(one for one, _ in numbers) == sorted(other for _, other in numbers) and not signs:
        return False  # in another order
    if any("mod" in token for token in sides[0]):
        moduli = [Fraction([token for token in side if _NUMBER.fullmatch(token)][-1]) for side in sides]
        return moduli[0] != moduli[1] or any((one - other) % moduli[0] for one, other in numbers)
    return not (len(numbers) > 1 and r"\frac" in left)


def _measures(left: str, right: str) -> tuple[tuple[str, bool], tuple[str, bool]] | None:
    """Both without currency, degree, percent and unit, and whether they were percent; None if they are in different units. Words without
    ``\\text`` count as a unit only where the other side has none, or the same."""
    found, units = [], []
    for text, other in ((left, right), (right, left)):
        unit = ""
        bare_unit = _BARE_UNIT.search(text)
        if bare_unit and not _PERCENT.search(text):
            words = bare_unit.group().strip().casefold()
            if not re.search("[A-Za-z]", _COMMAND.sub("", _TEXT.sub("", other))) or other.casefold().endswith(words):
                text, unit = text[: bare_unit.start()], words
        before = None
        percent = False
        while before != text:
            before = text
            text = _CURRENCY.sub("", _DEGREE.sub("", text)).strip()
            if _PERCENT.search(text):
                text, percent = _PERCENT.sub("", text), True
            last = _UNIT.search(text)
            if last and text[: last.start()].strip() and not _TEXT.search(text[: last.start()]):
                text, unit = text[: last.start()], _TEXT.sub(r"\1", last.group()).strip().casefold()
        found.append((spell(text), percent))
        units.append(_UNITS.get(unit.replace(".", "").replace(" ", ""), ""))
    return None if units[0] and units[1] and units[0] != units[1] else (found[0], found[1])


def _outcome(left: str, right: str) -> Outcome:
    if _DECIMAL.fullmatch(left) and _DECIMAL.fullmatch(right):
        return Outcome.CORRECT if Fraction(left) == Fraction(right) else Outcome.INCORRECT
    if _plain(left) == _plain(right):
        return Outcome.CORRECT
    values = _read(left), _read(right)
    if values[0] is None or values[1] is None:
        return Outcome.UNPARSABLE
    return Outcome.CORRECT if _equal(values[0], values[1], rounded="." in left + right) else Outcome.INCORRECT


@lru_cache(maxsize=1024)
def _read(text: str) -> Any:
    """What math-verify reads; None unless it read all of it, by its own record."""
    import sympy
    from math_verify import LatexExtractionConfig, parse

    if _DECIMAL.fullmatch(text):
        return sympy.Rational(text)
    if _is_prose(text) or "mod" in text:
        return None
    parsed = parse(f"${text}$", extraction_config=[LatexExtractionConfig()], parsing_timeout=None)
    if len(parsed) < 2 or isinstance(parsed[0], str):
        return None
    if isinstance(parsed[0], sympy.Basic) and parsed[0].doit().has(sympy.zoo, sympy.nan):
        return None  # a division by zero
    return parsed[0] if _substance(str(parsed[-1])) == _substance(text) else None


def _substance(text: str) -> str:
    """Digits, letters and primes, without the names of commands."""
    return re.sub(r"[^0-9A-Za-z']", "", _COMMAND.sub("", text))


def _equal(left: Any, right: Any, *, rounded: bool) -> bool:
    import sympy
    from math_verify import verify

    def same(one: Any, other: Any) -> bool:
        return _equal(one, other, rounded=rounded)

    if isinstance(left, sympy.Eq) and isinstance(right, sympy.Eq):
        decided = _equal_equations(left, right, rounded)
        if decided is not None:
            return decided
    elif isinstance(left, sympy.MatrixBase) and isinstance(right, sympy.MatrixBase):
        return left.shape == right.shape and all(same(one, other) for one, other in zip(left, right, strict=True))
    elif isinstance(left, sympy.FiniteSet) and isinstance(right, sympy.FiniteSet):
        return _matches(list(left.args), list(right.args), rounded)
    elif isinstance(left, sympy.Tuple) and isinstance(right, sympy.Tuple):
        return len(left) == len(right) and all(same(one, other) for one, other in zip(left, right, strict=True))
    elif isinstance(left, sympy.Interval) and isinstance(right, sympy.Interval):
        return (
            (left.left_open, left.right_open) == (right.left_open, right.right_open)
            and same(left.start, right.start)
            and same(left.end, right.end)
        )
    elif isinstance(left, sympy.Expr) and isinstance(right, sympy.Expr) and left.is_number and right.is_number:
        return _equal_numbers(left, right, rounded)
    return bool(verify(right, left, timeout_seconds=None))


def _matches(left: list[Any], right: list[Any], rounded: bool) -> bool:
    """Whether two sets have the same elements."""
    if len(left) != len(right):
        return False
    left_over = list(right)
    for one in left:
        found = next((other for other in left_over if _equal(one, other, rounded=rounded)), None)
        if found is None:
            return False
        left_over.remove(found)
    return True


def _equal_numbers(left: Any, right: Any, rounded: bool) -> bool:
    left, right = left.doit(), right.doit()
    if left.is_Rational and right.is_Rational and (left == right or not rounded or left.is_Integer or right.is_Integer):
        return bool(left == right)
    values = left.evalf(30), right.evalf(30)
    if not all(value.is_finite for value in values):
        return bool(left == right)
    scale = max(abs(values[0]), abs(values[1]))
    both_decimal = left.is_Float and right.is_Float
    return bool(abs(values[0] - values[1]) <= scale * (_ROUNDED if rounded and not both_decimal else _EXACT))


def _equal_equations(left: Any, right: Any, rounded: bool) -> bool | None:
    """By their form, so that equations without real solutions differ, too; None where only the solutions can tell."""
    import sympy

    if all(isinstance(side, sympy.Expr) for side in (left.lhs, left.rhs, right.lhs, right.rhs)):
        sides = left.lhs - left.rhs, right.lhs - right.rhs
        if not left.free_symbols or not right.free_symbols:
            return _equal(left.lhs, right.lhs, rounded=rounded) and _equal(left.rhs, right.rhs, rounded=rounded)
        ratio = sympy.simplify(sides[0] / sides[1]) if sides[1] != 0 else sympy.nan
        if ratio.is_number and ratio.is_finite and ratio != 0:
            return True
        if left.free_symbols == right.free_symbols and len(left.free_symbols) == 1:
            (symbol,) = left.free_symbols
            if all(side.is_polynomial(symbol) for side in sides):
                parts = [sympy.Poly(side, symbol).sqf_part() for side in sides]
                if all(part.degree() > 0 for part in parts):
                    return bool(parts[0].monic() == parts[1].monic())
    elif left.lhs == right.lhs:
        return _equal(left.rhs, right.rhs, rounded=rounded)
    return None

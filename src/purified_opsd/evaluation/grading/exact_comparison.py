"""Whether two mathematical expressions are equal, exactly.

Two numbers are equal where their difference is zero, not where it is small: 1/2^99 is not 1/2^98.
Only a decimal may stand for what it is not quite: 0.333333 for 1/3.
"""

from collections.abc import Iterator
from typing import Any

from sympy import Expr, Float, MatrixBase, Mul, Rational, UnevaluatedExpr, expand, simplify
from sympy.core.evalf import PrecisionExhausted

FEW_DIGITS = 100
"""Most numbers that differ do so within these."""
MANY_DIGITS = 10_000
"""Numbers of which nothing else is known are equal where these agree."""
POINTS = (Rational(17, 10), Rational(-23, 7), Rational(31, 100))
"""What unknowns stand for, where two expressions are compared by their values."""

_PERCENT = UnevaluatedExpr(Rational(1, 100))


def numbers_equal(gold: Any, answer: Any, float_rounding: int, numeric_precision: int) -> bool:
    """Are two expressions, or two matrices, equal?  It stands in for math-verify's
    `sympy_numeric_eq`, and needs neither of its precisions.
    """
    if isinstance(gold, MatrixBase) and isinstance(answer, MatrixBase):
        return gold.shape == answer.shape and all(
            _equal(one, other) for one, other in zip(gold.flat(), answer.flat(), strict=True)
        )
    return _equal(gold, answer)


def _equal(gold: Any, answer: Any) -> bool:
    if not isinstance(gold, Expr) or not isinstance(answer, Expr):
        return bool(gold == answer)
    count, other_count = _without_percent(gold), _without_percent(answer)
    if count.is_Integer and other_count.is_Integer:
        return bool(count == other_count)
    is_decimal, other_is_decimal = gold.has(Float), answer.has(Float)
    gold, answer = _exact(gold), _exact(answer)
    if gold == answer:
        return True
    if gold.is_finite is False or answer.is_finite is False:
        return False
    if is_decimal and not other_is_decimal and _approximates(gold, answer):
        return True
    if other_is_decimal and not is_decimal and _approximates(answer, gold):
        return True
    return _vanishes(gold - answer)


def _without_percent(expression: Expr) -> Expr:
    """The 75 of 75 %, which math-verify takes for 75 as well."""
    if isinstance(expression, Mul) and expression.args[1:] == (_PERCENT,):
        return expression.args[0]
    return expression


def _exact(expression: Expr) -> Expr:
    """The expression with all that it holds carried out, and decimals as the fractions that they
    are.
    """
    decimals = {number: Rational(str(number)) for number in expression.atoms(Float)}
    return expression.xreplace(decimals).doit()


def _approximates(decimal: Expr, value: Expr) -> bool:
    """Is the decimal the value to six places and, for small ones, four digits?  What six places can
    say has no approximations.
    """
    if not (decimal.is_Rational and value.is_number and value.is_real):
        return False
    if value.is_Rational and (value * 10**6).is_Integer:
        return False
    error = abs((decimal - value).evalf(30, maxn=FEW_DIGITS))
    return bool(error <= Rational(1, 2 * 10**6) and error <= abs(value.evalf(30)) / 10**4)


def _vanishes(difference: Expr) -> bool:
    if difference.free_symbols:
        return _vanishes_everywhere(difference)
    if difference.is_Rational:
        return bool(difference == 0)
    if not _agrees_to(FEW_DIGITS, difference):
        return False
    expanded = expand(difference)
    if expanded.is_Rational:
        return bool(expanded == 0)
    return _agrees_to(MANY_DIGITS, expanded)


def _agrees_to(digits: int, difference: Expr) -> bool:
    """Is a difference of numbers nothing, as far as so many digits of them can tell?"""
    try:
        value = difference.evalf(5, maxn=digits, strict=True)
    except PrecisionExhausted:
        return True
    return bool(value == 0) if value.is_comparable else simplify(difference) == 0


def _vanishes_everywhere(difference: Expr) -> bool:
    """Is a function of unknowns zero?  Where it is at every point that was tried, it is taken to
    be: an expression of this kind has no such zeros by chance.
    """
    values = list(_values(difference))
    if not values:
        return simplify(difference) == 0
    return all(_agrees_to(FEW_DIGITS, value) for value in values)


def _values(difference: Expr) -> Iterator[Expr]:
    """The values of a function at points where it has one."""
    unknowns = sorted(difference.free_symbols, key=str)
    for point in POINTS:
        at = [(unknown, point + Rational(n, 13)) for n, unknown in enumerate(unknowns)]
        value = difference.subs(at)
        if value.is_number and value.is_finite is not False:
            yield value

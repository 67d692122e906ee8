"""The filters of the Retail Prices API.

learn.microsoft.com/rest/api/cost-management/retail-prices/azure-retail-prices names the fields and the operators. `contains` and `startswith`
may be compared with true or false. `not(...)` is refused (dstackai/gpuhunt, providers/azure.py).
"""

import re
from collections.abc import Callable, Mapping
from typing import Any, Final

Test = Callable[[Mapping[str, Any]], bool]

_TOKEN: Final = re.compile(r"\s*(?:(?P<mark>[(),])|(?P<text>'(?:[^']|'')*')|(?P<word>[A-Za-z]\w*))")
_FUNCTIONS: Final[Mapping[str, Callable[[str, str], bool]]] = {
    "contains": lambda found, value: value in found,
    "startswith": lambda found, value: found.startswith(value),
}
# The filter says priceType, the row says type.
_FIELDS: Final = {
    name.lower(): name
    for name in (
        "armRegionName", "location", "meterId", "meterName", "productName", "productId", "skuId", "skuName", "serviceName",
        "serviceId", "serviceFamily", "armSkuName",
    )
} | {"pricetype": "type"}  # fmt: skip


def parse(text: str, *, has_case: bool) -> Test:
    """Return the test of a filter.

    Args:
        text: The filter; "" for all rows.
        has_case: Whether its values have a case, as they do from version 2023-01-01-preview on.

    Raises:
        ValueError: The API does not understand it.
    """
    if not text.strip():
        return lambda row: True
    parser = _Parser(text, has_case=has_case)
    found = parser.any_of()
    parser.expect_end()
    return found


class _Parser:
    def __init__(self, text: str, *, has_case: bool) -> None:
        self._tokens: list[str] = []
        self._fold: Callable[[str], str] = str if has_case else str.lower
        position = 0
        while text[position:].strip():
            found = _TOKEN.match(text, position)
            if found is None:
                raise ValueError(text[position:])
            self._tokens.append(found[0].strip())
            position = found.end()

    def any_of(self) -> Test:
        tests = [self._all_of()]
        while self._accept("or"):
            tests.append(self._all_of())
        return lambda row: any(test(row) for test in tests)

    def expect_end(self) -> None:
        if self._tokens:
            raise ValueError(self._tokens[0])

    def _all_of(self) -> Test:
        tests = [self._one()]
        while self._accept("and"):
            tests.append(self._one())
        return lambda row: all(test(row) for test in tests)

    def _one(self) -> Test:
        if self._accept("("):
            found = self.any_of()
            self._expect(")")
            return found
        name = self._next().lower()
        return self._function(name) if name in _FUNCTIONS else self._comparison(name)

    def _function(self, name: str) -> Test:
        self._expect("(")
        field = self._field(self._next())
        self._expect(",")
        value, test, fold = self._value(), _FUNCTIONS[name], self._fold
        self._expect(")")
        wanted = True
        if self._accept("eq"):
            wanted = self._next().lower() == "true"
        return lambda row: test(fold(str(row[field])), value) is wanted

    def _comparison(self, name: str) -> Test:
        field, operator = self._field(name), self._next().lower()
        if operator not in ("eq", "ne"):
            raise ValueError(operator)
        value, fold = self._value(), self._fold
        return lambda row: (fold(str(row[field])) == value) is (operator == "eq")

    def _field(self, name: str) -> str:
        if name.lower() not in _FIELDS:
            raise ValueError(name)
        return _FIELDS[name.lower()]

    def _value(self) -> str:
        token = self._next()
        if not token.startswith("'"):
            raise ValueError(token)
        return self._fold(token[1:-1].replace("''", "'"))

    def _next(self) -> str:
        if not self._tokens:
            raise ValueError("the filter ends too early")
        return self._tokens.pop(0)

    def _accept(self, token: str) -> bool:
        if self._tokens and self._tokens[0].lower() == token:
            del self._tokens[0]
            return True
        return False

    def _expect(self, token: str) -> None:
        if not self._accept(token):
            raise ValueError(token)

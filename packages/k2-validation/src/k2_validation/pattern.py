"""Patterns: the part of regular expressions that Python, Rust, RE2 and Java read alike."""

from __future__ import annotations

import re

from .errors import RuleDefinitionError

_CLASS_CHARACTER = r"(?:[A-Za-z0-9 _/:;.,+*?!@#%=<>(){}'\"|$~&]|\\[\\\]\[^.\-+*?(){}|$/])"
_CLASS = rf"\[\^?(?:{_CLASS_CHARACTER}(?:-{_CLASS_CHARACTER})?)+-?\]"
_LITERAL = r"[A-Za-z0-9 _/:;,@#%=<>!~&'\"\-]|\\[\\.+*?()\[\]{}|^$/\-]"
_QUANTIFIER = r"(?:[*+?]|\{\d{1,3}(?:,\d{0,3})?\})"

_TOKEN = re.compile(
    rf"(?P<atom>{_CLASS}|{_LITERAL})|(?P<open>\((?:\?:)?)|(?P<close>\))"
    rf"|(?P<either>\|)|(?P<times>{_QUANTIFIER})",
    re.ASCII,
)

_DOUBLED = re.compile(r"&&|--|~~|\|\|")
"""Inside a class these are set operations in Java or Rust."""


def check_pattern(rule: str, pattern: str) -> re.Pattern[str]:
    r"""Return the pattern compiled for Python, or raise `RuleDefinitionError`.

    Allowed are ASCII literals, classes like `[A-Z0-9_]` and `[^/]`, groups, `|`, and the
    quantifiers `* + ? {n} {n,m}`. Refused is what engines read differently: `.`, `\d`, `\w`, `\s`,
    `\b`, `^`, `$`, look-around, back-references, lazy and possessive quantifiers, set operations
    in classes.
    """
    place, previous = 0, "open"
    while place < len(pattern):
        token = _TOKEN.match(pattern, place)
        if token is None:
            raise _refuse(rule, pattern, f"{pattern[place : place + 2]!r} at {place}")
        kind = str(token.lastgroup)
        if kind == "times" and previous in ("times", "open", "either"):
            raise _refuse(rule, pattern, f"the quantifier {token[0]!r} at {place}")
        if token[0].startswith("[") and _DOUBLED.search(token[0]):
            raise _refuse(rule, pattern, f"a set operation in {token[0]!r}")
        place, previous = token.end(), kind
    try:
        return re.compile(pattern, re.ASCII)
    except re.error as error:
        raise _refuse(rule, pattern, str(error)) from None


def anchor(pattern: str) -> str:
    """Return the pattern for an engine's `contains`: it must match the text from end to end."""
    # Not ^ and $: in Java and Python $ is also true before a last newline.
    return rf"\A(?:{pattern})\z"


def _refuse(rule: str, pattern: str, what: str) -> RuleDefinitionError:
    return RuleDefinitionError(
        rule,
        f"pattern {pattern!r} holds {what}, which engines do not all read alike",
        "use literals, classes such as [A-Z0-9], groups, | and the quantifiers * + ? {n,m}",
    )

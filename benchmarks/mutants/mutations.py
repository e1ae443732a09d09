"""One-token changes of a Python source: what a slip of the pen could have written instead."""

import ast
import io
import tokenize
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

OPERATORS = {
    "<": "<=", "<=": "<", ">": ">=", ">=": ">", "==": "!=", "!=": "==", "is": "is not", "is not": "is", "in": "not in",
    "not in": "in", "and": "or", "or": "and", "+": "-", "-": "+", "*": "/", "/": "*", "//": "*", "%": "*", "**": "*",
    "|": "&", "&": "|", "^": "|", "<<": ">>", ">>": "<<", "@": "*",
}  # fmt: skip

COUNTERPARTS = {
    "min": "max", "max": "min", "any": "all", "all": "any", "argmax": "argmin", "argmin": "argmax", "median": "max",
    "mean": "max", "sorted": "list", "floor": "ceil", "ceil": "floor", "startswith": "endswith",
}  # fmt: skip
"""Functions and methods that take the same arguments and answer something else."""

_DECLARATIONS = ("cache", "dataclass", "lru_cache", "overload", "property")
"""Decorators whose arguments are no decisions."""

_TRUTHS = ast.Name | ast.Attribute | ast.Call | ast.Subscript | ast.NamedExpr
"""Expressions that are true or not by themselves."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mutant:
    """A source in which one token is another."""

    line: int
    scope: str
    """Name of the function, after that of its class; empty at the top of the file."""
    before: str
    """The line that was changed, without its indentation."""
    after: str
    source: str
    """The whole file, changed."""


def mutants(source: str) -> list[Mutant]:
    """All one-token changes of a source, in the order of its lines.

    Left alone: docstrings, annotations, imports, f-strings (their places are not told by Python 3.11) and what only a
    type checker reads.
    """
    text = _Text(source)
    found: list[Mutant] = []
    for scope, node in _nodes(ast.parse(source), ""):
        for start, end, new in _changes(node, text):
            changed = source[:start] + new + source[end:]
            line = source.count("\n", 0, start)
            before, after = source.splitlines()[line].strip(), changed.splitlines()[line].strip()
            found.append(Mutant(line=line + 1, scope=scope, before=before, after=after, source=changed))
    return sorted(found, key=lambda mutant: (mutant.line, mutant.after))


class _Text:
    """A source by the offsets of its nodes and tokens."""

    def __init__(self, source: str) -> None:
        self.source = source
        self._lines = [0]
        for line in source.splitlines(keepends=True):
            self._lines.append(self._lines[-1] + len(line))
        self._bytes = [line.encode() for line in source.splitlines(keepends=True)]
        self._tokens = [
            (self._lines[t.start[0] - 1] + t.start[1], t.string)
            for t in tokenize.generate_tokens(io.StringIO(source).readline)
            if t.type in (tokenize.OP, tokenize.NAME)
        ]

    def start(self, node: ast.expr | ast.stmt) -> int:
        return self._offset(node.lineno, node.col_offset)

    def end(self, node: ast.expr | ast.stmt) -> int:
        assert node.end_lineno is not None and node.end_col_offset is not None
        return self._offset(node.end_lineno, node.end_col_offset)

    def operator(self, left: ast.expr, right: ast.expr) -> tuple[int, int, str]:
        """The operator between two operands: its place, and its words."""
        between = [
            (start, string)
            for start, string in self._tokens
            if self.end(left) <= start < self.start(right) and string not in "()"
        ]
        first, last = between[0], between[-1]
        return first[0], last[0] + len(last[1]), " ".join(string for _, string in between)

    def _offset(self, line: int, column: int) -> int:
        """Columns of ast count the bytes of UTF-8."""
        return self._lines[line - 1] + len(self._bytes[line - 1][:column].decode())


def _nodes(node: ast.AST, scope: str) -> Iterator[tuple[str, ast.AST]]:
    """Every node that decides something, with the function that it stands in."""
    if isinstance(node, ast.JoinedStr | ast.Import | ast.ImportFrom):
        return
    if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
        return
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
        return  # a docstring
    yield scope, node
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
        scope = f"{scope}.{node.name}".lstrip(".")
    for name, value in ast.iter_fields(node):
        if name in {"annotation", "returns", "type_params"}:
            continue
        for child in value if isinstance(value, list) else [value]:
            if name == "decorator_list" and _declares(child):
                continue
            if isinstance(child, ast.AST):
                yield from _nodes(child, scope)


def _declares(decorator: ast.expr) -> bool:
    called = decorator.func if isinstance(decorator, ast.Call) else decorator
    return isinstance(called, ast.Name) and called.id in _DECLARATIONS


def _changes(node: ast.AST, text: _Text) -> Iterator[tuple[int, int, str]]:
    """What may stand instead of a node's token: its place, and the other token."""
    match node:
        case ast.Constant(value=value):
            yield from _other_constant(text, node, value)
        case ast.Name(id=name) | ast.Attribute(attr=name) if name in COUNTERPARTS:
            yield text.end(node) - len(name), text.end(node), COUNTERPARTS[name]
        case ast.Continue():
            yield text.start(node), text.end(node), "break"
        case ast.UnaryOp(op=ast.Not() | ast.USub()):
            start = text.start(node)
            yield start, start + (3 if isinstance(node.op, ast.Not) else 1), ""
        case ast.AugAssign(target=target, value=value):
            start, end, words = text.operator(target, value)
            yield start, end, f"{OPERATORS[words.removesuffix('=')]}="
    for left, right in _operands(node):
        start, end, words = text.operator(left, right)
        yield start, end, OPERATORS[words]
    for test in _conditions(node):
        start, end = text.start(test), text.end(test)
        yield start, end, f"not ({text.source[start:end]})"


def _operands(node: ast.AST) -> Iterator[tuple[ast.expr, ast.expr]]:
    """Pairs of expressions with an operator between them."""
    match node:
        case ast.BinOp(left=left, right=right):
            yield left, right
        case ast.Compare(left=left, comparators=comparators):
            yield from pairwise([left, *comparators])
        case ast.BoolOp(values=values):
            yield from pairwise(values)


def _conditions(node: ast.AST) -> Iterator[ast.expr]:
    """Conditions that are no comparison, which has an operator of its own."""
    match node:
        case ast.If(test=test) | ast.IfExp(test=test) | ast.While(test=test) | ast.Assert(test=test):
            tests = [test]
        case ast.comprehension(ifs=ifs):
            tests = ifs
        case _:
            return
    yield from (test for test in tests if isinstance(test, _TRUTHS))


def _other_constant(text: _Text, node: ast.Constant, value: object) -> Iterator[tuple[int, int, str]]:
    start, end = text.start(node), text.end(node)
    if isinstance(value, bool):
        yield start, end, str(not value)
    elif isinstance(value, int):
        yield start, end, str(value + 1)
    elif isinstance(value, float):
        yield start, end, repr(2 * value or 1.0)
    elif isinstance(value, str | bytes) and value:
        quote = next(at for at in range(start, end) if text.source[at] in "'\"")
        quote += 3 if text.source[quote : quote + 3] in {'"""', "'''"} else 1
        yield quote, quote, "XX"

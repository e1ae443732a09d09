"""What functions and classes of a Python file know: strings that they compare with, and those of their decorators."""

import ast
from collections.abc import Iterator

from benchmarks.engines.releases.source import Lines, Source
from benchmarks.engines.releases.tables import texts


def compared(source: Source, operand: str, *functions: str) -> Lines:
    """The strings with which functions compare an expression, by ==, `in` or a match statement.

    Args:
        source: the file.
        operand: as ast.unparse writes it: `quant_method`, `config.architectures[0]`.
        functions: names of the functions, those of all layouts.

    Raises:
        UnknownLayout: there is no such function, or none that compares that expression.
    """
    named = [n for n in ast.walk(source.tree) if isinstance(n, ast.FunctionDef) and n.name in functions]
    lines: Lines = {}
    for node in (inner for outer in named for inner in ast.walk(outer)):
        match node:
            case ast.Compare(left=left, ops=[ast.Eq()], comparators=[ast.Constant(value=str(text))]):
                if ast.unparse(left) == operand:
                    lines.setdefault(text, node.lineno)
            case ast.Compare(
                left=left,
                ops=[ast.In()],
                comparators=[ast.List(elts=elements) | ast.Tuple(elts=elements) | ast.Set(elts=elements)],
            ):
                if ast.unparse(left) == operand:
                    for text in texts(source, elements):
                        lines.setdefault(text, node.lineno)
            case ast.Match(subject=subject, cases=cases):
                if ast.unparse(subject) == operand:
                    for case in cases:
                        for text in _pattern_texts(case.pattern):
                            lines.setdefault(text, case.pattern.lineno)
    if not lines:
        raise source.lacks(f"a function {' or '.join(functions)} that compares {operand} with strings")
    return lines


def registered(source: Source, *decorators: str) -> Iterator[tuple[ast.ClassDef, Lines]]:
    """Classes under decorators of these names, with the strings that each decorator is called with, lists included.

    Raises:
        UnknownLayout: a decorator is called with something that is no string.
    """
    for of in (node for node in ast.walk(source.tree) if isinstance(node, ast.ClassDef)):
        for decorator in of.decorator_list:
            if isinstance(decorator, ast.Call) and ast.unparse(decorator.func) in decorators:
                yield of, dict.fromkeys(texts(source, decorator.args), decorator.lineno)


def ancestors(source: Source, of: ast.ClassDef) -> list[str]:
    """Names of the classes from which a class inherits, nearest first, as far as this file tells."""
    names: list[str] = []
    waiting = [of]
    while waiting:
        for base in waiting.pop(0).bases:
            name = ast.unparse(base)
            if name not in names:
                names.append(name)
                if name in source.classes:
                    waiting.append(source.classes[name])
    return names


def returned_by(of: ast.ClassDef, method: str) -> str | None:
    """The string that a method or property of a class returns; None where the class has none of that name."""
    for node in of.body:
        if isinstance(node, ast.FunctionDef) and node.name == method:
            for statement in node.body:
                match statement:
                    case ast.Return(value=ast.Constant(value=str(text))):
                        return text
    return None


def _pattern_texts(pattern: ast.pattern) -> Iterator[str]:
    match pattern:
        case ast.MatchValue(value=ast.Constant(value=str(text))):
            yield text
        case ast.MatchOr(patterns=patterns):
            for inner in patterns:
                yield from _pattern_texts(inner)

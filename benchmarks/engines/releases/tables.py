"""Tables at the top level of a Python file: dictionaries and lists of strings, and the lines of their entries."""

import ast
from collections.abc import Iterator

from benchmarks.engines.releases.source import Lines, Source, stored

_CHANGES = frozenset({"clear", "pop", "popitem", "setdefault", "update"})


def defines(source: Source, table: str) -> bool:
    """Whether the file gives this name a value at its top level."""
    return any(table in stored(statement) for statement in source.statements())


def keys(source: Source, table: str) -> Lines:
    """Keys of a dictionary at the top level, whichever way it is filled; those whose value is False are left out.

    Raises:
        UnknownLayout: the file has no such table, or something else changes it.
    """
    lines: Lines = {}
    for key, value, line in _items(source, table):
        if not (isinstance(value, ast.Constant) and value.value is False):
            lines.setdefault(key, line)
    return lines


def values(source: Source, table: str) -> Lines:
    """Strings that are values of a dictionary at the top level, alone or several in a tuple.

    Raises:
        UnknownLayout: the file has no such table, or a value is something else.
    """
    lines: Lines = {}
    for _, value, line in _items(source, table):
        match value:
            case ast.Constant(value=str(text)):
                lines.setdefault(text, line)
            case ast.Tuple(elts=elements) | ast.List(elts=elements):
                for text in texts(source, elements):
                    lines.setdefault(text, line)
            case _:
                raise source.unknown(value, f"needs strings as values of {table}")
    return lines


def strings(source: Source, name: str) -> Lines:
    """The strings of a list, a tuple, a set or a typing.Literal at the top level.

    Raises:
        UnknownLayout: the file has no such name, or it holds something else.
    """
    value = _value_of(source, name)
    match value:
        case ast.List(elts=elements) | ast.Tuple(elts=elements) | ast.Set(elts=elements):
            pass
        case ast.Subscript(value=ast.Name(id="Literal"), slice=ast.Tuple(elts=elements)):
            pass
        case _:
            raise source.unknown(value, f"needs a list of strings as {name}")
    lines: Lines = {}
    for element in elements:
        match element:
            case ast.Constant(value=str(text)):
                lines.setdefault(text, element.lineno)
            case ast.Constant(value=None):
                pass
            case _:
                raise source.unknown(element, f"needs strings in {name}")
    return lines


def texts(source: Source, elements: list[ast.expr]) -> Iterator[str]:
    """Strings, and those of lists that are unpacked among them, also of a list that has a name at the top level."""
    for element in elements:
        match element:
            case ast.Constant(value=str(text)):
                yield text
            case ast.Starred(value=ast.List(elts=inner) | ast.Tuple(elts=inner)):
                yield from texts(source, inner)
            case ast.Starred(value=ast.Name(id=name)):
                yield from strings(source, name)
            case _:
                raise source.unknown(element, "needs a string")


def _items(source: Source, table: str) -> Iterator[tuple[str, ast.expr, int]]:
    """Key, value and line of each entry."""
    there = False
    for statement in source.statements():
        match statement:
            case ast.Assign(targets=[ast.Name(id=name)], value=value) if name == table:
                there = True
                yield from _pairs(source, value)
            case ast.AnnAssign(target=ast.Name(id=name), value=ast.expr() as value) if name == table:
                there = True
                yield from _pairs(source, value)
            case ast.Assign(
                targets=[ast.Subscript(value=ast.Name(id=name), slice=ast.Constant(value=str(key)))], value=value
            ) if name == table:
                yield key, value, statement.lineno
            case ast.Expr(value=ast.Call(func=ast.Attribute(value=ast.Name(id=name), attr="update")) as call) if (
                name == table
            ):
                yield from _called_with(source, call)
            case _ if _changes(statement, table):
                raise source.unknown(statement, f"needs a known way to fill {table}")
    if not there:
        raise source.lacks(f"a table {table}")


def _pairs(source: Source, value: ast.expr) -> Iterator[tuple[str, ast.expr, int]]:
    match value:
        case ast.Dict(keys=dictionary_keys, values=dictionary_values):
            for key, item in zip(dictionary_keys, dictionary_values, strict=True):
                match key:
                    case ast.Constant(value=str(text)):
                        yield text, item, key.lineno
                    case None:
                        yield from _pairs(source, item)
                    case _:
                        raise source.unknown(key, "needs a string as key")
        case ast.Call(func=ast.Name(id="dict" | "OrderedDict")):
            yield from _called_with(source, value)
        case ast.BinOp(left=left, op=ast.BitOr(), right=right):
            yield from _pairs(source, left)
            yield from _pairs(source, right)
        case ast.Name(id=name):
            yield from _items(source, name)
        case _:
            raise source.unknown(value, "needs a dictionary")


def _called_with(source: Source, call: ast.Call) -> Iterator[tuple[str, ast.expr, int]]:
    """What dict(...), OrderedDict(...) or table.update(...) is given."""
    for argument in call.args:
        match argument:
            case ast.List(elts=elements) | ast.Tuple(elts=elements):
                for element in elements:
                    match element:
                        case ast.Tuple(elts=[ast.Constant(value=str(key)), item]):
                            yield key, item, element.lineno
                        case _:
                            raise source.unknown(element, "needs a pair of a string and its value")
            case _:
                yield from _pairs(source, argument)
    for keyword in call.keywords:
        if keyword.arg is None:
            yield from _pairs(source, keyword.value)
        else:
            yield keyword.arg, keyword.value, keyword.lineno


def _value_of(source: Source, name: str) -> ast.expr:
    """The last value that the top level gives a name."""
    given: ast.expr | None = None
    for statement in source.statements():
        match statement:
            case ast.Assign(targets=[ast.Name(id=target)], value=value) if target == name:
                given = value
            case ast.AnnAssign(target=ast.Name(id=target), value=ast.expr() as value) if target == name:
                given = value
    if given is None:
        raise source.lacks(name)
    return given


def _changes(statement: ast.stmt, table: str) -> bool:
    """Whether a statement gives a table a value, an entry, or takes one away."""
    if table in stored(statement):
        return True
    for node in ast.walk(statement):
        match node:
            case ast.Subscript(value=ast.Name(id=name), ctx=ast.Store() | ast.Del()) if name == table:
                return True
            case ast.Call(func=ast.Attribute(value=ast.Name(id=name), attr=attribute)) if (
                name == table and attribute in _CHANGES
            ):
                return True
    return False

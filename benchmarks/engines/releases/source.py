"""A Python file of a release, read without running it."""

import ast
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase

from calibration.errors import BackendError

Lines = dict[str, int]
"""Name: the first line on which it stands."""


class UnknownLayout(BackendError):
    """A file of a release is not written as those that were read before: nobody knows what it says."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """One Python file of a release."""

    path: str
    tree: ast.Module
    classes: Mapping[str, ast.ClassDef]
    """By their names."""

    @classmethod
    def of(cls, path: str, text: str) -> "Source":
        """Raises UnknownLayout where the text is not Python."""
        try:
            tree = ast.parse(text)
        except SyntaxError as error:
            raise UnknownLayout(f"{path} is not Python that can be read: {error}") from error
        classes = {node.name: node for node in ast.walk(tree) if isinstance(node, ast.ClassDef)}
        return cls(path=path, tree=tree, classes=classes)

    def statements(self) -> Iterator[ast.stmt]:
        """Statements of the top level and of its conditions; what functions and classes do happens later."""
        return _statements(self.tree.body)

    def unknown(self, node: ast.AST, what: str) -> UnknownLayout:
        """The error for what a reader does not know."""
        written = ast.unparse(node).partition("\n")[0][:120]
        return UnknownLayout(
            f"{self.path}:{getattr(node, 'lineno', 0)}: {what}; found {written}",
            "teach the readers in benchmarks/engines/releases this layout",
        )

    def lacks(self, what: str) -> UnknownLayout:
        """The error for what every release has and this file lacks."""
        return UnknownLayout(
            f"{self.path}: needs {what}; found none",
            "teach benchmarks/engines/releases/readers.py where this release has it",
        )


def stored(statement: ast.stmt) -> frozenset[str]:
    """Names to which a statement gives a value."""
    return frozenset(n.id for n in ast.walk(statement) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store))


def names_in_code(source: Source) -> frozenset[str]:
    """All that stands in the code as a name, a keyword or a string; comments do not count."""
    names = set[str]()
    for node in ast.walk(source.tree):
        match node:
            case ast.Constant(value=str(text)):
                names.add(text)
            case ast.keyword(arg=str(text)) | ast.Name(id=text):
                names.add(text)
    return frozenset(names)


def mentioned_under(source: Source, *patterns: str, but: str = "") -> frozenset[str]:
    """The strings in what the top level gives to names that match (`_*_MODELS`), all but one name, whatever it is."""
    return frozenset(
        node.value
        for statement in source.statements()
        if any(fnmatchcase(name, pattern) and name != but for name in stored(statement) for pattern in patterns)
        for node in ast.walk(statement)
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    )


def _statements(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    for statement in body:
        match statement:
            case ast.If(body=then, orelse=otherwise):
                yield from _statements(then)
                yield from _statements(otherwise)
            case ast.Try(body=tried, handlers=handlers, orelse=otherwise, finalbody=last):
                yield from _statements(tried)
                for handler in handlers:
                    yield from _statements(handler.body)
                yield from _statements(otherwise)
                yield from _statements(last)
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
                pass
            case _:
                yield statement

"""A Sphinx extension that shows arguments and fields as tables, and makes every table readable on a narrow screen."""

import dataclasses
import inspect
import re
from collections.abc import Iterator, Sequence
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.domains.python._annotations import _parse_annotation
from sphinx.domains.python._object import PyObject, PyTypedField
from sphinx.util.inspect import stringify_signature
from sphinx.util.typing import stringify_annotation

WIDE = 6
"""A table with more columns than this is shown as one card per row on every screen."""
_ASTERISK = re.compile(r"(?<=[^\s*\\])\*(?!\*)")
_FIELD = re.compile(r":ivar ([^:]+):\s*(.*)")


class ArgumentTable(PyTypedField):
    """Arguments or fields as a table: name, type, meaning."""

    def make_field(
        self,
        types: dict[str, list[nodes.Node]],
        domain: str,
        items: Any,
        env: Any = None,
        inliner: Any = None,
        location: Any = None,
    ) -> nodes.field:
        """Return the field with one row per argument."""
        rows: list[list[Sequence[nodes.Node]]] = []
        for name, content in items:
            # Each type is used once: a node that is inserted twice breaks its references.
            annotation = "".join(node.astext() for node in types.pop(name, []))
            links = _parse_annotation(annotation, env) if annotation else []
            rows.append([[nodes.literal("", name)], links, [nodes.inline("", "", *content)]])
        body = nodes.field_body("", _table(("name", "type", "meaning"), rows))
        return nodes.field("", nodes.field_name("", self.label), body)


def _table(titles: Sequence[str], rows: Sequence[Sequence[Sequence[nodes.Node]]]) -> nodes.table:
    group = nodes.tgroup("", *(nodes.colspec(colwidth=1) for _ in titles), cols=len(titles))
    group += nodes.thead("", _row([[nodes.Text(title)] for title in titles]))
    group += nodes.tbody("", *(_row(row) for row in rows))
    return nodes.table("", group, classes=["arguments"])


def _row(cells: Sequence[Sequence[nodes.Node]]) -> nodes.row:
    return nodes.row("", *(nodes.entry("", nodes.paragraph("", "", *cell)) for cell in cells))


def document_call(app: Sphinx, what: str, name: str, value: Any, options: Any, lines: list[str]) -> None:
    """Document a callable value, such as `Cluster.plan`, by its `__call__`."""
    if what == "method" and (_is_callable_value(value) or _is_plain_function(value)):
        lines[:] = [*(inspect.getdoc(type(value).__call__) or "").splitlines(), ""]


def escape_asterisks(app: Sphinx, what: str, name: str, value: Any, options: Any, lines: list[str]) -> None:
    """Show an asterisk in a word, such as "us-*", as it is: our docstrings have no markup but backticks."""
    lines[:] = [line if line.lstrip().startswith((">>>", "...")) else _literal(line) for line in lines]


def _literal(text: str) -> str:
    parts = text.split("`")
    parts[::2] = [_ASTERISK.sub(r"\\*", part) for part in parts[::2]]
    return "`".join(parts)


def _is_callable_value(value: Any) -> bool:
    return callable(value) and not inspect.isclass(value) and not inspect.isroutine(value)


def _is_plain_function(value: Any) -> bool:
    return inspect.isfunction(value) and next(iter(inspect.signature(value).parameters), "") not in ("self", "cls")


def rejoin_sentence(app: Sphinx, what: str, name: str, value: Any, options: Any, lines: list[str]) -> None:
    """Undo that napoleon reads "word: text" at the beginning of an attribute's docstring as its type."""
    types = [line for line in lines if line.startswith(":type: ")]
    if what in ("attribute", "property", "data") and types:
        rest = [line for line in lines if line not in types]
        lines[:] = [f"{types[0].removeprefix(':type: ')}: {rest[0]}", *rest[1:]]


def describe_fields(app: Sphinx, what: str, name: str, value: Any, options: Any, lines: list[str]) -> None:
    """List the fields of a class, each with its type: all of a dataclass or a model, else those that are documented."""
    if what not in ("class", "exception"):
        return
    documented, kept = _documented(lines)
    fields = {field: (annotation, text or documented.get(field, "")) for field, annotation, text in _fields(value)}
    fields = fields or {field: (_argument_type(value, field), text) for field, text in documented.items()}
    listed = [
        line for field, (kind, text) in fields.items() for line in (f":ivar {field}: {text}", *_type(field, kind))
    ]
    lines[:] = [*kept, "", *listed, ""]


def _type(field: str, annotation: str) -> list[str]:
    return [f":vartype {field}: {annotation}"] if annotation else []


def _fields(value: Any) -> Iterator[tuple[str, str, str]]:
    """Name, type and description of each public field of a dataclass or a pydantic model."""
    if dataclasses.is_dataclass(value):
        for field in dataclasses.fields(value):
            if not field.name.startswith("_"):
                yield field.name, stringify_annotation(field.type, "smart"), ""
    for name, model_field in getattr(value, "model_fields", {}).items():
        yield (
            name,
            stringify_annotation(_plain(model_field.annotation), "smart"),
            _literal(model_field.description or ""),
        )


def _plain(annotation: Any) -> Any:
    """Remove the metadata of `Annotated`, which is for pydantic and not for readers."""
    if get_origin(annotation) is Annotated:
        return _plain(get_args(annotation)[0])
    if get_origin(annotation) in (Union, UnionType):
        return Union[tuple(_plain(part) for part in get_args(annotation))]  # noqa: UP007 - the parts are known only at run time
    return annotation


def _argument_type(value: Any, name: str) -> str:
    """Return the type of a constructor's argument of this name, else of a property's value."""
    argument = inspect.signature(value.__init__).parameters.get(name)
    return "" if argument is None else stringify_annotation(argument.annotation, "smart")


def _documented(lines: Sequence[str]) -> tuple[dict[str, str], list[str]]:
    """Split a docstring that napoleon has read into the descriptions of its fields and all other lines."""
    found: dict[str, str] = {}
    kept: list[str] = []
    names: list[str] = []
    for line in lines:
        match = _FIELD.match(line)
        if match:
            names = [name.strip() for name in match[1].split(",")]
            found.update(dict.fromkeys(names, match[2]))
        elif names and line.startswith(" "):
            found.update({name: f"{found[name]} {line.strip()}" for name in names})
        else:
            names = []
            kept.append(line)
    return found, kept


def choose_signature(
    app: Sphinx, what: str, name: str, value: Any, options: Any, signature: str | None, returned: str | None
) -> tuple[str, str] | None:
    """Show a class without its constructor, since the table of its fields has the same content, and all arguments of a call."""
    if inspect.isclass(value) and signature is not None:
        return "", ""
    if what == "method" and (_is_callable_value(value) or _is_plain_function(value)):
        arguments, _, result = stringify_signature(inspect.signature(value), unqualified_typehints=True).rpartition(
            " -> "
        )
        return arguments, result
    return None


def use_dashes(app: Sphinx, domain: str, kind: str, content: nodes.Element) -> None:
    """Show the "--" that Sphinx puts between an error and its description as a dash; in other text it is an option's."""
    for text in list(content.findall(nodes.Text)):
        if text == " -- ":
            text.parent.replace(text, nodes.Text(" – "))


def label_cells(app: Sphinx, tree: nodes.document, page: str) -> None:
    """Repeat the column's title in each cell: a style sheet shows it where rows are shown as cards."""
    for table in tree.findall(nodes.table):
        heads = list(table.findall(nodes.thead))
        titles = [entry.astext() for entry in heads[0].findall(nodes.entry)] if heads else []
        if len(titles) > WIDE:
            table["classes"].append("cards")
        if len(titles) < 3:
            # The second column needs no label.
            titles = [""] * len(titles)
        for body in table.findall(nodes.tbody):
            for row in body.findall(nodes.row):
                for title, entry in zip(titles, row.findall(nodes.entry), strict=False):
                    _label(entry, title)


def _label(entry: nodes.entry, title: str) -> None:
    if not entry.astext().strip():
        entry["classes"].append("empty")
    elif title:
        entry.insert(0, nodes.inline("", title, classes=["label"]))


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the extension."""
    PyObject.doc_field_types = [
        ArgumentTable(
            "parameter", names=("param", "arg"), label="Arguments", typerolename="class", typenames=("type",)
        ),
        ArgumentTable("variable", names=("ivar",), label="Fields", typerolename="class", typenames=("vartype",)),
        *(old for old in PyObject.doc_field_types if old.name not in ("parameter", "variable")),
    ]
    # Before and after napoleon, whose priority is 500.
    app.connect("autodoc-process-docstring", document_call, priority=300)
    app.connect("autodoc-process-docstring", escape_asterisks, priority=400)
    app.connect("autodoc-process-docstring", rejoin_sentence, priority=600)
    app.connect("autodoc-process-docstring", describe_fields, priority=600)
    app.connect("autodoc-process-signature", choose_signature)
    app.connect("object-description-transform", use_dashes)
    app.connect("doctree-resolved", label_cells)
    return {"parallel_read_safe": True}

"""Docstrings of fields, read from the source for the OpenAPI document.

pydantic can read them too (`use_attribute_docstrings`), but while it makes each class: 30 ms of every start, for a
document that few servers are asked for.
"""

import ast
import inspect
from itertools import pairwise
from types import ModuleType


def field_docs(*modules: ModuleType) -> dict[str, dict[str, str]]:
    """Return the docstring of each field, by class name and field name; a class has the fields of its bases, too."""
    docs: dict[str, dict[str, str]] = {}
    for module in modules:
        for node in ast.parse(_source(module)).body:
            if isinstance(node, ast.ClassDef):
                inherited = [docs.get(base.id, {}) for base in node.bases if isinstance(base, ast.Name)]
                docs[node.name] = {
                    name: doc for fields in (*inherited, _own_field_docs(node)) for name, doc in fields.items()
                }
    return docs


def _own_field_docs(node: ast.ClassDef) -> dict[str, str]:
    docs: dict[str, str] = {}
    for field, below in pairwise(node.body):
        match field, below:
            case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(doc))):
                docs[name] = " ".join(doc.split())
            case _:
                pass
    return docs


def _source(module: ModuleType) -> str:
    try:
        return inspect.getsource(module)
    except OSError:  # installed without its sources: the document says less
        return ""

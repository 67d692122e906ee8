"""Each argument of a request is described once: signatures, docstrings, options, JSON schema and docs agree with the model."""

import importlib.util
import inspect
import re
import typing
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from multicompute import Cluster, ClusterSpec, cluster_requests
from multicompute.cli.parser import parser_of
from multicompute.cli.spelling import flag_of
from multicompute.cluster_requests import RequestArguments
from multicompute.fields import members_of
from multicompute.spec import argument_of
from multicompute.workloads import AnyWorkload

ROOT = Path(__file__).parents[2]
FIELDS = ClusterSpec.model_fields
METHODS = {
    name: getattr(Cluster, name)
    for name in ("request", "arequest", "plan", "aplan")
}  # fmt: skip


TYPES: dict[str, Any] = {**vars(typing), **vars(cluster_requests), "Plan": object, "AnyWorkload": AnyWorkload}
"""Names in signatures that only type checkers import."""


def generator() -> ModuleType:
    found = importlib.util.spec_from_file_location("write_requests", ROOT / "tools" / "write_requests.py")
    assert found is not None and found.loader is not None
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module


def words(text: str) -> str:
    return " ".join(text.split())


def test_the_signatures_are_written_from_the_model() -> None:
    tool = generator()
    assert tool.TARGET.read_text() == tool.module(), "run `python tools/write_requests.py`"


@pytest.mark.parametrize("name", METHODS)
def test_a_signature_has_every_argument_with_its_type_and_its_default(name: str) -> None:
    parameters = inspect.signature(METHODS[name]).parameters
    assert list(parameters) == list(FIELDS)
    for parameter in parameters.values():
        assert parameter.annotation is not inspect.Parameter.empty
        by_name = parameter.name not in ("gpus", "type")
        assert (parameter.kind is inspect.Parameter.KEYWORD_ONLY) == by_name
    spec = ClusterSpec.of({"type": "h100", **{p.name: p.default for p in parameters.values() if p.name != "type"}})
    assert spec == ClusterSpec(type="h100")


@pytest.mark.parametrize("name", METHODS)
def test_a_docstring_has_a_sentence_for_every_argument(name: str) -> None:
    text = words(inspect.getdoc(METHODS[name]) or "")
    assert [field for field, info in FIELDS.items() if f" {field}: {info.description}" not in text] == []


def test_a_signature_accepts_none_where_the_model_does() -> None:
    hints = typing.get_type_hints(METHODS["plan"], TYPES)
    for name, info in FIELDS.items():
        if type(None) in members_of(info.annotation):
            assert type(None) in typing.get_args(hints[name])


def test_functions_that_pass_arguments_on_have_the_same_types() -> None:
    passed_on = typing.get_type_hints(RequestArguments, TYPES, TYPES)
    hints = typing.get_type_hints(METHODS["plan"], TYPES)
    assert passed_on == {name: hints[name] for name in FIELDS if name not in ("gpus", "type")}


def test_a_description_is_one_sentence() -> None:
    for name, info in FIELDS.items():
        assert re.fullmatch(r"[A-Z].*[^.]\.", info.description or ""), name
        assert ". " not in (info.description or ""), name


@pytest.mark.parametrize("command", ["up", "plan"])
def test_help_has_an_option_with_the_description_of_every_argument(command: str) -> None:
    actions: dict[str, Any] = {}
    for action in parser_of(command)._actions:
        actions.setdefault(action.dest, action)
    for name, info in FIELDS.items():
        sentence = (info.description or "").removesuffix(".")
        assert flag_of(name) in actions[name].option_strings
        assert actions[name].help.replace("%%", "%")[1:].startswith(sentence[1:])


def test_the_json_schema_describes_every_argument() -> None:
    properties = ClusterSpec.model_json_schema()["properties"]
    assert {name: item["description"] for name, item in properties.items()} == {
        name: info.description for name, info in FIELDS.items()
    }


def test_the_reference_of_the_command_line_names_every_argument() -> None:
    text = (ROOT / "docs" / "cli.md").read_text()
    assert [name for name in FIELDS if f"`{flag_of(name)}" not in text and f"`{flag_of(name)} " not in text] == []


def test_options_are_unique_and_rankings_of_changes_too() -> None:
    flags = [flag_of(name) for name in FIELDS]
    assert len(set(flags)) == len(flags)
    ranks = [relaxed.rank for name in FIELDS if (relaxed := argument_of(name).relaxed)]
    assert sorted(ranks) == list(range(1, len(ranks) + 1))

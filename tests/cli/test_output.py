"""Output on a terminal and in a pipe."""

import contextlib
import io
import json
from collections.abc import Callable

import pytest

from multicompute.cli.output import write_json, write_table

COLUMNS = ("name", ">nodes")
ROWS = [("train-1", "8"), ("a[bold]b", "16")]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def shown(write: Callable[[], None], monkeypatch: pytest.MonkeyPatch) -> str:
    """Return what `write` prints on a terminal with colours."""
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("COLORTERM", raising=False)
    stream = Terminal()
    with contextlib.redirect_stdout(stream):
        write()
    return stream.getvalue()


def test_a_table_in_a_pipe_is_plain_aligned_text(capsys: pytest.CaptureFixture[str]) -> None:
    write_table(COLUMNS, ROWS)
    assert capsys.readouterr().out.splitlines() == ["name      nodes", "train-1       8", "a[bold]b     16"]


def test_a_table_on_a_terminal_is_styled_and_prints_brackets_literally(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    table = shown(lambda: write_table(COLUMNS, ROWS), monkeypatch)
    assert "\x1b[1m" in table
    assert "a[bold]b" in table


def test_no_color_is_honoured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    table = shown(lambda: write_table(COLUMNS, ROWS), monkeypatch)
    assert "train-1" in table
    assert "\x1b[3" not in table


def test_json_in_a_pipe_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    write_json({"a": [1, 2]})
    assert capsys.readouterr().out == '{"a": [1, 2]}\n'


def test_json_on_a_terminal_is_the_same_document_indented(monkeypatch: pytest.MonkeyPatch) -> None:
    text = shown(lambda: write_json({"a": [1, 2]}), monkeypatch)
    assert text.count("\n") > 1
    assert json.loads(text) == {"a": [1, 2]}


def test_a_number_that_json_cannot_express_is_refused() -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json({"price": float("nan")})

"""The page of the environment variables says what the packaged table says."""

from tests.project.test_docs import DOCS, OUTDATED, tool


def test_the_page_of_the_variables_is_up_to_date() -> None:
    path = DOCS / "environment-variables.md"
    assert tool("write_variables").page(path.read_text()) == path.read_text(), OUTDATED


def test_every_condition_of_the_table_can_be_read_by_people() -> None:
    writer = tool("write_variables")
    words = {word for row in writer.table() for word in row.when.split()}
    assert words == set(writer.TAGS)

"""The glossary, `probe explain`, and lists of commands that cut no sentence short."""

import pytest
from typer.testing import CliRunner

from cli.app import app
from probe.glossary import glossary


def run(*words: str) -> tuple[int, str]:
    done = CliRunner().invoke(app, [*words], terminal_width=80)
    return done.exit_code, done.output


def test_twelve_words_or_so_each_in_a_few_sentences() -> None:
    words = glossary()
    assert 12 <= len(words) <= 14
    assert all(30 < len(text) < 400 and text.endswith(".") for text in words.values())


@pytest.mark.parametrize(
    "typed", ["best", "Floor", "near-copy", "near copies", "domains", "arrays"]
)
def test_a_word_is_found_as_it_is_typed(typed: str) -> None:
    code, said = run("explain", typed)
    assert code == 0
    assert said.startswith(typed)


def test_without_a_word_all_and_an_unknown_one_in_a_sentence() -> None:
    assert run("explain")[1].count("\n") > 24
    code, said = run("explain", "poolign")
    assert code == 2
    assert "did you mean pooling" in said


def test_help_lists_whole_sentences_at_eighty_columns() -> None:
    for words in ((), ("data",), ("weights",)):
        code, said = run(*words, "--help")
        assert code == 0
        assert "..." not in said.replace("[ARGS]...", "")
    said = " ".join(run("--help")[1].split())
    assert "in two minutes: extract, fit, tune, report." in said

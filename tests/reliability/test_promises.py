"""Every promise has a test, every id that a test names is a promise, and the page says both."""

from pathlib import Path

from tests.reliability.promises import PAGE, PROMISES, ids, page, proofs


def test_every_promise_has_a_test_and_every_id_that_a_test_names_is_a_promise() -> None:
    assert proofs().keys() == PROMISES.keys()


def test_an_id_without_a_test_and_one_that_is_no_promise_are_found(tmp_path: Path) -> None:
    folder = tmp_path / "tests" / "domains"
    folder.mkdir(parents=True)
    (folder / "test_some.py").write_text(
        'def test_one() -> None:\n    """L1, L99: K2 to K4."""\n\n\n'
        'async def test_two() -> None:\n    """L1"""\n\n\ndef helper() -> None:\n    """L5"""\n'
    )
    found = proofs(tmp_path)
    one, two = (f"tests/domains/test_some.py::test_{name}" for name in ("one", "two"))
    assert found == {"L1": [one, two], "L99": [one], "K2": [one], "K3": [one], "K4": [one]}


def test_ids_are_told_from_words_that_look_like_them() -> None:
    assert ids("ID3, Q1 and T12: trust level L0, HTTP2, 16 KiB, M33, SHA1.") == {"ID3", "Q1", "T12"}


def test_the_page_has_the_table_of_today() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert page(text) == text, "python -m tests.reliability.promises --write"

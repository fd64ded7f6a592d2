"""The seeded bugs fit the product as it is; `scripts/prove --mutants` shows that the suite notices each."""

import shutil
from pathlib import Path

import pytest

from tests.reliability.mutants import Mutant, waiting, working

ROOT = Path(__file__).resolve().parents[2]
MUTANTS = (*waiting.MUTANTS, *working.MUTANTS)


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_a_seeded_bug_fits_the_product(mutant: Mutant, tmp_path: Path) -> None:
    for edit in mutant.edits:
        copy = tmp_path / "server" / "callboard" / edit.file
        if not copy.exists():
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / "server" / "callboard" / edit.file, copy)
        edit.apply(tmp_path)
        compile(copy.read_text(encoding="utf-8"), edit.file, "exec")
    for test in mutant.tests:
        name, _, function = test.partition("::")
        assert f"def {function}" in (ROOT / name).read_text(encoding="utf-8")


def test_there_are_38_seeded_bugs() -> None:
    assert [mutant.name for mutant in MUTANTS] == [f"M{number}" for number in range(1, 39)]

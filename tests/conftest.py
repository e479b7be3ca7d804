"""One test set and one checkpoint for all decoding tests."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def test_set(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from tests.tiny_ctc import write_test_set

    return write_test_set(tmp_path_factory.mktemp("testset"))


@pytest.fixture(scope="session")
def checkpoint(test_set: Path) -> Path:
    from ccc_w2v.benchmark.random_ctc import trainer_state
    from tests.tiny_ctc import build_ctc, save

    # Group norm over time, as in the base models: the case in which padding would change the result.
    return save(trainer_state(*build_ctc(test_set.parent, extractor_mode="default")), test_set.parent / "ctc.pt")

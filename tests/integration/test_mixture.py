"""A training on several corpora: resumed it equals the uninterrupted run; its log has the hours of each corpus."""

import json
import shutil

import pytest

from tests.fake_corpora import write_corpus
from tests.integration.test_resume import EPOCHS, arguments, done, same
from tests.integration.test_training import state

MIXTURE = """
weights: given
corpora:
  read: {manifest: read.tsv, weight: 1, augment: none}
  phone: {manifest: phone.tsv, weight: 3, on_bad_audio: skip}
"""


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    folder = tmp_path_factory.mktemp("corpus")
    write_corpus(folder, [16000 + 500 * i for i in range(8)], "read")
    write_corpus(folder, [16000 + 700 * i for i in range(6)], "phone", seed=20)
    write_corpus(folder, [16000, 18000], "pretrain_valid", seed=50)
    (folder / "mixture.yaml").write_text(MIXTURE)
    (folder / "audio" / "phone2.wav").write_bytes(b"no audio")
    return folder


def logged(output):
    """Return the last line of the log that has the hours of a corpus."""
    lines = [line[line.index("{") :] for line in output.splitlines() if "hours_phone" in line and "{" in line]
    return {name: float(value) for name, value in json.loads(lines[-1]).items() if "hours_" in name}


def test_annotations_of_one_manifest_and_a_mixture_are_refused(warm, corpus, tmp_path):
    settings = [
        f"+task.mixture={corpus}/mixture.yaml",
        "+task.annotations=align.tsv",
        "+criterion.cluster_scope=annotated",
    ]
    code, output = warm.run(arguments(corpus, tmp_path / "run", *settings), tmp_path / "log")
    assert code == 2
    assert "align.tsv labels one manifest; " in output


def test_a_resumed_mixture_equals_the_uninterrupted_one_and_logs_hours_by_corpus(warm, corpus, tmp_path):
    settings = ["optimization.max_update=12", *EPOCHS, f"+task.mixture={corpus}/mixture.yaml", "common.log_interval=1"]
    output = done(warm.run(arguments(corpus, tmp_path / "straight", *settings), tmp_path / "log"))
    expected = state(tmp_path / "straight")
    counts = expected["extra_state"]["CccPretrainingTask"]["counts"]
    read, phone = counts["processed_read"], counts["processed_phone"]
    assert read + phone == counts["audio_samples"]
    assert 1.5 < phone / read < 4
    assert counts["bad_audio"] > 0
    hours = {name.partition("hours_")[2]: value for name, value in logged(output).items()}
    assert hours["read"] == pytest.approx(read / 16000 / 3600, abs=1e-5)
    assert "mixture.yaml: phone: " in output
    folder = tmp_path / "resumed"
    (folder / "checkpoints").mkdir(parents=True)
    first = tmp_path / "straight" / "checkpoints" / "checkpoint1.pt"
    shutil.copy(first, folder / "checkpoints" / "checkpoint_last.pt")
    done(warm.run(arguments(corpus, folder, *settings), tmp_path / "log"))
    resumed = state(folder)
    for part in ("model", "last_optimizer_state", "optimizer_history", "task_state"):
        assert same(expected[part], resumed[part]), part
    for part in ("train_iterator", "CccPretrainingTask"):
        assert same(expected["extra_state"][part], resumed["extra_state"][part]), part

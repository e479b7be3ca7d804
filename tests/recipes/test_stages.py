"""recipes/stages.sh: what is done is done once, and again for a checkpoint that has been trained anew in its place."""

import subprocess
from pathlib import Path

import pytest

STAGES = Path(__file__).resolve().parents[2] / "recipes/stages.sh"
# Stand for the tools: the command says what it was called with, and writes no file.
PROGRAMS = {
    "python": "#!/bin/sh\necho user_dir\n",
    "ccc-w2v": '#!/bin/sh\necho "called: $*" >&2\nexit "${FAILS:-0}"\n',
}


@pytest.fixture
def stage(tmp_path):
    """Return a function that runs words of bash after stages.sh; gives exit code, output and calls of the tools."""
    tools = tmp_path / "bin"
    tools.mkdir()
    for name, text in PROGRAMS.items():
        (tools / name).write_text(text)
        (tools / name).chmod(0o755)

    def run(words, **variables):
        path = subprocess.run(["bash", "-c", "echo $PATH"], capture_output=True, text=True).stdout.strip()
        ended = subprocess.run(
            ["bash", "-c", f"set -euo pipefail; source {STAGES}; {words}"],
            env={"PATH": f"{tools}:{path}", **variables},
            cwd=tmp_path,
            capture_output=True,
            text=True,
        )
        calls = [line for line in ended.stderr.splitlines() if line.startswith("called: ")]
        return ended.returncode, ended.stdout + ended.stderr, calls

    return run


def test_a_checkpoint_is_decoded_once_and_again_after_it_was_retrained_in_place(stage, tmp_path):
    checkpoint, words = tmp_path / "best.pt", "decode out best.pt test.tsv --beam 5"
    checkpoint.write_bytes(b"first")
    code, _, calls = stage(words)
    assert code == 0
    assert calls == ["called: decode --checkpoint best.pt --manifest test.tsv --out out --beam 5"]
    code, said, calls = stage(words)
    assert (code, calls) == (0, [])
    assert "done before: out/.decoded" in said
    checkpoint.write_bytes(b"second")
    code, said, calls = stage(words)
    assert code == 0
    assert "made before, from another best.pt: out/.decoded" in said
    assert [call.endswith("--beam 5 --overwrite") for call in calls] == [True]
    assert stage(words)[2] == []
    # Whoever removes the checkpoint to save space keeps what was made from it.
    checkpoint.unlink()
    assert stage(words)[2] == []


def test_a_command_that_fails_leaves_no_marker(stage, tmp_path):
    (tmp_path / "best.pt").write_bytes(b"first")
    code, _, calls = stage("decode out best.pt test.tsv", FAILS="2")
    assert (code, len(calls)) == (2, 1)
    assert not (tmp_path / "out/.decoded").exists()


def test_a_folder_counts_by_what_is_in_it(stage, tmp_path):
    (tmp_path / "model").mkdir()
    (tmp_path / "model/config.json").write_text("{}")
    words = "run_from marker model ccc-w2v decode"
    assert len(stage(words)[2]) == 1
    assert len(stage(words)[2]) == 0
    (tmp_path / "model/config.json").write_text('{"a": 1}')
    assert len(stage(words)[2]) == 1


@pytest.mark.parametrize("setting", ["model.w2v_path", "checkpoint.finetune_from_model"])
def test_a_training_from_other_weights_is_not_taken_for_a_finished_one(stage, tmp_path, setting):
    start, words = tmp_path / "plain.pt", f"config=c; train title run name a=b {setting}=plain.pt"
    start.write_bytes(b"first")
    (tmp_path / "run").mkdir()
    assert len(stage(words)[2]) == 1
    code, said, calls = stage(words)
    assert (code, calls) == (0, [])
    assert "done before: run/.done" in said
    start.write_bytes(b"second")
    code, said, calls = stage(words)
    assert (code, calls) == (2, [])
    assert "error: run: was trained from another plain.pt; move the folder away to train again\n" in said


def test_a_dry_run_does_nothing(stage, tmp_path):
    (tmp_path / "best.pt").write_bytes(b"first")
    code, said, calls = stage("dry_run=yes; decode out best.pt test.tsv")
    assert (code, calls) == (0, [])
    assert "$ ccc-w2v decode --checkpoint best.pt" in said
    assert not (tmp_path / "out").exists()

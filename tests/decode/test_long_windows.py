"""Long recordings: windows against the whole recording, segments against one search, and how much is read at once."""

from __future__ import annotations

import dataclasses
import itertools
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import soundfile
import torch
from hypothesis import given
from hypothesis import strategies as st

from ccc_w2v.benchmark.random_ctc import trainer_state
from ccc_w2v.data.audio import open_parts
from ccc_w2v.data.manifest import read_manifest, write_manifest
from ccc_w2v.data.trn import read_trn
from ccc_w2v.decode.ctc_model import CtcModel, load_ctc
from ccc_w2v.decode.greedy import greedy_search
from ccc_w2v.decode.hypothesis import Hypothesis, Word
from ccc_w2v.decode.long_segments import MOST, joined, segments_of
from ccc_w2v.decode.long_windows import Windows, emit_long, placed_windows, windows_of
from ccc_w2v.decode.network import emit
from ccc_w2v.decode.transcribe import DecodingOptions, transcribe
from ccc_w2v.errors import InputError
from tests.fake_corpora import write_corpus
from tests.run_tool import run_tool, run_with
from tests.tiny_ctc import build_ctc, read_waves, save, write_test_set

SAMPLES = 100_123  # 312 frames, and some samples that make none
WINDOWS = Windows(60, 20)
KINDS = [(False, "default"), (True, "default"), (True, "layer_norm"), (False, "layer_norm")]


@pytest.fixture(scope="module")
def long_set(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("long")
    write_test_set(folder)
    return write_corpus(folder, [SAMPLES, 9600], name="long")


def near_sighted(folder: Path, out: Path, normalize: bool, extractor_mode: str) -> CtcModel:
    """A model that looks no further than its position's convolution: 8 frames; louder than 16 bits, and off zero."""
    task, network, cfg = build_ctc(folder, normalize=normalize, extractor_mode=extractor_mode)
    with torch.no_grad():
        for layer in network.w2v_encoder.w2v_model.encoder.layers:
            layer.self_attn.out_proj.weight.zero_()
    return load_ctc(save(trainer_state(task, network, cfg), out / "ctc.pt"))


def stitched(model: CtcModel, wave_S: torch.Tensor, windows: Windows, max_samples: int = 50_000) -> torch.Tensor:
    def read(start: int, frames: int) -> np.ndarray:
        assert 0 <= start < start + frames <= len(wave_S)
        return wave_S[start : start + frames].numpy()

    return torch.cat(list(emit_long(model, read, len(wave_S), windows, max_samples, "u")))


@given(st.integers(1, 500), st.integers(1, 90), st.data())
def test_spans_keep_each_frame_once_and_away_from_seams(frames: int, window: int, data: st.DataObject) -> None:
    overlap = data.draw(st.integers(0, window - 1))
    windows = placed_windows(frames, Windows(window, overlap))
    kept = itertools.chain(*(range(span.kept_first, span.kept_end) for span in windows))
    assert list(kept) == list(range(frames))
    for span in windows:
        assert span.end - span.first <= window
        assert span.first <= span.kept_first <= span.kept_end <= span.end
        assert span.kept_first - span.first >= overlap // 2 or span.first == 0
        assert span.end - span.kept_end >= overlap // 2 or span.end == frames


@pytest.mark.parametrize(("normalize", "extractor_mode"), KINDS)
def test_windows_are_the_whole_recording(
    long_set: Path, tmp_path: Path, normalize: bool, extractor_mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ccc_w2v.decode.long_windows.STATISTICS_SAMPLES", 7777)
    model = near_sighted(long_set.parent, tmp_path, normalize, extractor_mode)
    # Its first half is loud and off zero: the windows' own means and variances differ from the recording's.
    wave_S = read_waves(long_set)[0]
    wave_S = torch.cat([0.2 + 3 * wave_S[:50_000], 0.1 * wave_S[50_000:]])
    whole = emit(model, [wave_S])[0]
    torch.testing.assert_close(stitched(model, wave_S, WINDOWS), whole, atol=2e-5, rtol=0)
    torch.testing.assert_close(stitched(model, wave_S, Windows(40, 16), 1), whole, atol=2e-5, rtol=0)
    # With less than the model's 8 frames on either side, seams show; and the model is as it was.
    assert (stitched(model, wave_S, Windows(60, 4)) - whole).abs().max() > 1e-3
    assert torch.equal(emit(model, [wave_S])[0], whole)


@pytest.mark.parametrize(("normalize", "extractor_mode"), [KINDS[0], KINDS[2]])
def test_a_window_alone_would_differ(long_set: Path, tmp_path: Path, normalize: bool, extractor_mode: str) -> None:
    # Why the statistics come from the whole recording: a window decoded as if it were one has other frames.
    model = near_sighted(long_set.parent, tmp_path, normalize, extractor_mode)
    wave_S = read_waves(long_set)[0]
    whole, alone = emit(model, [wave_S, wave_S[: 99 * 320 + 400]])
    assert (alone[:80] - whole[:80]).abs().max() > 1e-3


def test_half_precision_windows(long_set: Path, checkpoint: Path) -> None:
    model, wave_S = load_ctc(checkpoint), read_waves(long_set)[0]
    single = stitched(model, wave_S, WINDOWS)
    model.network.to(torch.bfloat16)
    assert 0 < (stitched(model, wave_S, WINDOWS) - single).abs().max() < 0.5


def test_silent_parts_decode_and_bad_recordings_do_not(checkpoint: Path) -> None:
    model, wave_S = load_ctc(checkpoint), torch.zeros(60_000)
    with pytest.raises(InputError, match="u: digital silence"):
        stitched(model, wave_S, WINDOWS)
    wave_S[-100:] = 0.1
    assert stitched(model, wave_S, WINDOWS).isfinite().all()


def test_parts_of_a_recording(long_set: Path, tmp_path: Path) -> None:
    listed = read_manifest(long_set)
    path, whole = listed.audio_path(listed.entries[0]), read_waves(long_set)[0].numpy()
    with open_parts(path, 16000, where="m:2", declared_samples=SAMPLES) as read:
        for start, frames in ((0, 5), (5, 7), (90_000, 10_123), (3, 1)):
            assert np.array_equal(read(start, frames), whole[start : start + frames])
        with pytest.raises(InputError, match=r"m:2: .*truncated, 123 of 200 samples"):
            read(SAMPLES - 123, 200)
    bad = whole.copy()
    bad[70_000] = np.nan
    soundfile.write(tmp_path / "bad.wav", bad, 16000, subtype="FLOAT")
    with open_parts(tmp_path / "bad.wav", 16000, where="m:2", declared_samples=SAMPLES) as read:
        assert len(read(0, 60_000)) == 60_000
        with pytest.raises(InputError, match=r"m:2: .*bad\.wav: holds samples that are NaN"):
            read(60_000, 20_000)


LABELS = ("<s>", "<pad>", "</s>", "<unk>", "|", "A", "B", "\u2581C", "D")


def model_of(kind: str) -> CtcModel:
    return CtcModel(torch.nn.Module(), LABELS, 0, 16000, False, kind, 400, 320, False)


def one_hot(best: list[int]) -> torch.Tensor:
    return (6 * torch.nn.functional.one_hot(torch.tensor(best), len(LABELS)).float()).log_softmax(-1)


# Runs of symbols, as a network makes them: sounds of a frame or two, blanks of up to nine.
runs = st.lists(st.tuples(st.sampled_from([0, 0, 4, 4, 5, 6, 7, 8]), st.integers(1, 9)), min_size=1, max_size=60)


@pytest.mark.parametrize("kind", ["letter", "sentencepiece"])
@given(words=runs, frames=st.integers(4, 40), part=st.integers(1, 30))
def test_segments_cut_no_word(kind: str, words: list[tuple[int, int]], frames: int, part: int) -> None:
    model = model_of(kind)
    best = [index for index, count in words for _ in range(count if index in (0, 4) else 1 + count % 2)]
    log_probs_TV = one_hot(best)
    segments = list(segments_of(log_probs_TV.split(part), model, frames))
    assert torch.equal(torch.cat(segments), log_probs_TV)
    assert all(len(segment) < MOST * frames + part for segment in segments)
    search, starts = greedy_search(model), 0.02 * np.cumsum([0, *map(len, segments[:-1])])
    (whole,) = search(log_probs_TV)
    (together,) = joined([(start, search(segment)) for start, segment in zip(starts, segments, strict=True)])
    ends = np.cumsum([len(segment) for segment in segments])[:-1]
    spoken = [(round(word.start / 0.02), round((word.start + word.duration) / 0.02)) for word in whole.words]
    split = [end for end in ends if any(first < end < stop for first, stop in spoken)]
    if not split:
        assert together.text == whole.text
        for left, right in zip(together.words, whole.words, strict=True):
            assert dataclasses.astuple(left)[1:] == pytest.approx(dataclasses.astuple(right)[1:])
    for end, segment in zip(ends, segments, strict=False):
        # A word is only cut where no other ends in the second half of the longest stretch (or in a long silence).
        later = best[end - len(segment) + frames // 2 + 1 : end - len(segment) + MOST * frames]
        ended = 4 in later if kind == "letter" else (0, 7) in itertools.pairwise(later)
        assert end not in split or not ended or not any(best[end - len(segment) : end])
    assert together.acoustic == pytest.approx(whole.acoustic, rel=1e-5)


# Words of 1 to 8 frames and pauses of 3 to 6: each half of a segment holds the end of a word.
spoken_words = st.lists(st.tuples(st.integers(1, 8), st.integers(3, 6)), min_size=30, max_size=60)


@pytest.mark.parametrize("kind", ["letter", "sentencepiece"])
@given(words=spoken_words, frames=st.integers(40, 60), part=st.integers(1, 30))
def test_no_word_is_cut_where_words_are_short(kind: str, words: list[tuple[int, int]], frames: int, part: int) -> None:
    model, best = model_of(kind), []
    for length, pause in words:
        # "A A B B ... |", or a sound that begins a word and others that go on with it.
        letters = [5 + index % 4 // 2 for index in range(length)]
        best += [*letters, 4, *[0] * (pause - 1)] if kind == "letter" else [7, *[8] * (length - 1), *[0] * pause]
    log_probs_TV, search = one_hot(best), greedy_search(model)
    segments = list(segments_of(log_probs_TV.split(part), model, frames))
    assert len(segments) > 1
    starts = 0.02 * np.cumsum([0, *map(len, segments[:-1])])
    (whole,) = search(log_probs_TV)
    (together,) = joined([(start, search(segment)) for start, segment in zip(starts, segments, strict=True)])
    assert len(whole.words) == len(words)
    for left, right in zip(together.words, whole.words, strict=True):
        assert left.text == right.text
        assert dataclasses.astuple(left)[1:] == pytest.approx(dataclasses.astuple(right)[1:])


@pytest.mark.parametrize("kind", ["letter", "sentencepiece"])
def test_segments_end_in_the_longest_pause_of_the_second_half(kind: str) -> None:
    # A long pause in the first half, then words of which the second pause is the longer one.
    pause = [4, 0, 0] if kind == "letter" else [0, 0, 0]
    best = [7, *pause, *[0] * 20, *[7, 8, 8, 8, 8] * 5, *pause, 7, 8, *pause, 0, 0, 0, 7, *pause, 7]
    first, *_ = segments_of([one_hot(best)], model_of(kind), len(best))
    start = len(best) - 5 - 6
    assert len(first) == start + 3
    # Without a pause at all, a stretch is cut where a blank is most probable.
    log_probs_TV = one_hot([8] * 90)
    log_probs_TV[70, 0] = -1.0
    assert [len(segment) for segment in segments_of([log_probs_TV], model_of(kind), 30)] == [70, 20]


@pytest.mark.parametrize("kind", ["letter", "sentencepiece"])
def test_a_silence_within_a_word_is_no_pause(kind: str) -> None:
    if kind == "letter":
        best = [*[5] * 20, *[0] * 12, *[6] * 4, 4, 0, 0, *[5] * 8]
    else:
        best = [*[7] * 20, *[0] * 12, *[8] * 4, 0, 0, 0, *[7] * 8]
    first, *_ = segments_of([one_hot(best)], model_of(kind), len(best))
    assert len(first) == 37  # in the shorter silence, behind the word


def scored(text: str, acoustic: float, lm: float, total: float) -> Hypothesis:
    return Hypothesis([Word(word, 1.0, 0.1, 0.5) for word in text.split()], acoustic, lm, total)


@given(st.lists(st.lists(st.floats(-50, 0), min_size=1, max_size=4), min_size=1, max_size=4))
def test_joined_lists_are_the_best_of_all_combinations(totals: list[list[float]]) -> None:
    segments = [
        (10.0 * index, [scored(f"w{index}", -1.0, -2.0, total) for total in sorted(segment, reverse=True)])
        for index, segment in enumerate(totals)
    ]
    best = joined(segments)
    every = sorted((sum(chosen) for chosen in itertools.product(*totals)), reverse=True)
    assert [hypothesis.total for hypothesis in best] == pytest.approx(every[: max(map(len, totals))])
    for hypothesis in best:
        assert [word.start for word in hypothesis.words] == [1.0 + 10.0 * index for index in range(len(totals))]
        assert (hypothesis.acoustic, hypothesis.lm) == pytest.approx((-len(totals), -2 * len(totals)))


def test_tool_decodes_a_long_recording_in_bounded_memory(
    long_set: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    near_sighted(long_set.parent, tmp_path, True, "default")
    options = {"checkpoint": tmp_path / "ctc.pt", "manifest": long_set}
    read, sizes = soundfile.SoundFile.read, []

    def watched(file: soundfile.SoundFile, frames: int, **others: object) -> np.ndarray:
        sizes.append(frames)
        return read(file, frames, **others)

    assert run_with("decode", *arguments(options, tmp_path / "whole"), "--window", 0, "--logits") == 0
    windows = ("--window", 1.2, "--overlap", 0.4, "--batch-seconds", 3)
    with mock.patch.object(soundfile.SoundFile, "read", watched):
        assert run_with("decode", *arguments(options, tmp_path / "windows"), *windows, "--logits") == 0
    # The short recording is read whole, the long one never more than a window (and its ten seconds of statistics).
    assert 0 < max(size for size in sizes if size < 50_000) <= 59 * 320 + 400
    whole, stitched = (np.load(tmp_path / name / "logits" / "long0.npy") for name in ("whole", "windows"))
    assert np.abs(whole - stitched).max() < 2e-5
    for name in ("hyp.trn", "hyp.ctm"):
        assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "windows" / name).read_bytes()
    assert len(read_trn(tmp_path / "windows" / "hyp.trn")["long0"].split()) > 3
    assert run_tool("decode", **options, out=tmp_path / "bad", window=5, overlap=5) == 2
    assert "windows of 5.0 s that overlap by 5.0 s; expected 0 <= overlap < window" in capsys.readouterr().err


def arguments(options: dict[str, Path], out: Path) -> list[object]:
    return [part for name, value in {**options, "out": out}.items() for part in (f"--{name}", value)]


def test_a_long_recording_is_searched_in_segments(long_set: Path, tmp_path: Path, checkpoint: Path) -> None:
    model, manifest, sizes = load_ctc(checkpoint), read_manifest(long_set), []

    def search(log_probs_TV: torch.Tensor) -> list[Hypothesis]:
        sizes.append(len(log_probs_TV))
        return greedy_search(model)(log_probs_TV)

    transcribe(model, manifest, tmp_path / "j", {}, DecodingOptions(search, windows=WINDOWS))
    assert sizes[0] == 29
    assert sum(sizes[1:]) == 312
    assert len(sizes) > 2
    assert max(sizes) < (MOST + 1) * WINDOWS.frames


def test_a_manifest_of_long_recordings_alone(checkpoint: Path, long_set: Path, tmp_path: Path) -> None:
    write_manifest(tmp_path / "one.tsv", read_manifest(long_set).root, [("long0.wav", SAMPLES)])
    model = load_ctc(checkpoint)
    options = DecodingOptions(windows=windows_of(model, 1.2, 0.4))
    decoded = transcribe(model, read_manifest(tmp_path / "one.tsv"), tmp_path / "j", {}, options)
    assert list(decoded.hypotheses) == ["long0"]
    assert decoded.audio_seconds == SAMPLES / 16000
    assert windows_of(model, 60, 8) == Windows(3000, 400)
    assert windows_of(model, 0, 8) is None

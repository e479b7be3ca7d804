"""Decoding against unmodified fairseq, alone and in batches, and the times of words."""

from __future__ import annotations

import dataclasses
import itertools
import math
from pathlib import Path

import editdistance
import pytest
import torch
from fairseq.criterions.ctc import CtcCriterion, CtcCriterionConfig
from fairseq.data.data_utils import post_process
from fairseq.data.dictionary import Dictionary
from hypothesis import given
from hypothesis import strategies as st

from ccc_w2v.benchmark.random_ctc import trainer_state
from ccc_w2v.data.manifest import read_manifest
from ccc_w2v.decode.batching import equal_length_batches, padded_batches
from ccc_w2v.decode.ctc_model import CtcModel, load_ctc
from ccc_w2v.decode.greedy import best_path, greedy, timed_words, to_words
from ccc_w2v.decode.network import emit
from ccc_w2v.decode.transcribe import decoding_identity
from ccc_w2v.decode.transcribe import transcribe as transcribe_manifest
from ccc_w2v.errors import InputError
from ccc_w2v.score.wer import score
from tests.tiny_ctc import SAMPLES, WORDS, build_ctc, read_waves, save

LABELS = ("<s>", "<pad>", "</s>", "<unk>", "|", "A", "B", "\u2581C", "D")


def texts_of(model: CtcModel, emissions: list[torch.Tensor]) -> list[str]:
    return [" ".join(to_words(greedy(log_probs_TV, model.blank), model.labels)) for log_probs_TV in emissions]


def test_shortest_audio_is_one_frame_of_the_encoder(checkpoint: Path) -> None:
    model = load_ctc(checkpoint)
    assert model.min_samples == 400  # wav2vec 2.0's receptive field: 25 ms at 16 kHz
    assert len(emit(model, [torch.randn(400, generator=torch.Generator().manual_seed(0))])[0]) == 1
    with pytest.raises(RuntimeError):
        emit(model, [torch.zeros(399)])


@pytest.mark.parametrize(("normalize", "extractor_mode"), [(False, "default"), (True, "layer_norm")])
def test_agrees_with_fairseqs_validation(test_set: Path, tmp_path: Path, normalize: bool, extractor_mode: str) -> None:
    task, network, cfg = build_ctc(test_set.parent, normalize=normalize, extractor_mode=extractor_mode)
    model = load_ctc(save(trainer_state(task, network, cfg), tmp_path / "ctc.pt"))
    texts = texts_of(model, emit(model, read_waves(test_set)))
    assert all(texts)

    task.load_dataset("test")
    criterion = CtcCriterion(CtcCriterionConfig(sentence_avg=True), task).eval()
    for index, (text, reference) in enumerate(zip(texts, WORDS, strict=True)):
        _, _, logged = criterion(network, task.dataset("test").collater([task.dataset("test")[index]]))
        assert logged["w_total"] == len(reference.split())
        assert logged["w_errors"] == editdistance.eval(text.split(), reference.split())


def test_a_mixed_batch_is_each_utterance_alone(checkpoint: Path, test_set: Path) -> None:
    model, waves = load_ctc(checkpoint), read_waves(test_set)
    together = emit(model, waves)
    alone = [emit(model, [wave])[0] for wave in waves]
    for left, right in zip(together, alone, strict=True):
        torch.testing.assert_close(left, right, atol=1e-5, rtol=0)
    assert texts_of(model, together) == texts_of(model, alone)
    assert len(set(texts_of(model, alone))) > 1
    torch.testing.assert_close(together[0].exp().sum(-1), torch.ones(len(together[0])))


@given(st.lists(st.integers(1, 30), max_size=40), st.integers(1, 100))
def test_batches_hold_each_utterance_once_and_one_length(lengths: list[int], most: int) -> None:
    batches = equal_length_batches(lengths, most)
    assert sorted(itertools.chain(*batches)) == list(range(len(lengths)))
    for batch in batches:
        assert len({lengths[position] for position in batch}) == 1
        assert len(batch) == 1 or sum(lengths[position] for position in batch) <= most


@given(st.lists(st.integers(1, 300), max_size=40), st.integers(1, 2000), st.sampled_from([0.2, 0.5]))
def test_padded_batches_hold_each_utterance_once_and_little_padding(
    lengths: list[int], most: int, most_padding: float
) -> None:
    batches = padded_batches(lengths, most, most_padding)
    assert sorted(itertools.chain(*batches)) == list(range(len(lengths)))
    for batch in batches:
        longest = max(lengths[position] for position in batch)
        assert len(batch) == 1 or len(batch) * longest <= most
        assert min(lengths[position] for position in batch) >= (1 - most_padding) * longest


@pytest.mark.parametrize(("normalize", "extractor_mode"), [(False, "default"), (True, "layer_norm")])
def test_batches_of_1_and_16_have_one_word_error_rate(
    test_set: Path, tmp_path: Path, normalize: bool, extractor_mode: str
) -> None:
    model = load_ctc(
        save(
            trainer_state(*build_ctc(test_set.parent, normalize=normalize, extractor_mode=extractor_mode)),
            tmp_path / "ctc.pt",
        )
    )
    generator = torch.Generator().manual_seed(0)
    waves = [0.1 * torch.randn(length, generator=generator) for length in range(9000, 9000 + 16 * 123, 123)]
    together, alone = emit(model, waves, max_samples=16 * 11000), [emit(model, [wave])[0] for wave in waves]
    assert len(padded_batches([len(wave) for wave in waves], 16 * 11000)) == 1
    assert model.pads is (extractor_mode == "layer_norm")
    for left, right in zip(together, alone, strict=True):
        torch.testing.assert_close(left, right, atol=1e-5, rtol=0)
    # Rates against the texts themselves, which say something and differ: none of 16 changes.
    references = dict(enumerate(texts_of(model, alone)))
    assert all(references.values())
    assert len(set(references.values())) == 16
    assert score(references, dict(enumerate(texts_of(model, together)))).error_rate == 0


def test_padding_changes_a_group_norm_model(checkpoint: Path) -> None:
    # Why such models decode in batches of equal length: padded, the shorter utterance's frames would move.
    model, generator = load_ctc(checkpoint), torch.Generator().manual_seed(0)
    waves = [0.1 * torch.randn(length, generator=generator) for length in (9000, 10800)]
    padded = emit(dataclasses.replace(model, pads=True), waves)[0]
    assert (padded - emit(model, waves)[0]).abs().max() > 1e-3


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_near_and_comes_back_in_single(checkpoint: Path, test_set: Path, dtype: torch.dtype) -> None:
    model, waves = load_ctc(checkpoint), read_waves(test_set)[:1]
    single = emit(model, waves)[0]
    model.network.to(dtype)
    half = emit(model, waves)[0]
    assert half.dtype == torch.float32
    difference = (half - single).abs().max()
    assert 0 < difference < (0.5 if dtype == torch.bfloat16 else 0.06)


@given(st.lists(st.integers(0, 3), min_size=1))
def test_greedy_collapses_then_drops_blanks(best: list[int]) -> None:
    log_probs_TV = torch.nn.functional.one_hot(torch.tensor(best), 4).float().log_softmax(-1)
    assert greedy(log_probs_TV, 0) == [symbol for symbol, _ in itertools.groupby(best) if symbol != 0]


def test_best_path_holds_frames_and_their_mean() -> None:
    # Blank is 0: frames 1 and 2 are one symbol, a blank parts it from frame 4.
    probabilities_TV = torch.tensor([[0.9, 0.1], [0.2, 0.8], [0.5, 0.5001], [0.6, 0.4], [0.1, 0.9]])
    first, second = best_path(probabilities_TV.log(), blank=0)
    assert (first.index, first.first, first.last) == (1, 1, 2)
    assert first.log_prob == pytest.approx((math.log(0.8) + math.log(0.5001)) / 2)
    assert (second.index, second.first, second.last) == (1, 4, 4)


def model_of(labels: tuple[str, ...], kind: str) -> CtcModel:
    """Return a model without a network, of 20 ms a frame."""
    return CtcModel(torch.nn.Module(), labels, 0, 16000, False, kind, 400, 320, False)


@pytest.mark.parametrize("kind", ["letter", "sentencepiece"])
@given(best=st.lists(st.integers(0, len(LABELS) - 1), min_size=1))
def test_timed_words_are_the_words_in_order(kind: str, best: list[int]) -> None:
    log_probs_TV = (4 * torch.nn.functional.one_hot(torch.tensor(best), len(LABELS)).float()).log_softmax(-1)
    words = timed_words(best_path(log_probs_TV, 0), model_of(LABELS, kind))
    assert [word.text for word in words] == to_words(greedy(log_probs_TV, 0), LABELS, kind)
    end = 0.0
    for word in words:
        assert end - 1e-9 <= word.start < word.start + word.duration <= 0.02 * len(best) + 1e-9
        assert word.confidence == pytest.approx(log_probs_TV.max().exp().item())
        end = word.start + word.duration


def test_a_words_time_is_its_letters_frames() -> None:
    best = [4, 5, 5, 0, 6, 4, 0, 8, 4]  # | A A _ B | _ D |
    log_probs_TV = (4 * torch.nn.functional.one_hot(torch.tensor(best), len(LABELS)).float()).log_softmax(-1)
    first, second = timed_words(best_path(log_probs_TV, 0), model_of(LABELS, "letter"))
    assert (first.text, first.start, first.duration) == ("AB", pytest.approx(0.02), pytest.approx(0.08))
    assert (second.text, second.start, second.duration) == ("D", pytest.approx(0.14), pytest.approx(0.02))


@pytest.mark.parametrize("kind", ["letter", "sentencepiece"])
@given(ids=st.lists(st.integers(0, len(LABELS) - 1)))
def test_words_are_fairseqs(kind: str, ids: list[int]) -> None:
    dictionary = Dictionary()
    for label in LABELS[4:]:
        dictionary.add_symbol(label)
    assert to_words(ids, LABELS, kind) == post_process(dictionary.string(ids), kind).split()


def test_nan_names_the_utterance(checkpoint: Path) -> None:
    model = load_ctc(checkpoint)
    with torch.no_grad():
        model.network.w2v_encoder.proj.bias[3] = float("nan")
    with pytest.raises(InputError, match="1272-128104-0001: the network gives NaN"):
        emit(model, [torch.ones(4000)], ["1272-128104-0001"])


def test_transcribes_in_the_manifests_order(checkpoint: Path, test_set: Path, tmp_path: Path) -> None:
    model, manifest = load_ctc(checkpoint), read_manifest(test_set)
    result = transcribe_manifest(model, manifest, tmp_path / "j", decoding_identity(model, [checkpoint], manifest))
    expected = texts_of(model, emit(model, read_waves(test_set)))
    assert list(result.texts.items()) == [(f"test{index}", text) for index, text in enumerate(expected)]
    assert result.audio_seconds == sum(SAMPLES) / 16000
    assert result.resumed == 0

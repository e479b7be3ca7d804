"""A mixture's file and fairseq's settings for one: what they say, and the one sentence for what they cannot say."""

from pathlib import Path

import pytest

from ccc_w2v.data.mixture import MixedCorpus, fairseq_mixture, read_mixture
from ccc_w2v.errors import InputError


def written(tmp_path, text):
    path = tmp_path / "mixture.yaml"
    path.write_text(text)
    return path


def test_a_file_says_what_each_corpus_is(tmp_path):
    path = written(
        tmp_path,
        "weights: given\ncorpora:\n  read: {manifest: a.tsv, weight: 3}\n"
        "  phone: {manifest: /b.tsv, weight: 1, augment: telephone, on_bad_audio: skip}\n"
        "  none: {manifest: c, weight: 0}\n",
    )
    mixture = read_mixture(path)
    assert mixture.corpora == (
        MixedCorpus("read", tmp_path / "a.tsv", 3),
        MixedCorpus("phone", Path("/b.tsv"), 1, "telephone", "skip"),
    )
    assert mixture.shares([10.0, 1.0]) == [0.75, 0.25]


@pytest.mark.parametrize(
    ("head", "shares"),
    [
        ("", [0.8, 0.2]),
        ("weights: hours\n", [0.8, 0.2]),
        ("weights: temperature\ntemperature: 2\n", [2 / 3, 1 / 3]),
        ("weights: temperature\ntemperature: 1000000\n", [0.5, 0.5]),
    ],
)
def test_shares_follow_the_hours(tmp_path, head, shares):
    mixture = read_mixture(written(tmp_path, head + "corpora:\n  a: {manifest: a.tsv}\n  b: {manifest: b.tsv}\n"))
    assert mixture.shares([400.0, 100.0]) == pytest.approx(shares, abs=1e-5)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[]", "mixture.yaml: expected weights, corpora"),
        ("corpora: {}", "mixture.yaml: expected weights, corpora"),
        ("corpora: {a: {manifest: a}}\nweight: 1", "unknown key 'weight'"),
        ("corpora: {a: {manifest: a}}\nweights: size", "weights: size: expected one of hours, temperature, given"),
        ("corpora: {a: {manifest: a}}\ntemperature: 2", "temperature: a positive number, for weights: temperature"),
        ("corpora: {a: {manifest: a}}\nweights: temperature", "temperature: a positive number"),
        ("corpora: {a: {manifest: a}}\nweights: temperature\ntemperature: 0", "temperature: a positive number"),
        ("corpora: {a: {path: a}}", "corpus a: expected manifest"),
        ("corpora: {a: {manifest: a, rate: 8000}}", "corpus a: expected manifest"),
        ("corpora: {a b: {manifest: a}}", "corpus 'a b': a name has letters"),
        ("corpora: {a: {manifest: a, weight: 1}}", "corpus a: weight: 1: with weights: given"),
        ("corpora: {a: {manifest: a}}\nweights: given", "corpus a: weight: None"),
        ("corpora: {a: {manifest: a, weight: -1}}\nweights: given", "corpus a: weight: -1"),
        ("corpora: {a: {manifest: a, weight: 0}}\nweights: given", "every corpus has weight 0"),
        ("corpora: {a: {manifest: a, on_bad_audio: stop}}", "on_bad_audio: stop: expected raise or skip"),
    ],
)
def test_a_mistake_is_one_sentence(tmp_path, text, message):
    with pytest.raises(InputError, match=message):
        read_mixture(written(tmp_path, text))


def test_fairseqs_settings_are_a_mixture_by_utterances():
    mixture = fairseq_mixture("/data", "en: train_en ,de:train_de", "en,de,fr", "0.5, 0.3, 0.2")
    assert mixture.corpora == (
        MixedCorpus("en", Path("/data/train_en.tsv"), 0.5),
        MixedCorpus("de", Path("/data/train_de.tsv"), 0.3),
    )
    assert mixture.of_utterances
    assert mixture.shares([1.0, 99.0]) == pytest.approx([0.625, 0.375])


@pytest.mark.parametrize(
    ("split", "keys", "weights", "message"),
    [
        ("train", "en,de", "0.5,0.5", "dataset.train_subset=train: 'train': .*expected key:manifest"),
        ("en:a,fr:b", "en,de", "0.5,0.5", "'fr:b'"),
        ("en:a", "en,de", None, "multi_corpus_sampling_weights=None: expected a number"),
        ("en:a", "en,de", "0.5", "expected a number of at least 0 for each of the 2"),
        ("en:a", "en,de", "0.5,x", "multi_corpus_sampling_weights=0.5,x"),
        ("en:a", "en", "nan", "multi_corpus_sampling_weights=nan"),
        ("en:a,en:b", "en", "1", "a corpus stands there twice"),
    ],
)
def test_fairseqs_settings_that_do_not_fit_are_one_sentence(split, keys, weights, message):
    with pytest.raises(InputError, match=message):
        fairseq_mixture("/data", split, keys, weights)

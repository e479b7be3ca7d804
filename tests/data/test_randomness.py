import torch

from ccc_w2v.data.randomness import generator_for, seed_for


def test_a_seed_depends_on_everything_it_is_given():
    seeds = {
        seed_for(*key)
        for key in [(1, "crop", 1, 5), (2, "crop", 1, 5), (1, "mask", 1, 5), (1, "crop", 2, 5), (1, "crop", 1, 6)]
    }
    assert len(seeds) == 5
    # Digits must not run together: epoch 1, utterance 23 is not epoch 12, utterance 3.
    assert seed_for(1, "crop", 1, 23) != seed_for(1, "crop", 12, 3)


def test_generators_replay_and_do_not_touch_the_global_one():
    state = torch.get_rng_state()
    first = torch.randn(8, generator=generator_for(7, "augment", 3, 11))
    again = torch.randn(8, generator=generator_for(7, "augment", 3, 11))
    assert torch.equal(first, again)
    assert torch.equal(state, torch.get_rng_state())

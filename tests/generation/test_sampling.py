"""Which tokens may be chosen and how often they are, against transformers' own processors and OpenAI's formula."""

from collections import Counter

import pytest
import torch
from transformers import (
    LogitsProcessorList,
    MinPLogitsWarper,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from sendnn_pipeline.generation.messages import Sampling
from sendnn_pipeline.generation.sampling.choose import choose
from sendnn_pipeline.generation.sampling.processors import make_processors

DRAWS = 4000
# More than are sorted first, and so flat that not even these are enough.
SIZES = {"a few": (40, 2.0), "many": (700, 2.0), "many alike": (700, 0.01)}
ASKED = [
    {"temperature": 1.0},
    {"temperature": 0.6},
    {"temperature": 1.3, "top_k": 5},
    {"temperature": 1.0, "top_k": 300},
    {"temperature": 1.0, "top_k": 10**9},
    {"temperature": 1.0, "top_p": 0.7},
    {"temperature": 1.0, "top_p": 0.999},
    {"temperature": 1.0, "top_p": 1e-9},
    {"temperature": 1.0, "top_p": 1e-300},
    {"temperature": 1.0, "min_p": 0.2},
    {"temperature": 0.8, "top_k": 12, "top_p": 0.8, "min_p": 0.05},
]


def logits_of(size, spread):
    return torch.randn(size, generator=torch.Generator().manual_seed(3)) * spread


def expected(logits, temperature, top_k=0, top_p=1.0, min_p=0.0):
    """Return what transformers draws from."""
    asked = LogitsProcessorList([TemperatureLogitsWarper(temperature)])
    if top_k:
        asked.append(TopKLogitsWarper(top_k))
    if top_p < 1:
        asked.append(TopPLogitsWarper(top_p))
    if min_p:
        asked.append(MinPLogitsWarper(min_p))
    return asked(torch.zeros(1, 1, dtype=torch.int64), logits[None].clone())[0].double().softmax(-1)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("asked", ASKED, ids=str)
def test_tokens_come_as_often_as_transformers_draws_them(asked, size):
    logits = logits_of(*SIZES[size])
    wanted = expected(logits, **asked)
    sampling = Sampling(**asked, seed=7)
    found = Counter(choose(logits.clone(), sampling, position) for position in range(DRAWS))
    assert all(wanted[token] > 0 for token in found)
    # Half the sum of differences; what as many fair draws differ by is at most this in the mean.
    shares = torch.tensor([found[token] / DRAWS for token in range(len(wanted))])
    fair = (wanted * (1 - wanted) / DRAWS).sqrt().sum() / 2
    assert (shares - wanted).abs().sum() / 2 <= 1.2 * fair + 1e-9
    if (wanted > 0).sum() < 20:
        assert found.keys() == set(wanted.nonzero().flatten().tolist())


def test_a_position_and_a_seed_decide_and_nothing_else():
    logits = logits_of(40, 2.0)
    draws = {seed: [choose(logits, Sampling(seed=seed), place) for place in range(64)] for seed in (-5, 0, 1, 2**62)}
    assert len({tuple(drawn) for drawn in draws.values()}) == 4
    assert draws[1] == [choose(logits.clone(), Sampling(seed=1), place) for place in range(64)]


@pytest.mark.parametrize("penalty", [0.5, 1.3])
def test_a_repetition_costs_what_it_costs_in_transformers(penalty):
    prompt, answer = [3, 4, 4], [9, 9, 3]
    logits, token_ids = logits_of(40, 2.0), prompt + answer
    wanted = RepetitionPenaltyLogitsProcessor(penalty)(torch.tensor([token_ids]), logits[None].clone())[0]
    processors = make_processors(Sampling(repetition_penalty=penalty), prompt, 40)
    for token in answer:
        processors.chosen(token)
    processors.apply(logits, token_ids)
    torch.testing.assert_close(logits, wanted)


def test_frequencies_and_presence_count_in_the_answer_alone():
    prompt, answer = [3, 4, 4], [9, 9, 5]
    logits = logits_of(40, 2.0)
    # OpenAI: mu[j] - c[j] * frequency - (c[j] > 0) * presence.
    counts = torch.bincount(torch.tensor(answer), minlength=40)
    wanted = logits - counts * 0.7 - (counts > 0) * 0.4
    processors = make_processors(Sampling(frequency_penalty=0.7, presence_penalty=0.4), prompt, 40)
    for token in answer:
        processors.chosen(token)
    processors.apply(logits, prompt + answer)
    torch.testing.assert_close(logits, wanted)


def test_a_word_of_several_tokens_is_forbidden_behind_its_beginning_alone():
    sampling = Sampling(bad_words=[[5, 6, 7], [8]])
    for before, forbidden in (([1, 5, 6], {7, 8}), ([5, 1, 6], {8}), ([6], {8}), ([5], {8})):
        logits = torch.zeros(12)
        make_processors(sampling, [1], 12).apply(logits, before)
        assert set((logits == -torch.inf).nonzero().flatten().tolist()) == forbidden


def test_bias_moves_what_is_allowed_and_nothing_that_is_not():
    logits = torch.zeros(8)
    sampling = Sampling(logit_bias={2: 5.0, 3: -1.5, 7: 100.0}, allowed_token_ids=[1, 2, 3], stop_token_ids=[1])
    make_processors(sampling, [0], 8).apply(logits, [0])
    assert logits.tolist() == [-torch.inf, 0.0, 5.0, -1.5, *[-torch.inf] * 4]


def test_an_end_is_not_allowed_before_enough_tokens():
    sampling = Sampling(min_tokens=2, stop_token_ids=[1, 3])
    for answer, forbidden in (([], [1, 3]), ([5], [1, 3]), ([5, 6], [])):
        logits = torch.zeros(8)
        make_processors(sampling, [0, 0], 8).apply(logits, [0, 0, *answer])
        assert (logits == -torch.inf).nonzero().flatten().tolist() == forbidden

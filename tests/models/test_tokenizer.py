"""The vocabulary of our own: byte-pair encoding by hand, inside stock CLIPTokenizer."""

from __future__ import annotations

from difftuning.models.tokenizer import build_tokenizer, learn_merges


def test_the_most_frequent_pair_merges_first_and_ties_go_by_the_alphabet():
    assert learn_merges(["low", "lower", "slow"], 2) == [("l", "o"), ("lo", "w</w>")]
    assert learn_merges(["ab", "cd"], 9) == [("a", "b</w>"), ("c", "d</w>")]  # no pair is left


def test_words_of_the_list_are_one_token_and_others_are_spelled():
    tokenizer = build_tokenizer(["a small wide shoe", "a small T-shirt"], max_tokens=12)
    ids = tokenizer("A small shoe, 42 q", padding="max_length", max_length=12).input_ids
    pieces = tokenizer.convert_ids_to_tokens(ids)
    assert pieces[:8] == ["<|startoftext|>", "a</w>", "small</w>", "shoe</w>", ",</w>", "4</w>", "2</w>", "q</w>"]
    assert pieces[8:] == ["<|endoftext|>"] * 4
    assert max(tokenizer.get_vocab().values()) == len(tokenizer) - 1


def test_the_order_of_the_captions_does_not_matter():
    one, other = (build_tokenizer(captions, max_tokens=8).get_vocab() for captions in (["ab cd", "efg"], ["efg cd", "ab"]))
    assert one == other

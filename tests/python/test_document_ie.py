"""The document demo: windows, prompts, batches and scores, with a tokenizer trained on the data."""

import json

import pytest

pytest.importorskip("tokenizers", reason="the demo's tokenizer: pip install tokenizers")

from based_bench import document_ie as demo
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

DEVICES = [("Acme", "pump"), ("Borealis", "lens"), ("Cygnus", "probe")]
TEXTS = [
    f"The device is made by {maker}. It is a {thing} of class II and was cleared in 2019."
    for maker, thing in DEVICES
]


@pytest.fixture(scope="module")
def tokenizer():
    """Byte-level BPE, as GPT-2's, of the texts."""
    found = Tokenizer(models.BPE())
    found.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    found.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=320,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    found.train_from_iterator(TEXTS, trainer)
    return found


def chosen():
    return [
        demo.Example(text, "made by", maker)
        for text, (maker, _) in zip(TEXTS, DEVICES, strict=True)
    ]


def test_a_prompt_is_the_document_and_the_key(tokenizer):
    assert demo.prompt(chosen()[0], tokenizer) == TEXTS[0].strip(".") + ". Made by:"
    question = demo.Example(TEXTS[1], "the maker is", "Borealis", is_question=True)
    assert demo.prompt(question, tokenizer).endswith("in 2019. The maker is")


def test_a_key_at_the_documents_end_is_taken_off(tokenizer):
    for ending in ("made by", "Made by:"):
        example = demo.Example(f"Acme makes it. {ending}", "made by", "Acme")
        assert demo.prompt(example, tokenizer) == "Acme makes it. . Made by:"


@pytest.mark.parametrize("place", [0.0, 0.5, 1.0])
def test_a_window_lies_around_the_value(tokenizer, place):
    words = ["word"] * 400
    words[int(place * 399)] = "NEEDLE"
    example = demo.Example(" ".join(words), "key", "needle")  # found whatever its case
    text = demo.prompt(example, tokenizer, window=60)
    shown = text.removesuffix(". Key:")
    assert "NEEDLE" in shown
    assert 55 <= len(tokenizer.encode(shown).ids) <= 60 or place == 1.0


def test_batches_are_padded_on_the_left_to_their_longest(tokenizer):
    (pad,) = tokenizer.encode(" ").ids
    parts = list(demo.batches(chosen(), tokenizer, 2))
    assert [len(part) for part, _ in parts] == [2, 1]
    for part, ids in parts:
        assert len({len(each) for each in ids}) == 1
        for example, each in zip(part, ids, strict=True):
            wanted = tokenizer.encode(demo.prompt(example, tokenizer)).ids
            assert each[len(each) - len(wanted) :] == wanted
            assert set(each[: len(each) - len(wanted)]) <= {pad}


def test_every_example_is_answered_and_scored(tokenizer):
    seen, told = [], []

    def generate(ids, new_tokens):
        """Knows the first two makers, and begins with a blank and in capitals."""
        seen.append((len(ids), new_tokens))
        texts = [tokenizer.decode(each) for each in ids]
        makers = [
            next((m for m, _ in DEVICES[:2] if m in text), "nobody").upper() for text in texts
        ]
        return [tokenizer.encode(f" {maker} and more").ids for maker in makers]

    found, seconds = demo.answers(
        chosen(), tokenizer, generate, batch=2, new_tokens=7, progress=lambda *at: told.append(at)
    )
    assert seen == [(2, 7), (1, 7)]
    assert [answer.right for answer in found] == [True, True, False]
    assert [at[:2] for at in told] == [(2, 2), (3, 2)]
    assert seconds > 0


def test_a_file_has_an_example_a_line(tmp_path):
    path = tmp_path / "data.jsonl"
    rows = [
        {"text": "a b", "key": "k", "value": "b"},
        {"text": "c d", "question": "q", "value": ["d", "e"]},
    ]
    path.write_text("\n\n".join(map(json.dumps, rows)))
    assert demo.examples(str(path)) == [
        demo.Example("a b", "k", "b"),
        demo.Example("c d", "q", "d", is_question=True),
    ]


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("{", "line 2: is no JSON"),
        ('{"text": "a", "key": "k"}', "line 2: wants the texts"),
        ('{"text": "", "key": "k", "value": "v"}', "line 2: wants the texts"),
        ("[1]", "line 2: wants the texts"),
    ],
)
def test_a_bad_line_is_named(tmp_path, line, says):
    path = tmp_path / "data.jsonl"
    path.write_text('{"text": "a b", "key": "k", "value": "b"}\n' + line)
    with pytest.raises(demo.DataError, match=says):
        demo.examples(str(path))


def test_no_data_is_one_line(tmp_path):
    with pytest.raises(demo.DataError, match="none of fda, swde, squad"):
        demo.examples("fdb")
    (tmp_path / "empty.jsonl").write_text("\n")
    with pytest.raises(demo.DataError, match="holds no example"):
        demo.examples(str(tmp_path / "empty.jsonl"))

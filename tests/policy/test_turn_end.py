"""Which tokens end a completion: those of four places, and nothing that a turn goes on after."""

import json
import re

import pytest
import torch

from purified_opsd.data.prompts import PromptBuilder, Prompts
from purified_opsd.errors import ModelError
from purified_opsd.policy.loading import load_policy, load_tokenizer
from purified_opsd.policy.model import LoRA, Model
from purified_opsd.policy.turn_end import eos_ids
from purified_opsd.sampling.hf import HFSampler
from purified_opsd.sampling.sampler import Sampling

from ..conftest import byte_tokenizer
from .families import save_tiny

CPU = torch.device("cpu")
EXTRA = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<think>", "</think>", "<|call|>"]
CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
THINKING = (  # a finished turn has an empty block, a generation prompt opens one
    "{% for m in messages %}<|im_start|>{{ m.role }}\n"
    "{% if m.role == 'assistant' %}<think>\n\n</think>\n\n{% endif %}"
    "{{ m.content | trim }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n<think>\n{% endif %}"
)
CLOSED_BY_EOS = (  # Llama-2: a user's turn ends in text, and a space comes before the end
    "{% for m in messages %}{% if m.role == 'user' %}[INST] {{ m.content }} [/INST]"
    "{% else %} {{ m.content }} {{ eos_token }}{% endif %}{% endfor %}"
)
OPEN = (  # GLM-4: nothing is written after the model's turn
    "{% for m in messages %}<|{{ m.role }}|>\n{{ m.content }}{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
HEADER_ALWAYS = (
    "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}Assistant: <think>\n"
)


class Case:
    """A tiny model in a folder, of which each place may name other ends."""

    def __init__(self, folder, template):
        self.tokenizer = byte_tokenizer(template)
        self.tokenizer.add_special_tokens({"additional_special_tokens": EXTRA[:3] + EXTRA[5:]})
        self.tokenizer.add_tokens(EXTRA[3:5])
        self.folder = save_tiny(folder, "qwen3", {"head_dim": 8}, self.tokenizer)

    def id(self, token):
        return self.tokenizer.convert_tokens_to_ids(token)

    def name(self, *, generation=None, config=None, tokenizer=None):
        """Writes what each place names; None: it names none."""
        for file, key, value in (
            ("generation_config.json", "eos_token_id", generation),
            ("config.json", "eos_token_id", config),
            ("tokenizer_config.json", "eos_token", tokenizer),
        ):
            path = self.folder / file
            record = json.loads(path.read_text())
            record[key] = value
            path.write_text(json.dumps(record))
        return self

    def load(self):
        settings = Model(str(self.folder), dtype="float32")
        adapter = LoRA(rank=2, alpha=2, targets=("q_proj",))
        return load_policy(settings, adapter, load_tokenizer(settings), 0, CPU)

    def ends(self):
        return {self.tokenizer.convert_ids_to_tokens(i) for i in eos_ids(self.load().base)}


@pytest.fixture
def case(tmp_path):
    return lambda template: Case(tmp_path / "model", template)


def test_the_templates_end_counts_where_the_configs_name_another(case, caplog):
    chatml = case(CHATML)
    end_of_text = chatml.id("<|endoftext|>")
    chatml.name(generation=end_of_text, config=end_of_text, tokenizer="<|im_end|>")
    assert chatml.ends() == {"<|endoftext|>", "<|im_end|>"}
    (message,) = caplog.messages
    assert (
        f"<|endoftext|> ({end_of_text}), by the generation config and the model config" in message
    )
    assert "<|im_end|>" in message
    assert "by the tokenizer and the chat template" in message


def test_each_place_alone_is_enough_and_where_all_agree_nothing_is_logged(case, caplog):
    chatml = case(CHATML)
    end = chatml.id("<|im_end|>")
    chatml.name(generation=[end], config=end, tokenizer="<|im_end|>")
    assert chatml.ends() == {"<|im_end|>"}
    assert caplog.messages == []
    only_template = chatml.name()
    assert only_template.ends() == {"<|im_end|>"}
    open_turn = case(OPEN)
    assert open_turn.name(generation=[end]).ends() == {"<|im_end|>"}
    assert open_turn.name(config=[end, open_turn.id("<|user|>")]).ends() == {
        "<|im_end|>",
        "<|user|>",
    }
    assert open_turn.name(tokenizer="<|endoftext|>").ends() == {"<|endoftext|>"}


@pytest.mark.parametrize(
    ("template", "eos", "expected"),
    [
        (CHATML, "<|endoftext|>", {"<|im_end|>", "<|endoftext|>"}),
        (THINKING, "<|endoftext|>", {"<|im_end|>", "<|endoftext|>"}),
        (CLOSED_BY_EOS, "<|endoftext|>", {"<|endoftext|>"}),
        (OPEN, "<|endoftext|>", {"<|endoftext|>"}),
        (HEADER_ALWAYS, "<|endoftext|>", {"<|endoftext|>"}),
        ("{{ raise_exception('no') }}", "<|endoftext|>", {"<|endoftext|>"}),
        ("{{ messages[0].content[0].text }}", "<|endoftext|>", {"<|endoftext|>"}),
    ],
    ids=["chatml", "thinking", "closed-by-eos", "open", "header", "raises", "parts"],
)
def test_the_first_control_token_after_the_answer_ends_a_turn(case, template, eos, expected):
    assert case(template).name(tokenizer=eos).ends() == expected


def test_an_added_token_that_is_not_special_ends_a_turn_if_it_follows_at_once(case):
    template = CHATML.replace("<|im_end|>", "</think>")
    assert case(template).name(tokenizer="<|endoftext|>").ends() == {"<|endoftext|>", "</think>"}


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        (10_000, "the model has [0-9]+ tokens"),
        (-1, "the model has [0-9]+ tokens"),
        (40, "to the tokenizer it is ordinary text"),
        ("</think>", "the chat template writes it in the middle of the model's turn"),
    ],
)
def test_what_is_no_end_is_not_taken_and_said(case, caplog, wrong, reason):
    thinking = case(THINKING)
    id = thinking.id(wrong) if isinstance(wrong, str) else wrong
    thinking.name(generation=[id, thinking.id("<|call|>")], tokenizer="<|im_end|>")
    assert thinking.ends() == {"<|call|>", "<|im_end|>"}
    said = re.compile(f"The generation config says that {id} ends a completion: {reason}")
    assert any(said.match(message) for message in caplog.messages)


def test_the_template_that_a_run_names_counts_instead_of_the_tokenizers_own(case, tmp_path):
    own = case(OPEN).name(tokenizer="<|endoftext|>")
    (tmp_path / "chatml.jinja").write_text(CHATML)
    settings = Model(str(own.folder), dtype="float32")
    tokenizer = load_tokenizer(settings)
    PromptBuilder(tokenizer, Prompts(template=tmp_path / "chatml.jinja"), room=500)
    policy = load_policy(settings, LoRA(2, 2, ("q_proj",)), tokenizer, 0, CPU)
    assert eos_ids(policy.base) == sorted(map(own.id, ["<|endoftext|>", "<|im_end|>"]))


def test_padding_that_is_the_end_stays_the_end(case):
    chatml = case(CHATML)
    chatml.tokenizer.pad_token = "<|im_end|>"
    chatml.tokenizer.save_pretrained(chatml.folder)
    chatml.name(generation=chatml.id("<|im_end|>"), tokenizer="<|im_end|>")
    assert chatml.ends() == {"<|im_end|>"}


def test_a_model_that_nothing_ends_is_refused(case):
    with pytest.raises(ModelError, match="No token ends a completion of .*sampling.max_new_tokens"):
        case(OPEN).name(generation=40).load()


def test_a_completion_stops_at_the_templates_end_and_keeps_it(case):
    chatml = case(CHATML)
    end_of_text = chatml.id("<|endoftext|>")
    chatml.name(generation=end_of_text, config=end_of_text)
    policy = chatml.load()
    head = policy.base.get_output_embeddings()
    with torch.no_grad():  # the end of the turn is as likely as not
        head.weight[chatml.id("<|im_end|>")] *= 4
    sampling = Sampling(temperature=1.0, top_p=1.0, top_k=0, max_new_tokens=40)
    prompts = [[5 + i, 6, 7] for i in range(8)]
    completions = HFSampler(policy.model, sampling).generate(prompts, list(range(8)))
    stopped = [c for c in completions if c.finish_reason == "stop"]
    assert stopped
    for completion in stopped:
        assert chatml.id("<|im_end|>") not in completion.ids[:-1]
        assert completion.ids[-1] in (chatml.id("<|im_end|>"), end_of_text)

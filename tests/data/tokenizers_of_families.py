"""Small tokenizers of the kinds that chat models have, each with the marks of a family."""

from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers
from transformers import PreTrainedTokenizer, PreTrainedTokenizerFast

LETTERS = [chr(code) for code in range(32, 127)]
CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
LLAMA3 = (
    "{{ bos_token }}{% for m in messages %}<|start_header_id|>{{ m.role }}<|end_header_id|>\n\n"
    "{{ m.content | trim }}<|eot_id|>{% endfor %}"
    "{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}"
)
DEEPSEEK = (
    "{{ bos_token }}{% for m in messages %}{% if m.role == 'user' %}<｜User｜>{{ m.content }}"
    "{% else %}<｜Assistant｜>{{ m.content.split('</think>')[-1] }}{{ eos_token }}{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}<｜Assistant｜><think>\n{% endif %}"
)
MISTRAL = (
    "{{ bos_token }}{% for m in messages %}{% if m.role == 'user' %}[INST] {{ m.content }} [/INST]"
    "{% else %} {{ m.content }}{{ eos_token }}{% endif %}{% endfor %}"
)
GEMMA = (
    "{{ bos_token }}{% if messages[0].role == 'system' %}"
    "{{ raise_exception('System role not supported') }}{% endif %}{% for m in messages %}"
    "<start_of_turn>{{ 'model' if m.role == 'assistant' else m.role }}\n"
    "{{ m.content | trim }}<end_of_turn>\n{% endfor %}"
    "{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}"
)


def byte_level(
    template: str, special: list[str], added: tuple[str, ...] = (), **named: str
) -> PreTrainedTokenizerFast:
    """A token a byte, as the pieces of Qwen's, Llama 3's and DeepSeek's tokenizers."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({letter: i for i, letter in enumerate(alphabet)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return _fast(tokenizer, template, special, added, **named)


def metaspace_bpe(template: str, special: list[str], **named: str) -> PreTrainedTokenizerFast:
    """SentencePiece's way, as Llama 2's and Mistral's: a space before each text, bytes for what no
    piece spells.
    """
    pieces = [*special, *(f"<0x{byte:02X}>" for byte in range(256)), "▁", *LETTERS[1:]]
    merges = [("▁", letter) for letter in "abcxyz<["]
    pieces += ["".join(merge) for merge in merges]
    vocabulary = {piece: i for i, piece in enumerate(dict.fromkeys(pieces))}
    tokenizer = Tokenizer(
        models.BPE(vocabulary, merges=merges, unk_token="<unk>", byte_fallback=True)
    )
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
    )
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    )
    return _fast(tokenizer, template, special, unk_token="<unk>", **named)


def unigram(template: str, special: list[str], **named: str) -> PreTrainedTokenizerFast:
    """A lattice of pieces, among which the special tokens stand like any other."""
    pieces = [("<unk>", 0.0), *((text, -1.0) for text in special if text != "<unk>")]
    pieces += [(letter, -5.0) for letter in ["▁", "\n", *LETTERS[1:]]]
    tokenizer = Tokenizer(models.Unigram(pieces, unk_id=0))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    tokenizer.decoder = decoders.Metaspace(prepend_scheme="never")
    return _fast(tokenizer, template, special, unk_token="<unk>", **named)


def _fast(
    tokenizer: Tokenizer, template: str, special: list[str], added=(), **named: str
) -> PreTrainedTokenizerFast:
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, clean_up_tokenization_spaces=False, **named
    )
    fast.add_special_tokens({"additional_special_tokens": special})
    fast.add_tokens([AddedToken(text, special=False, normalized=False) for text in added])
    fast.chat_template = template
    return fast


class Characters(PreTrainedTokenizer):
    """A tokenizer in Python: a token a character."""

    def __init__(self, **options):
        self.letters = {letter: i for i, letter in enumerate(["\n", *LETTERS])}
        super().__init__(**options)

    @property
    def vocab_size(self):
        return len(self.letters)

    def get_vocab(self):
        return {**self.letters, **self.added_tokens_encoder}

    def _tokenize(self, text):
        return list(text)

    def _convert_token_to_id(self, token):
        return self.letters[token]

    def _convert_id_to_token(self, index):
        return list(self.letters)[index]

    def convert_tokens_to_string(self, tokens):
        return "".join(tokens)


def in_python(template: str, special: list[str], **named: str) -> Characters:
    tokenizer = Characters(clean_up_tokenization_spaces=False, **named)
    tokenizer.add_special_tokens({"additional_special_tokens": special})
    tokenizer.chat_template = template
    return tokenizer


def families() -> dict[str, PreTrainedTokenizer | PreTrainedTokenizerFast]:
    chatml = ["<|im_start|>", "<|im_end|>", "<|endoftext|>"]
    return {
        "qwen": byte_level(
            CHATML,
            chatml,
            ("<think>", "</think>", "<tool_call>", "<|fim_prefix|>", "    "),
            eos_token="<|im_end|>",
        ),
        "llama3": byte_level(
            LLAMA3,
            ["<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"],
            bos_token="<|begin_of_text|>",
            eos_token="<|eot_id|>",
        ),
        "deepseek": byte_level(
            DEEPSEEK,
            ["<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>"],
            ("<｜User｜>", "<｜Assistant｜>", "<think>", "</think>", "<|EOT|>"),
            bos_token="<｜begin▁of▁sentence｜>",
            eos_token="<｜end▁of▁sentence｜>",
        ),
        "mistral": metaspace_bpe(
            MISTRAL,
            ["<unk>", "<s>", "</s>", "[INST]", "[/INST]"],
            bos_token="<s>",
            eos_token="</s>",
        ),
        "gemma": unigram(
            GEMMA,
            ["<unk>", "<bos>", "<eos>", "<start_of_turn>", "<end_of_turn>"],
            bos_token="<bos>",
            eos_token="<eos>",
        ),
        "python": in_python(CHATML, chatml, eos_token="<|im_end|>"),
    }

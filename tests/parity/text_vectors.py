"""Makes data/parity/text.json: what Hugging Face's own libraries make of our tokenizer and of chat templates.

    python tests/parity/text_vectors.py            writes the file
    python tests/parity/text_vectors.py --check    exits with 1 if the file differs from what the libraries say now

Needs `transformers`, `tokenizers` and `jinja2`; PyTorch is not used. The tokenizer itself (data/parity/tokenizer) is made by
`PARL_FREEZE=1 cargo test -p parl-tests --test parity_text` from data/parity/text_corpus.json; here it is loaded as users would,
and trained once more by the library's own trainer.
"""

import json
import sys
from datetime import datetime
from pathlib import Path

import tokenizers
import transformers
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import AutoTokenizer
from transformers.utils import chat_template_utils

DATA = Path(__file__).resolve().parent.parent / "data" / "parity"
FILE = DATA / "text.json"
NOW = datetime(2026, 11, 2, 13, 5, 9)

TEXTS = [
    "",
    " ",
    "plain words, and more words",
    "Don't we'll they've I'm",
    "1234567890123456789012345678901234567890",
    "3.14159 -17 1e-05 0x1F 12:30 2024-01-02",
    "a1b22c333 ² ½ ٣ 一二三 Ⅷ",
    "   three  spaces\t\ttabs \n\n\nlines\r\n\r\nwindows \r mac  ",
    "\n \n  \n",
    "naïve Ünïcödé Straße ﬁ ﷺ",
    "e\u0301 vs \u00e9, \u200b zero\u200dwidth \ufeff bom",
    "日本語のテキスト、中文字符。 한국어 עברית العربية हिन्दी ไทย",
    "🙂🙃 👩\u200d👩\u200d👧\u200d👦 🏳️\u200d🌈 🇩🇪 \U0001f9d1\U0001f3fd",
    "\x00\x01\x1f\x7f\x80\xa0\xad\u2028\u2029\ufffd\U0010ffff",
    "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n",
    "<summary>s</summary><plan>p</plan><tool_call>cd(folder=\"document\")\nls(a=True)</tool_call>",
    " <plan> </plan> <|im_end|>x<|endoftext|> <|im_end<|im_end|>|> <plan",
    "cd(folder='document'); get_stock_info(symbol=\"AAPL\", amount=12.50)",
    "{\"name\": \"cd\", \"arguments\": {\"folder\": \"document\"}}",
    "ĠĊ Ġ ÄÖ ▁ underscore",
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa ........................ ==== ---- ////",
]

TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "cd",
            "description": "Change the directory to <folder> & \"stay\" there; é.",
            "parameters": {
                "type": "object",
                "properties": {"folder": {"type": "string", "description": "Where to"}},
                "required": ["folder"],
            },
        },
    },
    {
        "type": "function",
        "function": {
            "name": "book",
            "description": "",
            "parameters": {
                "type": "object",
                "properties": {
                    "class": {"enum": ["economy", "first", 1, None, True]},
                    "price": {"type": "number", "default": 1e22, "minimum": 0.0},
                    "who": {"type": "array", "items": {"type": "string"}},
                    "any": {},
                },
            },
        },
    },
]


def call(name, arguments, **more):
    return {"type": "function", "function": {"name": name, "arguments": arguments}, **more}


SYSTEM = {"role": "system", "content": "Be brief."}
GREETING = [{"role": "user", "content": "Hello  there "}]
ANSWERED = [*GREETING, {"role": "assistant", "content": "Hi, 12 é🙂\nand <b>more</b>"}]
CALLS = [
    {"role": "user", "content": "Go to 'docs', then book."},
    {
        "role": "assistant",
        "content": "<summary>none</summary><plan>cd, book</plan>",
        "tool_calls": [
            call("cd", {"folder": "do\"cs'\\ \n é🙂\u2028"}),
            call("book", {"class": None, "price": 2.0, "who": ["a", {"b": [True, False, -0.0, 1e-7, 10**17]}], "any": {}}),
        ],
    },
    {"role": "tool", "content": "{\"ok\": true}"},
    {"role": "tool", "content": "booked"},
    {"role": "assistant", "content": "", "tool_calls": [call("cd", {}, text="cd('..')")]},
    {"role": "tool", "content": ""},
    {"role": "assistant", "content": "Done."},
]
LONG = [*ANSWERED, {"role": "user", "content": "More\n"}, *CALLS[1:], {"role": "user", "content": "Third"}]
THINKING = [
    {"role": "user", "content": "2+2?"},
    {"role": "assistant", "content": "<think>\nadd\n</think>\n\n4"},
    {"role": "user", "content": "3+3?"},
    {"role": "assistant", "content": "<think>\nadd again\n</think>\n\n6"},
]
CONVERSATIONS = {
    "greeting": GREETING,
    "system": [SYSTEM, *GREETING],
    "answered": ANSWERED,
    "calls": CALLS,
    "long": [SYSTEM, *LONG],
    "thinking": THINKING,
    "wrong_role": [*GREETING, {"role": "critic", "content": "no"}],
}


def templates(tokenizer):
    yield "built_in", tokenizer.chat_template, {}
    for path in sorted((DATA / "templates").glob("*.jinja")):
        yield path.stem, path.read_text(encoding="utf-8"), {"bos_token": "<s>"} if path.stem == "dialect" else {}


class FixedTime(datetime):
    @classmethod
    def now(cls, tz=None):
        return NOW


def renderings(tokenizer):
    chat_template_utils.datetime = FixedTime
    for name, source, variables in templates(tokenizer):
        for conversation, messages in CONVERSATIONS.items():
            for tools in [None, TOOLS]:
                for prompt in [False, True]:
                    entry = {
                        "template": name,
                        "conversation": conversation,
                        "tools": tools is not None,
                        "add_generation_prompt": prompt,
                        "variables": variables,
                    }
                    try:
                        rendered, generation = chat_template_utils.render_jinja_template(
                            [messages],
                            tools=tools,
                            chat_template=source,
                            add_generation_prompt=prompt,
                            return_assistant_tokens_mask="endgeneration" in source,
                            **variables,
                        )
                    except Exception as error:  # what the template raises is part of what is compared
                        yield {**entry, "error": str(error)}
                        continue
                    said = [rendered[0][start:end] for start, end in generation[0]] if generation else []
                    yield {**entry, "text": rendered[0], "generation": said}


def masked(tokenizer):
    """Whole conversations as tokens, with the tokens that the assistant said."""
    for conversation in ["answered", "calls", "long"]:
        out = tokenizer.apply_chat_template(
            CONVERSATIONS[conversation], tools=TOOLS, return_dict=True, return_assistant_tokens_mask=True
        )
        yield {
            "conversation": conversation,
            "ids": list(out["input_ids"]),
            "loss_mask": [bool(mask) for mask in out["assistant_masks"]],
        }


def encodings(tokenizer):
    plain = Tokenizer.from_file(str(DATA / "tokenizer" / "tokenizer.json"))
    for text in TEXTS:
        ids = plain.encode(text, add_special_tokens=False).ids
        assert tokenizer.encode(text, add_special_tokens=False) == ids, f"AutoTokenizer and Tokenizer differ on {text!r}"
        assert tokenizer.decode(ids) == plain.decode(ids, skip_special_tokens=False) == text, f"{text!r} does not come back"
        yield {"text": text, "ids": ids, "without_control_tokens": plain.decode(ids, skip_special_tokens=True)}


def check_training():
    """The library's own trainer finds the same vocabulary and merges."""
    ours = json.loads((DATA / "tokenizer" / "tokenizer.json").read_text(encoding="utf-8"))
    trained = Tokenizer(models.BPE())
    trained.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    trainer = trainers.BpeTrainer(
        vocab_size=len(ours["model"]["vocab"]),
        min_frequency=2,
        show_progress=False,
        special_tokens=[token["content"] for token in ours["added_tokens"]],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )
    trained.train_from_iterator(json.loads((DATA / "text_corpus.json").read_text(encoding="utf-8")), trainer)
    theirs = json.loads(trained.to_str())["model"]
    assert theirs["vocab"] == ours["model"]["vocab"], "the library's trainer makes another vocabulary"
    assert theirs["merges"] == ours["model"]["merges"], "the library's trainer makes other merges"


def vectors():
    check_training()
    tokenizer = AutoTokenizer.from_pretrained(DATA / "tokenizer")
    return {
        "made_with": {"transformers": transformers.__version__, "tokenizers": tokenizers.__version__},
        "now": NOW.strftime("%Y-%m-%d %H:%M:%S"),
        "special": {"eos": tokenizer.eos_token_id, "pad": tokenizer.pad_token_id, "size": len(tokenizer)},
        "encodings": list(encodings(tokenizer)),
        "tools": TOOLS,
        "conversations": CONVERSATIONS,
        "renderings": list(renderings(tokenizer)),
        "masked": list(masked(tokenizer)),
    }


def main():
    live = vectors()
    if "--check" not in sys.argv[1:]:
        FILE.write_text(json.dumps(live, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
        print(f"{FILE.name}: {len(live['encodings'])} texts, {len(live['renderings'])} renderings")
        return
    frozen = json.loads(FILE.read_text(encoding="utf-8"))
    # Other versions of the libraries may say the same.
    different = [key for key in live if key != "made_with" and live[key] != frozen.get(key)]
    for key in different:
        print(f"{FILE.name}: {key!r} differs from what transformers {transformers.__version__} says now")
    if different:
        sys.exit(1)
    print(f"{FILE.name}: {len(live['encodings'])} texts and {len(live['renderings'])} renderings agree")


if __name__ == "__main__":
    main()

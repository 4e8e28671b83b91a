"""Tiny models with random weights, and what transformers and PyTorch make of them.

Folders in data/parity, each a checkpoint as transformers writes it (config.json, model.safetensors):

  qwen2         Qwen2: 4 query and 2 key heads, biases on q, k and v, tied embeddings; f32
  qwen2-bf16    the same weights in bf16
  llama         Llama: no biases, output embeddings of its own; f32
  smollm2       Llama as SmolLM2 has it: 3 query heads on 1 key head, tied; f16. Its config.json is of the older form
                (`rope_theta` at the top, `torch_dtype`) that most checkpoints on the Hub have

data/parity/transformers.json:

  logits        one entry per folder: model (the folder), sequences (token ids, ragged; each run alone, from position 0),
                logits (by sequence, position and vocabulary). Weights are widened to f32 first; all arithmetic is f32
  training      model (the folder it starts from), learning_rate, betas, eps, weight_decay (on parameters with two
                dimensions alone), max_grad_norm; steps: each with sequences, loss_mask (1 where predicting that token
                carries loss; the first token of a sequence is never predicted), loss (cross-entropy, mean over all tokens
                of the batch that carry loss, before the update) and grad_norm (global, before clipping);
                parameter_norms (L2 norm of every tensor after the last update, by Hugging Face name)

Without options it writes all of that; with --check it loads the frozen folders and compares.

--load DIR is the other direction: DIR holds a checkpoint that the engine has saved and its logits.json with `sequences` and
`logits` as above; transformers loads the checkpoint, and its logits are compared to 1e-4. Every weight that the architecture
has must be there, and nothing else. Without a logits.json it prints one for sequences of its own.
"""

import json
import os
import shutil
import sys
import warnings
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")
warnings.simplefilter("ignore", FutureWarning)

import torch
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM, Qwen2Config, Qwen2ForCausalLM
from transformers.utils import logging

import frozen

FILE = frozen.DATA / "transformers.json"

VOCABULARY = 64
SEQUENCES = [[1, 17, 5, 42, 9, 60, 3], [1, 33, 33, 8, 0, 63, 21, 12, 50, 7, 28, 44]]
COMMON = {"vocab_size": VOCABULARY, "num_hidden_layers": 2, "max_position_embeddings": 128, "bos_token_id": 1, "eos_token_id": 2}
QWEN2 = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "rms_norm_eps": 1e-6,
    "rope_parameters": {"rope_type": "default", "rope_theta": 1000000.0},
    "tie_word_embeddings": True,
}
LLAMA = QWEN2 | {
    "num_key_value_heads": 4,
    "rms_norm_eps": 1e-5,
    "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0},
    "tie_word_embeddings": False,
}
SMOLLM2 = {
    "hidden_size": 24,
    "intermediate_size": 64,
    "num_attention_heads": 3,
    "num_key_value_heads": 1,
    "rms_norm_eps": 1e-5,
    "rope_parameters": {"rope_type": "default", "rope_theta": 100000.0},
    "tie_word_embeddings": True,
}
MODELS = {
    "qwen2": (Qwen2ForCausalLM, Qwen2Config, QWEN2, torch.float32, 1),
    "qwen2-bf16": (Qwen2ForCausalLM, Qwen2Config, QWEN2, torch.bfloat16, 1),
    "llama": (LlamaForCausalLM, LlamaConfig, LLAMA, torch.float32, 2),
    "smollm2": (LlamaForCausalLM, LlamaConfig, SMOLLM2, torch.float16, 3),
}


def save(name):
    """A model with weights that let every part of it show: no bias of 0, no norm of 1, logits of several units."""
    model_class, config_class, options, dtype, seed = MODELS[name]
    model = model_class(config_class(**COMMON, **options))
    source = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for key, parameter in sorted(model.named_parameters()):
            values = torch.randn(parameter.shape, generator=source)
            if key.endswith("bias"):
                values *= 0.3
            elif parameter.dim() == 1:
                values = 1 + 0.2 * values
            else:
                values *= 1.2 / parameter.shape[1] ** 0.5
            parameter.copy_(values)
    folder = frozen.DATA / name
    shutil.rmtree(folder, ignore_errors=True)
    model.to(dtype).save_pretrained(folder)
    (folder / "generation_config.json").unlink(missing_ok=True)
    if name == "smollm2":
        file = folder / "config.json"
        config = json.loads(file.read_text())
        config["rope_theta"] = config.pop("rope_parameters")["rope_theta"]
        config["torch_dtype"] = config.pop("dtype")
        file.write_text(json.dumps(config, indent=2) + "\n")


def load(folder):
    """The model of a folder in f32; a weight that is missing or left over is an error."""
    model, info = AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, attn_implementation="eager", output_loading_info=True, local_files_only=True
    )
    wrong = {kind: names for kind, names in info.items() if names}
    if wrong:
        sys.exit(f"{folder}: {wrong}")
    return model.eval()


def logits_of(model, sequences):
    with torch.no_grad():
        return [model(input_ids=torch.tensor([sequence])).logits[0] for sequence in sequences]


def batches():
    """Five batches of three ragged sequences, with runs of tokens that carry no loss."""
    source = torch.Generator().manual_seed(11)
    for _ in range(5):
        lengths = torch.randint(4, 13, (3,), generator=source).tolist()
        sequences = [torch.randint(0, VOCABULARY, (length,), generator=source).tolist() for length in lengths]
        prompts = [torch.randint(1, length - 1, (1,), generator=source).item() for length in lengths]
        masks = [[int(token >= prompt and token % 5 != 4) for token in range(length)] for prompt, length in zip(prompts, lengths)]
        yield sequences, masks


def training():
    name = "llama"
    options = {"learning_rate": 0.01, "betas": [0.9, 0.95], "eps": 1e-8, "weight_decay": 0.1, "max_grad_norm": 1.0}
    model = load(frozen.DATA / name).train()
    parameters = list(model.parameters())
    groups = [
        {"params": [p for p in parameters if p.dim() >= 2], "weight_decay": options["weight_decay"]},
        {"params": [p for p in parameters if p.dim() < 2], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=options["learning_rate"], betas=options["betas"], eps=options["eps"])
    steps = []
    for sequences, masks in batches():
        total, count = 0.0, 0
        for sequence, mask in zip(sequences, masks):
            logits = model(input_ids=torch.tensor([sequence])).logits[0, :-1]
            losses = torch.nn.functional.cross_entropy(logits, torch.tensor(sequence[1:]), reduction="none")
            mask = torch.tensor(mask[1:])
            total, count = total + (losses * mask).sum(), count + mask.sum()
        loss = total / count
        optimizer.zero_grad()
        loss.backward()
        grad_norm = torch.nn.utils.clip_grad_norm_(parameters, options["max_grad_norm"])
        optimizer.step()
        steps.append({"sequences": sequences, "loss_mask": masks, "loss": loss.detach(), "grad_norm": grad_norm})
    norms = {key: parameter.detach().norm() for key, parameter in model.named_parameters()}
    return {"model": name} | options | {"steps": steps, "parameter_norms": norms}


def make():
    logits = [{"model": name, "sequences": SEQUENCES, "logits": logits_of(load(frozen.DATA / name), SEQUENCES)} for name in MODELS]
    return {"versions": frozen.versions("transformers", "torch", "safetensors"), "logits": logits, "training": training()}


def check_saved(folder):
    model = load(folder)
    file = folder / "logits.json"
    if not file.exists():
        sequences = [[token % model.config.vocab_size for token in sequence] for sequence in SEQUENCES]
        print(json.dumps({"sequences": sequences, "logits": frozen.plain(logits_of(model, sequences))}))
        return
    ours = json.loads(file.read_text())
    frozen.check_logits(ours["logits"], logits_of(model, ours["sequences"]), f"{folder}: transformers loads it as {type(model).__name__}")


def main():
    parser = frozen.arguments(__doc__)
    parser.add_argument("--load", type=Path, metavar="DIR", help="load a checkpoint that the engine has saved")
    args = parser.parse_args()
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    torch.set_num_threads(1)
    if args.load:
        check_saved(args.load)
    elif args.check:
        # Sums in another order give other last digits, and training adds them up.
        frozen.check(FILE, make(), tolerance=2e-5)
    else:
        for name in MODELS:
            save(name)
        frozen.write(FILE, make())


if __name__ == "__main__":
    main()

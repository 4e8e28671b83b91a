"""Adapters as PEFT writes them, and what PEFT makes of them.

Folders in data/parity, each as `PeftModel.save_pretrained` writes it (adapter_config.json, adapter_model.safetensors):

  llama-lora       rank 4, alpha 10, on q_proj, v_proj and down_proj of data/parity/llama; f32
  llama-lora-all   rank 3, alpha 6, on all seven projections (`all-linear`, which PEFT writes as full names)

No factor is 0: fresh adapters would change nothing.

data/parity/lora.json:

  logits   one entry per folder: adapters (the folder), model (the folder of what is adapted), sequences (token ids, ragged;
           each run alone, from position 0), logits (by sequence, position and vocabulary), merged_norms (L2 norms of the
           weights after `merge_and_unload`, by Hugging Face name)

Without options it writes all of that; with --check it loads the frozen folders and compares.

--load DIR is the other direction: DIR holds `base` (a model) and `adapter` (its adapters) that the engine has saved, and
logits.json with `sequences` and `logits` as above; transformers and PEFT load them, and their logits are compared to 1e-4.
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
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors import safe_open
from transformers import AutoModelForCausalLM
from transformers.utils import logging

import frozen

FILE = frozen.DATA / "lora.json"

SEQUENCES = [[1, 17, 5, 42, 9, 60, 3], [1, 33, 33, 8, 0, 63, 21, 12, 50, 7, 28, 44]]
MODEL = "llama"
ADAPTERS = {
    "llama-lora": ({"r": 4, "lora_alpha": 10, "target_modules": ["q_proj", "v_proj", "down_proj"]}, 21),
    "llama-lora-all": ({"r": 3, "lora_alpha": 6, "target_modules": "all-linear"}, 22),
}


def load(folder):
    model = AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, attn_implementation="eager", local_files_only=True
    )
    return model.eval()


def save(name):
    options, seed = ADAPTERS[name]
    model = get_peft_model(load(frozen.DATA / MODEL), LoraConfig(task_type="CAUSAL_LM", **options))
    source = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for key, parameter in sorted(model.named_parameters()):
            if "lora_" in key:
                parameter.copy_(torch.randn(parameter.shape, generator=source) * 0.3)
    folder = frozen.DATA / name
    shutil.rmtree(folder, ignore_errors=True)
    model.save_pretrained(folder)
    (folder / "README.md").unlink(missing_ok=True)
    file = folder / "adapter_config.json"
    config = json.loads(file.read_text())
    # Where the model lay on the machine that made this, and sets in whatever order.
    config["base_model_name_or_path"] = None
    config["target_modules"] = sorted(config["target_modules"])
    file.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")


def adapted(base, adapters):
    """The model of a folder with the adapters of another; a tensor that is missing or left over is an error."""
    model = PeftModel.from_pretrained(load(base), adapters).eval()
    state = {key.replace(".default", "") for key in model.state_dict() if "lora_" in key}
    with safe_open(adapters / "adapter_model.safetensors", "pt") as file:
        if state != set(file.keys()):
            sys.exit(f"{adapters}: missing or left over are {sorted(state ^ set(file.keys()))}")
    return model


def logits_of(model, sequences):
    with torch.no_grad():
        return [model(input_ids=torch.tensor([sequence])).logits[0] for sequence in sequences]


def make():
    entries = []
    for name in ADAPTERS:
        model = adapted(frozen.DATA / MODEL, frozen.DATA / name)
        logits = logits_of(model, SEQUENCES)
        merged = model.merge_and_unload()
        norms = {key: parameter.detach().norm() for key, parameter in merged.named_parameters()}
        entries.append({"adapters": name, "model": MODEL, "sequences": SEQUENCES, "logits": logits, "merged_norms": norms})
    return {"versions": frozen.versions("peft", "transformers", "torch", "safetensors"), "logits": entries}


def check_saved(folder):
    model = adapted(folder / "base", folder / "adapter")
    ours = json.loads((folder / "logits.json").read_text())
    frozen.check_logits(ours["logits"], logits_of(model, ours["sequences"]), f"{folder}: PEFT loads it")


def main():
    parser = frozen.arguments(__doc__)
    parser.add_argument("--load", type=Path, metavar="DIR", help="load a model and adapters that the engine has saved")
    args = parser.parse_args()
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    torch.set_num_threads(1)
    if args.load:
        check_saved(args.load)
    elif args.check:
        frozen.check(FILE, make(), tolerance=2e-5)
    else:
        for name in ADAPTERS:
            save(name)
        frozen.write(FILE, make())


if __name__ == "__main__":
    main()

"""Losses, gradients and advantages of TRL's own code on fixed numbers, in data/parity/trl.json.

TRL's `GRPOTrainer` is made for a tiny model. Its `_compute_loss` then gets per-token log-probabilities from here instead of
from the model, and its `_generate_and_score_completions` gets completions and rewards from here; everything between is
TRL's. All values are flat: the completion tokens of all sequences one after the other, without padding.

  batch                what all losses are computed from: sequence_lengths, tool_mask, per_token_logps,
                       old_per_token_logps, ref_per_token_logps, entropies, advantages (one a sequence), turn_advantages
                       (one a token)
  losses               options (in the engine's names), with_old, with_tool_mask, by_turn (which of the advantages),
                       parts (sequences in each micro-batch of one accumulated step), loss (summed over the parts),
                       gradient (with respect to per_token_logps), metrics (of the first part, if it is the only one)
  advantages           num_generations, scale_rewards, reward_weights, rewards (a row per rollout, null = not applicable),
                       completions (token ids; 1 is the end), advantages, metrics

Without options it writes the file; with --check it compares the file with what TRL gives now.
"""

import logging
import os
import tempfile
import warnings

os.environ.setdefault("HF_HUB_OFFLINE", "1")
# About arguments that TRL passes to transformers.
warnings.simplefilter("ignore", FutureWarning)

import torch
from datasets import Dataset
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM
from trl import GRPOConfig, GRPOTrainer

import frozen

FILE = frozen.DATA / "trl.json"

LENGTHS = [5, 1, 8, 3, 2, 7]
MAX_COMPLETION_LENGTH = 9

# The engine's loss types as TRL's options.
LOSS_TYPES = {
    "grpo": {"loss_type": "grpo"},
    "dr_grpo": {"loss_type": "dr_grpo"},
    "dapo": {"loss_type": "dapo"},
    "gspo": {"loss_type": "grpo", "importance_sampling_level": "sequence"},
}


def trainer(folder, reward_funcs=None, **options):
    """A GRPOTrainer for a tiny model with random weights."""
    words = {"<pad>": 0, "<eos>": 1, "<unk>": 2} | {f"w{i}": i for i in range(3, 32)}
    words = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, pad_token="<pad>", eos_token="<eos>", unk_token="<unk>")
    config = Qwen2Config(
        vocab_size=32,
        hidden_size=8,
        intermediate_size=8,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=1,
        eos_token_id=1,
        pad_token_id=0,
    )
    args = GRPOConfig(
        output_dir=folder,
        per_device_train_batch_size=24,
        max_completion_length=MAX_COMPLETION_LENGTH,
        use_cpu=True,
        bf16=False,
        report_to="none",
        **({"num_generations": 4} | options),
    )
    return GRPOTrainer(
        model=Qwen2ForCausalLM(config),
        reward_funcs=reward_funcs or (lambda completions, **_: [0.0] * len(completions)),
        args=args,
        train_dataset=Dataset.from_dict({"prompt": ["w3 w4"] * 24}),
        processing_class=tokenizer,
    )


def padded(flat, lengths=LENGTHS):
    rows = torch.split(flat, lengths)
    return torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)


def flat(padded, lengths):
    return torch.cat([row[:length] for row, length in zip(padded, lengths)])


def make_batch():
    """Numbers with ratios on both sides of the clipping region, and none at its edge."""
    source = torch.Generator().manual_seed(20260323)
    tokens = sum(LENGTHS)

    def uniform(low, high, count=tokens):
        return low + (high - low) * torch.rand(count, generator=source)

    logps = -uniform(1.0, 5.0)
    shift = torch.repeat_interleave(torch.tensor([0.5, -0.6, 0.1, -0.1, 0.3, 0.0]), torch.tensor(LENGTHS))
    batch = {
        "sequence_lengths": LENGTHS,
        "tool_mask": [int(token % 5 != 3) for token in range(tokens)],
        "per_token_logps": logps,
        "old_per_token_logps": logps - shift - uniform(-0.3, 0.3),
        "ref_per_token_logps": logps + uniform(-0.8, 0.8),
        "entropies": uniform(0.1, 3.0),
        "advantages": torch.tensor([1.2, -0.7, 0.4, -1.1, -0.3, 0.9]),
        "turn_advantages": uniform(-1.5, 1.5),
    }
    for edge in (0.8, 1.2, 1.28, 1 - 3e-4, 1 + 4e-4):
        ratios = (batch["per_token_logps"] - batch["old_per_token_logps"]).exp()
        assert (ratios - edge).abs().min() > 1e-4, f"a ratio at the edge {edge}"
    return batch


def loss_vector(folder, batch, name, options, with_old, with_tool_mask, by_turn, parts):
    made = trainer(
        folder,
        gradient_accumulation_steps=len(parts),
        steps_per_generation=len(parts),
        epsilon=options["epsilon"],
        epsilon_high=options["epsilon_high"],
        use_bias_correction_kl=options["use_bias_correction_kl"],
        **LOSS_TYPES[name],
    )
    # After the trainer is made: it would load a reference model, which nothing here asks.
    made.beta = options["beta"]
    made.current_gradient_accumulation_steps = len(parts)
    made.model.train()
    completion_mask = padded(torch.ones(sum(LENGTHS), dtype=torch.long))
    tool_mask = padded(torch.tensor(batch["tool_mask"]))
    mask = completion_mask * tool_mask if with_tool_mask else completion_mask
    loss, gradient, start = 0.0, [], 0
    for count in parts:
        rows, start = slice(start, start + count), start + count
        logps = padded(batch["per_token_logps"])[rows].clone().requires_grad_()
        entropies = padded(batch["entropies"])[rows]
        made._get_per_token_logps_and_entropies = lambda *_, **__: (logps, entropies, None)
        ids = torch.full((count, max(LENGTHS)), 3)
        by_token = padded(batch["turn_advantages"])[rows]
        inputs = {
            "prompt_ids": ids[:, :1],
            "prompt_mask": torch.ones_like(ids[:, :1]),
            "completion_ids": ids,
            "completion_mask": completion_mask[rows],
            "advantages": by_token if by_turn else batch["advantages"][rows],
            "num_items_in_batch": mask.sum(),
            "ref_per_token_logps": padded(batch["ref_per_token_logps"])[rows],
        }
        if with_old:
            inputs["old_per_token_logps"] = padded(batch["old_per_token_logps"])[rows]
        if with_tool_mask:
            inputs["tool_mask"] = tool_mask[rows]
        part = made._compute_loss(made.model, inputs)
        part.backward()
        loss += part.item()
        gradient.append(flat(logps.grad, LENGTHS[rows]))
    # Means over parts are not means over the batch: TRL logs the mean of the parts' means.
    metrics = {key: values[0] for key, values in made._metrics["train"].items()} if len(parts) == 1 else None
    return {
        "options": {"loss_type": name} | options,
        "with_old": with_old,
        "with_tool_mask": with_tool_mask,
        "by_turn": by_turn,
        "parts": parts,
        "loss": loss,
        "gradient": torch.cat(gradient),
        "metrics": metrics,
    }


def loss_vectors(folder, batch):
    whole = [len(LENGTHS)]
    for name in LOSS_TYPES:
        bounds = [(0.2, None), (0.2, 0.28)] + ([(3e-4, 4e-4)] if name == "gspo" else [])
        for epsilon, epsilon_high in bounds:
            for beta, corrected in ((0.0, True), (0.04, True), (0.04, False)):
                options = {"epsilon": epsilon, "epsilon_high": epsilon_high}
                options |= {"beta": beta, "use_bias_correction_kl": corrected}
                for with_old in (True, False):
                    for with_tool_mask in (True, False):
                        yield loss_vector(folder, batch, name, options, with_old, with_tool_mask, False, whole)
        options = {"epsilon": 0.2, "epsilon_high": 0.28, "beta": 0.04, "use_bias_correction_kl": True}
        yield loss_vector(folder, batch, name, options, True, True, True, whole)
        yield loss_vector(folder, batch, name, options, True, True, False, [3, 3])
        yield loss_vector(folder, batch, name, options, False, False, True, [2, 2, 2])


def advantage_vector(folder, num_generations, scale_rewards, reward_weights, rewards, completions):
    def term(index):
        def reward(completions, **_):
            return [row[index] for row in rewards]

        reward.__name__ = f"term_{index}"
        return reward

    made = trainer(
        folder,
        reward_funcs=[term(index) for index in range(len(rewards[0]))],
        num_generations=num_generations,
        scale_rewards=scale_rewards,
        reward_weights=reward_weights,
    )
    made.model.train()
    made._generate_single_turn = lambda *_, **__: (completions, None)
    scored = made._generate_and_score_completions([{"prompt": "w3 w4"} for _ in rewards])
    metrics = {key: values[0] for key, values in made._metrics["train"].items()}
    return {
        "num_generations": num_generations,
        "scale_rewards": scale_rewards,
        "reward_weights": reward_weights,
        "rewards": rewards,
        "completions": completions,
        "advantages": scored["advantages"],
        # NaN is not JSON; TRL's `log` leaves it out too.
        "metrics": {key: value for key, value in metrics.items() if value == value},
    }


def advantage_vectors(folder):
    source = torch.Generator().manual_seed(7)
    random = torch.rand(8, 2, generator=source).mul(1000).round().div(1000).tolist()
    lengths = torch.randint(1, MAX_COMPLETION_LENGTH + 1, (8,), generator=source).tolist()
    # Longest ones have no end token: the limit cut them.
    completions = [[3] * length if length > 6 else [3] * (length - 1) + [1] for length in lengths]
    equal_group = [[0.1, 1.0]] * 4 + random[4:]
    with_gaps = [[None if row % 3 == 0 else first, None if row < 4 else second] for row, (first, second) in enumerate(random)]
    no_signal = [[0.5, 0.25]] * 8
    one_left = [[None, None]] * 3 + random[3:]
    for scale_rewards in ("group", "batch", "none"):
        for rewards in (random, equal_group, with_gaps, no_signal, one_left):
            for num_generations, reward_weights in ((4, None), (4, [0.25, 2.0]), (2, [1.0, -0.5])):
                yield advantage_vector(folder, num_generations, scale_rewards, reward_weights, rewards, completions)


def make():
    with tempfile.TemporaryDirectory() as folder:
        batch = make_batch()
        losses = list(loss_vectors(folder, batch))
        advantages = list(advantage_vectors(folder))
    return {
        "versions": frozen.versions("trl", "transformers", "torch"),
        "max_completion_length": MAX_COMPLETION_LENGTH,
        "batch": batch,
        "losses": losses,
        "advantages": advantages,
    }


def main():
    args = frozen.arguments(__doc__).parse_args()
    # TRL warns of each rollout without a reward, which is what some of the vectors are about.
    logging.disable(logging.WARNING)
    torch.set_num_threads(1)
    made = make()
    if args.check:
        frozen.check(FILE, made)
    else:
        frozen.write(FILE, made)


if __name__ == "__main__":
    main()

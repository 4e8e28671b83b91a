"""The peer of `parl bench`: the same model in plain PyTorch, on the same weights and batches, on the CPU.

Reads one request a line, {"name": ..., "threads": ...}, and answers {"seconds": ...}. Started with the folder that holds
config.json, model.safetensors and batches.json.
"""

import json
import resource
import sys
import time
from pathlib import Path


def resident():
    """Resident memory of this process now, in bytes."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1]) * 1024
    return 0


import torch  # noqa: E402
import torch.nn.functional as F  # noqa: E402
from safetensors.torch import load_file  # noqa: E402
from torch import nn  # noqa: E402

folder = Path(sys.argv[1])
config = json.loads((folder / "config.json").read_text())
batches = json.loads((folder / "batches.json").read_text())
heads, kv_heads = config["num_attention_heads"], config["num_key_value_heads"]
dim, eps = config["head_dim"], config["rms_norm_eps"]


class Norm(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(config["hidden_size"]))

    def forward(self, x):
        return F.rms_norm(x, (x.shape[-1],), self.weight, eps)


def rope(x, cos, sin):
    first, second = x.chunk(2, dim=-1)
    return x * cos + torch.cat((-second, first), dim=-1) * sin


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        width = config["hidden_size"]
        self.q_proj = nn.Linear(width, heads * dim, bias=False)
        self.k_proj = nn.Linear(width, kv_heads * dim, bias=False)
        self.v_proj = nn.Linear(width, kv_heads * dim, bias=False)
        self.o_proj = nn.Linear(heads * dim, width, bias=False)

    def forward(self, x, cos, sin, cache, at):
        batch, length, _ = x.shape
        q = rope(self.q_proj(x).view(batch, length, heads, dim).transpose(1, 2), cos, sin)
        k = rope(self.k_proj(x).view(batch, length, kv_heads, dim).transpose(1, 2), cos, sin)
        v = self.v_proj(x).view(batch, length, kv_heads, dim).transpose(1, 2)
        if cache is not None:
            cache[0][:, :, at : at + length] = k
            cache[1][:, :, at : at + length] = v
            k, v = cache[0][:, :, : at + length], cache[1][:, :, : at + length]
        out = F.scaled_dot_product_attention(q, k, v, is_causal=length > 1, enable_gqa=heads != kv_heads)
        return self.o_proj(out.transpose(1, 2).reshape(batch, length, heads * dim))


class Mlp(nn.Module):
    def __init__(self):
        super().__init__()
        width, inner = config["hidden_size"], config["intermediate_size"]
        self.gate_proj = nn.Linear(width, inner, bias=False)
        self.up_proj = nn.Linear(width, inner, bias=False)
        self.down_proj = nn.Linear(inner, width, bias=False)

    def forward(self, x):
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))


class Layer(nn.Module):
    def __init__(self):
        super().__init__()
        self.input_layernorm, self.post_attention_layernorm = Norm(), Norm()
        self.self_attn, self.mlp = Attention(), Mlp()

    def forward(self, x, cos, sin, cache, at):
        x = x + self.self_attn(self.input_layernorm(x), cos, sin, cache, at)
        return x + self.mlp(self.post_attention_layernorm(x))


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed_tokens = nn.Embedding(config["vocab_size"], config["hidden_size"])
        self.layers = nn.ModuleList(Layer() for _ in range(config["num_hidden_layers"]))
        self.norm = Norm()
        frequencies = config["rope_theta"] ** (-torch.arange(0, dim, 2).float() / dim)
        angles = torch.outer(torch.arange(1024).float(), frequencies)
        self.cos, self.sin = (torch.cat((f(angles), f(angles)), dim=-1) for f in (torch.cos, torch.sin))

    def forward(self, tokens, cache=None, at=0):
        cos, sin = (table[at : at + tokens.shape[1]] for table in (self.cos, self.sin))
        x = self.embed_tokens(tokens)
        for index, layer in enumerate(self.layers):
            x = layer(x, cos, sin, None if cache is None else cache[index], at)
        return self.norm(x)

    def logits(self, hidden):
        return F.linear(hidden, self.embed_tokens.weight)


def load():
    model = Model()
    weights = {name.removeprefix("model."): tensor for name, tensor in load_file(folder / "model.safetensors").items()}
    model.load_state_dict(weights)
    return model


def optimizer_of(model):
    matrices = [p for p in model.parameters() if p.dim() > 1]
    others = [p for p in model.parameters() if p.dim() <= 1]
    groups = [{"params": matrices, "weight_decay": 0.1}, {"params": others, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=1e-4, betas=(0.9, 0.95), eps=1e-8)


def update(model, optimizer, loss):
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    optimizer.zero_grad()
    return loss.item()


def train(model, optimizer, tokens):
    hidden = model(tokens[:, :-1])
    loss = F.cross_entropy(model.logits(hidden).flatten(0, 1), tokens[:, 1:].flatten())
    return update(model, optimizer, loss)


def new_cache(rows, length):
    shape = (rows, kv_heads, length, dim)
    return [(torch.zeros(shape), torch.zeros(shape)) for _ in range(config["num_hidden_layers"])]


@torch.inference_mode()
def prefill(model, tokens):
    cache = new_cache(*tokens.shape)
    return model.logits(model(tokens, cache)[:, -1])


@torch.inference_mode()
def generate(model, prompts, new):
    """The sampled tokens, and the seconds that came after the prompts."""
    rows, length = prompts.shape
    cache = new_cache(rows, length + new)
    logits = model.logits(model(prompts, cache)[:, -1])
    tokens = []
    begun = time.perf_counter()
    for step in range(new):
        token = torch.multinomial(torch.softmax(logits, dim=-1), 1)
        tokens.append(token)
        if step + 1 < new:
            logits = model.logits(model(token, cache, length + step)[:, -1])
    return torch.cat(tokens, dim=1), time.perf_counter() - begun


def grpo(model, optimizer, prompts, generations, new):
    rows = prompts.repeat_interleave(generations, dim=0)
    completions, _ = generate(model, rows, new)
    completions = completions.clone()
    rewards = (completions[:, 0] % 7).float().view(-1, generations)
    advantages = ((rewards - rewards.mean(1, keepdim=True)) / (rewards.std(1, keepdim=True) + 1e-4)).view(-1, 1)
    tokens = torch.cat((rows, completions), dim=1)
    hidden = model(tokens[:, :-1])[:, -new:]
    logps = torch.log_softmax(model.logits(hidden), dim=-1).gather(2, completions.unsqueeze(2)).squeeze(2)
    ratio = torch.exp(logps - logps.detach())
    loss = -torch.min(ratio * advantages, ratio.clamp(0.8, 1.2) * advantages).mean()
    return update(model, optimizer, loss)


def run(name):
    """Runs a benchmark once; returns its seconds."""
    batch = torch.tensor(batches[name])
    if name == "grpo_step":
        work = lambda: grpo(model, optimizer, batch, batches["generations"], batches["new"])  # noqa: E731
    elif name.startswith("train"):
        work = lambda: train(model, optimizer, batch)  # noqa: E731
    elif name.startswith("decode"):
        return generate(model, batch, batches["new"])[1]
    else:
        work = lambda: prefill(model, batch)  # noqa: E731
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


before = resident()
model = load()
optimizer = optimizer_of(model)
print(json.dumps({"torch": torch.__version__, "python": sys.version.split()[0]}), flush=True)
for line in sys.stdin:
    request = json.loads(line)
    if request["name"] == "memory":
        torch.set_num_threads(2)
        for _ in range(3):
            run("train_64x200")
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        print(json.dumps({"before": before, "peak": peak}), flush=True)
        continue
    torch.set_num_threads(request["threads"])
    print(json.dumps({"seconds": run(request["name"])}), flush=True)

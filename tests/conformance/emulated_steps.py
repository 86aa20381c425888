"""Ten LoRA steps on SmolLM2-135M on the emulated card beside the CPU's, whose own judge is lora_steps.py.

usage: emulated_steps.py DECANT_EMULATED. The same two rows in every step, so that the loss falls. Bounds as in tests/e2e/emulated.py, with
this model's 30 layers and the spread of its logits on these rows, which is measured: hidden states, logits and gradients are off by a
share of e = 2^-9 sqrt(8 L), a loss by 5 e spread / sqrt(tokens), the first gradient's norm by 2 e. What an adapter's B has become is off by
sqrt(3.2 e) of it, and so is what that made of the loss: its fall since the first step."""
import json
import math
import pathlib
import sys
import tempfile

from judges import enter

enter("numpy", "safetensors")
import numpy as np
from safetensors.numpy import load_file

import real

STEPS, LENGTHS, LAYERS = 10, (24, 33), 30
OFF = 2**-9 * math.sqrt(8 * LAYERS)
decant, model = sys.argv[1], real.gguf("smollm2")


def rows():
    ids = json.loads(real.run(decant, "tokenize", "--model", model, real.speeches(1)[0][:600]).stdout)
    return [ids[100 * i:100 * i + n] for i, n in enumerate(LENGTHS)]


def spread(data, tmp):
    """Standard deviation of a position's logits, on average."""
    found = []
    for ids in data:
        (tmp / "ids.json").write_text(json.dumps(ids))
        real.run(decant, "logits", "--model", model, "--ids", tmp / "ids.json", "--out", tmp / "out.npy", "--device", "cpu")
        found.append(np.load(tmp / "out.npy").std(axis=1).mean())
    return float(np.mean(found))


def train(data, device, tmp):
    (tmp / "rows.jsonl").write_text("".join(json.dumps({"input_ids": ids, "labels": ids}) + "\n" for ids in data))
    recipe = {"output_dir": str(tmp / device), "device": device, "student": {"model": str(model)},
              "data": {"train": str(tmp / "rows.jsonl"), "shuffle": False, "max_length": 64},
              "lora": {"r": 16, "lora_alpha": 32},
              "train": {"per_device_train_batch_size": len(data), "max_steps": STEPS, "learning_rate": 3e-4, "lr_scheduler_type": "constant"}}
    (tmp / f"{device}.yaml").write_text(json.dumps(recipe))
    real.run(decant, "prepare", tmp / f"{device}.yaml")
    real.run(decant, "train", tmp / f"{device}.yaml")
    lines = [json.loads(line) for line in (tmp / device / "train/metrics.jsonl").read_text().splitlines()]
    adapter = load_file(tmp / device / "train/adapter/adapter_model.safetensors")
    return [line for line in lines if "loss" in line], {name: x for name, x in adapter.items() if "lora_B" in name}


with tempfile.TemporaryDirectory() as tmp:
    tmp = pathlib.Path(tmp)
    data = rows()
    sigma = spread(data, tmp)
    cpu, B = train(data, "cpu", tmp)
    card, card_B = train(data, "cuda", tmp)
assert len(cpu) == len(card) == STEPS and B.keys() == card_B.keys()
share = math.sqrt(3.2 * OFF)
bound = 5 * OFF * sigma / math.sqrt(cpu[0]["trained_tokens"])
first = abs(cpu[0]["loss"] - card[0]["loss"])
falls = [(cpu[0]["loss"] - a["loss"], card[0]["loss"] - b["loss"]) for a, b in zip(cpu, card)]
norm = abs(cpu[0]["grad_norm"] / card[0]["grad_norm"] - 1)
moved = math.sqrt(sum(((card_B[k] - B[k])**2).sum() for k in B) / sum((B[k]**2).sum() for k in B))
print(f"first loss {cpu[0]['loss']:.4f}, on the card {card[0]['loss']:.4f} (bound {bound:.4f}, logits spread {sigma:.2f}), "
      f"gradient norm off by {norm:.2%} (bound {2 * OFF:.2%})")
print(f"falls by {falls[-1][0]:.4f}, on the card {falls[-1][1]:.4f} (bound {share:.0%} and {2 * bound:.4f}); B off by {moved:.1%} (bound {share:.1%})")
sys.exit(not (first <= bound and norm <= 2 * OFF and moved <= share and falls[-1][0] > 0.5 and
              all(abs(x - y) <= share * abs(x) + 2 * bound for x, y in falls)))

"""Ten LoRA steps on SmolLM2 against PEFT: rows of different lengths, accumulation 2, clipping, warm-up, weight decay, the same initial
adapter. Every loss within 1e-4 relative, the final adapter within 1e-3 relative L2. usage: lora_steps.py DECANT"""
import json
import pathlib
import sys
import tempfile

from judges import enter

enter("torch", "transformers", "peft", "safetensors", "numpy")
import numpy as np
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer, get_linear_schedule_with_warmup

import real

STEPS, BATCH, ACCUMULATION, RATE, CLIP, DECAY, WARMUP = 10, 2, 2, 2e-4, 0.5, 0.01, 2


def rows(tokenizer):
    """40 rows of 24 to 137 tokens; the first part of each is no target."""
    ids = tokenizer(" ".join(real.speeches(8)))["input_ids"]
    out, at = [], 0
    for i in range(STEPS * BATCH * ACCUMULATION):
        n = 24 + (i * 37) % 114
        row = ids[at:at + n]
        at += n
        out.append({"input_ids": row, "labels": [-100] * (n // 4) + row[n // 4:]})
    return out


def train_peft(directory, data, adapter):
    torch.manual_seed(1)
    torch.set_grad_enabled(True)
    model = AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32, attn_implementation="eager")
    model = get_peft_model(model, LoraConfig(r=16, lora_alpha=32, target_modules="all-linear", task_type="CAUSAL_LM"))
    model.save_pretrained(adapter)
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=RATE, weight_decay=DECAY)
    schedule = get_linear_schedule_with_warmup(optimizer, WARMUP, STEPS)
    losses, norms = [], []
    for step in range(STEPS):
        window = data[step * BATCH * ACCUMULATION:(step + 1) * BATCH * ACCUMULATION]
        tokens = sum(sum(label != -100 for label in row["labels"][1:]) for row in window)
        total = 0.0
        for row in window:
            logits = model(torch.tensor([row["input_ids"]])).logits[0, :-1]
            loss = torch.nn.functional.cross_entropy(logits, torch.tensor(row["labels"][1:]), reduction="sum", ignore_index=-100) / tokens
            loss.backward()
            total += loss.item()
        norms.append(float(torch.nn.utils.clip_grad_norm_(parameters, CLIP)))
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        losses.append(total)
    return losses, norms, {k: v.detach().numpy() for k, v in model.state_dict().items() if "lora_" in k}


def train_decant(decant, directory, data, adapter, tmp):
    (tmp / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in data))
    recipe = {"output_dir": str(tmp / "run"), "student": {"model": str(directory)},
              "data": {"train": str(tmp / "rows.jsonl"), "packing": False, "shuffle": False, "max_length": 256},
              "lora": {"init_from": str(adapter)},
              "train": {"per_device_train_batch_size": BATCH, "gradient_accumulation_steps": ACCUMULATION, "max_steps": STEPS,
                        "learning_rate": RATE, "lr_scheduler_type": "linear", "warmup_steps": WARMUP, "max_grad_norm": CLIP,
                        "weight_decay": DECAY}}
    (tmp / "recipe.yaml").write_text(json.dumps(recipe))
    real.run(decant, "prepare", tmp / "recipe.yaml")
    real.run(decant, "train", tmp / "recipe.yaml")
    lines = [json.loads(line) for line in (tmp / "run/train/metrics.jsonl").read_text().splitlines()]
    steps = [line for line in lines if "loss" in line]
    return ([line["loss"] for line in steps], [line["grad_norm"] for line in steps],
            {k: v.numpy() for k, v in load_file(tmp / "run/train/adapter/adapter_model.safetensors").items()})


decant = sys.argv[1]
with tempfile.TemporaryDirectory() as tmp:
    tmp = pathlib.Path(tmp)
    directory = real.hf_directory("smollm2")
    data = rows(AutoTokenizer.from_pretrained(directory))
    expected, norms, weights = train_peft(directory, data, tmp / "initial")
    losses, our_norms, ours = train_decant(decant, directory, data, tmp / "initial", tmp)
worst = max(abs(a - b) / abs(b) for a, b in zip(losses, expected))
worst_norm = max(abs(a - b) / abs(b) for a, b in zip(our_norms, norms))
theirs = {k.replace(".default", ""): v for k, v in weights.items()}
assert set(theirs) == set(ours), (sorted(set(theirs) ^ set(ours))[:4])
distance = np.sqrt(sum(((ours[k] - theirs[k]) ** 2).sum() for k in ours) / sum((theirs[k] ** 2).sum() for k in ours))
moved = np.sqrt(sum((theirs[k] ** 2).sum() for k in ours if "lora_B" in k))
moved_error = np.sqrt(sum(((ours[k] - theirs[k]) ** 2).sum() for k in ours if "lora_B" in k)) / moved
print(f"losses {expected[0]:.5f} -> {expected[-1]:.5f}: worst relative difference {worst:.1e} (bound 1e-4), gradient norms {worst_norm:.1e}")
print(f"final adapter: relative L2 {distance:.1e} (bound 1e-3), of B alone {moved_error:.1e}")
sys.exit(not (len(losses) == STEPS and worst <= 1e-4 and distance <= 1e-3))

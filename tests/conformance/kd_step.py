"""One distillation step at temperature 2 against torch in float64, teacher online (dense) and from a top-k store with tail bucket: loss within
1e-5, gradient of every LoRA matrix within 1e-3 relative L2. The gradient is read from AdamW's first moment. usage: kd_step.py DECANT"""
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
from transformers import LlamaConfig, LlamaForCausalLM

import real

T, RATIO, TOPK = 2.0, 0.7, 12


def tiny(seed, layers, directory):
    torch.manual_seed(seed)
    config = LlamaConfig(vocab_size=96, hidden_size=64, intermediate_size=160, num_hidden_layers=layers, num_attention_heads=4,
                         num_key_value_heads=2, max_position_embeddings=128, initializer_range=0.2, tie_word_embeddings=True)
    model = LlamaForCausalLM(config)
    model.save_pretrained(directory)
    return model


def tokenizer(directory):
    """A byte-level BPE without merges is a tokenizer of 96 entries: one for each of 95 bytes and an end."""
    vocabulary = {chr(33 + i): i for i in range(94)}
    vocabulary["\u0120"] = 94
    end = {"id": 95, "content": "<end>", "special": True, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    (directory / "tokenizer.json").write_text(json.dumps({
        "version": "1.0", "truncation": None, "padding": None, "added_tokens": [end], "normalizer": None,
        "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True},
        "post_processor": None, "decoder": {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True},
        "model": {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None, "end_of_word_suffix": None,
                  "fuse_unk": False, "byte_fallback": False, "ignore_merges": False, "vocab": vocabulary, "merges": []}}))


def divergence(student, teacher, topk):
    """KL of rows at temperature T, in float64; with topk over its entries and one bucket for the rest."""
    p, q = torch.softmax(teacher / T, -1), torch.log_softmax(student / T, -1)
    if not topk:
        return (p * (torch.log(p) - q)).sum(-1)
    kept, ids = p.topk(topk, -1)
    rest, q_kept = 1 - kept.sum(-1), q.gather(-1, ids)
    q_rest = torch.log1p(-q_kept.exp().sum(-1))
    return (kept * (torch.log(kept) - q_kept)).sum(-1) + rest * (torch.log(rest) - q_rest)


def torch_step(student, teacher, data, topk):
    student, teacher = student.double(), teacher.double()
    rows = sum(sum(label != -100 for label in row["labels"][1:]) for row in data)
    loss = 0
    for row in data:
        ids = torch.tensor([row["input_ids"]])
        labels = torch.tensor(row["labels"][1:])
        z = student(ids).logits[0, :-1]
        with torch.no_grad():
            zt = teacher(ids).logits[0, :-1]
        at = labels != -100
        ce = torch.nn.functional.cross_entropy(z[at], labels[at], reduction="sum")
        loss = loss + ((1 - RATIO) * ce + RATIO * T * T * divergence(z[at], zt[at], topk).sum()) / rows
    student.zero_grad()
    loss.backward()
    return float(loss), {k.replace(".default", ""): p.grad.numpy() for k, p in student.named_parameters() if p.requires_grad}


def check(decant, tmp, student, teacher, data, topk):
    distill = {"mode": "offline", "targets": "topk", "topk": TOPK} if topk else {"mode": "online"}
    recipe = {"output_dir": str(tmp / ("topk" if topk else "online")), "teacher": {"model": str(tmp / "teacher")},
              "student": {"model": str(tmp / "student")}, "distill": {**distill, "temperature": T, "kd_ratio": RATIO},
              "data": {"train": str(tmp / "rows.jsonl"), "packing": False, "shuffle": False, "max_length": 64},
              "lora": {"init_from": str(tmp / "initial")},
              "train": {"per_device_train_batch_size": len(data), "max_steps": 1, "learning_rate": 1e-3, "max_grad_norm": 0}}
    path = tmp / "recipe.yaml"
    path.write_text(json.dumps(recipe))
    for stage in ("prepare", "teach", "train"):
        real.run(decant, stage, path)
    out = pathlib.Path(recipe["output_dir"])
    line = json.loads((out / "train/metrics.jsonl").read_text().splitlines()[0])
    moments = load_file(out / "train/checkpoint-1/state.safetensors")
    expected, gradients = torch_step(student, teacher, data, TOPK if topk else 0)
    error = abs(line["loss"] - expected) / abs(expected)
    worst = 0
    for name, g in gradients.items():
        ours = moments["m." + name].double().numpy() / (1 - 0.9)
        if np.linalg.norm(g) > 0:
            worst = max(worst, np.linalg.norm(ours - g) / np.linalg.norm(g))
    # A store rounds log-probabilities to half precision: 2^-11 of a log-probability of up to ln(1/V).
    most, most_gradient = (1e-3, 5e-3) if topk else (1e-5, 1e-3)
    print(f"{'top-' + str(TOPK) if topk else 'online'}: loss {line['loss']:.6f}, float64 {expected:.6f}: {error:.1e} (bound {most:.0e}); "
          f"worst gradient {worst:.1e} (bound {most_gradient:.0e})")
    return error <= most and worst <= most_gradient


decant = sys.argv[1]
with tempfile.TemporaryDirectory() as tmp:
    tmp = pathlib.Path(tmp)
    teacher, base = tiny(1, 3, tmp / "teacher"), tiny(2, 2, tmp / "student")
    for name in ("teacher", "student"):
        tokenizer(tmp / name)
    student = get_peft_model(base, LoraConfig(r=4, lora_alpha=8, target_modules="all-linear", task_type="CAUSAL_LM", init_lora_weights=False))
    student.save_pretrained(tmp / "initial")
    generator = np.random.default_rng(5)
    data = []
    for n in (17, 30, 8, 41):
        ids = generator.integers(0, 95, n).tolist()
        data.append({"input_ids": ids, "labels": [-100] * 3 + ids[3:]})
    (tmp / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in data))
    fine = [check(decant, tmp, student, teacher, data, topk) for topk in (False, True)]
sys.exit(not all(fine))

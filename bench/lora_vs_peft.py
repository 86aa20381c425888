"""LoRA training of SmolLM2-135M in fp32, decant beside PEFT, in alternating pairs on this machine: tokens a second and peak memory.

usage: lora_vs_peft.py DECANT MODEL_DIR [--pairs 3] [--steps 4] [--length 512 --length 2048]
MODEL_DIR: the model as an HF directory. Needs torch, transformers and peft. One sequence a step, r=16 on all linears, AdamW; the first step
of each run is not counted. Peak memory is the process's, as the system counts it."""
import argparse
import json
import pathlib
import resource
import statistics
import subprocess
import sys
import tempfile
import time


def rows(length, n, vocabulary=49152):
    import random
    random.seed(7)
    for _ in range(n):
        ids = [random.randrange(vocabulary) for _ in range(length)]
        yield {"input_ids": ids, "labels": ids}


def peft_run(directory, length, steps):
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32)
    model = get_peft_model(model, LoraConfig(r=16, lora_alpha=32, target_modules="all-linear", task_type="CAUSAL_LM"))
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-4)
    seconds = []
    for row in rows(length, steps + 1):
        began = time.perf_counter()
        ids = torch.tensor([row["input_ids"]])
        model(ids, labels=ids).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        seconds.append(time.perf_counter() - began)
    print(json.dumps({"seconds": seconds[1:], "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024}))


def child(command):
    p = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    out, err = p.communicate()
    if p.returncode:
        raise SystemExit(f"{command}: {err[-2000:]}")
    return out


def peft(directory, length, steps):
    out = json.loads(child([sys.executable, __file__, "--peft", str(directory), str(length), str(steps)]).splitlines()[-1])
    return length / statistics.median(out["seconds"]), out["peak"]


def decant_steps(program, directory, data, length, device, tmp, **train):
    """(seconds of each step, peak memory) of LoRA training on rows of that length."""
    (tmp / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in data))
    recipe = {"output_dir": str(tmp / "run"), "device": device, "student": {"model": str(directory)},
              "data": {"train": str(tmp / "rows.jsonl"), "packing": False, "max_length": length},
              "lora": {"r": 16, "lora_alpha": 32}, "train": {"learning_rate": 1e-4, "save_steps": 0, **train}}
    (tmp / "recipe.yaml").write_text(json.dumps(recipe))
    child([program, "prepare", str(tmp / "recipe.yaml")])
    child([program, "train", str(tmp / "recipe.yaml"), "--restart"])
    lines = [json.loads(line) for line in (tmp / "run/train/metrics.jsonl").read_text().splitlines()]
    times = json.loads((tmp / "run/train/times.json").read_text())
    return [line["seconds"] for line in lines if "loss" in line], times["peak_memory"]


def decant(program, directory, length, steps, tmp):
    seconds, peak = decant_steps(program, directory, rows(length, steps + 1), length, "cpu", tmp, max_steps=steps + 1, max_grad_norm=0)
    return length / statistics.median(seconds[1:]), peak


def main():
    if sys.argv[1:2] == ["--peft"]:
        return peft_run(sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
    parser = argparse.ArgumentParser()
    parser.add_argument("decant")
    parser.add_argument("model")
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--length", type=int, action="append")
    a = parser.parse_args()
    for length in a.length or [512, 2048]:
        ours, theirs = [], []
        with tempfile.TemporaryDirectory() as tmp:
            for _ in range(a.pairs):
                ours.append(decant(a.decant, a.model, length, a.steps, pathlib.Path(tmp)))
                theirs.append(peft(a.model, length, a.steps))
        rate, memory = (statistics.median(x[i] for x in ours) for i in (0, 1))
        their_rate, their_memory = (statistics.median(x[i] for x in theirs) for i in (0, 1))
        ratios = sorted(x[0] / y[0] for x, y in zip(ours, theirs))
        print(f"T={length}: decant {rate:.0f} tok/s, {memory / 1e9:.2f} GB; PEFT {their_rate:.0f} tok/s, {their_memory / 1e9:.2f} GB; "
              f"ratio by pairs {ratios[0]:.2f} to {ratios[-1]:.2f}, median {statistics.median(ratios):.2f}; memory {memory / their_memory:.2f}")


if __name__ == "__main__":
    main()

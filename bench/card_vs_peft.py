"""LoRA training in bf16 on one card, decant beside PEFT, in alternating pairs: tokens a second of models with the shapes of SmolLM2-135M and Llama-3.2-1B.

usage: card_vs_peft.py DECANT TOKENIZER_DIR [--pairs 2] [--steps 12] [--model NAME] [--device cuda]
TOKENIZER_DIR: an HF directory whose tokenizer.json has at most as many entries as the models; SmolLM2's serves. Needs torch, transformers and peft. The
weights are random, the rows random ids: neither changes what a step costs. Four sequences of 2,048 a step, r=16 on all linears, AdamW, clipping; the
first four steps of each run are not counted. PEFT: eager, sdpa attention, weights in bf16 under autocast, adapters fp32, fused AdamW."""
import argparse
import json
import pathlib
import shutil
import statistics
import sys
import tempfile
import time

from lora_vs_peft import child, decant_steps, rows

MODELS = {
    "SmolLM2-135M": dict(hidden_size=576, intermediate_size=1536, num_hidden_layers=30, num_attention_heads=9, num_key_value_heads=3, head_dim=64,
                         vocab_size=49152, rope_theta=100000.0),
    "Llama-3.2-1B": dict(hidden_size=2048, intermediate_size=8192, num_hidden_layers=16, num_attention_heads=32, num_key_value_heads=8, head_dim=64,
                         vocab_size=128256, rope_theta=500000.0),
    "tiny": dict(hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=1, head_dim=32, vocab_size=49152,
                 rope_theta=10000.0),  # to try the script without a card
}
BATCH, LENGTH, UNCOUNTED, IDS = 4, 2048, 4, 49000


def make(name, device, tokenizer, to):
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM
    torch.manual_seed(0)
    torch.set_default_dtype(torch.bfloat16)
    with torch.device(device):
        model = LlamaForCausalLM(LlamaConfig(**MODELS[name], tie_word_embeddings=True, rms_norm_eps=1e-5, max_position_embeddings=8192, bos_token_id=1, eos_token_id=2))
    model.save_pretrained(to)
    for path in pathlib.Path(tokenizer).glob("tokenizer*"):
        shutil.copy(path, to)


def peft_run(directory, device, steps, length):
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM
    model = AutoModelForCausalLM.from_pretrained(directory, dtype=torch.bfloat16, attn_implementation="sdpa").to(device)
    model.config.use_cache = False
    model = get_peft_model(model, LoraConfig(r=16, lora_alpha=32, target_modules="all-linear", task_type="CAUSAL_LM"))
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=1e-4, fused=True)
    wait = torch.cuda.synchronize if device == "cuda" else lambda: None
    data, seconds = [row["input_ids"] for row in rows(length, BATCH * steps, IDS)], []
    for i in range(steps):
        wait()
        began = time.perf_counter()
        ids = torch.tensor(data[BATCH * i:BATCH * (i + 1)], device=device)
        with torch.autocast(device, dtype=torch.bfloat16):
            loss = model(ids, labels=ids).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        optimizer.zero_grad()
        wait()
        seconds.append(time.perf_counter() - began)
    peak = torch.cuda.max_memory_allocated() if device == "cuda" else 0
    print(json.dumps({"seconds": seconds, "peak": peak}))


def peft(directory, o):
    """(seconds of a step, peak memory of the card)"""
    out = json.loads(child([sys.executable, __file__, "--peft", str(directory), o.device, str(o.steps), str(o.length)]).splitlines()[-1])
    return statistics.median(out["seconds"][UNCOUNTED:]), out["peak"]


def decant(directory, o, tmp):
    seconds, _ = decant_steps(o.decant, directory, rows(o.length, BATCH * o.steps, IDS), o.length, o.device, tmp, max_steps=o.steps,
                              per_device_train_batch_size=BATCH)
    return statistics.median(seconds[UNCOUNTED:])


def main():
    if sys.argv[1:2] == ["--peft"]:
        return peft_run(sys.argv[2], sys.argv[3], int(sys.argv[4]), int(sys.argv[5]))
    if sys.argv[1:2] == ["--make"]:
        return make(*sys.argv[2:6])
    parser = argparse.ArgumentParser()
    parser.add_argument("decant")
    parser.add_argument("tokenizer")
    parser.add_argument("--pairs", type=int, default=2)
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--length", type=int, default=LENGTH)
    parser.add_argument("--model", action="append", choices=MODELS)
    parser.add_argument("--device", default="cuda")
    o = parser.parse_args()
    for name in o.model or list(MODELS)[:2]:
        with tempfile.TemporaryDirectory() as tmp:
            tmp = pathlib.Path(tmp)
            child([sys.executable, __file__, "--make", name, o.device, o.tokenizer, str(tmp / "model")])
            pairs = [(decant(tmp / "model", o, tmp), *peft(tmp / "model", o)) for _ in range(o.pairs)]
        ours, theirs, peak = (statistics.median(pair[i] for pair in pairs) for i in (0, 1, 2))
        tokens = BATCH * o.length
        print(f"{name}: decant {ours * 1e3:.1f} ms, {tokens / ours:,.0f} tokens a second; PEFT {theirs * 1e3:.1f} ms, {tokens / theirs:,.0f}, peak {peak / 1e9:.1f} GB; "
              f"ratio by pairs {', '.join(f'{b / a:.2f}' for a, b, _ in pairs)}")


if __name__ == "__main__":
    main()

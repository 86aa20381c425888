"""Real models for the conformance scripts: opened by transformers, saved once as HF directories, and texts to run them on."""
import json
import pathlib
import subprocess

from judges import CACHE, MODELS, skip

FILES = {"smollm2": "smollm2-135m-instruct-Q4_1.gguf", "qwen05": "qwen2.5-coder-0.5b-instruct.gguf",
         "qwen15": "qwen2.5-coder-1.5b-instruct.gguf"}
SHARED = pathlib.Path("../shared")


def gguf(name):
    path = MODELS / FILES[name]
    if not path.exists():
        skip(f"no {path} (scripts/setup --models fetches it, or set DECANT_MODELS)")
    return path


def torch_model(name):
    """The dequantized model in fp32, with eager attention."""
    import torch
    from transformers import AutoModelForCausalLM
    torch.set_grad_enabled(False)
    path = gguf(name)
    return AutoModelForCausalLM.from_pretrained(path.parent, gguf_file=path.name, dtype=torch.float32,
                                                attn_implementation="eager").eval()


def hf_directory(name):
    """The same weights as safetensors, with the tokenizer."""
    from transformers import AutoModelForCausalLM, AutoTokenizer
    out = CACHE / "hf" / name
    if not (out / "done").exists():
        model = torch_model(name)
        if hasattr(model.config, "quantization_config"):
            del model.config.quantization_config  # how the file was opened, not what the model is
        fresh = AutoModelForCausalLM.from_config(model.config)
        fresh.load_state_dict(model.state_dict())
        fresh.save_pretrained(out)
        AutoTokenizer.from_pretrained(gguf(name).parent, gguf_file=gguf(name).name).save_pretrained(out)
        (out / "done").touch()
    return out


def speeches(limit):
    """The first texts of the speeches, or a few of our own where they are absent."""
    path = SHARED / "data/sotu.jsonl.zst"
    if not path.exists():
        return ["Two roads met at the harbour, and the clerk wrote both names down. " * 40] * limit
    raw = subprocess.run(["zstd", "-dc", str(path)], capture_output=True)
    if raw.returncode:
        skip("zstd is not installed")
    return [json.loads(line)["text"] for _, line in zip(range(limit), raw.stdout.decode().splitlines())]


def nmse(a, b):
    import numpy as np
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    return float(((a - b) ** 2).sum() / (a ** 2).sum())


def run(*command, ok=(0,)):
    p = subprocess.run([str(c) for c in command], capture_output=True, text=True)
    if p.returncode not in ok:
        raise SystemExit(f"{' '.join(map(str, command))}: exit {p.returncode}\n{p.stdout[-2000:]}{p.stderr[-4000:]}")
    return p

"""Logits of the real models against transformers in fp32: from the GGUF and from a safetensors directory. NMSE at most 1e-9.
usage: real_logits.py DECANT [model ...]"""
import json
import pathlib
import sys
import tempfile

from judges import enter

enter("torch", "transformers", "numpy")
import numpy as np
import torch
from transformers import AutoTokenizer

import real

BOUND = 1e-9


def check(decant, name, tmp):
    path = real.gguf(name)
    tokenizer = AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name)
    ids = tokenizer(real.speeches(1)[0])["input_ids"][:200]
    (tmp / "ids.json").write_text(json.dumps(ids))
    directory = real.hf_directory(name)
    expected = real.torch_model(name)(torch.tensor([ids])).logits[0].numpy()
    fine = True
    for kind, model in (("gguf", path), ("safetensors", directory)):
        out = tmp / f"{kind}.npy"
        real.run(decant, "logits", "--model", model, "--ids", tmp / "ids.json", "--out", out)
        error = real.nmse(expected, np.load(out)[:, :expected.shape[1]])
        fine &= error <= BOUND
        print(f"{name:8} {kind:12} {len(ids)} tokens   NMSE {error:.2e}   {'ok' if error <= BOUND else 'ABOVE ' + str(BOUND)}")
    return fine


decant, *names = sys.argv[1:]
with tempfile.TemporaryDirectory() as tmp:
    fine = [check(decant, name, pathlib.Path(tmp)) for name in names or real.FILES]
sys.exit(not all(fine))

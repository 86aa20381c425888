"""Model files against gguf-py and transformers. usage: model_files.py MODEL_TOOL

(a) Every tensor of the real GGUF files: decant's floats have the bits of gguf-py's dequantization, rows of q and k put back in HF's order.
(b) A tiny random model of each family, saved by transformers in both forms of config.json: decant reads the same floats and the
    same rotary frequencies; what decant saves loads in transformers with an equal state dict, in each type, sharded or not.
(c) GGUF files that gguf-py writes of llama3-scaled models: frequencies as transformers has them."""
import sys

import judges

judges.enter("torch", "transformers", "gguf")

import json
import pathlib
import subprocess
import tempfile

import gguf
import numpy as np
import torch
import transformers

TOOL = sys.argv[1]
transformers.logging.set_verbosity_error()
transformers.utils.logging.disable_progress_bar()


def floats(model):
    """Yields (hf, gguf, permuted heads, array) of each weight."""
    with subprocess.Popen([TOOL, "floats", str(model)], stdout=subprocess.PIPE) as p:
        while line := p.stdout.readline():
            hf, name, rows, columns, heads = line.decode().split()
            rows, columns = int(rows), int(columns)
            x = np.frombuffer(p.stdout.read(4 * rows * columns), dtype=np.float32)
            yield hf, name, int(heads), x.reshape(rows, columns)
    assert p.returncode == 0, model


def output(*args):
    return subprocess.run([TOOL, *map(str, args)], check=True, stdout=subprocess.PIPE).stdout


def unpermute(x, heads):
    """The converter's permute, backwards."""
    rows, columns = x.shape
    return x.reshape(heads, rows // heads // 2, 2, columns).swapaxes(1, 2).reshape(rows, columns)


def same_bits(a, b):
    return a.shape == b.shape and np.array_equal(np.ascontiguousarray(a).view(np.uint32), np.ascontiguousarray(b).view(np.uint32))


def real_gguf(path):
    reader = gguf.GGUFReader(path)
    architecture = reader.fields["general.architecture"].contents()
    if architecture not in ("llama", "qwen2", "qwen3"):
        p = subprocess.run([TOOL, "config", str(path)], capture_output=True, text=True)
        assert p.returncode == 1 and f"architecture '{architecture}' is not supported" in p.stderr, p.stderr
        print(f"{path.name}: {architecture} is refused by name")
        return
    tensors = {t.name: t for t in reader.tensors}
    n = 0
    for _, name, heads, got in floats(path):
        t = tensors.pop(name)
        want = gguf.dequantize(t.data, t.tensor_type).reshape(got.shape)
        assert same_bits(got, unpermute(want, heads) if heads else want), (path, name)
        n += 1
    assert not tensors, list(tensors)
    print(f"{path.name}: {n} tensors, equal bits")


SIZES = dict(hidden_size=64, num_hidden_layers=3, num_attention_heads=4, num_key_value_heads=2, intermediate_size=96, vocab_size=160,
             max_position_embeddings=512, rms_norm_eps=1e-5, bos_token_id=1, eos_token_id=2)
LLAMA3 = dict(rope_type="llama3", rope_theta=500000.0, factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0,
              original_max_position_embeddings=128)
CASES = [
    ("llama", dict(tie_word_embeddings=True, rope_parameters=dict(rope_type="default", rope_theta=100000.0))),
    ("llama", dict(attention_bias=True, mlp_bias=True, head_dim=32, rope_parameters=LLAMA3)),
    ("llama", dict(num_key_value_heads=4, rope_parameters=dict(rope_type="linear", rope_theta=10000.0, factor=4.0))),
    ("qwen2", dict(rope_parameters=dict(rope_type="default", rope_theta=1000000.0))),
    ("qwen2", dict(tie_word_embeddings=True)),
    ("qwen3", dict(head_dim=32, rope_parameters=dict(rope_type="default", rope_theta=1000000.0))),
    ("qwen3", dict(head_dim=16, attention_bias=True, tie_word_embeddings=True)),
]


def publish(config):
    """Rewrites config.json as transformers 4 published it."""
    c = json.loads(config.read_text())
    rope = c.pop("rope_parameters")
    c["rope_theta"] = rope.pop("rope_theta")
    c["rope_scaling"] = None if rope["rope_type"] == "default" else rope
    c["torch_dtype"] = c.pop("dtype")
    c.pop("layer_types", None)
    config.write_text(json.dumps(c))


def state(model):
    tied = model.config.tie_word_embeddings
    return {k: v for k, v in model.state_dict().items() if not (tied and k == "lm_head.weight")}


def random_model(family, options):
    config = transformers.AutoConfig.for_model(family, **{**SIZES, **options})
    torch.manual_seed(0)
    model = transformers.AutoModelForCausalLM.from_config(config)
    with torch.no_grad():
        for p in model.parameters():
            p.normal_()
    model.tie_weights()
    return model


def check_frequencies(model, path):
    got = np.frombuffer(output("frequencies", path), dtype=np.float32)
    want = model.model.rotary_emb.inv_freq.numpy()
    assert got.shape == want.shape and np.abs(got / want - 1).max() < 2.5e-7, (got, want)
    return int((got != want).sum())


def check_saved(model, source, folder, kind, dtype, shard):
    output("save", source, folder, kind, shard)
    again, info = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype="auto", output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"], info
    assert again.dtype == dtype, again.dtype
    want, got = state(model), state(again)
    assert want.keys() == got.keys()
    for k in want:
        assert torch.equal(got[k], want[k].to(dtype)), k
    a, b = model.config.to_dict(), again.config.to_dict()
    for key in set(a) | set(b):
        if key not in ("dtype", "architectures", "_name_or_path", "layer_types", "transformers_version"):
            assert a.get(key) == b.get(key), (key, a.get(key), b.get(key))
    assert torch.equal(model.model.rotary_emb.inv_freq, again.model.rotary_emb.inv_freq)


def hf_model(family, options, folder):
    model = random_model(family, options)
    off = 0
    for dtype in (torch.float32, torch.float16, torch.bfloat16):
        for published in (False, True):
            path = folder / f"{dtype}-{published}".replace("torch.", "")
            stored = random_model(family, options).to(dtype)
            stored.save_pretrained(path, max_shard_size="100KB" if published else "5GB")
            if published:
                publish(path / "config.json")
            names = set()
            for hf, _, _, got in floats(path):
                assert same_bits(got, state(stored)[hf].float().numpy().reshape(got.shape)), hf
                names.add(hf)
            assert names == state(stored).keys()
            off = check_frequencies(model, path)
    for kind, dtype in (("f32", torch.float32), ("f16", torch.float16), ("bf16", torch.bfloat16)):
        check_saved(model, folder / "float32-True", folder / f"saved-{kind}", kind, dtype, 0 if kind == "f32" else 40000)
    print(f"{family} {options}: ok ({off} frequencies differ in the last bits)")


def rope_freqs(folder):
    """As conversion/llama.py of llama.cpp writes them, by gguf-py."""
    options = dict(head_dim=64, rope_parameters=dict(LLAMA3, original_max_position_embeddings=8192))
    model = random_model("llama", options)
    config, rope, path = model.config, model.config.rope_parameters, folder / "llama3.gguf"
    w = gguf.GGUFWriter(path, "llama")
    w.add_context_length(config.max_position_embeddings)
    w.add_embedding_length(config.hidden_size)
    w.add_block_count(config.num_hidden_layers)
    w.add_feed_forward_length(config.intermediate_size)
    w.add_head_count(config.num_attention_heads)
    w.add_head_count_kv(config.num_key_value_heads)
    w.add_rope_freq_base(rope["rope_theta"])
    w.add_layer_norm_rms_eps(config.rms_norm_eps)
    w.add_key_length(64)
    w.add_value_length(64)
    w.add_rope_dimension_count(64)
    w.add_vocab_size(config.vocab_size)
    w.add_bos_token_id(config.bos_token_id)
    w.add_eos_token_id(config.eos_token_id)
    base, low, high, original = 1.0 / (rope["rope_theta"] ** (torch.arange(0, 64, 2).float() / 64)), 1.0, 4.0, 8192
    factors = []
    for f in base:
        wave = 2 * torch.pi / f
        smooth = (original / wave - low) / (high - low)
        factors.append(1.0 if wave < original / high else 8.0 if wave > original / low else 1 / ((1 - smooth) / 8.0 + smooth))
    w.add_tensor("rope_freqs.weight", np.array(factors, dtype=np.float32))
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, config.num_hidden_layers)
    for k, v in state(model).items():
        x = v.numpy()
        for part, heads in (("q_proj", config.num_attention_heads), ("k_proj", config.num_key_value_heads)):
            if part in k:
                x = x.reshape(heads, 2, x.shape[0] // heads // 2, -1).swapaxes(1, 2).reshape(v.shape)
        w.add_tensor(names.get_name(k, try_suffixes=(".weight", ".bias")), np.ascontiguousarray(x))
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()
    for hf, _, _, got in floats(path):
        assert same_bits(got, state(model)[hf].numpy().reshape(got.shape)), hf
    check_frequencies(model, path)
    found = json.loads(output("config", path))["rope_scaling"]
    assert found == {k: v for k, v in rope.items() if k != "rope_theta"}, found
    check_saved(model, path, folder / "llama3", "f32", torch.float32, 0)
    print("llama3 frequencies through rope_freqs.weight: ok")


def main():
    with tempfile.TemporaryDirectory() as folder:
        for i, (family, options) in enumerate(CASES):
            hf_model(family, options, pathlib.Path(folder) / str(i))
        rope_freqs(pathlib.Path(folder))
    models = sorted(judges.MODELS.glob("*.gguf"))
    for path in models:
        real_gguf(path)
    if not models:
        print(f"no real models in {judges.MODELS}: part (a) was not run")


main()

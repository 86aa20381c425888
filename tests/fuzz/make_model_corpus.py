"""Writes the inputs of corpus/model_gguf and corpus/config. usage: python3 tests/fuzz/make_model_corpus.py (standard library only)"""
import json

from make_corpus import F32, STRING, U32, gguf, here, kv

C, F, V, H, K = 8, 32, 4, 2, 1
D = C // H


def model(arch, kind, layers=1, freqs=False):
    """kind: the type of ffn_down, whose rows have 32 columns; the other matrices are F32."""
    keys = {"context_length": 16, "embedding_length": C, "block_count": layers, "feed_forward_length": F, "attention.head_count": H,
            "attention.head_count_kv": K}
    kvs = [kv("general.architecture", STRING, arch)] + [kv(f"{arch}.{k}", U32, v) for k, v in keys.items()]
    kvs += [kv(f"{arch}.attention.layer_norm_rms_epsilon", F32, 1e-5), kv(f"{arch}.rope.freq_base", F32, 1e4)]
    down = {0: F * 4, 2: 18, 8: 34}[kind]
    tensors = [("rope_freqs.weight", (D // 2,), 0, 4 * D // 2)] * freqs + [("token_embd.weight", (C, V), 0, 4 * C * V)]
    for i in range(layers):
        b = f"blk.{i}."
        tensors += [(b + n, dims, 0, 4 * dims[0] * (dims + (1,))[1]) for n, dims in (
            ("attn_norm.weight", (C,)), ("attn_q.weight", (C, C)), ("attn_k.weight", (C, K * D)), ("attn_v.weight", (C, K * D)),
            ("attn_output.weight", (C, C)), ("ffn_norm.weight", (C,)), ("ffn_gate.weight", (C, F)), ("ffn_up.weight", (C, F)))]
        if arch == "qwen2":
            tensors += [(f"{b}attn_{n}.bias", (w,), 0, 4 * w) for n, w in (("q", C), ("k", K * D), ("v", K * D))]
        tensors.append((b + "ffn_down.weight", (F, C), kind, down * C))
    return kvs, tensors + [("output_norm.weight", (C,), 0, 4 * C)]


(here / "model_gguf").mkdir(parents=True, exist_ok=True)
gguf("../model_gguf/llama", *model("llama", 0, freqs=True))
gguf("../model_gguf/llama-q8_0", *model("llama", 8, layers=2))
gguf("../model_gguf/qwen2-q4_0", *model("qwen2", 2))

SIZES = dict(hidden_size=64, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2, intermediate_size=96, vocab_size=100,
             max_position_embeddings=512, rms_norm_eps=1e-5, torch_dtype="bfloat16")
LLAMA3 = dict(rope_type="llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_position_embeddings=8192)
LONG = dict(rope_type="longrope", attention_factor=1.0, short_factor=[1.5] * 8, long_factor=[1.5] * 8)
CONFIGS = {
    "llama": dict(SIZES, model_type="llama", rope_theta=1e4, rope_scaling=LLAMA3, attention_bias=True, eos_token_id=[1, 2]),
    "longrope": dict(SIZES, model_type="llama", rope_parameters=dict(LONG, rope_theta=1e4)),
    "linear": dict(SIZES, model_type="llama", rope_scaling=dict(type="linear", factor=2), mlp_bias=True, hidden_act="gelu"),
    "qwen2": dict(SIZES, model_type="qwen2", use_sliding_window=True, sliding_window=64, max_window_layers=2, num_key_value_heads=None),
    "qwen3": dict(SIZES, model_type="qwen3", head_dim=32, layer_types=["full_attention"] * 2, dtype="float16"),
}
(here / "config").mkdir(parents=True, exist_ok=True)
for name, config in CONFIGS.items():
    (here / "config" / f"{name}.json").write_text(json.dumps(config) + "\n")

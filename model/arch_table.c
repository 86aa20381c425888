/* model/arch_table.c -- the families. Sources: configuration_*.py and modeling_*.py of transformers for keys, defaults and names;
 * gguf-py/gguf/constants.py and conversion/ of llama.cpp for GGUF. */
#include "model/arch_table.h"

#include <stdio.h>
#include <string.h>

/* clang-format off */
#define LAYER "model.layers.*."

/* The names that llama gave, and most followed. */
static const dc_tensor_row llama_tensors[] = {
    {DC_W_EMBED, "model.embed_tokens.weight", "token_embd.weight", 'V', 'C', 0},
    {DC_W_ATTN_NORM, LAYER "input_layernorm.weight", "blk.*.attn_norm.weight", 'C', 0, 0},
    {DC_W_Q, LAYER "self_attn.q_proj.weight", "blk.*.attn_q.weight", 'Q', 'C', 0},
    {DC_W_Q_BIAS, LAYER "self_attn.q_proj.bias", "blk.*.attn_q.bias", 'Q', 0, DC_HAS_Q_BIAS},
    {DC_W_K, LAYER "self_attn.k_proj.weight", "blk.*.attn_k.weight", 'K', 'C', 0},
    {DC_W_K_BIAS, LAYER "self_attn.k_proj.bias", "blk.*.attn_k.bias", 'K', 0, DC_HAS_Q_BIAS},
    {DC_W_V, LAYER "self_attn.v_proj.weight", "blk.*.attn_v.weight", 'K', 'C', 0},
    {DC_W_V_BIAS, LAYER "self_attn.v_proj.bias", "blk.*.attn_v.bias", 'K', 0, DC_HAS_Q_BIAS},
    {DC_W_Q_NORM, LAYER "self_attn.q_norm.weight", "blk.*.attn_q_norm.weight", 'D', 0, DC_HAS_QK_NORM},
    {DC_W_K_NORM, LAYER "self_attn.k_norm.weight", "blk.*.attn_k_norm.weight", 'D', 0, DC_HAS_QK_NORM},
    {DC_W_O, LAYER "self_attn.o_proj.weight", "blk.*.attn_output.weight", 'C', 'Q', 0},
    {DC_W_O_BIAS, LAYER "self_attn.o_proj.bias", "blk.*.attn_output.bias", 'C', 0, DC_HAS_O_BIAS},
    {DC_W_FFN_NORM, LAYER "post_attention_layernorm.weight", "blk.*.ffn_norm.weight", 'C', 0, 0},
    {DC_W_GATE, LAYER "mlp.gate_proj.weight", "blk.*.ffn_gate.weight", 'F', 'C', 0},
    {DC_W_GATE_BIAS, LAYER "mlp.gate_proj.bias", "blk.*.ffn_gate.bias", 'F', 0, DC_HAS_MLP_BIAS},
    {DC_W_UP, LAYER "mlp.up_proj.weight", "blk.*.ffn_up.weight", 'F', 'C', 0},
    {DC_W_UP_BIAS, LAYER "mlp.up_proj.bias", "blk.*.ffn_up.bias", 'F', 0, DC_HAS_MLP_BIAS},
    {DC_W_DOWN, LAYER "mlp.down_proj.weight", "blk.*.ffn_down.weight", 'C', 'F', 0},
    {DC_W_DOWN_BIAS, LAYER "mlp.down_proj.bias", "blk.*.ffn_down.bias", 'C', 0, DC_HAS_MLP_BIAS},
    {DC_W_FINAL_NORM, "model.norm.weight", "output_norm.weight", 'C', 0, 0},
    {DC_W_HEAD, "lm_head.weight", "output.weight", 'V', 'C', DC_HAS_HEAD},
};
#define TENSORS(list) list, sizeof list / sizeof *list

#define AT(field) offsetof(dc_config, field)
/* Keys of nearly every decoder; what differs is what stands in for an absent key. */
#define NUMBERS(kv_heads_default, head_dim_default, context_default) \
    {"hidden_size", "embedding_length", AT(C), -1}, {"num_hidden_layers", "block_count", AT(L), -1}, \
    {"num_attention_heads", "attention.head_count", AT(H), -1}, \
    {"num_key_value_heads", "attention.head_count_kv", AT(K), kv_heads_default}, {"head_dim", NULL, AT(D), head_dim_default}, \
    {"intermediate_size", "feed_forward_length", AT(F), -1}, {"vocab_size", NULL, AT(V), -1}, \
    {"max_position_embeddings", "context_length", AT(max_position), context_default}, {NULL, NULL, 0, 0}

static const dc_number_key llama_numbers[] = {NUMBERS(0, 0, 2048)};
static const dc_number_key qwen2_numbers[] = {NUMBERS(32, 0, 32768)};
static const dc_number_key qwen3_numbers[] = {NUMBERS(32, 128, 32768)};

static const dc_family families[] = {
    {.hf_type = "llama", .hf_class = "LlamaForCausalLM", .gguf_arch = "llama", TENSORS(llama_tensors), .numbers = llama_numbers,
     .qk_norm = {NULL, 0}, .q_bias = {"attention_bias", 0}, .o_bias = {"attention_bias", 0}, .mlp_bias = {"mlp_bias", 0},
     .gguf_interleaved = 1, .gguf_rope_freqs = 1, .gguf_rope_dimensions = 1, .gguf_vocab_size = 1,
     .gguf_parts = DC_HAS_Q_BIAS | DC_HAS_O_BIAS | DC_HAS_MLP_BIAS | DC_HAS_HEAD},
    {.hf_type = "qwen2", .hf_class = "Qwen2ForCausalLM", .gguf_arch = "qwen2", TENSORS(llama_tensors), .numbers = qwen2_numbers,
     .qk_norm = {NULL, 0}, .q_bias = {NULL, 1}, .o_bias = {NULL, 0}, .mlp_bias = {NULL, 0},
     .gguf_parts = DC_HAS_Q_BIAS | DC_HAS_HEAD},
    {.hf_type = "qwen3", .hf_class = "Qwen3ForCausalLM", .gguf_arch = "qwen3", TENSORS(llama_tensors), .numbers = qwen3_numbers,
     .qk_norm = {NULL, 1}, .q_bias = {"attention_bias", 0}, .o_bias = {"attention_bias", 0}, .mlp_bias = {NULL, 0},
     .gguf_head_width = 1, .gguf_parts = DC_HAS_QK_NORM | DC_HAS_HEAD},
};
enum { FAMILIES = sizeof families / sizeof *families };

/* Read by config_json.c itself, or without an effect on what a forward pass computes. */
const char *const dc_config_harmless_hf[] = {
    "model_type", "architectures", "_model_name_or_path", "rms_norm_eps", "rope_theta", "rope_scaling", "rope_parameters", "torch_dtype", "dtype", "hidden_act",
    "tie_word_embeddings", "bos_token_id", "eos_token_id", "pad_token_id", "unk_token_id", "sep_token_id", "mask_token_id",
    "decoder_start_token_id", "layer_types", "use_sliding_window", "sliding_window", "max_window_layers",
    "_name_or_path", "_attn_implementation", "_attn_implementation_autoset", "_commit_hash", "_flash_attn_2_enabled", "attention_dropout",
    "initializer_range", "transformers_version", "transformers.js_config", "use_cache", "pretraining_tp", "name", "task_specific_params",
    "problem_type", "finetuning_task", "id2label", "label2id", "num_labels", "output_attentions", "output_hidden_states",
    "return_dict", "torchscript", "chunk_size_feed_forward", "tokenizer_class", "prefix", "generation_config", "unsloth_version",
    "unsloth_fixed", "is_llama_config", "is_decoder", "max_length", "min_length", "do_sample", "temperature", "top_k",
    "top_p", "repetition_penalty", "use_return_dict", "hidden_dropout", "resid_pdrop", "embd_pdrop",
    "attn_pdrop", NULL};

const dc_neutral_key dc_config_neutral_hf[] = {
    {"partial_rotary_factor", 1}, {"rotary_dim", 0}, {"rope_interleaved", 0}, {"rope_local_base_freq", 0}, {"use_mrope", 0},
    {"quantization_config", 0}, {"compression_config", 0}, {"num_local_experts", 0}, {"num_experts", 0}, {"n_routed_experts", 0},
    {"num_experts_per_tok", 0}, {"mlp_only_layers", 0}, {"no_rope_layers", 0}, {"no_rope_layer_interval", 0}, {"layer_group_size", 0},
    {"attn_logit_softcapping", 0}, {"final_logit_softcapping", 0}, {"query_pre_attn_scalar", 0}, {"attention_multiplier", 1},
    {"residual_multiplier", 1}, {"embedding_multiplier", 1}, {"logits_scaling", 1}, {"logit_scale", 1}, {"scale_emb", 1},
    {"scale_depth", 1}, {"dim_model_base", 0}, {"clip_qkv", 0}, {"use_qk_norm", 0}, {"qk_layernorm", 0}, {"attention_chunk_size", 0},
    {"attention_sink", 0}, {"pruned_heads", 0}, {"is_encoder_decoder", 0}, {"add_cross_attention", 0},
    {"cross_attention_hidden_size", 0}, {"tie_encoder_decoder", 0}, {"use_bidirectional_attention", 0}, {"vision_config", 0},
    {"text_config", 0}, {"audio_config", 0}, {"auto_map", 0}, {"q_lora_rank", 0}, {"kv_lora_rank", 0},
    {"num_nextn_predict_layers", 0}, {"parallel_attn", 0}, {"use_parallel_residual", 0}, {NULL, 0}};

const char *const dc_config_harmless_gguf[] = {
    "vocab_size", "rope.freq_base", "rope.dimension_count", "rope.scaling.type", "rope.scaling.factor", "rope.scale_linear",
    "rope.scaling.original_context_length", "rope.scaling.finetuned", "attention.layer_norm_rms_epsilon", "attention.key_length",
    "attention.value_length", "tensor_data_layout", NULL};

const dc_neutral_key dc_config_neutral_gguf[] = {
    {"expert_count", 0}, {"expert_used_count", 0}, {"attention.sliding_window", 0}, {"attn_logit_softcapping", 0},
    {"final_logit_softcapping", 0}, {"attention.scale", 0}, {"attention.clamp_kqv", 0}, {"attention.max_alibi_bias", 0}, {"logit_scale", 1},
    {"embedding_scale", 1}, {"residual_scale", 1}, {"use_parallel_residual", 0}, {"attention.layer_norm_epsilon", 0},
    {"rope.scaling.attn_factor", 1}, {"rope.scaling.yarn_log_multiplier", 0}, {"rope.dimension_sections", 0}, {"pooling_type", 0},
    {"nextn_predict_layers", 0}, {NULL, 0}};

/* clang-format on */
const dc_family *dc_family_at(size_t i) { return i < FAMILIES ? &families[i] : NULL; }
const char *dc_family_hf_type(const dc_family *f) { return f->hf_type; }
const char *dc_family_gguf_arch(const dc_family *f) { return f->gguf_arch; }

const dc_family *dc_family_by_hf(const char *type)
{
    for (size_t i = 0; i < FAMILIES; i++)
        if (!strcmp(families[i].hf_type, type)) return &families[i];
    return NULL;
}

const dc_family *dc_family_by_gguf(const char *arch)
{
    for (size_t i = 0; i < FAMILIES; i++)
        if (!strcmp(families[i].gguf_arch, arch)) return &families[i];
    return NULL;
}

char *dc_family_list(char *out, size_t room, int gguf)
{
    size_t n = 0;
    out[0] = 0;
    for (size_t i = 0; i < FAMILIES && n < room; i++)
        n += (size_t)snprintf(out + n, room - n, "%s%s", i ? ", " : "",
                              gguf ? families[i].gguf_arch : families[i].hf_type);
    return out;
}

int dc_name_in(const char *const *list, const char *name)
{
    for (; *list; list++)
        if (!strcmp(*list, name)) return 1;
    return 0;
}

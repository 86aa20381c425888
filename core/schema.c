/* core/schema.c -- every key of a recipe, once.
 *
 * Column `stages`: the stages whose own output changes with the key; later stages notice by the hashes of their inputs. They are also those
 * whose resume the key binds. Column `change`: OK where a run that goes on with another value still ends with the bytes it would have had, or
 * where no run goes on (export). */
#include "core/recipe.h"

#include <math.h>
#include <string.h>

#include "core/recipe_internal.h"

#define NO DC_CHANGE_NO
#define OK DC_CHANGE_OK
#define UP INFINITY /* no upper bound */

/* clang-format off */
#define INT(path, fallback, low, high, change, stages, help) \
    {path, DC_KEY_INT, fallback, low, high, NULL, change, stages, help}
#define REAL(path, fallback, low, high, change, stages, help) \
    {path, DC_KEY_REAL, fallback, low, high, NULL, change, stages, help}
#define BOOL(path, fallback, change, stages, help) {path, DC_KEY_BOOL, fallback, 0, 0, NULL, change, stages, help}
#define STR(path, fallback, choices, change, stages, help) {path, DC_KEY_STR, fallback, 0, 0, choices, change, stages, help}
#define STRS(path, fallback, choices, change, stages, help) {path, DC_KEY_STRS, fallback, 0, 0, choices, change, stages, help}
#define INTS(path, low, high, change, stages, help) {path, DC_KEY_STRS, NULL, low, high, NULL, change, stages, help}
#define MAP(path, low, high, change, stages, help) {path, DC_KEY_MAP, NULL, low, high, NULL, change, stages, help}
#define ITEMS(path, change, stages, help) {path, DC_KEY_ITEMS, NULL, 0, 0, NULL, change, stages, help}
/* clang-format on */

/* The shape of a model made from scratch; its vocabulary is the tokenizer's. */
#define CONFIG(p, stages) \
    STR(p "model_type", "llama", "llama|qwen2|qwen3", NO, stages, "family of the model"), \
        INT(p "hidden_size", "128", 8, 65536, NO, stages, "model width"), \
        INT(p "intermediate_size", "384", 8, 262144, NO, stages, "width of the feed-forward layers"), \
        INT(p "num_hidden_layers", "3", 1, 512, NO, stages, "layers"), \
        INT(p "num_attention_heads", "4", 1, 1024, NO, stages, "attention heads"), \
        INT(p "num_key_value_heads", "0", 0, 1024, NO, stages, "key and value heads; 0: as many as attention heads"), \
        INT(p "head_dim", "0", 0, 1024, NO, stages, "width of a head; 0: hidden_size / num_attention_heads"), \
        REAL(p "rope_theta", "10000", 1, 1e12, NO, stages, "base of the rotary embedding's frequencies"), \
        BOOL(p "tie_word_embeddings", "true", NO, stages, "the output head is the embedding"), \
        REAL(p "rms_norm_eps", "1e-6", 1e-12, 1, NO, stages, "epsilon of the norms"), \
        INT(p "max_position_embeddings", "2048", 1, 16777216, NO, stages, \
            "longest context, as config.json and GGUF state it")

/* One list of row sources. */
#define SOURCES(p, stages) \
    STR(p "path", NULL, NULL, NO, stages, \
        "a file, folder or pattern (*.jsonl.zst): .jsonl .json .csv .tsv .txt, plain, .gz or .zst"), \
        STR(p "format", "auto", "auto|text|messages|sharegpt|alpaca|prompt_completion|tokenized", NO, stages, \
            "what a row holds; auto looks at each row"), \
        REAL(p "weight", "1", 1e-6, 1e6, NO, stages, \
             "share of this source in the mix, relative to its number of rows"), \
        STR(p "name", NULL, NULL, NO, stages, "name in reports; default: the file's name"), \
        INT(p "limit", "0", 0, UP, NO, stages, "read at most so many rows; 0: all"), \
        STR(p "text_field", "text", NULL, NO, stages, "the key that holds the text of a text row")

/* HF Trainer's names. */
#define TRAIN(p, stages) \
    REAL(p "learning_rate", "5e-5", 0, 100, NO, stages, "peak learning rate"), \
        INT(p "per_device_train_batch_size", "1", 1, 65536, NO, stages, \
            "sequences a micro-batch: packed ones of data.max_length tokens, or documents when data.packing is off"), \
        INT(p "gradient_accumulation_steps", "1", 1, 65536, NO, stages, "micro-batches an optimizer step"), \
        INT(p "max_steps", "0", 0, UP, NO, stages, "optimizer steps; 0: as num_train_epochs says"), \
        REAL(p "num_train_epochs", "3", 0, 1e6, NO, stages, "passes over the data when max_steps is 0"), \
        STR(p "lr_scheduler_type", "linear", "constant|constant_with_warmup|linear|cosine", NO, stages, \
            "course of the learning rate"), \
        INT(p "warmup_steps", "0", 0, UP, NO, stages, "steps of linear warm-up; the first has rate 0"), \
        REAL(p "warmup_ratio", "0", 0, 1, NO, stages, "warm-up as a share of all steps, when warmup_steps is 0"), \
        REAL(p "weight_decay", "0", 0, 100, NO, stages, "AdamW's decoupled weight decay"), \
        REAL(p "adam_beta1", "0.9", 0, 0.999999, NO, stages, "AdamW's decay of the first moment"), \
        REAL(p "adam_beta2", "0.999", 0, 0.999999, NO, stages, "AdamW's decay of the second moment"), \
        REAL(p "adam_epsilon", "1e-8", 0, 1, NO, stages, "AdamW's epsilon"), \
        REAL(p "max_grad_norm", "1", 0, UP, NO, stages, "gradients are scaled down to this norm; 0 is off"), \
        STR(p "optim", "adamw", "adamw|adamw_torch", NO, stages, "optimizer; both names mean AdamW"), \
        INT(p "save_steps", "500", 0, UP, OK, "", "steps between checkpoints; 0: at the end and on a signal only"), \
        INT(p "save_total_limit", "2", 2, 1000000, OK, "", "checkpoints kept"), \
        INT(p "eval_steps", "0", 0, UP, OK, "", "steps between evaluations; 0: at the end only"), \
        BOOL(p "eval_on_start", "false", OK, "", "evaluate before the first step as well"), \
        INT(p "logging_steps", "10", 1, UP, OK, "", \
            "steps between lines on the screen; metrics.jsonl has every step"), \
        BOOL(p "bf16", "false", NO, stages, "matrix products on bfloat16 operands, sums in fp32"), \
        BOOL(p "gradient_checkpointing", "false", OK, "", \
             "keep one activation a layer and recompute the rest: less memory, a third more time")

static const dc_key keys[] = {
    STR("output_dir", "runs/decant", NULL, OK, "", "folder of everything the run writes"),
    INT("seed", "0", 0, UP, NO, "pstT",
        "seeds everything: initial values, order, dropout, the draws of sampled targets"),
    STR("device", "auto", "auto|cpu|cuda|cuda:N", OK, "",
        "where to compute; auto: the first GPU when there is one, else the CPU; cuda:N: GPU N, from 0"),
    STRS("stages", NULL, "prepare|teach|train|merge|export", OK, "",
         "stages of decant run; default: those the recipe's sections ask for"),

    STR("teacher.model", NULL, NULL, NO, "tT", "the teacher: an HF directory or a .gguf"),
    STR("teacher.compute", "fp32", "fp32|bf16", NO, "tT", "precision of the teacher's matrix products"),
    CONFIG("teacher.init.config.", "s"),
    ITEMS("teacher.data.train", NO, "p", "what a teacher made from scratch is trained on"),
    SOURCES("teacher.data.train[].", "p"),
    TRAIN("teacher.train.", "s"),

    STR("student.model", NULL, NULL, NO, "pTme", "the student: an HF directory or a .gguf"),
    INTS("student.init.prune_layers", 0, 511, NO, "Tme",
         "make the student from the teacher by keeping these layers, from 0: [0, 2]"),
    CONFIG("student.init.config.", "Tme"),

    STR("tokenizer.path", NULL, NULL, NO, "pstTme",
        "tokenizer.json, a folder with one, or a .gguf; default: the student's, else the teacher's"),
    INT("tokenizer.train.vocab_size", "512", 257, 1048576, NO, "p",
        "entries of a new byte-level BPE, special tokens included"),
    STRS("tokenizer.train.files", NULL, NULL, NO, "p", "what it is learnt from; default: data.train"),
    STR("tokenizer.train.pre", "gpt2", "gpt2|smollm|llama-bpe|qwen2", NO, "p",
        "the rule that splits text into words before merging"),

    ITEMS("data.train", NO, "p", "training rows: a path, or a list of sources"),
    SOURCES("data.train[].", "p"),
    ITEMS("data.eval", NO, "p", "held-out rows, as data.train"),
    SOURCES("data.eval[].", "p"),
    REAL("data.eval_fraction", "0", 0, 0.9, NO, "p",
         "hold out this share of the training rows when data.eval is absent"),
    INT("data.max_length", "1024", 2, 1048576, NO, "psT",
        "tokens of a packed sequence, and the longest a document may be"),
    INT("data.max_tokens", "0", 0, UP, NO, "p", "cut the training set at this many tokens; 0: all"),
    INT("data.max_eval_tokens", "0", 0, UP, NO, "p", "cut the held-out set at this many tokens; 0: all"),
    BOOL("data.packing", "true", NO, "sT", "several documents a sequence; attention never crosses them"),
    BOOL("data.shuffle", "true", NO, "sT", "a new order each epoch, by the seed; false: as in the files"),
    STR("data.truncation", "error", "error|cut|split", NO, "p", "what happens to rows longer than max_length"),
    STR("data.chat_template", NULL, NULL, NO, "p", "a Jinja template, or a file with one; default: the tokenizer's"),
    STR("data.system_prompt", NULL, NULL, NO, "p", "put before conversations that have no system message"),
    BOOL("data.assistant_only_loss", "true", NO, "p", "conversations: only the assistant's turns are targets"),
    BOOL("data.completion_only_loss", "true", NO, "p",
         "prompt_completion and alpaca rows: only the answer is a target"),
    BOOL("data.train_on_eot", "true", NO, "p", "the token that ends a turn, a completion or a text is a target"),
    BOOL("data.add_special_tokens", "true", NO, "p", "text rows: begin and end tokens as the tokenizer says"),
    INT("data.max_bad_rows", "-1", -1, UP, OK, "p", "more rejected rows than this are an error; -1: no limit"),

    STR("distill.mode", "offline", "offline|online", NO, "tT",
        "offline: the teacher's targets are kept on disk first; online: it runs beside the student"),
    STR("distill.targets", "sampled", "sampled|topk", NO, "tT",
        "what is kept: unbiased draws, or the largest probabilities with their tail mass"),
    STR("distill.loss", "forward_kl", "forward_kl", NO, "T", "divergence from the teacher"),
    REAL("distill.kd_ratio", "0.5", 0, 1, NO, "T", "loss = (1 - kd_ratio) cross-entropy + kd_ratio divergence"),
    REAL("distill.temperature", "1", 0.05, 100, NO, "tT", "softens teacher and student"),
    INT("distill.n_samples", "50", 1, 65535, NO, "t", "draws a token of sampled targets"),
    INT("distill.topk", "64", 1, 65535, NO, "t", "probabilities a token of topk targets"),
    INT("distill.chunk_size", "0", 0, 1048576, OK, "", "positions whose logits exist at a time; 0: chosen"),
    BOOL("distill.t2_scale", "true", NO, "T", "multiply the divergence by temperature squared"),
    BOOL("distill.control", "false", NO, "T", "also train the same student on cross-entropy alone, for comparison"),

    INT("lora.r", "8", 1, 4096, NO, "T", "rank"),
    REAL("lora.lora_alpha", "8", 0, 1e6, NO, "T", "scale: lora_alpha / r, or lora_alpha / sqrt(r) with use_rslora"),
    REAL("lora.lora_dropout", "0", 0, 0.99, NO, "T", "dropout on the adapter's input"),
    STRS("lora.target_modules", "all-linear", NULL, NO, "T",
         "names of linears by suffix, one regular expression, or all-linear (all but the head)"),
    STRS("lora.exclude_modules", NULL, NULL, NO, "T", "linears to leave out"),
    INTS("lora.layers_to_transform", 0, 511, NO, "T", "only these layers, from 0"),
    MAP("lora.rank_pattern", 1, 4096, NO, "T", "rank by name, where it differs from r: {q_proj: 16}"),
    MAP("lora.alpha_pattern", 0, 1e6, NO, "T", "lora_alpha by name, where it differs"),
    BOOL("lora.use_rslora", "false", NO, "T", "rank-stabilized scale"),
    STR("lora.init_lora_weights", "true", "true|gaussian", NO, "T",
        "initial A: true is Kaiming-uniform, gaussian has deviation 1/r; B is zero"),
    STR("lora.init_from", NULL, NULL, NO, "T",
        "go on from this PEFT directory; everything else of lora comes from its adapter_config.json"),

    TRAIN("train.", "T"),
    INT("train.repeats", "1", 1, 16, NO, "T",
        "train the student, and its control, with so many seeds to see their spread; the first is exported"),

    ITEMS("export", OK, "e", "GGUF files to write: a list of types, or of sections"),
    STR("export[].type", NULL, "f32|f16|bf16|q8_0|q4_0", OK, "e", "element type of the file's matrices"),
    STR("export[].name", NULL, NULL, OK, "e", "general.name and the file's name; default: the output folder's name"),

    ITEMS("eval.generate", OK, "", "evaluation by generating answers"),
    STR("eval.generate[].path", NULL, NULL, OK, "", "rows with a prompt and the right answer"),
    STR("eval.generate[].prompt_field", "prompt", NULL, OK, "", "key of the prompt"),
    STR("eval.generate[].answer_field", "completion", NULL, OK, "", "key of the answer"),
    STR("eval.generate[].kind", "exact", "exact|json_fields", OK, "",
        "exact: the whole text; json_fields: the named fields of a JSON object"),
    STRS("eval.generate[].fields", NULL, NULL, OK, "",
         "fields that must be equal for json_fields; default: all of the answer's"),
    INT("eval.generate[].limit", "0", 0, UP, OK, "", "use at most so many rows; 0: all"),
    INT("eval.generate[].max_new_tokens", "128", 1, 1048576, OK, "", "longest answer, in tokens"),
    {NULL, DC_KEY_INT, NULL, 0, 0, NULL, NO, NULL, NULL},
};

/* Names that other toolkits use for the same thing; both ends lie in one section. */
static const dc_key_alias aliases[] = {
    {"teacher.", "dtype", "compute"},
    {"data.", "sequence_len", "max_length"},
    {"data.", "cutoff_len", "max_length"},
    {"data.", "max_seq_length", "max_length"},
    {"data.", "sample_packing", "packing"},
    {"distill.", "kd_temperature", "temperature"},
    {"distill.", "kd_loss", "loss"},
    {"distill.", "loss_top_k", "topk"},
    {"distill.", "top_k", "topk"},
    {"lora.", "lora_r", "r"},
    {"lora.", "lora_rank", "r"},
    {"lora.", "rank", "r"},
    {"lora.", "alpha", "lora_alpha"},
    {"lora.", "dropout", "lora_dropout"},
    {"lora.", "lora_target_modules", "target_modules"},
    {"lora.", "lora_target", "target_modules"},
    {"lora.", "peft_use_rslora", "use_rslora"},
    {"train.", "lr", "learning_rate"},
    {"train.", "micro_batch_size", "per_device_train_batch_size"},
    {"train.", "batch_size", "per_device_train_batch_size"},
    {"train.", "grad_accum_steps", "gradient_accumulation_steps"},
    {"train.", "epochs", "num_train_epochs"},
    {"train.", "num_epochs", "num_train_epochs"},
    {"train.", "optimizer", "optim"},
    {"train.", "lr_scheduler", "lr_scheduler_type"},
    {"train.", "gradient_clip", "max_grad_norm"},
    {"train.", "keep_last_n_checkpoints", "save_total_limit"},
    {"train.", "log_every_n_steps", "logging_steps"},
    {NULL, NULL, NULL},
};

static const dc_key_section sections[] = {
    {"", "Of the whole run", NULL},
    {"teacher.", "Whose knowledge is poured: a model that exists, or one made from scratch for experiments", NULL},
    {"teacher.init.config.",
     "A teacher made from scratch, in config.json's names; it needs teacher.data and teacher.train", NULL},
    {"teacher.data.", "Data of a teacher made from scratch", "data."},
    {"teacher.data.train[].", "One source of rows", "data.train[]."},
    {"teacher.train.", "Training of a teacher made from scratch", "train."},
    {"student.", "Who learns: a model that exists, or one made now", NULL},
    {"student.init.", "A student made now", NULL},
    {"student.init.config.", "A student made from scratch, in config.json's names", "teacher.init.config."},
    {"tokenizer.", "The tokenizer, when it is not the model's", NULL},
    {"tokenizer.train.", "A new byte-level BPE, learnt before the data are prepared", NULL},
    {"data.", "Rows, and how they become tokens", NULL},
    {"data.train[].", "One source of rows; a plain path stands for a source with that path", NULL},
    {"data.eval[].", "One source of held-out rows", "data.train[]."},
    {"distill.", "What the student takes from the teacher; absent: it is trained on cross-entropy alone", NULL},
    {"lora.", "The adapter, in PEFT's names; absent: all weights are trained", NULL},
    {"train.", "Training, in HF Trainer's names", NULL},
    {"export[].", "One GGUF file; a plain type stands for a file of that type", NULL},
    {"eval.", "What is measured at the end", NULL},
    {"eval.generate[].", "One evaluation by generating; a plain path stands for one with that path", NULL},
    {NULL, NULL, NULL},
};

const dc_key *dc_schema(void) { return keys; }
const dc_key_alias *dc_schema_aliases(void) { return aliases; }
const dc_key_section *dc_schema_sections(void) { return sections; }

/* Does `path`, perhaps with numbers in its brackets, name the table's `row`? Compares up to the row's end; *rest is what follows in path. */
static int matches(const char *row, const char *path, const char **rest)
{
    while (*row) {
        if (*row == '[' && *path == '[') {
            row += 2;
            path++;
            while (*path >= '0' && *path <= '9') path++;
            if (*path++ != ']') return 0;
        } else if (*row++ != *path++) {
            return 0;
        }
    }
    *rest = path;
    return 1;
}

const dc_key *dc_schema_find(const char *path)
{
    const char *rest;
    for (const dc_key *k = keys; k->path; k++)
        if (matches(k->path, path, &rest) && !*rest) return k;
    return NULL;
}

int dc_schema_is_section(const char *path)
{
    for (const dc_key *k = keys; k->path; k++) {
        const char *dot = k->path;
        while ((dot = strchr(dot, '.'))) {
            char head[128];
            const char *rest;
            const size_t n = (size_t)(dot++ - k->path);
            memcpy(head, k->path, n);
            head[n] = 0;
            if (matches(head, path, &rest) && !*rest) return 1;
        }
    }
    return 0;
}

const char *dc_schema_canonical(const char *prefix, const char *name)
{
    if (!strncmp(prefix, "teacher.train.", 14)) prefix += 8; /* the same keys as train */
    for (const dc_key_alias *a = aliases; a->section; a++)
        if (!strcmp(a->section, prefix) && !strcmp(a->alias, name)) return a->key;
    return name;
}

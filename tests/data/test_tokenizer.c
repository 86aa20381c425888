/* tests/data/test_tokenizer.c -- a small tokenizer through its whole life: reading, encoding, decoding, writing, damage. */
#include "data/tokenizer.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/arena.h"
#include "core/file.h"
#include "tests/data/tok_small.h"

static char dir[] = "/tmp/decant_tok_XXXXXX";

static int make_dir(void **unused)
{
    (void)unused;
    return mkdtemp(dir) == NULL;
}

static int remove_dir(void **unused)
{
    (void)unused;
    return dc_remove_tree(dir, NULL);
}

static char *in_dir(const char *name)
{
    static char path[2][200];
    static int turn;
    turn ^= 1;
    snprintf(path[turn], sizeof path[turn], "%s/%s", dir, name);
    return path[turn];
}

/* Without the syncing of core/file.h: tests write thousands of files. */
static void write_bytes(const char *name, const char *bytes, size_t n)
{
    FILE *file = fopen(in_dir(name), "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(bytes, 1, n, file), n);
    assert_int_equal(fclose(file), 0);
}

static void write_file(const char *name, const char *text) { write_bytes(name, text, strlen(text)); }

static int try_open(dc_tokenizer **t, const small *s, dc_error *err)
{
    dc_str text = {0};
    small_json(&text, s);
    write_bytes("tokenizer.json", text.data, text.n);
    dc_str_release(&text);
    return dc_tokenizer_open(t, dir, err);
}

static dc_tokenizer *open_small(const small *s)
{
    dc_tokenizer *t = NULL;
    dc_error err = {0};
    if (try_open(&t, s, &err)) fail_msg("%s", err.message);
    return t;
}

/* Ids as "1 2 3". */
static void ids_are(const dc_tokenizer *t, const char *text, unsigned flags, const char *expected)
{
    dc_ids ids = {0}, again = {0}, offsets = {0};
    dc_str shown = {0};
    dc_error err = {0};
    if (dc_encode(t, &ids, text, strlen(text), flags, &err)) fail_msg("%s", err.message);
    for (size_t i = 0; i < ids.n; i++) dc_str_putf(&shown, i ? " %d" : "%d", ids.data[i]);
    assert_string_equal(dc_str_text(&shown), expected);
    assert_int_equal(dc_encode_offsets(t, &again, &offsets, text, strlen(text), flags, NULL),
                     DC_OK); /* the way around the cache */
    assert_int_equal(again.n, ids.n);
    assert_int_equal(offsets.n, ids.n);
    if (ids.n) assert_memory_equal(again.data, ids.data, ids.n * sizeof *ids.data);
    dc_ids_release(&ids), dc_ids_release(&again), dc_ids_release(&offsets);
    dc_str_release(&shown);
}

static void offsets_are(const dc_tokenizer *t, const char *text, unsigned flags, const char *expected)
{
    dc_ids ids = {0}, offsets = {0};
    dc_str shown = {0};
    assert_int_equal(dc_encode_offsets(t, &ids, &offsets, text, strlen(text), flags, NULL), DC_OK);
    for (size_t i = 0; i < offsets.n; i++) dc_str_putf(&shown, i ? " %d" : "%d", offsets.data[i]);
    assert_string_equal(dc_str_text(&shown), expected);
    dc_ids_release(&ids), dc_ids_release(&offsets);
    dc_str_release(&shown);
}

static void text_is(const dc_tokenizer *t, const int32_t *ids, size_t n, int skip, const char *expected)
{
    dc_str text = {0};
    dc_error err = {0};
    if (dc_decode(t, &text, ids, n, skip, &err)) fail_msg("%s", err.message);
    assert_string_equal(dc_str_text(&text), expected);
    dc_str_release(&text);
}

/* ---- encoding ---- */

static void merges_in_order_of_rank(void **unused)
{
    (void)unused;
    for (int pairs = 0; pairs < 2; pairs++) {
        dc_tokenizer *t = open_small(&(small){.pairs = pairs});
        assert_int_equal(dc_tokenizer_size(t), 274);
        ids_are(t, "", 0, "");
        ids_are(t, "hello world", 0, "259 264");
        ids_are(t, "hell wor", 0, "258 262");
        ids_are(t, "aaaaa", 0, "266 97");
        ids_are(t, "abc", 0, "97 269"); /* b c ranks before a b */
        ids_are(t, "\xC3\xA9", 0, "267");
        dc_tokenizer_free(t);
    }
}

/* A run of one letter takes the heap's way; it must agree with what a short word says of each part. */
static void long_words_merge_as_short_ones(void **unused)
{
    (void)unused;
    dc_tokenizer *t = open_small(&(small){0});
    dc_ids ids = {0};
    char text[4001];
    memset(text, 'a', sizeof text);
    assert_int_equal(dc_encode(t, &ids, text, sizeof text, 0, NULL), DC_OK);
    assert_int_equal(ids.n, 1001);
    for (size_t i = 0; i < 1000; i++) assert_int_equal(ids.data[i], 266);
    assert_int_equal(ids.data[1000], 97);
    for (size_t i = 0; i < sizeof text; i++) text[i] = "hello"[i % 5];
    ids.n = 0;
    assert_int_equal(dc_encode(t, &ids, text, 4000, 0, NULL), DC_OK);
    assert_int_equal(ids.n, 800);
    for (size_t i = 0; i < 800; i++) assert_int_equal(ids.data[i], 259);
    dc_ids_release(&ids);
    dc_tokenizer_free(t);
}

static void whole_words_come_first_with_ignore_merges(void **unused)
{
    (void)unused;
    dc_tokenizer *t = open_small(&(small){.model = "\"type\": \"BPE\", \"ignore_merges\": true"});
    ids_are(t, "ab", 0, "270");
    ids_are(t, "abc", 0, "97 269");
    ids_are(t, "hello", 0, "259");
    dc_tokenizer_free(t);
}

static void added_tokens_cut_the_text(void **unused)
{
    (void)unused;
    dc_tokenizer *t = open_small(&(small){0});
    ids_are(t, "<s>hello</s><tool>", 0, "271 259 272 273");
    ids_are(t, "<s>hello<tool>", DC_TOK_PLAIN, "60 115 62 259 273"); /* only special ones are text */
    ids_are(t, "<s", 0, "60 115");
    offsets_are(t, "<s>hello world</s>", 0, "0 3 8 14");
    dc_tokenizer_free(t);
}

static void added_tokens_obey_their_flags(void **unused)
{
    (void)unused;
    dc_tokenizer *t =
        open_small(&(small){.normalizer = "{\"type\": \"NFC\"}",
                            .added = "[{\"id\": 271, \"content\": \"<l>\", \"lstrip\": true, \"special\": true},"
                                     "{\"id\": 272, \"content\": \"<r>\", \"rstrip\": true, \"special\": true},"
                                     "{\"id\": 273, \"content\": \"one\", \"single_word\": true},"
                                     "{\"id\": 274, \"content\": \"<x>\"}, {\"id\": 275, \"content\": \"<x>y\"},"
                                     "{\"id\": 276, \"content\": \"e\\u0301\", \"normalized\": true}]"});
    ids_are(t, "h \n<l> h", 0, "104 271 32 104");
    ids_are(t, "h <r>\xC2\xA0 h", 0, "104 32 272 104");
    ids_are(t, "one,one1 _one", 0, "273 44 111 110 101 49 32 95 111 110 101");
    ids_are(t, "<x>y<x>z", 0, "275 274 122"); /* the longest of those that begin leftmost */
    ids_are(t, "\xC3\xA9", 0, "276");         /* its normalized form in the normalized text */
    offsets_are(t, "he\xCC\x81h", 0, "0 1 4");
    offsets_are(t, "\xC3\xA9 h", 0, "0 2 3");
    dc_tokenizer_free(t);
}

static void text_is_normalized_and_offsets_are_of_the_original(void **unused)
{
    (void)unused;
    dc_tokenizer *t =
        open_small(&(small){.normalizer = "{\"type\": \"Sequence\", \"normalizers\": [{\"type\": \"NFC\"}]}"});
    ids_are(t, "e\xCC\x81hello", 0, "267 259");
    offsets_are(t, "e\xCC\x81hello", 0, "0 3");
    offsets_are(t, "hello e\xCC\x81<s>hello", 0, "0 5 6 9 12");
    dc_tokenizer_free(t);
    t = open_small(&(small){.normalizer = "{\"type\": \"NFD\"}"});
    ids_are(t, "\xC3\xA9", 0, "101 204 129"); /* e U+0301, which the pattern parts */
    dc_tokenizer_free(t);
    t = open_small(&(small){.normalizer = "{\"type\": \"NFKC\"}"});
    ids_are(t, "\xEF\xAC\x81", 0, "102 105"); /* the ligature fi */
    offsets_are(t, "\xEF\xAC\x81h", 0, "0 0 3");
    dc_tokenizer_free(t);
    t = open_small(&(small){.pre_tokenizer = "{\"type\": \"ByteLevel\"}"}); /* add_prefix_space defaults to true */
    ids_are(t, "world", 0, "264");
    offsets_are(t, "world world", 0, "0 5");
    dc_tokenizer_free(t);
}

static void specials_follow_the_post_processor(void **unused)
{
    (void)unused;
    dc_tokenizer *t = open_small(&(small){
        .post =
            "{\"type\": \"Sequence\", \"processors\": [" BYTE_LEVEL ", {\"type\": \"TemplateProcessing\", \"single\": "
            "[{\"SpecialToken\": {\"id\": \"<s>\", \"type_id\": 0}}, {\"Sequence\": {\"id\": \"A\", \"type_id\": 0}}, "
            "{\"SpecialToken\": {\"id\": \"</s>\", \"type_id\": 0}}], \"pair\": [], \"special_tokens\": {\"<s>\": "
            "{\"id\": "
            "\"<s>\", \"ids\": [271], \"tokens\": [\"<s>\"]}, \"</s>\": {\"id\": \"</s>\", \"ids\": [272], \"tokens\": "
            "[\"</s>\"]}}}]}"});
    ids_are(t, "hello", DC_TOK_SPECIAL, "271 259 272");
    ids_are(t, "hello", 0, "259");
    ids_are(t, "", DC_TOK_SPECIAL, "271 272");
    offsets_are(t, "hello", DC_TOK_SPECIAL, "0 0 5");
    assert_int_equal(dc_tokenizer_bos(t), 271);
    dc_tokenizer_free(t);
}

static void lacking_bytes_vanish_or_become_unk(void **unused)
{
    (void)unused;
    dc_tokenizer *t = open_small(&(small){.skip_byte = 'x'});
    ids_are(t, "hexll", 0, "258"); /* as in the library, the neighbours meet */
    dc_tokenizer_free(t);
    t = open_small(&(small){.skip_byte = 'x', .model = "\"type\": \"BPE\", \"unk_token\": \"a\""});
    ids_are(t, "hxxh", 0, "104 265 104"); /* two a's merge as any other */
    dc_tokenizer_free(t);
    t = open_small(&(small){.skip_byte = 'x', .model = "\"type\": \"BPE\", \"unk_token\": \"a\", \"fuse_unk\": true"});
    ids_are(t, "hxxh", 0, "104 97 104");
    dc_tokenizer_free(t);
}

static void invalid_text_is_refused_with_its_place(void **unused)
{
    (void)unused;
    dc_tokenizer *t = open_small(&(small){0});
    dc_ids ids = {0};
    dc_error err = {0};
    assert_int_equal(dc_encode(t, &ids, "ok \xFF", 4, 0, &err), DC_EFORMAT);
    assert_string_equal(err.message, "the text is not valid UTF-8: byte 3 is 0xff");
    assert_int_equal(ids.n, 0);
    dc_tokenizer_free(t);
}

/* ---- decoding and asking ---- */

static void decoding(void **unused)
{
    (void)unused;
    dc_tokenizer *t = open_small(&(small){0});
    text_is(t, (int32_t[]){271, 259, 264, 272}, 4, 0, "<s>hello world</s>");
    text_is(t, (int32_t[]){271, 259, 264, 273}, 4, 1, "hello world<tool>");
    text_is(t, (int32_t[]){0xC3, 0xA9, 0xC3}, 3, 0, "\xC3\xA9\xEF\xBF\xBD"); /* the last byte lacks its second */
    text_is(t, (int32_t[]){0xE2, 0x82, 'a', 0xFF}, 4, 0,
            "\xEF\xBF\xBD"
            "a\xEF\xBF\xBD");
    dc_str text = {0};
    dc_error err = {0};
    assert_int_equal(dc_decode(t, &text, (int32_t[]){1, 274}, 2, 0, &err), DC_EFORMAT);
    assert_string_equal(err.message, "token id 274 at place 1 is not in the vocabulary of 274");
    assert_int_equal(dc_decode(t, &text, (int32_t[]){-1}, 1, 0, NULL), DC_EFORMAT);
    dc_str_release(&text);
    size_t n;
    assert_memory_equal(dc_token_bytes(t, 264, &n), " world", 6);
    assert_int_equal(n, 6);
    assert_null(dc_token_bytes(t, 999, &n));
    assert_int_equal(dc_token_find(t, "</s>"), 272);
    assert_int_equal(dc_token_find(t, "\xC4\xA0world"), 264);
    assert_int_equal(dc_token_find(t, "nothing"), -1);
    assert_true(dc_token_is_special(t, 271));
    assert_false(dc_token_is_special(t, 273));
    dc_tokenizer_free(t);
}

static void files_beside_are_read(void **unused)
{
    (void)unused;
    write_file("tokenizer_config.json",
               "{\"bos_token\": {\"content\": \"<s>\"}, \"eos_token\": \"</s>\", \"pad_token\": null, "
               "\"model_max_length\": 1000000000000000019884624838656, \"chat_template\": "
               "[{\"name\": \"default\", \"template\": \"{{ messages }}\"}]}");
    write_file("generation_config.json", "{\"eos_token_id\": [272, 273, 99999]}");
    dc_tokenizer *t = open_small(&(small){0});
    size_t n;
    assert_int_equal(dc_tokenizer_bos(t), 271);
    assert_int_equal(dc_tokenizer_eos(t), 272);
    assert_int_equal(dc_tokenizer_pad(t), -1);
    const int32_t *eog = dc_tokenizer_eog(t, &n);
    assert_int_equal(n, 2);
    assert_int_equal(eog[0], 272);
    assert_int_equal(eog[1], 273);
    assert_string_equal(dc_tokenizer_chat_template(t), "{{ messages }}");
    dc_tokenizer_free(t);
    write_file("chat_template.jinja", "{{ other }}");
    t = open_small(&(small){0});
    assert_string_equal(dc_tokenizer_chat_template(t), "{{ other }}");
    dc_tokenizer_free(t);
    for (size_t i = 0; i < 3; i++) {
        static const char *const names[] = {"tokenizer_config.json", "generation_config.json", "chat_template.jinja"};
        assert_int_equal(remove(in_dir(names[i])), 0);
    }
}

/* ---- refusals ---- */

static void what_is_not_supported_is_named(void **unused)
{
    (void)unused;
    static const struct {
        small file;
        dc_code code;
        const char *told;
    } cases[] = {
        {{.normalizer = "{\"type\": \"Lowercase\"}"}, DC_EUNKNOWN, "the normalizer Lowercase is not supported"},
        {{.pre_tokenizer = "{\"type\": \"Metaspace\"}"}, DC_EUNKNOWN, "the pre-tokenizer Metaspace"},
        {{.pre_tokenizer = "null"}, DC_EUNKNOWN, "pre-tokenizer without a ByteLevel"},
        {{.pre_tokenizer = "{\"type\": \"Sequence\", \"pretokenizers\": [" BYTE_LEVEL ", {\"type\": \"Digits\"}]}"},
         DC_EUNKNOWN,
         "behind a ByteLevel, a Digits"},
        {{.pre_tokenizer = "{\"type\": \"Split\", \"behavior\": \"Other\", \"pattern\": {\"String\": \"x\"}}"},
         DC_EUNKNOWN,
         "Split behavior Other"},
        {{.decoder = "null"}, DC_EUNKNOWN, "decoder null"},
        {{.decoder = "{\"type\": \"WordPiece\"}"}, DC_EUNKNOWN, "decoder WordPiece"},
        {{.post = "{\"type\": \"BertProcessing\"}"}, DC_EUNKNOWN, "post-processor BertProcessing"},
        {{.model = "\"type\": \"Unigram\""}, DC_EUNKNOWN, "model Unigram"},
        {{.model = "\"type\": \"BPE\", \"byte_fallback\": true"}, DC_EUNKNOWN, "model byte_fallback BPE"},
        {{.model = "\"type\": \"BPE\", \"dropout\": 0.1"}, DC_EUNKNOWN, "dropout"},
        {{.model = "\"type\": \"BPE\", \"end_of_word_suffix\": \"</w>\""}, DC_EUNKNOWN, "end_of_word_suffix"},
        {{.model = "\"type\": \"BPE\", \"fuse_unk\": 3"}, DC_EFORMAT, "fuse_unk"},
        {{.skip_byte = 'h'}, DC_EFORMAT, "merge 0 ('h' and 'e') needs the token 'h'"},
        {{.added = "[{\"id\": 97, \"content\": \"<s>\"}]"}, DC_EFORMAT, "added token '<s>' has id 97, which is 'a'"},
        {{.added = "[{\"id\": 300, \"content\": \"a\"}]"},
         DC_EFORMAT,
         "added token 'a' has id 300, but 97 in the vocabulary"},
        {{.added = "[{\"id\": 272, \"content\": \"<s>\"}]"},
         DC_EFORMAT,
         "added token '<s>' has id 272, but 271 is the next one"},
        {{.added = "[{\"id\": 2000000000, \"content\": \"<s>\"}]"}, DC_EFORMAT, "added_tokens[0]"},
        {{.added = "[{\"content\": \"<s>\"}]"}, DC_EFORMAT, "added_tokens[0]"},
        {{.post = "{\"type\": \"TemplateProcessing\", \"single\": []}"}, DC_EFORMAT, "the text 0 times"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        dc_tokenizer *t = NULL;
        dc_error err = {0};
        assert_int_equal(try_open(&t, &cases[i].file, &err), cases[i].code);
        assert_null(t);
        if (!strstr(err.message, cases[i].told)) fail_msg("case %zu: '%s' lacks '%s'", i, err.message, cases[i].told);
    }
    dc_error err = {0};
    dc_tokenizer *t = NULL;
    assert_int_equal(dc_tokenizer_open(&t, "/nowhere/at/all", &err), DC_EIO);
}

static void differences_are_explained(void **unused)
{
    (void)unused;
    dc_tokenizer *a = open_small(&(small){0}), *b = open_small(&(small){.pairs = 1});
    dc_tokenizer *c = open_small(&(small){.added = "[{\"id\": 271, \"content\": \"<bos>\", \"special\": true}]"});
    dc_tokenizer *d =
        open_small(&(small){.pre_tokenizer = "{\"type\": \"Sequence\", \"pretokenizers\": [{\"type\": \"Digits\", "
                                             "\"individual_digits\": true}, " BYTE_LEVEL "]}"});
    dc_error err = {0};
    assert_int_equal(dc_tokenizer_same(a, b, "teacher", "student", &err), DC_OK);
    dc_hash ha = dc_tokenizer_hash(a), hb = dc_tokenizer_hash(b), hd = dc_tokenizer_hash(d);
    assert_true(dc_hash_equal(&ha, &hb));
    assert_false(dc_hash_equal(&ha, &hd));
    dc_tokenizer *e =
        open_small(&(small){.pre_tokenizer = "{\"type\": \"ByteLevel\"}"}); /* a prefix space in the place of digits */
    dc_hash he = dc_tokenizer_hash(e);
    assert_false(dc_hash_equal(&hd, &he));
    dc_tokenizer_free(e);
    assert_int_equal(dc_tokenizer_same(a, c, "teacher", "student", &err), DC_EMISMATCH);
    assert_string_equal(err.message,
                        "teacher and student do not share a vocabulary: 274 and 272 entries, first difference at id "
                        "271 ('<s>' and '<bos>').");
    err = (dc_error){0};
    assert_int_equal(dc_tokenizer_same(a, d, "teacher", "student", &err), DC_EMISMATCH);
    assert_non_null(strstr(err.message, "(gpt-2 and smollm)"));
    dc_tokenizer_free(a), dc_tokenizer_free(b), dc_tokenizer_free(c), dc_tokenizer_free(d);
}

/* ---- writing ---- */

static void saved_files_are_the_same_bytes(void **unused)
{
    (void)unused;
    write_file("tokenizer_config.json", "{\"eos_token\":   \"</s>\"}\n");
    dc_tokenizer *t = open_small(&(small){0});
    char *out = in_dir("saved");
    assert_int_equal(dc_tokenizer_save(t, out, NULL), DC_OK);
    static const char *const names[] = {"tokenizer.json", "tokenizer_config.json"};
    for (size_t i = 0; i < 2; i++) {
        dc_str a = {0}, b = {0};
        char path[300];
        snprintf(path, sizeof path, "%s/saved/%s", dir, names[i]);
        assert_int_equal(dc_file_read(&a, path, 1 << 20, NULL), DC_OK);
        assert_int_equal(dc_file_read(&b, in_dir(names[i]), 1 << 20, NULL), DC_OK);
        assert_string_equal(a.data, b.data);
        dc_str_release(&a), dc_str_release(&b);
    }
    dc_tokenizer_free(t);
    assert_int_equal(remove(in_dir("tokenizer_config.json")), 0);
}

static int put_gguf(const dc_tokenizer *t, const char *path, int64_t n_vocab, dc_error *err)
{
    dc_gguf_writer *w = NULL;
    assert_int_equal(dc_gguf_writer_new(&w, NULL), DC_OK);
    int rc = dc_tokenizer_put_gguf(t, w, n_vocab, err);
    if (rc == DC_OK) rc = dc_gguf_writer_begin(w, path, err);
    if (rc == DC_OK) rc = dc_gguf_writer_commit(w, err);
    dc_gguf_writer_free(w);
    return rc;
}

static void a_gguf_round_trip_keeps_the_ids(void **unused)
{
    (void)unused;
    dc_tokenizer *t = open_small(&(small){0}), *g = NULL, *back = NULL;
    dc_error err = {0};
    char *path = in_dir("a.gguf");
    if (put_gguf(t, path, 280, &err)) fail_msg("%s", err.message);
    if (dc_tokenizer_open(&g, path, &err)) fail_msg("%s", err.message);
    assert_int_equal(dc_tokenizer_size(g), 280);
    if (dc_tokenizer_same(t, g, "a", "b", &err)) fail_msg("%s", err.message);
    ids_are(g, "<s>hello world</s><tool>[PAD275]", 0, "271 259 264 272 273 91 80 65 68 50 55 53 93");
    ids_are(g, "<s>hello<tool>", DC_TOK_PLAIN, "60 115 62 259 273");
    assert_true(dc_token_is_special(g, 272));
    assert_int_equal(dc_tokenizer_save(g, in_dir("from_gguf"), &err), DC_OK);
    if (dc_tokenizer_open(&back, in_dir("from_gguf"), &err)) fail_msg("%s", err.message);
    ids_are(back, "<s>hello world</s><tool>", 0, "271 259 264 272 273");
    assert_int_equal(dc_tokenizer_same(back, g, "a", "b", NULL), DC_OK);
    dc_tokenizer_free(back);
    dc_tokenizer_free(g);
    assert_int_equal(put_gguf(t, path, 273, &err), DC_EMISMATCH);
    assert_string_equal(err.message, "the tokenizer has 274 tokens but the embedding has 273 rows");
    dc_tokenizer_free(t);
    t = open_small(&(small){.pre_tokenizer =
                                "{\"type\": \"Sequence\", \"pretokenizers\": [{\"type\": \"Split\", \"behavior\": "
                                "\"Removed\", \"pattern\": {\"String\": \"-\"}}, " BYTE_LEVEL "]}"});
    err = (dc_error){0};
    assert_int_equal(put_gguf(t, path, 280, &err), DC_EUNKNOWN);
    ids_are(t, "he-llo", 0, "256 257 111");
    dc_tokenizer_free(t);
}

/* llama.cpp takes the longest added token first, wherever it stands; the tokenizers library the leftmost. */
static void overlapping_tokens_differ_by_source(void **unused)
{
    (void)unused;
    dc_tokenizer *t = open_small(&(small){.added =
                                              "[{\"id\": 271, \"content\": \"<x>\", \"special\": true}, {\"id\": 272, "
                                              "\"content\": \"><yy>\", \"special\": true}]"}),
                 *g = NULL;
    assert_int_equal(put_gguf(t, in_dir("b.gguf"), 273, NULL), DC_OK);
    assert_int_equal(dc_tokenizer_open(&g, in_dir("b.gguf"), NULL), DC_OK);
    ids_are(t, "<x><yy><x>", 0, "271 60 121 121 62 271");
    ids_are(g, "<x><yy><x>", 0, "60 120 272 271");
    dc_tokenizer_free(t), dc_tokenizer_free(g);
}

static void in_a_gguf_lacking_bytes_part_their_neighbours(void **unused)
{
    (void)unused;
    dc_tokenizer *t = open_small(&(small){.skip_byte = 'x'}), *g = NULL;
    assert_int_equal(put_gguf(t, in_dir("c.gguf"), 274, NULL), DC_OK);
    assert_int_equal(dc_tokenizer_open(&g, in_dir("c.gguf"), NULL), DC_OK);
    ids_are(g, "hexll", 0, "256 257");
    ids_are(g, "hexxllxx", 0, "256 257");
    dc_tokenizer_free(t), dc_tokenizer_free(g);
}

/* ---- damage, memory, threads ---- */

static void beginnings_of_the_file_are_refused(void **unused)
{
    (void)unused;
    dc_str text = {0};
    small_json(&text, &(small){0});
    for (size_t n = 0; n + 2 < text.n; n += n < 900 || n + 200 > text.n ? 1 : 37) {
        dc_tokenizer *t = NULL;
        dc_error err = {0};
        write_bytes("tokenizer.json", text.data, n);
        assert_int_not_equal(dc_tokenizer_open(&t, dir, &err), DC_OK);
        assert_null(t);
        assert_true(err.message[0]);
    }
    dc_str_release(&text);
}

static void every_failing_allocation_is_told(void **unused)
{
    (void)unused;
    dc_tokenizer *made = open_small(&(small){.normalizer = "{\"type\": \"NFC\"}"});
    dc_tokenizer_free(made);
    long k = 1;
    for (;; k++) {
        dc_tokenizer *t = NULL;
        dc_ids ids = {0}, offsets = {0};
        dc_str back = {0};
        dc_error err = {0};
        dc_alloc_fail_at(k);
        int rc = dc_tokenizer_open(&t, dir, &err);
        if (rc == DC_OK) rc = dc_encode_offsets(t, &ids, &offsets, "he\xCC\x81llo<s> world", 15, 0, &err);
        if (rc == DC_OK) rc = dc_encode(t, &ids, "hello", 5, 0, &err);
        if (rc == DC_OK) rc = dc_decode(t, &back, ids.data, ids.n, 0, &err);
        if (rc == DC_OK) rc = dc_tokenizer_save(t, in_dir("memory"), &err);
        dc_alloc_fail_at(0);
        if (rc != DC_OK && err.code != DC_ENOMEM) fail_msg("allocation %ld: %s", k, err.message);
        dc_tokenizer_free(t);
        dc_ids_release(&ids), dc_ids_release(&offsets);
        dc_str_release(&back);
        if (rc == DC_OK) break;
        assert_true(k < 5000);
    }
    assert_true(k > 20);
}

static void *encode_often(void *context)
{
    const dc_tokenizer *t = context;
    dc_ids ids = {0};
    intptr_t wrong = 0;
    for (int i = 0; i < 500; i++) {
        ids.n = 0;
        if (dc_encode(t, &ids, "hello world<s>aaaa", 18, 0, NULL) || ids.n != 4 || ids.data[3] != 266) wrong++;
    }
    dc_ids_release(&ids);
    return (void *)wrong;
}

static void threads_share_a_tokenizer(void **unused)
{
    (void)unused;
    dc_tokenizer *t = open_small(&(small){0});
    pthread_t threads[4];
    for (size_t i = 0; i < 4; i++) assert_int_equal(pthread_create(&threads[i], NULL, encode_often, t), 0);
    for (size_t i = 0; i < 4; i++) {
        void *wrong;
        assert_int_equal(pthread_join(threads[i], &wrong), 0);
        assert_null(wrong);
    }
    dc_tokenizer_free(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(merges_in_order_of_rank),
        cmocka_unit_test(long_words_merge_as_short_ones),
        cmocka_unit_test(whole_words_come_first_with_ignore_merges),
        cmocka_unit_test(added_tokens_cut_the_text),
        cmocka_unit_test(added_tokens_obey_their_flags),
        cmocka_unit_test(text_is_normalized_and_offsets_are_of_the_original),
        cmocka_unit_test(specials_follow_the_post_processor),
        cmocka_unit_test(lacking_bytes_vanish_or_become_unk),
        cmocka_unit_test(invalid_text_is_refused_with_its_place),
        cmocka_unit_test(decoding),
        cmocka_unit_test(files_beside_are_read),
        cmocka_unit_test(what_is_not_supported_is_named),
        cmocka_unit_test(differences_are_explained),
        cmocka_unit_test(saved_files_are_the_same_bytes),
        cmocka_unit_test(a_gguf_round_trip_keeps_the_ids),
        cmocka_unit_test(overlapping_tokens_differ_by_source),
        cmocka_unit_test(in_a_gguf_lacking_bytes_part_their_neighbours),
        cmocka_unit_test(beginnings_of_the_file_are_refused),
        cmocka_unit_test(every_failing_allocation_is_told),
        cmocka_unit_test(threads_share_a_tokenizer),
    };
    return cmocka_run_group_tests(tests, make_dir, remove_dir);
}

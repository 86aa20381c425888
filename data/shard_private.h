/* data/shard_private.h -- the names of a token shard, for its writer and its reader. docs/formats.md describes them. */
#ifndef DC_DATA_SHARD_PRIVATE_H
#define DC_DATA_SHARD_PRIVATE_H

#define DC_SHARD_FORMAT "decant.tokens"

enum {
    DC_SHARD_VERSION = 1,
    DC_SHARD_NARROW = 65536,          /* vocabularies up to this have ids of two bytes */
    DC_SHARD_TOKENS = 32 << 20,       /* a file ends before the document that would bring it above; 96 or 160 MiB raw */
    DC_SHARD_DOCS = 1 << 20,          /* or at so many documents */
    DC_SHARD_TOKEN_CHUNK = 128 << 10, /* items: 256 or 512 KiB of ids; a document is a small part of one */
    DC_SHARD_DOC_CHUNK = 16 << 10,
    DC_SHARD_LEVEL = 3
};
#endif

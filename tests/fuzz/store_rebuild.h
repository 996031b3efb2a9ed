/* A logit store in pieces: taken apart, changed, and put together again with all its checksums right, so that what is
 * changed is met by the code behind them. */
#ifndef KD_TESTS_FUZZ_STORE_REBUILD_H
#define KD_TESTS_FUZZ_STORE_REBUILD_H

#include "kernels/kd_base.h"

enum { PIECE_BLOCKS = 8 };

typedef struct piece {
    uint8_t *data; /* kd_free */
    size_t bytes;
} piece;

typedef struct store_pieces {
    piece manifest;            /* JSON */
    piece block[PIECE_BLOCKS]; /* unpacked */
    int n_blocks;
    piece index; /* payload of its frame; empty: made of the blocks */
} store_pieces;

/* False: the bytes are no sequence of frames that begins with a manifest. */
bool store_take_apart(const uint8_t *data, size_t bytes, store_pieces *out);
void store_pieces_free(store_pieces *p);

/* The file (kd_free) with hashes of records, headers, frames, index and seek table computed anew.  NULL: too large. */
uint8_t *store_put_together(store_pieces *p, size_t *bytes);

#endif

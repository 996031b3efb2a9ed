/* Any bytes as a logit store, and as an unfinished one: read, verified, resumed or refused, never a crash.
 *
 * Checksums stop random bytes early: the mutator takes a store apart, changes its manifest, the inside of a block, its
 * index or the row of its blocks, and puts it together with right checksums; one time in eight the bytes themselves are
 * changed.  The corpus begins with a store made here. */
#include "formats/base/io.h"
#include "formats/store/logit_store.h"
#include "tests/fuzz/store_rebuild.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);
size_t LLVMFuzzerMutate(uint8_t *data, size_t bytes, size_t room);
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t bytes, size_t room, unsigned seed);

static char dir[64], path[96], part[96], tail[128];
static uint8_t *whole;
static size_t whole_bytes;

static kd_store_manifest manifest(void)
{
    static const char *names[2] = {"a", "b"};
    return (kd_store_manifest){.merge = "prob",
                               .feature = "f",
                               .classes = names,
                               .n_classes = 2,
                               .logit_dtype = KD_F16,
                               .feature_dim = 3,
                               .feature_dtype = KD_BF16,
                               .block_records = 2};
}

static kd_status append_all(kd_store_writer *w)
{
    kd_status st = KD_OK;
    for (int i = 0; i < 5 && st == KD_OK; i++) {
        char id[8];
        const float x[4] = {1, 2, 3, (float)i};
        const int32_t frames[2] = {i, i + 1};
        const kd_store_view v[2] = {{.n_frames = 2, .frames = frames}, {.n_frames = 0, .frames = frames}};
        (void)snprintf(id, sizeof id, "s%d", i);
        const kd_store_record r = {.id = id,
                                   .order = (uint64_t)i,
                                   .label = i % 2,
                                   .n_views = 1 + i % 2,
                                   .logits = x,
                                   .feature = x,
                                   .views = v};
        if (!kd_store_has(w, id)) {
            st = kd_store_append(w, &r, NULL);
        }
    }
    return st;
}

static void clean(void)
{
    (void)rmdir(dir); /* empty after every input */
    kd_free(whole);
}

/* In memory where there is such a folder: each input is written, flushed and renamed several times. */
static void make_folder(void)
{
    static const char *const places[] = {"/dev/shm", "/tmp"};
    bool made = false;
    for (size_t i = 0; i < KD_COUNTOF(places) && !made; i++) {
        (void)snprintf(dir, sizeof dir, "%s/kd_fuzz_XXXXXX", places[i]);
        made = mkdtemp(dir) != NULL;
    }
    KD_ASSERT(made);
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    (void)argc;
    (void)argv;
    const kd_store_manifest m = manifest();
    kd_store_writer *w = NULL;
    make_folder();
    KD_ASSERT(atexit(clean) == 0);
    (void)snprintf(path, sizeof path, "%s/s.zst", dir);
    (void)snprintf(part, sizeof part, "%s.part", path);
    (void)snprintf(tail, sizeof tail, "%s.tail", part);
    KD_ASSERT(kd_store_writer_open(path, &m, KD_STORE_NEW, &w, NULL, NULL) == KD_OK);
    KD_ASSERT(append_all(w) == KD_OK && kd_store_writer_close(w, NULL) == KD_OK);
    KD_ASSERT(kd_io_read_file(path, (size_t)1 << 20, &whole, &whole_bytes, NULL) == KD_OK);
    (void)unlink(path);
    kd_log_set_level(KD_LOG_ERROR);
    return 0;
}

/* ---- mutation -------------------------------------------------------------------------------- */

/* A field of a block's header, a record's meta or anything else becomes another number. */
static void poke(piece *p, unsigned seed)
{
    static const uint64_t values[] = {0,      1,      2,          0x7f,        0x80,        0xff,
                                      0x7fff, 0xffff, 0x7fffffff, 0x80000000u, 0xffffffffu, UINT64_MAX};
    const uint64_t v = values[seed % KD_COUNTOF(values)];
    const size_t width = (size_t)1 << (seed / 16 % 4);
    if (p->bytes >= width) {
        const size_t at = seed / 64 % (p->bytes - width + 1);
        for (size_t i = 0; i < width; i++) {
            p->data[at + i] = (uint8_t)(v >> (8 * i));
        }
    }
}

/* As libFuzzer would, with room to grow. */
static void mutate_piece(piece *p, unsigned seed)
{
    enum { GROWTH = 64 };
    if (seed % 2 == 0) {
        poke(p, seed / 2);
        return;
    }
    uint8_t *grown = kd_realloc(p->data, p->bytes, p->bytes + GROWTH);
    if (grown != NULL) {
        p->data = grown;
        p->bytes = LLVMFuzzerMutate(p->data, p->bytes, p->bytes + GROWTH - 1);
    }
}

static void mutate_row(store_pieces *p, unsigned seed)
{
    const int a = (int)(seed % (unsigned)p->n_blocks), b = (int)(seed / 8 % (unsigned)p->n_blocks);
    const piece swapped = p->block[a];
    if (seed / 64 % 2 == 0) {
        p->block[a] = p->block[b];
        p->block[b] = swapped;
        return;
    }
    p->n_blocks--; /* one is lost */
    p->block[a] = p->block[p->n_blocks];
    p->block[p->n_blocks] = (piece){NULL, 0};
    kd_free(swapped.data);
}

static void mutate(store_pieces *p, unsigned seed)
{
    const unsigned kind = seed % 8, more = seed / 8;
    if (kind < 2) {
        mutate_piece(&p->manifest, more);
    } else if (kind == 2 && p->index.data != NULL) {
        mutate_piece(&p->index, more);
        return; /* as it is now */
    } else if (kind == 3 && p->n_blocks > 1) {
        mutate_row(p, more);
    } else if (p->n_blocks > 0) {
        mutate_piece(&p->block[more % (unsigned)p->n_blocks], more / PIECE_BLOCKS);
    }
    p->index.bytes = 0; /* made anew */
}

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t bytes, size_t room, unsigned seed)
{
    store_pieces p;
    size_t n = 0;
    if (seed % 8 == 0 && bytes > 0) {
        return LLVMFuzzerMutate(data, bytes, room);
    }
    if (!store_take_apart(data, bytes, &p) && !store_take_apart(whole, whole_bytes, &p)) {
        return LLVMFuzzerMutate(data, bytes, room);
    }
    mutate(&p, seed / 8);
    uint8_t *made = store_put_together(&p, &n);
    store_pieces_free(&p);
    const bool fits = made != NULL && n <= room;
    if (fits) {
        memcpy(data, made, n);
    }
    kd_free(made);
    return fits ? n : LLVMFuzzerMutate(data, bytes, room);
}

/* ---- what is done with it -------------------------------------------------------------------- */

static void read_all(void)
{
    kd_store *s = NULL;
    kd_store_cursor *c = NULL;
    kd_store_record r;
    (void)!kd_store_verify(path, NULL, NULL, NULL, NULL);
    if (kd_store_open(path, &s, NULL) != KD_OK) {
        return;
    }
    KD_ASSERT(kd_store_cursor_new(s, &c, NULL) == KD_OK);
    for (int64_t i = 0; i < kd_store_count(s); i++) {
        (void)!kd_store_read(c, i, &r, NULL);
    }
    kd_store_cursor_free(c);
    kd_store_close(s);
}

/* A store that was finished can be opened.  Whether it passes verify depends on the records that were there: right
 * checksums do not make a record right. */
static void resume(void)
{
    const kd_store_manifest m = manifest();
    kd_store_writer *w = NULL;
    kd_store *s = NULL;
    if (kd_store_writer_open(path, &m, KD_STORE_RESUME, &w, NULL, NULL) != KD_OK) {
        return;
    }
    if (append_all(w) != KD_OK) {
        kd_store_writer_abandon(w);
    } else if (kd_store_writer_close(w, NULL) == KD_OK) {
        KD_ASSERT(kd_store_open(path, &s, NULL) == KD_OK);
        kd_store_close(s);
    }
    (void)!kd_store_verify(path, NULL, NULL, NULL, NULL);
}

/* The finished store, the same bytes as an unfinished one, and as the tail of one. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    KD_ASSERT(kd_io_write_file(path, data, bytes, NULL) == KD_OK);
    read_all();
    (void)unlink(path);
    KD_ASSERT(kd_io_write_file(part, data, bytes, NULL) == KD_OK);
    if (bytes % 2 == 1) {
        KD_ASSERT(kd_io_write_file(tail, data, bytes, NULL) == KD_OK);
    }
    resume();
    (void)unlink(path);
    (void)unlink(part);
    (void)unlink(tail);
    return 0;
}

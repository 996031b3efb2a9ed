/* Any bytes as a logit store, and as an unfinished one: read, verified, resumed or refused, never a
 * crash.  Checksums stop random bytes early, so half of the inputs are laid over a store made here:
 * the first two bytes say where. */
#include "formats/base/io.h"
#include "formats/store/logit_store.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

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

static void append_all(kd_store_writer *w)
{
    for (int i = 0; i < 5; i++) {
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
            KD_ASSERT(kd_store_append(w, &r, NULL) == KD_OK);
        }
    }
}

static void clean(void)
{
    (void)rmdir(dir); /* empty after every input */
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    (void)argc;
    (void)argv;
    const kd_store_manifest m = manifest();
    kd_store_writer *w = NULL;
    (void)snprintf(dir, sizeof dir, "/tmp/kd_fuzz_XXXXXX");
    KD_ASSERT(mkdtemp(dir) != NULL && atexit(clean) == 0);
    (void)snprintf(path, sizeof path, "%s/s.zst", dir);
    (void)snprintf(part, sizeof part, "%s.part", path);
    (void)snprintf(tail, sizeof tail, "%s.tail", part);
    KD_ASSERT(kd_store_writer_open(path, &m, KD_STORE_NEW, &w, NULL, NULL) == KD_OK);
    append_all(w);
    KD_ASSERT(kd_store_writer_close(w, NULL) == KD_OK);
    KD_ASSERT(kd_io_read_file(path, (size_t)1 << 20, &whole, &whole_bytes, NULL) == KD_OK);
    (void)unlink(path);
    return 0;
}

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

static void resume(void)
{
    const kd_store_manifest m = manifest();
    kd_store_writer *w = NULL;
    if (kd_store_writer_open(path, &m, KD_STORE_RESUME, &w, NULL, NULL) != KD_OK) {
        return;
    }
    append_all(w);
    KD_ASSERT(kd_store_writer_close(w, NULL) == KD_OK);
    KD_ASSERT(kd_store_verify(path, NULL, NULL, NULL, NULL) == KD_OK);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    if (bytes < 3) {
        return 0;
    }
    const size_t at = (size_t)(data[0] | (data[1] & 0x0f) << 8);
    const int mode = data[1] >> 4;
    data += 2;
    bytes -= 2;
    uint8_t *copy = kd_alloc(whole_bytes);
    KD_ASSERT(copy != NULL);
    memcpy(copy, whole, whole_bytes);
    const size_t from = at % whole_bytes;
    memcpy(copy + from, data, KD_MIN(bytes, whole_bytes - from));
    const bool laid = (mode & 1) != 0;
    const bool finished = (mode & 2) != 0;
    const char *name = finished ? path : part;
    KD_ASSERT(kd_io_write_file(name, laid ? copy : data, laid ? whole_bytes : bytes, NULL) == KD_OK);
    if (!finished && (mode & 4) != 0) {
        KD_ASSERT(kd_io_write_file(tail, data, bytes, NULL) == KD_OK);
    }
    if (finished) {
        read_all();
    } else {
        resume();
    }
    kd_free(copy);
    (void)unlink(path);
    (void)unlink(part);
    (void)unlink(tail);
    return 0;
}

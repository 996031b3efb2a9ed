/* Inside of a torch file, shared by pth.c (files) and pth_tensor.c (what the pickle describes). */
#ifndef KD_FORMATS_WEIGHTS_PTH_INTERNAL_H
#define KD_FORMATS_WEIGHTS_PTH_INTERNAL_H

#include "formats/base/io.h"
#include "formats/base/python/pickle.h"
#include "formats/base/zip.h"
#include "formats/weights/pth.h"

typedef struct kd_pth_storage {
    const kd_pk_node *key; /* string; node shared by nobody, compared by text */
    kd_st_dtype dtype;
    bool untyped;        /* dtype says bytes; numel counts bytes */
    const uint8_t *data; /* NULL: not found yet, or deflated */
    uint64_t bytes;
    const kd_zip_entry *entry; /* zip form */
    bool checked;
} kd_pth_storage;

struct kd_pth {
    kd_map map;
    char *origin;
    kd_zip *zip;
    uint8_t *pickle_copy; /* a deflated data.pkl, unpacked */
    uint8_t *unpacked;    /* of one deflated storage */
    const kd_pth_storage *unpacked_of;
    char *prefix; /* zip form: members are <prefix>/data/<key> */
    kd_pk *pk;
    kd_pth_storage *st;
    size_t storages;
    kd_pth_tensor *t;
    char *names;
    size_t names_used;
    size_t count;
    size_t skipped;
    const char *wanted; /* key of the state dict to take; while parsing */
    char key[96];
};

/* Every storage that any persistent id of the pickle names, sorted by key, once each. */
kd_status kd_pth_collect_storages(kd_pth *p, kd_err *err);
kd_pth_storage *kd_pth_find_storage(const kd_pth *p, const kd_pk_node *key); /* NULL: none */

/* The state dict's tensors, each checked against its storage. */
kd_status kd_pth_collect_tensors(kd_pth *p, kd_err *err);

#endif

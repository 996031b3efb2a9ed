/* What a model came from: the data it saw, the weights it started from, the stores that taught it.
 *
 * Training computes the identity, every checkpoint carries it (state.json, key "identity"), a resume compares it, a
 * report takes it over.  Hashes are SHA-256 in hex; "" says that there is none.
 */
#ifndef KD_DISTILL_MODEL_IDENTITY_H
#define KD_DISTILL_MODEL_IDENTITY_H

#include "configs/schema/kd_config.h"
#include "distill/kd/loss.h"
#include "formats/base/hash.h"
#include "formats/base/json.h"
#include "formats/data/dataset.h"
#include "formats/store/logit_store.h"

/* One half of the data. */
typedef struct kd_identity_half {
    int64_t samples, unlabelled, pseudo; /* of samples, those without a label; of these, taught a teacher's class */
    char ids[KD_SHA256_HEX];             /* kd_half_digest */
    char files[KD_SHA256_HEX];           /* kd_half_files_digest */
} kd_identity_half;

/* One store and its teacher. */
typedef struct kd_identity_store {
    char sha256[KD_SHA256_HEX];
    char teacher[64], teacher_weights[KD_SHA256_HEX]; /* as its manifest says */
    char provenance[1024]; /* likewise: who taught the teacher, or where its values come from;
                                                         "": nobody says */
} kd_identity_store;

typedef struct kd_identity {
    char data_set[KD_CFG_PATH], split[1024];
    char classes[KD_SHA256_HEX]; /* of the names in label order, a line each */
    kd_identity_half half[KD_HALVES];
    char layout[KD_CFG_NAME];        /* joints of the skeletons, kd_layout_identity; "": no skeletons, or ntu25 */
    char pack[KD_SHA256_HEX];        /* recipe of the pack that the videos come from (formats/data/pack.h); "": none */
    char weights[KD_SHA256_HEX];     /* that training started from; "": random */
    char class_embed[KD_SHA256_HEX]; /* file of the classes' embeddings (kd.class_embed); "": none */
    int peer;                        /* which student of a group (mutual), from 2; 0: the first, or there is no group */
    int n_stores;
    kd_identity_store store[KD_STORES_MAX];
} kd_identity;

/* The part that the data set decides: names, classes, both halves with the files that `need` (KD_NEED_*) names. */
KD_NODISCARD kd_status kd_identity_of_data(const kd_dataset *ds, unsigned need, kd_identity *id, kd_err *err);
/* The joints that the recipe's student sees. */
void kd_identity_set_layout(kd_identity *id, const kd_config *cfg);
/* The layout, "ntu25" where a student's identity says none. */
const char *kd_identity_layout(const kd_identity *id);
/* Append a store; reads the whole file. */
KD_NODISCARD kd_status kd_identity_add_store(kd_identity *id, const kd_store *store, kd_err *err);

void kd_identity_put(const kd_identity *id, kd_json *state);
/* KD_E_FORMAT where `state` has no identity. */
KD_NODISCARD kd_status kd_identity_get(const kd_json *state, kd_identity *id, kd_err *err);

/* First difference but for `weights`, as a sentence that names both sides ("training half: 36 samples then, 35 now");
 * false when there is none. */
bool kd_identity_differs(const kd_identity *then, const kd_identity *now, char *text, size_t size);

enum { KD_IDENTITY_ROW = KD_STORES_MAX * KD_SHA256_HEX };

/* The hashes of all stores and those of the weights of their teachers, in order, with commas between; "" without
 * stores. */
void kd_identity_stores(const kd_identity *id, char store[KD_IDENTITY_ROW], char teacher_weights[KD_IDENTITY_ROW]);

/* "sfz-small (weights 0123456789ab, taught by sfz-large (weights ...))": who taught, and who taught them; several
 * teachers with " and " between.  "" without stores.  kd_free; NULL: out of memory. */
char *kd_identity_teachers(const kd_identity *id);

/* What pixels depend on besides the data set, as stores and reports say it: the decoder (NULL: none) and, where videos
 * come from a pack, the hash of its recipe. */
enum { KD_IDENTITY_DECODER = 512 };
const char *kd_identity_decoder(const char *decoder, const kd_dataset *ds, char text[KD_IDENTITY_DECODER]);

/* The hash of a run's recipe: kd_config_hash with the contents of the files that the recipe names by path.  Equal hash
 * and equal seed mean that equal results are expected on equal data.  id NULL: the recipe names no such file. */
KD_NODISCARD kd_status kd_identity_recipe(const kd_identity *id, const kd_config *cfg, char hex[KD_CFG_HASH],
                                          kd_err *err);

#endif

/* What a model came from: see identity.h. */
#include "distill/model/identity.h"

#include <stdio.h>

static const char *const HALF[KD_HALVES] = {"training", "validation"};

static void set(char *to, size_t size, const char *from)
{
    (void)snprintf(to, size, "%s", from != NULL ? from : "");
}

/* ---- making ---------------------------------------------------------------------------------- */

static kd_status hash_names(char *const *name, int n, char hex[KD_SHA256_HEX], kd_err *err)
{
    size_t room = 1, at = 0;
    for (int i = 0; i < n; i++) {
        room += strlen(name[i]) + 1;
    }
    char *text = kd_alloc(room);
    if (text == NULL) {
        return KD_FAIL(err, KD_E_OOM, "no memory for the names of %d classes", n);
    }
    for (int i = 0; i < n; i++) {
        at += (size_t)snprintf(text + at, room - at, "%s\n", name[i]);
    }
    const kd_status st = kd_sha256(text, at, hex, err);
    kd_free(text);
    return st;
}

kd_status kd_identity_of_data(const kd_dataset *ds, unsigned need, kd_identity *id, kd_err *err)
{
    set(id->data_set, sizeof id->data_set, ds->name);
    set(id->split, sizeof id->split, ds->split);
    for (int h = 0; h < KD_HALVES; h++) {
        id->half[h].samples = (int64_t)ds->half[h].n;
        id->half[h].unlabelled = (int64_t)ds->half[h].counts.unlabelled;
        KD_TRY(kd_half_digest(&ds->half[h], id->half[h].ids, err));
        KD_TRY(kd_half_files_digest(&ds->half[h], need, id->half[h].files, err));
    }
    set(id->pack, sizeof id->pack, (need & KD_NEED_VIDEO) != 0 ? ds->pack : "");
    return hash_names(ds->classes, ds->n_classes, id->classes, err);
}

void kd_identity_set_layout(kd_identity *id, const kd_config *cfg)
{
    id->layout[0] = '\0';
    if (cfg->layout.joints > 0) {
        (void)kd_layout_identity(&cfg->layout, id->layout);
    }
}

const char *kd_identity_layout(const kd_identity *id)
{
    return id->layout[0] != '\0' ? id->layout : "ntu25";
}

kd_status kd_identity_add_store(kd_identity *id, const kd_store *store, kd_err *err)
{
    KD_ASSERT(id->n_stores < KD_STORES_MAX);
    const kd_store_manifest *m = kd_store_get_manifest(store);
    kd_identity_store *s = &id->store[id->n_stores];
    KD_TRY(kd_sha256_file(kd_store_path(store), s->sha256, err));
    set(s->teacher, sizeof s->teacher, m->teacher);
    set(s->teacher_weights, sizeof s->teacher_weights, m->teacher_sha256);
    set(s->provenance, sizeof s->provenance, m->provenance);
    id->n_stores++;
    return KD_OK;
}

/* ---- JSON ------------------------------------------------------------------------------------ */

void kd_identity_put(const kd_identity *id, kd_json *state)
{
    kd_json *o = kd_json_set_object(state, "identity");
    kd_json_set_str(o, "data_set", id->data_set);
    kd_json_set_str(o, "split", id->split);
    kd_json_set_str(o, "classes", id->classes);
    for (int h = 0; h < KD_HALVES; h++) {
        kd_json *half = kd_json_set_object(o, HALF[h]);
        kd_json_set_i64(half, "samples", id->half[h].samples);
        if (id->half[h].unlabelled > 0) {
            kd_json_set_i64(half, "unlabelled", id->half[h].unlabelled);
        }
        if (id->half[h].pseudo > 0) {
            kd_json_set_i64(half, "pseudo_labelled", id->half[h].pseudo);
        }
        kd_json_set_str(half, "ids", id->half[h].ids);
        kd_json_set_str(half, "files", id->half[h].files);
    }
    if (id->layout[0] != '\0') {
        kd_json_set_str(o, "layout", id->layout);
    }
    if (id->pack[0] != '\0') {
        kd_json_set_str(o, "pack", id->pack);
    }
    if (id->class_embed[0] != '\0') {
        kd_json_set_str(o, "class_embed", id->class_embed);
    }
    if (id->peer > 0) {
        kd_json_set_i64(o, "peer", id->peer);
    }
    kd_json_set_str(o, "weights", id->weights);
    kd_json *stores = kd_json_set_array(o, "stores");
    for (int i = 0; i < id->n_stores; i++) {
        kd_json *s = kd_json_push_object(stores);
        kd_json_set_str(s, "sha256", id->store[i].sha256);
        kd_json_set_str(s, "teacher", id->store[i].teacher);
        kd_json_set_str(s, "teacher_weights", id->store[i].teacher_weights);
        if (id->store[i].provenance[0] != '\0') {
            kd_json_set_str(s, "provenance", id->store[i].provenance);
        }
    }
}

static kd_status get(const kd_json *o, const char *key, char *to, size_t size, kd_err *err)
{
    const char *text = NULL;
    KD_TRY(kd_json_get_str(o, key, &text, err));
    set(to, size, text);
    return KD_OK;
}

static kd_status get_stores(const kd_json *o, kd_identity *id, kd_err *err)
{
    const kd_json *list = NULL;
    KD_TRY(kd_json_get_array(o, "stores", &list, err));
    if (kd_json_count(list) > KD_STORES_MAX) {
        return KD_FAIL(err, KD_E_FORMAT, "identity: %zu stores, at most %d are legal", kd_json_count(list),
                       KD_STORES_MAX);
    }
    for (size_t i = 0; i < kd_json_count(list); i++) {
        kd_identity_store *s = &id->store[id->n_stores++];
        const kd_json *e = kd_json_at(list, i);
        KD_TRY(get(e, "sha256", s->sha256, sizeof s->sha256, err));
        KD_TRY(get(e, "teacher", s->teacher, sizeof s->teacher, err));
        KD_TRY(get(e, "teacher_weights", s->teacher_weights, sizeof s->teacher_weights, err));
        const char *provenance = NULL;
        KD_TRY(kd_json_opt_str(e, "provenance", "", &provenance, err));
        set(s->provenance, sizeof s->provenance, provenance);
    }
    return KD_OK;
}

kd_status kd_identity_get(const kd_json *state, kd_identity *id, kd_err *err)
{
    const kd_json *o = NULL;
    memset(id, 0, sizeof *id);
    KD_TRY(kd_json_get_object(state, "identity", &o, err));
    KD_TRY(get(o, "data_set", id->data_set, sizeof id->data_set, err));
    KD_TRY(get(o, "split", id->split, sizeof id->split, err));
    KD_TRY(get(o, "classes", id->classes, sizeof id->classes, err));
    for (int h = 0; h < KD_HALVES; h++) {
        const kd_json *half = NULL;
        KD_TRY(kd_json_get_object(o, HALF[h], &half, err));
        KD_TRY(kd_json_get_i64(half, "samples", &id->half[h].samples, err));
        KD_TRY(kd_json_opt_i64(half, "unlabelled", 0, &id->half[h].unlabelled, err));
        KD_TRY(kd_json_opt_i64(half, "pseudo_labelled", 0, &id->half[h].pseudo, err));
        KD_TRY(get(half, "ids", id->half[h].ids, sizeof id->half[h].ids, err));
        const char *files = NULL;
        KD_TRY(kd_json_opt_str(half, "files", "", &files, err)); /* only a resume asks */
        set(id->half[h].files, sizeof id->half[h].files, files);
    }
    const char *pack = NULL, *layout = NULL;
    KD_TRY(kd_json_opt_str(o, "layout", "", &layout, err));
    set(id->layout, sizeof id->layout, layout);
    KD_TRY(kd_json_opt_str(o, "pack", "", &pack, err));
    set(id->pack, sizeof id->pack, pack);
    const char *embed = NULL;
    KD_TRY(kd_json_opt_str(o, "class_embed", "", &embed, err));
    set(id->class_embed, sizeof id->class_embed, embed);
    int64_t peer = 0;
    KD_TRY(kd_json_opt_i64(o, "peer", 0, &peer, err));
    id->peer = (int)KD_MIN(KD_MAX(peer, 0), KD_CFG_PEERS + 1);
    KD_TRY(get(o, "weights", id->weights, sizeof id->weights, err));
    return get_stores(o, id, err);
}

/* ---- comparing ------------------------------------------------------------------------------- */

static bool stores_differ(const kd_identity *then, const kd_identity *now, char *text, size_t size)
{
    if (then->n_stores > 0 && now->n_stores == 0) {
        (void)snprintf(text, size,
                       "the run has a teacher (%s, store sha256 %.12s), this command has none; give --teacher-logits",
                       then->store[0].teacher, then->store[0].sha256);
        return true;
    }
    if (then->n_stores == 0 && now->n_stores > 0) {
        (void)snprintf(text, size, "the run has no teacher, this command has one (%s); leave --teacher-logits out",
                       now->store[0].teacher);
        return true;
    }
    if (then->n_stores != now->n_stores) {
        (void)snprintf(text, size, "stores of teachers: %d then, %d now", then->n_stores, now->n_stores);
        return true;
    }
    for (int i = 0; i < now->n_stores; i++) {
        if (strcmp(then->store[i].sha256, now->store[i].sha256) != 0) {
            (void)snprintf(text, size, "store %d of %d: sha256 %.12s then (%s), %.12s now (%s)", i + 1, now->n_stores,
                           then->store[i].sha256, then->store[i].teacher, now->store[i].sha256, now->store[i].teacher);
            return true;
        }
    }
    return false;
}

bool kd_identity_differs(const kd_identity *then, const kd_identity *now, char *text, size_t size)
{
    const struct {
        const char *what, *then, *now;
    } name[] = {{"data set", then->data_set, now->data_set}, {"split", then->split, now->split}};
    for (int h = 0; h < KD_HALVES; h++) { /* the lists before the names: they say more */
        if (strcmp(then->half[h].ids, now->half[h].ids) != 0) {
            (void)snprintf(text, size, "%s half: %lld samples then, %lld now%s", HALF[h],
                           (long long)then->half[h].samples, (long long)now->half[h].samples,
                           then->half[h].samples == now->half[h].samples ? ", of other ids or labels" : "");
            return true;
        }
    }
    if (strcmp(kd_identity_layout(then), kd_identity_layout(now)) != 0) {
        (void)snprintf(text, size, "joint layout: %s then, %s now", kd_identity_layout(then), kd_identity_layout(now));
        return true;
    }
    if (strcmp(then->pack, now->pack) != 0) {
        (void)snprintf(text, size, "videos of %s%.12s then, of %s%.12s now", then->pack[0] != '\0' ? "the pack " : "",
                       then->pack[0] != '\0' ? then->pack : "the data set", now->pack[0] != '\0' ? "the pack " : "",
                       now->pack[0] != '\0' ? now->pack : "the data set");
        return true;
    }
    for (int h = 0; h < KD_HALVES; h++) {
        if (strcmp(then->half[h].files, now->half[h].files) != 0) {
            (void)snprintf(text, size, "%s half: the same ids and labels, but files of other sizes", HALF[h]);
            return true;
        }
    }
    for (size_t i = 0; i < KD_COUNTOF(name); i++) {
        if (strcmp(name[i].then, name[i].now) != 0) {
            char a[KD_SHOWN_PAIR], b[KD_SHOWN_PAIR];
            kd_show_pair(a, b, name[i].then, name[i].now);
            (void)snprintf(text, size, "%s: '%s' then, '%s' now", name[i].what, a, b);
            return true;
        }
    }
    if (strcmp(then->classes, now->classes) != 0) {
        (void)snprintf(text, size, "the class names or their order are others");
        return true;
    }
    if (strcmp(then->class_embed, now->class_embed) != 0) {
        (void)snprintf(text, size, "kd.class_embed: sha256 %.12s then, %.12s now", then->class_embed, now->class_embed);
        return true;
    }
    return stores_differ(then, now, text, size);
}

/* ---- chains of teachers ---------------------------------------------------------------------- */

char *kd_identity_teachers(const kd_identity *id)
{
    char *text = kd_strdup("");
    for (int i = 0; i < id->n_stores && text != NULL; i++) {
        const kd_identity_store *s = &id->store[i];
        const bool weights = s->teacher_weights[0] != '\0', more = s->provenance[0] != '\0';
        char *longer = kd_strf("%s%s%s%s%s%.12s%s%s%s", text, i > 0 ? " and " : "", s->teacher,
                               weights || more ? " (" : "", weights ? "weights " : "", s->teacher_weights,
                               weights && more ? ", " : "", s->provenance, weights || more ? ")" : "");
        kd_free(text);
        text = longer;
    }
    return text;
}

/* ---- hashes of hashes ------------------------------------------------------------------------ */

static void in_row(char row[KD_IDENTITY_ROW], const char *hash)
{
    const size_t n = strlen(row);
    (void)snprintf(row + n, KD_IDENTITY_ROW - n, "%s%s", n > 0 && hash[0] != '\0' ? "," : "", hash);
}

void kd_identity_stores(const kd_identity *id, char store[KD_IDENTITY_ROW], char teacher_weights[KD_IDENTITY_ROW])
{
    store[0] = teacher_weights[0] = '\0';
    for (int i = 0; i < id->n_stores; i++) {
        in_row(store, id->store[i].sha256);
        in_row(teacher_weights, id->store[i].teacher_weights);
    }
}

const char *kd_identity_decoder(const char *decoder, const kd_dataset *ds, char text[KD_IDENTITY_DECODER])
{
    if (decoder == NULL || ds->pack[0] == '\0') {
        return decoder;
    }
    (void)snprintf(text, KD_IDENTITY_DECODER, "%s; pack %s", decoder, ds->pack);
    return text;
}

kd_status kd_identity_recipe(const kd_identity *id, const kd_config *cfg, char hex[KD_CFG_HASH], kd_err *err)
{
    char inputs[(KD_STORES_MAX + 3 + KD_HALVES) * (KD_SHA256_HEX + 16)] = "";
    const bool lists = cfg->data.train_list[0] != '\0' || cfg->data.val_list[0] != '\0' ||
                       cfg->data.quarantine[0] != '\0' || cfg->data.unlabelled[0] != '\0';
    size_t at = 0;
    for (int h = 0; id != NULL && lists && h < KD_HALVES; h++) { /* what the lists come to */
        at += (size_t)snprintf(inputs + at, sizeof inputs - at, "half %s\n", id->half[h].ids);
    }
    if (id != NULL && strchr(id->layout, '@') != NULL) { /* a file of the user's */
        at += (size_t)snprintf(inputs + at, sizeof inputs - at, "layout %s\n", id->layout);
    }
    if (id != NULL && id->pack[0] != '\0') {
        at += (size_t)snprintf(inputs + at, sizeof inputs - at, "pack %s\n", id->pack);
    }
    if (id != NULL && id->class_embed[0] != '\0') {
        at += (size_t)snprintf(inputs + at, sizeof inputs - at, "class_embed %s\n", id->class_embed);
    }
    if (id != NULL && id->weights[0] != '\0') {
        at += (size_t)snprintf(inputs + at, sizeof inputs - at, "weights %s\n", id->weights);
    }
    if (id != NULL && id->peer > 0) { /* students of a group are no repeats of each other */
        at += (size_t)snprintf(inputs + at, sizeof inputs - at, "peer %d\n", id->peer);
    }
    for (int i = 0; id != NULL && i < id->n_stores; i++) {
        at += (size_t)snprintf(inputs + at, sizeof inputs - at, "store %s\n", id->store[i].sha256);
    }
    const kd_status st = kd_config_hash(cfg, inputs, hex);
    return st == KD_OK ? st : KD_FAIL(err, st, "recipe: out of memory for its hash");
}

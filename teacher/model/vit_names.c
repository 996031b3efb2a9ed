/* VideoMAE names: one table, read in both directions.  See vit_names.h. */
#include "teacher/model/vit_names.h"

#include "teacher/model/vit.h"

#include <stdio.h>

#define HF_LAYER "videomae.encoder.layer.*."
#define HF_ATT   HF_LAYER "attention.attention."
#define MM       "backbone."
#define MM_BLOCK "backbone.blocks.*."

typedef enum how {
    WHOLE = -1,
    QUERY = 0, /* rows of attn.qkv.weight */
    KEY = 1,
    VALUE = 2,
    ALIAS = 3, /* read, never written */
    DROP = 4   /* read and left out */
} how;

/* '*' stands for the block number. */
/* clang-format off */
static const struct {
    const char *official;
    const char *hf;
    const char *mm;
    how hf_how;
} table[] = {
    {"patch_embed.proj.weight", "videomae.embeddings.patch_embeddings.projection.weight",
     MM "patch_embed.projection.weight", WHOLE},
    {"patch_embed.proj.bias", "videomae.embeddings.patch_embeddings.projection.bias",
     MM "patch_embed.projection.bias", WHOLE},
    {"blocks.*.norm1.weight", HF_LAYER "layernorm_before.weight", MM_BLOCK "norm1.weight", WHOLE},
    {"blocks.*.norm1.bias", HF_LAYER "layernorm_before.bias", MM_BLOCK "norm1.bias", WHOLE},
    {"blocks.*.attn.qkv.weight", HF_ATT "query.weight", MM_BLOCK "attn.qkv.weight", QUERY},
    {"blocks.*.attn.qkv.weight", HF_ATT "key.weight", NULL, KEY},
    {"blocks.*.attn.qkv.weight", HF_ATT "value.weight", NULL, VALUE},
    {"blocks.*.attn.q_bias", HF_ATT "q_bias", MM_BLOCK "attn.q_bias", WHOLE},
    {"blocks.*.attn.v_bias", HF_ATT "v_bias", MM_BLOCK "attn.v_bias", WHOLE},
    {"blocks.*.attn.q_bias", HF_ATT "query.bias", NULL, ALIAS},
    {"blocks.*.attn.v_bias", HF_ATT "value.bias", NULL, ALIAS},
    {"", HF_ATT "key.bias", NULL, DROP},
    {"pos_embed", "videomae.embeddings.position_embeddings", NULL, ALIAS},
    {"pos_embed", NULL, MM "pos_embed", WHOLE},
    {"blocks.*.attn.proj.weight", HF_LAYER "attention.output.dense.weight",
     MM_BLOCK "attn.proj.weight", WHOLE},
    {"blocks.*.attn.proj.bias", HF_LAYER "attention.output.dense.bias",
     MM_BLOCK "attn.proj.bias", WHOLE},
    {"blocks.*.gamma_1", NULL, MM_BLOCK "gamma_1", WHOLE},
    {"blocks.*.gamma_2", NULL, MM_BLOCK "gamma_2", WHOLE},
    {"blocks.*.norm2.weight", HF_LAYER "layernorm_after.weight", MM_BLOCK "norm2.weight", WHOLE},
    {"blocks.*.norm2.bias", HF_LAYER "layernorm_after.bias", MM_BLOCK "norm2.bias", WHOLE},
    {"blocks.*.mlp.fc1.weight", HF_LAYER "intermediate.dense.weight",
     MM_BLOCK "mlp.layers.0.0.weight", WHOLE},
    {"blocks.*.mlp.fc1.bias", HF_LAYER "intermediate.dense.bias",
     MM_BLOCK "mlp.layers.0.0.bias", WHOLE},
    {"blocks.*.mlp.fc2.weight", HF_LAYER "output.dense.weight",
     MM_BLOCK "mlp.layers.1.weight", WHOLE},
    {"blocks.*.mlp.fc2.bias", HF_LAYER "output.dense.bias", MM_BLOCK "mlp.layers.1.bias", WHOLE},
    {"norm.weight", "videomae.layernorm.weight", MM "norm.weight", WHOLE},
    {"norm.bias", "videomae.layernorm.bias", MM "norm.bias", WHOLE},
    {"fc_norm.weight", "fc_norm.weight", MM "fc_norm.weight", WHOLE},
    {"fc_norm.bias", "fc_norm.bias", MM "fc_norm.bias", WHOLE},
    {"head.weight", "classifier.weight", "cls_head.fc_cls.weight", WHOLE},
    {"head.bias", "classifier.bias", "cls_head.fc_cls.bias", WHOLE},
};
/* clang-format on */

/* Match a pattern with at most one '*', which stands for 1 to 4 digits (copied to `number`). */
static bool match(const char *pattern, const char *name, char number[8])
{
    number[0] = '\0';
    const char *star = strchr(pattern, '*');
    if (star == NULL) {
        return strcmp(pattern, name) == 0;
    }
    const size_t head = (size_t)(star - pattern);
    if (strncmp(pattern, name, head) != 0) {
        return false;
    }
    const size_t digits = strspn(name + head, "0123456789");
    if (digits == 0 || digits > 4) {
        return false;
    }
    memcpy(number, name + head, digits);
    number[digits] = '\0';
    return strcmp(star + 1, name + head + digits) == 0;
}

static void fill(const char *pattern, const char *number, char *out, size_t bytes)
{
    const char *star = strchr(pattern, '*');
    if (star == NULL) {
        (void)snprintf(out, bytes, "%s", pattern);
    } else {
        (void)snprintf(out, bytes, "%.*s%s%s", (int)(star - pattern), pattern, number, star + 1);
    }
}

/* Column of the table. */
static const char *column(size_t row, int dialect)
{
    return dialect == KD_VIT_HF ? table[row].hf : dialect == KD_VIT_MMACTION ? table[row].mm : table[row].official;
}

/* Drop any run of wrapper prefixes; the last two belong to Hugging Face's and MMAction2's own names. */
static const char *strip(const char *name, int dialect)
{
    static const char *const prefix[] = {"_orig_mod.", "module.",  "model.",   "model_ema.", "ema_model.",
                                         "ema.",       "teacher.", "student.", "backbone.",  "encoder."};
    const size_t count = KD_COUNTOF(prefix) - (dialect == KD_VIT_OFFICIAL ? 0 : 2);
    for (size_t i = 0; i < count;) {
        const size_t n = strlen(prefix[i]);
        if (strncmp(name, prefix[i], n) == 0) {
            name += n;
            i = 0;
        } else {
            i++;
        }
    }
    return name;
}

/* Hugging Face's base model lacks the "videomae." that its classifier has. */
static const char *hf_name(const char *name, char *buf, size_t bytes)
{
    if (strncmp(name, "embeddings.", 11) != 0 && strncmp(name, "encoder.layer.", 14) != 0 &&
        strncmp(name, "layernorm.", 10) != 0) {
        return name;
    }
    const size_t n = strlen(name);
    if (n + 10 > bytes) {
        return name;
    }
    memcpy(buf, "videomae.", 9);
    memcpy(buf + 9, name, n + 1);
    return buf;
}

static int tell(const char *name)
{
    if (strstr(name, "embeddings.patch_embeddings.projection.weight") != NULL) {
        return KD_VIT_HF;
    }
    name = strip(name, KD_VIT_OFFICIAL);
    return strcmp(name, "patch_embed.projection.weight") == 0 ? KD_VIT_MMACTION
           : strcmp(name, "patch_embed.proj.weight") == 0     ? KD_VIT_OFFICIAL
                                                              : -1;
}

static void read_name(int dialect, const char *name, kd_name_match *out)
{
    char number[8];
    char buf[256];
    name = strip(name, dialect);
    *out = (kd_name_match){.plain = name, .part = -1};
    if (dialect == KD_VIT_OFFICIAL) {
        return;
    }
    const char *full = dialect == KD_VIT_HF ? hf_name(name, buf, sizeof buf) : name;
    for (size_t i = 0; i < KD_COUNTOF(table); i++) {
        const char *pattern = column(i, dialect);
        if (pattern == NULL || !match(pattern, full, number)) {
            continue;
        }
        const how h = table[i].hf_how;
        out->drop = h == DROP;
        out->part = dialect == KD_VIT_HF && h >= QUERY && h <= VALUE ? (int)h : -1;
        fill(table[i].official, number, out->official, sizeof out->official);
        return;
    }
}

static bool write_name(int dialect, const char *official, int part, char *out, size_t bytes)
{
    char number[8];
    for (size_t i = 0; i < KD_COUNTOF(table); i++) {
        const char *pattern = column(i, dialect);
        const how h = table[i].hf_how;
        if (pattern == NULL || h == DROP || h == ALIAS) {
            continue;
        }
        if (dialect == KD_VIT_HF && h != WHOLE && (int)h != part) {
            continue;
        }
        if (match(table[i].official, official, number)) {
            fill(pattern, number, out, bytes);
            return true;
        }
    }
    return false;
}

static bool known(const char *official)
{
    char number[8];
    for (size_t i = 0; i < KD_COUNTOF(table); i++) {
        if (table[i].official[0] != '\0' && match(table[i].official, official, number)) {
            return true;
        }
    }
    return false;
}

static bool may_be_fixed(const char *official)
{
    return strcmp(official, "pos_embed") == 0;
}

/* A stored table that is the fixed one carries nothing: the model computes its own. */
static bool is_fixed(const char *official, const int64_t *dim, size_t rank, const float *v)
{
    return may_be_fixed(official) && rank == 3 && dim[0] == 1 && kd_vit_is_sinusoid(v, dim[1], dim[2]);
}

static bool in_parts(int dialect, const char *official)
{
    char number[8];
    return dialect == KD_VIT_HF && match("blocks.*.attn.qkv.weight", official, number);
}

static const char *const DIALECT[] = {
    [KD_VIT_OFFICIAL] = "official", [KD_VIT_HF] = "hf", [KD_VIT_MMACTION] = "mmaction2"};
static const char *const TORCH_KEY[] = {
    [KD_VIT_OFFICIAL] = "model", [KD_VIT_HF] = NULL, [KD_VIT_MMACTION] = "state_dict"};

const kd_name_map kd_vit_names = {.model = "VideoMAE",
                                  .dialect = DIALECT,
                                  .torch_key = TORCH_KEY,
                                  .dialects = KD_COUNTOF(DIALECT),
                                  .tell = tell,
                                  .read = read_name,
                                  .write = write_name,
                                  .known = known,
                                  .in_parts = in_parts,
                                  .may_be_fixed = may_be_fixed,
                                  .is_fixed = is_fixed};

bool kd_vit_is_head(const char *name)
{
    return strncmp(name, "head.", 5) == 0;
}

bool kd_vit_may_be_fresh(const char *name)
{
    return kd_vit_is_head(name) || strncmp(name, "fc_norm.", 8) == 0;
}

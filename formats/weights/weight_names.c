/* VideoMAE names in three dialects: one table, read in both directions.  See weight_names.h. */
#include "formats/weights/weight_names.h"

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
    {"", "videomae.embeddings.position_embeddings", MM "pos_embed", DROP},
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

static const char *column(size_t row, kd_naming naming)
{
    switch (naming) {
    case KD_NAMING_HF:
        return table[row].hf;
    case KD_NAMING_MMACTION:
        return table[row].mm;
    case KD_NAMING_OFFICIAL:
        break;
    }
    return table[row].official;
}

bool kd_name_to_official(kd_naming naming, const char *name, kd_name_match *out)
{
    char number[8];
    for (size_t i = 0; i < KD_COUNTOF(table); i++) {
        const char *pattern = column(i, naming);
        if (pattern == NULL || pattern[0] == '\0' || !match(pattern, name, number)) {
            continue;
        }
        const how h = table[i].hf_how;
        out->drop = h == DROP;
        out->part = naming == KD_NAMING_HF && h >= QUERY && h <= VALUE ? (int)h : -1;
        fill(table[i].official, number, out->official, sizeof out->official);
        return true;
    }
    return false;
}

bool kd_name_from_official(kd_naming naming, const char *official, int part, char *out, size_t bytes)
{
    char number[8];
    for (size_t i = 0; i < KD_COUNTOF(table); i++) {
        const char *pattern = column(i, naming);
        const how h = table[i].hf_how;
        if (pattern == NULL || h == DROP || h == ALIAS) {
            continue;
        }
        if (naming == KD_NAMING_HF && h != WHOLE && (int)h != part) {
            continue;
        }
        if (!match(table[i].official, official, number)) {
            continue;
        }
        fill(pattern, number, out, bytes);
        return true;
    }
    return false;
}

bool kd_name_is_split(kd_naming naming, const char *official)
{
    char number[8];
    return naming == KD_NAMING_HF && match("blocks.*.attn.qkv.weight", official, number);
}

const char *kd_name_strip(const char *name)
{
    static const char *const prefix[] = {"_orig_mod.", "module.", "model.", "backbone.", "encoder."};
    for (size_t i = 0; i < KD_COUNTOF(prefix);) {
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

const char *kd_naming_name(kd_naming n)
{
    static const char *const text[] = {"official", "hf", "mmaction2"};
    return (size_t)n < KD_COUNTOF(text) ? text[n] : "?";
}

bool kd_naming_parse(const char *text, kd_naming *out)
{
    for (int i = 0; i <= (int)KD_NAMING_MMACTION; i++) {
        if (strcmp(text, kd_naming_name((kd_naming)i)) == 0) {
            *out = (kd_naming)i;
            return true;
        }
    }
    return false;
}

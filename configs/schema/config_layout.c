/* Joint layouts of a recipe: a name of student/layout, or a YAML file (format: student/layout/README.md); and what
 * other keys mean under them. */
#include "configs/schema/config_table.h"
#include "configs/yaml/yaml_tree.h"
#include "formats/base/io.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FAIL_AT(n, ...)                                                                                  \
    kd_err_prefix(err, KD_FAIL(err, KD_E_CONFIG, __VA_ARGS__), "%s:%d:%d", (n)->origin, (n)->value_line, \
                  (n)->value_column)

static kd_status need(const kd_yaml_node *n, kd_yaml_kind kind, const char *what, kd_err *err)
{
    return n->kind == kind ? KD_OK : FAIL_AT(n, "expected %s", what);
}

/* A joint by its name or its number. */
static kd_status joint_of(const kd_layout *l, const kd_yaml_node *n, uint8_t *out, kd_err *err)
{
    KD_TRY(need(n, KD_YAML_SCALAR, "a joint", err));
    for (int v = 0; v < l->joints; v++) {
        if (strcmp(l->joint[v].name, n->text) == 0) {
            *out = (uint8_t)v;
            return KD_OK;
        }
    }
    char *end = NULL;
    const long number = strtol(n->text, &end, 10);
    if (!n->plain || end == n->text || *end != '\0' || number < 0 || number >= l->joints) {
        return FAIL_AT(n, "expected one of the %d joints, by name or number from 0, found '%.40s'", l->joints, n->text);
    }
    *out = (uint8_t)number;
    return KD_OK;
}

static kd_status pair_of(const kd_layout *l, const kd_yaml_node *n, uint8_t out[2], kd_err *err)
{
    if (n->kind != KD_YAML_LIST || n->count != 2) {
        return FAIL_AT(n, "expected a pair of joints, [a, b]");
    }
    KD_TRY(joint_of(l, n->child, &out[0], err));
    return joint_of(l, n->child->next, &out[1], err);
}

/* ---- the keys -------------------------------------------------------------------------------- */

static kd_status take_name(const char *what, const kd_yaml_node *n, char out[KD_LAYOUT_NAME], kd_err *err)
{
    KD_TRY(need(n, KD_YAML_SCALAR, what, err));
    if (n->text[0] == '\0' || strlen(n->text) >= KD_LAYOUT_NAME || strpbrk(n->text, "@/ \t") != NULL) {
        return FAIL_AT(n, "expected %s of 1 to %d characters without blanks, '@' and '/', found '%.40s'", what,
                       KD_LAYOUT_NAME - 1, n->text);
    }
    (void)snprintf(out, KD_LAYOUT_NAME, "%s", n->text);
    return KD_OK;
}

static kd_status take_joints(kd_layout *l, const kd_yaml_node *n, kd_err *err)
{
    KD_TRY(need(n, KD_YAML_LIST, "a list of the joints' names, in the order of the data", err));
    if (n->count > KD_LAYOUT_JOINTS) {
        return FAIL_AT(n, "expected at most %d joints, found %zu", KD_LAYOUT_JOINTS, n->count);
    }
    for (const kd_yaml_node *c = n->child; c != NULL; c = c->next) {
        kd_layout_joint *j = &l->joint[l->joints];
        KD_TRY(take_name("a joint's name", c, j->name, err));
        j->region = KD_REGIONS;
        j->mirror = j->bone = (uint8_t)l->joints;
        l->joints++;
    }
    return KD_OK;
}

static kd_status take_edges(kd_layout *l, const kd_yaml_node *n, kd_err *err)
{
    KD_TRY(need(n, KD_YAML_LIST, "a list of pairs of joints", err));
    for (const kd_yaml_node *c = n->child; c != NULL; c = c->next) {
        if (l->edges == KD_LAYOUT_EDGES) {
            return FAIL_AT(c, "expected at most %d edges, found %zu", KD_LAYOUT_EDGES, n->count);
        }
        KD_TRY(pair_of(l, c, l->edge[l->edges], err));
        l->edges++;
    }
    return KD_OK;
}

static kd_status take_parts(kd_layout *l, const kd_yaml_node *n, kd_err *err)
{
    static const char *const PART[KD_REGIONS] = {"torso", "head", "left_arm", "right_arm", "left_leg", "right_leg"};
    KD_TRY(need(n, KD_YAML_MAP, "the joints of torso, head, left_arm, right_arm, left_leg and right_leg", err));
    for (const kd_yaml_node *c = n->child; c != NULL; c = c->next) {
        uint8_t part = 0;
        while (part < KD_REGIONS && strcmp(PART[part], c->key) != 0) {
            part++;
        }
        if (part == KD_REGIONS) {
            return FAIL_AT(c, "expected torso, head, left_arm, right_arm, left_leg or right_leg, found '%.40s'",
                           c->key);
        }
        KD_TRY(need(c, KD_YAML_LIST, "a list of joints", err));
        for (const kd_yaml_node *i = c->child; i != NULL; i = i->next) {
            uint8_t v = 0;
            KD_TRY(joint_of(l, i, &v, err));
            if (l->joint[v].region != KD_REGIONS) {
                return FAIL_AT(i, "expected every joint in one part, found %s in %s and %s", l->joint[v].name,
                               PART[l->joint[v].region], PART[part]);
            }
            l->joint[v].region = part;
        }
    }
    for (int v = 0; v < l->joints; v++) {
        if (l->joint[v].region == KD_REGIONS) {
            return FAIL_AT(n, "expected every joint in one part, found %s in none", l->joint[v].name);
        }
    }
    return KD_OK;
}

static kd_status take_mirror(kd_layout *l, const kd_yaml_node *n, kd_err *err)
{
    KD_TRY(need(n, KD_YAML_LIST, "a list of pairs of joints, [] where there are none", err));
    for (const kd_yaml_node *c = n->child; c != NULL; c = c->next) {
        uint8_t p[2] = {0, 0};
        KD_TRY(pair_of(l, c, p, err));
        for (int i = 0; i < 2; i++) {
            if (l->joint[p[i]].mirror != p[i] || p[0] == p[1]) {
                return FAIL_AT(c, "expected every joint in one pair at most, found %s again", l->joint[p[i]].name);
            }
        }
        l->joint[p[0]].mirror = p[1];
        l->joint[p[1]].mirror = p[0];
    }
    return KD_OK;
}

static kd_status take_bones(kd_layout *l, const kd_yaml_node *n, kd_err *err)
{
    KD_TRY(need(n, KD_YAML_LIST, "a list of [joint, joint at the other end of its bone]", err));
    for (int v = 0; v < l->joints; v++) {
        l->joint[v].bone = (uint8_t)v;
    }
    for (const kd_yaml_node *c = n->child; c != NULL; c = c->next) {
        uint8_t p[2] = {0, 0};
        KD_TRY(pair_of(l, c, p, err));
        if (l->joint[p[0]].bone != p[0]) {
            return FAIL_AT(c, "expected one bone a joint, found a second one of %s", l->joint[p[0]].name);
        }
        l->joint[p[0]].bone = p[1];
    }
    return KD_OK;
}

static kd_status take_centre(kd_layout *l, const kd_yaml_node *n, kd_err *err)
{
    KD_TRY(joint_of(l, n, &l->centre, err));
    memset(l->origin, l->centre, sizeof l->origin);
    memset(l->top, l->centre, sizeof l->top);
    memset(l->shoulder, l->centre, sizeof l->shoulder);
    kd_layout_bones(l, l->centre);
    return KD_OK;
}

/* A joint, or the middle of two. */
static kd_status take_point(const kd_layout *l, const kd_yaml_node *n, uint8_t out[2], kd_err *err)
{
    if (n->kind == KD_YAML_LIST) {
        return pair_of(l, n, out, err);
    }
    KD_TRY(joint_of(l, n, &out[0], err));
    out[1] = out[0];
    return KD_OK;
}

static kd_status take_origin(kd_layout *l, const kd_yaml_node *n, kd_err *err)
{
    return take_point(l, n, l->origin, err);
}

static kd_status take_top(kd_layout *l, const kd_yaml_node *n, kd_err *err)
{
    return take_point(l, n, l->top, err);
}

static kd_status take_shoulders(kd_layout *l, const kd_yaml_node *n, kd_err *err)
{
    return pair_of(l, n, l->shoulder, err);
}

static kd_status take_layout_name(kd_layout *l, const kd_yaml_node *n, kd_err *err)
{
    KD_TRY(take_name("a layout's name", n, l->name, err));
    return kd_layout_find(l->name) == NULL
               ? KD_OK
               : FAIL_AT(n, "expected a name of its own, found that of the layout %s", l->name);
}

/* In the order in which they need each other. */
static const struct {
    const char *key;
    bool needed;
    kd_status (*take)(kd_layout *l, const kd_yaml_node *n, kd_err *err);
} KEYS[] = {{"name", true, take_layout_name},    {"joints", true, take_joints},  {"edges", true, take_edges},
            {"parts", true, take_parts},         {"mirror", true, take_mirror},  {"centre", true, take_centre},
            {"bones", false, take_bones},        {"origin", false, take_origin}, {"top", false, take_top},
            {"shoulders", false, take_shoulders}};

static kd_status take_all(const kd_yaml_node *root, kd_layout *l, kd_err *err)
{
    KD_TRY(need(root, KD_YAML_MAP, "`key: value` lines", err));
    for (const kd_yaml_node *c = root->child; c != NULL; c = c->next) {
        size_t i = 0;
        while (i < KD_COUNTOF(KEYS) && strcmp(KEYS[i].key, c->key) != 0) {
            i++;
        }
        if (i == KD_COUNTOF(KEYS)) {
            return FAIL_AT(c,
                           "%.40s: unknown key; a layout has name, joints, edges, parts, mirror, centre, and may have "
                           "bones, origin, top and shoulders",
                           c->key);
        }
    }
    for (size_t i = 0; i < KD_COUNTOF(KEYS); i++) {
        const kd_yaml_node *n = kd_yaml_get(root, KEYS[i].key);
        if (n != NULL) {
            const kd_status st = KEYS[i].take(l, n, err);
            if (st != KD_OK) {
                return st;
            }
        } else if (KEYS[i].needed) {
            return FAIL_AT(root, "%s: the key is missing", KEYS[i].key);
        }
    }
    const kd_status st = kd_layout_check(l, err);
    return st == KD_OK ? st : kd_err_prefix(err, st, "%s", root->origin);
}

static kd_status read_layout(const char *path, kd_layout *l, kd_err *err)
{
    uint8_t *text = NULL;
    size_t len = 0;
    kd_yaml_node *root = NULL;
    kd_status st = KD_OK;
    kd_yaml_tree *t = kd_yaml_tree_new();
    *l = (kd_layout){.source = ""};
    if (t == NULL) {
        return KD_FAIL(err, KD_E_OOM, "%s: out of memory", path);
    }
    KD_GO(kd_io_read_file(path, KD_YAML_MAX_BYTES, &text, &len, err));
    KD_GO(kd_yaml_parse(t, text, len, path, &root, err));
    KD_GO(take_all(root, l, err));
done:
    kd_free(text);
    kd_yaml_tree_free(t);
    return st;
}

static const char *name_at(size_t i, const void *user)
{
    (void)user;
    return kd_layout_named((int)i);
}

static kd_status layout_of(const char *key, const char *value, kd_layout *out, kd_err *err)
{
    const kd_layout *named = kd_layout_find(value);
    if (named != NULL) {
        *out = *named;
        return KD_OK;
    }
    const size_t n = strlen(value);
    const bool file = strchr(value, '/') != NULL || (n > 5 && strcmp(value + n - 5, ".yaml") == 0) ||
                      (n > 4 && strcmp(value + n - 4, ".yml") == 0);
    if (!file) {
        const char *near = kd_nearest(value, (size_t)kd_layout_count(), name_at, NULL);
        char names[KD_CFG_WHAT] = "";
        for (int i = 0; i < kd_layout_count(); i++) {
            const size_t at = strlen(names);
            (void)snprintf(names + at, sizeof names - at, "%s, ", kd_layout_named(i));
        }
        return KD_FAIL(err, KD_E_CONFIG, "%s: expected %sor a YAML file, found '%.80s'%s%s%s", key, names, value,
                       near != NULL ? "; did you mean '" : "", near != NULL ? near : "", near != NULL ? "'?" : "");
    }
    kd_err why = {0};
    const kd_status st = read_layout(value, out, &why);
    return st == KD_OK ? st : KD_FAIL(err, st == KD_E_OOM ? st : KD_E_CONFIG, "%s: %s", key, why.msg);
}

/* ---- the recipe ------------------------------------------------------------------------------ */

/* Keys that mean something for x, y, z alone. */
static kd_status finish_flat(const kd_config *c, kd_err *err)
{
    char yaw[KD_CFG_NAME];
    const struct {
        const char *key;
        double value;
    } deep[] = {{"skeleton_aug.rotate_deg", c->skeleton_aug.rotate_deg}, {"skeleton_aug.shear", c->skeleton_aug.shear}};
    if (c->skeleton.channels == KD_CHANNELS_XYZ) {
        return KD_OK;
    }
    for (size_t i = 0; i < KD_COUNTOF(deep); i++) {
        if (deep[i].value != 0.0) {
            return KD_FAIL(err, KD_E_CONFIG,
                           "%s: %g, but joints have no depth under skeleton.channels xy_score; set it to 0",
                           deep[i].key, deep[i].value);
        }
    }
    if (c->skeleton.yaw != KD_YAW_NONE) {
        return KD_FAIL(err, KD_E_CONFIG,
                       "skeleton.yaw: %s, but joints have no depth under skeleton.channels xy_score; set it to none",
                       kd_config_enum_name("skeleton.yaw", (int)c->skeleton.yaw, yaw));
    }
    return KD_OK;
}

static bool same_point(const uint8_t a[2], const uint8_t b[2])
{
    return (a[0] == b[0] && a[1] == b[1]) || (a[0] == b[1] && a[1] == b[0]);
}

kd_status kd_cfg_finish_layout(kd_config *c, kd_err *err)
{
    const kd_layout *l = &c->layout;
    uint8_t idx[KD_LAYOUT_JOINTS];
    KD_TRY(layout_of("skeleton.layout", c->skeleton.layout, &c->layout, err));
    c->file_layout.joints = 0;
    if (c->skeleton.file_layout[0] != '\0') {
        KD_TRY(layout_of("skeleton.file_layout", c->skeleton.file_layout, &c->file_layout, err));
        const kd_status st = kd_layout_map(&c->file_layout, l, idx, err);
        KD_TRY(st == KD_OK ? st : kd_err_prefix(err, st, "skeleton.file_layout"));
    }
    if (c->skeleton.bone_scale && same_point(l->top, l->origin)) {
        return KD_FAIL(err, KD_E_CONFIG,
                       "skeleton.bone_scale: true, but top and origin of layout %s are one point; give it a top or set "
                       "bone_scale to false",
                       l->name);
    }
    if (c->skeleton.yaw != KD_YAW_NONE && l->shoulder[0] == l->shoulder[1]) {
        return KD_FAIL(err, KD_E_CONFIG, "skeleton.yaw: layout %s names no shoulders; set yaw to none", l->name);
    }
    return finish_flat(c, err);
}

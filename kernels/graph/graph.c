/* Graph builder: values, nodes, scopes.  See kd_graph.h. */
#include "kernels/graph/graph_internal.h"

#include <stdio.h>

/* ---- growing arrays -------------------------------------------------------------------------- */

static bool grow(void *array, int32_t used, int32_t *cap, size_t item)
{
    if (used < *cap) {
        return true;
    }
    const int32_t next = *cap == 0 ? 256 : *cap * 2;
    void **slot = array;
    void *p = kd_realloc(*slot, (size_t)used * item, (size_t)next * item);
    if (p == NULL) {
        return false;
    }
    memset((char *)p + (size_t)used * item, 0, (size_t)(next - used) * item);
    *slot = p;
    *cap = next;
    return true;
}

static int32_t out_of_memory(kd_graph *g)
{
    (void)KD_FAIL(&g->err, KD_E_OOM, "graph: out of memory at %d nodes", (int)g->n_nodes);
    return 0;
}

kd_graph *kd_graph_create(const kd_graph_opts *opts)
{
    kd_graph *g = kd_calloc(1, sizeof *g);
    if (g == NULL) {
        return NULL;
    }
    g->opts = *opts;
    const kd_spec none = {opts->dtype, kd_shape_absent()};
    (void)kdi_value_add(g, KDI_ABSENT, &none); /* id 0 is the absent value */
    return g;
}

void kd_graph_free(kd_graph *g)
{
    if (g == NULL) {
        return;
    }
    for (int32_t i = 0; i < g->n_values; i++) {
        kd_free(g->values[i].name);
        kd_free(g->values[i].data);
    }
    for (int32_t i = 0; i < g->n_attrs; i++) {
        kd_free(g->attrs[i]);
    }
    for (int32_t i = 0; i < g->n_strings; i++) {
        kd_free(g->strings[i]);
    }
    kd_free(g->values);
    kd_free(g->nodes);
    kd_free(g->strings);
    kd_free(g->attrs);
    kd_free(g);
}

kd_dtype kd_graph_dtype(const kd_graph *g)
{
    return g->opts.dtype;
}

bool kd_graph_training(const kd_graph *g)
{
    return g->opts.training;
}

const kd_err *kd_graph_error(const kd_graph *g)
{
    return g->err.code == KD_OK ? NULL : &g->err;
}

void kd_graph_fail(kd_graph *g, kd_status code, const char *fmt, ...)
{
    char text[400];
    va_list ap;
    va_start(ap, fmt);
    (void)vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    (void)KD_FAIL(&g->err, code, "%s%s%s", g->scope, g->scope[0] != '\0' ? ": " : "", text);
}

/* ---- values ---------------------------------------------------------------------------------- */

int32_t kdi_value_add(kd_graph *g, kdi_kind kind, const kd_spec *spec)
{
    if (!grow(&g->values, g->n_values, &g->cap_values, sizeof *g->values)) {
        return out_of_memory(g);
    }
    const int32_t id = g->n_values++;
    g->values[id] = (kdi_value){.spec = *spec, .kind = kind, .root = id, .node = -1, .param = -1};
    return id;
}

int32_t kdi_view_add(kd_graph *g, int32_t src, const kd_shape *shape, bool detached)
{
    const kd_spec spec = {g->values[src].spec.dtype, *shape};
    const int32_t id = kdi_value_add(g, KDI_VIEW, &spec);
    if (id != 0) {
        kdi_value *v = &g->values[id];
        v->src = src;
        v->root = g->values[src].root;
        v->detached = detached;
    }
    return id;
}

static int32_t named_value(kd_graph *g, kdi_kind kind, const char *name, kd_dtype dtype, const kd_shape *shape)
{
    const kd_spec spec = {dtype, *shape};
    const int32_t id = kdi_value_add(g, kind, &spec);
    if (id != 0) {
        g->values[id].name = kd_strdup(name);
        if (g->values[id].name == NULL) {
            return out_of_memory(g);
        }
    }
    return id;
}

kd_val kd_input(kd_graph *g, const char *name, kd_dtype dtype, kd_shape shape)
{
    if (g->err.code != KD_OK) {
        return KD_NONE;
    }
    return (kd_val){named_value(g, KDI_INPUT, name, dtype, &shape)};
}

kd_val kd_const(kd_graph *g, const char *name, kd_dtype dtype, kd_shape shape, const void *data)
{
    if (g->err.code != KD_OK) {
        return KD_NONE;
    }
    const int32_t id = named_value(g, KDI_CONST, name, dtype, &shape);
    if (id != 0) {
        const size_t bytes = kd_spec_bytes(&g->values[id].spec);
        g->values[id].data = kd_alloc(bytes);
        if (g->values[id].data == NULL) {
            return (kd_val){out_of_memory(g)};
        }
        memcpy(g->values[id].data, data, bytes);
    }
    return (kd_val){id};
}

static kd_val stored(kd_graph *g, const char *name, const kd_shape *shape, const kd_init *init, unsigned flags,
                     bool buffer)
{
    if (g->err.code != KD_OK) {
        return KD_NONE;
    }
    char full[400];
    (void)snprintf(full, sizeof full, "%s%s%s", g->scope, g->scope[0] != '\0' ? "." : "", name);
    const int p = kd_params_declare(g->opts.params, full, shape, init, flags, buffer, &g->err);
    if (p < 0) {
        return KD_NONE;
    }
    const kd_dtype stat = kd_stat_dtype(g->opts.dtype);
    const kd_spec spec = {(flags & KD_PARAM_MATRIX) != 0 ? g->opts.dtype : stat, *shape};
    for (int32_t i = 1; i < g->n_values; i++) { /* one value a parameter: uses of it share a gradient slot */
        if ((g->values[i].kind == KDI_PARAM || g->values[i].kind == KDI_BUFFER) && g->values[i].param == p) {
            return (kd_val){i};
        }
    }
    const int32_t id = kdi_value_add(g, buffer ? KDI_BUFFER : KDI_PARAM, &spec);
    if (id != 0) {
        g->values[id].param = p;
    }
    return (kd_val){id};
}

kd_val kd_param(kd_graph *g, const char *name, kd_shape shape, kd_init init, unsigned flags)
{
    return stored(g, name, &shape, &init, flags, false);
}

kd_val kd_buffer(kd_graph *g, const char *name, kd_shape shape, float value)
{
    const kd_init init = {.kind = KD_INIT_CONST, .a = value};
    return stored(g, name, &shape, &init, 0, true);
}

kd_spec kd_spec_of(const kd_graph *g, kd_val v)
{
    return g->values[v.id].spec;
}

void kd_output(kd_graph *g, const char *name, kd_val v)
{
    if (g->err.code != KD_OK) {
        return;
    }
    const int32_t view = kdi_view_add(g, v.id, &g->values[v.id].spec.shape, false);
    if (view == 0) {
        return;
    }
    g->values[view].name = kd_strdup(name);
    g->values[view].keep = true;
    g->values[g->values[view].root].keep = true;
}

/* ---- views ----------------------------------------------------------------------------------- */

kd_val kd_reshape(kd_graph *g, kd_val x, kd_shape shape)
{
    if (g->err.code != KD_OK) {
        return KD_NONE;
    }
    const kd_shape old = g->values[x.id].spec.shape;
    if (kd_shape_numel(&old) != kd_shape_numel(&shape) || x.id == 0) {
        char a[KD_SHAPE_TEXT_MAX], b[KD_SHAPE_TEXT_MAX];
        kd_graph_fail(g, KD_E_SHAPE, "reshape: %s does not hold the elements of %s", kd_shape_text(&old, a, sizeof a),
                      kd_shape_text(&shape, b, sizeof b));
        return KD_NONE;
    }
    return (kd_val){kdi_view_add(g, x.id, &shape, false)};
}

kd_val kd_detach(kd_graph *g, kd_val x)
{
    if (g->err.code != KD_OK) {
        return KD_NONE;
    }
    return (kd_val){kdi_view_add(g, x.id, &g->values[x.id].spec.shape, true)};
}

/* ---- scopes ---------------------------------------------------------------------------------- */

void kd_scope_push(kd_graph *g, const char *fmt, ...)
{
    if (g->scope_depth >= (int)KD_COUNTOF(g->scope_len)) {
        kd_graph_fail(g, KD_E_STATE, "scopes nested deeper than %d", (int)KD_COUNTOF(g->scope_len));
        return;
    }
    const size_t len = strlen(g->scope);
    g->scope_len[g->scope_depth++] = (int32_t)len;
    char part[128];
    va_list ap;
    va_start(ap, fmt);
    (void)vsnprintf(part, sizeof part, fmt, ap);
    va_end(ap);
    (void)snprintf(g->scope + len, sizeof g->scope - len, "%s%s", len != 0 && part[0] != '\0' ? "." : "", part);
}

void kd_scope_pop(kd_graph *g)
{
    if (g->scope_depth > 0) {
        g->scope[g->scope_len[--g->scope_depth]] = '\0';
    }
}

void kd_recompute_begin(kd_graph *g)
{
    g->segment = ++g->n_segments;
}

void kd_recompute_end(kd_graph *g)
{
    g->segment = 0;
}

uint32_t kd_graph_next_rng(kd_graph *g)
{
    return ++g->rng_id;
}

const char *kdi_intern(kd_graph *g, const char *text)
{
    if (g->n_strings > 0 && strcmp(g->strings[g->n_strings - 1], text) == 0) {
        return g->strings[g->n_strings - 1];
    }
    if (!grow(&g->strings, g->n_strings, &g->cap_strings, sizeof *g->strings)) {
        (void)out_of_memory(g);
        return "";
    }
    char *s = kd_strdup(text);
    if (s == NULL) {
        (void)out_of_memory(g);
        return "";
    }
    g->strings[g->n_strings++] = s;
    return s;
}

/* ---- nodes ----------------------------------------------------------------------------------- */

void *kdi_attr_add(kd_graph *g, const void *attr, size_t size)
{
    void *copy = grow(&g->attrs, g->n_attrs, &g->cap_attrs, sizeof *g->attrs) ? kd_alloc(size) : NULL;
    if (copy != NULL) {
        memcpy(copy, attr, size);
        g->attrs[g->n_attrs++] = copy;
    }
    return copy;
}

int32_t kdi_node_add(kd_graph *g, const kdi_node *node)
{
    if (!grow(&g->nodes, g->n_nodes, &g->cap_nodes, sizeof *g->nodes)) {
        (void)out_of_memory(g);
        return -1;
    }
    g->nodes[g->n_nodes] = *node;
    return g->n_nodes++;
}

kd_status kdi_infer(kd_graph *g, kd_op op, const int32_t *in, int n_in, const void *attr, kd_spec *out)
{
    const kd_op_def *def = kd_op_get(op);
    kd_spec specs[KD_MAX_IN];
    for (int i = 0; i < KD_MAX_IN; i++) {
        specs[i] = g->values[i < n_in ? in[i] : 0].spec;
    }
    for (int i = 0; i < KD_MAX_OUT; i++) {
        out[i] = (kd_spec){g->opts.dtype, kd_shape_absent()};
    }
    kd_err e = {0};
    const kd_status st = def->infer(specs, n_in, attr, out, &e);
    if (st != KD_OK) {
        kd_graph_fail(g, st, "%s", e.msg[0] != '\0' ? e.msg : def->name);
    }
    return st;
}

kd_val kd_node(kd_graph *g, kd_op op, const void *attr, const kd_val *in, int n_in, kd_val *outs)
{
    const kd_op_def *def = kd_op_get(op);
    if (outs != NULL) {
        memset(outs, 0, (size_t)def->n_out * sizeof *outs);
    }
    if (g->err.code != KD_OK) {
        return KD_NONE;
    }
    KD_ASSERT(n_in <= (int)def->n_in && def->infer != NULL);
    /* kernels see every operand the op can have: those not given are absent */
    kdi_node n = {.op = op, .n_in = def->n_in, .n_out = def->n_out, .segment = g->segment, .backward = g->in_backward};
    for (int i = 0; i < n_in; i++) {
        n.in[i] = in[i].id;
    }
    if (def->attr_size != 0) {
        n.attr = kdi_attr_add(g, attr, def->attr_size);
        if (n.attr == NULL) {
            return (kd_val){out_of_memory(g)};
        }
    }
    kd_spec spec[KD_MAX_OUT];
    if (kdi_infer(g, op, n.in, n_in, attr, spec) != KD_OK) {
        return KD_NONE;
    }
    n.scope = (char *)kdi_intern(g, g->scope);
    for (int o = 0; o < (int)def->n_out; o++) {
        if (spec[o].shape.rank >= 0) {
            n.out[o] = kdi_value_add(g, KDI_NODE, &spec[o]);
            g->values[n.out[o]].node = g->n_nodes;
        }
        if (outs != NULL) {
            outs[o] = (kd_val){n.out[o]};
        }
    }
    if (kdi_node_add(g, &n) < 0) {
        return KD_NONE;
    }
    return (kd_val){n.out[0]};
}

kd_val kd_node1(kd_graph *g, kd_op op, const void *attr, kd_val a)
{
    return kd_node(g, op, attr, &a, 1, NULL);
}

kd_val kd_node2(kd_graph *g, kd_op op, const void *attr, kd_val a, kd_val b)
{
    const kd_val in[2] = {a, b};
    return kd_node(g, op, attr, in, 2, NULL);
}

kd_val kd_node3(kd_graph *g, kd_op op, const void *attr, kd_val a, kd_val b, kd_val c)
{
    const kd_val in[3] = {a, b, c};
    return kd_node(g, op, attr, in, 3, NULL);
}

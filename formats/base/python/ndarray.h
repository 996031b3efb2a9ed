/* NumPy values inside a pickle: arrays and scalars, recognised by the calls that build them and never called.
 *
 *   arrays   numpy.core.multiarray._reconstruct with the state (version, shape, dtype, column-major, bytes);
 *            numpy.core.numeric._frombuffer(bytes, dtype, shape, order) of protocol 5
 *   scalars  numpy.core.multiarray.scalar(dtype, bytes)
 *   dtype    numpy.dtype('f4', ...) with the state (version, byte order, ...)
 *
 * Since NumPy 2 the modules begin with numpy._core.  In protocol 2 the bytes travel as _codecs.encode(text, 'latin1').
 * Refused as kd_npy_parse refuses: arrays of Python objects, structured types, a shape that does not fit the bytes.
 */
#ifndef KD_FORMATS_BASE_PYTHON_NDARRAY_H
#define KD_FORMATS_BASE_PYTHON_NDARRAY_H

#include "formats/base/python/npy.h"
#include "formats/base/python/pickle.h"

#ifdef __cplusplus
extern "C" {
#endif

bool kd_pk_is_array(const kd_pk_node *n); /* NULL is none */

/* The array of a node for which kd_pk_is_array holds; out->data points into the pickle, or into *own (kd_free; NULL:
 * not needed).  `origin` is what errors call it.  KD_E_FORMAT, KD_E_UNSUPPORTED, KD_E_OOM. */
KD_NODISCARD kd_status kd_pk_array(const kd_pk_node *n, const char *origin, kd_npy *out, uint8_t **own, kd_err *err);

/* An int of Python or a scalar of NumPy that is a whole number; false: neither. */
bool kd_pk_whole(const kd_pk_node *n, int64_t *out);

#ifdef __cplusplus
}
#endif
#endif

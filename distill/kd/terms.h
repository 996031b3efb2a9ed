/* The rows of the table of terms; private to distill/kd. */
#ifndef KD_DISTILL_KD_TERMS_H
#define KD_DISTILL_KD_TERMS_H

#include "distill/kd/loss.h"

#define KD_TERM(name, file) extern const kd_term_def kd_term_##name;
#include "distill/kd/terms.inc"
#undef KD_TERM

#endif

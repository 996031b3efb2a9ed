/* Fibers: one stack each, switched by hand. */
#ifndef KD_TESTS_SIMT_FIBER_H
#define KD_TESTS_SIMT_FIBER_H

struct fiber;
/* Calls run() each time it is entered anew; when run() returns, control is back after fiber_enter. */
fiber *fiber_new(void (*run)()); /* lives as long as the program */
void fiber_enter(fiber *f);      /* until it leaves or run() returns */
void fiber_leave(fiber *f);      /* called on it */

#endif

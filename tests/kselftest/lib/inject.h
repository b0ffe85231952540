/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Allocations and user copies that fail on purpose (fault-injection.rst of the kernel: fail-nth), on a kernel that can do that.
 */
#ifndef INJECT_H
#define INJECT_H

#include "ktap.h"

/* Makes every kind of failure possible, silent ones; skips the case on a kernel that cannot. */
void inject_setup(void);
/* The calling thread's Nth allocation or user copy from now on fails. */
void inject_arm(int nth);
/* No more of that. Whether it has happened. */
bool inject_disarm(void);
/* Fails the case unless `error`, of something that was made to fail, is what such a failure gives. */
void inject_check(const char *file, int line, const char *what, int nth, int error);
extern unsigned int inject_count; /* how many failures there were */

/*
 * Does CALL with its first allocation or copy failing, with its second, and so on, until it has none left that fails. Each time it
 * must either fail with the right errno and have changed nothing, or do without; then UNDO undoes it, where CALL's value is r_.
 * Ends with CALL done. Its value.
 */
#define INJECT(call, undo)                                                                                              \
	({                                                                                                              \
		long r_;                                                                                                \
		for (int nth_ = 1;; nth_++) {                                                                           \
			int error_;                                                                                     \
			bool hit_;                                                                                      \
			inject_arm(nth_);                                                                               \
			r_ = (long)(call);                                                                              \
			error_ = errno;                                                                                 \
			hit_ = inject_disarm();                                                                         \
			if (!hit_ && r_ == -1)                                                                          \
				FAIL("%s: %s, with nothing made to fail, after %d that were", #call, strerrorname_np(error_), nth_ - 1); \
			if (!hit_)                                                                                      \
				break;                                                                                  \
			inject_count++;                                                                                 \
			if (r_ == -1)                                                                                   \
				inject_check(__FILE__, __LINE__, #call, nth_, error_);                                  \
			else {                                                                                          \
				undo;                                                                                   \
			}                                                                                               \
		}                                                                                                       \
		r_;                                                                                                     \
	})
/* For what can be done once: ends when it is done, though something failed that could be done without. */
#define INJECT_ONCE(call) INJECT(call, break)
/* For what can be done again and again. */
#define INJECT_AGAIN(call) INJECT(call, (void)0)

#endif

/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What the module holds of the host, by the host kernel's own books: how much kernel memory the memory controller has charged to
 * this case and its children, and on a debug kernel (slab_debug=U) who has allocated what is not freed yet.
 */
#ifndef HELD_H
#define HELD_H

#include "ktap.h"

struct held {
	s64 memory; /* bytes; -1 without a memory controller */
	bool known; /* the rest is */
	s64 objects; /* allocated by loft */
	s64 spaces; /* all processes' address spaces */
	s64 files; /* all open files */
	s64 events; /* all eventfds */
	s64 notifiers; /* followers of address spaces */
};

/* Now. What has been freed but is kept from being used again (KASAN does that) is not counted. */
struct held held_now(void);
/* Waits until no more is held than `before`, since much is freed a little later; else fails the case and says what is left. */
void held_compare(struct held before);

#endif

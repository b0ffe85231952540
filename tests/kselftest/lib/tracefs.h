/* SPDX-License-Identifier: GPL-2.0 */
/* The kernel's trace. */
#ifndef TRACEFS_H
#define TRACEFS_H

#include <stdbool.h>
#include <stdint.h>

#define TRACING "/sys/kernel/tracing/"

/* Whether there is a trace; it is mounted where it is not yet. */
bool have_trace(void);
/* Writes to a file; false if that does not succeed. */
bool put(const char *path, const char *value);
/* How many lines of the trace are of an event and hold a text. */
uint32_t events_with(const char *event, const char *text);

#endif

// SPDX-License-Identifier: GPL-2.0

#include <linux/percpu.h>

/* The frame of the vCPU that is loaded on this CPU, for loft_host_exception in entry.S. */
DEFINE_PER_CPU(void *, loft_loaded_frame);

void loft_set_loaded_frame(void *frame)
{
	__this_cpu_write(loft_loaded_frame, frame); /* preemption is off */
}

static DEFINE_PER_CPU(u64, loft_last_guest);

u64 loft_exchange_last_guest(u64 guest)
{
	u64 last = __this_cpu_read(loft_last_guest); /* preemption is off */

	__this_cpu_write(loft_last_guest, guest);
	return last;
}

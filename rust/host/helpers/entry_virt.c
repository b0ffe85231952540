// SPDX-License-Identifier: GPL-2.0

#include <linux/entry-virt.h>
#include <linux/rseq.h>

void loft_rseq_virt_userspace_exit(void)
{
	rseq_virt_userspace_exit();
}

bool loft_xfer_to_guest_mode_work_pending(void)
{
	return __xfer_to_guest_mode_work_pending();
}

/*
 * The last look before a guest is entered. On a CPU without a tick (nohz_full) whose RCU callbacks another thread runs, a
 * wake-up of that thread may have been put off; nothing else would make up for it while the guest runs.
 */
bool loft_xfer_to_guest_mode_work_pending_irqoff(void)
{
	xfer_to_guest_mode_prepare();
	return __xfer_to_guest_mode_work_pending();
}

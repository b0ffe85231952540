// SPDX-License-Identifier: GPL-2.0

#include <asm/daifflags.h>

void loft_local_daif_mask(void)
{
	local_daif_mask();
	/*
	 * With pseudo-NMIs the above has let all priorities through again, and masks interrupts in PSTATE as the guest's entry
	 * wants it: the guest can be interrupted. The GIC may take until here to hear of it, and would not ring before.
	 */
	pmr_sync();
}

void loft_local_daif_restore_noirq(void)
{
	local_daif_restore(DAIF_PROCCTX_NOIRQ);
}

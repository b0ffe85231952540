// SPDX-License-Identifier: GPL-2.0

#include <linux/irqflags.h>

void loft_local_irq_restore(unsigned long flags)
{
	local_irq_restore(flags);
}

unsigned long loft_local_irq_save(void)
{
	unsigned long flags;

	local_irq_save(flags);
	return flags;
}

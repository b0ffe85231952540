// SPDX-License-Identifier: GPL-2.0

#include <linux/preempt.h>

void loft_preempt_disable(void)
{
	preempt_disable();
}

void loft_preempt_enable(void)
{
	preempt_enable();
}

void loft_preempt_notifier_init(struct preempt_notifier *notifier, const struct preempt_ops *ops)
{
	preempt_notifier_init(notifier, (struct preempt_ops *)ops);
}

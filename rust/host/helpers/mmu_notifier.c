// SPDX-License-Identifier: GPL-2.0

#include <linux/mmu_notifier.h>

bool loft_mmu_notifier_range_blockable(const struct mmu_notifier_range *range)
{
	return mmu_notifier_range_blockable(range);
}

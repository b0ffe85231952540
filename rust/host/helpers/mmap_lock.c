// SPDX-License-Identifier: GPL-2.0

#include <linux/mmap_lock.h>

int loft_mmap_read_lock_killable(struct mm_struct *mm)
{
	return mmap_read_lock_killable(mm);
}

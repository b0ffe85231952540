// SPDX-License-Identifier: GPL-2.0

#include <linux/hugetlb.h>
#include <linux/ratelimit.h>
#include <linux/sched.h>

void loft_memory_failure_queue(unsigned long pfn)
{
	memory_failure_queue(pfn, 0);
}

void loft_pr_memory_error(u64 physical)
{
	pr_err_ratelimited("loft: %s[%d]: memory error in a guest, at physical address %#llx\n", current->comm, current->pid, physical);
}

/* What breaks of hugetlbfs breaks as a whole; of other memory it is a page. */
unsigned int loft_vma_poison_shift(struct vm_area_struct *vma)
{
	return is_vm_hugetlb_page(vma) ? huge_page_shift(hstate_vma(vma)) : PAGE_SHIFT;
}

// SPDX-License-Identifier: GPL-2.0

#include <linux/mm.h>
#include <linux/pgtable.h>

/*
 * How large a leaf the host maps `address` with, as a shift; 0 where it maps nothing. The tables are only read: with
 * interrupts off they cannot be freed, since that waits for every CPU (as for get_user_pages_fast()).
 */
unsigned int loft_host_leaf_shift(struct mm_struct *mm, unsigned long address)
{
	unsigned int shift = 0;
	unsigned long flags;
	pgd_t pgd;
	p4d_t p4d;
	pud_t pud;
	pmd_t pmd;
	p4d_t *p4dp;
	pud_t *pudp;
	pmd_t *pmdp;

	local_irq_save(flags);
	pgd = READ_ONCE(*pgd_offset(mm, address));
	if (pgd_none(pgd))
		goto out;
	p4dp = p4d_offset_lockless(pgd_offset(mm, address), pgd, address);
	p4d = READ_ONCE(*p4dp);
	if (p4d_none(p4d) || !p4d_present(p4d))
		goto out;
	pudp = pud_offset_lockless(p4dp, p4d, address);
	pud = READ_ONCE(*pudp);
	if (pud_none(pud) || !pud_present(pud))
		goto out;
	if (pud_leaf(pud)) {
		shift = PUD_SHIFT;
		goto out;
	}
	pmdp = pmd_offset_lockless(pudp, pud, address);
	pmd = READ_ONCE(*pmdp);
	if (pmd_none(pmd) || !pmd_present(pmd))
		goto out;
	shift = pmd_leaf(pmd) ? PMD_SHIFT : PAGE_SHIFT;
out:
	local_irq_restore(flags);
	return shift;
}

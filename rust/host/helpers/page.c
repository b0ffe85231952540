// SPDX-License-Identifier: GPL-2.0

#include <linux/mm.h>

u64 loft_page_to_phys(struct page *page)
{
	return page_to_phys(page);
}

void *loft_phys_to_virt(u64 physical)
{
	return phys_to_virt(physical);
}

void loft_put_page(struct page *page)
{
	put_page(page);
}

struct page *loft_virt_to_page(const void *address)
{
	return virt_to_page(address);
}

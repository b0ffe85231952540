// SPDX-License-Identifier: GPL-2.0

#include <linux/uaccess.h>

bool loft_access_ok(unsigned long address, unsigned long size)
{
	return access_ok((void __user *)address, size);
}

unsigned long loft_untagged_addr(unsigned long address)
{
	return untagged_addr(address);
}

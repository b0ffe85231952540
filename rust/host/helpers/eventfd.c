// SPDX-License-Identifier: GPL-2.0

#include <linux/poll.h>

void loft_init_poll_funcptr(poll_table *table, poll_queue_proc queue)
{
	init_poll_funcptr(table, queue);
}

void loft_init_waitqueue_func_entry(struct wait_queue_entry *entry, wait_queue_func_t wake)
{
	init_waitqueue_func_entry(entry, wake);
}

__poll_t loft_vfs_poll(struct file *file, poll_table *table)
{
	return vfs_poll(file, table);
}

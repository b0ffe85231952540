// SPDX-License-Identifier: GPL-2.0

#include <linux/workqueue.h>

void loft_init_rcu_work(struct rcu_work *work, work_func_t function)
{
	INIT_RCU_WORK(work, function);
}

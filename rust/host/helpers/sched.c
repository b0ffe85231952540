// SPDX-License-Identifier: GPL-2.0

#include <linux/sched.h>
#include <linux/sched/signal.h>
#include <linux/sched/stat.h>
#include <linux/tick.h>

void loft_cond_resched(void)
{
	cond_resched();
}

bool loft_fatal_signal_pending(void)
{
	return fatal_signal_pending(current);
}

bool loft_need_resched(void)
{
	return need_resched();
}

u64 loft_run_delay(void)
{
#ifdef CONFIG_SCHED_INFO
	return READ_ONCE(current->sched_info.run_delay);
#else
	return 0;
#endif
}

bool loft_sched_info_on(void)
{
	return sched_info_on();
}

bool loft_single_task_running(void)
{
	return single_task_running();
}

bool loft_tick_nohz_full_cpu(int cpu)
{
	return tick_nohz_full_cpu(cpu);
}

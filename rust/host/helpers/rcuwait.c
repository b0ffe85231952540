// SPDX-License-Identifier: GPL-2.0

#include <linux/hrtimer.h>
#include <linux/rcuwait.h>
#include <linux/sched/signal.h>

/* `done(arg)` is asked with the task state already set, so no wake-up is lost. */
int loft_rcuwait_block(struct rcuwait *wait, bool (*done)(void *arg), void *arg, s64 deadline_ns)
{
	ktime_t deadline = ns_to_ktime(deadline_ns);
	int ret = 0;

	prepare_to_rcuwait(wait);
	for (;;) {
		set_current_state(TASK_INTERRUPTIBLE);
		if (done(arg))
			break;
		if (signal_pending(current)) {
			ret = -EINTR;
			break;
		}
		if (deadline_ns == KTIME_MAX)
			schedule();
		else if (!schedule_hrtimeout(&deadline, HRTIMER_MODE_ABS))
			break;
	}
	finish_rcuwait(wait);
	return ret;
}

void loft_rcuwait_init(struct rcuwait *wait)
{
	rcuwait_init(wait);
}

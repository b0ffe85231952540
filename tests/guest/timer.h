/* SPDX-License-Identifier: GPL-2.0 */
/* The generic timer for guests: the virtual timer (PPI 27) and the EL1 physical timer (PPI 30). */
#ifndef GUEST_TIMER_H
#define GUEST_TIMER_H

#include "guest.h"

#define TIMER_ENABLE 1
#define TIMER_IMASK 2
#define TIMER_ISTATUS 4

enum guest_timer { TIMER_VIRTUAL, TIMER_PHYSICAL };

static inline u64 timer_counter(enum guest_timer t)
{
	isb();
	return t == TIMER_VIRTUAL ? read_sysreg(cntvct_el0) : read_sysreg(cntpct_el0);
}

static inline void timer_set_ctl(enum guest_timer t, u64 ctl)
{
	if (t == TIMER_VIRTUAL)
		write_sysreg(ctl, cntv_ctl_el0);
	else
		write_sysreg(ctl, cntp_ctl_el0);
	isb();
}

static inline u64 timer_ctl(enum guest_timer t)
{
	isb();
	return t == TIMER_VIRTUAL ? read_sysreg(cntv_ctl_el0) : read_sysreg(cntp_ctl_el0);
}

static inline u64 timer_get_cval(enum guest_timer t)
{
	return t == TIMER_VIRTUAL ? read_sysreg(cntv_cval_el0) : read_sysreg(cntp_cval_el0);
}

static inline void timer_set_cval(enum guest_timer t, u64 cval)
{
	if (t == TIMER_VIRTUAL)
		write_sysreg(cval, cntv_cval_el0);
	else
		write_sysreg(cval, cntp_cval_el0);
	isb();
}

static inline u64 timer_cval(enum guest_timer t)
{
	return t == TIMER_VIRTUAL ? read_sysreg(cntv_cval_el0) : read_sysreg(cntp_cval_el0);
}

static inline void timer_set_tval(enum guest_timer t, u64 tval)
{
	if (t == TIMER_VIRTUAL)
		write_sysreg(tval, cntv_tval_el0);
	else
		write_sysreg(tval, cntp_tval_el0);
	isb();
}

static inline u64 timer_tval(enum guest_timer t)
{
	isb();
	return t == TIMER_VIRTUAL ? read_sysreg(cntv_tval_el0) : read_sysreg(cntp_tval_el0);
}

static inline u32 timer_ppi(enum guest_timer t)
{
	return t == TIMER_VIRTUAL ? 27 : 30;
}
#endif

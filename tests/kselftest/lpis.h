/* SPDX-License-Identifier: GPL-2.0 */
/* A guest with an ITS that counts its LPIs: what the tests of the commands and those of the delivery share. */
#ifndef LPIS_H
#define LPIS_H

#include "msi.h"

static struct its_memory its_memory;
static u64 count[ITS_CPUS][128], order[256], order_n;

static inline void on_lpi(struct guest_regs *regs)
{
	u32 intid = gic_ack();

	if (intid == GIC_SPURIOUS)
		return;
	gic_eoi(intid);
	if (intid < LPI(0) || intid >= LPI(128))
		GUEST_FAIL("not an LPI of this test", intid, 0);
	if (guest_self()->index == 0 && order_n < ARRAY_SIZE(order))
		order[order_n++] = intid;
	atomic_inc(&count[guest_self()->index][intid - LPI(0)]);
}

static inline u64 counted(u32 n)
{
	u64 sum = 0;

	for (u32 i = 0; i < ITS_CPUS; i++)
		sum += load_acquire(&count[i][n]);
	return sum;
}

static inline void settle(void)
{
	guest_delay_us(200);
	isb();
}

/* LPI n has come `times` times to `cpu`, and nowhere else since `before`. */
static inline void expect_at(u64 cpu, u32 n, u64 times)
{
	while (load_acquire(&count[cpu][n]) < times)
		;
	settle();
	GUEST_CHECK_EQ(count[cpu][n], times);
}

static inline void expect_none(u32 n, u64 times)
{
	settle();
	GUEST_CHECK_EQ(counted(n), times);
}

/* The controller, the ITS and all redistributors; device 0 to 15 with an ITT each; collection n for vCPU n. */
static inline void begin(u32 cpus, u32 queue_pages, int kind)
{
	guest_irq_handler = on_lpi;
	gic_init_distributor();
	gic_init_cpu();
	its_start(&its_memory, queue_pages, kind);
	for (u32 i = 0; i < 128; i++)
		lpi_configure(LPI(i), 0xa0, true);
	for (u32 i = 0; i < cpus; i++)
		lpis_on(i);
	for (u32 i = 0; i < 16; i++)
		its_mapd(i, its_memory.itt[i], ITT_BITS, true);
	for (u32 i = 0; i < cpus; i++)
		its_mapc(i, i, true);
	irq_enable();
}

static inline struct vm *its_vm(void (*main)(u64), u32 cpus)
{
	struct vm *vm = vm_create(.main = main, .gic = true, .vcpus = cpus);

	its_create(vm, GUEST_ITS);
	return vm;
}

#endif

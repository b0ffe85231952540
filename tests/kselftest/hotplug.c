// SPDX-License-Identifier: GPL-2.0
/* CPUs of the host go offline and come back while guests run. */
#include <fcntl.h>
#include <unistd.h>

#include "gic.h"
#include "timer.h"
#include "vm.h"

static u64 ticks[4], stop;

static void on_tick(struct guest_regs *regs)
{
	u64 cpu = guest_self()->index;
	u32 intid = gic_ack();

	if (intid == GIC_SPURIOUS)
		return;
	timer_set_cval(TIMER_VIRTUAL, timer_counter(TIMER_VIRTUAL) + guest_us(1000));
	gic_eoi(intid);
	WRITE_ONCE(ticks[cpu], ticks[cpu] + 1);
}

static u64 ready;

static void guest_tick(u64 cpu)
{
	u64 id = 0xbeef0000 + cpu;

	if (cpu == 0) {
		guest_irq_handler = on_tick;
		gic_init_distributor();
		store_release(&ready, 1);
	}
	while (!load_acquire(&ready))
		;
	gic_init_cpu();
	gic_enable(PPI_VTIMER);
	timer_set_cval(TIMER_VIRTUAL, 0);
	timer_set_ctl(TIMER_VIRTUAL, TIMER_ENABLE);
	write_sysreg(id, tpidr_el0);
	irq_enable();
	while (!READ_ONCE(stop)) {
		GUEST_CHECK_EQ(read_sysreg(tpidr_el0), id);
		if (cpu & 1)
			wfi();
	}
}

static bool set_online(int cpu, bool online)
{
	char path[64];
	int fd;
	bool done;

	snprintf(path, sizeof(path), "/sys/devices/system/cpu/cpu%d/online", cpu);
	fd = open(path, O_WRONLY);
	if (fd < 0)
		return false;
	done = write(fd, online ? "1" : "0", 1) == 1;
	close(fd);
	return done;
}

static void all_tick(struct vm *vm)
{
	for (u32 i = 0; i < vm->vcpu_count; i++) {
		u64 before = VM_GLOBAL(vm, ticks[i]);

		while (VM_GLOBAL(vm, ticks[i]) < before + 3)
			sleep_us(1000);
	}
}

TEST(under_load)
{
	struct vm *vm;
	int last = cpu_count() - 1;

	if (last < 1)
		SKIP("one CPU only");
	if (!set_online(last, false)) {
		SKIP("CPUs cannot go offline here");
	}
	CHECK(set_online(last, true));
	vm = vm_create(.main = guest_tick, .gic = true, .vcpus = 4);
	for (u32 i = 0; i < 4; i++)
		vcpu_start(&vm->vcpus[i]);
	for (int i = 0; i < 6; i++) {
		CHECK(set_online(last, false));
		all_tick(vm);
		CHECK(set_online(last, true));
		all_tick(vm);
	}
	VM_GLOBAL(vm, stop) = 1;
	for (u32 i = 0; i < 4; i++)
		vcpu_join(&vm->vcpus[i]);
}

/* A VM that is made while a CPU is away runs on it when it is back. */
TEST(vm_made_while_away)
{
	int last = cpu_count() - 1;
	struct vm *vm;

	if (last < 1)
		SKIP("one CPU only");
	if (!set_online(last, false))
		SKIP("CPUs cannot go offline here");
	vm = vm_create(.main = guest_tick, .gic = true, .vcpus = 1);
	vcpu_start(&vm->vcpus[0]);
	all_tick(vm);
	CHECK(set_online(last, true));
	{
		cpu_set_t set;

		CPU_ZERO(&set);
		CPU_SET(last, &set);
		CHECK(pthread_setaffinity_np(vm->vcpus[0].thread, sizeof(set), &set) == 0);
	}
	all_tick(vm);
	VM_GLOBAL(vm, stop) = 1;
	vcpu_join(&vm->vcpus[0]);
}

// SPDX-License-Identifier: GPL-2.0
/* vCPU threads that are moved between CPUs and preempted: all of a guest's state goes along. */
#include <sched.h>
#include <unistd.h>

#include "gic.h"
#include "timer.h"
#include "vm.h"

static u64 stop, rounds[8];

/*
 * Puts values that nobody else has into every register that a context switch must carry, then looks at them for as long
 * as the host says. General registers are checked by the compiler's own code all the while.
 */
static void guest_state(u64 cpu)
{
	u64 id = 0x5a00000000000000 | cpu << 32;

	write_sysreg(id | 1, tpidr_el0);
	write_sysreg(id | 2, tpidrro_el0);
	write_sysreg(cpu << 8 | 3, contextidr_el1);
	write_sysreg((id | 4) & ~0xfffUL, far_el1);
	write_sysreg(cpu << 4 | 5, afsr0_el1); /* may be RAZ/WI */
	write_sysreg(id & 0xfffffffff000, par_el1);
	write_sysreg(id | 6, elr_el1);
	write_sysreg(id | 7, sp_el0);
	write_sysreg(cpu << 12, ttbr1_el1);
	write_sysreg(0x44, amair_el1);
	write_sysreg(cpu & 3, cntkctl_el1);
	timer_set_cval(TIMER_VIRTUAL, id | 8);
	timer_set_cval(TIMER_PHYSICAL, id | 9);
	write_sysreg(cpu << 28, mdscr_el1);
	isb();
	while (!READ_ONCE(stop)) {
		GUEST_CHECK_EQ(read_sysreg(tpidr_el0), id | 1);
		GUEST_CHECK_EQ(read_sysreg(tpidrro_el0), id | 2);
		GUEST_CHECK_EQ(read_sysreg(contextidr_el1), cpu << 8 | 3);
		GUEST_CHECK_EQ(read_sysreg(far_el1), (id | 4) & ~0xfffUL);
		GUEST_CHECK_EQ(read_sysreg(elr_el1), id | 6);
		GUEST_CHECK_EQ(read_sysreg(sp_el0), id | 7);
		GUEST_CHECK_EQ(read_sysreg(ttbr1_el1), cpu << 12);
		GUEST_CHECK_EQ(read_sysreg(cntkctl_el1) & 3, cpu & 3);
		GUEST_CHECK_EQ(timer_cval(TIMER_VIRTUAL), id | 8);
		GUEST_CHECK_EQ(timer_cval(TIMER_PHYSICAL), id | 9);
		GUEST_CHECK_EQ(read_sysreg(mpidr_el1) & 0xff, cpu);
		GUEST_CHECK_EQ(read_sysreg(ttbr0_el1), (u64)guest_page_table);
		WRITE_ONCE(rounds[cpu], rounds[cpu] + 1);
	}
}

static void run_all_for(struct vm *vm, u64 us, void (*meanwhile)(struct vm *, u64))
{
	u64 end, before[8];

	for (u32 i = 0; i < vm->vcpu_count; i++)
		vcpu_start(&vm->vcpus[i]);
	for (u32 i = 0; i < vm->vcpu_count; i++)
		while (!VM_GLOBAL(vm, rounds[i]))
			sleep_us(1000);
	end = now_us() + us;
	for (u64 i = 0; now_us() < end; i++)
		meanwhile(vm, i);
	for (u32 i = 0; i < vm->vcpu_count; i++)
		before[i] = VM_GLOBAL(vm, rounds[i]);
	for (u32 i = 0; i < vm->vcpu_count; i++)
		while (VM_GLOBAL(vm, rounds[i]) == before[i])
			sleep_us(1000); /* everyone is alive */
	VM_GLOBAL(vm, stop) = 1;
	for (u32 i = 0; i < vm->vcpu_count; i++)
		vcpu_join(&vm->vcpus[i]);
}

static void move_one(struct vm *vm, u64 i)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(i / vm->vcpu_count % cpu_count(), &set);
	CHECK(pthread_setaffinity_np(vm->vcpus[i % vm->vcpu_count].thread, sizeof(set), &set) == 0);
	sleep_us(500);
}

TEST(moved)
{
	if (cpu_count() < 2)
		SKIP("one CPU only");
	run_all_for(vm_create(.main = guest_state, .gic = true, .vcpus = 3), 1000000, move_one);
}

static void just_wait(struct vm *vm, u64 i)
{
	sleep_us(10000);
}

/* More vCPUs than CPUs, all on one of them. */
TEST(crowded)
{
	pin_to_cpu(0); /* the threads inherit it */
	run_all_for(vm_create(.main = guest_state, .gic = true, .vcpus = 5), 1000000, just_wait);
}

static volatile bool burn_end;

/* A host thread that takes the CPU again and again. */
static void *burn(void *arg)
{
	u64 seed = (u64)arg;

	while (!burn_end) {
		for (int i = 0; i < 2000; i++)
			seed = seed * 6364136223846793005 + 1442695040888963407;
		sched_yield();
	}
	return NULL;
}

TEST(preempted)
{
	pthread_t threads[2];

	pin_to_cpu(0);
	for (u64 i = 0; i < 2; i++)
		CHECK(pthread_create(&threads[i], NULL, burn, (void *)i) == 0);
	run_all_for(vm_create(.main = guest_state, .gic = true, .vcpus = 2), 1000000, just_wait);
	burn_end = true;
	for (int i = 0; i < 2; i++)
		pthread_join(threads[i], NULL);
}

/* Interrupt state moves as well: pending, active, half-way through a handler. */
static u64 sgis, in_handler;

static void on_sgi(struct guest_regs *regs)
{
	u32 intid = gic_ack();

	if (intid == GIC_SPURIOUS)
		return;
	GUEST_CHECK_EQ(in_handler, 0);
	in_handler = 1;
	GUEST_CHECK_EQ(read_sysreg(ICC_RPR_EL1), 0xa0);
	GUEST_SYNC(2); /* moved here, with the interrupt active */
	GUEST_CHECK_EQ(read_sysreg(ICC_RPR_EL1), 0xa0);
	GUEST_CHECK(gic_is_active(intid));
	in_handler = 0;
	sgis++;
	gic_eoi(intid);
}

static void guest_interrupts(u64 arg)
{
	guest_irq_handler = on_sgi;
	gic_init_distributor();
	gic_init_cpu();
	gic_enable(3);
	for (u64 i = 1; i <= 30; i++) {
		irq_disable();
		gic_sgi(3, 1);
		GUEST_SYNC(1); /* moved here, with the interrupt pending */
		GUEST_CHECK_EQ(read_sysreg(ICC_HPPIR1_EL1), 3);
		irq_enable();
		while (READ_ONCE(sgis) < i)
			;
	}
}

TEST(interrupts_move_along)
{
	struct vm *vm = vm_create(.main = guest_interrupts, .gic = true);
	struct guest_message m;

	if (cpu_count() < 2)
		SKIP("one CPU only");
	for (int i = 0; (m = vcpu_next(&vm->vcpus[0])).command == GUEST_CMD_SYNC; i++)
		pin_to_cpu(i % 2);
	CHECK_EQ(VM_GLOBAL(vm, sgis), 30);
}

/* Two vCPUs of one VM on one CPU after the other: translations are each one's own where tables differ. */
static u64 tables[2][512] __attribute__((aligned(4096)));

static void guest_translations(u64 cpu)
{
	volatile u64 *window = (volatile u64 *)(100UL << 30); /* not mapped in the common table */

	for (u64 i = 0; i < 512; i++)
		tables[cpu][i] = guest_page_table[i];
	tables[cpu][100] = (guest_page_table[1] & ~(0x3ffUL << 30)) | (2 + cpu) << 30;
	dsb(sy);
	write_sysreg(tables[cpu], ttbr0_el1);
	isb();
	__asm__ volatile("tlbi vmalle1; dsb nsh; isb" : : : "memory");
	*window = cpu + 1000;
	while (!READ_ONCE(stop)) {
		GUEST_CHECK_EQ(*window, cpu + 1000);
		WRITE_ONCE(rounds[cpu], rounds[cpu] + 1);
	}
}

TEST(translations_are_per_vcpu)
{
	struct vm *vm = vm_create(.main = guest_translations, .vcpus = 2);
	u64 *a = host_alloc(0x1000, 0x1000), *b = host_alloc(0x1000, 0x1000);

	CHECK_OK(vm_slot(vm, 1, 0, 2UL << 30, 0x1000, a));
	CHECK_OK(vm_slot(vm, 2, 0, 3UL << 30, 0x1000, b));
	pin_to_cpu(0);
	run_all_for(vm, 700000, just_wait);
	CHECK_EQ(*a, 1000);
	CHECK_EQ(*b, 1001);
}

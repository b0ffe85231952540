// SPDX-License-Identifier: GPL-2.0
/* Sixteen VMs at once, and VMs that come and go while others run. */
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "gic.h"
#include "timer.h"
#include "vm.h"

#define VMS 16
#define AREA 0x80000000UL
#define PAGES 16

static u64 identity, ticks, rounds;

static void on_tick(struct guest_regs *regs)
{
	u32 intid = gic_ack();

	if (intid == GIC_SPURIOUS)
		return;
	ticks++;
	timer_set_cval(TIMER_VIRTUAL, timer_counter(TIMER_VIRTUAL) + guest_us(2000));
	gic_eoi(intid);
}

/* Keeps its own number in its own memory, at the addresses that all the others use too. */
static void guest_neighbour(u64 arg)
{
	u64 id = identity;

	guest_irq_handler = on_tick;
	gic_init_distributor();
	gic_init_cpu();
	gic_enable(PPI_VTIMER);
	timer_set_cval(TIMER_VIRTUAL, 0);
	timer_set_ctl(TIMER_VIRTUAL, TIMER_ENABLE);
	write_sysreg(id, tpidr_el0);
	irq_enable();
	for (u64 i = 0; i < PAGES; i++)
		*(volatile u64 *)(AREA + i * 4096) = id << 32 | i;
	while (READ_ONCE(ticks) < 20) {
		for (u64 i = 0; i < PAGES; i++)
			GUEST_CHECK_EQ(*(volatile u64 *)(AREA + i * 4096), id << 32 | i);
		GUEST_CHECK_EQ(read_sysreg(tpidr_el0), id);
		rounds++;
		if (rounds % 3 == 0)
			wfi();
		else if (rounds % 16 == 1)
			GUEST_SYNC2(1, id);
	}
}

static struct vm *neighbour(u64 id)
{
	struct vm *vm = vm_create(.main = guest_neighbour, .gic = true);

	CHECK_OK(vm_slot(vm, 1, 0, AREA, PAGES * 4096, host_alloc(PAGES * 4096, 4096)));
	VM_GLOBAL(vm, identity) = id;
	return vm;
}

static void *live(void *arg)
{
	struct vm *vm = arg;
	u64 id = VM_GLOBAL(vm, identity);
	struct guest_message m;

	while ((m = vcpu_next(&vm->vcpus[0])).command == GUEST_CMD_SYNC)
		CHECK_EQ(m.b, id);
	return NULL;
}

TEST(sixteen_at_once)
{
	pthread_t threads[VMS];
	struct vm *vms[VMS];

	for (u64 i = 0; i < VMS; i++)
		vms[i] = neighbour(i + 1);
	for (u64 i = 0; i < VMS; i++)
		CHECK(pthread_create(&threads[i], NULL, live, vms[i]) == 0);
	for (u64 i = 0; i < VMS; i++)
		CHECK(pthread_join(threads[i], NULL) == 0);
	for (u64 i = 0; i < VMS; i++)
		vm_destroy(vms[i]);
}

/* One thread runs them all, a short while each: what the CPU keeps of one must not serve the next. */
TEST(one_thread_for_all)
{
	struct vm *vms[VMS];
	u32 alive = VMS;
	bool over[VMS] = { 0 };

	pin_to_cpu(0);
	for (u64 i = 0; i < VMS; i++)
		vms[i] = neighbour(i + 1);
	for (u64 i = 0; alive; i++) {
		u64 n = i % VMS;
		struct guest_message m;

		if (over[n])
			continue;
		m = vcpu_next(&vms[n]->vcpus[0]);
		if (m.command == GUEST_CMD_SYNC) {
			CHECK_EQ(m.b, n + 1);
		} else {
			over[n] = true;
			alive--;
		}
	}
}

static volatile bool churn_end;

static void *churn(void *arg)
{
	u64 n = 0;

	while (!churn_end) {
		struct vm *vm = neighbour(100 + n++);

		vcpu_next(&vm->vcpus[0]);
		vm_destroy(vm);
	}
	*(u64 *)arg = n;
	return NULL;
}

TEST(coming_and_going)
{
	struct vm *vm = neighbour(1);
	pthread_t thread;
	u64 made = 0;

	CHECK(pthread_create(&thread, NULL, churn, &made) == 0);
	live(vm);
	sleep_us(500000);
	churn_end = true;
	CHECK(pthread_join(thread, NULL) == 0);
	CHECK(made > 0);
}

/* A process is killed with its vCPUs running; those of others do not notice. */
TEST(killed_in_the_middle)
{
	struct vm *vm = neighbour(1);
	pthread_t thread;

	CHECK(pthread_create(&thread, NULL, live, vm) == 0);
	for (int i = 0; i < 4; i++) {
		pid_t child = CHECK_OK(fork());

		if (child == 0) {
			struct vm *victim = neighbour(7);

			if (i & 1) /* the file descriptors go first, but for what KVM_RUN itself holds */
				close(victim->fd), close(victim->gic);
			for (;;)
				vcpu_next(&victim->vcpus[0]);
		}
		sleep_us(30000 + i * 7000);
		CHECK_OK(kill(child, SIGKILL));
		CHECK_EQ(waitpid(child, NULL, 0), child);
	}
	CHECK(pthread_join(thread, NULL) == 0);
}

// SPDX-License-Identifier: GPL-2.0
/* One CPU that two VMs of one vCPU each share. Everything happens on that CPU; it is never idle in an interval. */
#include <pthread.h>
#include <sched.h>
#include <sys/eventfd.h>

#include "bench.h"

#define OPERATIONS 20 /* switches in a round, both ways */
#define DOORBELL 0x0a000000UL
#define LINE 3

/* The thread with its vCPU: on BENCH_CPU, in strict turns with the other one. */
static void share_the_cpu(void)
{
	pin_to_cpu(BENCH_CPU);
	CHECK_OK(sched_setscheduler(0, SCHED_FIFO, &(struct sched_param){ .sched_priority = 10 }));
}

/* An access that takes the vCPU out to userspace: for the first VM's guest it ends when the other VM has had its turn. */
static void guest_first(u64 arg)
{
	BENCH_EACH(round, BENCH_ROUNDS) {
		u64 before = guest_now();

		for (u32 i = 0; i < OPERATIONS / 2; i++)
			mmio_write32(DOORBELL, 0);
		bench_ticks[0][round] = guest_now() - before;
	}
}

static void guest_second(u64 arg)
{
	for (;;)
		mmio_write32(DOORBELL, 0);
}

/* Until the first is done. The other thread's exits are counted to see that the turns were taken. */
static pthread_barrier_t both;
static volatile bool done;
static u64 second_exits;

static void *in_turns(void *arg)
{
	struct vcpu *vcpu = arg;
	struct guest_message message;

	share_the_cpu();
	pthread_barrier_wait(&both);
	for (u64 exits = 0;; exits++) {
		if (done) {
			second_exits = exits;
			return NULL;
		}
		CHECK_EQ(vcpu_run(vcpu), 0);
		if (vcpu_message(vcpu, &message)) {
			CHECK_EQ(message.command, GUEST_CMD_DONE);
			done = true;
			return NULL;
		}
		sched_yield();
	}
}

/*
 * Two threads: the guest exits to its VMM, that gives up the CPU (sched_yield), the scheduler switches to the other thread,
 * and its VMM enters its guest. With the system calls.
 */
TEST(vm_switch)
{
	struct vm *first = bench_vm(.main = guest_first), *second = bench_vm(.main = guest_second);
	pthread_t threads[2];

	CHECK(pthread_barrier_init(&both, NULL, 2) == 0);
	CHECK(pthread_create(&threads[0], NULL, in_turns, &first->vcpus[0]) == 0);
	CHECK(pthread_create(&threads[1], NULL, in_turns, &second->vcpus[0]) == 0);
	pthread_join(threads[0], NULL);
	pthread_join(threads[1], NULL);
	CHECK(second_exits + 2 > OPERATIONS / 2 * BENCH_ROUNDS && second_exits < OPERATIONS / 2 * BENCH_ROUNDS + 2);
	bench_report("vm_switch", OPERATIONS, BENCH_ROUNDS, VM_GLOBAL(first, bench_ticks)[0]);
}

/* One thread that runs the two vCPUs in turn: no scheduler in it. */
TEST(vm_switch_one_thread)
{
	struct vm *first = bench_vm(.main = guest_first), *second = bench_vm(.main = guest_second);
	struct guest_message message;

	do {
		CHECK_EQ(vcpu_run(&second->vcpus[0]), 0);
		CHECK_EQ(vcpu_run(&first->vcpus[0]), 0);
	} while (!vcpu_message(&first->vcpus[0], &message));
	CHECK_EQ(message.command, GUEST_CMD_DONE);
	bench_report("vm_switch_one_thread", OPERATIONS, BENCH_ROUNDS, VM_GLOBAL(first, bench_ticks)[0]);
}

/* Waits in WFI for the next interrupt after `count`. */
static u64 wait_for_more(u64 count)
{
	irq_disable();
	while (READ_ONCE(bench_cpus[0].count) == count) {
		wfi();
		irq_enable();
		isb();
		irq_disable();
	}
	irq_enable();
	return READ_ONCE(bench_cpus[0].count);
}

static void set_up_line(void)
{
	bench_gic_up(0, 1);
	gic_edge(SPI(LINE), true);
	gic_enable(SPI(LINE));
	irq_enable();
	GUEST_SYNC(1);
}

static void guest_ping(u64 arg)
{
	u64 count = 0;

	set_up_line();
	BENCH_EACH(round, BENCH_ROUNDS) {
		u64 before = guest_now();

		for (u32 i = 0; i < OPERATIONS / 2; i++) {
			mmio_write32(DOORBELL, 0);
			count = wait_for_more(count);
		}
		bench_ticks[0][round] = guest_now() - before;
	}
}

static void guest_pong(u64 arg)
{
	set_up_line();
	for (u64 count = 0;;) {
		count = wait_for_more(count);
		mmio_write32(DOORBELL, 0);
	}
}

static void *run(void *arg)
{
	share_the_cpu();
	vcpu_done(arg);
	return NULL;
}

/* A store of FROM's guest is an interrupt for TO's. */
static void connect(struct vm *from, struct vm *to)
{
	struct kvm_irqfd irqfd = { .fd = CHECK_OK(eventfd(0, 0)), .gsi = LINE };
	struct kvm_ioeventfd ioeventfd = { .fd = irqfd.fd, .addr = DOORBELL, .len = 4 };

	CHECK_OK(ioctl(to->fd, KVM_IRQFD, &irqfd));
	CHECK_OK(ioctl(from->fd, KVM_IOEVENTFD, &ioeventfd));
}

/*
 * Two threads without userspace: the guest's store is an eventfd that is the other guest's interrupt; then it waits in WFI,
 * the scheduler switches to the other thread, and that guest's handler begins.
 */
TEST(vm_switch_wfi)
{
	struct vm *first = bench_vm(.main = guest_ping), *second = bench_vm(.main = guest_pong);
	pthread_t threads[2];

	connect(first, second);
	connect(second, first);
	vcpu_sync(&first->vcpus[0], 1);
	vcpu_sync(&second->vcpus[0], 1);
	CHECK(pthread_create(&threads[1], NULL, run, &second->vcpus[0]) == 0);
	sleep_us(1000);
	CHECK(pthread_create(&threads[0], NULL, run, &first->vcpus[0]) == 0);
	pthread_join(threads[0], NULL);
	bench_report("vm_switch_wfi", OPERATIONS, BENCH_ROUNDS, VM_GLOBAL(first, bench_ticks)[0]);
}

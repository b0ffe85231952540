// SPDX-License-Identifier: GPL-2.0
/* What a VMM asks for: KVM_RUN that returns at once, registers, virtual machines and vCPUs. Counted on the caller's CPU. */
#include <linux/perf_event.h>
#include <sched.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "bench.h"

static volatile u64 ticks[BENCH_ROUNDS];

static void guest_nothing(u64 arg)
{
	GUEST_SYNC(1);
}

/* CALL, an expression, BENCH_OPERATIONS times in BENCH_ROUNDS rounds; on the calling CPU, with the system call. */
#define REPEAT(NAME, CALL)                                                    \
	do {                                                                  \
		BENCH_EACH(round, BENCH_ROUNDS) {                             \
			u64 before = bench_now();                             \
			for (u32 i = 0; i < BENCH_OPERATIONS; i++)            \
				if (!(CALL))                                  \
					FAIL(#CALL ": errno %d", errno);      \
			ticks[round] = bench_now() - before;                  \
		}                                                             \
		bench_report(NAME, BENCH_OPERATIONS, BENCH_ROUNDS, ticks);    \
	} while (0)

/* KVM_RUN with immediate_exit set, which goes in and comes out with EINTR without having run the guest. */
TEST(run_immediate_exit)
{
	struct vm *vm = bench_vm(.main = guest_nothing);
	int fd = vm->vcpus[0].fd;

	vcpu_sync(&vm->vcpus[0], 1);
	vm->vcpus[0].run->immediate_exit = 1;
	REPEAT("run_immediate_exit", ioctl(fd, KVM_RUN, 0) < 0 && errno == EINTR);
}

static void measure_registers(const char *get, const char *set, u64 id)
{
	struct vm *vm = bench_vm(.main = guest_nothing);
	u64 value;
	struct kvm_one_reg reg = { .id = id, .addr = (u64)&value };
	int fd = vm->vcpus[0].fd;

	vcpu_sync(&vm->vcpus[0], 1);
	REPEAT(get, ioctl(fd, KVM_GET_ONE_REG, &reg) == 0);
	REPEAT(set, ioctl(fd, KVM_SET_ONE_REG, &reg) == 0);
}

/* A general register (x1) of a vCPU that does not run. */
TEST(get_one_reg)
{
	measure_registers("get_one_reg", "set_one_reg", CORE_REG(regs.regs[1]));
}

/* A system register of EL1 (TTBR0_EL1). */
TEST(get_one_sysreg)
{
	measure_registers("get_one_sysreg", "set_one_sysreg", ARM64_SYS_REG(3, 0, 2, 0, 0));
}

/* Nothing but exits, none of which needs the host. */
static u64 fast_exits;

static void guest_fast_exits(u64 arg)
{
	bench_gic_up(0, 1);
	for (;;) {
		guest_hvc(0x80000000, 0, 0, 0);
		read_sysreg(id_aa64pfr0_el1);
		mmio_read32(GUEST_GICD + GICD_CTLR);
		mmio_write32(GUEST_GICD + GICD_ISENABLER + 4, 1);
		__asm__ volatile("msr " STRINGIFY(ICC_SGI1R_EL1) ", xzr");
		WRITE_ONCE(fast_exits, fast_exits + 5);
	}
}

static u64 monotonic_ns(void)
{
	struct timespec now;

	CHECK_OK(clock_gettime(CLOCK_MONOTONIC, &now));
	return now.tv_sec * 1000000000UL + now.tv_nsec;
}

/*
 * A thread of the host's that a timer wakes on the CPU of a guest which does nothing but exit: how much later than asked for it
 * looks at the clock. In it: the end of the exit, the way out of the guest, the host's interrupt, its scheduler, and the way to
 * userspace. A turn of another CPU's in it shows in the maximum.
 */
TEST(host_wakeup)
{
	struct vm *vm = bench_vm(.main = guest_fast_exits);

	bench_start(&vm->vcpus[0], BENCH_CPU);
	while (!VM_GLOBAL(vm, fast_exits))
		sleep_us(1000);
	CHECK_OK(sched_setscheduler(0, SCHED_FIFO, &(struct sched_param){ .sched_priority = 10 }));
	BENCH_EACH(round, BENCH_ROUNDS) {
		u64 exits = VM_GLOBAL(vm, fast_exits);
		/* Another moment of the guest's loop each time. */
		u64 due = monotonic_ns() + 200000 + round * 137;
		struct timespec until = { due / 1000000000, due % 1000000000 };

		CHECK(clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL) == 0);
		ticks[round] = (monotonic_ns() - due) * read_sysreg(cntfrq_el0) / 1000000000;
		CHECK(VM_GLOBAL(vm, fast_exits) != exits);
	}
	bench_report("host_wakeup", 1, BENCH_ROUNDS, ticks);
}

/* The instructions of all CPUs so far, idle time left out: the emulator's CPUs share the event's count. */
static u64 instructions(void)
{
	static int fd = -1;
	struct perf_event_attr event = { .type = PERF_TYPE_HARDWARE, .size = sizeof(event), .config = PERF_COUNT_HW_INSTRUCTIONS };
	u64 count;

	if (fd < 0)
		fd = CHECK_OK(syscall(SYS_perf_event_open, &event, -1, BENCH_CPU, -1, 0));
	CHECK(read(fd, &count, 8) == 8);
	return count;
}

/*
 * KVM_CREATE_VM and the close of it, an empty one. Here the caller sleeps, for the kernel's RCU, so instructions are counted
 * and not ticks: on all CPUs, for others do part of the work. A reading of the count for each round is in it.
 */
/* On KVM one in three is cheaper than the others: whole periods make a round. */
#define MACHINES 6
TEST(vm_create_destroy)
{
	int system = sys_fd();

	pin_to_cpu(BENCH_CPU);
	BENCH_EACH(round, BENCH_ROUNDS) {
		u64 before = instructions();

		for (u32 i = 0; i < MACHINES; i++)
			CHECK_OK(close(CHECK_OK(ioctl(system, KVM_CREATE_VM, 0))));
		ticks[round] = instructions() - before;
	}
	bench_report("vm_create_destroy", MACHINES, BENCH_ROUNDS, ticks);
}

/* KVM_CREATE_VCPU, eight for each of many VMs. */
#define VCPUS 8
TEST(vcpu_create)
{
	int system = sys_fd();

	pin_to_cpu(BENCH_CPU);
	BENCH_EACH(round, BENCH_ROUNDS) {
		int vm = CHECK_OK(ioctl(system, KVM_CREATE_VM, 0)), fds[VCPUS];
		u64 before = bench_now();

		for (u32 i = 0; i < VCPUS; i++)
			fds[i] = CHECK_OK(ioctl(vm, KVM_CREATE_VCPU, i));
		ticks[round] = bench_now() - before;
		for (u32 i = 0; i < VCPUS; i++)
			close(fds[i]);
		close(vm);
	}
	bench_report("vcpu_create", VCPUS, BENCH_ROUNDS, ticks);
}

// SPDX-License-Identifier: GPL-2.0
#include <sched.h>
#include <unistd.h>

#include "bench.h"
#include "timer.h"

struct bench_cpu bench_cpus[VM_MAX_VCPUS];
u64 bench_ticks[2][BENCH_ROUNDS], bench_endless;

_Static_assert(offsetof(struct guest_cpu, index) == GUEST_CPU_INDEX, "boot.S");
_Static_assert(offsetof(struct bench_cpu, at) == BENCH_CPU_AT, "boot.S");
_Static_assert(offsetof(struct bench_cpu, count) == BENCH_CPU_COUNT, "boot.S");
_Static_assert(sizeof(struct bench_cpu) == 1 << BENCH_CPU_SHIFT, "boot.S");

void bench_unexpected(u64 vector)
{
	for (;;)
		GUEST_FAIL("unexpected exception: vector, esr", vector, read_sysreg(esr_el1));
}

void bench_gic_up(u64 index, u32 vcpus)
{
	if (index)
		BENCH_UNTIL(READ_ONCE(bench_cpus[0].ready));
	else
		gic_init_distributor();
	gic_init_cpu();
	gic_enable(0);
	gic_enable(PPI_VTIMER);
	WRITE_ONCE(bench_cpus[index].ready, 1);
	for (u32 i = 0; i < vcpus; i++)
		BENCH_UNTIL(READ_ONCE(bench_cpus[i].ready));
}

void bench_sleep(u64 ticks)
{
	struct bench_cpu *cpu = &bench_cpus[guest_self()->index];
	u64 count = READ_ONCE(cpu->count);

	irq_disable();
	timer_set_cval(TIMER_VIRTUAL, guest_now() + ticks);
	timer_set_ctl(TIMER_VIRTUAL, TIMER_ENABLE);
	while (READ_ONCE(cpu->count) == count) {
		wfi();
		irq_enable();
		isb();
		irq_disable();
	}
	irq_enable();
}

struct vm *bench_vm_(const struct vm_options *options)
{
	struct vm *vm;

	pin_to_cpu(BENCH_CPU);
	if (getenv("LOFT_BENCH_ENDLESS")) {
		bench_endless = 1;
		alarm(0);
	}
	vm = vm_create_(options);
	for (u32 i = 0; i < vm->vcpu_count; i++)
		reg_set(&vm->vcpus[i], CORE_REG(regs.pc), (u64)bench_boot);
	return vm;
}

static void *run(void *arg)
{
	vcpu_done(arg);
	return NULL;
}

void bench_start(struct vcpu *vcpu, int cpu)
{
	pthread_attr_t attributes;
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	CHECK(pthread_attr_init(&attributes) == 0);
	CHECK(pthread_attr_setaffinity_np(&attributes, sizeof(set), &set) == 0);
	CHECK(pthread_create(&vcpu->thread, &attributes, run, vcpu) == 0);
	pthread_attr_destroy(&attributes);
}

void bench_run_all(struct vm *vm)
{
	int cpus = cpu_count();

	if ((int)vm->vcpu_count > cpus)
		FAIL("this needs %u CPUs", vm->vcpu_count);
	/* The first last: it takes this thread's CPU. */
	for (u32 i = vm->vcpu_count; i-- > 0;)
		bench_start(&vm->vcpus[i], (BENCH_CPU + i) % cpus);
	vcpu_join(&vm->vcpus[0]);
}

void bench_report(const char *name, u32 operations, u32 rounds, const volatile u64 *ticks)
{
	bench_report_of(name, "", operations, rounds, ticks);
}

void bench_report_of(const char *name, const char *which, u32 operations, u32 rounds, const volatile u64 *ticks)
{
	/* In one piece, whatever else is printed. */
	char line[8192];
	int n = snprintf(line, sizeof(line), "{\"name\":\"%s\",\"which\":\"%s\",\"operations\":%u,\"frequency\":%lu,\"ticks\":[", name,
			 which, operations, read_sysreg(cntfrq_el0));

	for (u32 i = 0; i < rounds; i++)
		n += snprintf(line + n, sizeof(line) - n, "%s%lu", i ? "," : "", ticks[i]);
	n += snprintf(line + n, sizeof(line) - n, "]}\n");
	CHECK(n < (int)sizeof(line));
	CHECK(write(STDOUT_FILENO, line, n) == n);
}

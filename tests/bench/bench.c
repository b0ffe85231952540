// SPDX-License-Identifier: GPL-2.0
#include <unistd.h>

#include "bench.h"
#include "timer.h"

struct bench_cpu bench_cpus[VM_MAX_VCPUS];
u64 bench_ticks[2][BENCH_ROUNDS];

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
	vm = vm_create_(options);
	for (u32 i = 0; i < vm->vcpu_count; i++)
		reg_set(&vm->vcpus[i], CORE_REG(regs.pc), (u64)bench_boot);
	return vm;
}

struct start {
	struct vcpu *vcpu;
	int cpu;
};

static void *run(void *arg)
{
	struct start start = *(struct start *)arg;

	free(arg);
	pin_to_cpu(start.cpu);
	vcpu_done(start.vcpu);
	return NULL;
}

void bench_start(struct vcpu *vcpu, int cpu)
{
	struct start *start = malloc(sizeof(*start));

	CHECK(start);
	*start = (struct start){ vcpu, cpu };
	CHECK(pthread_create(&vcpu->thread, NULL, run, start) == 0);
}

void bench_run_all(struct vm *vm)
{
	int cpus = cpu_count();

	if ((int)vm->vcpu_count > cpus)
		FAIL("this needs %u CPUs", vm->vcpu_count);
	for (u32 i = 0; i < vm->vcpu_count; i++)
		bench_start(&vm->vcpus[i], (BENCH_CPU + i) % cpus);
	vcpu_join(&vm->vcpus[0]);
}

void bench_report(const char *name, u32 operations, u32 rounds, const volatile u64 *ticks)
{
	/* In one piece, whatever else is printed. */
	char line[8192];
	int n = snprintf(line, sizeof(line), "{\"name\":\"%s\",\"operations\":%u,\"frequency\":%lu,\"ticks\":[", name, operations,
			 read_sysreg(cntfrq_el0));

	for (u32 i = 0; i < rounds; i++)
		n += snprintf(line + n, sizeof(line) - n, "%s%lu", i ? "," : "", ticks[i]);
	n += snprintf(line + n, sizeof(line) - n, "]}\n");
	CHECK(n < (int)sizeof(line));
	CHECK(write(STDOUT_FILENO, line, n) == n);
}

/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The microbenchmarks' own runtime, beside that of the tests (../guest, ../kselftest/lib).
 *
 * A benchmark is a TEST() case with the operation's name. Its guest, or its host side, runs the operation many times over
 * between two readings of the counter and keeps the ticks of each such round; the host side prints them as one line of
 * JSON (bench_report). The comment of each operation says what begins and ends its interval and what is in it.
 *
 * The unit. In an emulated server with -icount shift=0 on -cpu max one executed instruction is one tick of the counter,
 * and the emulator runs the CPUs in turns: the ticks between two readings are the instructions of all CPUs together,
 * wherever the readings are taken. Hence
 *   - an interval in which one CPU works and the others are idle counts that CPU;
 *   - an interval across CPUs is the sum of both sides, provided that whoever waits hands over the turn each time it has
 *     looked (bench_pause), or its looking would be counted for up to a whole turn;
 *   - an interval in which all CPUs are idle counts the time until the next timer: no operation has one;
 *   - a CPU that waits for a lock of the host's whose holder's turn is over may spend a whole turn: some maxima show it.
 * On real hardware the ticks are time.
 */
#ifndef BENCH_H
#define BENCH_H

#include "gic.h"

/* Offsets in struct guest_cpu and struct bench_cpu, for boot.S. */
#define GUEST_CPU_INDEX 24
#define BENCH_CPU_AT 0
#define BENCH_CPU_COUNT 8
#define BENCH_CPU_SHIFT 6

#ifndef __ASSEMBLER__
#include "vm.h"

/* Operations in a round, and rounds, where a case does not say otherwise. */
#define BENCH_OPERATIONS 50
#define BENCH_ROUNDS 100

/* One per vCPU, on a cache line of its own; TPIDR_EL0 points to it. */
struct bench_cpu {
	u64 at; /* the counter when the handler of the last interrupt began */
	u64 count; /* interrupts handled */
	u64 ready; /* this vCPU has set itself up */
} __attribute__((aligned(1 << BENCH_CPU_SHIFT)));

extern struct bench_cpu bench_cpus[VM_MAX_VCPUS];
/* With LOFT_BENCH_ENDLESS in the host's environment the rounds never end, for somebody who wants to watch. */
extern u64 bench_endless;
/* The guest's results: ticks of each round. A case that measures two things at a time has the second in the second. */
extern u64 bench_ticks[2][BENCH_ROUNDS];

void bench_boot(void);
void bench_unexpected(u64 vector);

/* In a wait for another CPU: hands over the emulator's turn (WFE would as well, but may trap). */
#define bench_pause() __asm__ volatile("yield" : : : "memory")
#define BENCH_UNTIL(c)                    \
	do {                              \
		while (!(c))              \
			bench_pause();    \
	} while (0)

static inline u32 bench_next(u32 round, u32 rounds)
{
	return round + 1 == rounds && READ_ONCE(bench_endless) ? 0 : round + 1;
}
#define BENCH_EACH(ROUND, ROUNDS) for (u32 ROUND = 0; ROUND < (ROUNDS); ROUND = bench_next(ROUND, ROUNDS))

/*
 * Guest and host: BENCH_OPERATIONS times the assembly TEXT, in BENCH_ROUNDS rounds, into TICKS. Then inputs and clobbers as
 * asm has them. Of the guest's own, TEXT is counted, the two instructions of the loop, and for each round the two that read
 * the counter. It is a loop and not a row of TEXTs: of a block of instructions that a trapped system register leaves in the
 * middle, the emulator counts the rest as executed.
 */
#define BENCH_REPEAT(TICKS, TEXT, ...) BENCH_REPEAT_(BENCH_ROUNDS, BENCH_OPERATIONS, TICKS, TEXT, __VA_ARGS__)
#define BENCH_REPEAT_(ROUNDS, OPERATIONS, TICKS, TEXT, ...)                                                                   \
	BENCH_EACH(round_, ROUNDS) {                                                                                          \
		u64 from_, to_, left_ = OPERATIONS;                                                                           \
		__asm__ volatile("isb\n\tmrs %[from], cntvct_el0\n1:\t" TEXT                                                 \
				 "\n\tsub %[left], %[left], #1\n\tcbnz %[left], 1b\n\tisb\n\tmrs %[to], cntvct_el0"                      \
				 : [from] "=&r"(from_), [to] "=&r"(to_), [left] "+&r"(left_)                                  \
				 : __VA_ARGS__);                                                                              \
		(TICKS)[round_] = to_ - from_;                                                                                \
	}

/* Guest: this vCPU's interrupt controller, and SGI 0 and the virtual timer enabled; vCPU 0 sets up the distributor. Returns
 * when all `vcpus` have come so far. Interrupts are still masked. */
void bench_gic_up(u64 index, u32 vcpus);
/* Guest: waits in WFI for as many ticks; by the virtual timer, interrupts unmasked and the handler's count one more. */
void bench_sleep(u64 ticks);

/*
 * Host: a VM with a GICv3 (as every VMM has), whose vCPUs start at bench_boot. The calling thread moves to CPU 1: CPU 0
 * has the host's housekeeping.
 */
struct vm *bench_vm_(const struct vm_options *options);
#define bench_vm(...) bench_vm_(&(struct vm_options){ .gic = true, __VA_ARGS__ })
#define BENCH_CPU 1
/* Runs the vCPU on a thread of its own, on one CPU, until it is done. */
void bench_start(struct vcpu *vcpu, int cpu);
/* Runs every vCPU so, vCPU 0 on BENCH_CPU and the others on those behind it, until vCPU 0 is done; the others are left behind. */
void bench_run_all(struct vm *vm);
/* What one host-side reading of the counter gives. */
static inline u64 bench_now(void)
{
	return guest_now();
}
/* Prints the result of the operation: NAME, the operations in each of the rounds, and the rounds' ticks. */
void bench_report(const char *name, u32 operations, u32 rounds, const volatile u64 *ticks);
/* The same for one operation of a sweep, and which it is. */
void bench_report_of(const char *name, const char *which, u32 operations, u32 rounds, const volatile u64 *ticks);
#endif
#endif
